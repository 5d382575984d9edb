//! `why`: what happened to a job at a time, and what explains it.
//!
//! Gathers the facts from the ledger alone, so that it works without a daemon and after it; `words` makes the
//! paragraph of them.

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
use crate::ledger::timeline::{Known, Life, Timeline, step_from};
use crate::ledger::{Event, Filter, Ledger, LedgerError, TableJob, TableRecord};
use crate::model::{JobName, Outcome, RunRecord};
use crate::schedule::Schedule;

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
    /// The run that was under way when the slot came.
    in_the_way: Option<RunRecord>,
    /// The run that stands for a coalesced slot.
    stands_for: Option<RunRecord>,
    /// The daemon was down around the slot: since when (or its last sign, where it died), and until when.
    down: Option<Down>,
    /// Lives of the daemon that began while a run of the rows was under way.
    took_over: Vec<Life>,
    pause: Option<Event>,
    /// Everything that was noted around it.
    events: Vec<Event>,
    kept_from: Option<Timestamp>,
    until: Option<Timestamp>,
    lives: bool,
}

struct Down {
    from: Timestamp,
    /// It did not say that it stops.
    died: bool,
    until: Option<Timestamp>,
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
        events: vec![],
        kept_from,
        until: timeline.until(),
        lives: matches!(known, Known::Live(_)),
    };
    facts.find_slot(ledger)?;
    facts.find_rows(ledger)?;
    facts.find_causes(ledger, &timeline)?;
    Ok(Ok(facts))
}

fn zone_of(table: &TableRecord, job: &JobName) -> Option<TimeZone> {
    let name = &table.jobs.iter().find(|one| one.job == *job)?.timezone;
    table.zones_then().remove(name.as_str())
}

impl Facts {
    /// The slot at the time asked for; a time that is a whole minute stands for all of it.
    fn find_slot(&mut self, ledger: &dyn Ledger) -> Result<(), LedgerError> {
        let whole_minute = self.asked.as_nanosecond() % 60_000_000_000 == 0;
        let width = if whole_minute { MINUTE - TICK } else { Duration::ZERO };
        let last = self.asked.checked_add(width).unwrap_or(self.asked);
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
            let end = self.asked.checked_add(MINUTE).unwrap_or(self.asked);
            self.rows = self.under_way(ledger, self.asked, end)?;
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

    fn find_causes(&mut self, ledger: &dyn Ledger, timeline: &Timeline) -> Result<(), LedgerError> {
        let at = self.slot.unwrap_or(self.asked);
        let ended = self.rows.iter().filter_map(|row| row.finished_at.or(row.started_at)).max();
        let running = self.rows.iter().any(|row| row.outcome == Outcome::Running);
        let end = if running { self.now } else { ended.unwrap_or(at).max(at) };
        let lives = timeline.lives();
        let missed = self.rows.is_empty()
            || self.rows.iter().any(|row| {
                let late = row.started_at.is_some_and(|started| started.duration_since(at).as_secs() > 10);
                let reason = row.reason.as_deref();
                late || matches!(reason, Some("missed" | "coalesced" | "removed"))
            });
        if missed && at <= self.now {
            self.down = down_at(ledger, lives, at, self.lives)?;
        }
        for row in &self.rows {
            for attempt in &row.attempts {
                let until = attempt.finished_at.unwrap_or(self.now);
                let during = |life: &&Life| attempt.started_at < life.started && life.started <= until;
                if attempt.outcome != Outcome::Interrupted {
                    self.took_over.extend(lives.iter().filter(during).cloned());
                }
            }
        }
        let ours = |event: &Event| event.detail["job"].as_str().is_none_or(|job| job == self.job.as_str());
        let is_pause = |event: &&Event| matches!(event.kind.as_str(), "paused" | "held") && ours(event);
        if self.was_skipped_for("paused") {
            let earlier = timeline.events().iter().filter(is_pause).filter(|event| event.at <= at);
            let first = || timeline.events().iter().find(is_pause);
            self.pause = earlier.last().or_else(first).cloned();
        }
        let back_up = self.down.as_ref().and_then(|down| down.until);
        let end = back_up.unwrap_or(end).max(end);
        let touches = |event: &&Event| {
            if !ours(event) || matches!(event.kind.as_str(), "notice" | "alert_given_up") {
                return false;
            }
            let begins = begin_of(event);
            let (first, last) = (begins.min(event.at), begins.max(event.at));
            first <= end && at <= last
        };
        let down_from = self.down.as_ref().map(|down| down.from);
        let stop = timeline
            .events()
            .iter()
            .filter(|event| event.kind == "daemon_stopped" && Some(event.at) == down_from);
        self.events = self.pause.iter().cloned().collect();
        self.events.extend(stop.cloned());
        self.events.extend(timeline.events().iter().filter(touches).cloned());
        self.events.dedup();
        Ok(())
    }
}

/// From when on an event tells: what a step or a suspend jumped over belongs to it.
fn begin_of(event: &Event) -> Timestamp {
    let told = |key: &str| event.detail[key].as_str().and_then(|text| text.parse().ok());
    match event.kind.as_str() {
        "clock_stepped" => step_from(event).unwrap_or(event.at),
        "suspended" | "woke_late" => told("from").unwrap_or(event.at),
        "clock_behind_ledger" | "ledger_far_behind" => told("accounted").unwrap_or(event.at),
        _ => event.at,
    }
}

/// Whether the daemon was down at an instant, as far as it left a trace.
fn down_at(
    ledger: &dyn Ledger,
    lives: &[Life],
    at: Timestamp,
    lives_now: bool,
) -> Result<Option<Down>, LedgerError> {
    let Some(index) = lives.iter().rposition(|life| life.started <= at) else { return Ok(None) };
    let life = &lives[index];
    let until = lives.get(index + 1).map(|next| next.started);
    if until.is_none() && lives_now && life.stopped.is_none() {
        return Ok(None);
    }
    if let Some(stopped) = life.stopped {
        return Ok((stopped <= at).then_some(Down { from: stopped, died: false, until }));
    }
    // It died: what it did last tells until when it lived at least.
    let mut last_sign = life.last_event;
    let mut left = LOOKED_THROUGH;
    let filter = Filter { since: Some(life.last_event), ..Filter::default() };
    ledger.visit(&filter, &mut |record| {
        let attempts = record.attempts.iter().map(|attempt| attempt.started_at);
        let signs = attempts.chain(record.started_at).chain(record.finished_at);
        let of_this_life = signs.filter(|sign| until.is_none_or(|until| *sign < until));
        last_sign = of_this_life.fold(last_sign, Timestamp::max);
        left -= 1;
        if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok((last_sign <= at).then_some(Down { from: last_sign, died: true, until }))
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
