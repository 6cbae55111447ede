//! The access log: one JSON object a line, gathered by each worker and written by one thread of its own.
//!
//! A slow or broken sink costs lines, which are counted, and never a request's time. Query strings are not logged:
//! they carry tokens and personal data more often than anything that helps.

use std::cell::{Cell, RefCell};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use sluice_model::limits::{ACCESS_LOG_CHUNK_BYTES, ACCESS_LOG_QUEUE_CHUNKS};

use super::counters::WorkerCounters;

/// Where the access log goes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Target {
    /// Nowhere.
    #[default]
    Off,
    /// Standard output.
    Stdout,
    /// The end of a file.
    File(PathBuf),
}

impl FromStr for Target {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "off" => Self::Off,
            "stdout" | "-" => Self::Stdout,
            path => Self::File(path.into()),
        })
    }
}

#[derive(Debug)]
struct Chunk {
    bytes: Vec<u8>,
    lines: u64,
}

/// A worker's way to the writer. Clones lead to the same one; none: there is no log.
#[derive(Clone, Debug)]
pub struct Sink(Option<SyncSender<Chunk>>);

/// The thread that writes. It ends when every sink is gone.
#[derive(Debug)]
pub struct Writer(Option<JoinHandle<()>>);

/// Opens the target and starts its writer.
pub fn open(target: &Target) -> std::io::Result<(Sink, Writer)> {
    let output: Box<dyn Write + Send> = match target {
        Target::Off => return Ok((Sink(None), Writer(None))),
        Target::Stdout => Box::new(std::io::stdout()),
        Target::File(path) => Box::new(OpenOptions::new().create(true).append(true).open(path)?),
    };
    open_to(output)
}

/// A log that goes to `output`.
pub(crate) fn open_to(output: Box<dyn Write + Send>) -> std::io::Result<(Sink, Writer)> {
    let (sender, receiver) = sync_channel(ACCESS_LOG_QUEUE_CHUNKS);
    let thread = std::thread::Builder::new()
        .name("access-log".into())
        .spawn(move || write_all(output, &receiver))?;
    Ok((Sink(Some(sender)), Writer(Some(thread))))
}

fn write_all(mut output: Box<dyn Write + Send>, chunks: &Receiver<Chunk>) {
    let mut broken = Health::Good;
    while let Ok(chunk) = chunks.recv() {
        let written = output.write_all(&chunk.bytes).and_then(|()| output.flush());
        match (written, broken) {
            (Ok(()), _) => broken = Health::Good,
            (Err(error), Health::Good) => {
                tracing::warn!(%error, lines = chunk.lines, "the access log cannot be written; its lines are lost until it can");
                broken = Health::Broken;
            }
            (Err(_), Health::Broken) => {}
        }
    }
}

#[derive(Clone, Copy)]
enum Health {
    Good,
    Broken,
}

impl Writer {
    /// Waits until everything is written. Every sink must be gone.
    pub fn finish(mut self) {
        if let Some(thread) = self.0.take() {
            // A panic of the writer has been printed already.
            let _ = thread.join();
        }
    }
}

/// A worker's lines that are not handed over yet.
pub struct Buffer {
    sink: Sink,
    bytes: RefCell<Vec<u8>>,
    lines: Cell<u64>,
}

impl Buffer {
    /// An empty one.
    pub fn new(sink: Sink) -> Self {
        Self {
            sink,
            bytes: RefCell::default(),
            lines: Cell::new(0),
        }
    }

    /// Writes one line by `write`, unless there is no log.
    pub fn line(&self, counters: &WorkerCounters, write: impl FnOnce(&mut Line<'_>)) {
        if self.sink.0.is_none() {
            return;
        }
        let full = {
            let mut bytes = self.bytes.borrow_mut();
            if bytes.capacity() == 0 {
                bytes.reserve(ACCESS_LOG_CHUNK_BYTES + 4096);
            }
            bytes.push(b'{');
            write(&mut Line {
                bytes: &mut bytes,
                first: true,
            });
            bytes.extend_from_slice(b"}\n");
            bytes.len() >= ACCESS_LOG_CHUNK_BYTES
        };
        self.lines.set(self.lines.get().saturating_add(1));
        if full {
            self.flush(counters);
        }
    }

    /// Hands the lines over, or drops and counts them if the writer does not keep up.
    pub fn flush(&self, counters: &WorkerCounters) {
        let Some(sender) = &self.sink.0 else { return };
        let bytes = std::mem::take(&mut *self.bytes.borrow_mut());
        let lines = self.lines.replace(0);
        if bytes.is_empty() {
            return;
        }
        match sender.try_send(Chunk { bytes, lines }) {
            Ok(()) => {}
            Err(TrySendError::Full(chunk) | TrySendError::Disconnected(chunk)) => {
                counters.log_lines_dropped.add(chunk.lines);
            }
        }
    }
}

/// One JSON object being written.
pub struct Line<'a> {
    bytes: &'a mut Vec<u8>,
    first: bool,
}

impl Line<'_> {
    fn key(&mut self, key: &'static str) {
        if !std::mem::take(&mut self.first) {
            self.bytes.push(b',');
        }
        self.bytes.push(b'"');
        self.bytes.extend_from_slice(key.as_bytes());
        self.bytes.extend_from_slice(b"\":");
    }

    /// A text.
    pub fn text(&mut self, key: &'static str, text: &[u8]) {
        self.key(key);
        self.bytes.push(b'"');
        escape(self.bytes, text);
        self.bytes.push(b'"');
    }

    /// A number.
    pub fn number(&mut self, key: &'static str, number: u64) {
        self.key(key);
        digits(self.bytes, number, 1);
    }

    /// Microseconds, written as milliseconds with three decimals.
    pub fn millis(&mut self, key: &'static str, micros: u64) {
        self.key(key);
        digits(self.bytes, micros / 1000, 1);
        self.bytes.push(b'.');
        digits(self.bytes, micros % 1000, 3);
    }

    /// A moment, in RFC 3339 with microseconds.
    pub fn time(&mut self, key: &'static str, time: SystemTime) {
        self.key(key);
        self.bytes.push(b'"');
        rfc3339(self.bytes, time);
        self.bytes.push(b'"');
    }
}

/// `number` in decimal with at least `width` digits.
fn digits(bytes: &mut Vec<u8>, mut number: u64, width: usize) {
    let mut text = [b'0'; 20];
    let mut used = 0_usize;
    for place in text.iter_mut().rev() {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
        used = used.saturating_add(1);
        if number == 0 && used >= width {
            break;
        }
    }
    bytes.extend(text.iter().skip(text.len().saturating_sub(used)));
}

/// JSON's escapes; bytes that are not UTF-8 become U+FFFD.
fn escape(bytes: &mut Vec<u8>, text: &[u8]) {
    if text
        .iter()
        .all(|b| matches!(b, 0x20..=0x7e) && *b != b'"' && *b != b'\\')
    {
        bytes.extend_from_slice(text);
        return;
    }
    for c in String::from_utf8_lossy(text).chars() {
        match c {
            '"' => bytes.extend_from_slice(b"\\\""),
            '\\' => bytes.extend_from_slice(b"\\\\"),
            c if u32::from(c) < 0x20 || c == '\u{7f}' => {
                let hex = |nibble: u32| char::from_digit(nibble, 16).map_or(b'0', |c| c as u8);
                let code = u32::from(c);
                bytes.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(code >> 4), hex(code & 15)]);
            }
            c => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Days to a date as in Howard Hinnant's "chrono-compatible low-level date algorithms".
fn rfc3339(bytes: &mut Vec<u8>, time: SystemTime) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let parts = [
        (year, 4, b'-'),
        (month, 2, b'-'),
        (day, 2, b'T'),
        (seconds / 3600, 2, b':'),
        (seconds / 60 % 60, 2, b':'),
        (seconds % 60, 2, b'.'),
        (u64::from(since.subsec_micros()), 6, b'Z'),
    ];
    for (number, width, after) in parts {
        digits(bytes, number, width);
        bytes.push(after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_are_json_whatever_is_in_them() {
        let output = Shared::default();
        let (sink, writer) = open_to(Box::new(output.clone())).unwrap();
        let counters = WorkerCounters::new(2);
        let buffer = Buffer::new(sink);
        buffer.line(&counters, |line| {
            line.time("timestamp", UNIX_EPOCH + Duration::from_micros(1_795_464_421_000_042));
            line.text("path", b"/a\"b\\c\n\xff\x01\xc3\xa4");
            line.number("status", 200);
            line.millis("duration_ms", 1_002_034);
        });
        buffer.flush(&counters);
        drop(buffer);
        writer.finish();
        let text = String::from_utf8(output.0.lock().unwrap().clone()).unwrap();
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["timestamp"], "2026-11-23T20:07:01.000042Z");
        assert_eq!(line["path"], "/a\"b\\c\n\u{fffd}\u{1}\u{e4}");
        assert_eq!((&line["status"], &line["duration_ms"]), (&200.into(), &1002.034.into()));
    }

    #[test]
    fn dates() {
        let check = |seconds: u64, expected: &str| {
            let mut bytes = vec![];
            rfc3339(&mut bytes, UNIX_EPOCH + Duration::from_secs(seconds));
            assert_eq!(String::from_utf8(bytes).unwrap(), expected);
        };
        check(0, "1970-01-01T00:00:00.000000Z");
        check(951_782_400, "2000-02-29T00:00:00.000000Z");
        check(4_107_542_399, "2100-02-28T23:59:59.000000Z");
        check(4_107_542_400, "2100-03-01T00:00:00.000000Z");
    }

    #[test]
    fn a_stuck_sink_costs_lines_and_no_time() {
        struct Stuck(std::sync::mpsc::Receiver<()>);
        impl Write for Stuck {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                let _ = self.0.recv();
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let (release, gate) = std::sync::mpsc::channel();
        let (sink, writer) = open_to(Box::new(Stuck(gate))).unwrap();
        let counters = WorkerCounters::new(2);
        let buffer = Buffer::new(sink);
        for _ in 0..ACCESS_LOG_QUEUE_CHUNKS + 10 {
            buffer.line(&counters, |line| line.number("n", 1));
            buffer.flush(&counters);
        }
        let dropped = counters.log_lines_dropped.get();
        assert!((9..=10).contains(&dropped), "{dropped}");
        drop((buffer, release));
        writer.finish();
    }
}
