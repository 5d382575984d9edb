//! When a job is due: cron expressions, `@every`, `@reboot`, in a time zone. Pure: reads no clock.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The schedule of one job: one expression or several, in one zone. A slot that several give counts once.
#[derive(Clone, Debug)]
pub struct Schedule {}

/// What is wrong with an expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ScheduleError {
    pub message: String,
    pub hint: Option<String>,
    /// Byte range of the offending part within the expression.
    pub at: Option<std::ops::Range<usize>>,
    /// Which of the expressions.
    pub index: usize,
}

/// The boot that `@reboot` is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boot {
    pub at: Timestamp,
}

impl Schedule {
    /// `seed` (the job's name) fixes what `a~b` picks.
    ///
    /// # Errors
    /// The first problem of each expression.
    pub fn parse(_expressions: &[String], _zone: &TimeZone, _seed: &str) -> Result<Self, Vec<ScheduleError>> {
        unimplemented!()
    }

    /// The first slot after `after`, of all expressions; strictly greater. `None`: none in 50 years. `@reboot` has none here.
    pub fn next_after(&self, _after: Timestamp) -> Option<Timestamp> {
        unimplemented!()
    }

    /// As `next_after`, of the interval expressions alone (minute or hour begins with `*`, `@every`): those
    /// whose slots repeat after the clock was set back.
    pub fn next_interval_after(&self, _after: Timestamp) -> Option<Timestamp> {
        unimplemented!()
    }

    /// Whether `@reboot` is among the expressions.
    pub fn at_boot(&self) -> bool {
        unimplemented!()
    }

    /// The expressions as written.
    pub fn expressions(&self) -> &[String] {
        unimplemented!()
    }

    pub fn zone(&self) -> &TimeZone {
        unimplemented!()
    }

    /// In words: `every 5 minutes`, `at 00:00`, `at 01:00 on Sunday`.
    pub fn explain(&self) -> String {
        unimplemented!()
    }
}
