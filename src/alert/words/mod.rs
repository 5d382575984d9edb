//! The words of messages, in each language of `alerts: { language: … }`.
//!
//! Owns every text that a contact reads, but for what jobs say themselves (reasons, checks, log lines, which are in
//! English) and commands. A language is an implementation of [`Words`]: one that lacks a word doesn't compile.

mod en;
mod fr;

use crate::config::Language;
use crate::model::{NoticeKind, Outcome, Severity};

/// What became of a job or a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Failed,
    TimedOut,
    Interrupted,
    Recovered,
    Held,
    Reminder,
    Flapping,
}

impl What {
    pub(super) fn of(kind: NoticeKind, outcome: Outcome) -> Self {
        match (kind, outcome) {
            (NoticeKind::Failed, Outcome::TimedOut) => Self::TimedOut,
            (NoticeKind::Failed, Outcome::Interrupted) => Self::Interrupted,
            (NoticeKind::Failed, _) => Self::Failed,
            (NoticeKind::Recovered, _) => Self::Recovered,
            (NoticeKind::Held, _) => Self::Held,
            (NoticeKind::Reminder, _) => Self::Reminder,
            (NoticeKind::Flapping, _) => Self::Flapping,
        }
    }
}

/// What stands before a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Label {
    Reason,
    Done,
    Since,
    Until,
    Run,
    At,
    Began,
    Ended,
    Failing,
    Contact,
    AskedBy,
}

/// What stands above a part of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Title {
    Findings,
    Log,
    Next,
}

/// What is told at the end of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Note {
    Failed,
    LedgerFailed,
    Held,
    Reminder,
    Flapping,
    /// Of a test.
    Test,
    /// Of many in one.
    Digest,
}

pub(super) trait Words: Send + Sync {
    /// `db-backup failed`
    fn job(&self, what: What, job: &str) -> String;
    /// `monitoring: page failed`
    fn check(&self, what: What, job: &str, check: &str) -> String;
    /// `monitoring: 3 checks failed`
    fn checks(&self, what: What, job: &str, count: usize) -> String;
    /// `the ledger is in trouble`
    fn ledger(&self, recovered: bool) -> String;
    /// `63 messages: 60 failed, 3 recovered`
    fn digest(&self, kinds: &[(NoticeKind, usize)]) -> String;
    /// `test message`
    fn test(&self) -> &'static str;
    /// `db-backup failed on web1`
    fn on_host(&self, what: &str, host: &str) -> String;

    fn label(&self, label: Label) -> &'static str;
    fn title(&self, title: Title) -> &'static str;
    fn note(&self, note: Note) -> &'static str;
    fn severity(&self, severity: Severity) -> &'static str;

    /// Between what is named and what is said of it.
    fn colon(&self) -> &'static str;
    /// `, 3 attempts`, after the number of a run; nothing for one.
    fn attempts(&self, count: u32) -> String;
    /// `since 2026-11-23 00:01:00+01:00: 3 runs failed, the first was run 812`
    fn failing(&self, since: &str, failures: u64, first_run: i64) -> String;
    /// `since …, in 3 runs`, of a check
    fn check_since(&self, recovered: bool, since: &str, failures: u64) -> String;
    /// `therefore also: page`
    fn consequences(&self, names: &str) -> String;
    /// `and 3 more`
    fn more(&self, count: usize) -> String;
    /// `j001 failed, since 2026-11-23 00:01:00+01:00: exit code 1`
    fn in_digest(&self, what: &str, recovered: bool, since: &str, reason: Option<&str>) -> String;
}

pub(super) fn words(language: Language) -> &'static dyn Words {
    match language {
        Language::En => &en::English,
        Language::Fr => &fr::French,
    }
}

#[cfg(test)]
mod tests;
