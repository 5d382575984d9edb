//! What the clocks tell beside the time: that somebody set them, that the machine slept, that nobody let us work.
//!
//! Owns the events that say so, each with the slots that it touched, written with those slots' rows. What becomes of
//! the slots is the plan's.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::plan::Event;
use super::{Engine, Turn, event};
use crate::ledger::{NewRow, Write};
use crate::model::JobName;
use crate::policy::{FAR, PUNCTUAL};

/// Jobs that an event names; of further ones it says how many.
const NAMED: usize = 100;

/// How long old rows are kept whatever their age, after a gap that a wrong clock may have made.
const SPARED: Duration = Duration::from_secs(86_400);

/// What one turn has learnt of the clocks, until its rows are known.
#[derive(Default)]
pub(super) struct Learnt {
    spans: Vec<Span>,
    /// The instant that the plan was set back from, and the jobs whose interval slots come again.
    set_back: Option<(Timestamp, Vec<JobName>)>,
}

/// A span of wall clock in which nobody looked after the slots.
struct Span {
    kind: &'static str,
    from: Timestamp,
    to: Timestamp,
    /// Where more slots may be than those after `from`: the first of them is due then.
    closed: bool,
}

impl Span {
    fn seconds(&self) -> f64 {
        self.to.duration_since(self.from).as_secs_f64()
    }
}

impl Engine {
    /// Reads the clocks. The plan hears of what they tell before it hears of anything else in this turn.
    pub(super) fn look_at_the_clock(&mut self, turn: &mut Turn) -> Timestamp {
        let look = self.drift.look(&*self.clock);
        let suspended = look.suspended.unwrap_or_default();
        let asleep_from = look.unset.checked_sub(suspended).unwrap_or(look.before);
        // Since it was due, or since we looked and left it for later.
        let late_from = self.awaited.map(|due| due.max(look.before)).filter(|due| *due < asleep_from);
        if let Some(from) = late_from {
            let span = Span { kind: "woke_late", from, to: asleep_from, closed: true };
            if span.seconds() > PUNCTUAL.as_secs_f64() {
                turn.learnt.spans.push(span);
            }
        }
        let mut gap = suspended;
        if look.suspended.is_some() {
            let span = Span { kind: "suspended", from: asleep_from, to: look.unset, closed: false };
            tracing::info!("the machine slept for {:.0} s", span.seconds());
            turn.learnt.spans.push(span);
        }
        if let Some(step) = look.step {
            let seconds = step.as_secs_f64();
            let way = if step.is_negative() { "back" } else { "forward" };
            tracing::warn!("the clock was set {way} by {:.1} s", seconds.abs());
            turn.learnt.spans.push(Span {
                kind: "clock_stepped",
                from: look.unset,
                to: look.now,
                closed: false,
            });
            gap += Duration::try_from(step).unwrap_or_default();
        }
        if gap > FAR {
            self.spare_old_rows();
            self.plan_event(Event::Gap { of: gap }, look.now.max(look.unset), turn);
        }
        if let Some(step) = look.step {
            self.hear_of_step(step, look.now, turn);
        }
        look.now
    }

    fn hear_of_step(&mut self, step: SignedDuration, now: Timestamp, turn: &mut Turn) {
        // Whatever the clock will show, old rows are looked at again within the hour.
        self.next_prune = now;
        let back = step.is_negative().then(|| step.unsigned_abs());
        self.plan_event(Event::ClockStepped { back }, now, turn);
    }

    pub(super) fn was_set_back(
        &mut self,
        from: Timestamp,
        epoch: u32,
        again: Vec<JobName>,
        now: Timestamp,
        turn: &mut Turn,
    ) {
        turn.writes.push(Write::SetBack { epoch });
        // The table came at an instant that lies ahead again, and is in force all the same.
        if let Some(record_of) = self.record_of {
            turn.writes.push(Write::Table(record_of(&self.table, now)));
        }
        turn.learnt.set_back = Some((from, again));
    }

    /// At start: the ledger tells of a time that has not come.
    pub(super) fn is_behind_ledger(
        &mut self,
        accounted: Timestamp,
        complete: Option<Timestamp>,
        epoch: u32,
        now: Timestamp,
        turn: &mut Turn,
    ) {
        turn.writes.push(Write::SetBack { epoch });
        let mut detail = json!({ "accounted": accounted, "now": now });
        if complete != Some(accounted) {
            detail["complete"] = json!(complete);
        }
        turn.writes.push(event(now, "clock_behind_ledger", detail));
    }

    /// At start: so much time is to be accounted for that the clock may be wrong.
    pub(super) fn is_far_behind(&mut self, accounted: Timestamp, now: Timestamp, turn: &mut Turn) {
        self.spare_old_rows();
        let days = now.duration_since(accounted).as_hours() / 24;
        let detail = json!({ "accounted": accounted, "now": now, "days": days });
        turn.writes.push(event(now, "ledger_far_behind", detail));
    }

    /// A clock that is wrong by years must not delete the history.
    fn spare_old_rows(&mut self) {
        self.pruning = false;
        self.spared_until = Some(self.clock.awake() + SPARED);
    }

    pub(super) fn old_rows_are_spared(&self) -> bool {
        self.spared_until.is_some_and(|until| self.clock.awake() < until)
    }

    /// A daemon before this one may have met the gap, and ended before its day was over.
    pub(super) fn spare_what_was_spared(&mut self, now: Timestamp) {
        let since = now.checked_sub(SPARED).unwrap_or(Timestamp::MIN);
        let far = |event: &crate::ledger::Event| match event.kind.as_str() {
            "ledger_far_behind" => true,
            "clock_stepped" | "suspended" => {
                event.detail["seconds"].as_f64().is_some_and(|seconds| seconds > FAR.as_secs_f64())
            }
            _ => false,
        };
        match self.ledger.events(since) {
            Ok(events) if events.iter().any(far) => self.spare_old_rows(),
            Ok(_) => {}
            Err(error) => {
                tracing::warn!("{error}; old rows are kept for a day");
                self.spare_old_rows();
            }
        }
    }

    /// Writes what was learnt of the clocks beside the rows of the slots that it touched.
    pub(super) fn tell_of_the_clock(&mut self, now: Timestamp, turn: &mut Turn) {
        let Learnt { mut spans, set_back } = std::mem::take(&mut turn.learnt);
        // What takes no slots has none to tell of, and a daemon beside it tells of the same clock.
        if !self.keeps_account {
            return;
        }
        let mut again = vec![];
        if let Some((from, names)) = set_back {
            again = names;
            let back = spans.iter_mut().find(|span| span.kind == "clock_stepped");
            match back {
                // Small steps before this one add up to it.
                Some(span) => span.from = span.from.max(from),
                None => spans.push(Span { kind: "clock_stepped", from, to: now, closed: false }),
            }
        }
        if spans.is_empty() {
            return;
        }
        let mut touched: Vec<BTreeMap<&JobName, u64>> = vec![BTreeMap::new(); spans.len()];
        for write in &turn.writes {
            let Write::Claim(row) = write else { continue };
            let Some((first, last)) = self.due(row) else { continue };
            // Each slot is told of once.
            let span = spans.iter().position(|span| {
                // A clock that was set back comes again by all that it shows.
                let back = span.to < span.from;
                let (low, high) = if back { (span.to, span.from) } else { (span.from, span.to) };
                first <= high && (last > low || ((span.closed || back) && last == low))
            });
            if let Some(touched) = span.and_then(|span| touched.get_mut(span)) {
                *touched.entry(&row.job).or_default() += row.slots;
            }
        }
        let mut events = vec![];
        for (span, touched) in spans.iter().zip(&touched) {
            // Nothing was late, though we were.
            if span.kind == "woke_late" && touched.is_empty() {
                continue;
            }
            let mut detail = json!({
                "seconds": span.seconds(), "from": span.from, "to": span.to, "touched": counted(touched),
            });
            if span.kind == "clock_stepped" {
                detail["again"] = json!(again);
            }
            events.push(event(span.to, span.kind, detail));
        }
        turn.writes.extend(events);
    }

    /// When the first and the last slot of a row were due.
    fn due(&self, row: &NewRow) -> Option<(Timestamp, Timestamp)> {
        let first = row.slot?;
        Some((self.plan.due(&row.job, first), self.plan.due(&row.job, row.slot_last.unwrap_or(first))))
    }
}

fn counted(touched: &BTreeMap<&JobName, u64>) -> Value {
    let slots: u64 = touched.values().sum();
    let jobs: BTreeMap<&str, u64> =
        touched.iter().take(NAMED).map(|(job, count)| (job.as_str(), *count)).collect();
    let mut counted = json!({ "slots": slots, "jobs": jobs });
    if touched.len() > NAMED {
        counted["other_jobs"] = json!(touched.len() - NAMED);
    }
    counted
}
