//! Binds the socket: never steals a living daemon's, never leaves it open to others, removes what it made.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::UnixListener;

#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error(
        "{path}: another daemon answers on this socket{}: stop it first, or give this one its own paths.socket",
        pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    InUse { path: String, pid: Option<u32> },
    #[error("{path}: there is something else than a socket here: move it away, or set paths.socket")]
    NotASocket { path: String },
    #[error("{path}: the control socket can't be {what}: {reason}")]
    Io { path: String, what: &'static str, reason: String },
}

/// The socket's file, removed when this is dropped.
#[derive(Debug)]
pub(super) struct BoundPath {
    path: PathBuf,
    device_and_inode: Option<(u64, u64)>,
}

impl fmt::Display for BoundPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

impl Drop for BoundPath {
    fn drop(&mut self) {
        // Only our own: somebody may have removed it and started another daemon since.
        if self.device_and_inode.is_some() && identity(&self.path) == self.device_and_inode {
            let _ = fs::remove_file(&self.path);
        }
    }
}

pub(super) fn bind(path: &Path) -> Result<(UnixListener, BoundPath), BindError> {
    let failed = |what: &'static str| {
        move |error: io::Error| BindError::Io {
            path: path.display().to_string(),
            what,
            reason: error.to_string(),
        }
    };
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(directory)
        .map_err(failed("put into its directory"))?;

    // Two daemons that start together would both find the old socket dead, and the second would remove the
    // first one's new socket. The lock is on the directory, so that no lock file stays behind.
    let lock = fs::File::open(directory).map_err(failed("put into its directory"))?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(|e| failed("locked")(e.into()))?;

    remove_if_dead(path)?;
    let socket = open(path, &lock).map_err(failed("bound"))?;
    let bound = BoundPath { path: path.to_owned(), device_and_inode: identity(path) };
    let listener = std::os::unix::net::UnixListener::from(socket);
    let listener = UnixListener::from_std(listener).map_err(failed("listened on"))?;
    Ok((listener, bound))
}

fn open(path: &Path, directory: &fs::File) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // On Linux bind(2) gives the file the mode of the socket's own inode (less the umask), so that at no
    // instant it is open to more than its owner.
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(0o600))?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    let group = directory.metadata()?.gid();
    let mode = if fs::symlink_metadata(path)?.gid() == group || chown(path, None, Some(group)).is_ok() {
        0o660
    } else {
        // Our own group was nobody's choice for this: better nobody than the wrong ones.
        tracing::warn!(
            "{}: the socket can't be given to the group of its directory (gid {group}): only its owner may use it",
            path.display()
        );
        0o600
    };
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))?;
    rustix::net::listen(&socket, 1024)?;
    Ok(socket)
}

/// Removes a socket on which nobody listens.
fn remove_if_dead(path: &Path) -> Result<(), BindError> {
    let shown = || path.display().to_string();
    let failed =
        |reason: io::Error| BindError::Io { path: shown(), what: "taken over", reason: reason.to_string() };
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(BindError::NotASocket { path: shown() });
    }
    match UnixStream::connect(path) {
        Ok(stream) => {
            // The credentials of a listening socket are those of the process that called listen(2).
            let pid = rustix::net::sockopt::socket_peercred(&stream).ok();
            let pid = pid.and_then(|peer| u32::try_from(peer.pid.as_raw_nonzero().get()).ok());
            Err(BindError::InUse { path: shown(), pid })
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}
