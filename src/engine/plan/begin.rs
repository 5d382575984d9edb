//! A table comes into force: when the daemon begins, and at each reload.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::pauses::Pauses;
use super::runs::Runs;
use super::settle::Found;
use super::slots::{self, Sweep};
use super::{Decision, JobState, OpenRun, PastJob, Plan, Recovered, Refuses};
use crate::config::{JobSpec, JobTable};
use crate::model::{JobName, RunId, SkipReason};
use crate::policy::{FAR, PUNCTUAL};
use crate::schedule::Schedule;
use crate::units::HumanDuration;

impl Plan {
    /// Takes up where the ledger ends. The decisions are as those of [`Plan::handle`].
    pub fn new(
        table: Arc<JobTable>,
        recovered: Recovered,
        now: Timestamp,
        host: &str,
        refuses: Refuses<'_>,
    ) -> (Self, Vec<Decision>) {
        // As after a small step at run time: time stands still until it has caught up.
        let small = |at: &Timestamp| *at > now && *at <= slots::later(now, PUNCTUAL);
        let now = recovered.accounted.filter(small).unwrap_or(now);
        let mut plan = Self {
            dependents: dependents(&table),
            table: table.clone(),
            host: host.to_owned(),
            jobs: HashMap::new(),
            due: Default::default(),
            held: Default::default(),
            boots: Default::default(),
            boot: recovered.boot,
            pauses: Pauses::default(),
            runs: Runs::default(),
            after_held: Default::default(),
            latest: now,
            epoch: recovered.epochs.iter().map(|(_, epoch)| *epoch).max().unwrap_or(0),
            far: None,
            sequence: 0,
            ended_before: HashMap::new(),
            taken: HashMap::new(),
            stopping: false,
        };
        let mut out = vec![];
        for pause in &recovered.pauses {
            match pause.job.as_deref().map(JobName::new).transpose() {
                Ok(job) => plan.pauses.set(job, pause.since, pause.until),
                Err(reason) => {
                    out.push(Decision::Notice(format!("a pause in the ledger is ignored: {reason}")))
                }
            }
        }
        for spec in &table.jobs {
            plan.jobs.insert(spec.name.clone(), plan.fresh(spec));
        }
        plan.recover_order(&recovered);
        plan.recover_runs(&recovered, now, &mut out);
        let mut found = Found::default();
        plan.recover_slots(&recovered, now, refuses, &mut found, &mut out);
        plan.take_boots(now);
        plan.carry_out(found, now, &mut out);
        plan.settle(now, refuses, &mut out);
        let unclaimed: Vec<_> = table.jobs.iter().filter(|spec| !spec.after.is_empty()).collect();
        for spec in unclaimed {
            // A success may have been recorded by a `run-now` without a daemon, or while this job was paused. One
            // that never started waits for the next success instead, so that a new job isn't run by old news.
            if plan.jobs.get(&spec.name).is_some_and(|state| state.started > 0) {
                plan.claim_after(spec.name.clone(), now, &mut out);
            }
        }
        plan.start_waiting(&mut out);
        plan.account(now, &mut out);
        (plan, out)
    }

    /// Another table comes into force. A job whose schedule is the same goes on with its next slot; the others
    /// count from now, after what was left of the old schedule.
    pub(super) fn reload(
        &mut self,
        table: Arc<JobTable>,
        now: Timestamp,
        refuses: Refuses<'_>,
        out: &mut Vec<Decision>,
    ) {
        let mut old = std::mem::take(&mut self.jobs);
        self.due.clear();
        self.held.clear();
        self.dependents = dependents(&table);
        self.table = table.clone();
        let mut found = Found::default();
        for spec in &table.jobs {
            let mut state = self.fresh(spec);
            let mut next = from_now(spec, now);
            if let Some(before) = old.remove(&spec.name) {
                state.started = before.started;
                state.succeeded = before.succeeded;
                self.jobs.insert(spec.name.clone(), state);
                match (&before.spec.schedule, &spec.schedule) {
                    (Some(one), Some(other))
                        if before.next.is_some() && spec.enabled && slots::same(one, other) =>
                    {
                        next = before.next;
                    }
                    (Some(schedule), _) => {
                        self.close(&before.spec, schedule, before.next, (now, refuses), &mut found)
                    }
                    (None, _) => {}
                }
            } else {
                self.sequence += 1;
                state.started = self.sequence;
                self.jobs.insert(spec.name.clone(), state);
            }
            self.place(&spec.name, next);
        }
        let gone: BTreeMap<JobName, JobState> = old.into_iter().collect();
        for state in gone.into_values() {
            if let Some(schedule) = &state.spec.schedule {
                self.close(&state.spec, schedule, state.next, (now, refuses), &mut found);
            }
        }
        let jobs = &self.jobs;
        self.boots.retain(|(_, job)| jobs.get(job).is_some_and(|state| boots(&state.spec)));
        self.after_held.retain(|job| jobs.contains_key(job));
        let dropped = self.runs.drop_waiting(SkipReason::Removed, |job| !jobs.contains_key(job));
        self.runs.regroup(|job| jobs.get(job).map(|state| &*state.spec));
        self.tell(dropped, out);
        self.carry_out(found, now, out);
        self.settle(now, refuses, out);
        self.account(now, out);
    }

    fn fresh(&self, spec: &Arc<JobSpec>) -> JobState {
        let share = slots::share(&self.host, spec);
        JobState { spec: spec.clone(), next: None, share, started: 0, succeeded: 0 }
    }

    /// The last slots of a schedule that is no longer in force: those before now that were not yet due.
    fn close(
        &self,
        before: &Arc<JobSpec>,
        schedule: &Schedule,
        first: Option<Timestamp>,
        look: (Timestamp, Refuses<'_>),
        found: &mut Found,
    ) {
        let past = PastJob {
            job: before.name.clone(),
            kind: before.kind.name.to_owned(),
            schedule: Some(schedule.clone()),
            jitter: Some(before.jitter),
        };
        self.judge_past(&past, schedule, first, look, found);
    }

    /// Judges the slots of a schedule of the past, by the present policies of its job where that is still there.
    fn judge_past(
        &self,
        past: &PastJob,
        schedule: &Schedule,
        first: Option<Timestamp>,
        (now, refuses): (Timestamp, Refuses<'_>),
        found: &mut Found,
    ) {
        let state = self.jobs.get(&past.job).filter(|state| state.spec.enabled);
        let sweep = Sweep {
            schedule,
            first,
            until: slots::earlier(now, slots::TICK),
            now,
            share: state.map_or_else(Default::default, |state| state.share),
            missed: state.map_or_else(Default::default, |state| self.missed(&state.spec, first)),
            budget: usize::MAX,
            turns: self.pauses.turns(&past.job),
            taken: self.taken(&past.job, schedule),
        };
        match state {
            Some(state) => {
                let refused = |slot| refuses(&self.catch_up(&state.spec, schedule, slot, now));
                let swept = sweep.run(|due| self.fate(&past.job, due, now), refused);
                self.found(&state.spec, schedule, swept, now, found);
            }
            None => {
                let swept = sweep.run(|_| Some(SkipReason::Removed), |_| false);
                found.rows.extend(self.skipped(&past.job, &past.kind, schedule, swept.skipped, now));
            }
        }
    }

    /// Finds where each job goes on, and what passed meanwhile.
    fn recover_slots(
        &mut self,
        recovered: &Recovered,
        now: Timestamp,
        refuses: Refuses<'_>,
        found: &mut Found,
        out: &mut Vec<Decision>,
    ) {
        let horizon = slots::later(now, PUNCTUAL);
        let accounted = recovered.accounted.filter(|at| *at <= horizon);
        if let Some(at) = accounted.filter(|at| now.duration_since(*at).unsigned_abs() > FAR && *at < now) {
            self.far = Some(now);
            out.push(Decision::FarBehind { accounted: at });
            out.push(Decision::Notice(format!(
                "the ledger's last instant, {at}, lies {} ago: each job runs at most once for the slots since then, and \
                 old rows are kept for a day",
                HumanDuration(Duration::from_secs(now.duration_since(at).unsigned_abs().as_secs()))
            )));
        }
        let slots: HashMap<&JobName, Timestamp> =
            recovered.slots.iter().map(|(job, slot)| (job, *slot)).collect();
        // Where other jobs' jitter held back what is accounted for, a row can be the later word.
        let known = recovered.past.iter().filter_map(|one| slots.get(&one.job).copied());
        let future = known.chain(recovered.accounted).filter(|at| *at > horizon).max();
        // Intervals come by those slots again.
        self.epoch += u32::from(future.is_some());
        // A set-back may have been lost with the ledger's writes, and not what began after it.
        self.epoch = recovered.open.iter().map(|run| run.epoch).fold(self.epoch, u32::max);
        for run in &recovered.open {
            let slots = self.taken.entry(run.job.clone()).or_default();
            slots.extend(run.slot.map(|slot| (slot, run.epoch)));
        }
        // `accounted` waits for other jobs' jitter and may lie before the table; a job without jitter left no slot
        // undone when that came into force. Of the others rather one row too many than one too few.
        // It lags by no more than the longest jitter: a table that came later still came before the clock was set back.
        let lag = recovered.past.iter().filter_map(|one| one.jitter).max().unwrap_or_default();
        let since = |one: &PastJob, accounted: Timestamp| match (recovered.past_since, one.jitter) {
            (Some(since), Some(Duration::ZERO)) if since <= slots::later(accounted, lag) => {
                accounted.max(slots::earlier(since, slots::TICK))
            }
            _ => accounted,
        };
        let mut past: HashMap<&JobName, &PastJob> = HashMap::new();
        for one in &recovered.past {
            past.insert(&one.job, one);
            if !self.jobs.contains_key(&one.job)
                && let (Some(schedule), Some(from)) = (&one.schedule, accounted)
            {
                let from = since(one, from);
                let from =
                    slots.get(&one.job).filter(|slot| **slot <= now).map_or(from, |slot| from.max(*slot));
                self.judge_past(one, schedule, schedule.next_after(from), (now, refuses), found);
            }
        }
        for spec in &self.table.clone().jobs {
            let last = slots.get(&spec.name).copied();
            let mut next = from_now(spec, now);
            let before = past.get(&spec.name).and_then(|one| Some((*one, one.schedule.as_ref()?)));
            if let (Some(at), Some((one, schedule))) = (accounted, before) {
                let mut from = since(one, at);
                // Slots are claimed in their order, so those up to the newest row have theirs, though `accounted`
                // waited for another job's jitter.
                if let Some(last) = last.filter(|slot| *slot <= horizon) {
                    from = from.max(last);
                }
                let first = schedule.next_after(from);
                match &spec.schedule {
                    Some(present) if spec.enabled && slots::same(schedule, present) => next = first,
                    _ => self.judge_past(one, schedule, first, (now, refuses), found),
                }
            }
            self.place(&spec.name, next);
        }
        if let Some(accounted) = future {
            let complete = recovered.accounted;
            out.push(Decision::BehindLedger { accounted, complete, epoch: self.epoch });
            out.push(Decision::Notice(format!(
                "the ledger's last instant, {accounted}, lies in the future: the clock was wrong then or is wrong now \
                 ({now}); it is not believed, and scheduling goes on from now"
            )));
        }
    }

    /// Puts what is known of starts and successes into one order.
    fn recover_order(&mut self, recovered: &Recovered) {
        let mut events = vec![];
        for (job, started, succeeded) in &recovered.last {
            events.extend(succeeded.map(|place| (place, Known::Succeeded(job))));
            events.extend(started.map(|place| (place, Known::Started(job))));
        }
        let ended = recovered.open.iter().filter(|run| run.ended_at.is_some());
        events.extend(ended.filter_map(|run| Some((run.ended?, Known::Ended(run.run)))));
        events.sort_unstable();
        for (_, what) in events {
            self.sequence += 1;
            match what {
                Known::Succeeded(job) => {
                    if let Some(state) = self.jobs.get_mut(job) {
                        state.succeeded = self.sequence;
                    }
                }
                Known::Started(job) => {
                    if let Some(state) = self.jobs.get_mut(job) {
                        state.started = self.sequence;
                    }
                }
                Known::Ended(run) => drop(self.ended_before.insert(run, self.sequence)),
            }
        }
        // A job that is new in the table waits for successes from now on.
        let known: HashSet<&JobName> = recovered.past.iter().map(|past| &past.job).collect();
        self.sequence += 1;
        for state in self.jobs.values_mut() {
            if state.started == 0 && !known.contains(&state.spec.name) {
                state.started = self.sequence;
            }
        }
    }

    fn recover_runs(&mut self, recovered: &Recovered, now: Timestamp, out: &mut Vec<Decision>) {
        let mut open: Vec<&OpenRun> = recovered.open.iter().collect();
        // What runs comes first: whatever begins only now must find its place beside it.
        let place = |run: &OpenRun| if run.again { 1 } else { 2 * u8::from(run.queued) };
        open.sort_by_key(|run| (place(run), run.slot.unwrap_or(now), run.run));
        for run in open {
            let spec = self.jobs.get(&run.job).map(|state| state.spec.clone());
            if run.queued && spec.is_none() {
                out.push(Decision::Drop { run: run.run, reason: SkipReason::Removed });
                continue;
            }
            if run.queued && !run.dry_run {
                self.note_start(&run.job);
            }
            let order = run.slot.unwrap_or(now);
            // Those of a job that is gone keep its group, as at a reload.
            let group = match &spec {
                Some(spec) => spec.group.as_ref(),
                None => recovered.groups.get(&run.job),
            };
            let spec = spec.as_deref();
            let at_once =
                run.again && spec.is_some_and(|spec| self.runs.may_go_on(spec, self.table.max_running));
            let started = at_once || !(run.queued || run.again);
            let token = self.runs.recover(run.job.clone(), run.run, order, started, spec, group.cloned());
            if at_once {
                out.push(Decision::Start { token, run: run.run });
            }
            if run.dry_run {
                self.runs.mark_dry(token);
            }
            if let Some(at) = run.ended_at {
                self.runs.mark_ended(token, at);
            }
        }
    }

    fn take_boots(&mut self, now: Timestamp) {
        let Some(boot) = self.boot else { return };
        for state in self.jobs.values().filter(|state| boots(&state.spec)) {
            self.boots.insert((slots::later(boot, state.share).max(now), state.spec.name.clone()));
        }
    }

    /// Says up to where rows are complete, once for all that these decisions hold.
    fn account(&self, now: Timestamp, out: &mut Vec<Decision>) {
        out.retain(|decision| !matches!(decision, Decision::Accounted { .. }));
        out.push(Decision::Accounted { until: self.accounted(now) });
    }
}

/// In the order in which they count where the ledger gives two of them one place, as one of a former version did: a
/// success may be what brought about the start of that instant.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Known<'a> {
    Succeeded(&'a JobName),
    Ended(RunId),
    Started(&'a JobName),
}

fn from_now(spec: &JobSpec, now: Timestamp) -> Option<Timestamp> {
    let schedule = spec.schedule.as_ref().filter(|_| spec.enabled)?;
    slots::next_from(schedule, now)
}

fn boots(spec: &JobSpec) -> bool {
    spec.enabled && spec.schedule.as_ref().is_some_and(Schedule::at_boot)
}

fn dependents(table: &JobTable) -> HashMap<JobName, Vec<JobName>> {
    let mut dependents: HashMap<JobName, Vec<JobName>> = HashMap::new();
    for spec in &table.jobs {
        for job in &spec.after {
            dependents.entry(job.clone()).or_default().push(spec.name.clone());
        }
    }
    dependents
}
