//! A log of an instance: what comes through a pipe goes to a file, which is rotated between lines when it is full.
//!
//! The file and one older one (`access.log.1`) are kept, so that a log never takes more than twice its bound.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};

/// The last line of a log, for telling why an instance ended.
pub type LastLine = Arc<Mutex<String>>;

/// The longest last line that is kept.
const LAST_LINE_MAX_CHARS: usize = 300;

/// Writes lines from `pipe` to the file at `path` until the pipe ends; at most `max_bytes` to one file.
///
/// A line that cannot be written is dropped: a full disk must not stop the instance that logs.
pub async fn keep(pipe: impl AsyncRead + Unpin, path: PathBuf, max_bytes: u64, last: LastLine) {
    let mut lines = BufReader::with_capacity(64 << 10, pipe);
    let mut file = open(&path).await;
    let mut line = Vec::new();
    while let Ok(1..) = lines.read_until(b'\n', &mut line).await {
        if file
            .as_ref()
            .is_none_or(|(_, bytes)| bytes + line.len() as u64 > max_bytes)
        {
            file = rotate(&path, file).await;
        }
        if let Some((open, bytes)) = &mut file {
            *bytes += line.len() as u64;
            let _ = open.write_all(&line).await;
            // Nothing else is waiting: let readers of the file see what there is.
            if lines.buffer().is_empty() {
                let _ = open.flush().await;
            }
        }
        let text = String::from_utf8_lossy(&line);
        if !text.trim().is_empty() {
            *last.lock().unwrap_or_else(PoisonError::into_inner) =
                text.trim().chars().take(LAST_LINE_MAX_CHARS).collect();
        }
        line.clear();
    }
    if let Some((open, _)) = &mut file {
        let _ = open.flush().await;
    }
}

/// The file at `path`, to be continued, and its length.
async fn open(path: &Path) -> Option<(File, u64)> {
    let file = OpenOptions::new().create(true).append(true).open(path).await.ok()?;
    let bytes = file.metadata().await.ok()?.len();
    Some((file, bytes))
}

async fn rotate(path: &Path, full: Option<(File, u64)>) -> Option<(File, u64)> {
    if let Some((mut full, _)) = full {
        let _ = full.flush().await;
        let mut older = path.as_os_str().to_owned();
        older.push(".1");
        let _ = tokio::fs::rename(path, older).await;
    }
    open(path).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_file_is_rotated_between_lines() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("access.log");
        let last = LastLine::default();
        let lines: String = (0..10).map(|n| format!("line {n}\n")).collect();
        keep(lines.as_bytes(), path.clone(), 30, last.clone()).await;
        let text = |name: &str| std::fs::read_to_string(temp.path().join(name)).unwrap();
        assert_eq!(text("access.log.1"), "line 4\nline 5\nline 6\nline 7\n");
        assert_eq!(text("access.log"), "line 8\nline 9\n");
        assert_eq!(*last.lock().unwrap(), "line 9");
    }

    #[tokio::test]
    async fn a_file_is_continued() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("a.log");
        for text in ["one\n", "two"] {
            keep(text.as_bytes(), path.clone(), 100, LastLine::default()).await;
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), "one\ntwo");
    }
}
