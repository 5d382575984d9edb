//! What explains a row, or that there is none: whether a daemon lived, who took a run over, pauses, the clock.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use jiff::Timestamp;

use super::{Facts, LOOKED_THROUGH};
use crate::ledger::timeline::{Life, Timeline, step_from};
use crate::ledger::{Event, Filter, Ledger, LedgerError};
use crate::model::{Outcome, RunRecord, Trigger};

/// A time without a daemon.
pub(super) struct Down {
    /// When it was stopped, or its last sign.
    pub(super) from: Timestamp,
    /// It did not say that it stops.
    pub(super) died: bool,
    pub(super) until: Option<Timestamp>,
}

/// A daemon began, and took over what the one before it had left running.
pub(super) struct TakeOver {
    pub(super) down: Down,
    pub(super) at: Timestamp,
    pub(super) found: Found,
}

/// How it found the program.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Found {
    Running,
    /// It had ended meanwhile, and its spawner could tell how.
    Ended,
    /// It lived, and nobody was left who could tell how it ends.
    WithoutSpawner,
}

impl Facts {
    pub(super) fn find_causes(
        &mut self,
        ledger: &dyn Ledger,
        timeline: &Timeline,
    ) -> Result<(), LedgerError> {
        let at = self.slot.unwrap_or(self.asked);
        let ended = self.rows.iter().filter_map(|row| row.finished_at.or(row.started_at)).max();
        let running = self.rows.iter().any(|row| row.outcome == Outcome::Running);
        let end = if running { self.now } else { ended.unwrap_or(at).max(at) };
        let unexplained = self.rows.is_empty() && (self.slot.is_some() || self.table.is_none());
        let missed = unexplained
            || self.rows.iter().any(|row| {
                let late = row.started_at.is_some_and(|started| started.duration_since(at).as_secs() >= 1);
                let reason = row.reason.as_deref();
                let late = late || row.trigger == Trigger::CatchUp;
                late || matches!(reason, Some("missed" | "coalesced" | "removed"))
            });
        if missed && at <= self.now {
            self.down = down_at(ledger, timeline, at, self.lives)?;
        }
        self.find_take_overs(ledger, timeline)?;
        let ours = |event: &Event| event.detail["job"].as_str().is_none_or(|job| job == self.job.as_str());
        let is_pause = |event: &&Event| matches!(event.kind.as_str(), "paused" | "held") && ours(event);
        if self.was_skipped_for("paused") {
            let mut earlier = timeline.events().iter().filter(is_pause).filter(|event| event.at <= at);
            let first = || timeline.events().iter().find(is_pause);
            self.pause = earlier.next_back().or_else(first).cloned();
            let ends = |event: &&Event| {
                let same = |pause: &Event| event.detail["job"] == pause.detail["job"] && pause.at <= event.at;
                event.kind == "resumed" && self.pause.as_ref().is_some_and(same)
            };
            self.resumed = timeline.events().iter().find(ends).map(|event| event.at);
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

    /// Of runs of the rows that a daemon began and a later one had in hand.
    fn find_take_overs(&mut self, ledger: &dyn Ledger, timeline: &Timeline) -> Result<(), LedgerError> {
        let lives = timeline.lives();
        let adopted = timeline.events().iter().filter(|event| event.kind == "adopted");
        let mut found: Vec<(usize, Found)> = vec![];
        for row in &self.rows {
            for event in adopted.clone().filter(|event| is_of(event, row)) {
                let how = match event.detail["found"].as_str() {
                    Some("ended") => Found::Ended,
                    Some("without_spawner") => Found::WithoutSpawner,
                    _ => Found::Running,
                };
                found.extend(lives.iter().rposition(|life| life.started <= event.at).map(|life| (life, how)));
            }
            // Earlier versions wrote no such event.
            for attempt in row.attempts.iter().filter(|attempt| attempt.outcome != Outcome::Interrupted) {
                let until = attempt.finished_at.unwrap_or(self.now);
                let during = |life: &Life| attempt.started_at < life.started && life.started <= until;
                let during = lives.iter().enumerate().filter(|(_, life)| during(life));
                found.extend(during.map(|(life, _)| (life, Found::Running)));
            }
        }
        found.sort_by_key(|(life, _)| *life);
        found.dedup_by_key(|(life, _)| *life);
        for (index, found) in found {
            let Some(before) = index.checked_sub(1) else { continue };
            let down = down_after(ledger, timeline, before)?;
            self.took_over.push(TakeOver { down, at: lives[index].started, found });
        }
        Ok(())
    }

    /// The run that overlapped with a slot, though it had ended: a daemon that begins hears of ends only after it has
    /// dealt with what was due.
    pub(super) fn find_not_yet_closed(
        &mut self,
        ledger: &dyn Ledger,
        timeline: &Timeline,
    ) -> Result<(), LedgerError> {
        let Some(slot) = self.slot.filter(|_| self.in_the_way.is_none()) else { return Ok(()) };
        let ours = |event: &&Event| event.kind == "adopted" && event.detail["job"] == self.job.as_str();
        let next = timeline.events().iter().filter(ours).find(|event| slot <= event.at);
        if let Some(run) = next.and_then(|event| event.detail["run"].as_i64()) {
            let run = ledger.run(crate::model::RunId(run))?;
            self.in_the_way = run.filter(|run| run.started_at.is_some_and(|at| at <= slot));
        }
        Ok(())
    }
}

fn is_of(event: &Event, row: &RunRecord) -> bool {
    event.detail["run"].as_i64() == Some(row.run.0)
}

/// From when on an event tells: what a step or a suspend jumped over belongs to it.
pub(super) fn begin_of(event: &Event) -> Timestamp {
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
    timeline: &Timeline,
    at: Timestamp,
    lives_now: bool,
) -> Result<Option<Down>, LedgerError> {
    let lives = timeline.lives();
    let Some(index) = lives.iter().rposition(|life| life.started <= at) else { return Ok(None) };
    if index + 1 == lives.len() && lives_now && lives[index].stopped.is_none() {
        return Ok(None);
    }
    let down = down_after(ledger, timeline, index)?;
    Ok((down.from <= at).then_some(down))
}

/// The time after one life of the daemon.
fn down_after(ledger: &dyn Ledger, timeline: &Timeline, index: usize) -> Result<Down, LedgerError> {
    let life = &timeline.lives()[index];
    let until = timeline.lives().get(index + 1).map(|next| next.started);
    if let Some(stopped) = life.stopped {
        return Ok(Down { from: stopped, died: false, until });
    }
    // It died: what it did last tells until when it lived at least. Ends of what it left running tell nothing.
    let adopted = timeline.events().iter().filter(|event| event.kind == "adopted");
    let left: BTreeSet<i64> = adopted.filter_map(|event| event.detail["run"].as_i64()).collect();
    let mut last_sign = life.last_event;
    let mut rows = LOOKED_THROUGH;
    let filter = Filter { since: Some(life.last_event), ..Filter::default() };
    ledger.visit(&filter, &mut |record| {
        let attempts = record.attempts.iter().map(|attempt| attempt.started_at);
        let end = record.finished_at.filter(|_| !left.contains(&record.run.0));
        let signs = attempts.chain(record.started_at).chain(end);
        let of_this_life = signs.filter(|sign| until.is_none_or(|until| *sign < until));
        last_sign = of_this_life.fold(last_sign, Timestamp::max);
        rows -= 1;
        if rows == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(Down { from: last_sign, died: true, until })
}
