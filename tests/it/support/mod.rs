//! What several integration tests need.

pub(crate) mod job;
pub(crate) mod postgres;
