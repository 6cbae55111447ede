//! `Network`: the addresses that begin alike, as `10.0.0.0/8`, or one address. What a listener trusts is named so.
//!
//! There is one spelling for each, so that two configurations that mean the same are the same: no host bits, no IPv4
//! inside of IPv6.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A range of addresses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Why a text is not a range of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Not of the form.
    #[error("{0:?} is not a range of addresses such as 10.0.0.0/8 or 2001:db8::/32")]
    Form(String),
    /// It names one address and means its neighbours too, or the other way round.
    #[error("{0:?} has bits behind its prefix: the range is {1}")]
    HostBits(String, Network),
    /// Connections over IPv4 are IPv4's, whatever socket they come by.
    #[error("{0:?} is IPv4 inside of IPv6: write the IPv4 range")]
    Mapped(String),
}

impl Network {
    /// Whether `address` is one of them. IPv4 inside of IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && first(address, self.prefix) == self.address
    }
}

/// The bits of an address.
fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The first address that begins with the same `prefix` bits; all of them if there are fewer.
fn first(address: IpAddr, prefix: u8) -> IpAddr {
    let behind = u32::from(width(address).saturating_sub(prefix));
    match address {
        IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(behind).unwrap_or(0)).into()),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & u128::MAX.checked_shl(behind).unwrap_or(0)).into()),
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = || NetworkError::Form(text.chars().take(80).collect());
        let (address, prefix) = text.split_once('/').ok_or_else(form)?;
        let address: IpAddr = address.parse().map_err(|_| form())?;
        let plain = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
        let plain = plain && (prefix == "0" || !prefix.starts_with('0'));
        let prefix = prefix.parse().ok().filter(|_| plain).ok_or_else(form)?;
        if prefix > width(address) {
            return Err(form());
        }
        if address.to_canonical() != address {
            return Err(NetworkError::Mapped(text.to_owned()));
        }
        let network = Self {
            address: first(address, prefix),
            prefix,
        };
        if network.address != address {
            return Err(NetworkError::HostBits(text.to_owned(), network));
        }
        Ok(network)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_in_it() {
        let check = |network: &str, inside: &[&str], outside: &[&str]| {
            let network: Network = network.parse().unwrap();
            for address in inside {
                assert!(network.contains(address.parse().unwrap()), "{address} in {network}");
            }
            for address in outside {
                assert!(
                    !network.contains(address.parse().unwrap()),
                    "{address} not in {network}"
                );
            }
        };
        check(
            "10.0.0.0/8",
            &["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"],
            &["11.0.0.0", "9.255.255.255", "a00::"],
        );
        check("192.0.2.7/32", &["192.0.2.7"], &["192.0.2.6", "192.0.2.8"]);
        check("192.0.2.0/25", &["192.0.2.127"], &["192.0.2.128"]);
        check("0.0.0.0/0", &["0.0.0.0", "255.255.255.255"], &["::", "2001:db8::1"]);
        check("2001:db8::/32", &["2001:db8:ffff::1"], &["2001:db9::", "32.1.13.184"]);
        check("::/0", &["::1", "2001:db8::1"], &["10.0.0.1", "::ffff:10.0.0.1"]);
        check("::1/128", &["::1"], &["::2"]);
    }

    #[test]
    fn there_is_one_spelling() {
        for text in ["10.0.0.0/8", "0.0.0.0/0", "2001:db8::/32", "::/0", "::1/128"] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
        let form = [
            "",
            "10.0.0.0",
            "10.0.0.0/33",
            "10.0.0.0/08",
            "10.0.0.0/+8",
            "10.0/8",
            "::/129",
            "a/8",
            "10.0.0.0/",
            "10.0.0.0/8/8",
        ];
        for text in form {
            assert!(matches!(text.parse::<Network>(), Err(NetworkError::Form(_))), "{text}");
        }
        let bits = "10.1.0.0/8".parse::<Network>().unwrap_err();
        assert!(bits.to_string().ends_with("the range is 10.0.0.0/8"), "{bits}");
        assert!(matches!(
            "::ffff:10.0.0.0/104".parse::<Network>(),
            Err(NetworkError::Mapped(_))
        ));
    }
}
