//! YAML text as a tree in which every key and value knows its place.
//!
//! Owns the limits that keep a hostile or broken file from costing time or memory. Knows nothing of what the values
//! mean.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_saphyr::granit_parser::{self, ErrorKind, Event, Marker, Parser, ScalarStyle, ScanError};

use super::problem::{Mask, Problem, ProblemSeverity};
use super::secrecy::{mask_secrets, mask_text, tells};

/// Values of one document, aliases counted as what they stand for. 10 000 jobs with all their policies are about half.
pub(super) const MAX_VALUES: usize = 500_000;
const MAX_DEPTH: usize = 48;

/// Where something begins: 1-based, in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct Node<'t> {
    pub(crate) place: Place,
    /// Just after a scalar; of a collection, its beginning.
    pub(crate) end: Place,
    /// Where it begins in the text, in bytes.
    offset: usize,
    pub(crate) value: Value<'t>,
}

#[derive(Clone, Debug)]
pub(crate) enum Value<'t> {
    /// Without quotes: may mean a number, a boolean or nothing.
    Plain(Cow<'t, str>),
    Text(Cow<'t, str>),
    List(Vec<Node<'t>>),
    Map(Vec<Entry<'t>>),
}

#[derive(Clone, Debug)]
pub(crate) struct Entry<'t> {
    pub(crate) key: Cow<'t, str>,
    pub(crate) place: Place,
    pub(crate) node: Node<'t>,
}

/// What a scalar without quotes means (YAML 1.2, core schema).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Plain {
    Nothing,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text,
}

/// What reading the text gave: the root, absent where the text is no YAML or empty, and what is wrong so far.
pub(crate) struct Parsed<'t> {
    pub(crate) root: Option<Node<'t>>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) masks: Vec<Mask>,
}

pub(crate) fn parse(text: &str) -> Parsed<'_> {
    let mut options = granit_parser::options! {
        emit_unresolved_aliases: true,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    options.set_emit_comments(false);
    let mut builder = Builder {
        text,
        parser: Parser::new_from_str_with_options(text, options),
        values: 0,
        anchors: HashMap::new(),
        way: vec![],
        problems: vec![],
        masks: vec![],
    };
    let root = match builder.document() {
        Ok(root) => root,
        Err(stop) => {
            builder.problems.push(stop.0);
            None
        }
    };
    let Builder { problems, mut masks, .. } = builder;
    if root.is_none() {
        // Without a tree nobody knows which values are secrets.
        for line in problems.iter().filter_map(|problem| problem.line) {
            mask_text(text, line, &mut masks);
        }
    }
    Parsed { root, problems, masks }
}

impl Node<'_> {
    pub(crate) fn get(&self, key: &str) -> Option<&Entry<'_>> {
        let Value::Map(entries) = &self.value else { return None };
        entries.iter().find(|entry| entry.key == key)
    }

    pub(crate) fn is_nothing(&self) -> bool {
        matches!(&self.value, Value::Plain(text) if plain(text) == Plain::Nothing)
    }

    /// The place of a byte of this scalar's text; its beginning where escapes or folding make that unclear.
    pub(crate) fn place_within(&self, source: &str, at: usize) -> Place {
        let (Value::Plain(text) | Value::Text(text)) = &self.value else { return self.place };
        let Some(raw) = source.get(self.offset..) else { return self.place };
        let quote = usize::from(raw.starts_with(['"', '\'']) && matches!(self.value, Value::Text(_)));
        let Some(before) = text.get(..at) else { return self.place };
        if raw.get(quote..).is_none_or(|raw| !raw.starts_with(&**text)) || before.contains('\n') {
            return self.place;
        }
        let characters = u32::try_from(quote + before.chars().count()).unwrap_or(0);
        Place { line: self.place.line, column: self.place.column + characters }
    }

    /// For messages: what this is.
    pub(crate) fn found(&self) -> String {
        match &self.value {
            Value::Plain(text) => match plain(text) {
                Plain::Nothing => "nothing".into(),
                Plain::Bool(_) => format!("the boolean {text}"),
                Plain::Integer(_) | Plain::Float(_) => format!("the number {text}"),
                Plain::Text => format!("the text `{}`", shortened(text)),
            },
            Value::Text(text) => format!("the text `{}`", shortened(text)),
            Value::List(_) => "a list".into(),
            Value::Map(_) => "a map".into(),
        }
    }
}

pub(crate) fn shortened(text: &str) -> String {
    const MOST: usize = 60;
    if text.chars().count() <= MOST {
        text.to_owned()
    } else {
        text.chars().take(MOST).chain(['…']).collect()
    }
}

pub(crate) fn plain(text: &str) -> Plain {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Plain::Nothing,
        "true" | "True" | "TRUE" => return Plain::Bool(true),
        "false" | "False" | "FALSE" => return Plain::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Plain::Float(f64::NAN),
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    match unsigned.bytes().next() {
        Some(b'0'..=b'9' | b'.') => {}
        _ => return Plain::Text,
    }
    let radix = |prefix: &str, base| {
        text.strip_prefix(prefix)
            .and_then(|digits| i128::from_str_radix(digits, base).ok())
            .map(Plain::Integer)
    };
    if let Some(number) = radix("0x", 16).or_else(|| radix("0o", 8)) {
        return number;
    }
    if unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().map_or(Plain::Float(f64::INFINITY), Plain::Integer);
    }
    match text.parse::<f64>() {
        Ok(number) if unsigned.bytes().all(|b| b.is_ascii_digit() || b".eE+-".contains(&b)) => {
            Plain::Float(number)
        }
        _ => Plain::Text,
    }
}

struct Builder<'t> {
    text: &'t str,
    parser: Parser<'t, granit_parser::StrInput<'t>>,
    values: usize,
    /// A finished node and how many values it holds; `None` while it is still open.
    anchors: HashMap<usize, Option<(Node<'t>, usize)>>,
    /// The keys that lead to where the parser stands.
    way: Vec<Cow<'t, str>>,
    problems: Vec<Problem>,
    masks: Vec<Mask>,
}

#[derive(Clone, Copy, Default)]
struct Span {
    place: Place,
    end: Place,
    offset: usize,
}

/// Nothing after this can be read.
struct Stop(Problem);

impl<'t> Builder<'t> {
    fn document(&mut self) -> Result<Option<Node<'t>>, Stop> {
        let mut root = None;
        let mut documents = 0;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::DocumentStart(..) => {
                    documents += 1;
                    if documents > 1 {
                        return Err(stop(
                            span.place,
                            "a second document begins here: the file must hold one",
                            None,
                        ));
                    }
                }
                Event::StreamStart | Event::DocumentEnd => {}
                event => root = Some(self.node(event, span, 0)?),
            }
        }
        Ok(root)
    }

    fn next(&mut self) -> Result<(Event<'t>, Span), Stop> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => {
                let place = place_of(&span.start);
                let offset = span.start.byte_offset().unwrap_or(self.text.len());
                Ok((event, Span { place, end: place_of(&span.end), offset }))
            }
            Some(Err(error)) => Err(self.scan_error(&error)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Node<'t>, Stop> {
        let place = span.place;
        self.count(1, place)?;
        if depth > MAX_DEPTH {
            return Err(stop(place, format!("nested more than {MAX_DEPTH} levels deep"), None));
        }
        let before = self.values;
        if let Some(anchor) = event.anchor_id() {
            self.anchors.insert(anchor, None);
        }
        let anchor = event.anchor_id();
        let mut forced_text = false;
        if let Some(tag) = event.tag() {
            forced_text = tag.is_yaml_core_schema_tag("str");
            if !forced_text {
                let message = format!("tags have no meaning here: `{}`", shortened(&tag.original()));
                self.problems.push(problem(place, "", message, Some("remove it".into())));
            }
        }
        let value = match event {
            Event::Scalar(text, ScalarStyle::Plain, ..) if !forced_text => Value::Plain(text),
            Event::Scalar(text, ..) => Value::Text(text),
            Event::SequenceStart(..) => self.list(depth)?,
            Event::MappingStart(..) => self.map(depth)?,
            Event::Alias(target) => return self.alias(target, place),
            Event::UnresolvedAlias(name) => {
                let message = format!("`*{name}` stands for nothing: no `&{name}` comes before it");
                return Err(stop(place, message, self.quote_hint(place)));
            }
            _ => return Err(stop(place, "this is not a value", None)),
        };
        let end = if matches!(value, Value::Plain(_) | Value::Text(_)) { span.end } else { place };
        let node = Node { place, end, offset: span.offset, value };
        if let Some(anchor) = anchor {
            self.anchors.insert(anchor, Some((node.clone(), self.values - before + 1)));
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Value<'t>, Stop> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::SequenceEnd {
                return Ok(Value::List(items));
            }
            items.push(self.node(event, span, depth + 1)?);
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value<'t>, Stop> {
        let mut entries: Vec<Entry<'t>> = Vec::new();
        // Looking back through a small map is cheaper than hashing; the map of 10 000 jobs is hashed.
        let mut seen: HashMap<Cow<'t, str>, u32> = HashMap::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(Value::Map(entries));
            }
            let place = span.place;
            let key = match event {
                Event::Scalar(text, ..) => Some(text),
                event => {
                    self.node(event, span, depth + 1)?;
                    None
                }
            };
            let (event, value_span) = self.next()?;
            self.way.push(key.clone().unwrap_or_default());
            let node = self.node(event, value_span, depth + 1);
            self.way.pop();
            let mut node = node?;
            if node.is_nothing() && node.place == node.end {
                // Nothing is nowhere: the key is what a person looks for.
                node.place = place;
                node.end = place;
            }
            let Some(key) = key else {
                self.problems.push(problem(place, "", "a key must be a word", None));
                continue;
            };
            let first = if entries.len() < 16 {
                entries.iter().find(|entry| entry.key == key).map(|entry| entry.place.line)
            } else {
                if seen.is_empty() {
                    seen.extend(entries.iter().map(|entry| (entry.key.clone(), entry.place.line)));
                }
                seen.get(&key).copied()
            };
            if let Some(line) = first {
                let message =
                    format!("`{}` is here a second time: the first is in line {line}", shortened(&key));
                let path: Vec<&str> = self.way.iter().map(|key| &**key).chain([&*key]).collect();
                let hint = Some("remove one, or rename it".to_owned());
                self.problems.push(problem(place, &path.join("."), message, hint));
                let telling = path.iter().copied().find(|key| tells(key)).unwrap_or(&key);
                mask_secrets(telling, &node, &mut self.masks);
                continue;
            }
            if !seen.is_empty() {
                seen.insert(key.clone(), place.line);
            }
            entries.push(Entry { key, place, node });
        }
    }

    fn alias(&mut self, target: usize, place: Place) -> Result<Node<'t>, Stop> {
        let Some(Some((_, size))) = self.anchors.get(&target) else {
            return Err(stop(place, "an alias inside of what it stands for", None));
        };
        // Counted before it is copied: this is what an alias bomb runs into.
        self.count(*size, place)?;
        match self.anchors.get(&target) {
            Some(Some((node, _))) => Ok(node.clone()),
            _ => Err(stop(place, "an alias inside of what it stands for", None)),
        }
    }

    fn count(&mut self, more: usize, place: Place) -> Result<(), Stop> {
        self.values = self.values.saturating_add(more);
        if self.values <= MAX_VALUES {
            return Ok(());
        }
        let message =
            format!("the file holds more than {MAX_VALUES} values (aliases counted as what they stand for)");
        Err(stop(place, message, Some("is this the right file?".into())))
    }

    fn scan_error(&self, error: &ScanError) -> Stop {
        let place = place_of(error.marker());
        if let Some(place) = self.tab_near(place.line) {
            return stop(place, "a tab is used for indentation: YAML wants spaces", None);
        }
        match error.kind() {
            ErrorKind::RecursionLimitExceeded => {
                stop(place, format!("nested more than {MAX_DEPTH} levels deep"), None)
            }
            _ => stop(place, format!("this is not YAML: {}", error.info()), self.quote_hint(place)),
        }
    }

    /// The parser stumbles over a tab with many different words, in its line or at the end of the line before.
    fn tab_near(&self, line: u32) -> Option<Place> {
        (line..).zip(self.text.split('\n').skip((line as usize).checked_sub(1)?)).take(2).find_map(
            |(line, text)| {
                let blanks = text
                    .chars()
                    .take_while(|letter| letter.is_whitespace())
                    .position(|letter| letter == '\t')?;
                Some(Place { line, column: u32::try_from(blanks).ok()?.saturating_add(1) })
            },
        )
    }

    /// What crontab users trip over: `*`, `@` and `%` can't begin a text without quotes.
    fn quote_hint(&self, place: Place) -> Option<String> {
        let line = self.text.lines().nth((place.line as usize).checked_sub(1)?)?;
        let (_, value) = line.split_once(": ").or_else(|| line.split_once("- "))?;
        let value = value.trim();
        let begins = value.starts_with(['*', '@', '%', '`', '!', '&']);
        begins.then(|| format!("write it in quotes: \"{}\"", shortened(value)))
    }
}

fn place_of(marker: &Marker) -> Place {
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Place { line: number(marker.line()), column: number(marker.col()).saturating_add(1) }
}

fn problem(place: Place, path: &str, message: impl Into<String>, hint: Option<String>) -> Problem {
    Problem {
        severity: ProblemSeverity::Error,
        line: Some(place.line),
        column: Some(place.column),
        path: path.to_owned(),
        message: message.into(),
        hint,
    }
}

fn stop(place: Place, message: impl Into<String>, hint: Option<String>) -> Stop {
    Stop(problem(place, "", message, hint))
}
