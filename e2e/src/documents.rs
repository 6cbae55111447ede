//! Commands in documents: the fenced `sh` blocks, each marked by a comment that says which test runs it, or why none does.
//!
//! ````text
//! <!-- tested: install -->
//! ```sh
//! kubectl create namespace shop
//! ```
//! ````
//!
//! Blocks with the same mark in one document are one story: they run in order, in one shell, on a cluster (the check
//! `docs` of `e2e/run`). The other mark is `<!-- not tested: REASON -->`.

use crate::repository::Source;

/// How a reader's shell is told from other blocks.
const FENCE: &str = "```sh";
/// Reasons shorter than this say nothing.
const REASON_CHARS: usize = 12;

/// One block of commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Line of its fence, from 1.
    pub line: usize,
    /// What stands in it.
    pub text: String,
    /// Who runs it.
    pub mark: Mark,
}

/// What the comment before a block says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// It is part of this story.
    Tested(String),
    /// No test runs it, for this reason.
    NotTested(String),
    /// Nothing: somebody forgot.
    Missing,
}

/// The blocks of a document, in order.
pub fn blocks(document: &Source) -> Vec<Block> {
    let mut found = Vec::new();
    let mut mark = Mark::Missing;
    let mut lines = (1..).zip(document.text.lines());
    while let Some((line, text)) = lines.next() {
        let trimmed = text.trim();
        if trimmed == FENCE {
            let indent = text.len() - text.trim_start().len();
            let inside = lines
                .by_ref()
                .map(|(_, text)| text)
                .take_while(|text| text.trim() != "```");
            let inside: Vec<_> = inside.map(|text| text.get(indent..).unwrap_or_default()).collect();
            found.push(Block {
                line,
                text: format!("{}\n", inside.join("\n")),
                mark: std::mem::replace(&mut mark, Mark::Missing),
            });
        } else if let Some(said) = trimmed.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->")) {
            mark = read_mark(said);
        } else if !trimmed.is_empty() {
            mark = Mark::Missing;
        }
    }
    found
}

fn read_mark(said: &str) -> Mark {
    match said.split_once(": ") {
        Some(("tested", name)) => Mark::Tested(name.to_owned()),
        Some(("not tested", reason)) if reason.len() >= REASON_CHARS => Mark::NotTested(reason.to_owned()),
        Some(_) | None => Mark::Missing,
    }
}

/// The blocks of one story, one after another, each introduced by a comment with its place.
pub fn story(document: &Source, name: &str) -> String {
    let ours = blocks(document)
        .into_iter()
        .filter(|block| block.mark == Mark::Tested(name.to_owned()));
    ours.map(|block| format!("# {}:{}\n{}", document.path, block.line, block.text))
        .collect()
}

/// The stories of a document, in the order in which they begin.
pub fn stories(document: &Source) -> Vec<String> {
    let mut names = Vec::new();
    for block in blocks(document) {
        match block.mark {
            Mark::Tested(name) if !names.contains(&name) => names.push(name),
            Mark::Tested(_) | Mark::NotTested(_) | Mark::Missing => {}
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str) -> Source {
        Source {
            path: "docs/x.md".to_owned(),
            text: text.to_owned(),
        }
    }

    const TEXT: &str = "\
words

<!-- tested: install -->
```sh
one
  two
```
more words
```sh
forgotten
```
<!-- not tested: needs a registry of one's own -->

```sh
three
```
- item

  <!-- tested: install -->
  ```sh
  four
    five
  ```
```yaml
six: 6
```
<!-- not tested: no -->
```sh
seven
```
";

    #[test]
    fn a_block_belongs_to_the_mark_before_it() {
        let marks: Vec<_> = blocks(&document(TEXT))
            .into_iter()
            .map(|block| (block.line, block.mark))
            .collect();
        let tested = || Mark::Tested("install".to_owned());
        let reason = "needs a registry of one's own".to_owned();
        let expected = [
            (4, tested()),
            (9, Mark::Missing),
            (14, Mark::NotTested(reason)),
            (20, tested()),
            (28, Mark::Missing),
        ];
        assert_eq!(marks, expected);
    }

    #[test]
    fn a_story_is_its_blocks_without_their_indentation() {
        let story = story(&document(TEXT), "install");
        assert_eq!(story, "# docs/x.md:4\none\n  two\n# docs/x.md:20\nfour\n  five\n");
        assert_eq!(stories(&document(TEXT)), ["install"]);
    }
}
