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

impl SecretText {
    /// Fetches the value now.
    ///
    /// # Errors
    /// [`SecretError`]
    pub fn resolve(&self) -> Result<SecretString, SecretError> {
        let mut value = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) => value.push_str(text),
                Part::Env(name) => {
                    let text = std::env::var(name).map_err(|_| SecretError::Env { name: name.clone() })?;
                    value.push_str(&text);
                }
                Part::File(path) => value.push_str(&read(path, &format!("${{file:{}}}", path.display()))?),
                Part::Credential(name) => {
                    let directory = std::env::var_os("CREDENTIALS_DIRECTORY")
                        .ok_or_else(|| SecretError::NoCredentials { name: name.clone() })?;
                    let path = std::path::Path::new(&directory).join(name);
                    value.push_str(&read(&path, &format!("${{credential:{name}}}"))?);
                }
            }
        }
        Ok(value.into())
    }
}

fn read(path: &std::path::Path, reference: &str) -> Result<String, SecretError> {
    let text = std::fs::read_to_string(path).map_err(|error| SecretError::File {
        reference: reference.to_owned(),
        path: path.display().to_string(),
        reason: error.to_string(),
    })?;
    Ok(text.strip_suffix('\n').map(str::to_owned).unwrap_or(text))
}

impl From<&str> for SecretText {
    fn from(text: &str) -> Self {
        Self { parts: vec![Part::Literal(text.to_owned())] }
    }
}
