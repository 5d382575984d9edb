//! Proves that each slot has its one row, or says which has not.
//!
//! Pure over what the ledger remembers: slots are computed again from the tables of their day (`timeline`), rows come
//! one at a time, and the two are matched in the order of time. Never reads a clock, and trusts no count that it can
//! make itself.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::ControlFlow;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::timeline::{Known, Span, Timeline, earlier};
use super::{Ledger, LedgerError, SlotRow};
use crate::model::{JobName, Outcome, RunId};
use crate::schedule::Schedule;

const TICK: Duration = Duration::from_nanos(1);

/// What is to be judged.
#[derive(Clone, Debug)]
pub struct Question {
    /// Absent: every job that was ever in a table.
    pub job: Option<JobName>,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// The daemon that has the state directory: its pid, and since when.
    pub living: Option<(Option<u32>, Option<Timestamp>)>,
    pub now: Timestamp,
}

/// The keys are those of `audit --json`.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Audit {
    pub slots: u64,
    pub accounted: u64,
    pub unaccounted: Vec<Unaccounted>,
    pub duplicates: Vec<Duplicate>,
    /// The last instant that was judged; null in a ledger without a table.
    pub until: Option<Timestamp>,
    /// What is older was not: nobody asked, or its rows may have been dropped by age.
    #[serde(skip)]
    pub since: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unaccounted {
    pub job: JobName,
    pub slot: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Duplicate {
    pub job: JobName,
    pub slot: Timestamp,
    /// The rows that answer for it.
    pub runs: Vec<RunId>,
}

impl Audit {
    pub fn is_proven(&self) -> bool {
        self.unaccounted.is_empty() && self.duplicates.is_empty()
    }
}

/// # Errors
/// Where the ledger can't be read.
pub fn audit(ledger: &dyn Ledger, question: &Question) -> Result<Audit, LedgerError> {
    let chronicle = ledger.chronicle()?;
    let kept_from = chronicle.kept_from;
    let known = Known::of(&chronicle, question.living, question.now);
    let timeline = Timeline::new(chronicle, known);
    let mut found = Audit { until: timeline.until(), ..Audit::default() };
    if let Some(until) = question.until {
        found.until = found.until.map(|judged| judged.min(until));
    }
    found.since = question.since.max(kept_from);
    let zones = timeline.zones();
    let jobs: Vec<JobName> = match &question.job {
        Some(job) => vec![job.clone()],
        None => timeline.jobs().into_iter().cloned().collect(),
    };
    for job in jobs {
        judge_job(ledger, &timeline, &zones, &job, question.until, &mut found)?;
    }
    // Rows that were dropped by age while this was looked at leave no hole.
    let kept_now = if found.is_proven() { kept_from } else { ledger.chronicle()?.kept_from };
    if let Some(now) = kept_now.filter(|now| Some(*now) > kept_from) {
        let before = found.unaccounted.len();
        found.unaccounted.retain(|hole| now <= hole.slot);
        let gone = before - found.unaccounted.len();
        found.slots -= u64::try_from(gone).unwrap_or(0).min(found.slots);
    }
    Ok(found)
}

fn judge_job(
    ledger: &dyn Ledger,
    timeline: &Timeline,
    zones: &[BTreeMap<&str, TimeZone>],
    job: &JobName,
    until: Option<Timestamp>,
    found: &mut Audit,
) -> Result<(), LedgerError> {
    let since = found.since.unwrap_or(Timestamp::MIN);
    let until = until.unwrap_or(Timestamp::MAX);
    for boot in timeline.boots(job, zones) {
        if since <= boot && boot <= until {
            found.slots += 1;
            match ledger.claimed(job, boot, 0)? {
                Some(_) => found.accounted += 1,
                None => found.unaccounted.push(Unaccounted { job: job.clone(), slot: boot }),
            }
        }
    }
    let mut judge = Judge::new(job, timeline.spans(job, zones), since, until, found);
    let Some(first) = judge.next_slot() else { return Ok(()) };
    let last = judge.last;
    ledger.visit_slots(job, first, &mut |row| {
        if row.slot > last {
            return ControlFlow::Break(());
        }
        judge.row(row);
        ControlFlow::Continue(())
    })?;
    judge.end();
    Ok(())
}

/// Matches the slots of one job with its rows, both in the order of time.
struct Judge<'a> {
    job: &'a JobName,
    spans: Vec<Span>,
    /// Of each span which schedule it has, by a number.
    schedules: Vec<usize>,
    /// The next slot of each span.
    coming: BinaryHeap<Reverse<(Timestamp, usize)>>,
    /// The schedules that give the slot which is judged.
    giving: Vec<usize>,
    /// The first and the last instant that are looked at.
    since: Timestamp,
    last: Timestamp,
    /// Rows of the next slot.
    exact: Vec<SlotRow>,
    ranges: Vec<Range>,
    found: &'a mut Audit,
}

struct Range {
    row: SlotRow,
    last: Timestamp,
    /// Slots that it was found to answer for; they are compared with what it says where each comes only once.
    counted: u64,
    comparable: bool,
    /// It answers for the slots of these schedules: one that another table gave in another pass of the clock may lie
    /// between them.
    schedules: Vec<usize>,
}

/// What one slot asks for.
#[derive(Default)]
struct Wanted {
    /// Passes of the clock that must have dealt with it, and those of them that give it a row of its own.
    sure: usize,
    sure_interval: usize,
    /// All that may have.
    possible: usize,
    possible_interval: usize,
}

impl<'a> Judge<'a> {
    fn new(
        job: &'a JobName,
        spans: Vec<Span>,
        since: Timestamp,
        until: Timestamp,
        found: &'a mut Audit,
    ) -> Self {
        let last = spans.iter().map(|span| span.last).max().unwrap_or(Timestamp::MIN).min(until);
        let schedules = numbered(&spans);
        let mut judge = Self {
            job,
            schedules,
            coming: BinaryHeap::new(),
            giving: vec![],
            since,
            last,
            exact: vec![],
            ranges: vec![],
            found,
            spans,
        };
        for index in 0..judge.spans.len() {
            let before = earlier(judge.spans[index].first.max(since), TICK);
            judge.advance(index, before);
        }
        judge
    }

    fn advance(&mut self, index: usize, after: Timestamp) {
        let Span { schedule, last, .. } = &self.spans[index];
        if let Some(next) = schedule.next_after(after).filter(|next| next <= last && *next <= self.last) {
            self.coming.push(Reverse((next, index)));
        }
    }

    fn next_slot(&self) -> Option<Timestamp> {
        self.coming.peek().map(|Reverse((slot, _))| *slot)
    }

    fn row(&mut self, row: SlotRow) {
        while self.next_slot().is_some_and(|slot| slot < row.slot) {
            self.judge_next();
        }
        match row.slot_last {
            Some(last) => {
                let comparable = self.since <= row.slot && last <= self.last;
                let schedules = self.schedules_of(&row, last);
                self.ranges.push(Range { row, last, counted: 0, comparable, schedules });
            }
            None if self.next_slot() == Some(row.slot) => self.exact.push(row),
            None => {}
        }
    }

    /// The schedules whose slots a range row answers for: those that give both its ends, and where they are several,
    /// as many slots as it says. None where no table is known to have given it: then it answers for all.
    fn schedules_of(&self, row: &SlotRow, last: Timestamp) -> Vec<usize> {
        let gives = |span: &Span, slot| span.schedule.next_after(earlier(slot, TICK)) == Some(slot);
        let mut giving: Vec<(usize, &Span)> = vec![];
        for (number, span) in self.schedules.iter().zip(&self.spans) {
            let over = span.first <= last && row.slot <= span.last;
            let known = giving.iter().any(|(other, _)| other == number);
            if over && !known && gives(span, row.slot) && gives(span, last) {
                giving.push((*number, span));
            }
        }
        if giving.len() > 1 {
            let exact = |span: &Span| {
                let slots = std::iter::successors(Some(row.slot), |slot| span.schedule.next_after(*slot));
                let within = slots.take_while(|slot| *slot <= last);
                within.zip(0..=row.slots).count() as u64 == row.slots
            };
            let matching: Vec<(usize, &Span)> =
                giving.iter().filter(|(_, span)| exact(span)).copied().collect();
            if !matching.is_empty() {
                giving = matching;
            }
        }
        giving.into_iter().map(|(number, _)| number).collect()
    }

    fn end(&mut self) {
        while self.next_slot().is_some() {
            self.judge_next();
        }
        self.close_ranges(Timestamp::MAX);
    }

    fn judge_next(&mut self) {
        let Some(slot) = self.next_slot() else { return };
        self.close_ranges(slot);
        let wanted = self.wanted(slot);
        let mut rows = std::mem::take(&mut self.exact);
        for range in &mut self.ranges {
            let gave = |number: &usize| range.schedules.is_empty() || range.schedules.contains(number);
            if range.row.slot <= slot && self.giving.iter().any(gave) {
                range.counted += 1;
                range.comparable &= wanted.possible == 1;
                rows.push(range.row);
            }
        }
        let least = wanted.sure_interval.max(wanted.sure.min(1));
        let most_runs = if wanted.possible_interval == 0 { 1 } else { wanted.possible };
        let ran = rows.iter().filter(|row| row.outcome != Outcome::Skipped).count();
        self.found.slots += least as u64;
        self.found.accounted += least.min(rows.len()) as u64;
        if rows.len() < least {
            self.found.unaccounted.push(Unaccounted { job: self.job.clone(), slot });
        }
        if rows.len() > wanted.possible || ran > most_runs {
            let runs = rows.iter().map(|row| row.run).collect();
            self.found.duplicates.push(Duplicate { job: self.job.clone(), slot, runs });
        }
    }

    fn wanted(&mut self, slot: Timestamp) -> Wanted {
        let mut wanted = Wanted::default();
        self.giving.clear();
        while let Some(Reverse((_, index))) = self.coming.peek().filter(|next| next.0.0 == slot) {
            let index = *index;
            self.coming.pop();
            self.giving.push(self.schedules[index]);
            let span = &self.spans[index];
            let interval = span.schedule.next_interval_after(earlier(slot, TICK)) == Some(slot);
            let sure = span.is_sure(slot);
            wanted.sure += usize::from(sure);
            wanted.sure_interval += usize::from(sure && interval);
            wanted.possible += 1;
            wanted.possible_interval += usize::from(interval);
            self.advance(index, slot);
        }
        wanted
    }

    /// Compares what range rows that end before `slot` say with what they were found to answer for.
    fn close_ranges(&mut self, slot: Timestamp) {
        let (job, found) = (self.job, &mut *self.found);
        self.ranges.retain(|Range { row, last, counted, comparable, .. }| {
            if *last >= slot {
                return true;
            }
            if *comparable && row.slots < *counted {
                found.unaccounted.push(Unaccounted { job: job.clone(), slot: *last });
                found.accounted -= (*counted - row.slots).min(found.accounted);
            }
            if *comparable && row.slots > *counted {
                found.duplicates.push(Duplicate { job: job.clone(), slot: *last, runs: vec![row.run] });
            }
            false
        });
    }
}

/// Numbers the schedules of spans, the same one by the same number.
fn numbered(spans: &[Span]) -> Vec<usize> {
    let mut known: Vec<&Schedule> = vec![];
    let mut numbers = vec![];
    for Span { schedule, .. } in spans {
        let same = |other: &&Schedule| {
            other.expressions() == schedule.expressions() && other.zone() == schedule.zone()
        };
        numbers.push(known.iter().position(same).unwrap_or(known.len()));
        if numbers.last() == Some(&known.len()) {
            known.push(schedule);
        }
    }
    numbers
}
