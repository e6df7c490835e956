//! Hosts that are this program itself: addresses on which it listens in the same configuration.
//!
//! A session to one comes in again as a client. In a circle it does so for ever; but a chain is a
//! trap, too: each of its sessions takes two places of the pool, and when the first halves have
//! them all, each waits for a second half that cannot begin. So any listen address counts,
//! whichever service it belongs to, and that of the admin pages, which would see one client for
//! all.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use super::address::{Address, AddressHost, LOOPBACKS};
use super::admin_listen::AdminListen;
use super::model::Config;

/// The addresses of the machine that a configuration is for, with port 0; asked for when that
/// matters.
pub type Here<'a> = &'a dyn Fn() -> Vec<SocketAddr>;

/// No machine: only what is true of every machine counts.
pub fn nowhere() -> Vec<SocketAddr> {
    Vec::new()
}

/// What the program listens on.
pub struct Own<'a> {
    by_port: HashMap<u16, Vec<&'a Address>>,
    here: Here<'a>,
    known: OnceCell<Vec<SocketAddr>>,
}

/// A host that is the program itself.
#[derive(Debug, PartialEq, Eq)]
pub struct Meeting<'a> {
    /// The address of the host.
    pub host: &'a Address,
    /// The listen address that takes its sessions.
    pub listen: &'a Address,
    /// It does so because the machine has the host's address.
    is_here: bool,
}

impl<'a> Own<'a> {
    /// A port that the system chooses is no host's.
    pub fn new(listens: impl Iterator<Item = &'a Address>, here: Here<'a>) -> Own<'a> {
        let mut by_port: HashMap<u16, Vec<&Address>> = HashMap::new();
        for listen in listens.filter(|listen| listen.port != 0) {
            by_port.entry(listen.port).or_default().push(listen);
        }
        Own { by_port, here, known: OnceCell::new() }
    }

    /// What the configuration listens on.
    pub fn of(config: &'a Config, here: Here<'a>) -> Own<'a> {
        let admin = config.admin.as_ref().and_then(|admin| match &admin.listen {
            AdminListen::Tcp(address) => Some(address),
            AdminListen::Unix(_) => None,
        });
        Own::new(config.services.iter().flat_map(|service| &service.listens).chain(admin), here)
    }

    /// The listen address that would take the sessions of this host, if one would.
    pub fn meets<'h: 'a>(&self, host: &'h Address) -> Option<Meeting<'a>> {
        let listens = self.by_port.get(&host.port)?;
        let is_sure =
            |listen: &Address| listen.is_same(host) || targets(host).any(|ip| covers(listen, ip));
        let sure = listens.iter().find(|listen| is_sure(listen));
        let listen = sure.or_else(|| listens.iter().find(|listen| self.is_met_here(listen, host)));
        listen.map(|listen| Meeting { host, listen, is_here: sure.is_none() })
    }

    /// Whether the addresses of the machine make it so.
    fn is_met_here(&self, listen: &Address, host: &Address) -> bool {
        if targets(host).next().is_none() && !host.is_link_local() {
            return false;
        }
        let known = self.known.get_or_init(self.here);
        let is_here = |target: &SocketAddr| known.contains(&at_0(*target));
        let takes = |target: &SocketAddr| {
            takes_all(listen, target.ip()) || listen.targets().contains(target)
        };
        !known.is_empty() && host.targets().iter().any(|target| is_here(target) && takes(target))
    }
}

fn at_0(mut address: SocketAddr) -> SocketAddr {
    address.set_port(0);
    address
}

/// Where a connect to the host goes on every machine; nothing is known of names but one.
fn targets(host: &Address) -> impl Iterator<Item = IpAddr> {
    let one = match host.canonical().place {
        AddressHost::Ip(ip) if ip.is_unspecified() => {
            LOOPBACKS.into_iter().find(|loopback| loopback.is_ipv4() == ip.is_ipv4())
        }
        AddressHost::Ip(ip) => Some(ip),
        _ => None,
    };
    let is_either = host.place == AddressHost::Any || is_localhost(host);
    one.into_iter().chain(LOOPBACKS.into_iter().filter(move |_| is_either))
}

fn is_localhost(address: &Address) -> bool {
    matches!(address.canonical().place, AddressHost::Name(name) if name == "localhost")
}

/// Whether who listens there gets, on every machine, what is sent to this address.
fn covers(listen: &Address, ip: IpAddr) -> bool {
    match listen.canonical().place {
        AddressHost::Ip(one) if !one.is_unspecified() => one == ip,
        AddressHost::Name(_) => is_localhost(listen) && LOOPBACKS.contains(&ip),
        _ => ip.is_loopback() && takes_all(listen, ip),
    }
}

/// Whether it stands for every address of that family.
fn takes_all(listen: &Address, ip: IpAddr) -> bool {
    match listen.canonical().place {
        AddressHost::Any => true,
        AddressHost::Ip(all) => all.is_unspecified() && all.is_ipv4() == ip.is_ipv4(),
        _ => false,
    }
}

impl Meeting<'_> {
    /// What is wrong, and why; `place` says where the listen address stands.
    pub fn words(&self, place: &str) -> String {
        let Meeting { host, listen, is_here } = self;
        let at = if host == listen { "there".to_owned() } else { format!("on `{listen}`") };
        let why = if *is_here { ": this machine has that address" } else { "" };
        format!("the host `{host}` would be this program itself, which listens {at}{place}{why}")
    }
}

impl Config {
    /// The first host that is the program itself and was not so in another configuration, in words.
    pub fn first_new_own_host(&self, other: &Config, here: Here<'_>) -> Option<String> {
        let own = Own::of(self, here);
        let mut met = hosts(self).filter_map(|host| own.meets(host)).peekable();
        met.peek()?;
        let before = Own::of(other, here);
        let before: Vec<Meeting> = hosts(other).filter_map(|host| before.meets(host)).collect();
        met.find(|meeting| !before.contains(meeting)).map(|meeting| meeting.words(""))
    }
}

fn hosts(config: &Config) -> impl Iterator<Item = &Address> {
    let groups = config.services.iter().flat_map(|service| &service.groups);
    groups.flat_map(|group| &group.hosts).map(|host| &host.address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(listen: &str, host: &str, here: &[&str]) -> Option<String> {
        let [listen, host]: [Address; 2] = [listen, host].map(|text| text.parse().unwrap());
        let here = || here.iter().map(|text| text.parse().unwrap()).collect();
        let own = Own::new([&listen].into_iter(), &here);
        own.meets(&host).map(|meeting| meeting.words(" (line 7)"))
    }

    #[test]
    fn a_host_at_a_listen_address_is_the_program_itself_however_both_are_written() {
        for (listen, host) in [
            ("10.0.0.1:80", "10.0.0.1:80"),
            ("10.0.0.1:80", "[::ffff:10.0.0.1]:80"),
            ("[::ffff:10.0.0.1]:80", "10.0.0.1:80"),
            ("[2001:db8::1]:80", "[2001:db8:0::1]:80"),
            ("[fe80::1%x0]:80", "[fe80::1%x0]:80"),
            ("www.example:80", "WWW.example.:80"),
            ("*:80", "*:80"),
        ] {
            assert!(words(listen, host, &[]).is_some(), "{listen} {host}");
        }
    }

    #[test]
    fn this_machine_itself_is_met_by_who_listens_on_all_of_it() {
        for listen in [
            "*:80",
            "0.0.0.0:80",
            "127.0.0.1:80",
            "localhost:80",
            "[::ffff:0.0.0.0]:80",
            "LOCALHOST.:80",
        ] {
            for host in
                ["127.0.0.1:80", "*:80", "localhost:80", "0.0.0.0:80", "[::ffff:127.0.0.1]:80"]
            {
                assert!(words(listen, host, &[]).is_some(), "{listen} {host}");
            }
        }
        for host in ["[::1]:80", "[::]:80", "*:80"] {
            assert!(
                words("[::]:80", host, &[]).is_some() && words("[::1]:80", host, &[]).is_some(),
                "{host}"
            );
        }
        assert!(words("*:80", "127.9.9.9:80", &[]).is_some());
    }

    #[test]
    fn an_address_of_the_machine_is_met_by_who_listens_on_all_of_it() {
        let here = ["10.0.0.1:0", "[2001:db8::1]:0", "[fe80::1%3]:0"];
        for (listen, host) in
            [("*:80", "10.0.0.1:80"), ("*:80", "[2001:db8::1]:80"), ("[::]:80", "[2001:db8::1]:80")]
        {
            assert!(
                words(listen, host, &here)
                    .is_some_and(|words| words.ends_with(": this machine has that address"))
            );
            assert_eq!(words(listen, host, &[]), None);
        }
        assert!(words("0.0.0.0:80", "[::ffff:10.0.0.1]:80", &here).is_some());
    }

    #[test]
    fn whoever_else_may_be_there_is_a_host() {
        let here = ["10.0.0.1:0", "[2001:db8::1]:0", "[fe80::1%3]:0"];
        for (listen, host) in [
            ("*:80", "*:81"),
            ("*:80", "10.0.0.2:80"),
            ("*:80", "www.example:80"),
            ("*:0", "*:80"),
            ("[::]:80", "127.0.0.1:80"),
            ("0.0.0.0:80", "[2001:db8::1]:80"),
            ("127.0.0.1:80", "127.0.0.2:80"),
            ("10.0.0.1:80", "127.0.0.1:80"),
            ("localhost:80", "127.0.0.2:80"),
            ("www.example:80", "localhost:80"),
            // the neighbour may have the same one on another interface
            ("*:80", "[fe80::1%no-such-one]:80"),
        ] {
            assert_eq!(words(listen, host, &here), None, "{listen} {host}");
        }
    }

    #[test]
    fn the_words_say_what_listens_there() {
        let here = ["10.0.0.1:0"];
        let would =
            |host: &str| format!("the host `{host}` would be this program itself, which listens ");
        assert_eq!(words("a:80", "a:80", &here), Some(would("a:80") + "there (line 7)"));
        assert_eq!(
            words("*:80", "[::1]:80", &here),
            Some(would("[::1]:80") + "on `*:80` (line 7)")
        );
        let expected = would("10.0.0.1:80") + "on `*:80` (line 7): this machine has that address";
        assert_eq!(words("*:80", "10.0.0.1:80", &here), Some(expected));
    }
}
