//! Where spawners and daemons find each other: `<control socket>.spawner-<pid>`, mode 0600.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{CWD, Mode, OFlags};

/// unix(7): `sun_path` holds 108 bytes, the last of them a NUL.
const LONGEST: usize = 107;

pub(crate) fn listen(prefix: &Path, pid: i32) -> Result<(UnixListener, PathBuf)> {
    let path = path_of(prefix, pid);
    let doing = || format!("the spawner can't listen on {}", path.display());
    // A former process with our number can't be listening any more.
    let _ = std::fs::remove_file(&path);
    let short = Short::of(&path).with_context(doing)?;
    let usual = rustix::process::umask(Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(&short.path);
    rustix::process::umask(usual);
    Ok((listener.with_context(doing)?, path))
}

pub(crate) fn connect(path: &Path) -> std::io::Result<UnixStream> {
    let short = Short::of(path)?;
    UnixStream::connect(&short.path)
}

/// The sockets beside this control socket, with the process that each one belongs to.
pub(crate) fn find(prefix: &Path) -> std::io::Result<Vec<(i32, PathBuf)>> {
    let Some(folder) = prefix.parent() else { return Ok(vec![]) };
    let start = start_of_name(prefix);
    let mut found = vec![];
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let pid = name.as_bytes().strip_prefix(start.as_bytes()).and_then(|pid| str::from_utf8(pid).ok());
        if let Some(pid) = pid.and_then(|pid| pid.parse().ok()) {
            found.push((pid, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

pub(crate) fn path_of(prefix: &Path, pid: i32) -> PathBuf {
    let mut name = start_of_name(prefix);
    name.push(pid.to_string());
    prefix.with_file_name(name)
}

fn start_of_name(prefix: &Path) -> OsString {
    let mut name = prefix.file_name().map(OsStr::to_owned).unwrap_or_default();
    name.push(".spawner-");
    name
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
    fn sockets_are_found_by_their_control_socket_however_long_its_path() {
        for depth in [1, 60] {
            let folder = tempfile::tempdir().unwrap();
            let deep = folder.path().join("d/".repeat(depth)).join("long".repeat(5));
            std::fs::create_dir_all(&deep).unwrap();
            let prefix = deep.join("control.sock");
            let (listener, path) = listen(&prefix, 4711).unwrap();
            for other in ["control.sock", "control.sock.spawner-x", "other.sock.spawner-12"] {
                std::fs::write(deep.join(other), "").unwrap();
            }
            assert_eq!(path, deep.join("control.sock.spawner-4711"));
            assert_eq!(find(&prefix).unwrap(), [(4711, path.clone())]);
            let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path).unwrap());
            assert_eq!(mode & 0o777, 0o600);
            connect(&path).unwrap();
            drop(listener);
            assert_eq!(connect(&path).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
        }
    }
}
