//! The ledger's file and those beside it: made with the right mode, connected to, and what is said where that
//! fails. Knows no row.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::schema::Mismatch;
use super::{LedgerError, damage};

/// How long a call waits for another process, unless [`super::Ledger::patience`] says otherwise.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// SQLite gives the files beside the ledger the mode of the ledger; so it is made here, with the right one.
pub(super) fn make_file(path: &Path) -> Result<(), String> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(folder)
        .map_err(|error| format!("the folder {} can't be made: {error}", folder.display()))?;
    match OpenOptions::new().write(true).create_new(true).mode(0o640).open(path) {
        // So that the file itself, and not only what is in it, survives a power cut.
        Ok(_) => File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|error| format!("the folder {} can't be synced: {error}", folder.display())),
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => {
            Err("it is a directory".into())
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// Without a log of changes nobody has the ledger open, and it is read as it lies there; SQLite would otherwise
/// make files beside it, or fail where it may not.
pub(super) fn connect_read_only(path: &Path) -> rusqlite::Result<Connection> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let quiet = !beside(path, "-wal").exists();
    let connection = Connection::open_with_flags(uri(path, if quiet { "?immutable=1" } else { "" }), flags)?;
    connection.busy_timeout(PATIENCE)?;
    Ok(connection)
}

/// As [`connect_read_only`], in a process that has the ledger open: nothing is taken for quiet.
pub(super) fn connect_beside(path: &Path) -> rusqlite::Result<Connection> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(uri(path, ""), flags)?;
    connection.busy_timeout(PATIENCE)?;
    Ok(connection)
}

fn uri(path: &Path, options: &str) -> PathBuf {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut uri = b"file:".to_vec();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'?' | b'#' | b'%' => uri.extend_from_slice(format!("%{byte:02x}").as_bytes()),
            other => uri.push(*other),
        }
    }
    uri.extend_from_slice(options.as_bytes());
    PathBuf::from(std::ffi::OsString::from_vec(uri))
}

/// `ledger.db` → `ledger.db-wal`
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

pub(super) fn opening(path: &Path, mismatch: Mismatch) -> LedgerError {
    let at = path;
    let path = show(path);
    match mismatch {
        Mismatch::TooNew { found, known } => LedgerError::TooNew { path, found, known },
        Mismatch::Foreign => {
            LedgerError::Open { path, reason: "it is an SQLite file of another program: move it away".into() }
        }
        Mismatch::Sqlite(error) if damage::is_damage(&error) => {
            LedgerError::Damaged { path, reason: explain(&error, at) }
        }
        Mismatch::Sqlite(error) => LedgerError::Open { path, reason: explain(&error, at) },
    }
}

pub(super) fn explain(error: &rusqlite::Error, path: &Path) -> String {
    let full = || rustix::fs::statvfs(path).is_ok_and(|disk| disk.f_bavail == 0);
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "another process holds it locked (is it open in sqlite3, or being copied?)".into()
        }
        // The file that is shared with readers is made when the ledger is opened: without room for it, SQLite
        // speaks of the disk only in general.
        Some(ErrorCode::SystemIoFailure) if full() => "the disk is full".into(),
        Some(ErrorCode::DiskFull) => "the disk is full".into(),
        Some(ErrorCode::ReadOnly) => "it is read-only for this user or on this disk".into(),
        Some(ErrorCode::CannotOpen) => format!("it, or the files beside it, can't be opened ({error})"),
        _ => error.to_string(),
    }
}

pub(super) fn show(path: &Path) -> String {
    path.display().to_string()
}
