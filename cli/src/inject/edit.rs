//! Puts a sidecar into a document line by line, and reads what came of it to see that it means what it should.
//!
//! It knows indented YAML, as manifests in repositories are written. The fields that it has to touch may not stand in
//! braces; that is said, and nothing is guessed.

use std::ops::Range;

use serde_json::Value as Json;
use sluice_controller::source::yaml::{self, Key, Node, Value};

use super::documents::Document;
use super::sidecar::{CONTAINER, DRAIN_SECONDS, Sidecar};
use super::workload::Workload;
use crate::failure::Failure;

const GRACE: &str = "terminationGracePeriodSeconds";
const IN_BRACES: &str = "is not written as indented lines, which is the form that inject edits; \
                         `kubectl create --dry-run=client -o yaml -f FILE` writes it so";
const NOT_IN_PLACE: &str = "is written in a way that a sidecar cannot be put into without changing what else it says; \
                            `kubectl create --dry-run=client -o yaml -f FILE` writes it plainly";

/// The text of `document` with `sidecar` in it.
///
/// # Errors
/// When the pod is written in a form that is not edited.
pub fn with(document: &Document<'_>, workload: &Workload<'_>, sidecar: &Sidecar<'_>) -> Result<String, Failure> {
    let pod = Pod::new(document, workload)?;
    let mut edits = Vec::new();
    // Fields that are not there yet go together above `containers`: the end of the pod may be the end of a text whose
    // empty lines count.
    let fields = [
        pod.grace(&mut edits)?,
        pod.init_containers(sidecar, &mut edits)?,
        pod.volumes(sidecar, &mut edits)?,
    ];
    edits.push(Edit::insert(pod.above_containers()?, fields.concat()));
    let text = pod.page.edited(edits);
    check(document, workload, sidecar, &text)?;
    Ok(text)
}

/// The lines of a document.
struct Page<'a> {
    lines: Vec<&'a str>,
    line_break: &'static str,
}

/// Lines that others are put in place of.
struct Edit {
    lines: Range<usize>,
    text: String,
}

impl Edit {
    fn insert(before: usize, text: String) -> Self {
        Self {
            lines: before..before,
            text,
        }
    }
}

impl<'a> Page<'a> {
    fn new(text: &'a str) -> Self {
        let lines: Vec<_> = text.split_inclusive('\n').collect();
        let line_break = if lines.iter().any(|line| line.ends_with("\r\n")) {
            "\r\n"
        } else {
            "\n"
        };
        Self { lines, line_break }
    }

    fn line(&self, index: usize) -> &'a str {
        self.lines.get(index).copied().unwrap_or_default()
    }

    /// How far a line is indented; `None` if nothing is on it.
    fn indent(&self, index: usize) -> Option<usize> {
        let line = self.line(index);
        (!line.trim().is_empty()).then(|| line.len() - line.trim_start_matches(' ').len())
    }

    fn is_comment(&self, index: usize) -> bool {
        self.line(index).trim_start().starts_with('#')
    }

    /// The end of what begins at the line `begin` and has all its lines indented by at least `indent`. Comments that are
    /// indented less, and empty lines, do not end it, but do not belong to it either.
    fn end(&self, begin: usize, indent: usize) -> usize {
        let mut end = begin;
        for index in begin..self.lines.len() {
            match self.indent(index) {
                Some(here) if here >= indent => end = index + 1,
                Some(_) if !self.is_comment(index) => break,
                Some(_) | None => {}
            }
        }
        end
    }

    fn edited(&self, mut edits: Vec<Edit>) -> String {
        // What is put before a line goes before what replaces it; and stable: what is put to one place keeps its order.
        edits.sort_by_key(|edit| (edit.lines.start, edit.lines.end));
        let (mut text, mut at) = (String::new(), 0);
        for edit in edits.iter().filter(|edit| !edit.text.is_empty()) {
            self.copy(at..edit.lines.start, &mut text);
            if !text.is_empty() && !text.ends_with('\n') {
                text.push_str(self.line_break);
            }
            text.push_str(&edit.text.replace('\n', self.line_break));
            at = edit.lines.end;
        }
        self.copy(at..self.lines.len(), &mut text);
        text
    }

    fn copy(&self, lines: Range<usize>, text: &mut String) {
        text.extend(self.lines.get(lines).unwrap_or_default().iter().copied());
    }
}

/// The place of a list.
enum List {
    /// There is none.
    Absent,
    /// It is written, and empty: its line without the brackets, and where that is.
    Empty(usize, String),
    /// Items, each with its lines, and how far their dashes are indented.
    Items(Vec<Range<usize>>, usize),
}

/// The pod's spec, as it is written.
struct Pod<'a> {
    page: Page<'a>,
    workload: &'a Workload<'a>,
    /// How far its fields are indented.
    indent: usize,
    /// How much further than its field a list is.
    dash: usize,
}

impl<'a> Pod<'a> {
    fn new(document: &Document<'a>, workload: &'a Workload<'a>) -> Result<Self, Failure> {
        let page = Page::new(document.text);
        let keys = || workload.pod.entries().iter().map(|(key, _)| key);
        let braces = || workload.refuse("", IN_BRACES);
        let first = keys().next().ok_or_else(braces)?;
        let (_, indent) = place(first);
        // A key in braces, or behind an anchor, does not stand at the beginning of a line of its own.
        let at_margin = |key: &Key| place(key).1 == indent && page.indent(place(key).0) == Some(indent);
        if !keys().all(at_margin) {
            return Err(braces());
        }
        let mut pod = Self {
            page,
            workload,
            indent,
            dash: 0,
        };
        match pod.list("containers")? {
            List::Items(_, dash) => pod.dash = dash.saturating_sub(indent),
            List::Absent | List::Empty(..) => return Err(braces()),
        }
        Ok(pod)
    }

    fn entry(&self, field: &str) -> Option<&'a (Key, Node)> {
        let pod: &'a Node = self.workload.pod;
        pod.entries().iter().find(|(key, _)| key.text == field)
    }

    fn list(&self, field: &str) -> Result<List, Failure> {
        let braces = || self.workload.refuse(field, IN_BRACES);
        let Some((key, node)) = self.entry(field) else {
            return Ok(List::Absent);
        };
        let (line, _) = place(key);
        let items = node.items();
        let Some(first) = items.first() else {
            return self
                .without_brackets(line, field)
                .map(|text| List::Empty(line, text))
                .ok_or_else(braces);
        };
        let begin = usize::try_from(first.at.line).unwrap_or(1).saturating_sub(1);
        let dash = self.page.indent(begin).ok_or_else(braces)?;
        let end = self.end_of_list(begin, dash);
        let begins = |index: &usize| self.page.indent(*index) == Some(dash) && is_item(self.page.line(*index));
        let begins: Vec<usize> = (begin..end).filter(begins).collect();
        if begin == line || begins.len() != items.len() {
            return Err(braces());
        }
        let lines = begins
            .iter()
            .map(|&begin| begin..self.page.end(begin + 1, dash + 1).max(begin + 1));
        Ok(List::Items(lines.collect(), dash))
    }

    /// A list may be indented no further than its field: then the next field ends it.
    fn end_of_list(&self, begin: usize, dash: usize) -> usize {
        let all = begin..self.page.end(begin, dash);
        let mut beyond = all.clone().filter(|index| {
            let at_dash = self.page.indent(*index) == Some(dash);
            at_dash && !is_item(self.page.line(*index)) && !self.page.is_comment(*index)
        });
        beyond.next().unwrap_or(all.end)
    }

    /// `field: []` or `field:` without its value, a comment after it included.
    fn without_brackets(&self, line: usize, field: &str) -> Option<String> {
        let text = self.page.line(line);
        let (head, rest) = text.split_once(':').filter(|(head, _)| head.trim() == field)?;
        let rest = rest.trim_start();
        let rest = rest.strip_prefix("[]").unwrap_or(rest).trim();
        match rest {
            "" => Some(format!("{head}:\n")),
            comment if comment.starts_with('#') => Some(format!("{head}: {comment}\n")),
            _ => None,
        }
    }

    /// Where the field `containers` begins, with the comment that stands above it.
    fn above_containers(&self) -> Result<usize, Failure> {
        let entry = self.entry("containers");
        let (key, _) = entry.ok_or_else(|| self.workload.refuse("containers", IN_BRACES))?;
        let (line, _) = place(key);
        let of_it = |index: &usize| self.page.is_comment(*index) && self.page.indent(*index) == Some(self.indent);
        let above = (0..line).rev().take_while(of_it).count();
        Ok(line - above)
    }

    /// Raises the time to end, or says what is to be written where there is none.
    fn grace(&self, edits: &mut Vec<Edit>) -> Result<String, Failure> {
        let Some((key, node)) = self.entry(GRACE) else {
            return Ok(format!("{}{GRACE}: {DRAIN_SECONDS}\n", " ".repeat(self.indent)));
        };
        let wrong = || self.workload.refuse(GRACE, "a whole number of seconds is needed here");
        let Value::Integer(seconds) = node.value else {
            return Err(wrong());
        };
        if seconds < DRAIN_SECONDS.into() {
            let (line, _) = place(key);
            let text = self.page.line(line);
            let (head, rest) = text.split_once(':').ok_or_else(wrong)?;
            let rest = rest.trim_start().strip_prefix(&seconds.to_string()).ok_or_else(wrong)?;
            edits.push(Edit {
                lines: line..line + 1,
                text: format!("{head}: {DRAIN_SECONDS}{}\n", rest.trim_end()),
            });
        }
        Ok(String::new())
    }

    /// Puts the container among the init containers, or gives the whole field where there is none.
    fn init_containers(&self, sidecar: &Sidecar<'_>, edits: &mut Vec<Edit>) -> Result<String, Failure> {
        const FIELD: &str = "initContainers";
        let known = self.workload.sidecar().map(|container| container.index);
        let items = [(known, sidecar.container())];
        self.put(FIELD, &items, edits)
    }

    fn volumes(&self, sidecar: &Sidecar<'_>, edits: &mut Vec<Edit>) -> Result<String, Failure> {
        const FIELD: &str = "volumes";
        let volumes = self.workload.pod.get(FIELD).map(Node::items).unwrap_or_default();
        let known = |name: &str| {
            let is_it = |volume: &Node| volume.get("name").and_then(Node::text) == Some(name);
            volumes.iter().position(is_it)
        };
        let items = sidecar.volumes().map(|(name, text)| (known(name), text));
        self.put(FIELD, &items, edits)
    }

    /// Puts items into a list: in place of those that are known, else at its end. Gives the whole field where there is no
    /// such list.
    fn put(&self, field: &str, items: &[(Option<usize>, String)], edits: &mut Vec<Edit>) -> Result<String, Failure> {
        let all = |indent: usize| -> String { items.iter().map(|(_, text)| indented(text, indent)).collect() };
        match self.list(field)? {
            List::Absent => {
                let head = format!("{}{field}:\n", " ".repeat(self.indent));
                return Ok(head + &all(self.indent + self.dash));
            }
            List::Empty(line, head) => edits.push(Edit {
                lines: line..line + 1,
                text: head + &all(self.indent + self.dash),
            }),
            List::Items(lines, dash) => {
                let end = lines.last().map_or(0, |last| last.end);
                for (known, text) in items {
                    let place = known.and_then(|index| lines.get(index).cloned());
                    edits.push(Edit {
                        lines: place.unwrap_or(end..end),
                        text: indented(text, dash),
                    });
                }
            }
        }
        Ok(String::new())
    }
}

/// Line and indentation of a key, both from 0.
fn place(key: &Key) -> (usize, usize) {
    let from_zero = |number: u32| usize::try_from(number).unwrap_or(1).saturating_sub(1);
    (from_zero(key.at.line), from_zero(key.at.column))
}

fn is_item(line: &str) -> bool {
    let rest = line.trim_start().strip_prefix('-');
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
}

fn indented(text: &str, indent: usize) -> String {
    let margin = " ".repeat(indent);
    text.lines().map(|line| format!("{margin}{line}\n")).collect()
}

/// Reads `text` again: it has to say what the document said, with the sidecar in it.
fn check(document: &Document<'_>, workload: &Workload<'_>, sidecar: &Sidecar<'_>, text: &str) -> Result<(), Failure> {
    let strange = || workload.refuse("", NOT_IN_PLACE);
    let before = document.node.as_ref().map(Node::to_json).unwrap_or_default();
    let expected = meant(before, workload, sidecar).ok_or_else(strange)?;
    let read = yaml::documents(text).map_err(|_| strange())?;
    match read.as_slice() {
        [one] if one.to_json() == expected => Ok(()),
        _ => Err(strange()),
    }
}

/// What the document is to say.
fn meant(mut document: Json, workload: &Workload<'_>, sidecar: &Sidecar<'_>) -> Option<Json> {
    let mut pod = &mut document;
    for field in workload.kind.pod_path().split('.') {
        pod = pod.get_mut(field)?;
    }
    let pod = pod.as_object_mut()?;
    let seconds = pod.get(GRACE).and_then(Json::as_i64).unwrap_or(0);
    pod.insert(GRACE.to_owned(), seconds.max(DRAIN_SECONDS).into());
    upsert(pod, "initContainers", CONTAINER, &sidecar.container())?;
    for (name, text) in sidecar.volumes() {
        upsert(pod, "volumes", name, &text)?;
    }
    Some(document)
}

fn upsert(pod: &mut serde_json::Map<String, Json>, field: &str, name: &str, item: &str) -> Option<()> {
    let item = yaml::documents(item).ok()?.first()?.items().first()?.to_json();
    let list = pod.entry(field).or_insert_with(|| Json::Array(Vec::new()));
    if list.is_null() {
        *list = Json::Array(Vec::new());
    }
    let list = list.as_array_mut()?;
    let named = |other: &&mut Json| other.get("name").and_then(Json::as_str) == Some(name);
    match list.iter_mut().find(named) {
        Some(known) => *known = item,
        None => list.push(item),
    }
    Some(())
}
