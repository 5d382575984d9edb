//! Programs: how a job starts one, feeds it, hears it and ends it.
//!
//! Every program is a child of the spawner (see `crate::spawner`) and belongs to a run; this is the jobs' side.
//! Nothing started here outlives its attempt, except a program with [`Keep`] when the daemon itself ends; such a one
//! outlives its spawner as well, and is watched to its end without it.

mod ends;
mod environment;
mod mark;
mod one;
mod orphans;
mod programs;
mod request;
mod resolve;

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use jiff::Timestamp;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

pub use environment::{MARKER_JOB, MARKER_RUN, MARKER_SLOT, login_path};
pub(crate) use mark::{mark, mark_of, with_mark};
pub(crate) use one::send;
pub use orphans::Orphan;
pub(crate) use orphans::{Processes, Recorded, Search, Shared};
pub use programs::{ProgramContext, Programs, Running};
pub use resolve::find_program;

use crate::logs::{Level, RunLog, Stream};
use crate::model::{Finding, Report, Severity, Trigger};

/// A program to start.
#[derive(Debug, Default)]
pub struct Program {
    /// The program (a path, or a name looked up in the PATH of `env`) and its arguments.
    pub argv: Vec<String>,
    /// The whole environment: nothing is inherited. The run's marker variables are added by [`Programs`].
    pub env: Vec<(String, String)>,
    /// Default: `/`.
    pub cwd: Option<PathBuf>,
    pub stdin: Stdin,
    pub stdout: Output,
    pub stderr: Output,
    /// Logged output beyond this many bytes, both streams together, is read and dropped, and the log says so.
    pub max_output: Option<u64>,
    /// Run as this account; default: the daemon's.
    pub account: Option<Account>,
    /// The program may outlive the daemon, and this is how to judge it then.
    pub keep: Option<Keep>,
}

/// A user with all its groups (getgrouplist(3)).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub home: PathBuf,
}

#[derive(Debug, Default)]
pub enum Stdin {
    /// /dev/null
    #[default]
    Null,
    /// These bytes; a program that never reads them holds nobody up.
    Bytes(Vec<u8>),
    From(OwnedFd),
}

#[derive(Debug, Default)]
pub enum Output {
    #[default]
    Null,
    /// Each line into the run's log; the last `tail` bytes are returned with the exit as well.
    Log { tail: usize },
    /// Not logged; the first `limit` bytes are returned with the exit, the rest is read and dropped.
    Capture { limit: usize },
    /// The reading end is in [`Running::stdout`] or [`Running::stderr`].
    Pipe,
}

/// What a later daemon must know to finish the run of a program that outlived this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keep {
    pub success_codes: Vec<i32>,
    /// When the attempt times out, by the wall clock.
    pub deadline: Option<Timestamp>,
}

/// What else the row of a run says, for a later daemon that must write it again since it was lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    pub trigger: Trigger,
    pub requested_by: Option<String>,
    pub epoch: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    pub status: Status,
    pub at: Timestamp,
    /// What [`Output::Log`] (the tail) or [`Output::Capture`] (the head) kept.
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// Bytes that came through logged and captured streams.
    pub written: u64,
    /// Bytes of output that `max_output` or a capture's limit dropped.
    pub dropped: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    Code(i32),
    Signal(i32),
    /// The spawner died, so that nobody could wait for the program.
    Unknown,
}

/// What the sweep at the end of an attempt, or a cancel, found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swept {
    /// Processes that were still there when the attempt ended, and were ended.
    pub ended: Vec<Process>,
    /// Processes that even KILL did not end in time (uninterruptible sleep).
    pub survivors: Vec<Process>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub pid: u32,
    pub name: String,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No retry mends these: the program is absent, not executable, the folder is missing.
    #[error("{program}: {reason}")]
    Program { program: String, reason: String },
    /// The host is short of something (EAGAIN, ENOMEM, EMFILE) or the spawner is gone.
    #[error("{program} can't be started now: {reason}")]
    Host { program: String, reason: String },
}

/// Where the output of programs goes: the run's log.
pub trait OutputLog: Send + Sync {
    /// A piece of output, cut anywhere. When it returns, every whole line of it is in the file; an unfinished
    /// line must not be written before [`OutputLog::end_output`], or a later daemon would write it twice.
    /// Gives the number of lines that this made, those that were skipped among them: a long line may be cut,
    /// always at the same places.
    fn output(&self, stream: Stream, at: Timestamp, bytes: &[u8]) -> u64;
    fn end_output(&self, stream: Stream, at: Timestamp);
    /// What went wrong with the output or with who reads it.
    fn note(&self, at: Timestamp, text: &str);
    /// Lines of this stream that the current attempt has in the file.
    fn lines_logged(&self, stream: Stream) -> u64;
    /// The next lines are in the file already: the daemon before wrote them.
    fn skip_lines(&self, stream: Stream, lines: u64);
}

impl OutputLog for RunLog {
    fn output(&self, stream: Stream, at: Timestamp, bytes: &[u8]) -> u64 {
        self.output(stream, at, bytes)
    }

    fn end_output(&self, stream: Stream, at: Timestamp) {
        self.end_output(stream, at);
    }

    fn note(&self, at: Timestamp, text: &str) {
        self.note_as(at, Level::Warn, text);
    }

    fn lines_logged(&self, stream: Stream) -> u64 {
        self.lines_logged(stream)
    }

    fn skip_lines(&self, stream: Stream, lines: u64) {
        self.skip_lines(stream, lines);
    }
}

impl Swept {
    /// What someone should look at after an attempt that ended by itself.
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = vec![];
        if !self.ended.is_empty() {
            findings.push(Finding::warning(format!("left behind and ended: {}", list(&self.ended))));
        }
        if !self.survivors.is_empty() {
            findings.push(Finding {
                severity: Severity::Critical,
                message: format!("could not be ended, not even by KILL: {}", list(&self.survivors)),
            });
        }
        findings
    }
}

/// What the end of a program means for its job: a report (`exit_code`, `output_bytes`), or what went wrong. A retry
/// may mend the latter.
///
/// # Errors
/// The exit code or the signal, with the last lines of stderr.
pub fn judge(exit: &Exit, keep: &Keep) -> Result<Report, String> {
    let ended = match exit.status {
        Status::Code(code) if keep.success_codes.contains(&code) => {
            let report = Report::new(format!("exit code {code}"));
            return Ok(report.fact("exit_code", code).fact("output_bytes", exit.written));
        }
        Status::Code(code) => format!("exit code {code}"),
        Status::Signal(signal) => match signal_hook::low_level::signal_name(signal) {
            Some(name) => format!("ended by signal {signal} ({name})"),
            None => format!("ended by signal {signal}"),
        },
        Status::Unknown => return Err("nobody knows how the program ended: its spawner died".to_owned()),
    };
    // The first line stands alone where there is room for one only: its last words mostly say why.
    let last = last_lines(&exit.stderr, 5);
    match last.rsplit_once('\n') {
        Some((_, words)) => Err(format!("{ended}: {words}\nthe end of its stderr:\n{last}")),
        None if last.is_empty() => Err(ended),
        None => Err(format!("{ended}: {last}")),
    }
}

/// Why the kernel refused to execute a program, in the words of someone who knows what it usually means.
pub(crate) fn explain_exec(error: &io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT) => "no such file (or the interpreter in its first line is missing)".to_owned(),
        Some(Errno::NOEXEC) => {
            "not in a format that can be executed: a script needs a first line such as #!/bin/sh".to_owned()
        }
        Some(Errno::ACCESS) => "permission denied: not executable, or a folder above it is closed".to_owned(),
        Some(Errno::TOOBIG) => "its arguments and environment are too long".to_owned(),
        _ => error.to_string(),
    }
}

/// Whether the host is short of something that it may have again soon.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw_os_error),
        Some(Errno::AGAIN | Errno::NOMEM | Errno::MFILE | Errno::NFILE)
    )
}

fn last_lines(bytes: &[u8], count: usize) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

fn list(processes: &[Process]) -> String {
    let named: Vec<String> = processes.iter().map(|one| format!("{} ({})", one.name, one.pid)).collect();
    named.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_is_judged_by_its_code_and_told_with_its_last_words() {
        let check = |status, stderr: &str, expected: Result<&str, &str>| {
            let exit = Exit {
                status,
                at: Timestamp::UNIX_EPOCH,
                stdout: vec![],
                stderr: stderr.as_bytes().to_vec(),
                written: 0,
                dropped: 0,
            };
            let keep = Keep { success_codes: vec![0, 24], deadline: None };
            assert_eq!(
                judge(&exit, &keep).map(|report| report.summary),
                expected.map(str::to_owned).map_err(str::to_owned)
            );
        };
        check(Status::Code(0), "a warning", Ok("exit code 0"));
        check(Status::Code(24), "", Ok("exit code 24"));
        check(Status::Code(1), "", Err("exit code 1"));
        check(
            Status::Code(2),
            "1\n2\n3\n4\n5\n6\n",
            Err("exit code 2: 6\nthe end of its stderr:\n2\n3\n4\n5\n6"),
        );
        check(Status::Code(2), "no such file\n", Err("exit code 2: no such file"));
        check(Status::Signal(9), "", Err("ended by signal 9 (SIGKILL)"));
        check(Status::Unknown, "", Err("nobody knows how the program ended: its spawner died"));
    }
}
