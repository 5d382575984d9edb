//! A short form beside the whole one: `missed: skip` or `missed: { policy: skip, within: 2h }`.

use std::fmt;
use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::de::{self, Deserialize, Deserializer, IntoDeserializer, Visitor};

/// A word, or a map or a list in its place. Unlike with `#[serde(untagged)]`, problems keep their places.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(untagged, inline)]
pub enum WordOr<W, T> {
    Word(W),
    Whole(T),
}

/// The name by which the document's reader knows this type.
pub(super) const NAME: &str = "WordOr";

impl<'de, W: Deserialize<'de>, T: Deserialize<'de>> Deserialize<'de> for WordOr<W, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(NAME, Either(PhantomData))
    }
}

/// The same, where the word is a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretOr<W, T>(pub WordOr<W, T>);

/// The name by which the document's reader knows this type.
pub(super) const SECRET_NAME: &str = "SecretOr";

impl<'de, W: Deserialize<'de>, T: Deserialize<'de>> Deserialize<'de> for SecretOr<W, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(SECRET_NAME, Either(PhantomData)).map(Self)
    }
}

impl<W: JsonSchema, T: JsonSchema> JsonSchema for SecretOr<W, T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        WordOr::<W, T>::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        WordOr::<W, T>::json_schema(generator)
    }
}

struct Either<W, T>(PhantomData<(W, T)>);

impl<'de, W: Deserialize<'de>, T: Deserialize<'de>> Visitor<'de> for Either<W, T> {
    type Value = WordOr<W, T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        W::deserialize(text.into_deserializer()).map(WordOr::Word)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, whole: D) -> Result<Self::Value, D::Error> {
        T::deserialize(whole).map(WordOr::Whole)
    }
}
