//! YAML with positions, read into plain serde types with every problem gathered in one pass.
//!
//! Knows no key of jobs.yaml: `config` and the kinds of job say what they expect through their types.

mod builder;
mod deserializer;
mod nearest;
mod problem;
mod reader;
mod reference;
mod secrecy;
mod session;
mod tree;
mod word_or;

#[cfg(test)]
mod tests;

pub use nearest::nearest;
pub use problem::{Problem, ProblemSeverity, Problems};
pub use reader::{Invalid, Reader, from_text};
pub use reference::{ConnectionName, ContactName, JobRef};
pub use word_or::{SecretOr, WordOr};

pub(crate) use builder::{Parsed, parse};
pub(crate) use nearest::listed;
pub(crate) use reader::{Collected, located};
pub(crate) use reference::Target;
pub(crate) use secrecy::mask_addresses;
pub(crate) use session::unknown_hint;
pub(crate) use tree::{Entry, Node, Place, Value};
