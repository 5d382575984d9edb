//! From the text to the tree.
//!
//! Owns the limits that keep a hostile or broken file from costing time or memory. Knows nothing of what the values
//! mean.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_saphyr::granit_parser::{self, ErrorKind, Event, Marker, Parser, ScalarStyle, ScanError};

use super::problem::{Mask, Problem, ProblemSeverity, source_lines};
use super::secrecy::{mask_secrets, mask_text, tells};
use super::tree::{Entry, Node, Place, Value, shortened};

/// Values of one document, aliases counted as what they stand for. 10 000 jobs with all their policies are about half.
const MAX_VALUES: usize = 500_000;
const MAX_DEPTH: usize = 48;

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
        (line..).zip(source_lines(self.text).skip((line as usize).checked_sub(1)?)).take(2).find_map(
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
        let line = source_lines(self.text).nth((place.line as usize).checked_sub(1)?)?;
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
