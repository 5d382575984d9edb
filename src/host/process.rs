//! Programs: how a job starts one, feeds it, hears it and ends it.
//!
//! Every program is a child of the spawner (see `crate::spawner`) and belongs to a run; this is the jobs' side.
//! Nothing started here outlives its attempt, except a program with [`Keep`] when the daemon itself ends.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

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

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    pub status: Status,
    pub at: Timestamp,
    /// What [`Output::Log`] (the tail) or [`Output::Capture`] (the head) kept.
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
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

/// Signature sketch: the spawner's client fills these in.
pub struct Programs {}

pub struct Running {
    pub pid: u32,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
}

impl Programs {
    /// # Errors
    /// [`StartError`]
    pub async fn start(&self, _program: Program) -> Result<Running, StartError> {
        unimplemented!()
    }

    /// Ends every process of the run: TERM, `grace`, KILL; returns when none is left.
    pub async fn end_all(&self, _grace: Duration) -> Swept {
        unimplemented!()
    }
}

impl Running {
    /// Waits for the exit, and until the output of logged and captured streams is in.
    pub async fn wait(&mut self) -> Exit {
        unimplemented!()
    }
}
