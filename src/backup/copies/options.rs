//! `copy_to`, as jobs.yaml has it.

use std::borrow::Cow;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

use crate::document::{Invalid, WordOr};
use crate::host::objects::{Place, Written, Wrong};
use crate::host::secret::SecretText;
use crate::units::HumanDuration;

/// Places for copies: `s3://bucket/prefix`, `file:///mnt/backups`, or maps with what opens them.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct CopyTo(Vec<WordOr<Address, Keys>>);

#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Keys {
    /// `s3://bucket/prefix` or `file:///folder`
    url: Address,
    /// The server of a store that speaks like S3; default: Amazon's, of the region
    endpoint: Option<Address>,
    /// Default: us-east-1
    region: Option<String>,
    /// Default: `${env:AWS_ACCESS_KEY_ID}`
    access_key: Option<SecretText>,
    /// Default: `${env:AWS_SECRET_ACCESS_KEY}`
    secret_key: Option<SecretText>,
    /// Copies older than this are deleted, but never the newest verified one; default: all are kept
    keep: Option<HumanDuration>,
}

/// Read as a secret is, since a password may stand in it by mistake: its line is not shown then.
#[derive(Clone, Debug, PartialEq)]
struct Address(String);

/// A place for copies, and how long they stay there.
#[derive(Clone, Debug, PartialEq)]
pub struct Destination {
    pub place: Place,
    pub keep: Option<Duration>,
}

impl CopyTo {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that are written well; [`Self::problems`] tells of the others.
    pub fn destinations(&self) -> Vec<Destination> {
        self.0.iter().filter_map(|one| destination(one).ok()).collect()
    }

    /// Under the key that holds them.
    pub fn problems(&self, key: &str) -> Vec<Invalid> {
        let mut problems = Vec::new();
        let mut known: Vec<String> = Vec::new();
        for (number, one) in self.0.iter().enumerate() {
            let at = |inner: &str| match one {
                WordOr::Word(_) => format!("{key}.{number}"),
                WordOr::Whole(_) => format!("{key}.{number}.{inner}"),
            };
            let mut problem = |inner: &str, message: String, hint: Option<&str>| {
                problems.push(Invalid { key: at(inner), message, hint: hint.map(str::to_owned) });
            };
            match destination(one) {
                Err(Wrong { key, message, hint }) => problem(key, message, hint),
                Ok(Destination { keep: Some(Duration::ZERO), .. }) => {
                    problem("keep", "`0s` would delete every copy at once".to_owned(), None);
                }
                Ok(Destination { place, .. }) if known.contains(&place.url) => {
                    problem("url", format!("`{}` is here a second time", place.url), None);
                }
                Ok(Destination { place, .. }) => known.push(place.url),
            }
        }
        problems
    }
}

fn destination(one: &WordOr<Address, Keys>) -> Result<Destination, Wrong> {
    let (written, keep) = match one {
        WordOr::Word(url) => (Written { url: &url.0, ..Written::default() }, None),
        WordOr::Whole(keys) => {
            let written = Written {
                url: &keys.url.0,
                endpoint: keys.endpoint.as_ref().map(|endpoint| endpoint.0.as_str()),
                region: keys.region.as_deref(),
                access_key: keys.access_key.as_ref(),
                secret_key: keys.secret_key.as_ref(),
            };
            (written, keys.keep.map(|keep| keep.0))
        }
    };
    Ok(Destination { place: Place::read(&written)?, keep })
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(SecretText::deserialize(deserializer)?.as_written()))
    }
}

impl JsonSchema for Address {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Address".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, JsonSchema)]
    struct Options {
        copy_to: CopyTo,
    }

    /// What is wrong with the text, source lines included.
    fn problems(yaml: &str) -> String {
        let read = crate::document::from_text(std::path::Path::new("a.yaml"), yaml, |options: &Options| {
            options.copy_to.problems("copy_to")
        });
        read.err().map(|problems| problems.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_place_is_written_shortly_or_as_a_map() {
        let yaml = "copy_to: [s3://b/p, file:///mnt, { url: file:///srv, keep: 90d }]\n";
        let options: Options =
            crate::document::from_text(std::path::Path::new("a.yaml"), yaml, |_| vec![]).unwrap();
        assert_eq!(options.copy_to.problems("copy_to"), []);
        let found = options.copy_to.destinations();
        let found: Vec<_> = found.iter().map(|one| (one.place.url.as_str(), one.keep)).collect();
        let keep = Some(Duration::from_secs(90 * 86_400));
        assert_eq!(found, [("s3://b/p", None), ("file:///mnt", None), ("file:///srv", keep)]);
    }

    #[test]
    fn what_can_t_be_a_place_is_a_problem_of_its_key() {
        let check = |yaml: &str, expected: &str| {
            let said = problems(yaml);
            assert!(said.contains(expected) && !said.contains("hunter2"), "{yaml}: {said}");
        };
        check("copy_to: [/mnt]\n", "error: `/mnt` is no address of a place for copies");
        check("copy_to: [file:///m, { url: file:///m/ }]\n", "error: `file:///m` is here a second time");
        check("copy_to: [{ url: file:///m, keep: 0s }]\n", "error: `0s` would delete every copy at once");
        check("copy_to: [{ url: s3://b, secret_key: hunter2 }]\n", "error: there is no access_key beside it");
        check("copy_to: [s3://u:hunter2@b]\n", "error: an address of a place for copies holds no `@`");
        check(
            "copy_to: [{ url: s3://b, endpoint: 'http://u:hunter2@h' }]\n",
            "is not the address of a server",
        );
        check("copy_to: [{ url: s3://b, secret: hunter2 }]\n", "unknown key `secret`");
    }
}
