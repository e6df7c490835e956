//! Which host a client belongs to: rendezvous hashing, also called highest random weight (Thaler
//! and Ravishankar, 1998). Every host has a number for every client, and the client goes to the
//! highest. When one of n hosts goes, only its own clients move, each to its next highest; when it
//! comes back, just these return.
//!
//! The numbers depend on nothing but the client's address and the host's, as the file has it: two
//! programs with the same hosts agree, whatever their version, machine and order of hosts. So what
//! is computed here never changes; the tests have values that were computed by other means.

use std::net::IpAddr;

use siphasher::sip::SipHasher13;

/// What the address of a host contributes: SipHash-1-3 of its text, with a key of zeros.
pub fn host(address: &str) -> u64 {
    SipHasher13::new().hash(address.as_bytes())
}

/// What the address of a client contributes, without its port. An IPv4 client is the same one on a
/// socket for both families.
pub fn client(ip: IpAddr) -> u64 {
    let bits = match ip.to_canonical() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits(),
    };
    mix(mix((bits >> 64) as u64) ^ bits as u64)
}

/// How high a host is for a client.
pub fn preference(host: u64, client: u64) -> u64 {
    mix(host ^ client)
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood, 2014): each bit of the input changes each
/// bit of the output in half of the cases.
fn mix(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed by another implementation, in another language, from the two papers.
    #[test]
    fn two_programs_agree_whatever_their_version() {
        const HOSTS: [(&str, u64); 5] = [
            ("192.0.2.1:80", 0xd820_4fa4_265d_d348),
            ("192.0.2.2:80", 0x54a7_bf77_19da_e465),
            ("192.0.2.3:80", 0x6281_568f_692d_b1df),
            ("[2001:db8::1]:443", 0x889a_34c4_6d2f_31dc),
            ("web.example:8080", 0x91ba_a721_b80b_a03b),
        ];
        for (address, hash) in HOSTS {
            assert_eq!(host(address), hash, "{address}");
        }
        let preferred = [
            ("198.51.100.1", 0x7a7a_a676_1c98_dbac, [4, 1, 0, 3, 2]),
            ("198.51.100.2", 0xd5f8_231b_1b08_2aa1, [0, 4, 2, 1, 3]),
            ("203.0.113.77", 0x136f_ab6c_b4fc_2abd, [0, 2, 1, 3, 4]),
            ("2001:db8::5", 0x8f04_2ad8_7ee1_cfe7, [1, 0, 2, 3, 4]),
            ("::ffff:127.0.0.1", 0x37b8_b8dc_5ad4_64d3, [1, 4, 3, 2, 0]),
            ("127.0.0.1", 0x37b8_b8dc_5ad4_64d3, [1, 4, 3, 2, 0]),
        ];
        for (ip, hash, order) in preferred {
            let client = client(ip.parse().unwrap());
            let mut hosts = [0, 1, 2, 3, 4];
            hosts.sort_by_key(|index| std::cmp::Reverse(preference(HOSTS[*index].1, client)));
            assert_eq!((client, hosts), (hash, order), "{ip}");
        }
    }
}
