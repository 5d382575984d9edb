//! Values that must not be shown: written as `${env:NAME}`, `${file:PATH}`, `${credential:NAME}` or plainly.
//!
//! The form is checked when the file is read; the value is fetched when a job needs it, and never kept in a
//! type that can be printed.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
pub use secrecy::{ExposeSecret, SecretString};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use tokio::time::Instant;

use super::slow::Slow;
use crate::units::HumanDuration;

/// A text of jobs.yaml that may refer to secrets; its `Debug` shows the references, never a literal.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText {
    parts: Vec<Part>,
}

#[derive(Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Env(String),
    File(PathBuf),
    Credential(String),
}

#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("${{env:{name}}}: the environment variable {name} is not set")]
    Env { name: String },
    #[error("{reference}: {path} can't be read: {reason}")]
    File { reference: String, path: String, reason: String },
    #[error("{reference}: {path} does not answer within {}", HumanDuration(*patience))]
    Silent { reference: String, path: String, patience: Duration },
    #[error(
        "${{credential:{name}}}: CREDENTIALS_DIRECTORY is not set: is LoadCredential={name} in the unit?"
    )]
    NoCredentials { name: String },
}

/// Nothing that is a password, a token or an address is longer.
const LONGEST: usize = 64 * 1024;

/// For each file that is referred to: it may be one of a server that is away, or a pipe that nobody writes to.
pub const PATIENCE: Duration = Duration::from_secs(5);

static FILES: LazyLock<Slow<PathBuf, Result<SecretString, Unread>>> = LazyLock::new(Slow::new);

#[derive(Clone, Debug)]
enum Unread {
    Silent,
    Because(String),
}

/// What stands at one place of the text, before files are read.
enum Piece<'a> {
    Text(Cow<'a, str>),
    File(PathBuf, &'a Part),
}

impl SecretText {
    /// `text` may hold references among literal parts; a `$` without `{` is itself.
    ///
    /// # Errors
    /// What is wrong with a reference. Never shows a literal part.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            if at > 0 {
                parts.push(Part::Literal(rest[..at].to_owned()));
            }
            let inner = &rest[at + 2..];
            let end = inner.find('}').ok_or("`${` is not closed by `}`")?;
            parts.push(reference(&inner[..end])?);
            rest = &inner[end + 1..];
        }
        if !rest.is_empty() || parts.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        Ok(Self { parts })
    }

    /// The text, where it refers to nothing.
    pub fn literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// References and literal parts as in the file: for addresses, which are shown.
    pub(crate) fn as_written(&self) -> String {
        self.parts
            .iter()
            .map(|part| match part {
                Part::Literal(text) => text.clone(),
                reference => reference.to_string(),
            })
            .collect()
    }

    /// Whether systemd would give what is referred to, and did not start this process.
    pub fn lacks_credentials(&self) -> bool {
        let is_credential = |part: &Part| matches!(part, Part::Credential(_));
        self.parts.iter().any(is_credential) && std::env::var(CREDENTIALS).is_err()
    }

    /// Reads what the text refers to, now; each file within `patience`.
    ///
    /// # Errors
    /// [`SecretError`]: the reference and what is wrong with it; never a value.
    pub async fn resolve_within(&self, patience: Duration) -> Result<SecretString, SecretError> {
        let mut whole = String::new();
        for piece in self.pieces(&of_process)? {
            match piece {
                Piece::Text(text) => whole.push_str(&text),
                Piece::File(path, part) => {
                    let read = FILES.ask(path.clone(), patience, move |path| read(path, patience)).await;
                    whole.push_str(found(read, &path, part, patience)?.expose_secret());
                }
            }
        }
        Ok(whole.into())
    }

    /// As [`Self::resolve_within`] [`PATIENCE`], for those who can't await: holds the thread for as long.
    ///
    /// # Errors
    /// [`SecretError`]
    pub fn resolve(&self) -> Result<SecretString, SecretError> {
        self.resolve_in(&of_process)
    }

    /// As [`Self::resolve`], with the environment given.
    ///
    /// # Errors
    /// [`SecretError`]
    pub fn resolve_in(&self, variable: &dyn Fn(&str) -> Option<String>) -> Result<SecretString, SecretError> {
        let mut whole = String::new();
        for piece in self.pieces(variable)? {
            match piece {
                Piece::Text(text) => whole.push_str(&text),
                Piece::File(path, part) => {
                    let read = FILES.ask_blocking(path.clone(), PATIENCE, |path| read(path, PATIENCE));
                    whole.push_str(found(read, &path, part, PATIENCE)?.expose_secret());
                }
            }
        }
        Ok(whole.into())
    }

    fn pieces(&self, variable: &dyn Fn(&str) -> Option<String>) -> Result<Vec<Piece<'_>>, SecretError> {
        let pieces = self.parts.iter().map(|part| {
            Ok(match part {
                Part::Literal(text) => Piece::Text(text.into()),
                Part::Env(name) => {
                    let value = variable(name).ok_or_else(|| SecretError::Env { name: name.clone() })?;
                    Piece::Text(value.into())
                }
                Part::File(path) => Piece::File(path.clone(), part),
                Part::Credential(name) => {
                    let directory = variable(CREDENTIALS)
                        .ok_or_else(|| SecretError::NoCredentials { name: name.clone() })?;
                    Piece::File(Path::new(&directory).join(name), part)
                }
            })
        });
        pieces.collect()
    }
}

const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

fn of_process(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn found(
    read: Option<Result<SecretString, Unread>>,
    path: &Path,
    part: &Part,
    patience: Duration,
) -> Result<SecretString, SecretError> {
    let (reference, path) = (part.to_string(), path.display().to_string());
    read.unwrap_or(Err(Unread::Silent)).map_err(|unread| match unread {
        Unread::Silent => SecretError::Silent { reference, path, patience },
        Unread::Because(reason) => SecretError::File { reference, path, reason },
    })
}

fn reference(inner: &str) -> Result<Part, String> {
    const FORMS: &str = "write ${env:NAME}, ${file:PATH} or ${credential:NAME}";
    let word = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    match inner.split_once(':') {
        Some(("env", name)) if word(name) && !name.starts_with(|first: char| first.is_ascii_digit()) => {
            Ok(Part::Env(name.to_owned()))
        }
        Some(("env", _)) => Err("`${env:…}` wants the name of an environment variable".into()),
        Some(("file", path)) if path.starts_with('/') => Ok(Part::File(path.into())),
        Some(("file", _)) => Err("`${file:…}` wants a path that begins with `/`".into()),
        Some(("credential", name)) if !name.is_empty() && !name.contains('/') && !name.starts_with('.') => {
            Ok(Part::Credential(name.to_owned()))
        }
        Some(("credential", _)) => Err("`${credential:…}` wants the name of a systemd credential".into()),
        Some((kind, _)) if word(kind) => Err(format!("`${{{kind}:…}}` is not known: {FORMS}")),
        _ => Err(format!("`${{…}}` says nothing about where the secret is: {FORMS}")),
    }
}

/// A pipe is a file too, such as that of `<(pass show token)`; where nobody writes to it, it is not waited for longer.
fn read(path: &Path, patience: Duration) -> Result<SecretString, Unread> {
    let failed = |error: std::io::Error| Unread::Because(error.to_string());
    let until = Instant::now() + patience;
    // Else to open a pipe is to wait for its writer.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut file =
        File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path).map_err(failed)?;
    let (mut text, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(|error| Unread::Because(error.to_string()))?;
        match poll(&mut [PollFd::new(&file, PollFlags::IN)], Some(&left)) {
            Ok(0) => return Err(Unread::Silent),
            Err(rustix::io::Errno::INTR) => continue,
            Ok(_) => {}
            Err(error) => return Err(failed(error.into())),
        }
        match file.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => text.extend_from_slice(&piece[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
            Err(error) => return Err(failed(error)),
        }
        if text.len() > LONGEST {
            return Err(Unread::Because(format!("it is larger than {LONGEST} bytes")));
        }
    }
    let mut text =
        String::from_utf8(text).map_err(|_| Unread::Because("stream did not contain valid UTF-8".into()))?;
    // Editors and `echo` end a file with one newline that is no part of the secret.
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text.into())
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(_) => f.write_str("***"),
            Self::Env(name) => write!(f, "${{env:{name}}}"),
            Self::File(path) => write!(f, "${{file:{}}}", path.display()),
            Self::Credential(name) => write!(f, "${{credential:{name}}}"),
        }
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| fmt::Display::fmt(part, f))
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = SecretText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<SecretText, E> {
                SecretText::parse(text).map_err(E::custom)
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<SecretText, D::Error> {
                inner.deserialize_str(self)
            }
        }
        // The document's reader knows the name: it keeps the value out of messages and source lines.
        deserializer.deserialize_newtype_struct("SecretText", Text)
    }
}

impl JsonSchema for SecretText {
    fn schema_name() -> Cow<'static, str> {
        "SecretText".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "a text, or where it is found: ${env:NAME}, ${file:PATH} or ${credential:NAME}",
        })
    }
}

impl From<&str> for SecretText {
    fn from(text: &str) -> Self {
        Self { parts: vec![Part::Literal(text.to_owned())] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str, variables: &[(&str, &str)]) -> Result<String, String> {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let secret = SecretText::parse(text)?.resolve_in(&variable).map_err(|error| error.to_string())?;
        Ok(secret.expose_secret().to_owned())
    }

    #[test]
    fn references_are_resolved_where_they_stand() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, "hunter2\n\n").unwrap();
        let folder = folder.path().display().to_string();
        let check = |text: &str, expected: Result<&str, &str>| {
            let variables = [("TOKEN", "abc"), ("CREDENTIALS_DIRECTORY", folder.as_str())];
            assert_eq!(
                resolved(text, &variables),
                expected.map(str::to_owned).map_err(str::to_owned),
                "{text}"
            );
        };
        check("plain $5 {x}", Ok("plain $5 {x}"));
        check("", Ok(""));
        check("${env:TOKEN}", Ok("abc"));
        check("https://x/${env:TOKEN}?a", Ok("https://x/abc?a"));
        check(&format!("${{file:{folder}/password}}"), Ok("hunter2\n"));
        check("${credential:password}", Ok("hunter2\n"));
        check("${env:ABSENT}", Err("${env:ABSENT}: the environment variable ABSENT is not set"));
        check(
            "${file:/nowhere/x}",
            Err("${file:/nowhere/x}: /nowhere/x can't be read: No such file or directory (os error 2)"),
        );
        assert_eq!(
            resolved("${credential:web}", &[]),
            Err("${credential:web}: CREDENTIALS_DIRECTORY is not set: is LoadCredential=web in the unit?"
                .into())
        );
    }

    #[tokio::test]
    async fn a_pipe_is_read_and_waited_for_no_longer_than_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let secret = SecretText::parse(&format!("x-${{file:{}}}", path.display())).unwrap();
        let error = secret.resolve_within(Duration::from_millis(20)).await.unwrap_err();
        let path_shown = path.display();
        assert_eq!(
            error.to_string(),
            format!("${{file:{path_shown}}}: {path_shown} does not answer within 20ms")
        );
        // Its thread ends with it; what is written now would be for that one.
        while FILES.is_asked(&path) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let writer = std::thread::spawn({
            let path = path.clone();
            move || std::fs::write(path, "hunter2\n").unwrap()
        });
        let resolved = secret.resolve_within(Duration::from_secs(60)).await.unwrap();
        assert_eq!(resolved.expose_secret(), "x-hunter2");
        writer.join().unwrap();
        // What took its place is read, and not waited for behind the pipe.
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "hunter3").unwrap();
        assert_eq!(secret.resolve().unwrap().expose_secret(), "x-hunter3");
    }

    #[test]
    fn a_wrong_form_is_told_without_the_text_around_it() {
        let check = |text: &str, expected: &str| {
            let message = SecretText::parse(text).unwrap_err();
            assert!(message.starts_with(expected), "{text}: {message}");
            assert!(!message.contains("hunter2"), "{message}");
        };
        check("hunter2${flie:/x}", "`${flie:…}` is not known: write ${env:NAME}");
        check("hunter2${env:A", "`${` is not closed");
        check("${hunter2}", "`${…}` says nothing about where the secret is");
        check("${env:}", "`${env:…}` wants");
        check("${env:1A}", "`${env:…}` wants");
        check("${file:relative}", "`${file:…}` wants");
        check("${credential:../x}", "`${credential:…}` wants");
    }

    #[test]
    fn a_literal_is_never_shown() {
        let secret = SecretText::parse("hunter2-${env:TOKEN}-${file:/run/x}").unwrap();
        assert_eq!(format!("{secret:?}"), "***${env:TOKEN}***${file:/run/x}");
        assert!(!format!("{:?}", secret.resolve_in(&|_| Some("abc".into()))).contains("abc"));
    }
}
