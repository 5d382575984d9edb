//! `__exec`: becomes a program as another user, or with another niceness, without `unsafe` in the spawner.
//!
//! Runs between the spawner's `posix_spawn` and the program, in the process that becomes the program. Says what
//! failed through a pipe that closes when the program has been started.

use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};
use serde::{Deserialize, Serialize};

use crate::policy::IoClass;

/// What the process becomes before it becomes the program.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Become {
    /// The number of the inherited writing end of the pipe for an error.
    pub(crate) report: i32,
    /// uid, gid, supplementary groups
    pub(crate) user: Option<(u32, u32, Vec<u32>)>,
    pub(crate) nice: u8,
    pub(crate) io: Option<IoClass>,
    pub(crate) cwd: Option<std::path::PathBuf>,
}

/// The name of the first argument that leads here.
pub const VERB: &str = "__exec";

const IONICE: &str = "/usr/bin/ionice";

/// `args`: what follows [`VERB`]: the JSON of [`Become`], the program's path, its name, its arguments.
/// Returns only where the program can't be started.
pub fn main(args: &[OsString]) -> ExitCode {
    let [settings, program, name, arguments @ ..] = args else { return ExitCode::from(127) };
    let Ok(settings) = serde_json::from_slice::<Become>(settings.as_bytes()) else {
        return ExitCode::from(127);
    };
    // Opened anew so that it closes on exec, which tells the spawner that all went well.
    let report = OpenOptions::new().write(true).open(format!("/proc/self/fd/{}", settings.report));
    let _ = nix::unistd::close(settings.report);
    let reason = become_program(&settings, program, name, arguments);
    if let Ok(mut report) = report {
        let _ = report.write_all(reason.as_bytes());
    }
    ExitCode::from(127)
}

fn become_program(settings: &Become, program: &OsStr, name: &OsStr, arguments: &[OsString]) -> String {
    if let Err(reason) = change(settings) {
        return reason;
    }
    // exec() here would give such a file to a shell, posix_spawn() in the spawner does not: one answer for both.
    if is_shapeless(program) {
        return super::process::explain_exec(&rustix::io::Errno::NOEXEC.into());
    }
    let error = match settings.io {
        None => command(program).arg0(name).args(arguments).exec(),
        Some(class) => {
            // ionice would say "not found" where nobody looks.
            if let Err(error) = rustix::fs::access(Path::new(program), rustix::fs::Access::EXEC_OK) {
                return std::io::Error::from(error).to_string();
            }
            let class = match class {
                IoClass::Idle => "3",
                IoClass::BestEffort => "2",
            };
            let error =
                command(IONICE.as_ref()).args(["-t", "-c", class]).arg(program).args(arguments).exec();
            return format!("`io` needs {IONICE} (package util-linux): {error}");
        }
    };
    super::process::explain_exec(&error)
}

/// A text without a first line that names its interpreter. (Other formats may be known to binfmt_misc.)
fn is_shapeless(program: &OsStr) -> bool {
    let mut start = [0; 128];
    let Ok(mut file) = std::fs::File::open(program) else { return false };
    let Ok(length) = file.read(&mut start) else { return false };
    let start = &start[..length];
    !start.starts_with(b"#!") && !start.starts_with(b"\x7fELF") && !start.contains(&0)
}

fn change(settings: &Become) -> Result<(), String> {
    if settings.nice > 0 {
        rustix::process::setpriority_process(None, i32::from(settings.nice))
            .map_err(|error| format!("niceness {} can't be set: {error}", settings.nice))?;
    }
    if let Some((uid, gid, groups)) = &settings.user {
        let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
        setgroups(&groups).map_err(|error| format!("the groups can't be set: {error}"))?;
        setgid(Gid::from_raw(*gid)).map_err(|error| format!("group {gid} can't be set: {error}"))?;
        setuid(Uid::from_raw(*uid)).map_err(|error| format!("user {uid} can't be set: {error}"))?;
    }
    if let Some(cwd) = &settings.cwd {
        // After the change of user: the folder must be open to that user.
        rustix::process::chdir(cwd)
            .map_err(|error| format!("working folder {}: {}", cwd.display(), std::io::Error::from(error)))?;
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "this process is what the spawner started to become it")]
fn command(program: &OsStr) -> Command {
    Command::new(program)
}
