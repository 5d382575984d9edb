//! The best that can be done for a run whose spawner died: its programs are init's children now.
//!
//! Touches only what still sits in the dead spawner's session: another daemon's run may bear the same number.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::environment::{MARKER_JOB, MARKER_RUN};
use super::{Process, Swept};
use crate::host::procfs::{self, ProcessStat};

const PAUSE: Duration = Duration::from_millis(50);
const BOUND: Duration = Duration::from_secs(5);

/// `spawner`: the dead spawner's process number, and so its session's; `leaders`: the run's own programs.
pub(super) async fn end(spawner: i32, leaders: &[u32], run: &str, job: &str, grace: Duration) -> Swept {
    let find = || -> Vec<ProcessStat> {
        let ours = |one: &ProcessStat| {
            leaders.contains(&one.group.unsigned_abs())
                || procfs::environment(one.pid, [MARKER_RUN, MARKER_JOB])
                    .is_some_and(|[r, j]| r.as_deref() == Some(run) && j.as_deref() == Some(job))
        };
        let mut all = procfs::all();
        all.retain(|one| one.session == spawner && !one.is_zombie() && ours(one));
        all
    };
    let first = find();
    if first.is_empty() || spawner <= 1 {
        return Swept::default();
    }
    let left = signal_until_gone(&find, Signal::TERM, grace).await;
    let survivors = if left.is_empty() { left } else { signal_until_gone(&find, Signal::KILL, BOUND).await };
    Swept { ended: named(first), survivors: named(survivors) }
}

async fn signal_until_gone(
    find: &impl Fn() -> Vec<ProcessStat>,
    signal: Signal,
    bound: Duration,
) -> Vec<ProcessStat> {
    let mut waited = Duration::ZERO;
    let mut told = vec![];
    loop {
        let left = find();
        if left.is_empty() || waited >= bound {
            return left;
        }
        for one in &left {
            if signal == Signal::KILL || !told.contains(&one.pid) {
                told.push(one.pid);
                let _ = Pid::from_raw(one.pid).map(|pid| kill_process(pid, signal));
            }
        }
        tokio::time::sleep(PAUSE).await;
        waited += PAUSE;
    }
}

fn named(processes: Vec<ProcessStat>) -> Vec<Process> {
    processes.into_iter().map(|one| Process { pid: one.pid.unsigned_abs(), name: one.name }).collect()
}
