//! `docs/limits.md` against the code: every number that users can meet stands in it with its value and its reason, and every
//! field by which an operator moves one.
//!
//! The tables are made of `model/src/limits.rs`: `SLUICE_BLESS=1` writes them anew, to be looked at in the diff.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use sluice_e2e::repository;

const DOCUMENT: &str = "docs/limits.md";

/// The parts of `limits.rs` whose numbers users can meet. The others are between our own processes.
const MET_BY_USERS: [&str; 3] = [
    "what a configuration may hold",
    "what the data plane lets in and keeps",
    "rollouts",
];

/// One constant.
struct Limit {
    section: String,
    name: String,
    value: u64,
    reason: String,
}

/// All of them, in the order of the file.
fn limits() -> Vec<Limit> {
    // A long one is broken behind its equals sign.
    let text = repository::read("model/src/limits.rs").replace(" =\n    ", " = ");
    let mut known: BTreeMap<String, u64> = BTreeMap::new();
    let mut found = Vec::new();
    // Some stand on others that come later; twice is enough for all.
    for _ in 0..2 {
        found.clear();
        let (mut section, mut reason) = (String::new(), String::new());
        for line in text.lines() {
            if let Some(title) = line.strip_prefix("// --- ") {
                title.trim_end_matches('-').trim().clone_into(&mut section);
            } else if let Some(said) = line.strip_prefix("/// ") {
                let _ = write!(reason, "{}{said}", if reason.is_empty() { "" } else { " " });
            } else if let Some(constant) = line.strip_prefix("pub const ") {
                let (name, rest) = constant.split_once(": ").unwrap();
                let (_, value) = rest.split_once(" = ").unwrap();
                if let Some(value) = evaluate(value.trim_end_matches(';'), &known) {
                    known.insert(name.to_owned(), value);
                    let (section, name, reason) = (section.clone(), name.to_owned(), std::mem::take(&mut reason));
                    found.push(Limit {
                        section,
                        name,
                        value,
                        reason,
                    });
                }
                reason.clear();
            }
        }
    }
    found
}

/// Numbers, names, `*`, `/`, `+` and `<<`, from left to right. One with parentheses, of which users meet none, is not known.
fn evaluate(text: &str, known: &BTreeMap<String, u64>) -> Option<u64> {
    let mut words = text.split_whitespace();
    let term = |word: &str| word.replace('_', "").parse().ok().or_else(|| known.get(word).copied());
    let mut value = term(words.next()?)?;
    while let Some(operator) = words.next() {
        let next = words.next()?;
        value = match operator {
            "*" => value * term(next)?,
            "/" => value / term(next)?,
            "+" => value + term(next)?,
            "<<" => value << term(next)?,
            "as" => value,
            other => panic!("{other} in {text:?}"),
        };
    }
    Some(value)
}

/// For people, in the largest unit that is exact.
fn shown(name: &str, value: u64) -> String {
    let millis = |value: u64| {
        let units = [(3_600_000, "h"), (60_000, "min"), (1_000, "s"), (1, "ms")];
        let (size, unit) = units.into_iter().find(|(size, _)| value.is_multiple_of(*size)).unwrap();
        format!("{} {unit}", grouped(value / size))
    };
    if name.contains("_BYTES") && !name.contains("PER_SECOND") {
        let units = [(1 << 40, "TiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "bytes")];
        let (size, unit) = units.into_iter().find(|(size, _)| value.is_multiple_of(*size)).unwrap();
        format!("{} {unit}", grouped(value / size))
    } else if name.ends_with("_MS") || name.ends_with("_MILLIS") {
        millis(value)
    } else if name.ends_with("_SECONDS") {
        millis(value * 1000)
    } else if name.contains("RATE") || name.ends_with("PER_SECOND") {
        format!("{} B/s", grouped(value))
    } else if name.contains("PERCENT") {
        format!("{value} %")
    } else {
        grouped(value)
    }
}

fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let places = digits.len();
    let digit = |(place, digit): (usize, char)| match (places - place) % 3 {
        0 if place > 0 => format!(",{digit}"),
        _ => digit.to_string(),
    };
    digits.chars().enumerate().map(digit).collect()
}

/// What the document has to say of one section.
fn table(section: &str, limits: &[Limit]) -> String {
    let mut table = "| constant | value | what and why |\n|---|---|---|\n".to_owned();
    for limit in limits.iter().filter(|limit| limit.section.starts_with(section)) {
        let reason = limit.reason.replace('|', "\\|");
        writeln!(
            table,
            "| `{}` | {} | {reason} |",
            limit.name,
            shown(&limit.name, limit.value)
        )
        .unwrap();
    }
    table
}

#[test]
fn the_document_has_every_number_that_users_can_meet() {
    let limits = limits();
    let document = repository::read(DOCUMENT);
    let mut expected = document.clone();
    for section in MET_BY_USERS {
        let title = format!("\n## In the code: {section}\n\n");
        let start = expected
            .find(&title)
            .unwrap_or_else(|| panic!("{DOCUMENT} lacks {title:?}"))
            + title.len();
        let end = expected[start..]
            .find("\n\n")
            .map_or(expected.len(), |end| start + end + 1);
        let table = table(section, &limits);
        assert!(table.lines().count() > 5, "{section}");
        expected.replace_range(start..end, &table);
    }
    if std::env::var_os("SLUICE_BLESS").is_some() {
        return std::fs::write(repository::root().join(DOCUMENT), expected).unwrap();
    }
    for (line, wanted) in document.lines().zip(expected.lines()) {
        assert_eq!(
            line, wanted,
            "{DOCUMENT} and model/src/limits.rs differ: SLUICE_BLESS=1 writes it anew"
        );
    }
    assert_eq!(document, expected);
}

#[test]
fn every_field_of_limits_has_its_row_with_its_default() {
    let limits = limits();
    let crds = sluice_crds::generate::all().unwrap();
    let rollout = crds.iter().find(|crd| crd.kind == "Rollout").unwrap().schema();
    let fields = &rollout["properties"]["spec"]["properties"]["dataPlane"]["properties"]["limits"]["properties"];
    let mut told = BTreeSet::new();
    let document = repository::read(DOCUMENT);
    let (_, part) = document.split_once("\n## What an operator sets\n").unwrap();
    let (part, _) = part.split_once("\n## ").unwrap();
    for row in part.lines().filter_map(|line| line.strip_prefix("| `")) {
        let cells: Vec<&str> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        let (field, usual, constant) = (cells[0], cells[1], cells[4]);
        told.insert(field.to_owned());
        if let Some(limit) = limits.iter().find(|limit| limit.name == constant) {
            let value = shown(&limit.name, limit.value);
            assert!(
                usual == value || usual.starts_with(&format!("{value} ")),
                "{field}: {usual}, and in the code {value}"
            );
        } else {
            assert_eq!((constant, usual), ("–", "no limit"), "{field}: where is its default?");
        }
    }
    let fields: BTreeSet<String> = fields.as_object().unwrap().keys().cloned().collect();
    assert_eq!(told, fields);
}
