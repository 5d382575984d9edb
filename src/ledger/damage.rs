//! A damaged ledger file: noticing it, and moving it out of the way.
//!
//! Jobs run whatever became of the file; what is damaged is kept beside the new one for a person to look at.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::sqlite::beside;
use super::{Ledger, LedgerError, Owner, SqliteLedger};
use crate::model::RunId;

/// Reading every page takes about a second a gigabyte from a warm disk; a start must not wait for that. In a
/// larger file damage shows when a damaged page is used.
const LOOK_UP_TO: u64 = 64 << 20;

/// The files beside a ledger that belong to it.
const PARTS: &[&str] = &["", "-wal", "-shm"];

/// What [`open_or_set_aside`] did to a damaged ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// Where the damaged file is now.
    pub moved_to: PathBuf,
    pub reason: String,
}

/// Opens the ledger; a damaged one is renamed to `<name>.damaged-<time>` with what belongs to it, and a new
/// one begun, whose rows are numbered on from the old ones where those can still be read.
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
    let last = last_run_of(path);
    let moved_to = set_aside(path, now).map_err(|error| LedgerError::Damaged {
        path: path.display().to_string(),
        reason: format!("{reason}; and it can't be moved out of the way: {error}"),
    })?;
    let mut ledger = SqliteLedger::open(path, owner, host)?;
    ledger.continue_after(last)?;
    Ok((ledger, Some(SetAside { moved_to, reason })))
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

fn set_aside(path: &Path, now: Timestamp) -> std::io::Result<PathBuf> {
    let stamp = now.strftime("%Y%m%dT%H%M%SZ").to_string();
    let mut target = beside(path, &format!(".damaged-{stamp}"));
    let mut number = 1;
    while target.exists() {
        number += 1;
        target = beside(path, &format!(".damaged-{stamp}-{number}"));
    }
    // The ledger goes last: a crash half-way leaves a damaged ledger that is set aside at the next start, and
    // never a new one beside an old log of changes.
    for part in PARTS.iter().rev() {
        match std::fs::rename(beside(path, part), beside(&target, part)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(target)
}

/// The logs name runs by number, so a number should not come twice.
fn last_run_of(path: &Path) -> RunId {
    let read = || {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.query_row("SELECT seq FROM sqlite_sequence WHERE name = 'runs'", (), |row| row.get(0))
    };
    RunId(read().unwrap_or_default())
}
