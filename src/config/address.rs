//! Addresses as a configuration writes them: `10.0.0.1:80`, `[::1]:80`, `name:80`, `*:80`, and `unix:/path` for the admin pages.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use crate::system::socket::Spot;

/// The part of an address before the port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Place {
    /// `*` or nothing: every address of this machine; for a host, this machine itself.
    Any,
    /// An IPv4 or IPv6 address.
    Ip(IpAddr),
    /// A host name, resolved off the data path.
    Name(String),
}

/// A place and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// Where.
    pub place: Place,
    /// The TCP port; 0 only where the system may choose one.
    pub port: u16,
}

/// Where the admin pages are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AdminListen {
    /// A TCP address.
    Tcp(Address),
    /// The absolute path of a Unix socket.
    Unix(PathBuf),
}

/// The most bytes of the path of a Unix socket (unix(7)), less what the socket is called while it is being made.
const MAX_PATH: usize = 107 - ".1234567".len();

impl AdminListen {
    /// Whether only this machine can reach it, as far as the address tells.
    pub fn is_local(&self) -> bool {
        match self {
            AdminListen::Unix(_) => true,
            AdminListen::Tcp(Address { place: Place::Ip(ip), .. }) => ip.is_loopback(),
            AdminListen::Tcp(Address { place: Place::Name(name), .. }) => name == "localhost",
            AdminListen::Tcp(_) => false,
        }
    }
}

impl fmt::Display for AdminListen {
    /// As the configuration writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AdminListen::Tcp(address) => address.fmt(f),
            AdminListen::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for AdminListen {
    type Err = String;

    /// Reads an address or `unix:` and a path; the error says what is wrong and how it should look.
    fn from_str(text: &str) -> Result<AdminListen, String> {
        let Some(path) = text.strip_prefix("unix:") else { return Ok(AdminListen::Tcp(text.parse()?)) };
        if path.len() < 2 || !path.starts_with('/') || path.ends_with('/') || path.chars().any(char::is_control) {
            return Err(format!("`{path}` is not the absolute path of a socket: write it as unix:/run/tcpdirector.sock"));
        }
        match path.len() {
            0..=MAX_PATH => Ok(AdminListen::Unix(PathBuf::from(path))),
            length => Err(format!("the path of a socket may have {MAX_PATH} bytes, this one has {length}")),
        }
    }
}

impl Address {
    /// Where a connect to this goes, when no name has to be looked up for that: the address, or this machine itself, which is what
    /// the original makes of `*` as a host.
    pub fn targets(&self) -> Vec<SocketAddr> {
        let ips: &[IpAddr] = match &self.place {
            Place::Any => &[IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)],
            Place::Ip(ip) => &[*ip],
            Place::Name(_) => &[],
        };
        ips.iter().map(|ip| SocketAddr::new(*ip, self.port)).collect()
    }
}

impl Address {
    /// Where to listen.
    pub fn spot(&self) -> Spot<'_> {
        match &self.place {
            Place::Any => Spot::Everywhere,
            Place::Ip(ip) => Spot::Ip(*ip),
            Place::Name(name) => Spot::Name(name),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        Address { place: Place::Ip(address.ip()), port: address.port() }
    }
}

impl fmt::Display for Address {
    /// As the configuration writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Any => write!(f, "*:{}", self.port),
            Place::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            Place::Ip(ip) => write!(f, "{ip}:{}", self.port),
            Place::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

impl FromStr for Address {
    type Err = String;

    /// Reads an address; the error says what is wrong and how it should look.
    fn from_str(text: &str) -> Result<Address, String> {
        let (place, port) = text.rsplit_once(':').ok_or_else(|| format!("`{text}` has no port: write it as host:port"))?;
        let port = match port.parse::<u16>() {
            Ok(number) if port.bytes().all(|b| b.is_ascii_digit()) => number,
            _ => return Err(format!("`{port}` is not a port: it must be a number from 1 to 65535")),
        };
        Ok(Address { place: parse_place(place)?, port })
    }
}

fn parse_place(text: &str) -> Result<Place, String> {
    if text.is_empty() || text == "*" {
        return Ok(Place::Any);
    }
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return match inner.parse::<Ipv6Addr>() {
            Ok(ip) => Ok(Place::Ip(IpAddr::V6(ip))),
            Err(_) => Err(format!("`{inner}` is not an IPv6 address")),
        };
    }
    if text.contains(':') {
        return Err(format!("`{text}` has more than one colon: write an IPv6 address as [address]:port"));
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(Place::Ip(ip));
    }
    if is_host_name(text) {
        Ok(Place::Name(text.to_owned()))
    } else {
        Err(format!("`{text}` is neither an address nor a host name"))
    }
}

/// Letters, digits, `-`, `_` and dots, at most 253 characters, labels of 1 to 63 (RFC 1123, plus the underscore that is seen in
/// practice). A last label of digits only would be a mistyped IPv4 address.
fn is_host_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let label_is_fine = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last_is_a_number = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    name.len() <= 253 && name.split('.').all(label_is_fine) && !last_is_a_number
}
