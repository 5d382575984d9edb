//! Runs that no spawner can tell of: it died, or it can't be talked to, and their programs go on.
//!
//! Finds the processes of such a run by what its spawner wrote down, by the mark that they inherit (another daemon's
//! run may bear the same number), by process group and by descent; ends them where that is asked for. Never ends
//! anything of its own accord.

mod look;
mod search;
mod watch;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustix::process::Signal;
use tokio::time::Instant;

pub(crate) use look::{Processes, Shared};
pub(crate) use search::{Recorded, Search};
pub(super) use watch::Watch;

use super::{Process, Swept, ends, send};
use crate::host::cgroup::RunCgroup;
use crate::host::procfs::{self, ProcessStat};
use crate::model::RunId;

const BOUND: Duration = Duration::from_secs(5);

/// A run whose processes have no spawner that could be asked.
#[derive(Clone, Debug)]
pub struct Orphan {
    pub run: RunId,
    pub job: String,
    /// As its marks say it; empty for a run without one. `None`: no mark could be read.
    pub slot: Option<String>,
    /// When the attempt times out, where that was recorded.
    pub deadline: Option<Timestamp>,
    /// Its programs themselves; the run has ended when they have. None: that can't be told from what they started.
    pub leaders: Vec<Leader>,
    /// Its spawner's process number, and so its programs' session.
    pub spawner: i32,
    /// What is wrong with that spawner, as a sentence goes on after its name.
    pub trouble: String,
    /// Of its processes; see `mark`.
    pub(crate) mark: u64,
    /// Where each run has one of its own.
    pub(crate) cgroup: Option<RunCgroup>,
    pub(crate) looks: Arc<Shared<Processes>>,
}

/// One process, for ever: by its number and its start in clock ticks since boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Leader {
    pub pid: i32,
    pub start: u64,
}

pub(super) const DIED: &str = "has died";

impl Orphan {
    /// The program that the run stands for, or another process of it.
    pub fn pid(&self) -> Option<u32> {
        self.leaders.first().map(|leader| leader.pid.unsigned_abs())
    }

    /// Where nothing was written down: its programs by what lives of it. `None` where nothing does.
    pub(super) async fn with_leaders(mut self) -> Option<Self> {
        let this = Arc::new(self.clone());
        let mut living = this.left(&mut HashSet::new()).await;
        if living.is_empty() {
            // Where the kernel takes no mark, they say it themselves.
            living = tokio::task::spawn_blocking(move || {
                let mut all = procfs::all();
                all.retain(|one| one.session == this.spawner && search::says(one, this.run, &this.job));
                all
            })
            .await
            .unwrap_or_default();
        }
        if living.is_empty() {
            return None;
        }
        let started = |one: &ProcessStat| living.iter().any(|other| other.pid == one.parent);
        let leads = |one: &&ProcessStat| one.pid == one.group && one.session == self.spawner && !started(one);
        self.leaders = living.iter().filter(leads).map(Leader::of).collect();
        Some(self)
    }

    /// Ends what is left of the run: TERM, `grace`, KILL; returns when nothing is, or nothing more can be ended.
    pub(super) async fn end(self: &Arc<Self>, grace: Duration) -> Swept {
        let mut known = HashSet::new();
        let first = self.left(&mut known).await;
        if first.is_empty() {
            self.cgroup.iter().for_each(RunCgroup::remove);
            return Swept::default();
        }
        let mut left = self.signal_until_gone(&mut known, Signal::TERM, grace).await;
        if !left.is_empty() {
            left = self.signal_until_gone(&mut known, Signal::KILL, BOUND).await;
        }
        self.cgroup.iter().for_each(RunCgroup::remove);
        Swept { ended: named(first), survivors: named(left) }
    }

    async fn signal_until_gone(
        self: &Arc<Self>,
        known: &mut HashSet<Leader>,
        signal: Signal,
        bound: Duration,
    ) -> Vec<ProcessStat> {
        let until = Instant::now() + bound;
        let mut told = HashSet::new();
        loop {
            let left = self.left(known).await;
            if left.is_empty() || Instant::now() >= until {
                return left;
            }
            if let Some(cgroup) = self.cgroup.as_ref().filter(|_| signal == Signal::KILL) {
                cgroup.kill();
            }
            for one in &left {
                // TERM once each, since a second one may mean something else.
                if told.insert(Leader::of(one)) || signal == Signal::KILL {
                    send(one, signal);
                }
            }
            ends::of_all(left.iter().map(Leader::of), until).await;
        }
    }

    /// All processes of the run. `known`: what was ever seen of it, which stays its own when its parents have ended.
    async fn left(self: &Arc<Self>, known: &mut HashSet<Leader>) -> Vec<ProcessStat> {
        let processes = self.looks.get(Processes::look).await;
        let (orphan, seen) = (self.clone(), known.clone());
        // Off the threads that everything else needs.
        let find = tokio::task::spawn_blocking(move || orphan.find(&processes, &seen));
        let found = find.await.unwrap_or_default();
        known.extend(found.iter().map(Leader::of));
        found
    }

    fn find(&self, processes: &Processes, known: &HashSet<Leader>) -> Vec<ProcessStat> {
        let own = procfs::own_pid();
        let members = self.cgroup.as_ref().map(RunCgroup::processes).unwrap_or_default();
        let ours = |(index, one): &(usize, &ProcessStat)| {
            let seen = known.contains(&Leader::of(one)) || members.contains(&one.pid);
            seen || self.owns(one, || processes.mark(*index))
        };
        let roots = processes.all.iter().enumerate().filter(ours).map(|(index, _)| index).collect();
        let family = processes.family(roots).into_iter();
        family.filter(|one| one.pid != own && one.pid != self.spawner).cloned().collect()
    }

    fn owns(&self, one: &ProcessStat, mark: impl FnOnce() -> Option<u64>) -> bool {
        // The number of a group stays taken for as long as anyone is in it.
        let led = |leader: &Leader| {
            *leader == Leader::of(one) || (one.group == leader.pid && one.session == self.spawner)
        };
        // Most processes are older: nothing more need be read of them.
        let since = self.leaders.iter().map(|leader| leader.start).min().unwrap_or(0);
        self.leaders.iter().any(led) || (one.start >= since && mark() == Some(self.mark))
    }

    fn spawner_is_dead(&self) -> bool {
        procfs::stat(self.spawner).is_none_or(|stat| stat.is_zombie())
    }
}

impl Leader {
    pub(super) fn of(process: &ProcessStat) -> Self {
        Self { pid: process.pid, start: process.start }
    }

    /// A zombie runs no more.
    pub(super) fn is_alive(self) -> bool {
        procfs::stat(self.pid).is_some_and(|stat| stat.start == self.start && !stat.is_zombie())
    }
}

fn named(processes: Vec<ProcessStat>) -> Vec<Process> {
    processes.into_iter().map(|one| Process { pid: one.pid.unsigned_abs(), name: one.name }).collect()
}
