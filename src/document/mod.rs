//! YAML with positions, read into plain serde types with every problem gathered in one pass.
//!
//! Knows no key of jobs.yaml: `config` and the kinds of job say what they expect through their types.

mod deserializer;
mod nearest;
mod problem;
mod reader;
mod reference;
mod secrecy;
mod tree;

#[cfg(test)]
mod tests;

pub use nearest::nearest;
pub use problem::{Problem, ProblemSeverity, Problems};
pub use reader::{Invalid, Reader, from_text};
pub use reference::{ConnectionName, ContactName, JobRef};

pub(crate) use reader::{Collected, Reference};
pub(crate) use reference::Target;
pub(crate) use tree::{Entry, MAX_VALUES, Node, Parsed, Place, Value, parse};
