//! Starting one program: descriptors in place, `posix_spawn`, and the reason where it fails.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::OFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Resource, Rlimit, setrlimit};

use super::super::protocol::{Sink, Start};
use super::program::Stream;
use crate::host::exec::{self, Become};
use crate::host::process::{is_shortage, with_mark};

pub(super) struct Started {
    pub(super) pid: i32,
    pub(super) streams: [Stream; 2],
    pub(super) starting: Option<OwnedFd>,
}

pub(super) struct Failure {
    pub(super) host: bool,
    pub(super) reason: String,
}

/// `limit`: the limits of open files for programs and for the spawner itself. `mark`: of the run's processes.
pub(super) fn start(
    request: &Start,
    descriptors: Vec<OwnedFd>,
    limit: Option<&(Rlimit, Rlimit)>,
    mark: u64,
) -> Result<Started, Failure> {
    let Some((name, arguments)) = request.argv.split_first() else {
        return Err(Failure { host: false, reason: "no program was named".to_owned() });
    };
    let mut descriptors = descriptors.into_iter();
    let host = |error: io::Error| Failure { host: true, reason: error.to_string() };
    // Descriptors 0 to 2 of the spawner are /dev/null, so that inheriting them costs nothing.
    let stdin = if request.stdin { Stdio::from(passed(&mut descriptors)?) } else { Stdio::inherit() };
    let kept = request.keep.is_some();
    let (stdout, out) = output(request.stdout, kept, &mut descriptors, limit)?;
    let (stderr, err) = output(request.stderr, kept, &mut descriptors, limit)?;

    let shim = request.user.is_some() || request.nice > 0 || request.io.is_some();
    // The writing end is inherited on purpose; nothing else is started before it is closed here.
    let report = if shim { Some(report_pipe().map_err(host)?) } else { None };
    let mut command = match &report {
        None => {
            let mut command = command(&request.path);
            command.arg0(name);
            if let Some(cwd) = &request.cwd {
                command.current_dir(cwd);
            }
            command
        }
        Some((_, writing)) => {
            let become_program = Become {
                report: writing.as_raw_fd(),
                user: request.user.clone(),
                nice: request.nice,
                io: request.io,
                cwd: request.cwd.clone(),
            };
            let mut command = command(Path::new("/proc/self/exe"));
            command.arg(exec::VERB).arg(serde_json::to_string(&become_program).unwrap_or_default());
            command.arg(&request.path).arg(name);
            command
        }
    };
    command.args(arguments).env_clear();
    command.envs(request.env.iter().map(|(name, value)| (name, value)));
    command.stdin(stdin).stdout(stdout).stderr(stderr).process_group(0);

    if let Some((programs, _)) = limit {
        let _ = setrlimit(Resource::Nofile, *programs);
    }
    let spawned = with_mark(mark, || command.spawn());
    if let Some((_, own)) = limit {
        let _ = setrlimit(Resource::Nofile, *own);
    }
    let child = spawned.map_err(|error| Failure {
        host: is_shortage(&error),
        reason: crate::host::process::explain_exec(&error),
    })?;
    let starting = report.map(|(reading, _)| reading);
    Ok(Started { pid: child.id().cast_signed(), streams: [out, err], starting })
}

fn output(
    sink: Sink,
    kept: bool,
    descriptors: &mut impl Iterator<Item = OwnedFd>,
    limit: Option<&(Rlimit, Rlimit)>,
) -> Result<(Stdio, Stream), Failure> {
    match sink {
        Sink::Null => Ok((Stdio::inherit(), Stream::new(sink, None))),
        Sink::Passed => Ok((passed(descriptors)?.into(), Stream::new(sink, None))),
        Sink::Log { .. } | Sink::Capture { .. } => {
            let made =
                pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from).and_then(|(reading, writing)| {
                    let reading = out_of_the_way(reading, limit)?;
                    unblock(&reading)?;
                    let writing = if kept { both_ends(&writing)? } else { writing };
                    Ok((Stdio::from(writing), Stream::new(sink, Some(reading))))
                });
            made.map_err(|error| Failure { host: true, reason: format!("no pipe for its output: {error}") })
        }
    }
}

/// `posix_spawn` refuses (EBADF) to pass on a descriptor that lies above the limit of the program, which is the
/// lower one: what stays here for as long as a program runs makes room below it.
fn out_of_the_way(reading: OwnedFd, limit: Option<&(Rlimit, Rlimit)>) -> io::Result<OwnedFd> {
    let programs = limit.and_then(|(programs, _)| i32::try_from(programs.current?).ok());
    match programs {
        Some(programs) if reading.as_raw_fd() >= programs / 2 => {
            Ok(rustix::io::fcntl_dupfd_cloexec(&reading, programs)?)
        }
        _ => Ok(reading),
    }
}

/// The reading end is ours alone; the writing end goes through the next exec.
fn report_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reading, writing) = pipe_with(PipeFlags::empty())?;
    rustix::io::fcntl_setfd(&reading, rustix::io::FdFlags::CLOEXEC)?;
    unblock(&reading)?;
    Ok((reading, writing))
}

/// A program that holds the reading end as well isn't ended by SIGPIPE where this process dies before it; a daemon
/// reads on from there.
fn both_ends(writing: &OwnedFd) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", writing.as_raw_fd());
    Ok(rustix::fs::openat(rustix::fs::CWD, path, OFlags::RDWR | OFlags::CLOEXEC, rustix::fs::Mode::empty())?)
}

/// Only our end: the program must find an ordinary, blocking pipe.
fn unblock(reading: &OwnedFd) -> io::Result<()> {
    Ok(rustix::fs::fcntl_setfl(reading, OFlags::NONBLOCK)?)
}

fn passed(descriptors: &mut impl Iterator<Item = OwnedFd>) -> Result<OwnedFd, Failure> {
    descriptors.next().ok_or_else(|| Failure {
        host: true,
        reason: "the spawner has too few free descriptors to take the daemon's".into(),
    })
}

#[expect(clippy::disallowed_methods, reason = "the spawner is where programs are started")]
fn command(program: &Path) -> Command {
    Command::new(program)
}
