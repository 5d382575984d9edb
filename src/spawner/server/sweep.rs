//! Nothing outlives its run: finding what a run left behind, and ending it.
//!
//! Looks only among this spawner's own descendants, so that two daemons on one host never touch each other's
//! processes. Whatever a run's process leaves behind becomes, when its parent ends, a child of the spawner: a
//! run has no process left when the spawner has no child that belongs to it.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use rustix::process::{Pid, Signal};

use super::super::protocol::{RunKey, ToDaemon};
use super::program::Program;
use super::{Run, Server};
use crate::host::cgroup::{self, RunCgroup};
use crate::host::process::{MARKER_JOB, MARKER_RUN, Process, mark_of, send};
use crate::host::procfs::{self, ProcessStat};

/// How long KILL may take before what is left counts as unkillable.
const BOUND: Duration = Duration::from_secs(5);
/// Between two rounds of KILL: what forks meanwhile is found by the next.
const ROUND: Duration = Duration::from_millis(20);
/// Milliseconds of a clock tick, the unit of /proc/PID/stat (USER_HZ is 100 on every Linux machine of today).
const TICK: u64 = 10;
/// Names of ended processes that are kept of one run.
const NAMES: usize = 50;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    /// What the run's programs left behind; not the programs.
    Strays,
    /// Programs that can't outlive their daemon, in a run that has one that can.
    Unkept,
    All,
}

pub(super) struct Sweep {
    target: Target,
    phase: Phase,
    /// On the clock that never steps.
    deadline: Duration,
    tokens: Vec<u64>,
    /// Who got TERM, by number and start: once each, since a second one may mean something else.
    told: HashSet<(i32, u64)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing was sent yet.
    New {
        grace: Duration,
    },
    Term,
    Kill {
        next: Duration,
    },
}

/// What is to be ended.
struct Found {
    /// Children of this process: only it reaps them, so that their numbers stay theirs.
    roots: Vec<i32>,
    /// What else is in the run's cgroup.
    members: Vec<i32>,
    /// Where all that is in it is to be ended.
    cgroup: Option<RunCgroup>,
}

/// One look at the children and, where there is any need, at /proc; shared by all sweeps of a turn.
#[derive(Default)]
struct Look {
    /// Children that were not started as programs, by the run that they belong to.
    strays: HashMap<RunKey, Vec<i32>>,
    /// Nothing tells whose these are; each with the time since boot at which it started at the latest.
    unknown: Vec<(i32, Duration)>,
    processes: Option<Vec<ProcessStat>>,
}

impl Server {
    pub(super) fn begin_sweep(&mut self, run: &RunKey, target: Target, grace: Duration, token: Option<u64>) {
        let now = self.clock.since_boot();
        let fresh = Sweep {
            target,
            phase: Phase::New { grace },
            deadline: now + grace,
            tokens: vec![],
            told: HashSet::new(),
        };
        let sweep = self.sweeps.entry(run.clone()).or_insert(fresh);
        if target > sweep.target || (now + grace < sweep.deadline && sweep.phase == Phase::Term) {
            sweep.target = sweep.target.max(target);
            sweep.phase = Phase::New { grace };
            sweep.deadline = now + grace;
        }
        sweep.tokens.extend(token);
        self.look = true;
    }

    /// How long the loop may sleep.
    pub(super) fn next_look(&self) -> Option<Duration> {
        if self.look && !self.sweeps.is_empty() {
            return Some(Duration::ZERO);
        }
        let now = self.clock.since_boot();
        self.sweeps.values().map(|sweep| sweep.wakes_at().saturating_sub(now)).min()
    }

    /// Takes every sweep a step further where something may have changed.
    pub(super) fn sweep(&mut self) {
        if self.sweeps.is_empty() {
            self.look = false;
            return;
        }
        let now = self.clock.since_boot();
        let changed = std::mem::take(&mut self.look);
        if !changed && self.sweeps.values().all(|sweep| sweep.wakes_at() > now) {
            return;
        }
        self.reap();
        let mut look = self.look_around();
        let runs: Vec<RunKey> = self.sweeps.keys().cloned().collect();
        for run in runs {
            self.step(&run, now, &mut look);
        }
    }

    fn step(&mut self, run: &RunKey, now: Duration, look: &mut Look) {
        let Some(sweep) = self.sweeps.get(run) else { return };
        let (target, phase, deadline) = (sweep.target, sweep.phase, sweep.deadline);
        let found = self.find(run, target, look);
        if found.roots.is_empty() && found.members.is_empty() {
            return self.finish(run, vec![]);
        }
        let phase = match phase {
            Phase::New { grace } if !grace.is_zero() => {
                self.signal(run, &found, Signal::TERM, look);
                Phase::Term
            }
            Phase::Term if now < deadline => {
                // What was forked away while the others were told.
                self.signal(run, &found, Signal::TERM, look);
                Phase::Term
            }
            Phase::New { .. } | Phase::Term => {
                self.signal(run, &found, Signal::KILL, look);
                if let Some(sweep) = self.sweeps.get_mut(run) {
                    sweep.deadline = now + BOUND;
                }
                Phase::Kill { next: now + ROUND }
            }
            Phase::Kill { .. } if now >= deadline => {
                let processes = look.processes();
                let left = procfs::family(processes, &found.all()).into_iter().map(named).collect();
                return self.finish(run, left);
            }
            Phase::Kill { .. } => {
                self.signal(run, &found, Signal::KILL, look);
                Phase::Kill { next: now + ROUND }
            }
        };
        if let Some(sweep) = self.sweeps.get_mut(run) {
            sweep.phase = phase;
        }
    }

    fn finish(&mut self, run: &RunKey, survivors: Vec<Process>) {
        let Some(sweep) = self.sweeps.remove(run) else { return };
        // Whoever still holds a pipe of an ended program open is beyond reach.
        let ended: Vec<u64> =
            self.of_run(run).filter(|program| !program.is_live()).map(|program| program.id).collect();
        for id in ended {
            self.close_pipes(id);
        }
        let whole = sweep.target == Target::All;
        if !sweep.tokens.is_empty() {
            let ended = self.runs.get_mut(run).map(|run| std::mem::take(&mut run.ended)).unwrap_or_default();
            for token in sweep.tokens {
                let (ended, survivors) = (ended.clone(), survivors.clone());
                self.say(&ToDaemon::Swept { token, ended, survivors });
            }
        }
        if whole && let Some(swept) = self.runs.get_mut(run) {
            if let Some(cgroup) = &swept.cgroup {
                cgroup.remove();
            }
            for group in swept.groups.drain(..) {
                self.groups.remove(&group);
            }
            swept.swept = true;
            if swept.programs.is_empty() {
                self.runs.remove(run);
            }
        }
        if self.connection.is_none() && self.programs.is_empty() && self.sweeps.is_empty() {
            self.end_the_unknown();
        }
    }

    /// Before this process ends: what belongs to no run that is known any more.
    pub(super) fn end_the_unknown(&mut self) {
        let none = RunKey { run: 0, job: String::new() };
        let look = self.look_around();
        if let Some(run) = look.strays.keys().next().cloned() {
            self.begin_sweep(&run, Target::All, Duration::ZERO, None);
        } else if !look.unknown.is_empty() {
            self.runs.clear();
            self.begin_sweep(&none, Target::All, Duration::ZERO, None);
        }
    }

    fn look_around(&mut self) -> Look {
        let mut look = Look::default();
        for pid in procfs::own_children() {
            if self.by_pid.contains_key(&pid) {
                continue;
            }
            if let Some(run) = self.strays.get(&pid) {
                look.strays.entry(run.clone()).or_default().push(pid);
                continue;
            }
            let Some(stat) = procfs::stat(pid).filter(|stat| !stat.is_zombie()) else { continue };
            match self.owner(&stat) {
                Some(run) => {
                    self.strays.insert(pid, run.clone());
                    look.strays.entry(run).or_default().push(pid);
                }
                None => look.unknown.push((pid, Duration::from_millis((stat.start + 1) * TICK))),
            }
        }
        look
    }

    /// Whose run a process is, by its group, its session, its cgroup, its marks, or the output that it holds open.
    fn owner(&self, stat: &ProcessStat) -> Option<RunKey> {
        let led = self.groups.get(&stat.group).or_else(|| self.groups.get(&stat.session));
        let marked = || {
            let [run, job] = procfs::environment(stat.pid, [MARKER_RUN, MARKER_JOB])?;
            Some(RunKey { run: run?.parse().ok()?, job: job? })
        };
        let known = || {
            let marks = [cgroup::mark_of(stat.pid), mark_of(stat.pid)];
            let bears = |(_, run): &(&RunKey, &Run)| marks.contains(&Some(run.mark));
            self.runs.iter().find(bears).map(|(key, _)| key.clone())
        };
        led.cloned().or_else(known).or_else(marked).or_else(|| {
            let held = procfs::standard_pipes(stat.pid);
            let holds = |program: &&Program| program.pipes().any(|pipe| held.contains(&pipe));
            self.programs.values().find(holds).map(|program| program.run.clone())
        })
    }

    fn find(&self, run: &RunKey, target: Target, look: &Look) -> Found {
        let roots = self.roots(run, target, look);
        // Beside a program that goes on, the cgroup doesn't tell what is its own.
        let whole =
            target == Target::All || (target == Target::Strays && !self.of_run(run).any(Program::is_live));
        let cgroup = self.runs.get(run).and_then(|run| run.cgroup.clone()).filter(|_| whole);
        let mut members = cgroup.as_ref().map(RunCgroup::processes).unwrap_or_default();
        members.retain(|pid| !roots.contains(pid));
        Found { roots, members, cgroup }
    }

    /// The children of this process that belong to the run.
    fn roots(&self, run: &RunKey, target: Target, look: &Look) -> Vec<i32> {
        let mut roots = vec![];
        if target > Target::Strays {
            let programs = self.of_run(run).filter(|program| program.is_live());
            let meant = programs.filter(|program| target == Target::All || program.keep.is_none());
            roots.extend(meant.map(|program| program.pid));
        }
        if target != Target::Unkept {
            roots.extend(look.strays.get(run).into_iter().flatten());
            roots.extend(self.unknown_of(run, look));
        }
        roots
    }

    /// What hides every mark is this run's where it is older than all others that are under way.
    fn unknown_of(&self, run: &RunKey, look: &Look) -> Vec<i32> {
        // The usual case, and thousands of runs may end at once.
        if look.unknown.is_empty() {
            return vec![];
        }
        let others = self.runs.iter().filter(|(key, other)| *key != run && !other.swept);
        let oldest = others.map(|(_, other)| other.since).min();
        let ours = look.unknown.iter().filter(|(_, start)| oldest.is_none_or(|oldest| *start <= oldest));
        ours.map(|(pid, _)| *pid).collect()
    }

    fn signal(&mut self, run: &RunKey, found: &Found, signal: Signal, look: &mut Look) {
        let own = procfs::own_pid();
        let mut family = procfs::family(look.processes(), &found.all());
        if signal == Signal::TERM
            && let Some(sweep) = self.sweeps.get_mut(run)
        {
            family.retain(|one| sweep.told.insert((one.pid, one.start)));
        }
        if signal == Signal::KILL {
            // One by one as well: what root has moved elsewhere, and where the kernel is older than 5.14.
            if let Some(cgroup) = &found.cgroup {
                cgroup.kill();
            }
            // A group is killed in one stroke, so that nothing in it can fork away. A root is a child that only
            // this process reaps: its group can't have become somebody else's.
            for one in &family {
                if found.roots.contains(&one.pid) && one.group != own && one.group == one.pid {
                    let _ = Pid::from_raw(one.group)
                        .map(|group| rustix::process::kill_process_group(group, Signal::KILL));
                }
            }
        }
        for one in &family {
            send(one, signal);
        }
        let cause = self.runs.get(run).and_then(|run| run.cause);
        // What ended by itself since the look was taken is not ended by the signal.
        let runs_on = |pid: i32| procfs::stat(pid).is_some_and(|stat| !stat.is_zombie());
        family.retain(|one| {
            let runs_on = runs_on(one.pid);
            let program = self.by_pid.get(&one.pid).and_then(|id| self.programs.get_mut(id));
            let Some(program) = program else { return !one.is_zombie() };
            program.ended_as = program.ended_as.or(cause);
            program.outlived_signal |= runs_on;
            runs_on
        });
        let names: Vec<Process> = family.into_iter().map(named).collect();
        let ended = &mut self.runs.entry(run.clone()).or_default().ended;
        for name in names {
            if ended.len() < NAMES && !ended.iter().any(|one| one.pid == name.pid) {
                ended.push(name);
            }
        }
    }
}

impl Sweep {
    fn wakes_at(&self) -> Duration {
        match self.phase {
            Phase::New { .. } => Duration::ZERO,
            Phase::Term => self.deadline,
            Phase::Kill { next } => next.min(self.deadline),
        }
    }
}

impl Found {
    fn all(&self) -> Vec<i32> {
        [self.roots.as_slice(), &self.members].concat()
    }
}

impl Look {
    fn processes(&mut self) -> &[ProcessStat] {
        self.processes.get_or_insert_with(procfs::all)
    }
}

fn named(process: &ProcessStat) -> Process {
    Process { pid: process.pid.unsigned_abs(), name: process.name.clone() }
}
