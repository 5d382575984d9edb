//! What was in force when, by what the ledger remembers: tables, lives of the daemon, and the stretches of wall clock
//! that they covered.
//!
//! Pure. A clock that is set back by more than ten seconds comes by the same hours again: the time that the ledger
//! covers is a list of segments, cut at each such step. Steps forward, suspends and downtime don't cut, since their
//! slots have rows too.

mod walk;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use self::walk::{Cut, Walk};
use super::{Chronicle, Event, TableJob, TableRecord};
use crate::model::JobName;
use crate::policy::PUNCTUAL;
use crate::schedule::Schedule;

/// The least distance between two instants.
const TICK: Duration = Duration::from_nanos(1);

#[derive(Debug)]
pub struct Timeline {
    tables: Vec<Table>,
    segments: Vec<Segment>,
    lives: Vec<Life>,
    events: Vec<Event>,
}

#[derive(Debug)]
struct Table {
    record: TableRecord,
    jobs: HashMap<JobName, usize>,
}

/// A stretch of wall clock over which it was not set back.
#[derive(Debug)]
struct Segment {
    from: Timestamp,
    /// It begins with a step back of which only an earlier version, or nothing, tells: slots around it may count for
    /// the time before.
    vague: bool,
    /// Slots that were due by `sure` must have been dealt with, those after `until` can't have been.
    sure: Timestamp,
    until: Timestamp,
    /// Slots up to here have their rows, due or not: the daemon closed what it was about to leave.
    complete: Option<Timestamp>,
    /// Which table was in force from when on.
    tables: Vec<(Timestamp, usize)>,
    /// It was cut since an event lies before those that were written earlier, and nothing says why.
    guessed: bool,
}

/// From a start of the daemon to its end.
#[derive(Clone, Debug)]
pub struct Life {
    pub started: Timestamp,
    /// When it said that it stops; `None` where it died, or lives.
    pub stopped: Option<Timestamp>,
    /// The last instant at which it wrote an event.
    pub last_event: Timestamp,
    pub pid: Option<u64>,
    boot: Option<(String, Timestamp)>,
    table: Option<usize>,
}

/// A stretch of one segment over which one table was in force, as one job sees it.
#[derive(Debug)]
pub(super) struct Span {
    pub(super) schedule: Schedule,
    /// Slots from `first` on and up to `last` may have their rows in this segment.
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
    jitter: Duration,
    after: Option<Timestamp>,
    sure: Timestamp,
    complete: Option<Timestamp>,
}

impl Span {
    /// Whether the daemon must have dealt with this slot of the span by now.
    pub(super) fn is_sure(&self, slot: Timestamp) -> bool {
        self.after.is_none_or(|after| after < slot)
            && (later(slot, self.jitter) <= self.sure || self.complete.is_some_and(|at| slot <= at))
    }
}

/// How far a daemon that lives may be behind.
const BEHIND: Duration = PUNCTUAL;

impl Known {
    /// `living`: the pid of the daemon that has the state directory, and when it took it. One that has said that it
    /// stops takes no slots any more, and one that begins has a moment until its first word.
    pub fn of(
        chronicle: &Chronicle,
        living: Option<(Option<u32>, Option<Timestamp>)>,
        now: Timestamp,
    ) -> Self {
        let by = earlier(now, BEHIND);
        let Some((pid, since)) = living else { return Self::Written };
        let last = chronicle
            .events
            .iter()
            .rfind(|event| matches!(event.kind.as_str(), "daemon_started" | "daemon_stopped"));
        let its =
            last.is_some_and(|event| pid.is_none() || event.detail["pid"].as_u64() == pid.map(u64::from));
        let works = last.is_some_and(|event| event.kind == "daemon_started");
        let begins = since.is_some_and(|since| by < since && since <= now);
        match (its, works) {
            (true, true) => Self::Live(by),
            (true, false) => Self::Written,
            (false, _) if begins => Self::Written,
            (false, _) => Self::Live(by),
        }
    }
}

/// Up to where rows must be complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nobody takes slots now: up to the last instant that was accounted for.
    Written,
    /// A daemon lives and is to have dealt with everything that was due by this instant.
    Live(Timestamp),
}

impl Timeline {
    pub fn new(chronicle: Chronicle, known: Known) -> Self {
        let Chronicle { accounted, tables, events, .. } = chronicle;
        let mut walk = Walk {
            waiting: tables.iter().map(|table| table.in_force_from).collect(),
            taken: 0,
            segments: vec![],
            lives: vec![],
            latest: None,
        };
        for (index, event) in events.iter().enumerate() {
            if event.kind == "daemon_started" {
                // The table that it brings is already in force after the cut of which the next event tells.
                let same = events[index..].iter().take_while(|next| next.at == event.at);
                let behind = same.filter(|next| next.kind == "clock_behind_ledger").last();
                if let Some(cut) = behind.and_then(Cut::told) {
                    walk.cut(cut, event.at, true);
                }
            }
            walk.event(event);
        }
        while walk.taken < walk.waiting.len() {
            walk.take_table();
        }
        let Walk { mut segments, lives, .. } = walk;
        let accounted = match known {
            Known::Written => accounted,
            // One of a future that did not come says nothing.
            Known::Live(by) => accounted.filter(|at| *at <= later(by, 2 * PUNCTUAL)),
        };
        let by = match known {
            Known::Written => accounted,
            Known::Live(by) => Some(by),
        };
        if let Some(last) = segments.last_mut() {
            last.sure = by.unwrap_or(last.from);
            last.until = accounted.max(by).unwrap_or(last.from);
            last.complete = accounted;
        }
        // Where nothing tells how far a segment went, it went no further than anything that is known.
        let told = segments.iter().map(|segment| segment.until).filter(|until| *until < Timestamp::MAX);
        let completes = segments.iter().filter_map(|segment| segment.complete);
        let known = told.chain(completes).chain(events.iter().map(|event| event.at));
        let farthest = known.max().unwrap_or(Timestamp::MIN);
        for segment in &mut segments {
            segment.until = segment.until.min(farthest);
        }
        let tables = tables
            .into_iter()
            .map(|record| Table {
                jobs: record.jobs.iter().enumerate().map(|(index, job)| (job.job.clone(), index)).collect(),
                record,
            })
            .collect();
        Self { tables, segments, lives, events }
    }

    /// The last instant that is judged.
    pub fn until(&self) -> Option<Timestamp> {
        self.segments.last().map(|segment| segment.until)
    }

    /// Every job that was in a table.
    pub fn jobs(&self) -> BTreeSet<&JobName> {
        self.tables.iter().flat_map(|table| table.jobs.keys()).collect()
    }

    /// As they were written.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    pub fn lives(&self) -> &[Life] {
        &self.lives
    }

    /// The tables that say something of this job at `at`, one for each pass of the clock by that instant; the last one
    /// is that of the latest pass.
    pub fn in_force(&self, at: Timestamp) -> Vec<&TableRecord> {
        let passes = self.segments.iter().filter_map(|segment| {
            if at < segment.from || segment.until < at {
                return None;
            }
            segment.tables.iter().rev().find(|(from, _)| *from <= at).map(|(_, table)| *table)
        });
        passes.map(|table| &self.tables[table].record).collect()
    }

    /// The table that is in force at the end.
    pub fn newest(&self) -> Option<&TableRecord> {
        self.tables.last().map(|table| &table.record)
    }

    /// Zones are looked up once a table.
    pub(super) fn zones(&self) -> Vec<BTreeMap<&str, TimeZone>> {
        self.tables.iter().map(|table| table.record.zones_then()).collect()
    }

    /// Where this job had slots.
    pub(super) fn spans(&self, job: &JobName, zones: &[BTreeMap<&str, TimeZone>]) -> Vec<Span> {
        let mut spans = vec![];
        for segment in &self.segments {
            for (index, (from, table)) in segment.tables.iter().enumerate() {
                let Some(one) = self.job_in(*table, job) else { continue };
                let Some(schedule) = one.schedule_then(&zones[*table]) else { continue };
                let next = segment.tables.get(index + 1).map(|(next, _)| earlier(*next, TICK));
                let vague = index == 0 && segment.vague;
                spans.push(Span {
                    schedule,
                    // Those whose jitter was not over when the clock was set come by again too.
                    first: if vague { earlier(*from, one.jitter) } else { *from },
                    last: next.unwrap_or(segment.until).min(segment.until),
                    jitter: one.jitter,
                    after: segment.vague.then_some(segment.from),
                    sure: segment.sure,
                    complete: segment.complete,
                });
            }
        }
        spans
    }

    /// The boots for which this job wants a row of `@reboot`, by the time of the boot.
    pub(super) fn boots(&self, job: &JobName, zones: &[BTreeMap<&str, TimeZone>]) -> BTreeSet<Timestamp> {
        let mut boots = BTreeSet::new();
        for life in &self.lives {
            let (Some(table), Some((_, boot))) = (life.table, &life.boot) else { continue };
            let Some(one) = self.job_in(table, job) else { continue };
            let at_boot = one.schedule_then(&zones[table]).is_some_and(|schedule| schedule.at_boot());
            // The first transaction of a daemon claims it, unless its jitter is still to come.
            if at_boot && (one.jitter.is_zero() || later(*boot, one.jitter) <= life.started) {
                boots.insert(*boot);
            }
        }
        boots
    }

    fn job_in(&self, table: usize, job: &JobName) -> Option<&TableJob> {
        let table = self.tables.get(table)?;
        table.jobs.get(job).and_then(|index| table.record.jobs.get(*index))
    }
}

/// The wall clock before it was set. Events of earlier versions tell only by how much.
pub fn step_from(event: &Event) -> Option<Timestamp> {
    if let Some(from) = instant_of(event, "from") {
        return Some(from);
    }
    let seconds = event.detail["seconds"].as_f64()?;
    event.at.checked_sub(jiff::SignedDuration::try_from_secs_f64(seconds).ok()?).ok()
}

fn instant_of(event: &Event, key: &str) -> Option<Timestamp> {
    event.detail[key].as_str()?.parse().ok()
}

pub(super) fn later(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

pub(super) fn earlier(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_sub(by).unwrap_or(Timestamp::MIN)
}
