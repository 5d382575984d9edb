//! The tree as a serde deserializer that notes what is wrong and where, and leaves it out the next time.

use std::fmt;

use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor};

use super::problem::ProblemSeverity;
use super::reader::{Reference, located};
use super::reference::Target;
use super::secrecy::mask_node;
use super::session::{Failed, Path, Segment, Session, address};
use super::tree::{Entry, Node, Place, Plain, Value, plain, shortened};
use super::word_or;

pub(super) struct ValueDeserializer<'a> {
    node: &'a Node<'a>,
    key: Place,
    path: &'a Path<'a>,
    session: &'a Session<'a>,
    /// Neither shown in a message, nor refused as a reference to a secret.
    secret: bool,
}

impl<'a> ValueDeserializer<'a> {
    pub(super) fn new(node: &'a Node<'a>, key: Place, path: &'a Path<'a>, session: &'a Session<'a>) -> Self {
        Self { node, key, path, session, secret: false }
    }

    fn wrong(&self, expected: impl fmt::Display) -> Failed {
        if self.secret {
            return Failed::new(format!("expected {expected}"));
        }
        Failed::new(format!("expected {expected}, found {}", self.node.found()))
    }

    /// Of a map, or of the nothing that stands where one may.
    fn entries(&self, expected: impl fmt::Display) -> Result<&'a [Entry<'a>], Failed> {
        match &self.node.value {
            Value::Map(entries) => Ok(entries),
            _ if self.node.is_nothing() => Ok(&[]),
            _ => Err(self.wrong(expected)),
        }
    }

    fn text(&self) -> Result<&'a str, Failed> {
        let text = match &self.node.value {
            Value::Text(text) => text,
            Value::Plain(text) => match plain(text) {
                Plain::Text => text,
                Plain::Nothing => return Err(self.wrong("text")),
                _ if self.secret => return Err(self.wrong("text").hint("write it in quotes")),
                _ => return Err(self.wrong("text").hint(format!("write it in quotes: \"{text}\""))),
            },
            _ => return Err(self.wrong("text")),
        };
        let refers = ["${env:", "${file:", "${credential:"].iter().any(|begin| text.starts_with(begin));
        if refers && text.ends_with('}') && !self.secret {
            let message =
                format!("`{}` can't be used here: only secrets and addresses may refer", shortened(text));
            return Err(Failed::new(message).hint("write the value itself"));
        }
        Ok(text)
    }

    fn integer(&self, least: i128, most: i128) -> Result<i128, Failed> {
        match &self.node.value {
            Value::Plain(text) => match plain(text) {
                Plain::Integer(number) if (least..=most).contains(&number) => Ok(number),
                Plain::Integer(_) => Err(self.wrong(format_args!("a whole number from {least} to {most}"))),
                _ => Err(self.wrong("a whole number")),
            },
            Value::Text(text) if text.parse::<i128>().is_ok() && !self.secret => {
                Err(self.wrong("a whole number").hint(format!("write it without quotes: {text}")))
            }
            _ => Err(self.wrong("a whole number")),
        }
    }

    fn list<'de, V: Visitor<'de>>(self, items: &'a [Node<'a>], visitor: V) -> Result<V::Value, Failed> {
        visitor.visit_seq(Items { of: &self, items: items.iter().enumerate() })
    }

    fn map<'de, V: Visitor<'de>>(self, entries: &'a [Entry<'a>], visitor: V) -> Result<V::Value, Failed> {
        visitor.visit_map(Entries { of: &self, entries: entries.iter(), current: None })
    }
}

macro_rules! integers {
    ($($method:ident $visit:ident $type:ty),+) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
            let number = self.integer(<$type>::MIN.into(), <$type>::MAX.into())?;
            visitor.$visit(<$type>::try_from(number).map_err(|_| self.wrong("a smaller number"))?)
        })+
    };
}

impl<'de> de::Deserializer<'de> for ValueDeserializer<'_> {
    type Error = Failed;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        match &self.node.value {
            Value::Text(text) => visitor.visit_str(text),
            Value::List(items) => self.list(items, visitor),
            Value::Map(entries) => self.map(entries, visitor),
            Value::Plain(text) => match plain(text) {
                Plain::Text => visitor.visit_str(text),
                Plain::Nothing => visitor.visit_unit(),
                Plain::Bool(value) => visitor.visit_bool(value),
                Plain::Float(number) => visitor.visit_f64(number),
                Plain::Integer(number) => match (u64::try_from(number), i64::try_from(number)) {
                    (Ok(number), _) => visitor.visit_u64(number),
                    (_, Ok(number)) => visitor.visit_i64(number),
                    _ => visitor.visit_f64(f64::INFINITY),
                },
            },
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        let (Value::Plain(text) | Value::Text(text)) = &self.node.value else {
            return Err(self.wrong("true or false"));
        };
        match (&self.node.value, plain(text)) {
            (Value::Plain(_), Plain::Bool(value)) => visitor.visit_bool(value),
            _ => {
                let meant = match text.to_lowercase().as_str() {
                    "yes" | "y" | "on" | "true" => "true",
                    "no" | "n" | "off" | "false" => "false",
                    _ => return Err(self.wrong("true or false")),
                };
                Err(self
                    .wrong("true or false")
                    .hint(format!("write {meant}: yes, no, on and off are texts in YAML")))
            }
        }
    }

    integers!(
        deserialize_i8 visit_i8 i8, deserialize_i16 visit_i16 i16, deserialize_i32 visit_i32 i32,
        deserialize_i64 visit_i64 i64, deserialize_u8 visit_u8 u8, deserialize_u16 visit_u16 u16,
        deserialize_u32 visit_u32 u32, deserialize_u64 visit_u64 u64
    );

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        let Value::Plain(text) = &self.node.value else { return Err(self.wrong("a number")) };
        match (plain(text), text.parse::<f64>()) {
            (Plain::Integer(_) | Plain::Float(_), Ok(number)) if number.is_finite() => {
                visitor.visit_f64(number)
            }
            _ => Err(self.wrong("a number")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        visitor.visit_str(self.text()?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        self.deserialize_str(visitor)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        if self.node.is_nothing() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Failed> {
        if name == "SecretText" {
            self.secret = true;
            mask_node(self.node, &mut self.session.state.borrow_mut().found.masks);
        }
        let is_word = !matches!(self.node.value, Value::Map(_) | Value::List(_));
        if name == word_or::SECRET_NAME && !matches!(self.node.value, Value::Map(_)) {
            self.secret = true;
            mask_node(self.node, &mut self.session.state.borrow_mut().found.masks);
            return if is_word {
                visitor.visit_str(self.text()?)
            } else {
                visitor.visit_newtype_struct(self)
            };
        }
        if name == word_or::NAME && is_word {
            let text = self.text()?;
            // An address that a password may stand in.
            if text.contains("://") && text.contains('@') {
                mask_node(self.node, &mut self.session.state.borrow_mut().found.masks);
            }
            return visitor.visit_str(text);
        }
        if let Some(target) = Target::of_type(name) {
            let (text, place) = (self.text()?.to_owned(), self.node.place);
            let reference = Reference { target, text, place, path: self.path.to_string() };
            self.session.state.borrow_mut().found.references.push(reference);
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        match &self.node.value {
            Value::List(items) => self.list(items, visitor),
            Value::Plain(text) if plain(text) != Plain::Nothing && !self.secret => {
                Err(self.wrong("a list").hint(format!("write [{}]", shortened(text))))
            }
            Value::Text(text) if !self.secret => {
                Err(self.wrong("a list").hint(format!("write [\"{}\"]", shortened(text))))
            }
            _ => Err(self.wrong("a list")),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Failed> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Failed> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        let entries = self.entries("a map")?;
        self.map(entries, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failed> {
        let (node, key, path, session) = (self.node, self.key, self.path, self.session);
        let entries = self.entries(format_args!("a map with {}", fields.join(", ")))?;
        session.unknown_keys(node, entries, fields, path);
        let result = self.map(entries, visitor);
        result.map_err(|failed| session.missing_keys(failed, name, node, key, path))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failed> {
        match &self.node.value {
            Value::Map(entries) if entries.len() == 1 => {
                visitor.visit_enum(Variant { of: self, entry: &entries[0] })
            }
            Value::Map(_) | Value::List(_) => Err(self.wrong(format_args!("one of {}", variants.join(", ")))),
            Value::Plain(text) if plain(text) == Plain::Nothing => {
                Err(self.wrong(format_args!("one of {}", variants.join(", "))))
            }
            Value::Plain(text) | Value::Text(text) => visitor.visit_enum((&**text).into_deserializer()),
        }
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! { i128 u128 bytes byte_buf unit unit_struct }
}

struct Items<'i, 'a> {
    of: &'i ValueDeserializer<'a>,
    items: std::iter::Enumerate<std::slice::Iter<'a, Node<'a>>>,
}

impl<'de> de::SeqAccess<'de> for Items<'_, '_> {
    type Error = Failed;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Failed> {
        let session = self.of.session;
        let Some((index, node)) = self.items.by_ref().find(|(_, node)| !session.is_skipped(node)) else {
            return Ok(None);
        };
        let path = Path { parent: Some(self.of.path), segment: Segment::Index(index) };
        let value = ValueDeserializer { node, key: node.place, path: &path, session, secret: self.of.secret };
        seed.deserialize(value).map(Some).map_err(|failed| session.place(failed, node, node.place, &path))
    }
}

struct Entries<'i, 'a> {
    of: &'i ValueDeserializer<'a>,
    entries: std::slice::Iter<'a, Entry<'a>>,
    current: Option<&'a Entry<'a>>,
}

impl<'de> de::MapAccess<'de> for Entries<'_, '_> {
    type Error = Failed;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Failed> {
        let session = self.of.session;
        self.current = self.entries.find(|entry| !session.is_skipped(&entry.node));
        let Some(entry) = self.current else { return Ok(None) };
        let key: de::value::StrDeserializer<'_, Failed> = (&*entry.key).into_deserializer();
        seed.deserialize(key).map(Some).map_err(|failed| {
            let path = Path::key(self.of.path, &entry.key);
            let mut state = session.state.borrow_mut();
            if state.skipped.insert(address(&entry.node)) {
                let problem = located(
                    ProblemSeverity::Error,
                    entry.place,
                    path.to_string(),
                    failed.message,
                    failed.hint,
                );
                state.found.problems.push(problem);
            }
            Failed::placed()
        })
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Failed> {
        let Some(entry) = self.current.take() else { return Err(Failed::new("a value without a key")) };
        let (session, path) = (self.of.session, Path::key(self.of.path, &entry.key));
        let value = ValueDeserializer {
            node: &entry.node,
            key: entry.place,
            path: &path,
            session,
            secret: self.of.secret,
        };
        seed.deserialize(value).map_err(|failed| session.place(failed, &entry.node, entry.place, &path))
    }
}

/// `{ variant: value }`
struct Variant<'a> {
    of: ValueDeserializer<'a>,
    entry: &'a Entry<'a>,
}

impl<'de> de::EnumAccess<'de> for Variant<'_> {
    type Error = Failed;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Failed> {
        let key: de::value::StrDeserializer<'_, Failed> = (&*self.entry.key).into_deserializer();
        Ok((seed.deserialize(key)?, self))
    }
}

impl Variant<'_> {
    fn within<T>(self, read: impl FnOnce(ValueDeserializer<'_>) -> Result<T, Failed>) -> Result<T, Failed> {
        let (session, entry) = (self.of.session, self.entry);
        let path = Path::key(self.of.path, &entry.key);
        let value = ValueDeserializer {
            node: &entry.node,
            key: entry.place,
            path: &path,
            session,
            secret: self.of.secret,
        };
        read(value).map_err(|failed| {
            let failed = session.place(failed, &entry.node, entry.place, &path);
            // The variant can't be made without what it holds: both are left out.
            session.state.borrow_mut().skipped.insert(address(self.of.node));
            failed
        })
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'_> {
    type Error = Failed;

    fn unit_variant(self) -> Result<(), Failed> {
        Err(Failed::new(format!("`{}` takes no options: write it as a word", self.entry.key)))
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Failed> {
        self.within(|value| seed.deserialize(value))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Failed> {
        self.within(|value| de::Deserializer::deserialize_seq(value, visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failed> {
        self.within(|value| de::Deserializer::deserialize_struct(value, "", fields, visitor))
    }
}
