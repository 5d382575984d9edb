//! One binary for all integration tests: real processes, temporary folders, conditions instead of sleeps.
#![expect(clippy::unwrap_used, reason = "a test that can't go on says so by panicking")]

mod command;
mod spawner;
