//! The changes that lead from one configuration to another: what a reload does and what `--diff`
//! prints.
//!
//! Each change is tried on a copy of the first configuration, so that one that has to wait for
//! another is made after it: a name, an address or a port that is still taken, say. Whatever can
//! come before something is taken away does.

use super::change::{Change, ElementKey, HostKey};
use super::model::{AdminConfig, Config, GroupConfig, HostConfig, ServiceConfig, UserConfig};
use super::own::{self, Own};

impl Change {
    /// What has to be changed in `old`, in this order, to make it `new`. Empty when they are equal.
    pub fn between(old: &Config, new: &Config) -> Vec<Change> {
        let mut differ = Differ { now: old.clone(), changes: Vec::new() };
        differ.hosts_in_the_way(new);
        differ.admin_listen(new);
        differ.services(new);
        for wanted in &new.services {
            differ.service(wanted);
        }
        differ.sort(
            &names(&new.services),
            |now| names(&now.services),
            |service| ElementKey::Service { service },
        );
        differ.admin(new);
        differ.settings(new);
        differ.changes
    }
}

fn names(services: &[ServiceConfig]) -> Vec<String> {
    services.iter().map(|service| service.name.clone()).collect()
}

/// How far the changes so far have led.
struct Differ {
    now: Config,
    changes: Vec<Change>,
}

impl Differ {
    /// Makes a change if it is possible by now; tells whether it was.
    fn take(&mut self, change: Change) -> bool {
        let is_possible = change.edit(&mut self.now).is_ok();
        if is_possible {
            self.changes.push(change);
        }
        is_possible
    }

    /// Moves what is not in its place.
    fn sort<K: PartialEq + Clone>(
        &mut self,
        wanted: &[K],
        keys: impl Fn(&Config) -> Vec<K>,
        item: impl Fn(K) -> ElementKey,
    ) {
        let mut present = keys(&self.now);
        for (at, key) in wanted.iter().enumerate() {
            if present.get(at) != Some(key)
                && self.take(Change::Move { item: item(key.clone()), at })
            {
                present = keys(&self.now);
            }
        }
    }

    fn now_service(&self, name: &str) -> Option<&ServiceConfig> {
        self.now.services.iter().find(|service| service.name == name)
    }

    fn now_group(&self, service: &str, name: &str) -> Option<&GroupConfig> {
        self.now_service(service)?.groups.iter().find(|group| group.name == name)
    }

    /// Hosts where the program is to listen itself go before it does; others come when it does not
    /// listen there any more.
    fn hosts_in_the_way(&mut self, new: &Config) {
        let own = Own::of(new, &own::nowhere);
        let old = self.now.clone();
        for (service, group) in old
            .services
            .iter()
            .flat_map(|service| service.groups.iter().map(move |group| (service, group)))
        {
            for host in group.hosts.iter().filter(|host| own.meets(&host.address).is_some()) {
                let (service, group, host) =
                    (service.name.clone(), group.name.clone(), HostKey::Name(host.name.clone()));
                self.take(Change::DelHost { service, group, host, force: true });
            }
        }
    }

    /// The admin pages first: if they cannot move before a service gives their address up, or are
    /// in the way of one, they have to be taken away in the meantime.
    fn admin_listen(&mut self, new: &Config) {
        let wanted = new.admin.as_ref().map(|admin| &admin.listen);
        if self.now.admin.as_ref().map(|admin| &admin.listen) != wanted
            && self.now.admin.is_some()
            && !self.take(Change::SetAdmin { listen: wanted.cloned() })
        {
            self.take(Change::SetAdmin { listen: None });
        }
    }

    /// Services by name, and what they listen on: an address may go from one to another.
    fn services(&mut self, new: &Config) {
        self.new_services(new);
        for service in names(&self.now.services) {
            if !new.services.iter().any(|wanted| wanted.name == service) {
                self.take(Change::DelService { service, force: true });
            }
        }
        for wanted in &new.services {
            self.new_listens(wanted);
            let present = self
                .now_service(&wanted.name)
                .map(|service| service.listens.clone())
                .unwrap_or_default();
            for listen in beyond(&present, &wanted.listens) {
                self.take(Change::DelListen { service: wanted.name.clone(), listen, force: true });
            }
        }
        self.new_services(new);
        for wanted in &new.services {
            self.new_listens(wanted);
            let listens = |now: &Config| {
                let service = now.services.iter().find(|service| service.name == wanted.name);
                service.map(|service| service.listens.clone()).unwrap_or_default()
            };
            self.sort(&wanted.listens, listens, |listen| ElementKey::Listen {
                service: wanted.name.clone(),
                listen,
            });
        }
    }

    fn new_services(&mut self, new: &Config) {
        for ServiceConfig { name, listens, groups, enabled, .. } in &new.services {
            let rule = groups.iter().find(|group| group.name == *enabled).map(|group| group.rule);
            if let (None, Some(listen), Some(rule)) =
                (self.now_service(name), listens.first(), rule)
            {
                let (service, listen, group) = (name.clone(), listen.clone(), enabled.clone());
                self.take(Change::NewService { service, listen, group, rule });
            }
        }
    }

    fn new_listens(&mut self, wanted: &ServiceConfig) {
        let Some(present) = self.now_service(&wanted.name).map(|service| service.listens.clone())
        else {
            return;
        };
        for listen in beyond(&wanted.listens, &present) {
            self.take(Change::AddListen { service: wanted.name.clone(), listen });
        }
    }

    /// The limits and the groups of a service that is there.
    fn service(&mut self, wanted: &ServiceConfig) {
        let Some(present) = self.now_service(&wanted.name).cloned() else { return };
        let service = || wanted.name.clone();
        let limits =
            |service: &ServiceConfig| (service.connect, service.idle, service.half, service.dead);
        if limits(&present) != limits(wanted) {
            self.take(Change::SetTimeout {
                service: service(),
                connect: (present.connect != wanted.connect).then_some(wanted.connect),
                idle: (present.idle != wanted.idle).then_some(wanted.idle),
                half: (present.half != wanted.half).then_some(wanted.half),
                dead: (present.dead != wanted.dead).then_some(wanted.dead),
            });
        }
        if present.replay != wanted.replay {
            self.take(Change::SetReplay { service: service(), bytes: wanted.replay });
        }
        for group in &wanted.groups {
            self.group(&wanted.name, group);
        }
        // its hosts are there by now
        if present.enabled != wanted.enabled {
            self.take(Change::EnableGroup { service: service(), group: wanted.enabled.clone() });
        }
        for group in present
            .groups
            .iter()
            .filter(|group| !wanted.groups.iter().any(|other| other.name == group.name))
        {
            self.take(Change::DelGroup { service: service(), group: group.name.clone() });
        }
        let groups = |now: &Config| {
            let service = now.services.iter().find(|service| service.name == wanted.name);
            service
                .map(|s| s.groups.iter().map(|group| group.name.clone()).collect())
                .unwrap_or_default()
        };
        let order: Vec<String> = wanted.groups.iter().map(|group| group.name.clone()).collect();
        self.sort(&order, groups, |group| ElementKey::Group { service: service(), group });
    }

    fn group(&mut self, service: &str, wanted: &GroupConfig) {
        let GroupConfig { name: group, rule, hosts } = wanted;
        match self.now_group(service, group).map(|present| present.rule) {
            None => self.take(Change::NewGroup {
                service: service.into(),
                group: group.clone(),
                rule: *rule,
            }),
            Some(present) if present != *rule => self.take(Change::ChangeScheduler {
                service: service.into(),
                group: group.clone(),
                rule: *rule,
            }),
            Some(_) => true,
        };
        // one at a time while others wait for a name or an address: so the group is never empty in
        // between
        loop {
            let waiting = self.new_hosts(service, wanted);
            let mut gone = beyond(&hosts_of(&self.now, service, group), hosts);
            let count = if waiting { 1 } else { gone.len() };
            if count.min(gone.len()) == 0 {
                break;
            }
            for host in gone.drain(..count) {
                let host = HostKey::Name(host.name);
                self.take(Change::DelHost {
                    service: service.into(),
                    group: group.clone(),
                    host,
                    force: true,
                });
            }
        }
        let present = |now: &Config| hosts_of(now, service, group);
        let item = |host: HostConfig| ElementKey::Host {
            service: service.into(),
            group: group.clone(),
            name: host.name,
        };
        self.sort(hosts, present, item);
    }

    /// Hosts that are not there yet: one with the same name or else the same address is the same
    /// host, changed. Tells whether some could not be had.
    fn new_hosts(&mut self, service: &str, wanted: &GroupConfig) -> bool {
        let (service, group) = (service.to_owned(), wanted.name.clone());
        let present = hosts_of(&self.now, &service, &group);
        let mut gone = beyond(&present, &wanted.hosts);
        let mut is_waiting = false;
        for host in beyond(&wanted.hosts, &present) {
            let named = gone.iter().position(|other| other.name == host.name);
            let before =
                named.or_else(|| gone.iter().position(|other| other.address == host.address));
            let (service, group) = (service.clone(), group.clone());
            is_waiting |= !match before.map(|at| gone.remove(at)) {
                None => self.take(Change::AddHost { service, group, host }),
                Some(before) => self.take(Change::ChangeHost {
                    service,
                    group,
                    name: (before.name != host.name).then_some(host.name),
                    address: (before.address != host.address).then_some(host.address),
                    host: HostKey::Name(before.name),
                }),
            };
        }
        is_waiting
    }

    fn admin(&mut self, new: &Config) {
        let Some(AdminConfig { listen, users }) = &new.admin else { return };
        if self.now.admin.is_none() {
            self.take(Change::SetAdmin { listen: Some(listen.clone()) });
        }
        let present = self.now_users();
        for user in users {
            let UserConfig { name, password, access } = user;
            match present.iter().find(|other| other.name == *name) {
                None => self.take(Change::AddUser { user: user.clone() }),
                Some(other) if other != user => {
                    let password = (other.password != *password).then(|| password.clone());
                    let access = (other.access != *access).then_some(*access);
                    self.take(Change::ChangeUser {
                        name: name.clone(),
                        password,
                        access,
                        force: true,
                    })
                }
                Some(_) => true,
            };
        }
        for gone in
            present.into_iter().filter(|gone| !users.iter().any(|user| user.name == gone.name))
        {
            self.take(Change::DelUser { name: gone.name, force: true });
        }
        let names =
            |users: &[UserConfig]| users.iter().map(|user| user.name.clone()).collect::<Vec<_>>();
        let present =
            |now: &Config| now.admin.as_ref().map(|admin| names(&admin.users)).unwrap_or_default();
        self.sort(&names(users), present, |name| ElementKey::User { name });
    }

    fn now_users(&self) -> Vec<UserConfig> {
        self.now.admin.as_ref().map(|admin| admin.users.clone()).unwrap_or_default()
    }

    fn settings(&mut self, new: &Config) {
        if self.now.logging != new.logging {
            self.take(Change::SetLogging { file: new.logging.clone() });
        }
        if self.now.checktime != new.checktime {
            self.take(Change::SetChecktime { time: new.checktime });
        }
        if self.now.pool != new.pool {
            self.take(Change::SetPool { pool: new.pool });
        }
        if self.now.grace != new.grace {
            self.take(Change::SetStop { grace: new.grace });
        }
    }
}

fn hosts_of(config: &Config, service: &str, group: &str) -> Vec<HostConfig> {
    let service = config.services.iter().find(|other| other.name == service);
    let group = service.and_then(|service| service.groups.iter().find(|other| other.name == group));
    group.map(|group| group.hosts.clone()).unwrap_or_default()
}

/// What is in the first list and not in the second; what is there twice must be there twice in
/// both.
fn beyond<T: PartialEq + Clone>(list: &[T], other: &[T]) -> Vec<T> {
    let mut other: Vec<&T> = other.iter().collect();
    let is_missing = |one: &&T| match other.iter().position(|there| there == one) {
        Some(at) => {
            other.remove(at);
            false
        }
        None => true,
    };
    list.iter().filter(is_missing).cloned().collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::super::{arbitrary, read::parse};
    use super::*;

    fn config(services: &str) -> Config {
        let text = format!("<pdconfig>{services}</pdconfig>");
        parse(Path::new("f.xml"), text.as_bytes())
            .unwrap_or_else(|mistakes| panic!("{mistakes}\n{text}"))
    }

    fn service(listen: &str, hosts: &str) -> String {
        format!(
            "<service name='web'><listen ip='{listen}'/><group name='main' scheduler='roundrobin'>{hosts}</group></service>"
        )
    }

    fn urls(old: &str, new: &str) -> Vec<String> {
        Change::between(&config(old), &config(new)).iter().map(ToString::to_string).collect()
    }

    proptest! {
        #![proptest_config(arbitrary::runs())]

        #[test]
        fn the_changes_lead_from_any_configuration_to_any_other((old, new) in arbitrary::two()) {
            let mut now = old.clone();
            for change in Change::between(&old, &new) {
                prop_assert!(change.edit(&mut now).is_ok(), "{}", change);
            }
            prop_assert_eq!(now, new);
        }

        #[test]
        fn nothing_leads_from_a_configuration_to_itself(config in arbitrary::config()) {
            prop_assert_eq!(Change::between(&config, &config), []);
        }

        #[test]
        fn every_change_is_read_back_from_its_url((old, new) in arbitrary::two()) {
            for change in Change::between(&old, &new) {
                let (path, query) = change.to_query();
                let query: Vec<(String, String)> = query.into_iter().map(|(name, text)| (name.to_owned(), text)).collect();
                prop_assert_eq!(Change::from_query(path, &query), Some(Ok(change)));
            }
        }
    }

    #[test]
    fn a_host_that_comes_and_one_that_goes_are_one_change_each() {
        let [a, b, c] = ["a", "b", "c"].map(|name| format!("<host name='{name}' ip='{name}:1'/>"));
        assert_eq!(
            urls(&service(":80", &(a.clone() + &b)), &service(":80", &(a + &c))),
            [
                "/addHost?service=web&group=main&name=c&ip=c:1",
                "/delHost?service=web&group=main&name=b&force=yes",
            ]
        );
    }

    #[test]
    fn a_host_with_another_address_is_changed_in_one_act() {
        let change = urls(
            &service(":80", "<host name='a' ip='a:1'/>"),
            &service(":80", "<host name='a' ip='b:1'/>"),
        );
        assert_eq!(change, ["/changeHost?service=web&group=main&name=a&newip=b:1"]);
        let rename = urls(
            &service(":80", "<host name='a' ip='a:1'/>"),
            &service(":80", "<host name='b' ip='a:1'/>"),
        );
        assert_eq!(rename, ["/changeHost?service=web&group=main&name=a&newname=b"]);
    }

    #[test]
    fn hosts_that_exchange_their_addresses_leave_the_group_never_empty() {
        let [old, new] = [("1", "2"), ("2", "1")].map(|(a, b)| {
            service(":80", &format!("<host name='a' ip='x:{a}'/><host name='b' ip='x:{b}'/>"))
        });
        let mut now = config(&old);
        for change in Change::between(&config(&old), &config(&new)) {
            change.edit(&mut now).unwrap();
            assert!(!now.services[0].groups[0].hosts.is_empty(), "{change}");
        }
        assert_eq!(now, config(&new));
    }

    #[test]
    fn a_new_address_is_opened_before_the_old_one_is_closed() {
        let change = urls(&service(":80", ""), &service(":81", ""));
        assert_eq!(
            change,
            ["/addListen?service=web&listen=*:81", "/delListen?service=web&listen=*:80&force=yes"]
        );
    }

    #[test]
    fn a_group_is_full_before_it_is_enabled_and_the_old_one_goes_last() {
        let named = |name: &str| service(":80", "<host name='a' ip='a:1'/>").replace("main", name);
        assert_eq!(
            urls(&named("blue"), &named("green")),
            [
                "/newGroup?service=web&group=green&scheduler=roundrobin",
                "/addHost?service=web&group=green&name=a&ip=a:1",
                "/enableGroup?service=web&group=green",
                "/delGroup?service=web&group=blue",
            ]
        );
    }

    #[test]
    fn a_limit_that_is_off_or_said_no_more_is_a_change_of_its_own() {
        let with = |timeout: &str| {
            service(":80", "").replace("</service>", &format!("{timeout}</service>"))
        };
        let (plain, set) = (with(""), with("<timeout half='5m' dead='1m'/>"));
        assert_eq!(urls(&plain, &set), ["/setTimeout?service=web&half=5m&dead=1m"]);
        assert_eq!(urls(&set, &plain), ["/setTimeout?service=web&half=0&dead=2m"]);
        assert_eq!(
            urls(&set, &with("<timeout half='5m' dead='0'/>")),
            ["/setTimeout?service=web&dead=0"]
        );
        assert_eq!(urls(&plain, &with("<timeout half='0' dead='120s'/>")), [""; 0]);
        assert_eq!(urls(&set, &with("<timeout half='5m' dead='59001ms'/>")), [""; 0]);
    }

    #[test]
    fn what_the_originals_compareconf_missed_is_seen() {
        let old = service(":80", "<host name='a' ip='a:1'/>") + "<group/>";
        let old = old.replace(
            "<group/>",
            "<admin listen=':7001'><user name='u' password='rom0wh951j8Sg' access='full'/></admin>",
        );
        let new = old
            .replace("access='full'", "access='readonly'")
            .replace("</service>", "<timeout idle='2s'/></service>")
            + "<logging file='l'/><checktime time='5'/><pool threads='4'/><stop grace='1s'/>";
        assert_eq!(
            urls(&old, &new),
            [
                "/setTimeout?service=web&idle=2s",
                "/changeUser?name=u&access=readonly&force=yes",
                "/setLogging?file=l",
                "/setChecktime?time=5s",
                "/setPool?threads=4",
                "/setStop?grace=1s",
            ]
        );
    }
}
