//! Version 2: a signature that is no other protocol's, four bytes, and a block of the length that they say: addresses, and
//! behind them what senders add (TLVs), which is skipped and not read.

use std::net::IpAddr;

use sluice_model::limits::PROXY_HEADER_MAX_BYTES;

use super::{Introduces, Step};
use crate::guard::rule::Rule;

/// How it begins.
pub(super) const LEAD: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The signature, version and command, family and protocol, length.
pub(super) const FIXED_BYTES: usize = 16;

/// What the block holds.
enum Block {
    /// Nothing that is to be looked at.
    Ignored,
    /// Two addresses and two ports of IPv4.
    Tcp4,
    /// The same of IPv6.
    Tcp6,
}

impl Block {
    /// Command and family; `None`: not what goes over TCP.
    fn of(version_and_command: u8, family_and_protocol: u8) -> Option<Self> {
        match (version_and_command, family_and_protocol) {
            // LOCAL, of which nothing else counts; an unspecified family, of which the receiver may think as of UNKNOWN.
            (0x20, _) | (0x21, 0x00) => Some(Self::Ignored),
            (0x21, 0x11) => Some(Self::Tcp4),
            (0x21, 0x21) => Some(Self::Tcp6),
            _ => None,
        }
    }

    fn least_bytes(&self) -> usize {
        match self {
            Self::Ignored => 0,
            Self::Tcp4 => 12,
            Self::Tcp6 => 36,
        }
    }

    /// The client's address is the first.
    fn introduces(&self, block: &[u8]) -> Option<Introduces> {
        Some(match self {
            Self::Ignored => Introduces::Itself,
            Self::Tcp4 => Introduces::Client(IpAddr::from(*block.first_chunk::<4>()?)),
            Self::Tcp6 => Introduces::Client(IpAddr::from(*block.first_chunk::<16>()?)),
        })
    }
}

/// Of what begins as it does.
pub(super) fn read(sent: &[u8]) -> Result<Step, Rule> {
    let Some((fixed, rest)) = sent.split_first_chunk::<FIXED_BYTES>() else {
        return Ok(Step::More);
    };
    let [.., command, family, high, low] = *fixed;
    let block = Block::of(command, family).ok_or(Rule::ProxyBinary)?;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let bytes = FIXED_BYTES.saturating_add(length);
    if length < block.least_bytes() {
        return Err(Rule::ProxyBinary);
    }
    if bytes > PROXY_HEADER_MAX_BYTES {
        return Err(Rule::ProxySize);
    }
    let Some(held) = rest.get(..length) else {
        return Ok(Step::More);
    };
    let introduces = block.introduces(held).ok_or(Rule::ProxyBinary)?;
    Ok(Step::Header { bytes, introduces })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(command: u8, family: u8, length: u16, block: &[u8]) -> Vec<u8> {
        [LEAD, &[command, family], &length.to_be_bytes(), block].concat()
    }

    fn check(header: &[u8], bytes: usize, expected: Introduces) {
        let introduces = expected;
        assert_eq!(
            super::super::read(header),
            Ok(Step::Header { bytes, introduces }),
            "{header:?}"
        );
    }

    #[test]
    fn blocks_that_are_believed() {
        let tcp4 = [192, 0, 2, 7, 198, 51, 100, 1, 220, 4, 1, 187];
        let client = Introduces::Client("192.0.2.7".parse().unwrap());
        check(&header(0x21, 0x11, 12, &tcp4), 28, client);
        // What is behind the addresses is skipped, whatever it is; what is behind the block is not looked at.
        let more = [&tcp4[..], b"\x01\xff\xffbroken", b"GET / HTTP/1.1\r\n"].concat();
        check(&header(0x21, 0x11, 21, &more), 37, client);

        let mut tcp6 = [0; 36];
        tcp6[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        check(
            &header(0x21, 0x21, 36, &tcp6),
            52,
            Introduces::Client("2001:db8::".parse().unwrap()),
        );

        check(&header(0x20, 0x00, 0, &[]), 16, Introduces::Itself);
        check(&header(0x20, 0x11, 12, &tcp4), 28, Introduces::Itself);
        check(&header(0x20, 0xff, 3, b"abc"), 19, Introduces::Itself);
        check(&header(0x21, 0x00, 3, b"abc"), 19, Introduces::Itself);
        let most = PROXY_HEADER_MAX_BYTES - FIXED_BYTES;
        let zeros = vec![0; most];
        check(
            &header(0x20, 0, u16::try_from(most).unwrap(), &zeros),
            PROXY_HEADER_MAX_BYTES,
            Introduces::Itself,
        );
    }

    #[test]
    fn blocks_that_are_not() {
        let check = |header: Vec<u8>, rule| assert_eq!(super::super::read(&header), Err(rule), "{header:?}");
        for command in [0x00, 0x01, 0x11, 0x22, 0x2f, 0x31, 0xff] {
            check(header(command, 0x11, 12, &[0; 12]), Rule::ProxyBinary);
        }
        for family in [0x01, 0x10, 0x12, 0x20, 0x22, 0x31, 0x32, 0x41, 0xff] {
            check(header(0x21, family, 216, &[0; 216]), Rule::ProxyBinary);
        }
        // Too short for its addresses: said before the block is there.
        check(header(0x21, 0x11, 11, &[]), Rule::ProxyBinary);
        check(header(0x21, 0x21, 35, &[]), Rule::ProxyBinary);
        check(header(0x21, 0x11, u16::MAX, &[]), Rule::ProxySize);
        check(header(0x20, 0x00, 4081, &[]), Rule::ProxySize);
        check([&LEAD[..11], b"x"].concat(), Rule::ProxyMissing);
    }
}
