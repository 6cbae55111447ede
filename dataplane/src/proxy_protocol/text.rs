//! Version 1: `PROXY TCP4 192.0.2.7 198.51.100.1 56324 443`, a line for people.
//!
//! Read by the letter: one space, decimal ports without a zero in front, addresses of the family that is said. Two readers
//! that agree on such a line agree on the client.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Introduces, Step};
use crate::guard::rule::Rule;

/// How it begins.
pub(super) const LEAD: &[u8] = b"PROXY ";
/// The longest line with its end, as the specification counts it (§2.1).
pub(super) const LINE_MAX_BYTES: usize = 107;

/// Of what begins as it does.
pub(super) fn read(sent: &[u8]) -> Result<Step, Rule> {
    let line = sent.get(..LINE_MAX_BYTES).unwrap_or(sent);
    let goes_on = || match line.len() < LINE_MAX_BYTES {
        true => Ok(Step::More),
        false => Err(Rule::ProxySize),
    };
    let Some(end) = line.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        return goes_on();
    };
    let (said, end_of_line) = line.split_at(end);
    match end_of_line {
        [b'\r'] => goes_on(),
        [b'\r', b'\n', ..] => Ok(Step::Header {
            bytes: end.saturating_add(2),
            introduces: introduces(said).ok_or(Rule::ProxyText)?,
        }),
        _ => Err(Rule::ProxyText),
    }
}

fn introduces(line: &[u8]) -> Option<Introduces> {
    let said = line.strip_prefix(LEAD)?;
    if let Some(rest) = said.strip_prefix(b"UNKNOWN") {
        // What else it says is to be ignored.
        return (rest.is_empty() || rest.starts_with(b" ")).then_some(Introduces::Itself);
    }
    let mut words = std::str::from_utf8(said).ok()?.split(' ');
    let address: fn(&str) -> Option<IpAddr> = match words.next()? {
        "TCP4" => |word| word.parse().ok().map(Ipv4Addr::into),
        "TCP6" => |word| word.parse().ok().map(Ipv6Addr::into),
        _ => return None,
    };
    let (client, _server) = (address(words.next()?)?, address(words.next()?)?);
    let _ports = (port(words.next()?)?, port(words.next()?)?);
    words.next().is_none().then_some(Introduces::Client(client))
}

fn port(word: &str) -> Option<u16> {
    let plain = word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    word.parse().ok().filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &[u8], expected: Result<Introduces, Rule>) {
        let expected = expected.map(|introduces| Step::Header {
            bytes: line.len(),
            introduces,
        });
        let shown = String::from_utf8_lossy(line);
        assert_eq!(super::super::read(line), expected, "{shown}");
        let followed = [line, b"GET / HTTP/1.1\r\n"].concat();
        assert_eq!(super::super::read(&followed), expected, "{shown}, followed");
    }

    #[test]
    fn lines_that_are_believed() {
        let client = |text: &str| Ok(Introduces::Client(text.parse().unwrap()));
        check(b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n", client("192.0.2.7"));
        check(
            b"PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n",
            client("255.255.255.255"),
        );
        check(b"PROXY TCP6 2001:db8::7 ::1 1 2\r\n", client("2001:db8::7"));
        let longest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        check(
            format!("PROXY TCP6 {longest} {longest} 65535 65535\r\n").as_bytes(),
            client(longest),
        );
        for line in [
            b"PROXY UNKNOWN\r\n".as_slice(),
            b"PROXY UNKNOWN \xff\x00 what ever\r\n",
            b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n",
        ] {
            check(line, Ok(Introduces::Itself));
        }
        let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LINE_MAX_BYTES - 16));
        assert_eq!(longest.len(), LINE_MAX_BYTES);
        check(longest.as_bytes(), Ok(Introduces::Itself));
    }

    #[test]
    fn lines_that_are_not() {
        for said in [
            "TCP4 192.0.2.7 198.51.100.1 56324",
            "TCP4 192.0.2.7 198.51.100.1 56324 443 ",
            "TCP4 192.0.2.7 198.51.100.1 56324 443 1",
            "TCP4  192.0.2.7 198.51.100.1 56324 443",
            "TCP4 192.0.2.07 198.51.100.1 56324 443",
            "TCP4 192.0.2 198.51.100.1 56324 443",
            "TCP4 2001:db8::7 2001:db8::8 1 2",
            "TCP6 192.0.2.7 198.51.100.1 1 2",
            "TCP6 fe80::1%eth0 ::1 1 2",
            "TCP4 192.0.2.7 198.51.100.1 65536 443",
            "TCP4 192.0.2.7 198.51.100.1 +1 443",
            "TCP4 192.0.2.7 198.51.100.1 01 443",
            "TCP4 192.0.2.7 198.51.100.1 1 ",
            "TCP4 192.0.2.7 198.51.100.1 1 2\n",
            "TCP4 192.0.2.7 198.51.100.1 1 2\rx",
            "UDP4 192.0.2.7 198.51.100.1 1 2",
            "tcp4 192.0.2.7 198.51.100.1 1 2",
            "UNKNOWNS",
            "",
        ] {
            check(format!("PROXY {said}\r\n").as_bytes(), Err(Rule::ProxyText));
        }
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LINE_MAX_BYTES - 15));
        check(long.as_bytes(), Err(Rule::ProxySize));
        check(&[b"PROXY ".as_slice(), &[b'x'; 200]].concat(), Err(Rule::ProxySize));
        for other in [
            b"GET / HTTP/1.1\r\n\r\n".as_slice(),
            b"PROXX",
            b"proxy TCP4",
            b" PROXY",
            b"\x16\x03\x01",
        ] {
            check(other, Err(Rule::ProxyMissing));
        }
    }
}
