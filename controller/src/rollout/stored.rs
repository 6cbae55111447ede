//! How names, digests and histograms are written into the stored record, and parsed back out of it.
//!
//! The model has no `Deserialize` on purpose: raw input is parsed into checked types at the edge. The record is such
//! an edge (a file or an object that somebody may have edited), so parsing happens here, for `#[serde(with = …)]`.

use std::fmt::Display;
use std::str::FromStr;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};
use sluice_model::{Digest, Histogram, RevisionId};

fn parse<T: FromStr<Err: Display>, E: Error>(text: &str) -> Result<T, E> {
    text.parse().map_err(E::custom)
}

/// Anything that prints and parses.
pub(super) mod text {
    use super::*;

    pub(in super::super) fn serialize<T: Display, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub(in super::super) fn deserialize<'de, T, D>(from: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        parse(&String::deserialize(from)?)
    }
}

/// Perhaps something that prints and parses.
pub(super) mod optional_text {
    use super::*;

    pub(in super::super) fn serialize<T: Display, S: Serializer>(value: &Option<T>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => to.collect_str(value),
            None => to.serialize_none(),
        }
    }

    pub(in super::super) fn deserialize<'de, T, D>(from: D) -> Result<Option<T>, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        Option::<String>::deserialize(from)?
            .map(|text| parse(&text))
            .transpose()
    }
}

/// Several things that print and parse: a list or a set.
pub(super) mod texts {
    use super::*;

    pub(in super::super) fn serialize<'a, T, C, S>(values: &'a C, to: S) -> Result<S::Ok, S::Error>
    where
        T: Display + 'a,
        &'a C: IntoIterator<Item = &'a T>,
        S: Serializer,
    {
        to.collect_seq(values.into_iter().map(ToString::to_string))
    }

    pub(in super::super) fn deserialize<'de, T, C, D>(from: D) -> Result<C, D::Error>
    where
        T: FromStr<Err: Display>,
        C: FromIterator<T>,
        D: Deserializer<'de>,
    {
        Vec::<String>::deserialize(from)?
            .iter()
            .map(|text| parse(text))
            .collect()
    }
}

fn print_revision(revision: &RevisionId) -> String {
    format!("{}-{}", revision.number, revision.digest)
}

fn parse_revision<E: Error>(text: &str) -> Result<RevisionId, E> {
    let (number, digest) = text
        .split_once('-')
        .ok_or_else(|| E::custom("a revision is written as NUMBER-DIGEST"))?;
    Ok(RevisionId {
        number: parse(number)?,
        digest: parse::<Digest, E>(digest)?,
    })
}

/// A revision with its whole digest, unlike what people see.
pub(super) mod revision {
    use super::*;

    pub(in super::super) fn serialize<S: Serializer>(value: &RevisionId, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&print_revision(value))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<RevisionId, D::Error> {
        parse_revision(&String::deserialize(from)?)
    }
}

/// Perhaps a revision.
pub(super) mod optional_revision {
    use super::*;

    pub(in super::super) fn serialize<S: Serializer>(value: &Option<RevisionId>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => to.serialize_str(&print_revision(value)),
            None => to.serialize_none(),
        }
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<RevisionId>, D::Error> {
        Option::<String>::deserialize(from)?
            .map(|text| parse_revision(&text))
            .transpose()
    }
}

/// The counts of a histogram.
pub(super) mod histogram {
    use super::*;

    pub(in super::super) fn serialize<S: Serializer>(value: &Histogram, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(value.counts())
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Histogram, D::Error> {
        let counts = Vec::<u64>::deserialize(from)?;
        Histogram::from_counts(&counts)
            .ok_or_else(|| D::Error::custom(format!("a histogram of {} buckets is not one of ours", counts.len())))
    }
}
