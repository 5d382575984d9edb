//! What the backup kinds share: streams, manifests, publishing, names, and what to keep.
//!
//! Never starts a program and never speaks to a server: a job hands in what it reads from.

pub mod catalogue;
pub mod codec;
pub mod count;
pub mod manifest;
pub mod names;
pub mod pattern;
pub mod publish;
pub mod retention;
pub mod stream;
