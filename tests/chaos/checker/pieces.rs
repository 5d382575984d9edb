//! Which table was in force when: the driver's timeline cut into pieces of wall clock.
//!
//! The clock of a host may pass the same hours twice. Each pass is a segment of its own, in which each interval slot has
//! its row: a new one begins where the daemon (or the one after it) finds the clock set back by more than 10 s from the
//! last instant that it had dealt with. The driver knows that instant only within bounds, since a daemon that is killed
//! or stopped may have dealt with a slot or not; so each end of a piece has two bounds. A slot between them may have its
//! row on either side; all others have exactly one.

use super::ledger::{TableRecord, shown};
use crate::timeline::{Entry, Job, What};

const SECOND: i64 = 1_000_000;
/// A step back of more than 10 s counts, and the daemon measures it a little later than the driver makes it.
const SMALL: i64 = 9_500_000;
const LARGE: i64 = 10_500_000;

/// A stretch of wall clock with one table. A slot surely belongs to it from `begin.1` to `end.0`, possibly from
/// `begin.0` to `end.1`.
#[derive(Clone, Debug)]
pub(super) struct Piece<'a> {
    pub(super) jobs: &'a [Job],
    pub(super) begin: (i64, i64),
    pub(super) end: (i64, i64),
    /// The clock was set back there.
    pub(super) begins_by_step: bool,
    pub(super) ends_by_step: bool,
}

pub(super) struct Walk<'a> {
    pub(super) pieces: Vec<Piece<'a>>,
    pub(super) problems: Vec<String>,
    tables: &'a [TableRecord],
    next_table: usize,
    open: Option<Piece<'a>>,
    /// Bounds of the latest instant that a daemon has dealt with in this segment.
    latest: (i64, i64),
    /// Sum and greatest of the steps back that no daemon has noticed yet.
    back: (i64, i64),
    frozen: bool,
    up: bool,
    jitter: i64,
}

/// Cuts the timeline, and holds the ledger's tables against the driver's.
pub(super) fn cut<'a>(timeline: &'a [Entry], tables: &'a [TableRecord]) -> Walk<'a> {
    let mut walk = Walk {
        pieces: vec![],
        problems: vec![],
        tables,
        next_table: 0,
        open: None,
        latest: (i64::MIN, i64::MIN),
        back: (0, 0),
        frozen: false,
        up: false,
        jitter: 0,
    };
    for (index, entry) in timeline.iter().enumerate() {
        walk.take(entry, &timeline[index + 1..]);
    }
    if let Some(mut piece) = walk.open.take() {
        piece.end = walk.latest;
        // What waits for its share of the jitter just then is never dealt with, as where the clock is set back.
        piece.ends_by_step = true;
        walk.pieces.push(piece);
    }
    if let Some(Entry { what: What::Down { how, accounted, .. }, wall, .. }) = timeline.last()
        && how == "terminated"
    {
        // Slots that wait for their jitter hold it back.
        let (least, most) = (walk.latest.0 - walk.jitter, wall.max(&walk.latest.1));
        if accounted.is_none_or(|accounted| accounted < least || *most < accounted) {
            walk.problems.push(format!(
                "the ledger is accounted for up to {} at the end, which is not from {} to {}",
                accounted.map_or("nothing".to_owned(), shown),
                shown(least),
                shown(*most)
            ));
        }
    }
    if walk.next_table < tables.len() {
        walk.problems.push(format!(
            "{} tables in the ledger that nobody put into force",
            tables.len() - walk.next_table
        ));
    }
    walk
}

impl<'a> Walk<'a> {
    fn take(&mut self, entry: &'a Entry, rest: &'a [Entry]) {
        match &entry.what {
            What::Started { jobs, accounted, tables } => {
                let ended = rest.iter().find(|one| matches!(one.what, What::Ready | What::Down { .. }));
                let Some(ended) = ended else { return };
                self.up = true;
                // One that was killed at its start may not have come as far as to write its table.
                if matches!(ended.what, What::Down { tables: after, .. } if after == *tables) {
                    return;
                }
                let latest = ended.wall.max(accounted.unwrap_or(i64::MIN).min(ended.wall + LARGE));
                match self.record(jobs, entry.wall, latest) {
                    Some(from) => self.begin(jobs, *accounted, from, ended.wall),
                    None => self.change(jobs, (entry.wall, latest), (entry.wall, latest), false),
                }
            }
            What::Reloaded { jobs, until } => {
                // For one whose clock went back by a little, what it had seen last: up to a moment after the last look at it.
                let latest = (self.latest.1 + SECOND).min(until + LARGE).max(*until);
                if let Some(from) = self.record(jobs, entry.wall, latest) {
                    // Time stands still for a daemon whose clock went back by a little.
                    let bound = from.max(self.latest.1.min(from + LARGE));
                    let settled = if self.latest.1 <= from { (from, from) } else { (from, bound) };
                    self.change(jobs, settled, settled, false);
                } else {
                    self.change(jobs, (entry.wall, latest), (entry.wall, latest), false);
                }
            }
            What::Jumped { to, .. } => {
                let back = (entry.wall - to).max(0);
                self.back = (self.back.0 + back, self.back.1.max(back));
                // A stopped one can tell, once it goes on, how far the clock had got before it was set back.
                if self.up {
                    self.latest.1 = self.latest.1.max(entry.wall);
                }
                if self.up && !self.frozen {
                    let seen = rest.iter().find_map(|one| match one.what {
                        What::Synced { until } => Some(until),
                        What::Down { .. } => Some(one.wall),
                        _ => None,
                    });
                    self.notice(*to, seen.unwrap_or(*to));
                }
            }
            What::Frozen => {
                self.latest.1 = self.latest.1.max(entry.wall);
                self.frozen = true;
            }
            What::Thawed => {
                self.frozen = false;
                let seen = rest.iter().find_map(|one| match one.what {
                    What::Synced { until } => Some(until),
                    _ => None,
                });
                self.notice(entry.wall, seen.unwrap_or(entry.wall));
            }
            What::Synced { until } => {
                self.latest = (self.latest.0.max(entry.wall), self.latest.1.max(*until));
            }
            What::Down { .. } => {
                if !self.frozen {
                    self.latest.1 = self.latest.1.max(entry.wall);
                }
                self.frozen = false;
                self.up = false;
            }
            _ => {}
        }
    }

    /// The instant from which the ledger has this table in force.
    fn record(&mut self, jobs: &[Job], low: i64, high: i64) -> Option<i64> {
        let found = self.tables.get(self.next_table);
        let between = format!("{} to {}", shown(low), shown(high));
        if let Some(found) = found
            && says_the_same(&found.jobs, jobs)
        {
            self.next_table += 1;
            if (low..=high).contains(&found.from) {
                return Some(found.from);
            }
            let from = shown(found.from);
            self.problems
                .push(format!("the table that came into force at {between} is on record since {from}"));
            return None;
        }
        let next = found.map_or("none".to_owned(), |found| shown(found.from));
        self.problems.push(format!(
            "the table that came into force at {between} is not on record; the next one there is of {next}"
        ));
        None
    }

    /// A daemon has begun at `from`.
    fn begin(&mut self, jobs: &'a [Job], accounted: Option<i64>, from: i64, until: i64) {
        let (low, high) = self.latest;
        let jitter = self.jitter;
        match accounted {
            Some(accounted) if from < high => {
                if accounted > from + 10 * SECOND {
                    self.change(jobs, (accounted.max(low), high), (from, from), true);
                } else if accounted <= from && jitter == 0 {
                    self.change(jobs, (from, from), (from, from), false);
                } else {
                    // Not far enough to count, or not for every job.
                    self.change(jobs, (from.max(accounted), high), (from, from.max(accounted)), true);
                }
            }
            _ => self.change(jobs, (from, from), (from, from), false),
        }
        // Where the clock went back by a little, time stands still until it has caught up.
        let reached = accounted.filter(|at| *at <= from + 10 * SECOND).map_or(from, |at| at.max(from));
        self.latest = (reached, until.max(reached));
        self.back = (0, 0);
    }

    /// The running daemon looks at the clock, at some instant from `low` to `high`.
    fn notice(&mut self, low: i64, high: i64) {
        let (sum, greatest) = std::mem::take(&mut self.back);
        let (known, possible) = self.latest;
        // Where the clock was set back, the table that stays in force is put on record again; a daemon that starts a
        // moment later may bring the same one.
        if let (Some(next), Some(piece)) = (self.tables.get(self.next_table), &self.open)
            && sum > 0
            && (low..=high).contains(&next.from)
            && says_the_same(&next.jobs, piece.jobs)
        {
            self.next_table += 1;
        }
        if sum == 0 || low >= possible || (sum <= SMALL && possible - low <= SMALL) {
            return;
        }
        let Some(jobs) = self.open.as_ref().map(|piece| piece.jobs) else { return };
        if high + LARGE < known || (high < known && greatest > LARGE && sum - greatest < SECOND) {
            self.change(jobs, (known, possible), (low, high), true);
        } else {
            // The daemon may have slept since long before the step, and then time never went back for it.
            self.change(jobs, (known, possible), (low.min(known), known), true);
        }
        self.latest = (low, high);
    }

    fn change(&mut self, jobs: &'a [Job], end: (i64, i64), begin: (i64, i64), step: bool) {
        if let Some(mut piece) = self.open.take() {
            piece.end = end;
            piece.ends_by_step = step;
            self.pieces.push(piece);
        }
        self.jitter = jobs.iter().map(|job| job.jitter * SECOND).max().unwrap_or(0);
        self.open = Some(Piece { jobs, begin, end: begin, begins_by_step: step, ends_by_step: false });
    }
}

/// Whether the ledger's record of a table has the schedules that the driver wrote.
fn says_the_same(record: &serde_json::Value, jobs: &[Job]) -> bool {
    let Some(recorded) = record.as_array() else { return false };
    recorded.len() == jobs.len()
        && jobs.iter().all(|job| {
            let schedule: Vec<serde_json::Value> =
                job.schedule.iter().map(|one| one.as_str().into()).collect();
            recorded.iter().any(|one| {
                one["job"] == job.name.as_str()
                    && one["schedule"] == serde_json::Value::Array(schedule.clone())
                    && one["enabled"] == job.enabled
                    && (job.schedule.is_empty() || one["timezone"] == job.timezone.as_str())
            })
        })
}
