//! Properties of the parser: whatever comes, and however it is cut, it neither panics nor takes a byte behind the header,
//! and what it believes two readers believe that know nothing of it.
//!
//! `cargo test -p sluice-dataplane --lib -- --ignored a_million_introductions` is the long form; `SLUICE_SEED` plays a run
//! again.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Introduces, Step, read};
use crate::dice::{Dice, seeds};

fn v4(dice: &mut Dice) -> Ipv4Addr {
    Ipv4Addr::from(dice.next() as u32)
}

fn v6(dice: &mut Dice) -> Ipv6Addr {
    // Runs of zeros, which the text form shortens.
    Ipv6Addr::from([(); 8].map(|()| if dice.roll(2) == 0 { 0 } else { dice.next() as u16 }))
}

/// A header that is good, and whom it introduces.
fn good(dice: &mut Dice) -> (Vec<u8>, Introduces) {
    let (source, target): (IpAddr, IpAddr) = match dice.roll(2) {
        0 => (v4(dice).into(), v4(dice).into()),
        _ => (v6(dice).into(), v6(dice).into()),
    };
    let ports = [dice.next() as u16, dice.next() as u16];
    let six = source.is_ipv6();
    match dice.roll(4) {
        0 => {
            let family = if six { "TCP6" } else { "TCP4" };
            let line = format!("PROXY {family} {source} {target} {} {}\r\n", ports[0], ports[1]);
            (line.into_bytes(), Introduces::Client(source))
        }
        1 => {
            let said: String = (0..dice.roll(80))
                .map(|_| char::from(b' ' + dice.roll(95) as u8))
                .collect();
            let space = if said.is_empty() { "" } else { " " };
            (
                format!("PROXY UNKNOWN{space}{said}\r\n").into_bytes(),
                Introduces::Itself,
            )
        }
        kind => {
            let mut block = Vec::new();
            for address in [source, target] {
                match address {
                    IpAddr::V4(v4) => block.extend(v4.octets()),
                    IpAddr::V6(v6) => block.extend(v6.octets()),
                }
            }
            block.extend(ports.iter().flat_map(|port| port.to_be_bytes()));
            block.extend((0..dice.roll(60)).map(|index| index as u8));
            let local = kind == 3;
            let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
            header.push(if local { 0x20 } else { 0x21 });
            header.push(if six { 0x21 } else { 0x11 });
            header.extend(u16::try_from(block.len()).unwrap().to_be_bytes());
            header.extend(block);
            let introduces = if local {
                Introduces::Itself
            } else {
                Introduces::Client(source)
            };
            (header, introduces)
        }
    }
}

/// The first reader: goes from byte to byte, with its own reading of addresses.
fn by_bytes(sent: &[u8]) -> Option<(usize, Option<IpAddr>)> {
    let at = |index: usize| sent.get(index).copied();
    if at(0)? == b'\r' {
        let length = usize::from(at(14)?) * 256 + usize::from(at(15)?);
        let wide = match (at(12)? % 16, at(13)? / 16) {
            (1, 1) => 4,
            (1, 2) => 16,
            _ => 0,
        };
        let mut address = [0; 16];
        for (index, byte) in address.iter_mut().enumerate().take(wide) {
            *byte = at(16 + index)?;
        }
        at(15 + length)?;
        let address = match wide {
            4 => Some(IpAddr::from([address[0], address[1], address[2], address[3]])),
            16 => Some(IpAddr::from(address)),
            _ => None,
        };
        return Some((16 + length, address));
    }
    let mut end = 0;
    while at(end)? != b'\n' {
        end += 1;
    }
    let mut word = 0;
    let mut address = String::new();
    for byte in &sent[..end] {
        match byte {
            b' ' => word += 1,
            _ if word == 2 => address.push(char::from(*byte)),
            _ => {}
        }
    }
    let named = sent[6] == b'T';
    Some((end + 1, named.then(|| octets(&address)).flatten()))
}

/// Groups of hexadecimal digits around one `::`, or four decimals.
fn octets(text: &str) -> Option<IpAddr> {
    if !text.contains(':') {
        let parts: Vec<u8> = text.split('.').map(|part| part.parse().unwrap()).collect();
        return Some(IpAddr::from(<[u8; 4]>::try_from(parts).unwrap()));
    }
    let group = |part: &str| match part.split_once('.') {
        None => vec![u16::from_str_radix(part, 16).unwrap()],
        Some(_) => {
            let v4: Vec<u16> = part.split('.').map(|part| part.parse().unwrap()).collect();
            vec![v4[0] * 256 + v4[1], v4[2] * 256 + v4[3]]
        }
    };
    let groups = |half: &str| -> Vec<u16> {
        half.split(':')
            .filter(|part| !part.is_empty())
            .flat_map(group)
            .collect()
    };
    let (before, after) = text.split_once("::").unwrap_or((text, ""));
    let (before, after) = (groups(before), groups(after));
    let mut all = before.clone();
    all.resize(8 - after.len(), 0);
    all.extend(after);
    Some(IpAddr::from(<[u16; 8]>::try_from(all).unwrap()))
}

/// The second reader: the regular expressions of a person who has read the specification, and slices by name.
fn by_pattern(sent: &[u8]) -> Option<(usize, Option<IpAddr>)> {
    use std::sync::LazyLock;
    static LINE: LazyLock<regex::bytes::Regex> = LazyLock::new(|| {
        regex::bytes::Regex::new(
            r"(?-u)\APROXY (?:UNKNOWN(?: [^\r\n]*)?|TCP[46] (?<client>[0-9a-fA-F.:]+) \S+ \d+ \d+)\r\n",
        )
        .unwrap()
    });
    static BLOCK: LazyLock<regex::bytes::Regex> = LazyLock::new(|| {
        let lead = r"\A\r\n\r\n\x00\r\nQUIT\n";
        let kinds = r"(?:\x21\x11..(?<four>.{4}).{8}|\x21\x21..(?<six>.{16}).{20}|\x20...)";
        regex::bytes::Regex::new(&format!("(?s-u){lead}{kinds}")).unwrap()
    });
    if let Some(found) = LINE.captures(sent) {
        let client = found
            .name("client")
            .map(|client| std::str::from_utf8(client.as_bytes()).unwrap().parse().unwrap());
        return Some((found[0].len(), client));
    }
    let found = BLOCK.captures(sent)?;
    let four = found
        .name("four")
        .map(|four| IpAddr::from(<[u8; 4]>::try_from(four.as_bytes()).unwrap()));
    let six = found
        .name("six")
        .map(|six| IpAddr::from(<[u8; 16]>::try_from(six.as_bytes()).unwrap()));
    let length = u16::from_be_bytes([sent[14], sent[15]]);
    Some((16 + usize::from(length), four.or(six)))
}

fn agree(sent: &[u8], seed: u64) {
    let Ok(Step::Header { bytes, introduces }) = read(sent) else {
        return;
    };
    assert!(bytes <= sent.len(), "seed {seed}: reads behind the end of {sent:?}");
    let client = match introduces {
        Introduces::Client(address) => Some(address),
        Introduces::Itself => None,
    };
    let header = &sent[..bytes];
    // A LOCAL or UNSPEC block of a family that readers do not know is theirs to skip.
    if header[0] == b'P' || matches!((header[12], header[13]), (_, 0x11 | 0x21)) {
        assert_eq!(by_bytes(sent), Some((bytes, client)), "seed {seed}: {sent:?}");
        assert_eq!(by_pattern(sent), Some((bytes, client)), "seed {seed}: {sent:?}");
    }
    // It is the same header without what follows, and none of its beginnings is one.
    assert_eq!(read(header), Ok(Step::Header { bytes, introduces }), "seed {seed}");
    for cut in 0..bytes {
        assert_eq!(
            read(&header[..cut]),
            Ok(Step::More),
            "seed {seed}: cut at {cut} of {header:?}"
        );
    }
}

fn run(seed: u64) {
    let mut dice = Dice(seed);
    let (header, introduces) = good(&mut dice);
    let expected = Ok(Step::Header {
        bytes: header.len(),
        introduces,
    });
    assert_eq!(read(&header), expected, "seed {seed}: {header:?}");
    let mut sent = header;
    sent.extend((0..dice.roll(20)).map(|_| 0_u8));
    assert_eq!(read(&sent), expected, "seed {seed}: followed by what is not its");
    agree(&sent, seed);
    // And what is no longer good, or good by chance.
    for _ in 0..1 + dice.roll(4) {
        let at = dice.roll(sent.len().min(60));
        match dice.roll(3) {
            0 => sent[at] = dice.next() as u8,
            1 => sent[at] = sent[at].wrapping_add(1),
            _ => drop(sent.remove(at)),
        }
        agree(&sent, seed);
    }
    let noise: Vec<u8> = (0..dice.roll(40)).map(|_| dice.next() as u8).collect();
    agree(&noise, seed);
}

fn runs(count: u64) {
    seeds(count).for_each(run);
}

#[test]
fn what_is_believed_two_other_readers_believe() {
    runs(5_000);
}

#[test]
#[ignore = "the long form"]
fn a_million_introductions() {
    runs(1_000_000);
}
