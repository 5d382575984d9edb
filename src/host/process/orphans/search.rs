//! What a new daemon finds of runs whose spawners died with the daemon before it, or can't be talked to.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::environment::{MARKER_JOB, MARKER_RUN, MARKER_SLOT, MARKER_STATE};
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
/// the others that are known, what each one wrote down, and what is wrong with it where it hasn't died.
pub(crate) fn search(
    state: &str,
    spoken_to: &[i32],
    out_of_reach: &[(i32, Vec<Recorded>, Option<String>)],
) -> Vec<Orphan> {
    let all = procfs::all();
    let excluded: HashSet<i32> = procfs::family(&all, spoken_to).iter().map(|one| one.pid).collect();
    let mut found: BTreeMap<(i64, String), Found<'_>> = BTreeMap::new();
    for one in all.iter().filter(|one| !one.is_zombie() && !excluded.contains(&one.pid)) {
        let Some((key, slot)) = marks(one, state) else { continue };
        let run = found.entry(key).or_default();
        run.slot = Some(slot);
        run.marked.push(one);
    }
    let boot = procfs::boot_id();
    let by_pid: HashMap<i32, &ProcessStat> = all.iter().map(|one| (one.pid, one)).collect();
    for (spawner, records, _) in out_of_reach {
        for record in records.iter().filter(|record| record.boot == boot) {
            let leader = Leader { pid: record.pid, start: record.start };
            let lives =
                by_pid.get(&record.pid).is_some_and(|one| Leader::of(one) == leader && !one.is_zombie());
            let key = (record.run, record.job.clone());
            if !lives && !found.contains_key(&key) {
                continue;
            }
            let run = found.entry(key).or_default();
            run.deadline = run.deadline.max(record.deadline);
            run.recorded.push((*spawner, leader, lives));
        }
    }
    let trouble = |spawner: i32| {
        let known = out_of_reach.iter().find(|(pid, ..)| *pid == spawner);
        known.and_then(|(.., trouble)| trouble.clone()).unwrap_or_else(|| DIED.to_owned())
    };
    found.into_iter().map(|((run, job), found)| found.into_orphan(run, job, state, trouble)).collect()
}

/// What was seen of one run.
#[derive(Default)]
struct Found<'a> {
    slot: Option<String>,
    deadline: Option<Timestamp>,
    marked: Vec<&'a ProcessStat>,
    /// With their spawner, and whether they live.
    recorded: Vec<(i32, Leader, bool)>,
}

impl Found<'_> {
    fn into_orphan(self, run: i64, job: String, state: &str, trouble: impl Fn(i32) -> String) -> Orphan {
        // Of an attempt before, or of this one: those that live count, and one that is dead says that it has ended.
        let living: Vec<_> = self.recorded.iter().filter(|(.., lives)| *lives).collect();
        let recorded = living.last().copied().or(self.recorded.last());
        let (spawner, leaders) = match recorded {
            Some((spawner, leader, lives)) if !lives => (*spawner, vec![*leader]),
            Some((spawner, ..)) => (*spawner, living.iter().map(|(_, leader, _)| *leader).collect()),
            None => self.by_marks(),
        };
        let trouble = trouble(spawner);
        let state = state.to_owned();
        Orphan {
            run: RunId(run),
            job,
            slot: self.slot,
            deadline: self.deadline,
            leaders,
            spawner,
            trouble,
            state,
        }
    }

    /// A program leads a group in its spawner's session, and none of its run started it.
    fn by_marks(&self) -> (i32, Vec<Leader>) {
        let started = |one: &ProcessStat| self.marked.iter().any(|other| other.pid == one.parent);
        let leads = |one: &&&ProcessStat| one.pid == one.group && one.pid != one.session && !started(one);
        let leaders: Vec<_> = self.marked.iter().filter(leads).collect();
        let spawner = leaders.first().copied().or(self.marked.first()).map_or(0, |one| one.session);
        (spawner, leaders.into_iter().map(|one| Leader::of(one)).collect())
    }
}

/// Which run of this state directory a process bears the marks of, and the slot.
fn marks(one: &ProcessStat, state: &str) -> Option<((i64, String), String)> {
    let names = [MARKER_STATE, MARKER_RUN, MARKER_JOB, MARKER_SLOT];
    let [theirs, run, job, slot] = procfs::environment(one.pid, names)?;
    if theirs? != state || !procfs::shares_our_pid_namespace(one.pid) || one.pid == procfs::own_pid() {
        return None;
    }
    Some(((run?.parse().ok()?, job?), slot?))
}
