//! What a new daemon finds of runs whose spawners died with the daemon before it, or can't be talked to.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::environment::{MARKER_JOB, MARKER_RUN, MARKER_SLOT};
use super::super::mark::{mark, mark_of};
use super::{DIED, Leader, Orphan, Processes, Shared};
use crate::host::cgroup::Delegated;
use crate::host::procfs::{self, ProcessStat};
use crate::model::RunId;

/// A program as its spawner wrote it down: exact, where a program has hidden its marks (`env -i`, a process title).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Recorded {
    pub(crate) run: i64,
    pub(crate) job: String,
    /// 0: not known, of a former version.
    #[serde(default)]
    pub(crate) attempt: u32,
    pub(crate) pid: i32,
    /// In clock ticks since boot.
    pub(crate) start: u64,
    pub(crate) deadline: Option<Timestamp>,
    /// Of the host.
    pub(crate) boot: String,
}

impl Recorded {
    /// Of an attempt that came before this one.
    pub(crate) fn is_before(&self, attempt: u32) -> bool {
        self.attempt != 0 && self.attempt < attempt
    }
}

/// What a search needs to know beforehand.
pub(crate) struct Search<'a> {
    pub(crate) state: &'a Path,
    pub(crate) delegated: Option<&'a Delegated>,
    pub(crate) looks: &'a Arc<Shared<Processes>>,
    /// Spawners whose runs are known from themselves.
    pub(crate) spoken_to: Vec<i32>,
    /// Runs without an end that none of these knows, each with its last attempt.
    pub(crate) missing: Vec<(RunId, String, u32)>,
}

impl Search<'_> {
    /// The runs of this state directory that have processes, but for those of the spawners in `spoken_to`.
    /// `out_of_reach`: the others that have left a socket, what each one wrote down, and what is wrong with it where it
    /// hasn't died.
    pub(crate) fn run(&self, out_of_reach: &[(i32, Vec<Recorded>, Option<String>)]) -> Vec<Orphan> {
        if out_of_reach.is_empty() && self.missing.is_empty() {
            return vec![];
        }
        let all = procfs::all();
        let boot = procfs::boot_id();
        let by_pid: HashMap<i32, &ProcessStat> = all.iter().map(|one| (one.pid, one)).collect();
        // Both the socket and the record of a spawner may be gone; the marks are found from the ledger then.
        let missing = self.missing.iter().map(|(run, job, attempt)| {
            ((run.0, job.clone()), Found { attempt: *attempt, ..Found::default() })
        });
        let mut found: BTreeMap<(i64, String), Found<'_>> = missing.collect();
        for (spawner, records, trouble) in out_of_reach {
            for record in records.iter().filter(|record| record.boot == boot) {
                let leader = Leader { pid: record.pid, start: record.start };
                let process = by_pid.get(&record.pid);
                let lives = process.is_some_and(|one| Leader::of(one) == leader && !one.is_zombie());
                let run = found.entry((record.run, record.job.clone())).or_default();
                // Of an attempt before it says nothing of the last one, which may not have come to be written down.
                if !lives && record.is_before(run.attempt) {
                    continue;
                }
                run.deadline = run.deadline.max(record.deadline);
                run.recorded.push((*spawner, leader, lives));
            }
            // A number that was given out again leads another session.
            let again = by_pid.get(spawner).filter(|one| trouble.is_none() && !one.is_zombie());
            let younger = again.map_or(u64::MAX, |one| one.start);
            for one in all.iter().filter(|one| one.session == *spawner && one.start < younger) {
                if let Some((key, slot)) = variables(one) {
                    let run = found.entry(key).or_default();
                    run.slot = Some(slot);
                    run.bearing.push(one);
                }
            }
        }
        self.find_marked(&all, &by_pid, &mut found);
        let trouble = |spawner: i32| {
            let known = out_of_reach.iter().find(|(pid, ..)| *pid == spawner);
            known.and_then(|(.., trouble)| trouble.clone()).unwrap_or_else(|| DIED.to_owned())
        };
        let living = found.into_iter().filter(|(_, found)| found.lives());
        living.map(|((run, job), found)| self.orphan(run, job, &found, trouble)).collect()
    }

    /// What is in the cgroup of a run, and what bears its mark.
    fn find_marked<'a>(
        &self,
        all: &'a [ProcessStat],
        by_pid: &HashMap<i32, &'a ProcessStat>,
        found: &mut BTreeMap<(i64, String), Found<'a>>,
    ) {
        let marks: HashMap<u64, (i64, String)> =
            found.keys().map(|key| (mark(self.state, key.0, &key.1), key.clone())).collect();
        let cgroups = self.delegated.map(Delegated::of_all_runs).unwrap_or_default();
        for one in cgroups.iter().filter(|one| !self.spoken_to.contains(&one.spawner)) {
            let run = marks.get(&one.mark).and_then(|key| found.get_mut(key));
            let pids = run.as_ref().map(|_| one.cgroup.processes()).unwrap_or_default();
            if let Some(run) = run.filter(|_| !pids.is_empty()) {
                run.spawner = Some(one.spawner);
                run.bearing.extend(pids.iter().filter_map(|pid| by_pid.get(pid)));
            }
        }
        let spoken_to: HashSet<i32> =
            procfs::family(all, &self.spoken_to).iter().map(|one| one.pid).collect();
        for one in all.iter().filter(|one| !one.is_zombie() && !spoken_to.contains(&one.pid)) {
            let run = mark_of(one.pid).and_then(|mark| found.get_mut(marks.get(&mark)?));
            if let Some(run) = run
                && run.recorded.iter().all(|(_, leader, _)| one.start >= leader.start)
            {
                run.bearing.push(one);
            }
        }
    }

    fn orphan(&self, run: i64, job: String, found: &Found<'_>, trouble: impl Fn(i32) -> String) -> Orphan {
        // Those that live count; where none does, the last that is dead says that the run has ended.
        let living: Vec<_> = found.recorded.iter().filter(|(.., lives)| *lives).collect();
        let (spawner, leaders) = match living.first().copied().or(found.recorded.last()) {
            Some((spawner, leader, false)) => (*spawner, vec![*leader]),
            Some((spawner, ..)) => (*spawner, living.iter().map(|(_, leader, _)| *leader).collect()),
            None => found.by_marks(),
        };
        let mark = mark(self.state, run, &job);
        Orphan {
            run: RunId(run),
            job,
            slot: found.slot.clone(),
            deadline: found.deadline,
            leaders,
            spawner,
            trouble: trouble(spawner),
            mark,
            cgroup: self.delegated.map(|delegated| delegated.of_run(run, mark, spawner)),
            looks: self.looks.clone(),
        }
    }
}

/// What was seen of one run.
#[derive(Default)]
struct Found<'a> {
    /// The last that is known; 0: none.
    attempt: u32,
    slot: Option<String>,
    deadline: Option<Timestamp>,
    /// By its marks, or in its cgroup; some twice.
    bearing: Vec<&'a ProcessStat>,
    /// As the name of the cgroup tells.
    spawner: Option<i32>,
    /// With their spawner, and whether they live.
    recorded: Vec<(i32, Leader, bool)>,
}

impl Found<'_> {
    fn lives(&self) -> bool {
        !self.bearing.is_empty() || self.recorded.iter().any(|(.., lives)| *lives)
    }

    /// A program leads a group in its spawner's session, and none of its run started it.
    fn by_marks(&self) -> (i32, Vec<Leader>) {
        let started = |one: &ProcessStat| self.bearing.iter().any(|other| other.pid == one.parent);
        let leads = |one: &&&ProcessStat| {
            let in_session = self.spawner.map_or(one.session != one.pid, |spawner| one.session == spawner);
            one.pid == one.group && in_session && !started(one)
        };
        let mut leading: Vec<&ProcessStat> = self.bearing.iter().filter(leads).copied().collect();
        leading.sort_by_key(|one| (one.start, one.pid));
        leading.dedup_by_key(|one| one.pid);
        let session = leading.first().map(|one| one.session);
        leading.retain(|one| Some(one.session) == session);
        let spawner = self.spawner.or(session).unwrap_or(0);
        (spawner, leading.into_iter().map(Leader::of).collect())
    }
}

/// Whether a living process belongs to this run by its environment.
pub(super) fn says(one: &ProcessStat, run: RunId, job: &str) -> bool {
    variables(one).is_some_and(|((of, by), _)| of == run.0 && by == job)
}

/// Which run a living process belongs to by its environment, and the slot.
fn variables(one: &ProcessStat) -> Option<((i64, String), String)> {
    if one.is_zombie() || one.pid == procfs::own_pid() {
        return None;
    }
    let [run, job, slot] = procfs::environment(one.pid, [MARKER_RUN, MARKER_JOB, MARKER_SLOT])?;
    let key = (run?.parse().ok()?, job?);
    procfs::shares_our_pid_namespace(one.pid).then_some((key, slot?))
}
