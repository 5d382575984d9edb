//! Ending one program of a run while the others go on.
//!
//! Finds what the program started by parent and by process group. What hid from both is left to the sweep at the end
//! of the attempt, which knows a run's processes by more than that.

use std::collections::HashSet;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::time::Instant;

use super::ends;
use super::orphans::Leader;
use crate::host::procfs::{self, ProcessStat};

/// How long KILL may take before what is left counts as unkillable.
const BOUND: Duration = Duration::from_secs(5);

/// TERM, `grace`, KILL, to the program that the spawner started as `leader` and to its descendants; returns when none
/// is left, or none can be ended.
pub(super) async fn end(spawner: i32, leader: i32, grace: Duration) {
    let mut tree = Tree { spawner, leader, known: HashSet::new() };
    if !tree.signal_until_gone(Signal::TERM, grace).await {
        tree.signal_until_gone(Signal::KILL, BOUND).await;
    }
}

struct Tree {
    /// The process, and so the session, of the spawner.
    spawner: i32,
    leader: i32,
    /// Everyone that was ever seen of the tree, by number and start: a child stays ours when its parent has ended.
    known: HashSet<(i32, u64)>,
}

impl Tree {
    /// Whether none is left.
    async fn signal_until_gone(&mut self, signal: Signal, bound: Duration) -> bool {
        let until = Instant::now() + bound;
        let mut told = HashSet::new();
        loop {
            let left = self.find();
            if left.is_empty() {
                return true;
            }
            if Instant::now() >= until {
                return false;
            }
            // TERM once each, since a second one may mean something else.
            for one in &left {
                if told.insert((one.pid, one.start)) || signal == Signal::KILL {
                    send(one, signal);
                }
            }
            ends::of_all(left.iter().map(Leader::of), until).await;
        }
    }

    fn find(&mut self) -> Vec<ProcessStat> {
        let all = procfs::all();
        // The number of a group stays taken for as long as anyone is in it.
        let ours = |one: &&ProcessStat| {
            let in_group = one.group == self.leader && one.session == self.spawner;
            in_group || self.known.contains(&(one.pid, one.start))
        };
        let roots: Vec<i32> = all.iter().filter(ours).map(|one| one.pid).collect();
        let left: Vec<ProcessStat> = procfs::family(&all, &roots).into_iter().cloned().collect();
        self.known.extend(left.iter().map(|one| (one.pid, one.start)));
        left
    }
}

/// Through a descriptor of the process, looked at again after it was opened: a number may be reused between.
pub(crate) fn send(process: &ProcessStat, signal: Signal) {
    let Some(pid) = Pid::from_raw(process.pid) else { return };
    let Ok(descriptor) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    if procfs::stat(process.pid).is_none_or(|now| now.start != process.start) {
        return;
    }
    let _ = pidfd_send_signal(&descriptor, signal);
    if signal == Signal::TERM {
        // A stopped process would not hear it.
        let _ = pidfd_send_signal(&descriptor, Signal::CONT);
    }
}
