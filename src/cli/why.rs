//! `why`: what happened to a job at a time, and what explains it.
//!
//! Gathers the facts from the ledger alone, so that it works without a daemon and after it; `causes` finds what
//! explains it, `words` makes the paragraph.

mod causes;
mod words;

use std::io::Write;
use std::ops::ControlFlow;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::args::WhyArgs;
use super::failure::{Failure, code};
use super::{Context, audit, output, stored, time};
use crate::daemon;
use crate::ledger::timeline::{Known, Timeline};
use crate::ledger::{Event, Filter, Ledger, LedgerError, TableJob, TableRecord};
use crate::model::{JobName, Outcome, RunRecord};
use crate::schedule::Schedule;
use causes::{Down, TakeOver};

const TICK: Duration = Duration::from_nanos(1);
const MINUTE: Duration = Duration::from_secs(60);

/// How far back a run may have begun that was under way at the time asked for, and how many rows are looked through
/// for it.
const LONG_RUN: Duration = Duration::from_secs(7 * 86_400);
const LOOKED_THROUGH: usize = 20_000;

pub(super) fn run(context: &Context, args: &WhyArgs) -> Result<u8, Failure> {
    let view = stored::view(args.json.wanted);
    let ledger = context.ledger()?;
    let job = audit::named(context, ledger.as_ref(), &args.job)?;
    let Some(ledger) = ledger else {
        return Err(Failure::wrong(format!("{job}: nothing is known of it yet: there is no ledger")));
    };
    let living = daemon::living(&context.paths().state).map(|living| (living.pid, living.since));
    let facts = facts(&ledger, &job, living, view.now, |zone| {
        let view = super::history::View { zone: zone.clone(), ..view.clone() };
        stored::since(&args.time, &view)
    });
    let facts = facts.map_err(anyhow::Error::from)?.map_err(Failure::wrong)?;
    let explanation = words::explanation(&facts);
    if view.json {
        output::json(&Document {
            job: &job,
            time: facts.asked,
            slot: facts.slot,
            due: facts.slot.is_some(),
            before: facts.before,
            after: facts.after,
            rows: &facts.rows,
            events: &facts.events,
            explanation: &explanation,
        })?;
    } else {
        let mut out = output::data();
        writeln!(out, "{explanation}")?;
        out.flush()?;
    }
    Ok(code::DONE)
}

#[derive(Serialize)]
struct Document<'a> {
    job: &'a JobName,
    time: Timestamp,
    /// The slot that is explained; null where none was due.
    slot: Option<Timestamp>,
    due: bool,
    /// The slots around the time, by the table that was in force.
    before: Option<Timestamp>,
    after: Option<Timestamp>,
    rows: &'a [RunRecord],
    events: &'a [Event],
    explanation: &'a str,
}

/// What is known of one job at one time.
struct Facts {
    job: JobName,
    asked: Timestamp,
    now: Timestamp,
    zone: TimeZone,
    /// The table that was in force: since when, and what it said of the job.
    table: Option<(Timestamp, Option<TableJob>)>,
    schedule: Option<Schedule>,
    slot: Option<Timestamp>,
    before: Option<Timestamp>,
    after: Option<Timestamp>,
    /// Of the slot; where none was due, what ran at that time.
    rows: Vec<RunRecord>,
    /// A row stands for many slots.
    ranged: Option<u64>,
    /// The run that was under way when the slot came, or that the daemon had yet to close when it came to it.
    in_the_way: Option<RunRecord>,
    /// The run that stands for a coalesced slot.
    stands_for: Option<RunRecord>,
    /// The daemon was down around the slot: since when (or its last sign, where it died), and until when.
    down: Option<Down>,
    /// Daemons that began while a run of the rows was under way, or found that it had ended.
    took_over: Vec<TakeOver>,
    pause: Option<Event>,
    /// When the pause was ended by a person.
    resumed: Option<Timestamp>,
    /// Everything that was noted around it.
    events: Vec<Event>,
    kept_from: Option<Timestamp>,
    until: Option<Timestamp>,
    lives: bool,
}

/// `read` reads the time that was asked for, in the job's zone. Inside: why it can't be read.
fn facts(
    ledger: &dyn Ledger,
    job: &JobName,
    living: Option<(Option<u32>, Option<Timestamp>)>,
    now: Timestamp,
    read: impl Fn(&TimeZone) -> Result<Timestamp, String>,
) -> Result<Result<Facts, String>, LedgerError> {
    let chronicle = ledger.chronicle()?;
    let kept_from = chronicle.kept_from;
    let known = Known::of(&chronicle, living, now);
    let timeline = Timeline::new(chronicle, known);
    let zone = timeline.newest().and_then(|table| zone_of(table, job)).unwrap_or_else(TimeZone::system);
    let asked = match read(&zone) {
        Ok(asked) => asked,
        Err(error) => return Ok(Err(error)),
    };
    let tables = timeline.in_force(asked);
    // What is still to come goes by the table of now.
    let table =
        tables.last().copied().or_else(|| timeline.newest().filter(|table| table.in_force_from <= asked));
    let one = table.and_then(|table| table.jobs.iter().find(|one| one.job == *job));
    let schedule = table.zip(one).and_then(|(table, one)| one.schedule_then(&table.zones_then()));
    let zone = schedule.as_ref().map_or(zone, |schedule| schedule.zone().clone());
    let mut facts = Facts {
        job: job.clone(),
        asked,
        now,
        zone,
        table: table.map(|table| (table.in_force_from, one.cloned())),
        schedule,
        slot: None,
        before: None,
        after: None,
        rows: vec![],
        ranged: None,
        in_the_way: None,
        stands_for: None,
        down: None,
        took_over: vec![],
        pause: None,
        resumed: None,
        events: vec![],
        kept_from,
        until: timeline.until(),
        lives: matches!(known, Known::Live(_)),
    };
    facts.find_slot(ledger)?;
    facts.find_rows(ledger)?;
    if facts.was_skipped_for("overlap") {
        facts.find_not_yet_closed(ledger, &timeline)?;
    }
    facts.find_causes(ledger, &timeline)?;
    Ok(Ok(facts))
}

fn zone_of(table: &TableRecord, job: &JobName) -> Option<TimeZone> {
    let name = &table.jobs.iter().find(|one| one.job == *job)?.timezone;
    table.zones_then().remove(name.as_str())
}

impl Facts {
    /// The slot at the time asked for.
    fn find_slot(&mut self, ledger: &dyn Ledger) -> Result<(), LedgerError> {
        let last = last_of(self.asked);
        let from = self.asked.checked_sub(TICK).unwrap_or(self.asked);
        let next = self.schedule.as_ref().and_then(|schedule| schedule.next_after(from));
        self.slot = next.filter(|slot| *slot <= last);
        if self.slot.is_none() {
            // What has a row was a slot: `@reboot`, and what an older table left behind.
            ledger.visit_slots(&self.job, self.asked, &mut |row| {
                if row.slot_last.is_none() && self.asked <= row.slot && row.slot <= last {
                    self.slot = Some(row.slot);
                }
                if row.slot < self.asked { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
        }
        let at = self.slot.unwrap_or(self.asked);
        self.after = self.schedule.as_ref().and_then(|schedule| schedule.next_after(at));
        self.before = self.schedule.as_ref().and_then(|schedule| slot_before(schedule, at));
        Ok(())
    }

    fn find_rows(&mut self, ledger: &dyn Ledger) -> Result<(), LedgerError> {
        let Some(slot) = self.slot else {
            self.rows = self.under_way(ledger, self.asked, last_of(self.asked))?;
            return Ok(());
        };
        let mut runs = vec![];
        ledger.visit_slots(&self.job, slot, &mut |row| {
            if row.slot > slot {
                return ControlFlow::Break(());
            }
            if row.slot == slot || row.slot_last.is_some_and(|last| slot <= last) {
                runs.push(row.run);
                self.ranged = row.slot_last.map(|_| row.slots).or(self.ranged);
            }
            ControlFlow::Continue(())
        })?;
        for run in runs {
            self.rows.extend(ledger.run(run)?);
        }
        if self.was_skipped_for("overlap") {
            let found = self.under_way(ledger, slot, slot)?;
            self.in_the_way = found.into_iter().find(|record| record.slot != Some(slot));
        }
        if self.was_skipped_for("coalesced") {
            // The run that stands for it is of the next slot that was not skipped.
            let mut stand_in = None;
            ledger.visit_slots(&self.job, slot, &mut |row| {
                if row.slot > slot && row.outcome != Outcome::Skipped {
                    stand_in = Some(row.run);
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            })?;
            self.stands_for = stand_in.map(|run| ledger.run(run)).transpose()?.flatten();
        }
        Ok(())
    }

    fn was_skipped_for(&self, reason: &str) -> bool {
        self.rows.iter().any(|row| row.outcome == Outcome::Skipped && row.reason.as_deref() == Some(reason))
    }

    /// Runs of the job that had begun by `end` and had not ended at `from`, oldest first.
    fn under_way(
        &self,
        ledger: &dyn Ledger,
        from: Timestamp,
        end: Timestamp,
    ) -> Result<Vec<RunRecord>, LedgerError> {
        let since = from.checked_sub(LONG_RUN).ok();
        let filter = Filter { job: Some(self.job.to_string()), since, ..Filter::default() };
        let mut found = vec![];
        let mut left = LOOKED_THROUGH;
        ledger.visit(&filter, &mut |record| {
            let began = record.started_at.is_some_and(|at| at <= end);
            if began && record.finished_at.is_none_or(|at| from <= at) {
                found.push(record);
            }
            left -= 1;
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        found.reverse();
        Ok(found)
    }
}

/// The end of what was asked for: a time that is a whole minute stands for all of it.
fn last_of(asked: Timestamp) -> Timestamp {
    let whole_minute = asked.as_nanosecond() % 60_000_000_000 == 0;
    let width = if whole_minute { MINUTE - TICK } else { Duration::ZERO };
    asked.checked_add(width).unwrap_or(asked)
}

/// The last slot before an instant: looked for further and further back.
fn slot_before(schedule: &Schedule, at: Timestamp) -> Option<Timestamp> {
    let mut reach = Duration::from_secs(1);
    loop {
        let from = at.checked_sub(reach).ok()?;
        let mut last = None;
        let mut next = schedule.next_after(from).filter(|slot| *slot < at);
        while let Some(slot) = next {
            last = Some(slot);
            next = schedule.next_after(slot).filter(|slot| *slot < at);
        }
        if last.is_some() || reach > Duration::from_secs(50 * 366 * 86_400) {
            return last;
        }
        reach *= 4;
    }
}

/// As people read it, in the job's zone.
fn show(at: Timestamp, zone: &TimeZone) -> String {
    time::show(at, zone)
}
