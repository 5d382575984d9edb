//! Standard output is data, messages go to standard error; colour only where a person looks.

use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use serde::Serialize;

/// Where data goes: buffered, so flush before waiting for anything.
pub type Data = BufWriter<StdoutLock<'static>>;

pub fn data() -> Data {
    BufWriter::with_capacity(64 * 1024, io::stdout().lock())
}

/// One JSON document, with a line end.
///
/// # Errors
/// Where standard output can't be written.
pub fn json<T: Serialize>(value: &T) -> io::Result<()> {
    let mut out = data();
    serde_json::to_writer_pretty(&mut out, value)?;
    out.write_all(b"\n")?;
    out.flush()
}

/// A message for people.
pub fn message(text: impl Display) {
    // With standard error gone there is nobody left to tell.
    let _ = writeln!(io::stderr(), "{text}");
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    Red,
    Green,
    Yellow,
    Dim,
    Bold,
}

/// Colours text, or doesn't.
#[derive(Clone, Copy, Debug)]
pub struct Paint(bool);

impl Paint {
    /// Never any colour.
    pub fn plain() -> Self {
        Self(false)
    }

    pub fn stdout() -> Self {
        Self(wanted() && io::stdout().is_terminal())
    }

    pub fn stderr() -> Self {
        Self(wanted() && io::stderr().is_terminal())
    }

    pub fn on(self, colour: Colour, text: &str) -> String {
        let code = match colour {
            Colour::Red => 31,
            Colour::Green => 32,
            Colour::Yellow => 33,
            Colour::Dim => 2,
            Colour::Bold => 1,
        };
        if self.0 && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn wanted() -> bool {
    // <https://no-color.org>: present and not empty.
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    set("NO_COLOR").is_none() && set("TERM").is_none_or(|term| term != "dumb")
}

/// Columns as wide as their widest cell; the last is as long as it likes.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<(String, Option<Colour>)>>,
}

impl Table {
    pub fn row<const N: usize>(&mut self, cells: [(String, Option<Colour>); N]) {
        self.rows.push(cells.into());
    }

    /// # Errors
    /// Where `out` can't be written.
    pub fn print(&self, out: &mut dyn Write, paint: Paint) -> io::Result<()> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|(text, _)| text.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for ((text, colour), width) in row.iter().zip(&widths) {
                let pad = width - text.chars().count();
                line.push_str(&colour.map_or_else(|| text.clone(), |colour| paint.on(colour, text)));
                line.extend(std::iter::repeat_n(' ', pad + 2));
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_whatever_the_colour() {
        let mut table = Table::default();
        table.row([("JOB".into(), Some(Colour::Bold)), ("NEXT".into(), None)]);
        table.row([("été".into(), None), (String::new(), None)]);
        table.row([("backup".into(), Some(Colour::Red)), ("today".into(), None)]);
        let check = |paint: Paint, expected: &str| {
            let mut out = Vec::new();
            table.print(&mut out, paint).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        check(Paint(false), "JOB     NEXT\nété\nbackup  today\n");
        check(Paint(true), "\x1b[1mJOB\x1b[0m     NEXT\nété\n\x1b[31mbackup\x1b[0m  today\n");
    }
}
