//! What happens next, as a pure state machine: events in, decisions out.
//!
//! Owns every scheduling policy: which slots are due, missed, paused or overlapping, who waits for whom, what a
//! set clock and a new table change. Never reads a clock, writes the ledger or starts anything: the engine's loop
//! does, and reports back. Where the contract leaves a choice:
//!
//! - A slot with jitter counts as accounted for only when it was due, so `Accounted` may lag by the longest share.
//! - Fixed-time slots are always claimed under epoch 0: whatever the clock does, the ledger's key lets each run once.
//! - A job that is due `after` others while it is paused stays due, and runs when the pause ends. Runs that are
//!   claimed and wait when a pause begins go on.
//! - Of a long past whole days are counted at once, and the rest is looked at in portions ([`BUDGET`]), so that years of
//!   per-second slots neither hang the daemon nor fill its memory; each portion becomes range rows of its own, with
//!   exact numbers.
//! - `run_once` runs the newest missed slot that the ledger still takes: one that had its row before the clock was set
//!   back gets no second run for those before it.
//! - `run_all` runs at most 10 000 slots of a job at once; older ones are `missed`. After a gap of more than 30 days
//!   it acts as `run_once`: a clock that was set by years must not bring about years of runs.
//! - A clock that is set back by more than 10 s ends a stretch of time: each slot of it that was not yet due (by its
//!   jitter) is settled then, and the slots from the new time on come again.
//! - At most 10 000 runs of a job wait at once; what comes on top of them overlaps.
//! - `@reboot` is due at start, however long ago the machine booted, and follows `jitter` from the boot's time.

mod begin;
mod pauses;
mod runs;
mod settle;
mod slots;
#[cfg(test)]
mod tests;
mod words;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::config::{JobSpec, JobTable};
use crate::ledger::{NewRow, NewState};
use crate::model::{JobName, Outcome, RunId, SkipReason, Trigger};

pub(super) use self::slots::is_interval;
pub use self::words::{Decision, Event, OpenRun, PastJob, Recovered, RefuseReason, Token};
use pauses::Pauses;
use runs::{Consequence, Runs, Verdict};

/// How many slots one call looks at before it leaves the rest to the next: a fraction of a second's work. A
/// job's first two don't count, so that ten thousand jobs due at one instant are claimed together.
const BUDGET: usize = 250_000;

/// Whether the ledger would refuse this claim. Asked between an event and its decisions, and seldom.
pub type Refuses<'a> = &'a dyn Fn(&NewRow) -> bool;

/// The machine.
#[derive(Debug)]
pub struct Plan {
    table: Arc<JobTable>,
    host: String,
    jobs: HashMap<JobName, JobState>,
    /// Who runs `after` whom: from a job to those that name it.
    dependents: HashMap<JobName, Vec<JobName>>,
    /// The next slot of each job, by the instant at which it is due.
    due: BTreeSet<(Timestamp, JobName)>,
    /// Slots whose nominal time may have passed before they are due: nothing from there on is accounted for.
    held: BTreeSet<(Timestamp, JobName)>,
    /// `@reboot` slots that are still to come.
    boots: BTreeSet<(Timestamp, JobName)>,
    boot: Option<Timestamp>,
    pauses: Pauses,
    runs: Runs,
    /// Due `after` others, held back by a pause.
    after_held: BTreeSet<JobName>,
    /// The latest instant seen since the clock was last set back.
    latest: Timestamp,
    /// One more each time that the clock is set back: interval slots are claimed under it.
    epoch: u32,
    /// Slots up to here passed in a gap too long for `run_all`.
    far: Option<Timestamp>,
    /// Counts starts and successes, so that `after` needs no clock.
    sequence: u64,
    /// Runs that had ended before this daemon began, and their places in `sequence`.
    ended_before: HashMap<RunId, u64>,
    /// Slots of runs that a daemon before this one began, though its ledger may not have accounted for them, each with
    /// the epoch under which it was claimed.
    taken: HashMap<JobName, Vec<(Timestamp, u32)>>,
    stopping: bool,
}

#[derive(Debug)]
struct JobState {
    spec: Arc<JobSpec>,
    /// Nominal time of the next slot; none for a job that is disabled or manual.
    next: Option<Timestamp>,
    /// How long after its nominal time a slot is due, on this host.
    share: Duration,
    /// Place in `sequence` of the last start and the last success; 0: never.
    started: u64,
    succeeded: u64,
}

impl JobState {
    fn due(&self) -> Option<Timestamp> {
        self.next.map(|slot| slots::later(slot, self.share))
    }
}

impl Plan {
    /// What to do about `event`. Slots that are due by `now` are dealt with first, except where the ledger
    /// answers, and at a reload, whose claims are all of jobs of the new table.
    pub fn handle(&mut self, event: Event, now: Timestamp, refuses: Refuses<'_>) -> Vec<Decision> {
        let mut out = vec![];
        let back = if let Event::ClockStepped { back } = &event { *back } else { None };
        if let Some(before) = back.map(|back| slots::later(now, back))
            && before > self.latest
        {
            // What came due before the clock was set has come due.
            self.latest = before;
            self.settle(before, refuses, &mut out);
        }
        self.observe(now, back, refuses, &mut out);
        if let Event::Gap { of } = &event {
            self.note_gap(*of, now, &mut out);
        }
        // After a step back that is too small to count, time stands still until it has caught up.
        let now = self.reached(now);
        if !matches!(event, Event::Claimed { .. } | Event::AlreadyClaimed { .. } | Event::Reload(_)) {
            self.settle(now, refuses, &mut out);
        }
        match event {
            Event::Tick | Event::ClockStepped { .. } | Event::Gap { .. } => {}
            Event::Claimed { token, run } => self.claimed(token, run, &mut out),
            Event::AlreadyClaimed { token } => self.runs.refused(token),
            Event::Ended { run, outcome } => self.ended(run, outcome, now, &mut out),
            Event::Reload(table) => self.reload(table, now, refuses, &mut out),
            Event::Pause { job, until } => self.pauses.set(job, now, until),
            Event::Resume { job } => {
                self.pauses.clear(job.as_ref());
                self.release_after(now, &mut out);
            }
            Event::Manual { job, request, by, dry_run } => {
                self.manual(&job, request, by, dry_run, now, &mut out);
            }
            Event::Cancel { run } => {
                if self.runs.cancel(run) {
                    out.push(Decision::Cancel { run });
                }
            }
            Event::Stop => {
                self.stopping = true;
                let dropped = self.runs.drop_waiting(SkipReason::Stopping, |_| true);
                self.tell(dropped, &mut out);
            }
        }
        self.start_waiting(&mut out);
        out
    }

    /// When to call with [`Event::Tick`]; where it has passed, at once.
    pub fn next_wake(&self) -> Option<Timestamp> {
        let first = |set: &BTreeSet<(Timestamp, JobName)>| set.first().map(|(at, _)| *at);
        [first(&self.due), first(&self.boots), self.pauses.first_end()].into_iter().flatten().min()
    }

    /// Nominal time of a job's next slot.
    pub fn next_slot(&self, job: &str) -> Option<Timestamp> {
        self.jobs.get(job)?.next
    }

    /// When a slot of a job is due on this host: its nominal time, and the job's share of its `jitter`.
    pub fn due(&self, job: &JobName, slot: Timestamp) -> Timestamp {
        self.jobs.get(job).map_or(slot, |state| slots::later(slot, state.share))
    }

    /// The instant that slots are judged by: `now`, or the latest before the clock was set back by a little, where time
    /// stands still until it has caught up.
    pub fn reached(&self, now: Timestamp) -> Timestamp {
        now.max(self.latest)
    }

    pub fn table(&self) -> &Arc<JobTable> {
        &self.table
    }

    pub fn is_paused(&self, job: &JobName, now: Timestamp) -> bool {
        self.pauses.covers(job, now, now)
    }

    /// Every pause: of which job (absent: of all), and until when.
    pub fn pauses(&self) -> impl Iterator<Item = (Option<&JobName>, Option<Timestamp>)> {
        self.pauses.list()
    }

    /// Runs that wait for their turn, in the order of their slots.
    pub fn queued(&self) -> Vec<RunId> {
        self.runs.waiting()
    }

    /// How many runs have begun and not ended.
    pub fn running(&self) -> usize {
        self.runs.running()
    }

    fn claimed(&mut self, token: Token, run: RunId, out: &mut Vec<Decision>) {
        let (ours, consequences) = self.runs.claimed(token, run);
        if let Some((job, true)) = ours
            && !self.runs.is_dry(run)
        {
            self.note_start(&job);
        }
        self.tell(consequences, out);
    }

    fn ended(&mut self, run: RunId, outcome: Outcome, now: Timestamp, out: &mut Vec<Decision>) {
        let dry_run = self.runs.is_dry(run);
        let place = self.ended_before.remove(&run);
        let Some(job) = self.runs.ended(run) else { return };
        self.start_waiting(out);
        // What was only tried brings nothing about.
        if outcome != Outcome::Succeeded || dry_run {
            return;
        }
        let place = place.unwrap_or_else(|| {
            self.sequence += 1;
            self.sequence
        });
        if let Some(state) = self.jobs.get_mut(&job) {
            state.succeeded = state.succeeded.max(place);
        }
        for dependent in self.dependents.get(&job).cloned().unwrap_or_default() {
            self.claim_after(dependent, now, out);
        }
    }

    /// Claims a run of `job` if all that it comes `after` have succeeded since it last started.
    fn claim_after(&mut self, job: JobName, now: Timestamp, out: &mut Vec<Decision>) {
        let Some(state) = self.jobs.get(&job) else { return };
        let spec = state.spec.clone();
        let succeeded = |of: &JobName| self.jobs.get(of).is_some_and(|other| other.succeeded > state.started);
        if !spec.enabled || spec.after.is_empty() || self.stopping || !spec.after.iter().all(succeeded) {
            return;
        }
        if self.pauses.covers(&job, now, now) {
            self.after_held.insert(job);
            return;
        }
        self.after_held.remove(&job);
        let (token, verdict) = self.runs.admit(&spec, now, now, false, self.table.max_running);
        if verdict != Verdict::Overlaps {
            self.note_start(&job);
        }
        let state = match verdict {
            Verdict::Start => NewState::Started,
            Verdict::Wait => NewState::Queued,
            Verdict::Overlaps => NewState::Skipped(SkipReason::Overlap),
        };
        let row = row(&spec, Trigger::After, None, state, now);
        out.push(Decision::Claim { token, row, request: None });
    }

    /// A pause has ended: what it held back runs now.
    fn release_after(&mut self, now: Timestamp, out: &mut Vec<Decision>) {
        for job in std::mem::take(&mut self.after_held) {
            self.claim_after(job, now, out);
        }
    }

    fn manual(
        &mut self,
        job: &JobName,
        request: u64,
        by: String,
        dry_run: bool,
        now: Timestamp,
        out: &mut Vec<Decision>,
    ) {
        let refuse = |reason| Decision::Refuse { request, reason };
        let Some(state) = self.jobs.get(job) else {
            out.push(refuse(RefuseReason::UnknownJob));
            return;
        };
        if self.stopping {
            out.push(refuse(RefuseReason::Stopping));
            return;
        }
        let spec = state.spec.clone();
        if let Some(run) = self.runs.in_the_way(&spec) {
            out.push(refuse(RefuseReason::RunsAlready(run)));
            return;
        }
        let (token, verdict) = self.runs.admit(&spec, now, now, false, self.table.max_running);
        let state = match verdict {
            Verdict::Start => NewState::Started,
            Verdict::Wait => NewState::Queued,
            // Only where the other run's number isn't known yet, which the loop never lets happen.
            Verdict::Overlaps => NewState::Skipped(SkipReason::Overlap),
        };
        let mut row = row(&spec, Trigger::Manual, None, state, now);
        row.requested_by = Some(by);
        row.dry_run = dry_run;
        if dry_run {
            self.runs.mark_dry(token);
        }
        out.push(Decision::Claim { token, row, request: Some(request) });
    }

    fn start_waiting(&mut self, out: &mut Vec<Decision>) {
        let jobs = &self.jobs;
        let spec = |job: &JobName| jobs.get(job).map(|state| &*state.spec);
        for (token, run, job) in self.runs.start_waiting(self.table.max_running, spec) {
            if !self.runs.is_dry(run) {
                self.note_start(&job);
            }
            out.push(Decision::Start { token, run });
        }
    }

    fn note_start(&mut self, job: &JobName) {
        self.sequence += 1;
        if let Some(state) = self.jobs.get_mut(job) {
            state.started = self.sequence;
        }
    }

    fn tell(&mut self, consequences: Vec<Consequence>, out: &mut Vec<Decision>) {
        out.extend(consequences.into_iter().map(|consequence| match consequence {
            Consequence::Cancel(run) => Decision::Cancel { run },
            Consequence::Drop(run, reason) => Decision::Drop { run, reason },
        }));
    }
}

/// A row of one slot, or of none.
fn row(spec: &JobSpec, trigger: Trigger, slot: Option<Timestamp>, state: NewState, at: Timestamp) -> NewRow {
    NewRow {
        job: spec.name.clone(),
        kind: spec.kind.name.to_owned(),
        trigger,
        slot,
        slot_last: None,
        slots: 1,
        epoch: 0,
        state,
        requested_by: None,
        dry_run: false,
        at,
    }
}
