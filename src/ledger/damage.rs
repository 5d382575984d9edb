//! A damaged ledger file: noticing it, and moving it out of the way.
//!
//! Jobs run whatever became of the file; what is damaged is kept beside the new one for a person to look at.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode};

use super::file::{beside, make_file};
use super::salvage::Salvaged;
use super::{LedgerError, Owner, SqliteLedger};

/// Reading every page takes about a second a gigabyte from a warm disk; a start must not wait for that. In a
/// larger file damage shows when a damaged page is used.
const LOOK_UP_TO: u64 = 64 << 20;

/// The files beside a ledger that belong to it.
const PARTS: &[&str] = &["", "-wal", "-shm"];

/// What was done about a ledger that was damaged, or taken away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// Where that is now which was found in its place.
    pub moved_to: Option<PathBuf>,
    pub reason: String,
    /// What could be kept of it.
    pub kept: String,
}

/// `it was damaged (…) and is kept as …; read from it were …`
impl fmt::Display for SetAside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)?;
        if let Some(moved_to) = &self.moved_to {
            write!(f, "; what was there is kept as {}", moved_to.display())?;
        }
        write!(f, "; {}", self.kept)
    }
}

/// Opens the ledger; a damaged one is renamed to `<name>.damaged-<time>` with what belongs to it, and a new
/// one begun with what can still be read of those things that must not be forgotten.
///
/// # Errors
/// As [`SqliteLedger::open`], and [`LedgerError::Damaged`] where the file can't be renamed.
pub fn open_or_set_aside(
    path: &Path,
    owner: Owner,
    host: &str,
    now: Timestamp,
    suspect: bool,
) -> Result<(SqliteLedger, Option<SetAside>), LedgerError> {
    let reason = match SqliteLedger::open_suspected(path, owner.clone(), host, suspect) {
        Err(LedgerError::Damaged { reason, .. }) => reason,
        other => return other.map(|ledger| (ledger, None)),
    };
    let salvaged = Salvaged::read(path);
    let moved_to = set_aside(path, now).map_err(|error| LedgerError::Damaged {
        path: path.display().to_string(),
        reason: format!("{reason}; and it can't be moved out of the way: {error}"),
    })?;
    let mut ledger = SqliteLedger::open(path, owner, host)?;
    let kept = salvaged.write(&mut ledger)?;
    Ok((ledger, Some(SetAside { moved_to, reason: format!("it was damaged ({reason})"), kept })))
}

/// Whether the last writer died: a clean end leaves no log of changes behind. Also true beside a writer that
/// lives, where looking does no harm.
pub(super) fn left_unclean(path: &Path) -> bool {
    let size = |part| std::fs::metadata(beside(path, part)).map_or(0, |meta| meta.len());
    size("-wal") > 0 && size("") <= LOOK_UP_TO
}

/// An error where a page is not what it should be.
pub(super) fn look_for(connection: &Connection) -> rusqlite::Result<()> {
    let found: String = connection.query_row("PRAGMA quick_check(1)", (), |row| row.get(0))?;
    if found == "ok" {
        return Ok(());
    }
    let corrupt = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    Err(rusqlite::Error::SqliteFailure(corrupt, Some(found)))
}

pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(failure, message) => {
            matches!(failure.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
                || message.as_deref().is_some_and(|message| message.starts_with("no such table"))
        }
        rusqlite::Error::SqlInputError { msg, .. } => msg.starts_with("no such table"),
        rusqlite::Error::FromSqlConversionFailure(..) | rusqlite::Error::InvalidColumnType(..) => true,
        _ => false,
    }
}

/// Copies all that a connection can read into a new file.
pub(super) fn copy(connection: &Connection, to: &Path) -> rusqlite::Result<()> {
    // What a copy before this one has left.
    let _ = std::fs::remove_file(to);
    let failed = |message: String| {
        let cannot = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN);
        rusqlite::Error::SqliteFailure(cannot, Some(message))
    };
    make_file(to).map_err(failed)?;
    let name = to.to_str().ok_or_else(|| failed("its name is not UTF-8".to_owned()))?;
    connection.execute("VACUUM INTO ?1", [name]).map(drop).inspect_err(|_| {
        let _ = std::fs::remove_file(to);
    })
}

pub(super) fn move_into_place(from: &Path, to: &Path) -> std::io::Result<()> {
    File::open(from)?.sync_all()?;
    std::fs::rename(from, to)?;
    File::open(to.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// Where it is now; nothing where there was nothing.
pub(super) fn set_aside(path: &Path, now: Timestamp) -> std::io::Result<Option<PathBuf>> {
    let stamp = now.strftime("%Y%m%dT%H%M%SZ").to_string();
    let mut target = beside(path, &format!(".damaged-{stamp}"));
    let mut number = 1;
    while target.exists() {
        number += 1;
        target = beside(path, &format!(".damaged-{stamp}-{number}"));
    }
    let mut moved = false;
    // The ledger goes last: a crash half-way leaves a damaged ledger that is set aside at the next start, and
    // never a new one beside an old log of changes.
    for part in PARTS.iter().rev() {
        match std::fs::rename(beside(path, part), beside(&target, part)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            done => moved = done.is_ok(),
        }
    }
    Ok(moved.then_some(target))
}
