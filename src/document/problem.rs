//! What is wrong in a file, and how it is shown: place, source line, caret, hint.

use std::fmt::{self, Write as _};
use std::ops::Deref;
use std::path::{Path, PathBuf};

use unicode_width::UnicodeWidthChar;

use super::tree::Place;

/// Something wrong in the file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    pub severity: ProblemSeverity,
    /// 1-based; absent for what has no place in the file.
    pub line: Option<u32>,
    /// Counted in characters.
    pub column: Option<u32>,
    /// `jobs.db-backup.pg_dump.level`
    pub path: String,
    pub message: String,
    pub hint: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemSeverity {
    Error,
    Warning,
}

impl Problem {
    /// A problem of the file or the host as a whole.
    pub fn placeless(severity: ProblemSeverity, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { severity, line: None, column: None, path: path.into(), message: message.into(), hint: None }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub fn is_error(&self) -> bool {
        self.severity == ProblemSeverity::Error
    }
}

/// Characters of the source that are never shown: they may be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mask {
    pub(crate) from: Place,
    /// The first character that may be shown again.
    pub(crate) to: Place,
}

/// The problems of one file, in the order of their places, with the source lines that they are about.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Problems {
    file: PathBuf,
    list: Vec<Problem>,
    /// Sorted by number; only the lines that are shown are kept.
    lines: Vec<(u32, SourceLine)>,
}

impl Problems {
    /// Sorts the problems, drops what is said twice, and keeps the source lines they need, with secrets blotted out.
    pub(crate) fn new(file: &Path, text: &str, mut list: Vec<Problem>, masks: &[Mask]) -> Self {
        list.sort_by(|a, b| {
            let place = |problem: &Problem| (problem.line, problem.column);
            place(a).cmp(&place(b)).then_with(|| a.message.cmp(&b.message))
        });
        list.dedup_by(|a, b| {
            a.line.is_some() && (a.line, a.column, &a.message) == (b.line, b.column, &b.message)
        });
        let mut wanted = list.iter().filter_map(|problem| problem.line).peekable();
        let mut lines = Vec::new();
        let mut masks = masks.to_vec();
        masks.sort_unstable_by_key(|mask| (mask.from.line, mask.from.column));
        let mut masks = masks.into_iter().peekable();
        // Those that reach into the line that is looked at.
        let mut near: Vec<Mask> = Vec::new();
        for (number, line) in (1..).zip(source_lines(text)) {
            while wanted.next_if(|line| *line < number).is_some() {}
            match wanted.peek() {
                None => break,
                Some(next) if *next == number => {
                    near.extend(std::iter::from_fn(|| masks.next_if(|mask| mask.from.line <= number)));
                    near.retain(|mask| mask.to.line >= number);
                    let text = masked(line, number, &near);
                    lines.push((number, SourceLine::new(text)));
                }
                Some(_) => {}
            }
        }
        Self { file: file.to_owned(), list, lines }
    }

    /// One problem about the file as a whole.
    pub fn of_file(file: &Path, message: impl Into<String>, hint: Option<String>) -> Self {
        let mut problem = Problem::placeless(ProblemSeverity::Error, "", message);
        problem.hint = hint;
        Self { file: file.to_owned(), list: vec![problem], lines: vec![] }
    }

    /// Adds what was found elsewhere than in the text (on the host).
    pub fn extend(&mut self, more: impl IntoIterator<Item = Problem>) {
        self.list.extend(more);
    }

    pub fn has_errors(&self) -> bool {
        self.list.iter().any(Problem::is_error)
    }

    /// `{"problems":[{"severity","line","column","path","message","hint"}]}`
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({ "problems": self.list })
    }
}

impl Deref for Problems {
    type Target = [Problem];

    fn deref(&self) -> &[Problem] {
        &self.list
    }
}

impl IntoIterator for Problems {
    type Item = Problem;
    type IntoIter = std::vec::IntoIter<Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}

impl fmt::Debug for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_char('\n')?;
            }
            self.show(problem, f)?;
        }
        Ok(())
    }
}

impl Problems {
    fn show(&self, problem: &Problem, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(line) = problem.line {
            write!(f, "{line}:{}:", problem.column.unwrap_or(1))?;
        }
        let word = if problem.is_error() { "error" } else { "warning" };
        write!(f, " {word}: {}", printable(&problem.message))?;
        if problem.line.is_none() && !problem.path.is_empty() {
            write!(f, " ({})", printable(&problem.path))?;
        }
        if let Some(line) = problem.line
            && let Ok(index) = self.lines.binary_search_by_key(&line, |(number, _)| *number)
        {
            let (shown, caret) = excerpt(&self.lines[index].1, problem.column.unwrap_or(1) as usize);
            write!(f, "\n    {shown}\n    {caret}^")?;
        }
        if let Some(hint) = &problem.hint {
            write!(f, "\n  hint: {}", printable(hint))?;
        }
        Ok(())
    }
}

/// A line in which any column is found quickly: a table may be one line of megabytes with a problem in each word.
#[derive(Clone, PartialEq, Eq)]
struct SourceLine {
    text: String,
    /// Where each [`SourceLine::STRIDE`]th character begins.
    marks: Box<[usize]>,
    /// In characters.
    length: usize,
}

impl SourceLine {
    const STRIDE: usize = 256;

    fn new(text: String) -> Self {
        let marks = text.char_indices().step_by(Self::STRIDE).map(|(at, _)| at).collect();
        Self { marks, length: text.chars().count(), text }
    }

    /// The characters from the one with this number on; none behind the end.
    fn from(&self, number: usize) -> impl Iterator<Item = char> {
        let mark = self.marks.get(number / Self::STRIDE).copied().unwrap_or(self.text.len());
        self.text[mark..].chars().skip(number % Self::STRIDE)
    }
}

/// The part of a line around a column, and the blanks that bring a caret under it.
fn excerpt(line: &SourceLine, column: usize) -> (String, String) {
    const BEFORE: usize = 100;
    const LENGTH: usize = 160;
    let start = column.saturating_sub(BEFORE + 1);
    let (mut shown, mut caret) = (String::new(), String::new());
    if start > 0 {
        shown.push('…');
        caret.push(' ');
    }
    for (index, letter) in (start..).zip(line.from(start).take(LENGTH)) {
        // A control character would reach the terminal as a command.
        let letter = if letter.is_control() && letter != '\t' { '\u{fffd}' } else { letter };
        shown.push(letter);
        if index + 1 < column {
            match letter {
                '\t' => caret.push('\t'),
                _ => caret.extend(std::iter::repeat_n(' ', letter.width().unwrap_or(0))),
            }
        }
    }
    if start + LENGTH < line.length {
        shown.push('…');
    }
    // A problem after the end of the line (an unclosed quote) still gets its caret.
    caret.extend(std::iter::repeat_n(' ', column.saturating_sub(line.length + 1).min(LENGTH)));
    (shown, caret)
}

/// The lines of a text as YAML counts them: one ends with a carriage return alone as well, which is how a secret once
/// stood in a line that was shown for another.
pub(super) fn source_lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(at) = text.find(['\n', '\r']) else { return rest.take() };
        let end = if text[at..].starts_with("\r\n") { at + 2 } else { at + 1 };
        rest = Some(&text[end..]);
        Some(&text[..at])
    })
}

/// What the file or the system says may hold control characters, and messages stand on one line.
fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

fn masked(line: &str, number: u32, masks: &[Mask]) -> String {
    let mut letters: Vec<char> = line.chars().collect();
    for mask in masks {
        let start = if number == mask.from.line { mask.from.column as usize - 1 } else { 0 };
        let end = if number == mask.to.line { mask.to.column as usize - 1 } else { letters.len() };
        for letter in letters.iter_mut().take(end).skip(start) {
            *letter = '*';
        }
    }
    letters.into_iter().collect()
}
