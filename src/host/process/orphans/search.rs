//! What a new daemon finds of runs whose spawners died with the daemon before it, or can't be talked to.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::environment::{MARKER_JOB, MARKER_RUN, MARKER_SLOT};
use super::super::mark::{mark, mark_of};
use super::{DIED, Leader, Orphan};
use crate::host::procfs::{self, ProcessStat};
use crate::model::RunId;

/// A program as its spawner wrote it down: exact, where a program has hidden its marks (`env -i`, a process title).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Recorded {
    pub(crate) run: i64,
    pub(crate) job: String,
    pub(crate) pid: i32,
    /// In clock ticks since boot.
    pub(crate) start: u64,
    pub(crate) deadline: Option<Timestamp>,
    /// Of the host.
    pub(crate) boot: String,
}

/// The runs of this state directory that have processes, but for those of the spawners in `spoken_to`. `out_of_reach`:
/// the others that have left a socket, what each one wrote down, and what is wrong with it where it hasn't died.
pub(crate) fn search(
    state: &Path,
    spoken_to: &[i32],
    out_of_reach: &[(i32, Vec<Recorded>, Option<String>)],
) -> Vec<Orphan> {
    if out_of_reach.is_empty() {
        return vec![];
    }
    let all = procfs::all();
    let boot = procfs::boot_id();
    let by_pid: HashMap<i32, &ProcessStat> = all.iter().map(|one| (one.pid, one)).collect();
    let mut found: BTreeMap<(i64, String), Found<'_>> = BTreeMap::new();
    for (spawner, records, trouble) in out_of_reach {
        for record in records.iter().filter(|record| record.boot == boot) {
            let leader = Leader { pid: record.pid, start: record.start };
            let process = by_pid.get(&record.pid);
            let lives = process.is_some_and(|one| Leader::of(one) == leader && !one.is_zombie());
            let run = found.entry((record.run, record.job.clone())).or_default();
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
                run.in_session.push(one);
            }
        }
    }
    let marks: HashMap<u64, (i64, String)> =
        found.keys().map(|key| (mark(state, key.0, &key.1), key.clone())).collect();
    let spoken_to: HashSet<i32> = procfs::family(&all, spoken_to).iter().map(|one| one.pid).collect();
    for one in all.iter().filter(|one| !one.is_zombie() && !spoken_to.contains(&one.pid)) {
        let run = mark_of(one.pid).and_then(|mark| found.get_mut(marks.get(&mark)?));
        if let Some(run) = run {
            run.marked |= run.recorded.iter().all(|(_, leader, _)| one.start >= leader.start);
        }
    }
    let trouble = |spawner: i32| {
        let known = out_of_reach.iter().find(|(pid, ..)| *pid == spawner);
        known.and_then(|(.., trouble)| trouble.clone()).unwrap_or_else(|| DIED.to_owned())
    };
    let living = found.into_iter().filter(|(_, found)| found.lives());
    living.map(|((run, job), found)| found.into_orphan(state, run, job, trouble)).collect()
}

/// What was seen of one run.
#[derive(Default)]
struct Found<'a> {
    slot: Option<String>,
    deadline: Option<Timestamp>,
    /// Marked, in the session of the spawner.
    in_session: Vec<&'a ProcessStat>,
    /// Something bears its mark.
    marked: bool,
    /// With their spawner, and whether they live.
    recorded: Vec<(i32, Leader, bool)>,
}

impl Found<'_> {
    fn lives(&self) -> bool {
        self.marked || !self.in_session.is_empty() || self.recorded.iter().any(|(.., lives)| *lives)
    }

    fn into_orphan(self, state: &Path, run: i64, job: String, trouble: impl Fn(i32) -> String) -> Orphan {
        // Those that live count; where none does, the last that is dead says that the run has ended.
        let living: Vec<_> = self.recorded.iter().filter(|(.., lives)| *lives).collect();
        let (spawner, leaders) = match living.first().copied().or(self.recorded.last()) {
            Some((spawner, leader, false)) => (*spawner, vec![*leader]),
            Some((spawner, ..)) => (*spawner, living.iter().map(|(_, leader, _)| *leader).collect()),
            None => self.by_marks(),
        };
        let mark = mark(state, run, &job);
        let (run, trouble) = (RunId(run), trouble(spawner));
        Orphan { run, job, slot: self.slot, deadline: self.deadline, leaders, spawner, trouble, mark }
    }

    /// A program leads a group in its spawner's session, and none of its run started it.
    fn by_marks(&self) -> (i32, Vec<Leader>) {
        let started = |one: &ProcessStat| self.in_session.iter().any(|other| other.pid == one.parent);
        let leads = |one: &&&ProcessStat| one.pid == one.group && !started(one);
        let leaders = self.in_session.iter().filter(leads).map(|one| Leader::of(one)).collect();
        (self.in_session.first().map_or(0, |one| one.session), leaders)
    }
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
