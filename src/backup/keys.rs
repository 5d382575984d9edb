//! The keys of a manifest of any kind, in their order, each as it is written: who changes one leaves the others as they are,
//! byte by byte, also those of a later version, and never holds a million entries of an archive to do so.

use std::fmt;
use std::io;

use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

pub struct Keys(Vec<(String, Box<RawValue>)>);

impl Keys {
    /// # Errors
    /// Where the text is no object of JSON.
    pub fn parse(text: &[u8]) -> io::Result<Self> {
        Ok(serde_json::from_slice(text)?)
    }

    /// `None`: there is no such key, or it is something else.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        let (_, value) = self.0.iter().find(|(name, _)| name == key)?;
        serde_json::from_str(value.get()).ok()
    }

    /// In the place of the old value; a new key comes before the proof.
    ///
    /// # Errors
    /// Where the value can't be written as JSON.
    pub fn set(&mut self, key: &str, value: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string_pretty(value)?.replace('\n', "\n  ");
        let value = RawValue::from_string(text)?;
        if let Some((_, old)) = self.0.iter_mut().find(|(name, _)| name == key) {
            *old = value;
            return Ok(());
        }
        let at = self.0.iter().position(|(name, _)| name == "proof").unwrap_or(self.0.len());
        self.0.insert(at, (key.to_owned(), value));
        Ok(())
    }

    pub fn to_text(&self) -> Vec<u8> {
        let mut text = String::from("{");
        for (at, (name, value)) in self.0.iter().enumerate() {
            let name = serde_json::Value::from(name.as_str());
            text.push_str(&format!("{}\n  {name}: ", if at > 0 { "," } else { "" }));
            text.push_str(value.get());
        }
        text.push_str("\n}\n");
        text.into_bytes()
    }
}

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Keys;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a manifest")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Keys, M::Error> {
                let mut keys = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    keys.push(entry);
                }
                Ok(Keys(keys))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_changed_stays_as_it_is_written() {
        let text = "{\n  \"z\": 1.50,\n  \"of a later version\": {\n    \"a\": [1,\n 2]\n  },\n  \"proof\": {\n    \"state\": \"written\"\n  },\n  \
                    \"entries\": [\n    {\"path\":\"é\"},\n    {\"path\":\"b\"}\n  ]\n}\n";
        let mut keys = Keys::parse(text.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(keys.to_text()).unwrap(), text);
        assert_eq!(
            (keys.get::<f64>("z"), keys.get::<f64>("proof"), keys.get::<f64>("y")),
            (Some(1.5), None, None)
        );
        keys.set("proof", &serde_json::json!({"state": "verified"})).unwrap();
        keys.set("copies", &["a"]).unwrap();
        let expected = text.replace("written", "verified");
        let expected = expected.replace("  \"proof\"", "  \"copies\": [\n    \"a\"\n  ],\n  \"proof\"");
        assert_eq!(String::from_utf8(keys.to_text()).unwrap(), expected);
        assert!(Keys::parse(b"[1]").is_err() && Keys::parse(b"{\"a\": 1").is_err());
    }
}
