//! Encryption of backups with age (age-encryption.org/v1): to public keys, so that the host that makes a backup
//! can't read it again.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Read, Write};

use age::stream::{StreamReader, StreamWriter};
use age::x25519;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};

/// What an encrypted file's name ends with, after the suffixes of its content.
pub const SUFFIX: &str = ".age";

/// Those who can read a backup: `age1…`, as `age-keygen -y` prints them.
#[derive(Clone, Default, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Recipients(Vec<Recipient>);

/// One of them.
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient(x25519::Recipient);

/// The keys that open backups: what `age-keygen` writes. Its `Debug` shows their number and nothing else.
#[derive(Clone, Default)]
pub struct Identities(Vec<x25519::Identity>);

impl Recipients {
    /// # Errors
    /// The one that is no recipient, and what to write.
    pub fn parse(written: &[String]) -> Result<Self, String> {
        written.iter().map(|one| Recipient::parse(one)).collect::<Result<_, _>>().map(Self)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As they are written.
    pub fn names(&self) -> Vec<String> {
        self.0.iter().map(|one| one.0.to_string()).collect()
    }

    /// What is written there is encrypted into `to`; [`StreamWriter::finish`] must be called at the end.
    ///
    /// # Errors
    /// Where the header can't be written.
    pub fn encrypt<W: Write>(&self, to: W) -> io::Result<StreamWriter<W>> {
        let recipients = self.0.iter().map(|one| &one.0 as &dyn age::Recipient);
        age::Encryptor::with_recipients(recipients).map_err(io::Error::other)?.wrap_output(to)
    }
}

impl fmt::Debug for Recipients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

impl Recipient {
    fn parse(written: &str) -> Result<Self, String> {
        // Never repeated in a message: it would be the key itself.
        if written.trim().to_ascii_uppercase().starts_with("AGE-SECRET-KEY-") {
            return Err("is a secret key: it must not stand here; `age-keygen -y FILE` prints the recipient"
                .to_owned());
        }
        written.trim().parse().map(Self).map_err(|_| {
            format!(
                "`{written}` is not an age recipient: write the line `age1…` that `age-keygen -y FILE` prints"
            )
        })
    }
}

impl<'de> Deserialize<'de> for Recipient {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Recipient;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Recipient, E> {
                Recipient::parse(text).map_err(E::custom)
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Recipient, D::Error> {
                inner.deserialize_str(self)
            }
        }
        // Under the name of a secret, since the secret key may stand here by mistake: its line is not shown then.
        deserializer.deserialize_newtype_struct("SecretText", Text)
    }
}

impl JsonSchema for Recipient {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Recipient".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^age1",
            "description": "the line age1… that `age-keygen -y FILE` prints",
        })
    }
}

impl Identities {
    /// `text`: of a key file; lines that begin with `#` are comments.
    ///
    /// # Errors
    /// The number of the line that is no key; never what stands there.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
        let keys = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let keys = keys.map(|(number, line)| {
            let wrong = |_| format!("line {number} is no age key: it should begin with AGE-SECRET-KEY-1");
            line.parse::<x25519::Identity>().map_err(wrong)
        });
        let keys: Vec<_> = keys.collect::<Result<_, _>>()?;
        if keys.is_empty() {
            return Err("there is no age key in it: `age-keygen` writes one".to_owned());
        }
        Ok(Self(keys))
    }

    /// # Errors
    /// Where what is read is not encrypted for one of these keys, or not whole.
    pub fn decrypt<R: Read>(&self, from: R) -> Result<StreamReader<R>, String> {
        let decryptor = age::Decryptor::new(from).map_err(|error| explain(&error))?;
        let keys = self.0.iter().map(|one| one as &dyn age::Identity);
        decryptor.decrypt(keys).map_err(|error| explain(&error))
    }
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identities({})", self.0.len())
    }
}

fn explain(error: &age::DecryptError) -> String {
    match error {
        age::DecryptError::NoMatchingKeys => "it is encrypted for other keys than the given one".to_owned(),
        other => format!("it can't be decrypted: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encrypted_is_read_with_the_key_and_with_no_other() {
        let key = x25519::Identity::generate();
        let recipients = Recipients::parse(&[key.to_public().to_string()]).unwrap();
        let mut file = Vec::new();
        let mut writer = recipients.encrypt(&mut file).unwrap();
        writer.write_all(b"the shop's orders").unwrap();
        writer.finish().unwrap();
        assert!(!file.windows(4).any(|bytes| bytes == b"shop"));

        use age::secrecy::ExposeSecret;
        let text = format!("# created: today\n{}\n", key.to_string().expose_secret());
        let identities = Identities::parse(&text).unwrap();
        let mut plain = String::new();
        identities.decrypt(&file[..]).unwrap().read_to_string(&mut plain).unwrap();
        assert_eq!(plain, "the shop's orders");

        let mut cut = Vec::new();
        let short = &file[..file.len() - 1];
        assert!(identities.decrypt(short).unwrap().read_to_end(&mut cut).is_err());
        let other = x25519::Identity::generate();
        let other = Identities::parse(other.to_string().expose_secret()).unwrap();
        assert_eq!(
            other.decrypt(&file[..]).err().unwrap(),
            "it is encrypted for other keys than the given one"
        );
    }

    #[test]
    fn recipients_are_read_from_a_list() {
        let key = x25519::Identity::generate().to_public().to_string();
        let read: Recipients = serde_json::from_value(serde_json::json!([key])).unwrap();
        assert_eq!(read.names(), [key]);
        assert_eq!(
            serde_json::from_str::<Recipients>(r#"["age1x"]"#).unwrap_err().to_string(),
            "`age1x` is not an age recipient: write the line `age1…` that `age-keygen -y FILE` prints at line 1 \
             column 8"
        );
    }

    #[test]
    fn a_secret_key_in_the_wrong_place_is_refused_and_not_repeated() {
        use age::secrecy::ExposeSecret;
        let key = x25519::Identity::generate().to_string().expose_secret().to_owned();
        let error = Recipients::parse(std::slice::from_ref(&key)).unwrap_err();
        assert!(error.starts_with("is a secret key"), "{error}");
        assert!(!error.contains(&key), "{error}");
        assert_eq!(
            Identities::parse("# nothing\n").unwrap_err(),
            "there is no age key in it: `age-keygen` writes one"
        );
        assert_eq!(
            Identities::parse("# one\nhunter2\n").unwrap_err(),
            "line 2 is no age key: it should begin with AGE-SECRET-KEY-1"
        );
    }
}
