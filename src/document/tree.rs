//! YAML text as a tree in which every key and value knows its place.

use std::borrow::Cow;

use super::secrecy::has_address;

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
    pub(super) offset: usize,
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
    // It may be a secret that stands in the wrong place.
    if has_address(text) {
        return "…://…".to_owned();
    }
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
