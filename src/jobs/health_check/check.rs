//! What every check is made of.

use std::fmt::Debug;

use async_trait::async_trait;
use serde_json::Value;

use super::CheckSeverity;
use super::recent::Tolerance;
use crate::document::{Invalid, JobRef};
use crate::jobs::{HostContext, JobContext, Kept, Lack};
use crate::model::{Measure, Unit};

/// One thing to look at.
#[async_trait]
pub(super) trait Check: Debug + Send + Sync {
    /// What is looked at, in a word or two: the check's name where the file gives none.
    fn subject(&self) -> String;

    fn common(&self) -> Common<'_>;

    /// What types alone can't say; keys as seen from the check's own options.
    fn invalid(&self) -> Vec<Invalid> {
        vec![]
    }

    /// The job on whose backups it looks.
    fn works_on(&self) -> Option<&JobRef> {
        None
    }

    /// Where that job keeps them.
    fn hand(&mut self, _kept: Kept) {}

    /// Looks, once. Must end by itself, whatever it looks at: each check has its own bound in time.
    async fn look(&self, ctx: &JobContext) -> Measured;

    /// What this host lacks to look.
    async fn preflight(&self, _ctx: &HostContext) -> Vec<Lack> {
        vec![]
    }
}

/// What every check may say of itself; each also stands beside the check's key.
#[derive(Clone, Copy, Default)]
pub(super) struct Common<'a> {
    pub(super) name: Option<&'a String>,
    pub(super) severity: Option<CheckSeverity>,
    pub(super) tolerance: Option<Tolerance>,
}

/// What came of a look.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Measured {
    pub(super) state: State,
    /// The measured value against its threshold, in words: `12.5 % free of 40 GiB, asked for: 20 %`.
    pub(super) text: String,
    /// The measured value; its unit is the check's.
    pub(super) value: Value,
    /// What it was held against.
    pub(super) threshold: Value,
    /// Both in base units.
    pub(super) measures: Vec<Measure>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Ok,
    Failing,
    /// It can't be told: what was to be looked at doesn't let itself be measured. No better than failing.
    Unknown,
    /// There is too little to judge by, as of a site without visitors. Neither good nor bad.
    TooLittle,
}

impl State {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failing => "failing",
            Self::Unknown | Self::TooLittle => "unknown",
        }
    }
}

impl Measured {
    pub(super) fn of(fine: bool, text: impl Into<String>) -> Self {
        let state = if fine { State::Ok } else { State::Failing };
        Self { state, text: text.into(), value: Value::Null, threshold: Value::Null, measures: vec![] }
    }

    pub(super) fn unknown(text: impl Into<String>) -> Self {
        Self { state: State::Unknown, ..Self::of(false, text) }
    }

    pub(super) fn too_little(text: impl Into<String>) -> Self {
        Self { state: State::TooLittle, ..Self::of(true, text) }
    }

    /// With the numbers behind the text.
    #[must_use]
    pub(super) fn against(self, value: impl Into<Value>, threshold: impl Into<Value>) -> Self {
        Self { value: value.into(), threshold: threshold.into(), ..self }
    }

    /// With one number more for metrics.
    #[must_use]
    pub(super) fn measuring(
        mut self,
        quantity: &str,
        unit: Unit,
        value: impl Into<Option<f64>>,
        threshold: impl Into<Option<f64>>,
    ) -> Self {
        let (quantity, value, threshold) = (quantity.to_owned(), value.into(), threshold.into());
        self.measures.push(Measure { quantity, unit, value, threshold });
        self
    }
}

/// A number for people: one decimal, or as many as it takes to tell it from what it is held against, so that nobody
/// reads of a failure `20 % free, asked for: 20 %`.
pub(super) fn shown(value: f64, threshold: f64) -> String {
    let with = |decimals: usize| {
        let text = format!("{value:.decimals$}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    let told_apart = |text: &String| text.parse::<f64>().is_ok_and(|read| read != threshold);
    let enough = (1..=4).map(with).find(told_apart).filter(|_| value != threshold);
    enough.unwrap_or_else(|| with(1))
}

/// For the report: what lies beyond the third decimal of a measurement is noise.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
