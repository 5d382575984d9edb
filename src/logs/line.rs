//! A line as text: cutting output into lines, making them harmless, writing and reading the two formats.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::ecs::{self, Source};
use super::{Format, Level, LogLine, Stream};
use crate::model::RunId;

/// Bytes of one line; a longer one is cut.
pub(super) const LIMIT: usize = 64 * 1024;

const GOES_ON: &str = " […]";
const WENT_ON: &str = "[…] ";

/// Output that waits for its line end.
#[derive(Default)]
pub(super) struct Cutter {
    rest: Vec<u8>,
    /// The piece that comes goes on with a line that was cut.
    within: bool,
}

impl Cutter {
    /// Takes a piece of output and gives each line that is whole now. Where a long line is cut depends on its
    /// bytes alone, and not on the pieces in which it came: an adopted program's output is counted in lines.
    pub(super) fn push(&mut self, mut bytes: &[u8], mut line: impl FnMut(String)) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (one, after) = bytes.split_at(end);
            bytes = &after[1..];
            if self.rest.is_empty() && one.len() <= LIMIT {
                let text = self.whole(one);
                line(text);
                continue;
            }
            self.rest.extend_from_slice(one);
            self.cut(&mut line);
            let rest = std::mem::take(&mut self.rest);
            let text = self.whole(&rest);
            line(text);
        }
        self.rest.extend_from_slice(bytes);
        self.cut(&mut line);
    }

    /// What is left, as a line.
    pub(super) fn end(&mut self) -> Option<String> {
        if self.rest.is_empty() && !self.within {
            return None;
        }
        let rest = std::mem::take(&mut self.rest);
        Some(self.whole(&rest))
    }

    fn cut(&mut self, line: &mut impl FnMut(String)) {
        while self.rest.len() > LIMIT {
            // Not within a character: one has at most three further bytes.
            let end = (LIMIT - 3..=LIMIT)
                .rev()
                .find(|end| self.rest[*end] & 0b1100_0000 != 0b1000_0000)
                .unwrap_or(LIMIT);
            let after = self.rest.split_off(end);
            let piece = std::mem::replace(&mut self.rest, after);
            line(format!("{}{}{GOES_ON}", if self.within { WENT_ON } else { "" }, harmless(&piece)));
            self.within = true;
        }
    }

    fn whole(&mut self, bytes: &[u8]) -> String {
        let text = harmless(bytes.strip_suffix(b"\r").unwrap_or(bytes));
        if std::mem::take(&mut self.within) { format!("{WENT_ON}{text}") } else { text }
    }
}

/// A text with nothing in it that ends a line, moves a cursor or reverses text: what a program said can be shown
/// on a terminal.
pub fn harmless(text: &(impl AsRef<[u8]> + ?Sized)) -> String {
    let text = String::from_utf8_lossy(text.as_ref());
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t')) || !text.chars().any(harmful) {
        return text.into_owned();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\r' => out.push_str("\\r"),
            '\n' => out.push_str("\\n"),
            c if harmful(c) && u32::from(c) < 0x100 => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c if harmful(c) => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

fn harmful(c: char) -> bool {
    (c.is_control() && c != '\t')
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What stands around the text in all lines of one run, stream and instant.
pub(super) struct Frame {
    format: Format,
    head: String,
    tail: String,
}

impl Frame {
    pub(super) fn new(
        format: Format,
        source: &Source,
        at: Timestamp,
        level: Level,
        (run, stream): (RunId, Stream),
    ) -> Self {
        let time = time_of(at);
        let (head, tail) = match format {
            Format::Text => (head_of(&time, run, stream), String::new()),
            Format::Json => (ecs::head(&time, level), source.tail(run, stream)),
        };
        Self { format, head, tail }
    }

    /// Appends a line, its end included.
    pub(super) fn put(&self, out: &mut Vec<u8>, text: &str) {
        out.extend_from_slice(self.head.as_bytes());
        match self.format {
            Format::Text => out.extend_from_slice(text.as_bytes()),
            Format::Json => ecs::put(out, text),
        }
        out.extend_from_slice(self.tail.as_bytes());
        out.push(b'\n');
    }
}

/// A line as a text log has it, in two parts: what stands before the text, and the text. Read from a file that
/// anybody may have written, so the text is made harmless again.
pub fn text_line(line: &LogLine) -> (String, String) {
    (head_of(&time_of(line.time), line.run, line.stream), harmless(&line.text))
}

fn head_of(time: &str, run: RunId, stream: Stream) -> String {
    format!("{time} {run} {:<6}| ", stream.word())
}

/// To the millisecond, always with three digits.
pub(super) fn time_of(at: Timestamp) -> String {
    format!("{at:.3}")
}

/// A line of either format, since a file may hold both after a reload; `None` for what is neither, such as
/// one that a full disk cut.
pub(super) fn decode(line: &[u8]) -> Option<LogLine> {
    let line = std::str::from_utf8(line).ok()?;
    if line.starts_with('{') {
        return ecs::decode(line);
    }
    let (run, stream, text) = head(line)?;
    let (time, _) = line.split_once(' ')?;
    Some(LogLine { time: time.parse().ok()?, run, stream, text: text.to_owned() })
}

/// The run of a line, at less cost than the whole line.
pub(super) fn run_of(line: &[u8]) -> Option<RunId> {
    if line.first() == Some(&b'{') {
        return ecs::run_of(line).or_else(|| decode(line).map(|line| line.run));
    }
    // Up to the text; a cut in the middle of a character is of no matter there.
    let start = &line[..line.len().min(64)];
    let mut words = start.split(|byte| *byte == b' ');
    words.next().filter(|time| time.last() == Some(&b'Z'))?;
    std::str::from_utf8(words.next()?).ok()?.parse().ok().map(RunId)
}

fn head(line: &str) -> Option<(RunId, Stream, &str)> {
    let (_, rest) = line.split_once(' ')?;
    let (run, rest) = rest.split_once(' ')?;
    let (stream, text) = rest.split_once("| ")?;
    let stream = match stream {
        "stdout" => Stream::Stdout,
        "stderr" => Stream::Stderr,
        "note  " => Stream::Note,
        _ => return None,
    };
    Some((RunId(run.parse().ok()?), stream, text))
}
