//! Addresses as a configuration writes them: `10.0.0.1:80`, `[::1]:80`, `[fe80::1%eth0]:80`,
//! `name:80`, `*:80`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use crate::system::interfaces;
use crate::system::socket::ListenOn;

/// The part of an address before the port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AddressHost {
    /// `*` or nothing: every address of this machine; for a host, this machine itself.
    Any,
    /// An IPv4 or IPv6 address.
    Ip(IpAddr),
    /// A link-local IPv6 address and its zone: the name or number of an interface, which need not
    /// be there.
    Zoned(Ipv6Addr, String),
    /// A host name, resolved off the data path.
    Name(String),
}

/// A place and a port, as they are written: two that differ may mean the same, see
/// [`Address::canonical`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// Where.
    pub place: AddressHost,
    /// The TCP port; 0 only where the system may choose one.
    pub port: u16,
}

/// This machine itself.
pub(super) const LOOPBACKS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

impl Address {
    /// The one way to write it: an IPv4-mapped IPv6 address is the IPv4 address, a name has small
    /// letters and no last dot.
    pub fn canonical(&self) -> Address {
        let place = match &self.place {
            AddressHost::Ip(ip) => AddressHost::Ip(ip.to_canonical()),
            AddressHost::Name(name) => {
                AddressHost::Name(name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase())
            }
            place => place.clone(),
        };
        Address { place, port: self.port }
    }

    /// Whether both mean the same, however they are written.
    pub fn is_same(&self, other: &Address) -> bool {
        self.port == other.port
            && (self.place == other.place || self.canonical() == other.canonical())
    }

    /// Whether it is of this machine alone, as far as it tells.
    pub fn is_loopback(&self) -> bool {
        match self.canonical().place {
            AddressHost::Ip(ip) => ip.is_loopback(),
            AddressHost::Name(name) => name == "localhost",
            AddressHost::Any | AddressHost::Zoned(..) => false,
        }
    }

    /// Whether it leads nowhere without a network interface, which may be missing.
    pub fn is_link_local(&self) -> bool {
        match self.place {
            AddressHost::Ip(IpAddr::V6(ip)) | AddressHost::Zoned(ip, _) => {
                ip.is_unicast_link_local()
            }
            _ => false,
        }
    }

    /// Where a connect to this goes now, when no name has to be looked up for that: the address, or
    /// this machine itself, which is what the original makes of `*` as a host. Nowhere while its
    /// network interface is missing.
    pub fn targets(&self) -> Vec<SocketAddr> {
        match &self.place {
            AddressHost::Any => LOOPBACKS.map(|ip| SocketAddr::new(ip, self.port)).to_vec(),
            AddressHost::Ip(ip) => interfaces::locate(*ip, None, self.port).into_iter().collect(),
            AddressHost::Zoned(ip, zone) => {
                interfaces::locate((*ip).into(), Some(zone), self.port).into_iter().collect()
            }
            AddressHost::Name(_) => Vec::new(),
        }
    }

    /// Where to listen.
    pub fn spot(&self) -> ListenOn<'_> {
        match &self.place {
            AddressHost::Any => ListenOn::Everywhere,
            AddressHost::Ip(ip) => ListenOn::Ip(*ip, None),
            AddressHost::Zoned(ip, zone) => ListenOn::Ip((*ip).into(), Some(zone)),
            AddressHost::Name(name) => ListenOn::Name(name),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        let place = match address {
            SocketAddr::V6(v6) if v6.scope_id() != 0 => {
                AddressHost::Zoned(*v6.ip(), v6.scope_id().to_string())
            }
            _ => AddressHost::Ip(address.ip()),
        };
        Address { place, port: address.port() }
    }
}

impl fmt::Display for Address {
    /// As the configuration writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            AddressHost::Any => write!(f, "*:{}", self.port),
            AddressHost::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            AddressHost::Ip(ip) => write!(f, "{ip}:{}", self.port),
            AddressHost::Zoned(ip, zone) => write!(f, "[{ip}%{zone}]:{}", self.port),
            AddressHost::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

impl FromStr for Address {
    type Err = String;

    /// Reads an address; the error says what is wrong and how it should look.
    fn from_str(text: &str) -> Result<Address, String> {
        let (place, port) = text
            .rsplit_once(':')
            .ok_or_else(|| format!("`{text}` has no port: write it as host:port"))?;
        let port = match port.parse::<u16>() {
            Ok(number) if port.bytes().all(|b| b.is_ascii_digit()) => number,
            _ => {
                return Err(format!("`{port}` is not a port: it must be a number from 1 to 65535"));
            }
        };
        Ok(Address { place: parse_place(place)?, port })
    }
}

fn parse_place(text: &str) -> Result<AddressHost, String> {
    if text.is_empty() || text == "*" {
        return Ok(AddressHost::Any);
    }
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return parse_ipv6(inner);
    }
    // no zone has a colon in it, so the last one stands before the port
    if text.contains(':') && text.contains('%') {
        return parse_ipv6(text);
    }
    if text.contains(':') {
        return Err(format!(
            "`{text}` has more than one colon: write an IPv6 address as [address]:port"
        ));
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(AddressHost::Ip(ip));
    }
    if is_host_name(text) {
        Ok(AddressHost::Name(text.to_owned()))
    } else {
        Err(format!("`{text}` is neither an address nor a host name"))
    }
}

fn parse_ipv6(text: &str) -> Result<AddressHost, String> {
    let (ip, zone) = text.split_once('%').map_or((text, None), |(ip, zone)| (ip, Some(zone)));
    let ip: Ipv6Addr = ip.parse().map_err(|_| format!("`{ip}` is not an IPv6 address"))?;
    match zone {
        None => Ok(AddressHost::Ip(IpAddr::V6(ip))),
        Some(_) if !ip.is_unicast_link_local() => Err(format!(
            "`{ip}` has a zone: only a link-local address, such as fe80::1%eth0, has one"
        )),
        Some(zone) if is_zone(zone) => Ok(AddressHost::Zoned(ip, zone.to_owned())),
        Some(zone) => Err(format!(
            "`{zone}` is not a zone: it must be the name or the number of a network interface"
        )),
    }
}

/// What the kernel takes for the name of an interface, less the characters that nobody uses: such
/// an interface has a number.
fn is_zone(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=15).contains(&text.len())
        && text.bytes().all(is_plain)
        && text.bytes().any(|byte| byte != b'0')
}

/// Letters, digits, `-`, `_` and dots, at most 253 characters, labels of 1 to 63 (RFC 1123, plus
/// the underscore that is seen in practice). A last label of digits only would be a mistyped IPv4
/// address.
fn is_host_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let label_is_fine = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last_is_a_number =
        name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    name.len() <= 253 && name.split('.').all(label_is_fine) && !last_is_a_number
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, String> {
        text.parse::<Address>().map(|address| address.to_string())
    }

    #[test]
    fn an_address_is_written_as_it_was_read() {
        for text in [
            "*:80",
            "10.0.0.1:80",
            "[2001:db8::1]:0",
            "[::ffff:10.0.0.1]:80",
            "[fe80::1%eth0.7]:80",
            "[fe80::1%3]:80",
            "a.B:1",
        ] {
            assert_eq!(read(text).as_deref(), Ok(text));
        }
        assert_eq!(read("fe80::1%br-lan:80").as_deref(), Ok("[fe80::1%br-lan]:80"));
    }

    #[test]
    fn a_zone_is_an_interface_and_belongs_to_a_link_local_address() {
        for zone in
            ["", "0", "00", "a b", "a/b", "a:b", "a%b", "a]", "0123456789abcdef", "é", "a\0"]
        {
            assert!(
                read(&format!("[fe80::1%{zone}]:80"))
                    .is_err_and(|why| why.contains("is not a zone")),
                "{zone}"
            );
        }
        for ip in ["::1", "2001:db8::1", "ff02::1", "::ffff:10.0.0.1"] {
            assert!(
                read(&format!("[{ip}%eth0]:80"))
                    .is_err_and(|why| why.contains("only a link-local address")),
                "{ip}"
            );
        }
        for text in [
            "10.0.0.1%eth0:80",
            "fe80%eth0:80",
            "[10.0.0.1%eth0]:80",
            "fe80::1:80",
            "[fe80::1%eth0:80",
            "::%:80",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn two_ways_to_write_an_address_mean_the_same() {
        let same = |one: &str, other: &str| {
            one.parse::<Address>().unwrap().is_same(&other.parse().unwrap())
        };
        assert!(
            same("[::ffff:10.0.0.1]:80", "10.0.0.1:80") && same("A.example:80", "a.example.:80")
        );
        assert!(
            !same("10.0.0.1:80", "10.0.0.1:81")
                && !same("[fe80::1%a]:80", "[fe80::1%b]:80")
                && !same("[::]:80", "*:80")
        );
        assert!(!same("[fe80::1]:80", "[fe80::1%a]:80"));
    }

    #[test]
    fn where_it_leads_is_looked_up_each_time() {
        let targets = |text: &str| text.parse::<Address>().unwrap().targets();
        assert_eq!(targets("[::ffff:10.0.0.1]:80"), ["10.0.0.1:80".parse().unwrap()]);
        assert_eq!(targets("[fe80::1%no-such-one]:80"), []);
        let [SocketAddr::V6(found)] = targets("[fe80::1%lo]:80")[..] else {
            panic!("every machine has lo")
        };
        assert!(found.scope_id() > 0);
        assert_eq!(
            Address::from(SocketAddr::from(found)).to_string(),
            format!("[fe80::1%{}]:80", found.scope_id())
        );
    }

    #[test]
    fn loopback_is_seen_however_it_is_written() {
        let is_loopback = |text: &str| text.parse::<Address>().unwrap().is_loopback();
        assert!(
            ["127.0.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "LocalHost:1"]
                .into_iter()
                .all(is_loopback)
        );
        assert!(!["*:1", "10.0.0.1:1", "[fe80::1%lo]:1", "a:1"].into_iter().any(is_loopback));
    }
}
