//! The network interfaces of this machine and their addresses, asked for anew each time: they come
//! and go.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_indextoname, if_nametoindex};

/// An IPv4-mapped IPv6 address is the IPv4 address; any other stays, its interface included.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), address.port()),
        IpAddr::V6(_) => address,
    }
}

/// Where an address leads now: an IPv4-mapped one to IPv4, a link-local one to its interface, which
/// `zone` names, or else to the only interface with such addresses. `None` when it has no
/// interface.
pub fn locate(ip: IpAddr, zone: Option<&str>, port: u16) -> Option<SocketAddr> {
    match ip.to_canonical() {
        IpAddr::V6(ip) if ip.is_unicast_link_local() => {
            let scope = zone.map_or_else(only_one, index)?;
            Some(SocketAddrV6::new(ip, port, 0, scope).into())
        }
        ip => Some(SocketAddr::new(ip, port)),
    }
}

/// An address that a name stands for, as [`locate`] has it; as it is when it has no interface.
pub fn complete(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => address,
        _ => locate(address.ip(), None, address.port()).unwrap_or(address),
    }
}

/// The addresses of this machine, with port 0.
pub fn addresses() -> Vec<SocketAddr> {
    all().map(|(_, address)| address).collect()
}

/// The interface of that name, or else of that number.
fn index(zone: &str) -> Option<u32> {
    // nix 0.31 takes the failure of if_indextoname for an empty name
    let is_there = |number: &u32| if_indextoname(*number).is_ok_and(|name| !name.is_empty());
    if_nametoindex(zone).ok().or_else(|| zone.parse().ok().filter(is_there))
}

/// The interface that has link-local addresses, if there is only one.
fn only_one() -> Option<u32> {
    let scope = |(is_loopback, address): (bool, SocketAddr)| match address {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() && !is_loopback => {
            Some(v6.scope_id())
        }
        _ => None,
    };
    let mut scopes = all().filter_map(scope);
    let first = scopes.next()?;
    scopes.all(|other| other == first).then_some(first)
}

/// Every address with port 0, and whether it is the loopback interface's. None where the kernel
/// does not list them.
fn all() -> impl Iterator<Item = (bool, SocketAddr)> {
    getifaddrs().into_iter().flatten().filter_map(|one| {
        let is_loopback = one.flags.contains(InterfaceFlags::IFF_LOOPBACK);
        let address = one.address?;
        let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::new(v4.ip().into(), 0));
        let v6 = || address.as_sockaddr_in6().map(|v6| on_its_interface(v6.ip(), v6.scope_id()));
        Some((is_loopback, v4.or_else(v6)?))
    })
}

/// C libraries differ in whether an address that needs no interface has one.
fn on_its_interface(ip: Ipv6Addr, scope: u32) -> SocketAddr {
    SocketAddrV6::new(ip, 0, 0, if ip.is_unicast_link_local() { scope } else { 0 }).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn located(ip: &str, zone: Option<&str>) -> Option<String> {
        locate(ip.parse().unwrap(), zone, 80).map(|address| address.to_string())
    }

    #[test]
    fn an_interface_is_found_by_its_name_and_by_its_number() {
        let lo = if_nametoindex("lo").unwrap();
        let expected = Some(format!("[fe80::1%{lo}]:80"));
        assert_eq!(located("fe80::1", Some("lo")), expected);
        assert_eq!(located("fe80::1", Some(&lo.to_string())), expected);
        for zone in ["nosuch0", "0", "4294967295", "99999999999", "", "a\0b"] {
            assert_eq!(located("fe80::1", Some(zone)), None, "{zone}");
        }
    }

    #[test]
    fn only_a_link_local_address_needs_an_interface() {
        for (ip, expected) in [
            ("2001:db8::1", "[2001:db8::1]:80"),
            ("10.0.0.1", "10.0.0.1:80"),
            ("::ffff:10.0.0.1", "10.0.0.1:80"),
        ] {
            assert_eq!(located(ip, None).as_deref(), Some(expected));
        }
    }

    #[test]
    fn what_a_name_stands_for_keeps_its_interface() {
        let named: SocketAddr = "[fe80::1%7]:80".parse().unwrap();
        assert_eq!((complete(named), canonical(named)), (named, named));
        let mapped = "[::ffff:10.0.0.1]:80".parse().unwrap();
        assert_eq!(
            (complete(mapped).to_string(), canonical(mapped).to_string()),
            ("10.0.0.1:80".into(), "10.0.0.1:80".into())
        );
    }

    #[test]
    fn this_machine_has_its_loopback_address() {
        assert!(addresses().contains(&"127.0.0.1:0".parse().unwrap()));
    }
}
