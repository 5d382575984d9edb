//! The runs that have begun or wait for their turn: who may run beside whom.
//!
//! Owns overlap, groups and `limits.max_running`. Knows nothing of slots and time beyond the order in which
//! runs wait.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ops::Bound;

use jiff::Timestamp;

use super::Token;
use crate::config::JobSpec;
use crate::model::{JobName, RunId, SkipReason};
use crate::policy::Overlap;

/// Runs of one job that may wait at once. Where its slots come faster than its runs end, `allow` and `run_all` would
/// otherwise pile up runs for as long as the daemon lives.
const MOST_WAITING: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Runs {
    last_token: u64,
    runs: HashMap<Token, Run>,
    by_id: HashMap<RunId, Token>,
    /// Only jobs that have any.
    by_job: HashMap<JobName, OfJob>,
    /// The first waiting run of each job: the others can't begin before it, so that a job with ten thousand
    /// waiting runs costs as much as one with one.
    heads: BTreeSet<(Timestamp, Token)>,
    groups: HashMap<String, usize>,
    running: usize,
    /// Something has become free since waiting runs were last looked at.
    changed: bool,
    /// A run that could begin was passed over, as the ledger had not yet numbered it.
    passed_over: bool,
}

#[derive(Debug, Default)]
struct OfJob {
    running: Vec<Token>,
    waiting: VecDeque<Token>,
}

#[derive(Debug)]
pub(super) struct Run {
    pub(super) job: JobName,
    /// Once the ledger has given it.
    pub(super) id: Option<RunId>,
    order: Timestamp,
    /// One of several that catch up one at a time (`run_all`).
    serial: bool,
    started: bool,
    /// The group that it holds while it runs.
    group: Option<String>,
    /// Was told to end.
    ending: bool,
    /// When it ended, where it only waits for its end to be told.
    ended_at: Option<Timestamp>,
    /// Ends these once its own row is durable.
    replaces: Vec<Token>,
    /// It only says what it would do: it counts neither as a start nor as a success of its job.
    dry: bool,
    /// Must not run although the ledger has not yet answered its claim.
    doomed: Option<SkipReason>,
}

/// What overlap says to a new run.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    Start,
    Wait,
    Overlaps,
}

/// What the ledger's answer to a claim brings about.
#[derive(Debug, PartialEq)]
pub(super) enum Consequence {
    Cancel(RunId),
    Drop(RunId, SkipReason),
}

impl Runs {
    /// A new run, decided by the job's overlap; nothing is kept of one that overlaps. `due`: what had ended by then
    /// doesn't stand in its way; it only waits until that end is told.
    pub(super) fn admit(
        &mut self,
        spec: &JobSpec,
        order: Timestamp,
        due: Timestamp,
        serial: bool,
        max_running: usize,
    ) -> (Token, Verdict) {
        let token = self.token();
        let mut replaces = vec![];
        let of_job = self.by_job.get(&spec.name);
        if of_job.is_some_and(|of_job| of_job.waiting.len() >= MOST_WAITING) {
            return (token, Verdict::Overlaps);
        }
        if let Some(of_job) = of_job
            && !serial
        {
            let over = |other: &Token| self.runs[other].ended_at.is_some_and(|at| at <= due);
            match spec.overlap {
                Overlap::Skip if of_job.waiting.is_empty() && of_job.running.iter().all(over) => {}
                Overlap::Skip => return (token, Verdict::Overlaps),
                Overlap::Queue if of_job.waiting.iter().any(|other| !self.runs[other].serial) => {
                    return (token, Verdict::Overlaps);
                }
                Overlap::Replace => {
                    replaces.extend(
                        of_job.running.iter().filter(|other| !self.runs[*other].ending && !over(other)),
                    );
                    replaces.extend(of_job.waiting.iter().filter(|other| !self.runs[*other].serial));
                }
                Overlap::Queue | Overlap::Allow => {}
            }
        }
        let beside = of_job.is_none() || (spec.overlap == Overlap::Allow && !serial);
        let started = beside && self.running < max_running && self.group_is_free(spec);
        self.insert(
            token,
            Run {
                job: spec.name.clone(),
                id: None,
                order,
                serial,
                started,
                group: spec.group.clone(),
                ending: false,
                ended_at: None,
                replaces,
                dry: false,
                doomed: None,
            },
        );
        (token, if started { Verdict::Start } else { Verdict::Wait })
    }

    /// A run of before, which has its number already.
    pub(super) fn recover(
        &mut self,
        job: JobName,
        id: RunId,
        order: Timestamp,
        started: bool,
        spec: Option<&JobSpec>,
        group: Option<String>,
    ) -> Token {
        let token = self.token();
        let run = Run {
            job,
            id: Some(id),
            order,
            serial: spec.is_some_and(|spec| spec.missed.policy == crate::policy::MissedPolicy::RunAll),
            started,
            group,
            ending: false,
            ended_at: None,
            replaces: vec![],
            dry: false,
            doomed: None,
        };
        self.insert(token, run);
        self.by_id.insert(id, token);
        self.changed = true;
        token
    }

    /// Whether a run of before may go on at once, beside those that are known already.
    pub(super) fn may_go_on(&self, spec: &JobSpec, max_running: usize) -> bool {
        let serial = spec.missed.policy == crate::policy::MissedPolicy::RunAll;
        let beside = !self.by_job.contains_key(&spec.name) || (spec.overlap == Overlap::Allow && !serial);
        beside && self.running < max_running && self.group_is_free(spec)
    }

    pub(super) fn mark_dry(&mut self, token: Token) {
        if let Some(run) = self.runs.get_mut(&token) {
            run.dry = true;
        }
    }

    pub(super) fn mark_ended(&mut self, token: Token, at: Timestamp) {
        if let Some(run) = self.runs.get_mut(&token) {
            run.ended_at = Some(at);
        }
    }

    pub(super) fn is_dry(&self, id: RunId) -> bool {
        self.by_id.get(&id).and_then(|token| self.runs.get(token)).is_some_and(|run| run.dry)
    }

    /// A token that stands for a row only.
    pub(super) fn token(&mut self) -> Token {
        self.last_token += 1;
        Token(self.last_token)
    }

    /// The ledger has numbered a run. The job, and whether it has begun, where the run is one of ours.
    pub(super) fn claimed(&mut self, token: Token, id: RunId) -> (Option<(JobName, bool)>, Vec<Consequence>) {
        let Some(run) = self.runs.get_mut(&token) else { return (None, vec![]) };
        run.id = Some(id);
        let told = (run.job.clone(), run.started);
        let replaces = std::mem::take(&mut run.replaces);
        let doomed = run.doomed;
        self.by_id.insert(id, token);
        self.changed |= std::mem::take(&mut self.passed_over);
        let mut consequences = vec![];
        for other in replaces {
            let Some(run) = self.runs.get_mut(&other) else { continue };
            match run.id {
                Some(id) if run.started => {
                    if !std::mem::replace(&mut run.ending, true) {
                        consequences.push(Consequence::Cancel(id));
                    }
                }
                Some(id) => {
                    self.remove(other);
                    consequences.push(Consequence::Drop(id, SkipReason::Overlap));
                }
                None => run.doomed = Some(SkipReason::Overlap),
            }
        }
        if let Some(reason) = doomed {
            self.remove(token);
            consequences.push(Consequence::Drop(id, reason));
        }
        (Some(told), consequences)
    }

    /// The ledger had that slot already.
    pub(super) fn refused(&mut self, token: Token) {
        self.remove(token);
    }

    /// The run has ended for good; its job.
    pub(super) fn ended(&mut self, id: RunId) -> Option<JobName> {
        let token = *self.by_id.get(&id)?;
        self.remove(token).map(|run| run.job)
    }

    /// A person wants it ended. Whether there is such a run; one that waits is forgotten at once.
    pub(super) fn cancel(&mut self, id: RunId) -> bool {
        let Some(token) = self.by_id.get(&id).copied() else { return false };
        let Some(run) = self.runs.get_mut(&token) else { return false };
        run.ending = true;
        if !run.started {
            self.remove(token);
        }
        true
    }

    /// Takes away the waiting runs of the jobs that `which` names.
    pub(super) fn drop_waiting(
        &mut self,
        reason: SkipReason,
        which: impl Fn(&JobName) -> bool,
    ) -> Vec<Consequence> {
        let mut tokens: Vec<(Timestamp, Token)> = self
            .runs
            .iter()
            .filter(|(_, run)| !run.started && which(&run.job))
            .map(|(token, run)| (run.order, *token))
            .collect();
        tokens.sort_unstable();
        let mut consequences = vec![];
        for (_, token) in tokens {
            match self.runs.get_mut(&token) {
                Some(Run { id: Some(id), .. }) => {
                    consequences.push(Consequence::Drop(*id, reason));
                    self.remove(token);
                }
                Some(run) => run.doomed = Some(reason),
                None => {}
            }
        }
        consequences
    }

    /// Begins what may begin, in the order of the slots; a run that waits for its group, or for an older run
    /// of its job, lets others pass.
    pub(super) fn start_waiting<'a>(
        &mut self,
        max_running: usize,
        spec: impl Fn(&JobName) -> Option<&'a JobSpec>,
    ) -> Vec<(Token, RunId, JobName)> {
        let mut started = vec![];
        while std::mem::take(&mut self.changed) {
            let mut cursor = Bound::Unbounded;
            while self.running < max_running
                && let Some(head) = self.heads.range((cursor, Bound::Unbounded)).next().copied()
            {
                cursor = Bound::Excluded(head);
                let token = head.1;
                let Some(Run { id, job, serial, doomed: None, .. }) = self.runs.get(&token) else { continue };
                let (id, job, serial) = (*id, job.clone(), *serial);
                let Some(spec) = spec(&job) else { continue };
                let busy = self.by_job.get(&job).is_some_and(|of_job| !of_job.running.is_empty());
                let beside = spec.overlap == Overlap::Allow && !serial;
                if (busy && !beside) || !self.group_is_free(spec) {
                    continue;
                }
                let Some(id) = id else {
                    self.passed_over = true;
                    continue;
                };
                if let Some(mut run) = self.remove(token) {
                    run.started = true;
                    run.group.clone_from(&spec.group);
                    self.insert(token, run);
                    self.by_id.insert(id, token);
                    started.push((token, id, job));
                }
            }
        }
        started
    }

    /// A run that stands in the way of a manual one, where overlap forbids that.
    pub(super) fn in_the_way(&self, spec: &JobSpec) -> Option<RunId> {
        let of_job = self.by_job.get(&spec.name)?;
        if of_job.waiting.len() >= MOST_WAITING {
            return of_job.running.iter().chain(&of_job.waiting).find_map(|token| self.runs[token].id);
        }
        let mut tokens: Box<dyn Iterator<Item = &Token>> = match spec.overlap {
            Overlap::Skip => Box::new(of_job.running.iter().chain(&of_job.waiting)),
            Overlap::Queue => Box::new(of_job.waiting.iter().filter(|token| !self.runs[*token].serial)),
            Overlap::Replace | Overlap::Allow => return None,
        };
        tokens.find_map(|token| self.runs[token].id)
    }

    /// Numbers of the runs that wait, in the order of their slots.
    pub(super) fn waiting(&self) -> Vec<RunId> {
        let mut waiting: Vec<_> = self
            .runs
            .iter()
            .filter(|(_, run)| !run.started)
            .filter_map(|(token, run)| Some((run.order, *token, run.id?)))
            .collect();
        waiting.sort_unstable();
        waiting.into_iter().map(|(_, _, id)| id).collect()
    }

    pub(super) fn running(&self) -> usize {
        self.running
    }

    /// Another table came into force: running jobs hold the groups that it gives them; those that are gone keep
    /// theirs.
    pub(super) fn regroup<'a>(&mut self, spec: impl Fn(&JobName) -> Option<&'a JobSpec>) {
        self.groups.clear();
        for run in self.runs.values_mut().filter(|run| run.started) {
            if let Some(spec) = spec(&run.job) {
                run.group.clone_from(&spec.group);
            }
            if let Some(group) = &run.group {
                *self.groups.entry(group.clone()).or_default() += 1;
            }
        }
        self.changed = true;
    }

    fn group_is_free(&self, spec: &JobSpec) -> bool {
        spec.group.as_ref().is_none_or(|group| !self.groups.contains_key(group))
    }

    fn insert(&mut self, token: Token, run: Run) {
        let of_job = self.by_job.entry(run.job.clone()).or_default();
        if run.started {
            of_job.running.push(token);
            self.running += 1;
            if let Some(group) = &run.group {
                *self.groups.entry(group.clone()).or_default() += 1;
            }
        } else {
            if of_job.waiting.is_empty() {
                self.heads.insert((run.order, token));
            }
            of_job.waiting.push_back(token);
        }
        self.runs.insert(token, run);
    }

    fn remove(&mut self, token: Token) -> Option<Run> {
        let run = self.runs.remove(&token)?;
        if let Some(id) = run.id {
            self.by_id.remove(&id);
        }
        if let Some(of_job) = self.by_job.get_mut(&run.job) {
            of_job.running.retain(|other| *other != token);
            if self.heads.remove(&(run.order, token)) {
                of_job.waiting.pop_front();
                if let Some(head) = of_job.waiting.front() {
                    self.heads.insert((self.runs[head].order, *head));
                }
            } else if !run.started {
                of_job.waiting.retain(|other| *other != token);
            }
            if of_job.running.is_empty() && of_job.waiting.is_empty() {
                self.by_job.remove(&run.job);
            }
        }
        if run.started {
            self.running -= 1;
            if let Some(group) = &run.group
                && let Some(count) = self.groups.get_mut(group)
            {
                *count -= 1;
                if *count == 0 {
                    self.groups.remove(group);
                }
            }
        }
        self.changed = true;
        Some(run)
    }
}
