//! Counts the fields of a header block (RFC 7541 §6) without decoding it: what a block of a few hundred bytes becomes in
//! memory is known before the codec has made it.

/// Where in a block the next byte is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum At {
    /// At the beginning of a field, or of a change of the table's size.
    Field,
    /// In an index that takes more than one byte; so many strings follow it.
    Index { strings: u8 },
    /// At the length of a string; so many are left, with this one.
    Length { strings: u8 },
    /// In a length that takes more than one byte.
    LongLength { strings: u8, length: usize, shift: u32 },
    /// In a string with so many bytes left.
    Text { strings: u8, left: usize },
}

/// A header block that is coming, in one frame or several.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Block {
    at: At,
    fields: usize,
}

impl Block {
    /// One that begins.
    pub(super) fn new() -> Self {
        Self {
            at: At::Field,
            fields: 0,
        }
    }

    /// Fields that have begun so far.
    pub(super) fn fields(&self) -> usize {
        self.fields
    }

    /// Takes in more of it.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            if let At::Text { strings, left } = self.at {
                let count = left.min(bytes.len());
                bytes = bytes.get(count..).unwrap_or_default();
                self.at = text(strings, left.saturating_sub(count));
                continue;
            }
            bytes = rest;
            self.at = self.next(byte);
        }
    }

    fn next(&mut self, byte: u8) -> At {
        match self.at {
            At::Field => self.field(byte),
            At::Index { strings } if byte & 0x80 != 0 => At::Index { strings },
            At::Index { strings } => after_index(strings),
            At::Length { strings } => match usize::from(byte & 0x7f) {
                0x7f => At::LongLength {
                    strings,
                    length: 0x7f,
                    shift: 0,
                },
                length => text(strings, length),
            },
            At::LongLength { strings, length, shift } => {
                // What no header block can hold is the codec's to refuse; here it only must not overflow.
                let part = usize::from(byte & 0x7f) << shift.min(28);
                let length = length.saturating_add(part);
                match byte & 0x80 {
                    0 => text(strings, length),
                    _ => At::LongLength {
                        strings,
                        length,
                        shift: shift.saturating_add(7),
                    },
                }
            }
            At::Text { strings, left } => At::Text { strings, left },
        }
    }

    fn field(&mut self, byte: u8) -> At {
        let (index, most, strings, is_field) = match byte {
            0x80.. => (byte & 0x7f, 0x7f, 0, 1),
            0x40.. => (byte & 0x3f, 0x3f, 1, 1),
            0x20.. => (byte & 0x1f, 0x1f, 0, 0),
            _ => (byte & 0x0f, 0x0f, 1, 1),
        };
        self.fields = self.fields.saturating_add(is_field);
        match index {
            0 if strings == 1 => At::Length { strings: 2 }, // its name is written out too
            index if index == most => At::Index { strings },
            _ => after_index(strings),
        }
    }
}

fn after_index(strings: u8) -> At {
    match strings {
        0 => At::Field,
        strings => At::Length { strings },
    }
}

fn text(strings: u8, left: usize) -> At {
    match (left, strings) {
        (0, 0 | 1) => At::Field,
        (0, strings) => At::Length {
            strings: strings.saturating_sub(1),
        },
        (left, strings) => At::Text { strings, left },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(block: &[u8]) -> usize {
        let mut whole = Block::new();
        whole.feed(block);
        let mut pieces = Block::new();
        block.chunks(1).for_each(|byte| pieces.feed(byte));
        assert_eq!(whole, pieces, "however it comes");
        assert_eq!(whole.at, At::Field, "{block:?} ends where a field could begin");
        whole.fields()
    }

    #[test]
    fn blocks_of_rfc_7541() {
        assert_eq!(fields(&[]), 0);
        // Appendix C.2: a literal with both strings, one with an index, one that is never indexed, an index alone.
        assert_eq!(fields(b"\x40\x0acustom-key\x0dcustom-header"), 1);
        assert_eq!(fields(b"\x04\x0c/sample/path"), 1);
        assert_eq!(fields(b"\x10\x08password\x06secret"), 1);
        assert_eq!(fields(&[0x82]), 1);
        // C.4.1, with Huffman coding.
        assert_eq!(
            fields(b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"),
            4
        );
        // A change of the table's size, in one byte and in several, is no field.
        assert_eq!(fields(&[0x20, 0x3f, 0xe1, 0x1f, 0x82]), 1);
        // An index in several bytes, an empty string, a long one.
        assert_eq!(fields(&[0xff, 0x80, 0x01, 0x40, 0, 0]), 2);
        let mut long = vec![0x40, 1, b'a', 0x7f, 0x81, 0x01];
        long.extend([b'b'; 256]);
        assert_eq!(fields(&long), 1);
    }

    #[test]
    fn a_bomb_is_as_many_fields_as_bytes() {
        assert_eq!(fields(&[0xbe; 450]), 450);
    }

    #[test]
    fn nonsense_is_counted_without_a_panic() {
        let mut block = Block::new();
        block.feed(&[
            0x40, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1, 2, 3,
        ]);
        assert_eq!(block.fields(), 1);
    }
}
