//! What waits in memory, and its bounds.
//!
//! Where there is no more room, what explains goes first (events), with what says that nothing ran (skipped slots);
//! then whole runs, the newest, with all that would follow them. A row that is kept gets its end in any case. What
//! is dropped is counted.

use std::collections::VecDeque;
use std::fmt;

use jiff::Timestamp;

use super::super::{NewRow, NewState, Notice, SqliteLedger, Write};
use crate::model::RunId;

pub(super) struct Kept {
    /// Each change, and the provisional number of a claim.
    pub(super) changes: VecDeque<(Write, Option<RunId>)>,
    /// The rows that those changes made or touch, as they will be.
    pub(super) rows: SqliteLedger,
    /// How far every slot has its row, once the changes are written.
    pub(super) accounted: Option<Timestamp>,
    pub(super) since: Option<Timestamp>,
    pub(super) reason: String,
    pub(super) lost: Lost,
    pub(super) written: u64,
    /// The room that they take, in [`UNIT`]s.
    weight: usize,
}

/// Bytes of memory of an ordinary change and its row.
const UNIT: usize = 500;

/// What could not be kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Rows of slots that were skipped.
    pub skipped: u64,
    pub runs: u64,
    pub events: u64,
    /// Changes of rows that were lost, and whatever else.
    pub other: u64,
}

impl Lost {
    pub fn total(self) -> u64 {
        self.skipped + self.runs + self.events + self.other
    }

    fn count(&mut self, write: &Write) {
        match write {
            Write::Claim(NewRow { state: NewState::Skipped(_), slots, .. }) => self.skipped += slots,
            Write::Claim(_) => self.runs += 1,
            Write::Event(_) => self.events += 1,
            _ => self.other += 1,
        }
    }
}

/// `2 runs, 7 skipped slots, 1 event and 4 other changes`
impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counted = |many: u64, what: &str| match many {
            0 => None,
            1 => Some(format!("1 {what}")),
            many => Some(format!("{many} {what}s")),
        };
        let parts: Vec<String> = [
            counted(self.runs, "run"),
            counted(self.skipped, "skipped slot"),
            counted(self.events, "event"),
            counted(self.other, "other change"),
        ]
        .into_iter()
        .flatten()
        .collect();
        match parts.split_last() {
            None => f.write_str("nothing"),
            Some((only, [])) => f.write_str(only),
            Some((last, others)) => write!(f, "{} and {last}", others.join(", ")),
        }
    }
}

impl Kept {
    pub(super) fn new(rows: SqliteLedger, reason: String) -> Self {
        Self {
            changes: VecDeque::new(),
            rows,
            accounted: None,
            since: None,
            reason,
            lost: Lost::default(),
            written: 0,
            weight: 0,
        }
    }

    /// Whether there is room for it within `limit` ordinary changes.
    pub(super) fn has_room(&self, write: &Write, limit: usize) -> bool {
        let limit = match write {
            Write::Event(_) | Write::Claim(NewRow { state: NewState::Skipped(_), .. }) => limit - limit / 4,
            Write::Claim(_) | Write::Notice(_) | Write::Table(_) => limit,
            // What ends or changes a row that is kept; such changes are few for each.
            _ => limit.saturating_mul(2),
        };
        self.weight < limit
    }

    pub(super) fn add(&mut self, write: Write, number: Option<RunId>) {
        self.weight += weight(&write);
        self.changes.push_back((write, number));
    }

    /// The oldest, so many; they are put back where they can't be written.
    pub(super) fn take(&mut self, many: usize) -> Vec<(Write, Option<RunId>)> {
        let taken: Vec<_> = self.changes.drain(..many.min(self.changes.len())).collect();
        self.weight -= taken.iter().map(|(write, _)| weight(write)).sum::<usize>();
        taken
    }

    pub(super) fn put_back(&mut self, changes: Vec<(Write, Option<RunId>)>) {
        for (write, number) in changes.into_iter().rev() {
            self.weight += weight(&write);
            self.changes.push_front((write, number));
        }
    }

    /// True for the first that is lost.
    pub(super) fn lose(&mut self, write: &Write) -> bool {
        let first = self.lost.total() == 0;
        self.lost.count(write);
        first
    }
}

/// In units: what a job or a table says can be long.
fn weight(write: &Write) -> usize {
    let text = match write {
        Write::Finished { error, report, .. } => {
            error.as_ref().map_or(0, String::len)
                + report.as_ref().map_or(0, |report| {
                    let findings: usize = report.findings.iter().map(|one| one.message.len() + 16).sum();
                    report.summary.len() + report.facts.len() * 64 + findings
                })
        }
        Write::AttemptEnded { error, .. } => error.as_ref().map_or(0, String::len),
        Write::Notice(Notice { story, .. }) => story.to_string().len(),
        Write::Table(table) => table.jobs.len() * 200,
        _ => 0,
    };
    1 + text / UNIT
}
