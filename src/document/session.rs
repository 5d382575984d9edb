//! What is known after each reading of a value: what was wrong and is left out the next time, and how a failure finds
//! its place.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt::{self, Write as _};

use serde::de::{self, Expected, Unexpected};

use super::nearest::nearest;
use super::problem::ProblemSeverity;
use super::reader::{Collected, located};
use super::secrecy::mask_secrets;
use super::tree::{Entry, Node, Place, shortened};

/// What repeated readings of one value share.
pub(super) struct Session<'s> {
    root: usize,
    beside: &'s [&'s str],
    required: fn(&str) -> Vec<String>,
    pub(super) state: RefCell<State>,
}

#[derive(Default)]
pub(super) struct State {
    /// Addresses of the values that are wrong: the next reading leaves them out.
    pub(super) skipped: HashSet<usize>,
    pub(super) found: Collected,
}

/// How a reading ends early.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) message: String,
    pub(super) hint: Option<String>,
    missing: Option<&'static str>,
    /// The problem has been noted, and the value it is about will be left out.
    placed: bool,
}

/// Where a value stands, from the root down; made a text only when there is a problem.
pub(super) struct Path<'p> {
    pub(super) parent: Option<&'p Path<'p>>,
    pub(super) segment: Segment<'p>,
}

pub(super) enum Segment<'p> {
    Key(&'p str),
    Index(usize),
}

impl<'s> Session<'s> {
    pub(super) fn new(root: &Node<'_>, beside: &'s [&'s str], required: fn(&str) -> Vec<String>) -> Self {
        Self { root: address(root), beside, required, state: RefCell::default() }
    }

    pub(super) fn begin_again(&self) {
        self.state.borrow_mut().found.references.clear();
    }

    pub(super) fn finish(self) -> Collected {
        self.state.into_inner().found
    }

    pub(super) fn is_skipped(&self, node: &Node<'_>) -> bool {
        self.state.borrow().skipped.contains(&address(node))
    }

    pub(super) fn skipped_count(&self) -> usize {
        self.state.borrow().skipped.len()
    }

    pub(super) fn problem_count(&self) -> usize {
        self.state.borrow().found.problems.len()
    }

    /// Notes a failure at the value it is about, unless it was noted deeper down.
    pub(super) fn place(&self, failed: Failed, node: &Node<'_>, key: Place, path: &Path<'_>) -> Failed {
        if failed.placed {
            return failed;
        }
        let place = if failed.missing.is_some() { key } else { node.place };
        self.note(node, place, path.to_string(), failed.message, failed.hint);
        Failed::placed()
    }

    pub(super) fn note(
        &self,
        node: &Node<'_>,
        place: Place,
        path: String,
        message: String,
        hint: Option<String>,
    ) {
        let mut state = self.state.borrow_mut();
        if state.skipped.insert(address(node)) {
            state.found.problems.push(located(ProblemSeverity::Error, place, path, message, hint));
        }
    }

    pub(super) fn unknown_keys(
        &self,
        node: &Node<'_>,
        entries: &[Entry<'_>],
        fields: &[&str],
        path: &Path<'_>,
    ) {
        let beside = if address(node) == self.root { self.beside } else { &[] };
        for entry in entries {
            if fields.contains(&&*entry.key) {
                continue;
            }
            if beside.contains(&&*entry.key) {
                self.state.borrow_mut().skipped.insert(address(&entry.node));
                continue;
            }
            let known = || fields.iter().chain(beside).copied();
            let message = format!("unknown key `{}`", shortened(&entry.key));
            let hint = unknown_hint(&entry.key, known());
            let path = Path::key(path, &entry.key).to_string();
            self.note(&entry.node, entry.place, path, message, Some(hint));
            mask_secrets(&entry.key, &entry.node, &mut self.state.borrow_mut().found.masks);
        }
    }

    /// serde says which key is missing first; the schema knows the others.
    pub(super) fn missing_keys(
        &self,
        failed: Failed,
        structure: &'static str,
        node: &Node<'_>,
        key: Place,
        path: &Path<'_>,
    ) -> Failed {
        let Some(first) = failed.missing else { return failed };
        let mut missing = (self.required)(structure);
        if !missing.iter().any(|name| name == first) {
            missing.push(first.to_owned());
        }
        // A key that is there, but wrong, is not missing.
        missing.retain(|name| node.get(name).is_none());
        let mut state = self.state.borrow_mut();
        if state.skipped.insert(address(node)) {
            for name in missing {
                let message = format!("the key `{name}` is missing");
                let path = path.to_string();
                state.found.problems.push(located(ProblemSeverity::Error, key, path, message, None));
            }
        }
        Failed::placed()
    }
}

/// `did you mean …?`, or what is allowed.
pub(crate) fn unknown_hint<'k>(key: &str, known: impl Iterator<Item = &'k str> + Clone) -> String {
    match nearest(key, known.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("allowed here: {}", known.collect::<Vec<_>>().join(", ")),
    }
}

pub(super) fn address(node: &Node<'_>) -> usize {
    std::ptr::from_ref(node).addr()
}

impl<'p> Path<'p> {
    pub(super) fn root(path: &'p str) -> Self {
        Self { parent: None, segment: Segment::Key(path) }
    }

    pub(super) fn key(parent: &'p Path<'p>, key: &'p str) -> Self {
        Self { parent: Some(parent), segment: Segment::Key(key) }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            fmt::Display::fmt(parent, f)?;
            if parent.parent.is_some() || !matches!(parent.segment, Segment::Key("")) {
                f.write_char('.')?;
            }
        }
        match self.segment {
            Segment::Key(key) => f.write_str(key),
            Segment::Index(index) => write!(f, "{index}"),
        }
    }
}

impl Failed {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, missing: None, placed: false }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn placed() -> Self {
        Self { placed: true, ..Self::new("") }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failed {}

impl de::Error for Failed {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("expected {expected}, found {}", named(found)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_variant(found: &str, expected: &'static [&'static str]) -> Self {
        let words = expected.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
        let mut failed = Self::new(format!("`{}` is not one of {words}", shortened(found)));
        failed.hint = nearest(found, expected.iter().copied()).map(|near| format!("did you mean `{near}`?"));
        failed
    }

    fn missing_field(field: &'static str) -> Self {
        Self { missing: Some(field), ..Self::new(format!("the key `{field}` is missing")) }
    }
}

fn named(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => format!("the boolean {value}"),
        Unexpected::Unsigned(value) => format!("the number {value}"),
        Unexpected::Signed(value) => format!("the number {value}"),
        Unexpected::Float(value) => format!("the number {value}"),
        Unexpected::Str(text) => format!("the text `{}`", shortened(text)),
        Unexpected::Unit | Unexpected::Option => "nothing".into(),
        Unexpected::Seq => "a list".into(),
        Unexpected::Map => "a map".into(),
        other => other.to_string(),
    }
}
