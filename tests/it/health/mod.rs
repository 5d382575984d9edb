//! `health_check` against the real things.

mod host;
