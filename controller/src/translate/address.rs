//! Addresses that are not one machine's, the same seen from every instance. The schema's rule `address-connects` says the
//! same to an API server.
//!
//! An IPv6 address may stand for an IPv4 one, which some gateway puts in its place (NAT64, RFC 6052; 6to4, RFC 3056): what
//! may not be written in one form may not be written in the other.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What `ip` is, if it is not one machine's; `a link-local address`. Loopback is: who may use it is decided elsewhere.
pub(super) fn no_machine(ip: IpAddr) -> Option<String> {
    match ip {
        IpAddr::V4(ip) => no_machine_of_four(ip).map(str::to_owned),
        IpAddr::V6(ip) => no_machine_of_six(ip),
    }
}

fn no_machine_of_four(ip: Ipv4Addr) -> Option<&'static str> {
    let [first, ..] = ip.octets();
    if ip.is_unspecified() {
        Some("the unspecified address")
    } else if first == 0 {
        Some("an address of this network (0.0.0.0/8, RFC 6890)")
    } else if ip.is_link_local() {
        Some("a link-local address")
    } else if ip.is_multicast() {
        Some("a multicast address")
    } else if ip.is_broadcast() {
        Some("the broadcast address")
    } else if first >= 240 {
        Some("a reserved address (240.0.0.0/4, RFC 6890)")
    } else {
        None
    }
}

fn no_machine_of_six(ip: Ipv6Addr) -> Option<String> {
    let [first, .., seventh, eighth] = ip.segments();
    let own = if ip.is_unspecified() {
        Some("the unspecified address")
    } else if ip.is_loopback() {
        None
    } else if ip.segments().iter().take(6).all(|segment| *segment == 0) {
        Some("an IPv4-compatible address, of which there are none any more (RFC 4291)")
    } else if ip.is_unicast_link_local() {
        Some("a link-local address")
    } else if first & 0xffc0 == 0xfec0 {
        Some("a site-local address, of which there are none any more (RFC 3879)")
    } else if ip.is_multicast() {
        Some("a multicast address")
    } else {
        None
    };
    let embedded = || {
        let (how, inside) = match ip.segments() {
            [0x64, 0xff9b, 0, 0, 0, 0, _, _] => ("NAT64", of_segments(seventh, eighth)),
            [0x2002, second, third, ..] => ("6to4", of_segments(second, third)),
            _ => return None,
        };
        let what = if inside.is_loopback() {
            Some("a loopback address")
        } else {
            no_machine_of_four(inside)
        };
        Some(format!("{how} for {inside}, {}", what?))
    };
    own.map(str::to_owned).or_else(embedded)
}

fn of_segments(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from((u32::from(high) << 16) | u32::from(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_one_machine_s_is_taken() {
        let refused = |ip: &str, what: &str| {
            let told = no_machine(ip.parse().unwrap());
            assert!(told.as_ref().is_some_and(|told| told.contains(what)), "{ip}: {told:?}");
        };
        refused("0.0.0.0", "unspecified");
        refused("0.1.2.3", "this network");
        refused("169.254.169.254", "link-local");
        refused("239.1.2.3", "multicast");
        refused("240.0.0.1", "reserved");
        refused("255.255.255.255", "broadcast");
        refused("::127.0.0.1", "IPv4-compatible");
        refused("::2", "IPv4-compatible");
        refused("febf::1", "link-local");
        refused("fec0::1", "site-local");
        refused("feff::1", "site-local");
        refused("64:ff9b::7f00:1", "NAT64 for 127.0.0.1, a loopback address");
        refused("64:ff9b::169.254.169.254", "NAT64 for 169.254.169.254, a link-local");
        refused("64:ff9b::f000:1", "NAT64 for 240.0.0.1, a reserved");
        refused("2002:7f00:1::1", "6to4 for 127.0.0.1");
        refused("2002:a9fe:a9fe::", "6to4 for 169.254.169.254");
        for ip in [
            "10.0.0.1",
            "127.0.0.1",
            "1.0.0.0",
            "223.255.255.255",
            "::1",
            "2001:db8::1",
            "fd00::1",
            "64:ff9b::a00:1",
            "64:ff9b:1::7f00:1",
            "2002:a00:1::1",
        ] {
            assert_eq!(no_machine(ip.parse().unwrap()), None, "{ip}");
        }
    }
}
