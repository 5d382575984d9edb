//! Values that must not be shown: written as `${env:NAME}`, `${file:PATH}`, `${credential:NAME}` or plainly.
//!
//! The form is checked when the file is read; the value is fetched when a job needs it, and never kept in a
//! type that can be printed.

use std::fmt;

pub use secrecy::{ExposeSecret, SecretString};

/// A text of jobs.yaml that may refer to secrets; its `Debug` shows the references, never a literal.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText {
    parts: Vec<Part>,
}

#[derive(Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Env(String),
    File(std::path::PathBuf),
    Credential(String),
}

#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("${{env:{name}}}: the environment variable {name} is not set")]
    Env { name: String },
    #[error("{reference}: {path} can't be read: {reason}")]
    File { reference: String, path: String, reason: String },
    #[error(
        "${{credential:{name}}}: CREDENTIALS_DIRECTORY is not set: is LoadCredential={name} in the unit?"
    )]
    NoCredentials { name: String },
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.parts {
            match part {
                Part::Literal(_) => f.write_str("***")?,
                Part::Env(name) => write!(f, "${{env:{name}}}")?,
                Part::File(path) => write!(f, "${{file:{}}}", path.display())?,
                Part::Credential(name) => write!(f, "${{credential:{name}}}")?,
            }
        }
        Ok(())
    }
}
