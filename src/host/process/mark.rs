//! A mark that a run's processes can't lose by accident: `setsid`, a cleared environment and a parent's end leave it.
//!
//! It is the soft limit of the processor time that a real-time process may take without a pause (RLIMIT_RTTIME, in
//! microseconds; getrlimit(2)), set to tens of thousands of years: it limits nothing, every child inherits it, and
//! /proc shows it to everybody. The state directory is part of it, so that no other daemon's run bears the same.

use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sha2::{Digest, Sha256};

/// Above what anybody would set, below what counts as unlimited.
const FIRST: u64 = 1 << 60;

/// Of all processes of one run.
pub(crate) fn mark(state: &Path, run: i64, job: &str) -> u64 {
    let text = format!("{}\0{run}\0{job}", state.display());
    let digest = Sha256::digest(text.as_bytes());
    let first = digest.iter().take(8).fold(0, |number: u64, byte| (number << 8) | u64::from(*byte));
    FIRST + (first >> 4)
}

/// Starts a process that bears the mark: it inherits what holds at that moment. Where it can't be set, there is none.
pub(crate) fn with_mark<T>(mark: u64, start: impl FnOnce() -> T) -> T {
    let usual = getrlimit(Resource::Rttime);
    let set = setrlimit(Resource::Rttime, Rlimit { current: Some(mark), maximum: usual.maximum });
    let started = start();
    if set.is_ok() {
        let _ = setrlimit(Resource::Rttime, usual);
    }
    started
}

pub(crate) fn mark_of(pid: i32) -> Option<u64> {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let limit = limits.lines().find_map(|line| line.strip_prefix("Max realtime timeout"))?;
    limit.split_ascii_whitespace().next()?.parse().ok().filter(|mark| *mark >= FIRST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_other_jobs_numbers_and_daemons_bear_other_marks() {
        let marks = [
            mark(Path::new("/var/lib/a"), 7, "one"),
            mark(Path::new("/var/lib/a"), 8, "one"),
            mark(Path::new("/var/lib/a"), 7, "two"),
            mark(Path::new("/var/lib/b"), 7, "one"),
        ];
        for (index, one) in marks.iter().enumerate() {
            assert!(*one >= FIRST && *one < 2 * FIRST);
            assert!(!marks[..index].contains(one));
        }
        assert_eq!(marks[0], mark(Path::new("/var/lib/a"), 7, "one"));
        assert_eq!(mark_of(crate::host::procfs::own_pid()), None);
    }
}
