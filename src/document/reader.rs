//! Reads one value of a document as a type, again and again without what was wrong, until every problem is known.

use std::path::Path as FilePath;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::builder::parse;
use super::deserializer::ValueDeserializer;
use super::problem::{Mask, Problem, ProblemSeverity, Problems};
use super::reference::Target;
use super::secrecy::mask_secrets;
use super::session::{Path, Session};
use super::tree::{Entry, Node, Place, Value};

/// What a type can't say by itself about an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The key it is about, `a.b` for a nested one, `a.0` for the first of a list; empty: the whole.
    pub key: String,
    pub message: String,
    pub hint: Option<String>,
}

/// One value of the document and where problems with it go.
pub struct Reader<'a> {
    node: &'a Node<'a>,
    /// Of the key that holds the value.
    key: Place,
    path: String,
    collected: &'a mut Collected,
    /// How many problems were known before.
    before: usize,
}

/// What the readers of one document have found.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    pub(crate) problems: Vec<Problem>,
    pub(crate) references: Vec<Reference>,
    pub(crate) masks: Vec<Mask>,
}

impl Collected {
    /// Of an entry that nobody reads, since its key is unknown: what its name tells of is not shown.
    pub(crate) fn unread(&mut self, entry: &Entry<'_>) {
        mask_secrets(&entry.key, &entry.node, &mut self.masks);
    }
}

/// A text that names something defined elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) target: Target,
    pub(crate) text: String,
    pub(crate) place: Place,
    pub(crate) path: String,
}

/// Problems of one value beyond which the rest is not looked for.
const MOST: usize = 100;

impl<'a> Reader<'a> {
    pub(crate) fn new(entry: &'a Entry<'a>, path: String, collected: &'a mut Collected) -> Self {
        let before = collected.problems.len();
        Self { node: &entry.node, key: entry.place, path, collected, before }
    }

    pub(crate) fn of_root(node: &'a Node<'a>, collected: &'a mut Collected) -> Self {
        let before = collected.problems.len();
        Self { node, key: node.place, path: String::new(), collected, before }
    }

    /// Reads the value as `T`: every unknown key, wrong type and missing key is a problem with its place; then
    /// asks `invalid`. `None` where there was any problem.
    pub fn read<T: DeserializeOwned + JsonSchema>(&mut self, invalid: fn(&T) -> Vec<Invalid>) -> Option<T> {
        let (value, clean) = self.read_beside::<T>(&[]);
        let value = value?;
        let found = invalid(&value);
        self.invalid(&found);
        (clean && found.is_empty()).then_some(value)
    }

    /// Reads the value as the struct `T`, leaving the keys in `beside` alone. What is left after every wrong entry was
    /// dropped, and whether nothing was dropped.
    pub(crate) fn read_beside<T: DeserializeOwned + JsonSchema>(
        &mut self,
        beside: &[&str],
    ) -> (Option<T>, bool) {
        let session = Session::new(self.node, beside, required_of::<T>);
        let path = Path::root(&self.path);
        let mut known = 0;
        let value = loop {
            session.begin_again();
            let result = T::deserialize(ValueDeserializer::new(self.node, self.key, &path, &session));
            match result {
                Ok(value) => break Some(value),
                Err(failed) => session.place(failed, self.node, self.key, &path),
            };
            if session.is_skipped(self.node)
                || session.skipped_count() == known
                || session.problem_count() >= MOST
            {
                break None;
            }
            known = session.skipped_count();
        };
        let found = session.finish();
        let clean = found.problems.is_empty();
        self.collected.problems.extend(found.problems);
        self.collected.references.extend(found.references);
        self.collected.masks.extend(found.masks);
        (value, clean)
    }

    /// Notes what is wrong with the values at the keys. Not what only follows from a value that was dropped, and
    /// that was said: a `run` of the wrong type is no missing `run`.
    pub(crate) fn invalid(&mut self, found: &[Invalid]) {
        let known = self.before..self.collected.problems.len();
        for one in found {
            let (place, stands) = self.place_of(&one.key);
            let path = [self.path.as_str(), &one.key].into_iter().filter(|part| !part.is_empty());
            let path = path.collect::<Vec<_>>().join(".");
            let since = &self.collected.problems[known.clone()];
            let dropped = since.iter().any(|known| within(&known.path, &path) || within(&path, &known.path));
            if dropped || (!stands && !since.is_empty()) {
                continue;
            }
            let problem = located(ProblemSeverity::Error, place, path, &one.message, one.hint.clone());
            self.collected.problems.push(problem);
        }
    }

    /// The place of the value at `key`, or of the nearest around it; whether it is the value itself.
    fn place_of(&self, key: &str) -> (Place, bool) {
        let mut place = self.key;
        let mut node = Some(self.node);
        for segment in key.split('.').filter(|segment| !segment.is_empty()) {
            node = match node.map(|node| &node.value) {
                Some(Value::Map(entries)) => {
                    entries.iter().find(|entry| entry.key == segment).map(|entry| &entry.node)
                }
                Some(Value::List(items)) => segment.parse().ok().and_then(|index: usize| items.get(index)),
                _ => None,
            };
            place = node.map_or(place, |node| node.place);
        }
        (place, node.is_some())
    }
}

/// Whether `inner` is the path `outer` or leads on from it.
fn within(inner: &str, outer: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.') || outer.is_empty())
}

/// Reads a whole text as `T`.
///
/// # Errors
/// Every problem of the text.
pub fn from_text<T: DeserializeOwned + JsonSchema>(
    file: &FilePath,
    text: &str,
    invalid: fn(&T) -> Vec<Invalid>,
) -> Result<T, Problems> {
    let parsed = parse(text);
    let mut collected = Collected { problems: parsed.problems, masks: parsed.masks, ..Collected::default() };
    let value = parsed.root.as_ref().and_then(|root| Reader::of_root(root, &mut collected).read(invalid));
    match value {
        Some(value) if collected.problems.is_empty() => Ok(value),
        _ if collected.problems.is_empty() => Err(Problems::of_file(file, "the file is empty", None)),
        _ => Err(Problems::new(file, text, collected.problems, &collected.masks)),
    }
}

pub(crate) fn located(
    severity: ProblemSeverity,
    place: Place,
    path: impl Into<String>,
    message: impl Into<String>,
    hint: Option<String>,
) -> Problem {
    Problem {
        severity,
        line: Some(place.line),
        column: Some(place.column),
        path: path.into(),
        message: message.into(),
        hint,
    }
}

/// The keys that the struct `name`, `T` itself or one within it, can't do without. serde tells of the first only.
fn required_of<T: JsonSchema>(name: &str) -> Vec<String> {
    let schema = schemars::SchemaGenerator::default().into_root_schema_for::<T>();
    let schema = schema.as_value();
    let whole = (schema["title"] == name).then_some(schema);
    let of_struct = whole.or_else(|| schema["$defs"].get(name));
    let required = of_struct.and_then(|schema| schema["required"].as_array());
    required.into_iter().flatten().filter_map(|key| key.as_str().map(str::to_owned)).collect()
}
