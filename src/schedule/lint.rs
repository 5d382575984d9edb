//! What is written correctly and yet perhaps not meant, and what can never come due.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::expression::Expression;
use super::{Schedule, ScheduleError};

/// A warning about a schedule that works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lint {
    pub message: String,
    pub hint: Option<String>,
}

pub(super) fn lint(_schedule: &Schedule, _now: Timestamp) -> Vec<Lint> {
    Vec::new()
}

pub(super) fn impossible(text: &str, _expression: &Expression, _zone: &TimeZone) -> ScheduleError {
    ScheduleError { message: format!("`{text}` has no slot within 50 years"), hint: None, at: None, index: 0 }
}
