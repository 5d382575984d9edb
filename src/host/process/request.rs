//! What the spawner is asked for a program: its path, its account, its descriptors, its marks. Starts nothing.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::MemfdFlags;
use rustix::pipe::{PipeFlags, pipe_with};

use super::environment::{self, MARKER_JOB, MARKER_RUN, MARKER_SLOT};
use super::{Account, Output, Program, ProgramContext, Stdin, find_program};
use crate::spawner::{NotStarted, Request, RunKey, Sink, Start};

/// Output that is logged of one program where its job doesn't say.
pub(super) const MAX_OUTPUT: u64 = 10 << 20;

/// A request with the job's own ends of its pipes.
pub(super) struct Prepared {
    pub(super) request: Request,
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
}

impl Prepared {
    pub(super) fn new(context: &ProgramContext, run: RunKey, program: Program) -> Result<Self, NotStarted> {
        let never = |reason: String| NotStarted { host: false, reason };
        let Program { argv, mut env, cwd, stdin, stdout, stderr, max_output, account, keep } = program;
        let Some(name) = argv.first() else { return Err(never("no program is named".to_owned())) };
        let folder = cwd.as_deref().unwrap_or(Path::new("/"));
        match std::fs::metadata(folder) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(never(format!("working folder {}: not a folder", folder.display()))),
            Err(error) => return Err(never(format!("working folder {}: {error}", folder.display()))),
        }
        let path = env.iter().find(|(name, _)| name == "PATH").map_or("", |(_, path)| path);
        let path = find_program(name, path, folder).map_err(never)?;
        let user = account.as_ref().map_or(Ok(None), change_to);
        let user = user.map_err(never)?;

        let host = |error: std::io::Error| NotStarted { host: true, reason: error.to_string() };
        let mut descriptors = vec![];
        let fed = match stdin {
            Stdin::Null => false,
            Stdin::Bytes(bytes) => {
                descriptors.push(file_of(&bytes).map_err(host)?);
                true
            }
            Stdin::From(descriptor) => {
                descriptors.push(descriptor);
                true
            }
        };
        let (stdout, our_stdout) = sink(stdout, &mut descriptors).map_err(host)?;
        let (stderr, our_stderr) = sink(stderr, &mut descriptors).map_err(host)?;

        environment::put(&mut env, MARKER_JOB, context.job.to_string());
        environment::put(&mut env, MARKER_RUN, context.run.to_string());
        environment::put(&mut env, MARKER_SLOT, environment::slot(context.slot));
        let start = Start {
            id: 0,
            run,
            attempt: context.attempt,
            path,
            argv,
            env,
            cwd,
            stdin: fed,
            stdout,
            stderr,
            max_output: max_output.unwrap_or(MAX_OUTPUT),
            user,
            nice: context.nice,
            io: context.io,
            origin: keep.as_ref().and(context.origin.clone()),
            keep,
        };
        let request = Request { start, descriptors, log: context.log.clone() };
        Ok(Self { request, stdout: our_stdout, stderr: our_stderr })
    }
}

/// `None` where the account is the daemon's own.
fn change_to(account: &Account) -> Result<Option<(u32, u32, Vec<u32>)>, String> {
    let own = nix::unistd::geteuid();
    if account.uid == own.as_raw() {
        return Ok(None);
    }
    if !own.is_root() {
        return Err(format!("user {}: only root can run a program as another user", account.name));
    }
    Ok(Some((account.uid, account.gid, account.groups.clone())))
}

/// The bytes as a file without a name: whoever reads it never waits, and nobody waits for a reader.
fn file_of(bytes: &[u8]) -> std::io::Result<OwnedFd> {
    use std::io::{Seek, Write};

    let mut file = std::fs::File::from(rustix::fs::memfd_create("stdin", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file.into())
}

fn sink(output: Output, descriptors: &mut Vec<OwnedFd>) -> std::io::Result<(Sink, Option<OwnedFd>)> {
    Ok(match output {
        Output::Null => (Sink::Null, None),
        Output::Log { tail } => (Sink::Log { tail }, None),
        Output::Capture { limit } => (Sink::Capture { limit }, None),
        Output::Pipe => {
            let (reading, writing) = pipe_with(PipeFlags::CLOEXEC)?;
            descriptors.push(writing);
            (Sink::Passed, Some(reading))
        }
    })
}
