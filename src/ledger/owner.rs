//! Which process executes a run, and whether it still lives.
//!
//! A pid alone is given out again; with the boot and the start time it names one process for ever (proc(5)).

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::Owner;
use crate::host::procfs::boot_id;

impl Owner {
    /// This process. `role`: `daemon` or `run-now`.
    pub fn current(role: &str) -> Self {
        Self::of(role, std::process::id())
    }

    /// The process that has this pid now; one that is never alive where none has.
    pub fn of(role: &str, pid: u32) -> Self {
        Self { role: role.to_owned(), boot: boot_id(), pid, start_time: start_time(pid).unwrap_or_default() }
    }

    /// Whether that process runs now. A zombie runs no more.
    pub fn alive(&self) -> bool {
        self.boot == boot_id() && start_time(self.pid) == Some(self.start_time)
    }

    /// Blocks until that process has ended; asks the kernel to be told, and never polls.
    pub fn wait_for_end(&self) {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let Some(handle) = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else { return };
        // Now the handle names one process for ever: is it the one that is meant?
        while self.alive() {
            let mut ended = [PollFd::new(&handle, PollFlags::IN)];
            if matches!(poll(&mut ended, None), Ok(1..)) {
                return;
            }
        }
    }
}

impl Owner {
    /// Sends SIGINT, which a `run-now` takes as a wish to cancel. Whether the process was there to hear it.
    pub fn interrupt(&self) -> bool {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let Some(handle) = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else {
            return false;
        };
        // Asked once the handle is held: from here on it names one process for ever.
        self.alive() && pidfd_send_signal(&handle, Signal::INT).is_ok()
    }
}

fn start_time(pid: u32) -> Option<u64> {
    start_time_in(&std::fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// The name (field 2) is in parentheses and may hold anything, other parentheses and line ends too.
fn start_time_in(stat: &[u8]) -> Option<u64> {
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let mut fields = std::str::from_utf8(&stat[name_end + 1..]).ok()?.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X" | "x") {
        return None;
    }
    // Field 22; the state was field 3.
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives_and_a_stranger_with_its_pid_does_not() {
        let me = Owner::current("daemon");
        assert_eq!(me.role, "daemon");
        assert!(me.alive());
        assert!(!Owner { start_time: me.start_time + 1, ..me.clone() }.alive());
        assert!(!Owner { boot: "another".into(), ..me.clone() }.alive());
        // Beyond the largest pid_max of Linux.
        assert!(!Owner { pid: 4_194_305, ..me }.alive());
    }

    #[test]
    fn the_start_time_is_found_behind_any_name() {
        let check = |stat: &[u8], expected| assert_eq!(start_time_in(stat), expected);
        let rest = "1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987 0";
        check(format!("12 (sleep) S {rest}").as_bytes(), Some(987));
        check(format!("12 (a) R (b\n) S {rest}").as_bytes(), Some(987));
        check(format!("12 (sleep) Z {rest}").as_bytes(), None);
        check(b"12 (\xff\xfe) S 1", None);
        check(b"", None);
    }
}
