//! Counts the rows of each table in a plain dump as it passes.
//!
//! A small lexer of what psql would see: `COPY … FROM stdin;` counts only as a statement of its own, never inside
//! a function body, a string or a comment, and the rows are the lines up to `\.`. Chunks may be cut anywhere.
//! Never keeps more than one statement's head in memory.

mod copied;
mod order;

use memchr::{memchr, memchr_iter, memmem, memrchr};
use serde::{Deserialize, Serialize};

use self::copied::copied_table;
pub(super) use self::copied::readable;
use self::order::Order;

/// The rows of one table, by its real (unquoted) name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableRows {
    pub schema: String,
    pub name: String,
    pub rows: u64,
}

/// What a whole stream held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// In the order of the stream.
    pub tables: Vec<TableRows>,
    /// pg_dump's closing comment came, and nothing was left open.
    pub complete: bool,
    /// What no dump holds that pg_dump wrote and nobody changed, the first of it.
    pub wrong: Option<String>,
}

/// Statements are remembered up to this length: a COPY names at most 1600 columns of at most 63 bytes, which may
/// all be quotes to be doubled.
const LONGEST_STATEMENT: usize = 1600 * 132;
const LONGEST_COMMENT: usize = 80;
/// A command of psql's: `\restrict` and its key of 63 letters are the longest that are looked at.
const LONGEST_COMMAND: usize = 160;

pub struct RowCounter {
    state: State,
    /// The current statement without comments, up to [`LONGEST_STATEMENT`] bytes when it may be a COPY.
    statement: Vec<u8>,
    comment: Vec<u8>,
    /// The byte before the current one, and the one before that, outside of literals.
    previous: [u8; 2],
    /// `standard_conforming_strings` is off: a backslash escapes in plain strings too.
    escapes: bool,
    order: Order,
    end_of_data: memmem::Finder<'static>,
    tables: Vec<TableRows>,
}

enum State {
    /// Between or within statements.
    Plain,
    Quoted {
        quote: u8,
        escapes: bool,
        /// The last byte was an escaping backslash.
        escaped: bool,
    },
    /// Within `$tag`, which is a dollar quote only if a `$` ends it.
    Tag(Vec<u8>),
    Dollar {
        tag: Vec<u8>,
        matched: usize,
    },
    LineComment,
    BlockComment {
        depth: u32,
        previous: u8,
    },
    /// After `COPY … FROM stdin;`, up to the end of its line.
    CopyHead,
    Data(Line),
}

/// What the current data line holds so far.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    Start,
    Backslash,
    BackslashDot,
    Other,
}

impl Default for RowCounter {
    fn default() -> Self {
        Self {
            state: State::Plain,
            statement: Vec::new(),
            comment: Vec::new(),
            previous: [0; 2],
            escapes: false,
            order: Order::default(),
            end_of_data: memmem::Finder::new(b"\n\\.\n"),
            tables: Vec::new(),
        }
    }
}

impl RowCounter {
    pub fn feed(&mut self, mut chunk: &[u8]) {
        self.order.pass(chunk);
        while !chunk.is_empty() {
            let used = match &mut self.state {
                State::Data(line) => {
                    let line = *line;
                    self.data(line, chunk)
                }
                State::Plain => self.plain(chunk),
                State::Quoted { .. } => self.quoted(chunk),
                State::Tag(_) => self.tag(chunk),
                State::Dollar { .. } => self.dollar(chunk),
                State::LineComment => self.line_comment(chunk),
                State::BlockComment { .. } => self.block_comment(chunk),
                State::CopyHead => self.copy_head(chunk),
            };
            chunk = &chunk[used..];
        }
    }

    pub fn finish(mut self) -> Counted {
        // psql obeys a last line that has no end.
        if matches!(self.state, State::Plain) && self.statement.starts_with(b"\\") {
            self.order.command(&self.statement);
            self.statement.clear();
        }
        let nothing_open = matches!(self.state, State::Plain) && self.statement.is_empty();
        let complete = self.order.closed() && nothing_open;
        Counted { tables: self.tables, complete, wrong: self.order.end(nothing_open) }
    }

    /// Rows are lines; no line of data is `\.`, since a backslash in data is doubled (COPY, "Text Format").
    fn data(&mut self, mut line: Line, chunk: &[u8]) -> usize {
        let mut at = 0;
        // The rest of a line that an earlier chunk began, byte by byte while it may still be `\.`.
        while line != Line::Other {
            let Some(&byte) = chunk.get(at) else {
                self.state = State::Data(line);
                return at;
            };
            line = match (line, byte) {
                (Line::BackslashDot, b'\n') => {
                    self.state = State::Plain;
                    return at + 1;
                }
                // An empty line is a row of a table without columns, or of one empty text.
                (_, b'\n') => break,
                (Line::Start, b'\\') => Line::Backslash,
                (Line::Backslash, b'.') => Line::BackslashDot,
                _ => Line::Other,
            };
            at += 1;
        }
        let rest = &chunk[at..];
        if let Some(found) = self.end_of_data.find(rest) {
            self.add_rows(memchr_iter(b'\n', &rest[..=found]).count());
            self.state = State::Plain;
            return at + found + 4;
        }
        self.add_rows(memchr_iter(b'\n', rest).count());
        self.state = State::Data(match memrchr(b'\n', rest) {
            None => Line::Other,
            Some(newline) => match &rest[newline + 1..] {
                b"" => Line::Start,
                b"\\" => Line::Backslash,
                b"\\." => Line::BackslashDot,
                _ => Line::Other,
            },
        });
        chunk.len()
    }

    fn add_rows(&mut self, count: usize) {
        if let Some(table) = self.tables.last_mut() {
            table.rows += count as u64;
        }
    }

    fn plain(&mut self, chunk: &[u8]) -> usize {
        for (at, &byte) in chunk.iter().enumerate() {
            let [last, before] = self.previous;
            match byte {
                b'\'' | b'"' => {
                    self.keep(byte);
                    let letter_e = matches!(last, b'E' | b'e') && !in_word(before);
                    let escapes = byte == b'\'' && (letter_e || self.escapes);
                    return self.enter(State::Quoted { quote: byte, escapes, escaped: false }, at + 1);
                }
                b'$' if !in_word(last) => {
                    self.keep(byte);
                    return self.enter(State::Tag(vec![b'$']), at + 1);
                }
                b'-' if last == b'-' => {
                    self.statement.pop();
                    self.comment.clear();
                    self.comment.extend_from_slice(b"--");
                    return self.enter(State::LineComment, at + 1);
                }
                b'*' if last == b'/' => {
                    self.statement.pop();
                    self.order.statement();
                    return self.enter(State::BlockComment { depth: 1, previous: 0 }, at + 1);
                }
                b';' => {
                    self.keep(byte);
                    let next = self.statement_ended();
                    return self.enter(next, at + 1);
                }
                // psql's own commands (`\restrict`, `\connect`) end with their line, not with a semicolon.
                b'\n' if self.statement.starts_with(b"\\") => {
                    self.order.command(&self.statement);
                    self.statement.clear();
                }
                _ => self.keep(byte),
            }
            self.previous = [byte, last];
        }
        chunk.len()
    }

    fn enter(&mut self, state: State, used: usize) -> usize {
        self.state = state;
        self.previous = [0; 2];
        used
    }

    /// Remembers the statement, without what comes before it.
    fn keep(&mut self, byte: u8) {
        let leading = self.statement.is_empty() && byte.is_ascii_whitespace();
        let length = self.statement.len();
        let wanted = length < 64
            || (length < LONGEST_STATEMENT && self.statement.starts_with(b"COPY "))
            || (length < LONGEST_COMMAND && self.statement.starts_with(b"\\"));
        if !leading && wanted {
            self.statement.push(byte);
        }
    }

    fn statement_ended(&mut self) -> State {
        let statement = std::mem::take(&mut self.statement);
        self.order.statement();
        if let Some(table) = copied_table(&statement) {
            self.tables.push(table);
            return State::CopyHead;
        }
        match statement.as_slice() {
            b"SET standard_conforming_strings = off;" => self.escapes = true,
            b"SET standard_conforming_strings = on;" => self.escapes = false,
            _ => {}
        }
        State::Plain
    }

    fn quoted(&mut self, chunk: &[u8]) -> usize {
        let State::Quoted { quote, escapes, escaped } = &mut self.state else { return 0 };
        let (quote, escapes) = (*quote, *escapes);
        let copying = self.statement.starts_with(b"COPY ");
        let mut at = 0;
        let end = loop {
            if at == chunk.len() {
                break None;
            }
            if std::mem::take(escaped) {
                at += 1;
                continue;
            }
            let found = if escapes {
                memchr::memchr2(quote, b'\\', &chunk[at..])
            } else {
                memchr(quote, &chunk[at..])
            };
            match found.map(|found| at + found) {
                None => break None,
                Some(found) if chunk[found] == quote => break Some(found),
                Some(found) => {
                    *escaped = true;
                    at = found + 1;
                }
            }
        };
        // A doubled quote simply opens again: no state is needed for it.
        let used = end.map_or(chunk.len(), |end| end + 1);
        if copying {
            chunk[..used].iter().for_each(|byte| self.keep(*byte));
        }
        if end.is_some() {
            self.enter(State::Plain, used);
            // `E'a''b'` goes on as an escaping string: the second quote must not open a plain one.
            if escapes && quote == b'\'' {
                self.previous = [b'E', 0];
            }
        }
        used
    }

    fn tag(&mut self, chunk: &[u8]) -> usize {
        let State::Tag(tag) = &mut self.state else { return 0 };
        let byte = chunk[0];
        if byte == b'$' {
            tag.push(byte);
            let tag = std::mem::take(tag);
            return self.enter(State::Dollar { tag, matched: 0 }, 1);
        }
        let fits = in_word(byte) && !(tag.len() == 1 && byte.is_ascii_digit()) && tag.len() < 256;
        if fits {
            tag.push(byte);
            return 1;
        }
        // `$1` or the like: what follows is read as if nothing had been.
        self.enter(State::Plain, 0)
    }

    fn dollar(&mut self, chunk: &[u8]) -> usize {
        let State::Dollar { tag, matched } = &mut self.state else { return 0 };
        let mut at = 0;
        while at < chunk.len() {
            if *matched == 0 {
                match memchr(b'$', &chunk[at..]) {
                    None => return chunk.len(),
                    Some(found) => at += found,
                }
            }
            let byte = chunk[at];
            at += 1;
            if tag[*matched] == byte {
                *matched += 1;
            } else {
                *matched = usize::from(byte == b'$');
            }
            if *matched == tag.len() {
                return self.enter(State::Plain, at);
            }
        }
        at
    }

    fn line_comment(&mut self, chunk: &[u8]) -> usize {
        let end = memchr(b'\n', chunk);
        let text = &chunk[..end.unwrap_or(chunk.len())];
        let room = LONGEST_COMMENT.saturating_sub(self.comment.len()).min(text.len());
        self.comment.extend_from_slice(&text[..room]);
        let Some(end) = end else { return chunk.len() };
        self.order.comment(&self.comment);
        self.enter(State::Plain, end + 1)
    }

    fn block_comment(&mut self, chunk: &[u8]) -> usize {
        let State::BlockComment { depth, previous } = &mut self.state else { return 0 };
        for (at, &byte) in chunk.iter().enumerate() {
            let pair = (*previous, byte);
            *previous = byte;
            match pair {
                (b'/', b'*') => *depth += 1,
                (b'*', b'/') => *depth -= 1,
                _ => continue,
            }
            *previous = 0;
            if *depth == 0 {
                return self.enter(State::Plain, at + 1);
            }
        }
        chunk.len()
    }

    fn copy_head(&mut self, chunk: &[u8]) -> usize {
        match memchr(b'\n', chunk) {
            None => chunk.len(),
            Some(newline) => self.enter(State::Data(Line::Start), newline + 1),
        }
    }
}

fn in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

#[cfg(test)]
mod tests;
