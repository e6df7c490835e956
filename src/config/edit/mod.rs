//! What a change makes of a configuration: the pure half of carrying it out. Knows nothing of what
//! runs.
//!
//! `state::Director::apply` edits the configuration that describes the running state and then
//! follows it; `between` edits along to see what is possible next.

mod group;
mod order;
mod service;
mod user;

use super::change::{Change, HostKey, Refusal};
use super::model::{Config, GroupConfig, HostConfig, ServiceConfig};

type Result<T> = std::result::Result<T, Refusal>;

impl Change {
    /// Makes this change; tells in words what was done. A refusal has changed nothing. What is no
    /// matter of configuration, such as disabling a host, changes nothing either, but what it names
    /// must be there.
    pub fn edit(&self, config: &mut Config) -> Result<String> {
        match self {
            Change::NewService { service, listen, group, rule } => {
                service::add(config, service, listen, group, *rule)
            }
            Change::DelService { service, force } => service::delete(config, service, *force),
            Change::AddListen { service, listen } => service::add_listen(config, service, listen),
            Change::DelListen { service, listen, force } => {
                service::delete_listen(config, service, listen, *force)
            }
            Change::SetTimeout { service, connect, idle, half, dead } => {
                service::set_timeout(config, service, *connect, *idle, *half, *dead)
            }
            Change::SetReplay { service, bytes } => service::set_replay(config, service, *bytes),
            Change::NewGroup { service, group, rule } => group::add(config, service, group, *rule),
            Change::DelGroup { service, group } => group::delete(config, service, group),
            Change::EnableGroup { service, group } => group::enable(config, service, group),
            Change::ChangeScheduler { service, group, rule } => {
                group::set_rule(config, service, group, *rule)
            }
            Change::AddHost { service, group, host } => {
                group::add_host(config, service, group, host)
            }
            Change::DelHost { service, group, host, .. } => {
                group::delete_host(config, service, group, host)
            }
            Change::ChangeHost { service, group, host, name, address } => {
                group::change_host(config, (service, group), host, name.as_ref(), address.as_ref())
            }
            Change::DelAllHosts { service, group } => group::delete_hosts(config, service, group),
            Change::SetHost { service, group, host, state } => {
                let name = &find_host(config, service, group, host)?.name;
                Ok(format!("host {name} of {group} / {service} is {state}"))
            }
            Change::RetryHost { service, group, host } => {
                let name = &find_host(config, service, group, host)?.name;
                Ok(format!("host {name} of {group} / {service} will be tried now"))
            }
            Change::AddUser { user } => user::add(config, user),
            Change::DelUser { name, force } => user::delete(config, name, *force),
            Change::ChangeUser { name, password, access, force } => {
                user::change(config, name, password.as_ref(), *access, *force)
            }
            Change::SetAdmin { listen } => service::set_admin(config, listen.as_ref()),
            Change::SetLogging { file } => {
                config.logging.clone_from(file);
                Ok(format!("log goes to {}", file.as_deref().unwrap_or("stderr")))
            }
            Change::SetChecktime { time } => {
                config.checktime = *time;
                Ok("checktime set".to_owned())
            }
            Change::SetPool { pool } => {
                config.pool = *pool;
                Ok("limits of the pool set".to_owned())
            }
            Change::SetStop { grace } => {
                config.grace = *grace;
                Ok("grace set".to_owned())
            }
            Change::Move { item, at } => order::put(config, item, *at),
        }
    }
}

fn find_service<'a>(config: &'a mut Config, name: &str) -> Result<&'a mut ServiceConfig> {
    let found = config.services.iter_mut().find(|service| service.name == name);
    found.ok_or_else(|| Refusal::NotFound(format!("there is no service `{name}`")))
}

fn find_group<'a>(
    config: &'a mut Config,
    service: &str,
    name: &str,
) -> Result<&'a mut GroupConfig> {
    let found = find_service(config, service)?.groups.iter_mut().find(|group| group.name == name);
    found.ok_or_else(|| {
        Refusal::NotFound(format!("there is no group `{name}` in service `{service}`"))
    })
}

fn find_host<'a>(
    config: &'a mut Config,
    service: &str,
    group: &str,
    key: &HostKey,
) -> Result<&'a mut HostConfig> {
    let hosts = &mut find_group(config, service, group)?.hosts;
    let at = key.position(hosts.iter().map(|host| (host.name.as_str(), &host.address)));
    at.and_then(|at| hosts.get_mut(at))
        .ok_or_else(|| Refusal::NotFound(format!("there is no host `{key}` in group `{group}`")))
}
