//! Where spawners and daemons find each other: `<state>/spawner-<pid>.sock`, mode 0600.
//!
//! It lies with the ledger and not beside the control socket, since systemd removes a service's runtime directory when
//! it is stopped: what runs on would not be found by the next start. Only where the state directory takes no socket (it
//! is full) is it `<control socket>.spawner-<pid>`.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{CWD, Mode, OFlags};

use crate::host::process::Recorded;

/// unix(7): `sun_path` holds 108 bytes, the last of them a NUL.
const LONGEST: usize = 107;

/// The folders in which a spawner's socket may lie.
#[derive(Clone, Copy)]
pub(crate) struct Places<'a> {
    pub(crate) state: &'a Path,
    /// The daemon's own.
    pub(crate) control_socket: &'a Path,
}

impl Places<'_> {
    pub(crate) fn listen(self, pid: i32) -> Result<(UnixListener, PathBuf)> {
        let [usual, other] = self.sockets_of(pid);
        listen_at(&usual)
            .or_else(|first| listen_at(&other).with_context(|| format!("{first:#}")))
            .context("the spawner can't listen")
    }

    /// The sockets that are there, with the process that each one belongs to.
    pub(crate) fn find(self) -> Result<Vec<(i32, PathBuf)>> {
        let beside = self.control_socket.parent().unwrap_or(Path::new("."));
        let mut found = vec![];
        for (folder, start, end) in
            [(self.state, OsString::from(START), END), (beside, start_beside(self.control_socket), "")]
        {
            let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
            for entry in entries {
                let entry = entry.with_context(|| folder.display().to_string())?;
                let name = entry.file_name();
                let pid = name.as_bytes().strip_prefix(start.as_bytes());
                let pid = pid.and_then(|pid| str::from_utf8(pid.strip_suffix(end.as_bytes())?).ok());
                if let Some(pid) = pid.and_then(|pid| pid.parse().ok()) {
                    found.push((pid, entry.path()));
                }
            }
        }
        found.sort();
        Ok(found)
    }

    /// What a spawner writes down of its programs.
    pub(crate) fn record_of(self, pid: i32) -> PathBuf {
        self.state.join(format!("{START}{pid}.runs"))
    }

    /// Empty where there is none; a line that was cut by a full disk is passed over.
    pub(crate) fn records_of(self, pid: i32) -> Vec<Recorded> {
        let text = std::fs::read_to_string(self.record_of(pid)).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Where the socket of a spawner may lie, the usual place first.
    pub(crate) fn sockets_of(self, pid: i32) -> [PathBuf; 2] {
        let mut name = start_beside(self.control_socket);
        name.push(pid.to_string());
        [self.state.join(format!("{START}{pid}{END}")), self.control_socket.with_file_name(name)]
    }
}

const START: &str = "spawner-";
const END: &str = ".sock";

fn start_beside(control_socket: &Path) -> OsString {
    let mut name = control_socket.file_name().map(OsStr::to_owned).unwrap_or_default();
    name.push(".spawner-");
    name
}

fn listen_at(path: &Path) -> Result<(UnixListener, PathBuf)> {
    let doing = || path.display().to_string();
    // A former process with our number can't be listening any more.
    let _ = std::fs::remove_file(path);
    let short = Short::of(path).with_context(doing)?;
    let usual = rustix::process::umask(Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(&short.path);
    rustix::process::umask(usual);
    Ok((listener.with_context(doing)?, path.to_owned()))
}

pub(crate) fn connect(path: &Path) -> std::io::Result<UnixStream> {
    let short = Short::of(path)?;
    UnixStream::connect(&short.path)
}

/// A way to name a socket whose path may be too long for the kernel.
struct Short {
    path: PathBuf,
    /// Kept open while `path` is in use.
    _folder: Option<OwnedFd>,
}

impl Short {
    fn of(path: &Path) -> std::io::Result<Self> {
        if path.as_os_str().len() <= LONGEST {
            return Ok(Self { path: path.to_owned(), _folder: None });
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(std::io::ErrorKind::InvalidInput.into());
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(CWD, parent, flags, Mode::empty())?;
        let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
        Ok(Self { path, _folder: Some(folder) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_found_in_both_places_however_long_their_paths() {
        for depth in [1, 60] {
            let folder = tempfile::tempdir().unwrap();
            let deep = folder.path().join("d/".repeat(depth)).join("long".repeat(5));
            let (state, run) = (deep.join("state"), deep.join("run"));
            std::fs::create_dir_all(&run).unwrap();
            let control_socket = run.join("control.sock");
            let places = Places { state: &state, control_socket: &control_socket };
            // No state directory, so that it can't be used.
            let (beside, path) = places.listen(4712).unwrap();
            assert_eq!(path, run.join("control.sock.spawner-4712"));
            std::fs::create_dir(&state).unwrap();
            let (listener, path) = places.listen(4711).unwrap();
            assert_eq!(path, state.join("spawner-4711.sock"));
            for other in [
                run.join("control.sock.spawner-x"),
                run.join("other.sock.spawner-12"),
                state.join("spawner-x.sock"),
            ] {
                std::fs::write(other, "").unwrap();
            }
            let expected = vec![(4711, path.clone()), (4712, run.join("control.sock.spawner-4712"))];
            assert_eq!(places.find().unwrap(), expected);
            let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path).unwrap());
            assert_eq!(mode & 0o777, 0o600);
            connect(&path).unwrap();
            drop((listener, beside));
            assert_eq!(connect(&path).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
        }
    }
}
