//! What has come due by now, and what a clock that was set back changes.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::runs::Verdict;
use super::slots::{self, Stretch, Sweep, Swept};
use super::{BUDGET, Decision, Plan, Refuses, row};
use crate::config::JobSpec;
use crate::ledger::{NewRow, NewState};
use crate::model::{JobName, SkipReason, Trigger};
use crate::policy::{FAR, Missed, MissedPolicy, PUNCTUAL};
use crate::schedule::Schedule;
use crate::units::HumanDuration;

/// A slot that is to run if overlap lets it.
pub(super) struct Candidate {
    slot: Timestamp,
    spec: Arc<JobSpec>,
    trigger: Trigger,
    epoch: u32,
    serial: bool,
}

/// What one look at the clock has found.
#[derive(Default)]
pub(super) struct Found {
    pub(super) rows: Vec<NewRow>,
    pub(super) candidates: Vec<Candidate>,
}

impl Plan {
    /// Notices a clock that was set back. A step of at most 10 s changes nothing: the next slots follow the last.
    /// `back`: by how much, where somebody measured it better than from one event to the next.
    pub(super) fn observe(
        &mut self,
        now: Timestamp,
        back: Option<Duration>,
        refuses: Refuses<'_>,
        out: &mut Vec<Decision>,
    ) {
        if now >= self.latest {
            self.latest = now;
            return;
        }
        let seen = Duration::try_from(self.latest.duration_since(now)).unwrap_or_default();
        if seen.max(back.unwrap_or_default()) <= PUNCTUAL {
            return;
        }
        let from = self.latest;
        self.close_all(from, refuses, out);
        self.latest = now;
        self.far = None;
        self.epoch += 1;
        self.taken.clear();
        let mut set_back: Vec<JobName> =
            self.jobs.iter().filter(|(_, state)| state.next.is_some()).map(|(job, _)| job.clone()).collect();
        set_back.sort_unstable();
        let mut again = vec![];
        for job in set_back {
            let Some(state) = self.jobs.get(&job) else { continue };
            let Some(schedule) = &state.spec.schedule else { continue };
            let repeats = schedule.next_interval_after(slots::earlier(now, slots::TICK));
            if repeats.is_some_and(|slot| state.next.is_some_and(|next| slot < next)) {
                again.push(job.clone());
            }
            let next = slots::next_from(schedule, now);
            self.place(&job, next);
        }
        out.push(Decision::SetBack { from, epoch: self.epoch, again });
        out.push(Decision::Accounted { until: self.accounted(now) });
    }

    /// The clock is about to go back: slots up to `until` that are not due yet, or that a long past kept from being
    /// looked at, get their rows now. Nobody comes by them again under this epoch.
    fn close_all(&mut self, until: Timestamp, refuses: Refuses<'_>, out: &mut Vec<Decision>) {
        let open = |state: &super::JobState| state.next.is_some_and(|next| next <= until);
        let mut open: Vec<JobName> =
            self.jobs.iter().filter(|(_, state)| open(state)).map(|(job, _)| job.clone()).collect();
        open.sort_unstable();
        let mut found = Found::default();
        for job in open {
            let Some(state) = self.jobs.get(&job) else { continue };
            let spec = state.spec.clone();
            let Some(schedule) = &spec.schedule else { continue };
            let sweep = Sweep {
                schedule,
                first: state.next,
                until,
                now: until,
                share: state.share,
                missed: self.missed(&spec, state.next),
                budget: usize::MAX,
                turns: self.pauses.turns(&job),
                taken: self.taken(&job, schedule),
            };
            let refused = |slot| refuses(&self.catch_up(&spec, schedule, slot, until));
            let swept = sweep.run(|due| self.fate(&job, due, until), refused);
            self.place(&job, swept.next);
            self.found(&spec, schedule, swept, until, &mut found);
        }
        self.carry_out(found, until, out);
    }

    /// After a long gap each job runs once at most.
    pub(super) fn note_gap(&mut self, of: Duration, now: Timestamp, out: &mut Vec<Decision>) {
        if of > FAR {
            self.far = Some(now);
            out.push(Decision::Notice(format!(
                "the clock reads {} later than it did a moment ago ({now}): each job runs at most once for the slots of \
                 that time, and old rows are kept for a day",
                HumanDuration(Duration::from_secs(of.as_secs()))
            )));
        }
    }

    /// What becomes of slots of a job that were missed, the first of them here.
    pub(super) fn missed(&self, spec: &JobSpec, first: Option<Timestamp>) -> Missed {
        let far = self.far.is_some_and(|far| first.is_some_and(|first| first <= far));
        match spec.missed.policy {
            MissedPolicy::RunAll if far => Missed { policy: MissedPolicy::RunOnce, ..spec.missed },
            _ => spec.missed,
        }
    }

    /// Deals with every slot that is due.
    pub(super) fn settle(&mut self, now: Timestamp, refuses: Refuses<'_>, out: &mut Vec<Decision>) {
        let mut found = Found::default();
        self.settle_boots(now, &mut found);
        let mut budget = BUDGET;
        let mut behind = vec![];
        let mut any = !found.rows.is_empty() || !found.candidates.is_empty();
        while let Some((due, job)) = self.due.first()
            && *due <= now
        {
            let job = job.clone();
            any = true;
            let Some(state) = self.jobs.get(&job) else { continue };
            let spec = state.spec.clone();
            let Some(schedule) = &spec.schedule else { continue };
            let sweep = Sweep {
                schedule,
                first: state.next,
                until: slots::earlier(now, state.share),
                now,
                share: state.share,
                missed: self.missed(&spec, state.next),
                budget: budget.max(2),
                turns: self.pauses.turns(&job),
                taken: self.taken(&job, schedule),
            };
            let refused = |slot| refuses(&self.catch_up(&spec, schedule, slot, now));
            let swept = sweep.run(|due| self.fate(&job, due, now), refused);
            budget -= swept.looked_at.saturating_sub(2).min(budget);
            if swept.next.is_some_and(|slot| slots::later(slot, sweep.share) <= now) {
                self.place(&job, None);
                behind.push((job, swept.next));
            } else {
                self.place(&job, swept.next);
            }
            self.found(&spec, schedule, swept, now, &mut found);
        }
        let all_done = behind.is_empty();
        for (job, next) in behind {
            self.place(&job, next);
        }
        self.carry_out(found, now, out);
        if any {
            out.push(Decision::Accounted { until: self.accounted(now) });
        }
        if all_done {
            self.far = None;
        }
        if all_done && self.pauses.first_end().is_some_and(|end| end <= now) {
            self.pauses.forget_ended(now);
            self.release_after(now, out);
        }
    }

    /// The claim of a slot that was missed.
    pub(super) fn catch_up(
        &self,
        spec: &JobSpec,
        schedule: &Schedule,
        slot: Timestamp,
        now: Timestamp,
    ) -> NewRow {
        let epoch = self.epoch_of(schedule, slot);
        NewRow { epoch, ..row(spec, Trigger::CatchUp, Some(slot), NewState::Started, now) }
    }

    /// Sorts a job's swept slots into rows and candidates.
    pub(super) fn found(
        &self,
        spec: &Arc<JobSpec>,
        schedule: &Schedule,
        swept: Swept,
        now: Timestamp,
        found: &mut Found,
    ) {
        found.rows.extend(self.skipped(&spec.name, spec.kind.name, schedule, swept.skipped, now));
        let trigger = swept.trigger.unwrap_or(Trigger::Schedule);
        let serial = trigger == Trigger::CatchUp && swept.policy == MissedPolicy::RunAll;
        found.candidates.extend(swept.runs.into_iter().map(|slot| Candidate {
            slot,
            spec: spec.clone(),
            trigger,
            epoch: self.epoch_of(schedule, slot),
            serial,
        }));
    }

    /// Turns what was found into claims: candidates in the order of their slots.
    pub(super) fn carry_out(&mut self, mut found: Found, now: Timestamp, out: &mut Vec<Decision>) {
        for row in found.rows {
            out.push(Decision::Claim { token: self.runs.token(), row, request: None });
        }
        found.candidates.sort_by_key(|candidate| candidate.slot);
        for Candidate { slot, spec, trigger, epoch, serial } in found.candidates {
            let due = self.due(&spec.name, slot);
            let (token, verdict) = self.runs.admit(&spec, slot, due, serial, self.table.max_running);
            let state = match verdict {
                Verdict::Start => NewState::Started,
                Verdict::Wait => NewState::Queued,
                Verdict::Overlaps => NewState::Skipped(SkipReason::Overlap),
            };
            let row = NewRow { epoch, ..row(&spec, trigger, Some(slot), state, now) };
            out.push(Decision::Claim { token, row, request: None });
        }
    }

    /// Up to where every slot has its row.
    pub fn accounted(&self, now: Timestamp) -> Timestamp {
        let first_open = self.held.first().map(|(slot, _)| slots::earlier(*slot, slots::TICK));
        first_open.map_or(now, |before| before.min(now))
    }

    /// Sets a job's next slot.
    pub(super) fn place(&mut self, job: &JobName, next: Option<Timestamp>) {
        let latest = self.latest;
        let Some(state) = self.jobs.get_mut(job) else { return };
        if let (Some(slot), Some(due)) = (state.next, state.due()) {
            self.due.remove(&(due, job.clone()));
            self.held.remove(&(slot, job.clone()));
        }
        state.next = next;
        if let (Some(slot), Some(due)) = (next, state.due()) {
            self.due.insert((due, job.clone()));
            // Others are due when they are nominal, so nothing of theirs can pass unsettled.
            if !state.share.is_zero() || due <= latest {
                self.held.insert((slot, job.clone()));
            }
        }
    }

    pub(super) fn fate(&self, job: &JobName, due: Timestamp, now: Timestamp) -> Option<SkipReason> {
        if self.pauses.covers(job, due, now) {
            return Some(SkipReason::Paused);
        }
        self.stopping.then_some(SkipReason::Stopping)
    }

    fn settle_boots(&mut self, now: Timestamp, found: &mut Found) {
        while let Some((due, job)) = self.boots.first().cloned()
            && due <= now
        {
            self.boots.pop_first();
            let Some(spec) = self.jobs.get(&job).map(|state| state.spec.clone()) else { continue };
            let Some(slot) = self.boot else { continue };
            match self.fate(&job, due, now) {
                Some(reason) => {
                    let state = NewState::Skipped(reason);
                    found.rows.push(row(&spec, Trigger::Schedule, Some(slot), state, now));
                }
                None => found.candidates.push(Candidate {
                    slot,
                    spec,
                    trigger: Trigger::Schedule,
                    epoch: 0,
                    serial: false,
                }),
            }
        }
    }

    /// Rows of slots that were not run.
    pub(super) fn skipped(
        &self,
        job: &JobName,
        kind: &str,
        schedule: &Schedule,
        skipped: Vec<Stretch>,
        now: Timestamp,
    ) -> impl Iterator<Item = NewRow> {
        skipped.into_iter().flat_map(move |stretch| {
            let reason = stretch.reason;
            stretch.rows().into_iter().map(move |(slot, slot_last, slots)| NewRow {
                job: job.clone(),
                kind: kind.to_owned(),
                trigger: Trigger::Schedule,
                slot: Some(slot),
                slot_last,
                slots,
                epoch: self.epoch_of(schedule, slot),
                state: NewState::Skipped(reason),
                requested_by: None,
                dry_run: false,
                at: now,
            })
        })
    }

    pub(super) fn taken(&self, job: &JobName, schedule: &Schedule) -> Vec<Timestamp> {
        let known = self.taken.get(job).into_iter().flatten();
        known
            .filter(|(slot, epoch)| *epoch == self.epoch_of(schedule, *slot))
            .map(|(slot, _)| *slot)
            .collect()
    }

    /// Fixed times are claimed under the same epoch always, so that none of them runs twice.
    fn epoch_of(&self, schedule: &Schedule, slot: Timestamp) -> u32 {
        if self.epoch > 0 && slots::is_interval(schedule, slot) { self.epoch } else { 0 }
    }
}
