//! One binary for all integration tests: real processes, temporary folders, conditions instead of sleeps.

mod pg_dump;
mod prune;
mod support;
