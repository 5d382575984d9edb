//! When a job is due: cron expressions, `@every`, `@reboot`, in a time zone.
//!
//! Owns the meaning of an expression (`parse`, `field`, `expression`), its slots on the time line of a zone
//! (`occurrence`) and how many lie in a long time (`leap`), what looks like a slip (`lint`) and the words for it (`explain`). Pure: reads no clock
//! and looks up no zone; both are handed in. Only a zone of the past is looked up here, by its name and what was
//! recorded of it (`recorded`).

mod explain;
mod expression;
mod field;
mod leap;
mod lint;
mod occurrence;
mod parse;
mod recorded;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use expression::Expression;
pub use leap::Leap;
pub use lint::Lint;
pub use occurrence::offsets;
pub use recorded::{RECORDED_AHEAD, recorded};

/// The schedule of one job: one expression or several, in one zone. A slot that several give counts once.
///
/// A clone costs two reference counts.
#[derive(Clone, Debug)]
pub struct Schedule {
    expressions: Arc<Expressions>,
    zone: TimeZone,
}

#[derive(Debug)]
struct Expressions {
    texts: Box<[String]>,
    parsed: Box<[Expression]>,
}

/// What is wrong with an expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ScheduleError {
    pub message: String,
    pub hint: Option<String>,
    /// Byte range of the offending part within the expression.
    pub at: Option<Range<usize>>,
    /// Which of the expressions.
    pub index: usize,
}

/// The boot that `@reboot` is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boot {
    pub at: Timestamp,
}

/// How far ahead a slot is looked for. Dates repeat at the latest after 40 years (29 February on a given
/// weekday around a century that is no leap year), so nothing that ever comes is missed.
const HORIZON: SignedDuration = SignedDuration::from_hours(50 * 366 * 24);

/// From where `parse` looks for a first slot. Any instant serves, as dates repeat within [`HORIZON`]; a
/// recent one sees the zone's present rules. Not the clock: the same file must always get the same answer.
const REFERENCE: Timestamp = Timestamp::constant(1_767_225_600, 0);

impl Schedule {
    /// `seed` (the job's name) fixes what `a~b` picks.
    ///
    /// # Errors
    /// The first problem of each expression; an expression that has no slot in 50 years is one.
    pub fn parse(expressions: &[String], zone: &TimeZone, seed: &str) -> Result<Self, Vec<ScheduleError>> {
        let mut errors = Vec::new();
        let mut parsed = Vec::with_capacity(expressions.len());
        if expressions.is_empty() {
            errors.push(ScheduleError {
                message: "the schedule is an empty list".into(),
                hint: Some("name at least one expression, or leave `schedule` out for a job that is only run by hand".into()),
                at: None,
                index: 0,
            });
        }
        for (index, text) in expressions.iter().enumerate() {
            let checked = parse::expression(text, seed).and_then(|expression| {
                let comes = expression == Expression::Reboot
                    || occurrence::next(&expression, zone, REFERENCE).is_some();
                if comes { Ok(expression) } else { Err(lint::impossible(text, &expression, zone)) }
            });
            match checked {
                Ok(expression) => parsed.push(expression),
                Err(error) => errors.push(ScheduleError { index, ..error }),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let expressions = Expressions { texts: expressions.into(), parsed: parsed.into() };
        Ok(Self { expressions: Arc::new(expressions), zone: zone.clone() })
    }

    /// The first slot after `after`, of all expressions; strictly greater. `None`: none in 50 years. `@reboot` has none here.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        self.parsed().iter().filter_map(|expression| occurrence::next(expression, &self.zone, after)).min()
    }

    /// As `next_after`, of the interval expressions alone (minute or hour begins with `*`, `@every`): those
    /// whose slots repeat after the clock was set back.
    pub fn next_interval_after(&self, after: Timestamp) -> Option<Timestamp> {
        self.parsed()
            .iter()
            .filter(|expression| expression.is_interval())
            .filter_map(|expression| occurrence::next(expression, &self.zone, after))
            .min()
    }

    /// Whether `@reboot` is among the expressions.
    pub fn at_boot(&self) -> bool {
        self.parsed().contains(&Expression::Reboot)
    }

    /// The expressions as written.
    pub fn expressions(&self) -> &[String] {
        &self.expressions.texts
    }

    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// In words: `every 5 minutes`, `at 00:00`, `at 01:00 on Sunday`.
    pub fn explain(&self) -> String {
        let words: Vec<String> = self.parsed().iter().map(explain::explain).collect();
        words.join("; ")
    }

    /// What is allowed but perhaps not meant; `now` begins the year in which clock changes are looked at.
    pub fn lint(&self, now: Timestamp) -> Vec<Lint> {
        lint::lint(self, now)
    }

    fn parsed(&self) -> &[Expression] {
        &self.expressions.parsed
    }
}
