//! From a file to a [`Config`], or to every mistake of the file at once.
//!
//! `main` calls [`load`] to start, to reload and to check a file; tests and the demo call
//! [`parse`], and so does who has a configuration from elsewhere. `xml` reads the text, `language`
//! knows which elements and attributes there are, `value` what one attribute may say; here stands
//! what must be true of several of them together: unique names and addresses, and an enabled group
//! that exists.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::hash::Hash;
use std::io::{self, Read};
use std::path::Path;

use super::address::Address;
use super::admin_listen::AdminListen;
use super::error::{Mistake, Mistakes};
use super::model::{
    AdminConfig, Config, DEFAULT_CHECKTIME, DEFAULT_CONNECT, DEFAULT_DEAD, DEFAULT_GRACE,
    DEFAULT_IDLE, GroupConfig, HostConfig, PoolConfig, ServiceConfig, UserConfig,
};
use super::own::{self, Here, Own};
use super::text::Spot;
use super::xml::{Document, Element, MAX_SIZE};
use super::{duration, language, value, xml};
use crate::system::{interfaces, memory};

/// Reads a configuration file for this machine. A file that cannot be read is one mistake without a
/// place.
pub fn load(file: &Path) -> Result<Config, Mistakes> {
    load_with_source(file).map(|(config, _)| config)
}

/// The same with the bytes of the file.
pub fn load_with_source(file: &Path) -> Result<(Config, Vec<u8>), Mistakes> {
    match read(file) {
        Ok(source) => Ok((parse_for(&interfaces::addresses, file, &source)?, source)),
        Err(error) => {
            let mistake =
                Mistake { line: 0, column: 0, message: format!("cannot be read: {error}") };
            Err(Mistakes { file: file.to_owned(), list: vec![mistake] })
        }
    }
}

/// Reads a configuration from the bytes of `file`, which is named in the mistakes and not opened.
/// What is a mistake on this machine alone is none.
pub fn parse(file: &Path, source: &[u8]) -> Result<Config, Mistakes> {
    parse_for(&own::nowhere, file, source)
}

fn parse_for(here: Here<'_>, file: &Path, source: &[u8]) -> Result<Config, Mistakes> {
    let Document { root, mistakes } = xml::parse(source);
    let mut reading =
        Reading { mistakes, listens: HashMap::new(), listened: Vec::new(), hosts: Vec::new() };
    let config = root.and_then(|root| reading.config(&root));
    reading.refuse_own(here);
    let mut list = reading.mistakes;
    match config {
        Some(config) if list.is_empty() => Ok(config),
        _ => {
            list.sort_by_key(|mistake| (mistake.line, mistake.column));
            Err(Mistakes { file: file.to_owned(), list })
        }
    }
}

/// Bytes that reading takes for each byte of a file: measured, 19 for one of hosts, 58 for one of
/// mistakes.
const PARSED: usize = 64;

/// One byte more than is allowed is enough to see that a file is too large, even if it never ends.
fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut source = Vec::new();
    File::open(file)?.take(MAX_SIZE as u64 + 1).read_to_end(&mut source)?;
    memory::check(source.len() * PARSED)?;
    Ok(source)
}

/// What was met before, with its line: the key is whatever must be unique.
type Seen<T> = HashMap<T, u32>;

/// The line of an equal one before this one; if there is none, this one is the first.
fn earlier<T: Hash + Eq + Clone>(seen: &mut Seen<T>, one: &T, line: u32) -> Option<u32> {
    let first = seen.get(one).copied();
    if first.is_none() {
        seen.insert(one.clone(), line);
    }
    first
}

/// One reading of one file. Each method reads one kind of element, notes its mistakes, and returns
/// `None` if there were some that leave no value; then the file is refused anyway.
struct Reading {
    mistakes: Vec<Mistake>,
    /// Every address that this program would listen on, in its canonical form.
    listens: Seen<Address>,
    /// The same as they are written.
    listened: Vec<Address>,
    /// Where every host is.
    hosts: Vec<(Address, Spot)>,
}

impl Reading {
    fn config(&mut self, root: &Element) -> Option<Config> {
        if root.name != language::ROOT {
            self.mistakes.push(root.spot.mistake(format!(
                "the root element is <{}>: it must be <{}>",
                root.name,
                language::ROOT
            )));
            return None;
        }
        language::check(root, &mut self.mistakes);
        let mut names = Seen::new();
        let services: Vec<_> =
            root.children("service").map(|service| self.service(service, &mut names)).collect();
        let admin: Vec<_> = root.children("admin").map(|admin| self.admin(admin)).collect();
        let logging = self.last(root, "logging", "file", value::file);
        let checktime = self.last(root, "checktime", "time", duration::parse_checktime);
        let threads = self.last(root, "pool", "threads", value::limit);
        let sessions = self.last(root, "pool", "sessions", value::limit);
        let queue = self.last(root, "pool", "queue", value::limit);
        let memory = self.last(root, "pool", "memory", value::bytes);
        let grace = self.last(root, "stop", "grace", duration::parse);
        Some(Config {
            services: services.into_iter().collect::<Option<_>>()?,
            admin: admin.into_iter().collect::<Option<Vec<_>>>()?.pop(),
            logging,
            checktime: checktime.unwrap_or(DEFAULT_CHECKTIME),
            pool: PoolConfig { threads, sessions, memory, queue },
            grace: grace.unwrap_or(DEFAULT_GRACE),
        })
    }

    fn service(&mut self, element: &Element, names: &mut Seen<String>) -> Option<ServiceConfig> {
        let name = self.unique_name(element, names, value::name);
        let listens: Vec<_> =
            element.children("listen").map(|listen| self.listen(listen, "ip")).collect();
        let mut group_names = Seen::new();
        let groups: Vec<_> =
            element.children("group").map(|group| self.group(group, &mut group_names)).collect();
        let enabled = self.enabled(element);
        let connect = self.last(element, "timeout", "connect", duration::parse);
        let idle = self.last(element, "timeout", "idle", duration::parse);
        let half = self.last(element, "timeout", "half", duration::parse_half);
        let dead = self.last(element, "timeout", "dead", duration::parse_dead);
        let replay = self.last(element, "replay", "bytes", value::replay);
        Some(ServiceConfig {
            name: name?,
            listens: listens.into_iter().collect::<Option<_>>()?,
            groups: groups.into_iter().collect::<Option<_>>()?,
            enabled: enabled?,
            connect: connect.unwrap_or(DEFAULT_CONNECT),
            idle: idle.unwrap_or(DEFAULT_IDLE),
            half: half.flatten(),
            dead: dead.unwrap_or(DEFAULT_DEAD),
            replay,
        })
    }

    /// The name of the group that new sessions go to. Only the names are looked at, so that a group
    /// with a mistake in it does not make a second one here.
    fn enabled(&mut self, service: &Element) -> Option<String> {
        let names: Vec<&str> = service
            .children("group")
            .filter_map(|group| Some(group.attribute("name")?.value.as_str()))
            .collect();
        let Some(enable) = service.children("enable").last() else {
            let groups = service.children("group").count();
            if groups > 1 && service.complete {
                let message = format!(
                    "missing element <enable> in <service>: say which of its {groups} groups gets new sessions"
                );
                self.mistakes.push(service.spot.mistake(message));
            }
            return names.first().map(|only| (*only).to_owned());
        };
        let wanted = enable.attribute("group")?;
        if !names.contains(&wanted.value.as_str()) && service.complete {
            let message = format!(
                "there is no group `{}` in this service: it has {}",
                wanted.value,
                names.join(", ")
            );
            self.mistakes.push(wanted.spot.mistake(message));
        }
        Some(wanted.value.clone())
    }

    fn group(&mut self, element: &Element, names: &mut Seen<String>) -> Option<GroupConfig> {
        let name = self.unique_name(element, names, value::name);
        let rule = self.value(element, "scheduler", str::parse);
        let hosts = self.hosts(element);
        Some(GroupConfig { name: name?, rule: rule?, hosts: hosts? })
    }

    fn hosts(&mut self, group: &Element) -> Option<Vec<HostConfig>> {
        let (mut names, mut addresses) = (Seen::new(), Seen::new());
        let mut default_names = DefaultNames::of(group);
        let mut hosts = Vec::new();
        for (position, element) in language::hosts(group).enumerate() {
            let name = match element.attribute("name") {
                Some(_) => self.unique_name(element, &mut names, value::name),
                None => Some(default_names.at(position)),
            };
            let address = self.value(element, "ip", value::host_address);
            if let (Some(address), Some(ip)) = (&address, element.attribute("ip")) {
                self.hosts.push((address.clone(), ip.spot));
                if let Some(line) = earlier(&mut addresses, &address.canonical(), ip.spot.line) {
                    let message = format!(
                        "another host at `{address}` in this group: the first is in line {line}"
                    );
                    self.mistakes.push(ip.spot.mistake(message));
                }
            }
            hosts.push(name.zip(address).map(|(name, address)| HostConfig { name, address }));
        }
        hosts.into_iter().collect()
    }

    fn admin(&mut self, element: &Element) -> Option<AdminConfig> {
        let listen = self.admin_listen(element);
        self.value(element, "secure", value::not_secure);
        let mut names = Seen::new();
        let users: Vec<_> =
            element.children("user").map(|user| self.user(user, &mut names)).collect();
        Some(AdminConfig { listen: listen?, users: users.into_iter().collect::<Option<_>>()? })
    }

    fn user(&mut self, element: &Element, names: &mut Seen<String>) -> Option<UserConfig> {
        let name = self.unique_name(element, names, value::user_name);
        let password = self.value(element, "password", value::password);
        let access = self.value(element, "access", value::access);
        Some(UserConfig { name: name?, password: password?, access: access? })
    }

    /// An address that a service would listen on.
    fn listen(&mut self, element: &Element, attribute: &str) -> Option<Address> {
        let address: Address = self.value(element, attribute, str::parse)?;
        self.listened_once(element, attribute, &address);
        Some(address)
    }

    /// Where the admin pages would be: an address, or a Unix socket, which nothing else here can
    /// listen on.
    fn admin_listen(&mut self, element: &Element) -> Option<AdminListen> {
        let listen = self.value(element, "listen", str::parse)?;
        if let AdminListen::Tcp(address) = &listen {
            self.listened_once(element, "listen", address);
        }
        Some(listen)
    }

    /// Port 0 is another port each time, so it is never a duplicate.
    fn listened_once(&mut self, element: &Element, attribute: &str, address: &Address) {
        let Some(attribute) = element.attribute(attribute).filter(|_| address.port != 0) else {
            return;
        };
        self.listened.push(address.clone());
        if let Some(line) = earlier(&mut self.listens, &address.canonical(), attribute.spot.line) {
            let message =
                format!("another listen address `{address}`: the first is in line {line}");
            self.mistakes.push(attribute.spot.mistake(message));
        }
    }

    /// No host is this program itself. Listen addresses may stand behind the hosts.
    fn refuse_own(&mut self, here: Here<'_>) {
        let own = Own::new(self.listened.iter(), here);
        for (host, spot) in &self.hosts {
            if let Some(meeting) = own.meets(host) {
                let line = self
                    .listens
                    .get(&meeting.listen.canonical())
                    .map(|line| format!(" (line {line})"));
                self.mistakes.push(spot.mistake(meeting.words(&line.unwrap_or_default())));
            }
        }
    }

    fn unique_name(
        &mut self,
        element: &Element,
        seen: &mut Seen<String>,
        read: fn(&str) -> Result<String, String>,
    ) -> Option<String> {
        let name = self.value(element, "name", read)?;
        let spot = element.attribute("name")?.spot;
        if let Some(line) = earlier(seen, &name, spot.line) {
            self.mistakes.push(spot.mistake(format!(
                "another {} `{name}`: the first is in line {line}",
                element.name
            )));
        }
        Some(name)
    }

    /// The value of an attribute of the last child of that name; there is only one, or there is a
    /// mistake already.
    fn last<T>(
        &mut self,
        parent: &Element,
        child: &str,
        attribute: &str,
        read: fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        parent.children(child).map(|element| self.value(element, attribute, read)).last().flatten()
    }

    /// The value of an attribute; `None` if it is not there or not right.
    fn value<T>(
        &mut self,
        element: &Element,
        attribute: &str,
        read: fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let attribute = element.attribute(attribute)?;
        read(&attribute.value)
            .map_err(|message| self.mistakes.push(attribute.spot.mistake(message)))
            .ok()
    }
}

/// Names for the hosts of a group that have none: `host.N`, N the position of the host, or the next
/// that is free.
struct DefaultNames<'a> {
    taken: HashSet<&'a str>,
    next: usize,
}

impl DefaultNames<'_> {
    fn of(group: &Element) -> DefaultNames<'_> {
        let taken = language::hosts(group)
            .filter_map(|host| Some(host.attribute("name")?.value.as_str()))
            .collect();
        DefaultNames { taken, next: 0 }
    }

    fn at(&mut self, position: usize) -> String {
        // all numbers from an earlier position up to the last one given are taken: nothing free is
        // skipped
        self.next = self.next.max(position);
        loop {
            let name = format!("host.{}", self.next);
            self.next += 1;
            if !self.taken.contains(name.as_str()) {
                return name;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::scheduler::Rule;

    const GOOD: &str = "<?xml version=\"1.0\"?>\n<!DOCTYPE pdconfig SYSTEM \"pythondirector.dtd\">\n<pdconfig>
<service name=\"wéb\"><listen ip='127.0.0.1:8000'/><group name=\"a\" scheduler=\"random\"><!-- é --><host name='b' ip='c:1'/></group>
<group name='d' scheduler='leastconns'/><enable group='d'/><timeout connect='1s' half='5m' dead='2s'/></service><admin listen='*:7001' secure='no'>
<user name='u' password='rom0wh951j8Sg' access='full'/></admin><logging file='l'/><checktime time='120'/><pool threads='2'/></pdconfig>";

    fn good(source: &str) -> Config {
        parse(Path::new("f.xml"), source.as_bytes())
            .unwrap_or_else(|mistakes| panic!("{mistakes}\n{source}"))
    }

    fn mistakes(source: &str) -> Vec<String> {
        let mistakes = parse(Path::new("f.xml"), source.as_bytes()).unwrap_err();
        mistakes
            .to_string()
            .lines()
            .map(|line| line.strip_prefix("f.xml:").unwrap().to_owned())
            .collect()
    }

    /// A file with this in its only service, from 1:35 on; the group is in line 2.
    fn service(inside: &str) -> String {
        format!(
            "<pdconfig><service name='service'>{inside}<listen ip='a:1'/>\n<group name='group' scheduler='random'/></service></pdconfig>"
        )
    }

    /// A file with these hosts in its only group, from 2:1 on.
    fn hosts(inside: &str) -> String {
        format!(
            "<pdconfig><service name='s'><listen ip='l:1'/><group name='g' scheduler='random'>\n{inside}</group></service></pdconfig>"
        )
    }

    /// A file with this behind its only service, from 2:1 on.
    fn top(inside: &str) -> String {
        format!(
            "<pdconfig><service name='s'><listen ip='a:1'/><group name='g' scheduler='random'/></service>\n{inside}</pdconfig>"
        )
    }

    fn host_names(source: &str) -> Vec<String> {
        good(source).services[0].groups[0].hosts.iter().map(|host| host.name.clone()).collect()
    }

    #[test]
    fn a_file_becomes_plain_values() {
        let Config { services, admin, logging, checktime, pool, grace } = good(GOOD);
        assert_eq!(services.len(), 1);
        let ServiceConfig { name, listens, groups, enabled, connect, idle, half, dead, replay } =
            &services[0];
        assert_eq!((name.as_str(), enabled.as_str()), ("wéb", "d"));
        assert_eq!(listens, &["127.0.0.1:8000".parse().unwrap()]);
        assert_eq!((*connect, *idle, *replay), (Duration::from_secs(1), DEFAULT_IDLE, None));
        assert_eq!((*half, *dead), (Some(Duration::from_secs(300)), Some(Duration::from_secs(2))));
        assert_eq!(
            groups.iter().map(|group| (group.name.as_str(), group.rule)).collect::<Vec<_>>(),
            [("a", Rule::Random), ("d", Rule::LeastConns)]
        );
        assert_eq!(
            groups[0].hosts,
            [HostConfig { name: "b".to_owned(), address: "c:1".parse().unwrap() }]
        );
        assert_eq!(groups[1].hosts, []);
        let AdminConfig { listen, users } = admin.unwrap();
        assert_eq!((listen.to_string().as_str(), users.len()), ("*:7001", 1));
        assert_eq!(
            (users[0].name.as_str(), users[0].password.as_str(), users[0].access),
            ("u", "rom0wh951j8Sg", super::super::Access::Full)
        );
        assert_eq!(
            (logging.as_deref(), checktime, grace),
            (Some("l"), Duration::from_secs(120), DEFAULT_GRACE)
        );
        assert_eq!((pool.threads.map(usize::from), pool.queue), (Some(2), None));
    }

    #[test]
    fn what_a_file_does_not_say_has_its_default() {
        let config = good(&top(""));
        assert_eq!(
            (config.admin, config.logging, config.checktime),
            (None, None, DEFAULT_CHECKTIME)
        );
        assert_eq!(config.pool, PoolConfig::default());
        assert_eq!(
            (config.services[0].connect, config.services[0].idle),
            (DEFAULT_CONNECT, DEFAULT_IDLE)
        );
        assert_eq!((config.services[0].half, config.services[0].dead), (None, DEFAULT_DEAD));
    }

    #[test]
    fn a_limit_may_be_off_and_half_may_be_more_than_idle() {
        let config = good(&service("<timeout idle='1s' half='1h' dead='0'/>"));
        assert_eq!(
            (config.services[0].half, config.services[0].dead),
            (Some(Duration::from_secs(3600)), None)
        );
        assert_eq!(good(&service("<timeout half='0'/>")).services[0].half, None);
    }

    #[test]
    fn each_wrong_limit_has_its_place() {
        assert_eq!(
            mistakes(&service("<timeout half='-1' dead='500ms'/>")),
            [
                "1:44: `-1` is not a duration: write a whole number and ms, s, m or h, as in `5s`",
                "1:54: `500ms` is out of range: it must be from 1s to 18h, or 0",
            ]
        );
    }

    #[test]
    fn the_only_group_is_enabled_without_a_word() {
        assert_eq!(good(&service("")).services[0].enabled, "group");
        assert_eq!(good(&service("<enable group='group'/>")).services[0].enabled, "group");
    }

    #[test]
    fn with_two_groups_the_enabled_one_must_be_named() {
        let another = "<group name='b' scheduler='random'/>";
        assert_eq!(
            mistakes(&service(another)),
            [
                "1:11: missing element <enable> in <service>: say which of its 2 groups gets new sessions"
            ]
        );
        assert_eq!(
            good(&service(&format!("<enable group='b'/>{another}"))).services[0].enabled,
            "b"
        );
    }

    #[test]
    fn the_enabled_group_must_exist() {
        assert_eq!(
            mistakes(&service("<enable group='x'/>")),
            ["1:43: there is no group `x` in this service: it has group"]
        );
        assert_eq!(
            mistakes(&service("<enable group='b'/><group name='b' scheduler='x'/>")),
            [
                "1:70: unknown scheduler `x`: it must be one of random, roundrobin, leastconns, leastconnsrr, twochoices, hash"
            ]
        );
    }

    #[test]
    fn a_host_without_a_name_is_called_by_its_position() {
        assert_eq!(
            host_names(&hosts("<host ip='a:1'/><host name='x' ip='a:2'/><host ip='a:3'/>")),
            ["host.0", "x", "host.2"]
        );
    }

    #[test]
    fn a_name_that_is_taken_is_not_given_to_a_host_without_one() {
        assert_eq!(
            host_names(&hosts(
                "<host ip='a:1'/><host ip='a:2'/><host name='host.0' ip='a:3'/><host name='host.2' ip='a:4'/><host ip='a:5'/>"
            )),
            ["host.1", "host.3", "host.0", "host.2", "host.4"]
        );
    }

    #[test]
    fn names_are_unique_where_they_must_be() {
        assert_eq!(
            mistakes(&hosts("<host name='x' ip='a:1'/>\n<host name='x' ip='a:2'/>")),
            ["3:7: another host `x`: the first is in line 2"]
        );
        assert_eq!(
            mistakes(&service("<enable group='group'/><group name='group' scheduler='random'/>")),
            ["2:8: another group `group`: the first is in line 1"]
        );
        assert_eq!(
            mistakes(&top(
                "<service name='s'><listen ip='a:2'/><group name='g' scheduler='random'/></service>"
            )),
            ["2:10: another service `s`: the first is in line 1"]
        );
        let user = "<user name='u' password='$' access='full'/>".replace('$', "$1$x");
        assert_eq!(
            mistakes(&top(&format!("<admin listen='b:1'>{user}\n{user}</admin>"))),
            ["3:7: another user `u`: the first is in line 2"]
        );
    }

    #[test]
    fn names_of_different_groups_and_kinds_may_be_equal() {
        good(&top(
            "<service name='g'><listen ip='a:2'/><group name='g' scheduler='random'><host name='g' ip='b:1'/></group></service>",
        ));
        good(&service(
            "<enable group='b'/><group name='b' scheduler='random'><host name='b' ip='b:1'/></group>",
        ));
    }

    #[test]
    fn addresses_of_a_group_are_unique() {
        assert_eq!(
            mistakes(&hosts("<host ip='[::1]:80'/>\n<host ip='[0:0::1]:80'/>")),
            ["3:7: another host at `[::1]:80` in this group: the first is in line 2"]
        );
    }

    #[test]
    fn an_address_is_listened_on_once_in_a_file() {
        let message = "another listen address `a:1`: the first is in line 1";
        assert_eq!(
            mistakes(&service("\n<listen ip='a:1'/>"))[..],
            ["2:27: another listen address `a:1`: the first is in line 2"]
        );
        assert_eq!(mistakes(&top("<admin listen='a:1'/>")), [format!("2:8: {message}")]);
        assert_eq!(
            mistakes(&top(
                "<service name='t'><listen ip='a:1'/><group name='g' scheduler='random'/></service>"
            )),
            [format!("2:27: {message}")]
        );
    }

    #[test]
    fn a_port_that_the_system_chooses_is_no_duplicate() {
        let config = good(&service("<listen ip='*:0'/><listen ip='*:0'/>"));
        assert_eq!(
            config.services[0].listens.iter().map(|listen| listen.port).collect::<Vec<_>>(),
            [0, 0, 1]
        );
        assert_eq!(
            good(&top("<admin listen='127.0.0.1:0'/>")).admin.unwrap().listen.to_string(),
            "127.0.0.1:0"
        );
    }

    #[test]
    fn the_admin_pages_may_be_on_a_unix_socket() {
        let listen = |listen: &str| top(&format!("<admin listen='{listen}'/>"));
        let admin = good(&listen("unix:/run/é .sock")).admin.unwrap();
        assert_eq!(admin.listen, AdminListen::Unix("/run/é .sock".into()));
        assert_eq!(admin.listen.to_string(), "unix:/run/é .sock");
        for path in ["", "/", "run/a", "/run/", "/a&#10;b"] {
            let message = mistakes(&listen(&format!("unix:{path}"))).concat();
            assert!(message.contains("absolute path of a socket"), "{message}");
        }
        assert!(
            mistakes(&listen(&format!("unix:/{}", "a".repeat(107))))
                .concat()
                .contains("may have 99 bytes")
        );
        assert!(mistakes(&service("<listen ip='unix:/a'/>")).concat().contains("is not a port"));
    }

    #[test]
    fn a_file_without_a_service_is_a_mistake() {
        assert_eq!(
            mistakes("<pdconfig/>"),
            ["1:1: missing element <service> in <pdconfig>: it needs at least one"]
        );
    }

    #[test]
    fn another_root_is_the_only_mistake() {
        assert_eq!(
            mistakes("\n<config x='1'><y/></config>"),
            ["2:1: the root element is <config>: it must be <pdconfig>"]
        );
    }

    #[test]
    fn every_mistake_of_a_file_is_reported_with_its_place() {
        let source = "<pdconfig>\n  <pool threads='0'/> <admin listen='a' secure='yes'><user name=''/></admin>
  <service nme='web'>
    <group name='g' scheduler='x'><host ip='a:0' weight='3'/> y </group>
  </service>\n</pdconfig>";
        assert_eq!(
            mistakes(source),
            [
                "2:9: `0` must be a whole number from 1 to 1000000",
                "2:30: `a` has no port: write it as host:port",
                "2:41: this build has no TLS, so `secure` cannot be yes: the admin pages would be plain HTTP all the same",
                "2:54: missing attribute `password` in <user>",
                "2:54: missing attribute `access` in <user>",
                "2:60: a name must not be empty",
                "3:3: missing attribute `name` in <service>",
                "3:3: missing element <listen> in <service>: it needs at least one",
                "3:12: unknown attribute `nme` in <service>: it may have name",
                "4:21: unknown scheduler `x`: it must be one of random, roundrobin, leastconns, leastconnsrr, twochoices, hash",
                "4:41: `a:0` has port 0: the port of a host is from 1 to 65535",
                "4:50: unknown attribute `weight` in <host>: it may have name, ip",
                "4:63: unexpected text in <group>: only elements and comments may stand here",
            ]
        );
    }

    #[test]
    fn behind_a_syntax_error_nothing_is_said_about_what_is_missing() {
        assert_eq!(
            mistakes("<pdconfig><service name=''><enable group='g'/>\n</pdconfig>"),
            [
                "1:20: a name must not be empty",
                "2:11: not well-formed XML: unexpected closing tag: pdconfig != service (in <service> of line 1)"
            ]
        );
    }

    #[test]
    fn a_password_is_never_shown() {
        for password in
            ["opensesame", "opensesame&opensesame;", "<opensesame>", "opensesame'opensesame"]
        {
            let shown = mistakes(&top(&format!(
                "<admin listen='b:1'><user name='u' password='{password}' access='full'/></admin>"
            )));
            assert!(!shown.concat().contains("opensesame"), "{shown:?}");
        }
    }

    #[test]
    fn a_file_cut_anywhere_is_a_mistake_and_no_panic() {
        let start = Instant::now();
        for end in 0..GOOD.len() {
            let Mistakes { list, .. } = parse(Path::new("f"), &GOOD.as_bytes()[..end]).unwrap_err();
            // the one sure thing is a syntax error; all before it is right
            assert_eq!(list.len(), 1, "{list:?}");
            assert!((1..=6).contains(&list[0].line) && list[0].column >= 1, "{list:?}");
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    }

    #[test]
    fn a_file_with_any_byte_changed_is_no_panic() {
        let start = Instant::now();
        let mut refused = 0;
        for at in 0..GOOD.len() {
            for change in
                [|byte: u8| byte ^ 1, |byte| byte ^ 0x80, |_| b'<', |_| b'&', |_| b'"', |_| b'>']
            {
                let mut source = GOOD.as_bytes().to_vec();
                source[at] = change(source[at]);
                if let Err(Mistakes { list, .. }) = parse(Path::new("f"), &source) {
                    refused += 1;
                    assert!(
                        list.is_sorted_by_key(|mistake| (mistake.line, mistake.column)),
                        "{list:?}"
                    );
                    assert!(
                        list.iter()
                            .all(|mistake| (1..=8).contains(&mistake.line) && mistake.column >= 1),
                        "{list:?}"
                    );
                }
            }
        }
        assert!(refused > GOOD.len() * 4, "{refused}");
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    }

    #[test]
    fn a_file_of_the_largest_size_is_read_quickly() {
        let start = Instant::now();
        let taken: String =
            (0..9_000).map(|n| format!("<host name='host.{n}' ip='a:{}'/>\n", n + 1)).collect();
        let free: String = (0..9_000).map(|n| format!("<host ip=\"b:{}\"/>\n", n + 1)).collect();
        assert_eq!(host_names(&hosts(&format!("{free}{taken}")))[..2], ["host.9000", "host.9001"]);
        let wrong = "<x y=\"\"/>\n<host ip=\"a:0\"/>".repeat(38_000);
        assert_eq!(mistakes(&hosts(&wrong)).len(), 76_000);
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    }
}
