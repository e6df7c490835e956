//! Carries a change out, or refuses it with a reason. The one way to edit the running state, whoever asks.

use std::sync::Arc;
use std::time::Instant;

use super::{Director, Group, Host, Operator, Service};
use crate::config::{
    Access, Address, Change, DEFAULT_CONNECT, DEFAULT_IDLE, GroupConfig, HostConfig, HostKey, Refusal, ServiceConfig, UserConfig,
    Wish,
};
use crate::scheduler::Rule;

type Result<T> = std::result::Result<T, Refusal>;

impl Director {
    /// Carries out one change; tells in words what was done. A refusal has changed nothing. Listen addresses are not opened or
    /// closed here: `daemon` does that around this call.
    pub fn apply(&self, change: &Change) -> Result<String> {
        let _one_at_a_time = self.changing.lock();
        match change {
            Change::NewService { service, listen, group, rule } => self.new_service(service, listen, group, *rule),
            Change::DelService { service } => self.del_service(service),
            Change::NewGroup { service, group, rule } => self.new_group(service, group, *rule),
            Change::DelGroup { service, group } => self.del_group(service, group),
            Change::EnableGroup { service, group } => self.enable_group(service, group),
            Change::ChangeScheduler { service, group, rule } => self.change_scheduler(service, group, *rule),
            Change::AddHost { service, group, host } => self.add_host(service, group, host),
            Change::DelHost { service, group, host } => self.del_host(service, group, host),
            Change::DelAllHosts { service, group } => self.del_all_hosts(service, group),
            Change::SetHost { service, group, host, wish } => self.set_host(service, group, host, *wish),
            Change::RetryHost { service, group, host } => self.retry_host(service, group, host),
            Change::AddUser { user } => self.add_user(user),
            Change::DelUser { name } => self.del_user(name),
        }
    }

    fn find_service(&self, name: &str) -> Result<Arc<Service>> {
        self.service(name).ok_or_else(|| Refusal::NotFound(format!("there is no service `{name}`")))
    }

    fn find_group(&self, service: &str, group: &str) -> Result<(Arc<Service>, Arc<Group>)> {
        let found = self.find_service(service)?;
        let group =
            found.group(group).ok_or_else(|| Refusal::NotFound(format!("there is no group `{group}` in service `{service}`")))?;
        Ok((found, group))
    }

    fn find_host(&self, service: &str, group: &str, key: &HostKey) -> Result<(Arc<Service>, Arc<Group>, Arc<Host>)> {
        let (service, group) = self.find_group(service, group)?;
        let is_meant = |host: &Arc<Host>| match key {
            HostKey::Name(name) => host.name() == name,
            HostKey::Ip(ip) => host.address() == ip,
        };
        let host = group.hosts().into_iter().find(is_meant).ok_or_else(|| {
            let key = match key {
                HostKey::Name(name) => name.clone(),
                HostKey::Ip(ip) => ip.to_string(),
            };
            Refusal::NotFound(format!("there is no host `{key}` in group `{}`", group.name()))
        })?;
        Ok((service, group, host))
    }

    fn new_service(&self, name: &str, listen: &Address, group: &str, rule: Rule) -> Result<String> {
        let mut services = self.services();
        if services.iter().any(|service| service.name() == name) {
            return Err(Refusal::Conflict(format!("there is a service `{name}` already")));
        }
        let config = ServiceConfig {
            name: name.to_owned(),
            listens: vec![listen.clone()],
            groups: vec![GroupConfig { name: group.to_owned(), rule, hosts: Vec::new() }],
            enabled: group.to_owned(),
            connect: DEFAULT_CONNECT,
            idle: DEFAULT_IDLE,
            replay: None,
        };
        services.extend(Service::new(&config).map(Arc::new));
        self.set_services(services);
        Ok(format!("service {name} added on {listen}"))
    }

    fn del_service(&self, name: &str) -> Result<String> {
        let service = self.find_service(name)?;
        let mut services = self.services();
        if services.len() == 1 {
            return Err(Refusal::Conflict(format!("`{name}` is the last service")));
        }
        services.retain(|other| !Arc::ptr_eq(other, &service));
        self.set_services(services);
        Ok(format!("service {name} deleted"))
    }

    fn new_group(&self, service: &str, group: &str, rule: Rule) -> Result<String> {
        let found = self.find_service(service)?;
        if found.group(group).is_some() {
            return Err(Refusal::Conflict(format!("there is a group `{group}` in service `{service}` already")));
        }
        found.add_group(Group::new(&GroupConfig { name: group.to_owned(), rule, hosts: Vec::new() }));
        Ok(format!("group {group} added to {service}"))
    }

    fn del_group(&self, service: &str, group: &str) -> Result<String> {
        let (found, gone) = self.find_group(service, group)?;
        if found.is_enabled(&gone) {
            return Err(Refusal::Conflict(format!("group `{group}` is enabled: enable another one first")));
        }
        found.remove_group(&gone);
        Ok(format!("group {group} deleted from {service}"))
    }

    fn enable_group(&self, service: &str, group: &str) -> Result<String> {
        let (found, enabled) = self.find_group(service, group)?;
        found.enable(enabled);
        Ok(format!("Group {group} enabled for service {service}"))
    }

    fn change_scheduler(&self, service: &str, group: &str, rule: Rule) -> Result<String> {
        let (_, found) = self.find_group(service, group)?;
        found.set_rule(rule);
        Ok(format!("scheduler of {group} / {service} is {rule}"))
    }

    fn add_host(&self, service: &str, group: &str, host: &HostConfig) -> Result<String> {
        let (_, found) = self.find_group(service, group)?;
        let HostConfig { name, address } = host;
        for other in found.hosts() {
            if other.name() == name {
                return Err(Refusal::Conflict(format!("there is a host `{name}` in group `{group}` already")));
            }
            if other.address() == address {
                let other = other.name();
                return Err(Refusal::Conflict(format!("host `{other}` in group `{group}` has the address {address} already")));
            }
        }
        found.add(host);
        Ok(format!("Host {name}({address}) added to {group} / {service}"))
    }

    fn del_host(&self, service: &str, group: &str, key: &HostKey) -> Result<String> {
        let (service, found, gone) = self.find_host(service, group, key)?;
        let is_enabled = service.is_enabled(&found);
        let others_live = found.hosts().iter().any(|host| !Arc::ptr_eq(host, &gone) && host.is_available());
        if is_enabled && gone.is_available() && !others_live {
            let name = gone.name();
            return Err(Refusal::Conflict(format!("host `{name}` is the last live host of the enabled group `{group}`")));
        }
        found.remove(|host| Arc::ptr_eq(host, &gone));
        let kind = if is_enabled { "(from active group!)" } else { "from inactive group" };
        Ok(format!("host {} deleted {kind}", gone.address()))
    }

    fn del_all_hosts(&self, service: &str, group: &str) -> Result<String> {
        let (service, found) = self.find_group(service, group)?;
        if service.is_enabled(&found) {
            return Err(Refusal::Conflict(format!("group `{group}` is enabled: its hosts cannot all be deleted")));
        }
        let count = found.hosts().len();
        found.remove(|_| true);
        Ok(format!("{count} hosts deleted from {group} / {}", service.name()))
    }

    fn set_host(&self, service: &str, group: &str, key: &HostKey, wish: Wish) -> Result<String> {
        let (_, _, host) = self.find_host(service, group, key)?;
        let (operator, words) = match wish {
            Wish::Enabled => (Operator::Enabled, "enabled"),
            Wish::Disabled => (Operator::Disabled, "disabled"),
            Wish::Draining { within } => (Operator::Draining { deadline: Instant::now() + within }, "draining"),
        };
        host.set_operator(operator);
        Ok(format!("host {} of {group} / {service} is {words}", host.name()))
    }

    fn retry_host(&self, service: &str, group: &str, key: &HostKey) -> Result<String> {
        let (_, _, host) = self.find_host(service, group, key)?;
        if host.is_up() {
            return Err(Refusal::Conflict(format!("host `{}` is up", host.name())));
        }
        host.try_soon();
        Ok(format!("host {} of {group} / {service} will be tried now", host.name()))
    }

    fn add_user(&self, user: &UserConfig) -> Result<String> {
        let mut users = self.users();
        if users.iter().any(|other| other.name == user.name) {
            return Err(Refusal::Conflict(format!("user {} already exists", user.name)));
        }
        users.push(user.clone());
        self.set_users(users);
        Ok(format!("user {} added", user.name))
    }

    fn del_user(&self, name: &str) -> Result<String> {
        let mut users = self.users();
        if !users.iter().any(|user| user.name == name) {
            return Err(Refusal::NotFound(format!("user {name} not found")));
        }
        users.retain(|user| user.name != name);
        if !users.iter().any(|user| user.access == Access::Full) {
            return Err(Refusal::Conflict(format!("user {name} is the last one with full access")));
        }
        self.set_users(users);
        Ok(format!("user {name} deleted"))
    }
}
