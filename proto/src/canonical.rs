//! Strict decoding: bytes are accepted only if the value they decode to encodes back to the same bytes.
//!
//! prost drops unknown fields, takes fields in any order and packed or not. The round trip through the *domain* type
//! refuses all of it at once: what this build does not fully understand, and every second spelling of a value.

use bytes::Bytes;
use prost::Message;

/// A domain type and the protobuf message that carries it.
pub trait Wire: Sized {
    /// The generated type.
    type Proto: Message + Default;

    /// As it travels.
    fn to_proto(&self) -> Self::Proto;

    /// Checked; an error names the field.
    fn from_proto(proto: Self::Proto) -> Result<Self, DecodeError>;

    /// The one encoding of this value.
    fn encode(&self) -> Bytes {
        self.to_proto().encode_to_vec().into()
    }
}

/// Why bytes are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Longer than the limit.
    #[error("too large: {bytes} bytes, at most {max} are allowed")]
    TooLarge {
        /// How long it is.
        bytes: usize,
        /// What is allowed.
        max: usize,
    },
    /// Not protobuf, or of another type.
    #[error("malformed: {0}")]
    Protobuf(#[from] prost::DecodeError),
    /// A field holds what it cannot hold.
    #[error("malformed: {field}: {message}")]
    Field {
        /// Which, with its place, innermost first entry last.
        field: String,
        /// What is wrong.
        message: String,
    },
    /// The round trip gives other bytes.
    #[error("unknown field or non-canonical encoding: a newer sender, or bytes that were tampered with")]
    NotCanonical,
}

/// A field that holds what it cannot hold.
pub(crate) fn wrong(field: &str, message: impl ToString) -> DecodeError {
    DecodeError::Field {
        field: field.to_owned(),
        message: message.to_string(),
    }
}

/// A field that has to be there.
pub(crate) fn required<T>(field: &str, value: Option<T>) -> Result<T, DecodeError> {
    value.ok_or_else(|| wrong(field, "is missing"))
}

impl DecodeError {
    /// The same error, inside of `outer`.
    pub(crate) fn within(self, outer: impl ToString) -> Self {
        match self {
            Self::Field { field, message } => Self::Field {
                field: format!("{}.{field}", outer.to_string()),
                message,
            },
            other @ (Self::TooLarge { .. } | Self::Protobuf(_) | Self::NotCanonical) => other,
        }
    }
}

/// Decodes every element of a repeated field.
pub(crate) fn each<P, D>(
    field: &str,
    protos: Vec<P>,
    decode: impl Fn(P) -> Result<D, DecodeError>,
) -> Result<Vec<D>, DecodeError> {
    let numbered = protos.into_iter().enumerate();
    numbered
        .map(|(index, proto)| decode(proto).map_err(|error| error.within(format!("{field}[{index}]"))))
        .collect()
}

/// Refuses a list that is not strictly ascending: there is one way to write a set.
pub(crate) fn ascending<T: Ord>(field: &str, items: &[T]) -> Result<(), DecodeError> {
    if items.is_sorted_by(|one, next| one < next) {
        Ok(())
    } else {
        Err(wrong(field, "is not in ascending order without duplicates"))
    }
}

/// The value that `bytes` encode, if they are its one encoding and at most `max_bytes` long.
pub fn strict_decode<T: Wire>(bytes: &[u8], max_bytes: usize) -> Result<T, DecodeError> {
    if bytes.len() > max_bytes {
        return Err(DecodeError::TooLarge {
            bytes: bytes.len(),
            max: max_bytes,
        });
    }
    let value = T::from_proto(T::Proto::decode(bytes)?)?;
    if value.encode() == bytes {
        Ok(value)
    } else {
        Err(DecodeError::NotCanonical)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arbitrary;
    use crate::order::Order;
    use proptest::prelude::*;

    fn decode(bytes: &[u8]) -> Result<Order, DecodeError> {
        strict_decode(bytes, 1 << 20)
    }

    fn some_order() -> Order {
        Order {
            cluster: "c-1".parse().unwrap(),
            fleet: "edge".parse().unwrap(),
            epoch: 7,
            stable: sluice_model::RevisionId {
                number: 1,
                digest: sluice_model::Digest([9; 32]),
            },
            candidate: None,
            counted: vec![],
        }
    }

    #[test]
    fn too_large_is_refused_before_anything_is_read() {
        let junk = vec![0xff; 100];
        let error = strict_decode::<Order>(&junk, 99).unwrap_err();
        assert_eq!(error, DecodeError::TooLarge { bytes: 100, max: 99 });
    }

    #[test]
    fn an_unknown_field_is_refused() {
        let mut bytes = some_order().encode().to_vec();
        assert_eq!(decode(&bytes), Ok(some_order()));
        bytes.extend([0x78, 0x01]); // field 15, varint 1
        assert_eq!(decode(&bytes), Err(DecodeError::NotCanonical));
    }

    #[test]
    fn a_second_spelling_is_refused() {
        let bytes = some_order().encode();
        // The epoch once more: protobuf lets the last one win.
        let repeated = [&bytes[..], &[0x18, 0x07]].concat();
        assert_eq!(decode(&repeated), Err(DecodeError::NotCanonical));
        // A varint with a needless byte.
        let at = bytes.windows(2).position(|pair| pair == [0x18, 0x07]).unwrap();
        let padded = [&bytes[..at], &[0x18, 0x87, 0x00], &bytes[at + 2..]].concat();
        assert_eq!(decode(&padded), Err(DecodeError::NotCanonical));
        // Fields in another order.
        let swapped = [&[0x18, 0x07][..], &bytes[..at], &bytes[at + 2..]].concat();
        assert_eq!(decode(&swapped), Err(DecodeError::NotCanonical));
    }

    #[test]
    fn errors_say_where() {
        let mut order = some_order();
        order.counted = vec!["Pool a/b".parse().unwrap()];
        let error = decode(&order.encode()).unwrap_err();
        assert_eq!(error.to_string(), "malformed: counted: Pool a/b is no route");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn cut_short_or_changed_is_another_value_or_refused(
            order in arbitrary::orders(), at in any::<prop::sample::Index>(), bit in 0_u8..8,
        ) {
            let bytes = order.encode();
            let at = at.index(bytes.len());
            prop_assert_ne!(decode(&bytes[..at]), Ok(order.clone()));
            let mut flipped = bytes.to_vec();
            flipped[at] ^= 1 << bit;
            prop_assert_ne!(decode(&flipped), Ok(order));
        }
    }
}
