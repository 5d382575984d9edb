//! The ledger in one SQLite file: opening it, and the [`Ledger`] of it.
//!
//! WAL with full synchronisation: what `apply` returned survives a power cut, and readers never hold up the
//! writer. The daemon writes; a `run-now` without a daemon may write beside it.

use std::fs::File;
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::file::{PATIENCE, beside, connect_beside, connect_read_only, explain, make_file, opening, show};
use super::schema::{self, Mismatch};
use super::seen::{Seen, Sight};
use super::{
    Applied, Chronicle, Event, Filter, Incident, JobPast, LastEnd, Ledger, LedgerError, NewRow, Notice,
    OpenRun, Owner, Past, PauseRecord, Place, SetAside, SlotRow, TableRecord, Write, damage, prune, read,
    rows, write,
};
use crate::model::{JobName, RunId, RunRecord};

/// Rows of `visit` that are read in one go: a reader that pages for an hour must not keep a snapshot for an
/// hour, since the log of changes grows for as long.
const CHUNK: usize = 500;

#[derive(Debug)]
pub struct SqliteLedger {
    connection: Connection,
    path: PathBuf,
    host: String,
    owner: Owner,
    /// The files as they were when they were last ours; nothing for a reader, or in memory.
    seen: Option<Seen>,
}

impl SqliteLedger {
    /// Opens the ledger for writing; makes it, and the folders above it, where missing. `owner` and `host` are
    /// written into each new row.
    ///
    /// # Errors
    /// [`LedgerError::Open`], [`LedgerError::TooNew`], [`LedgerError::Damaged`]
    pub fn open(path: &Path, owner: Owner, host: &str) -> Result<Self, LedgerError> {
        Self::open_suspected(path, owner, host, false)
    }

    /// `suspect`: look for damage even where the last writer ended well.
    pub(super) fn open_suspected(
        path: &Path,
        owner: Owner,
        host: &str,
        suspect: bool,
    ) -> Result<Self, LedgerError> {
        make_file(path).map_err(|reason| LedgerError::Open { path: show(path), reason })?;
        let suspect = suspect || damage::left_unclean(path);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let failed = |error| opening(path, Mismatch::Sqlite(error));
        let mut connection = Connection::open_with_flags(path, flags).map_err(failed)?;
        connection.busy_timeout(PATIENCE).map_err(failed)?;
        prepare(&mut connection, suspect).map_err(|mismatch| opening(path, mismatch))?;
        let seen = Seen::of(path);
        Ok(Self { connection, path: path.to_owned(), host: host.to_owned(), owner, seen })
    }

    /// Opens an existing ledger for reading, also beside a daemon that writes and without the right to write.
    ///
    /// # Errors
    /// [`LedgerError::Open`] where there is none, [`LedgerError::TooNew`], [`LedgerError::Damaged`]
    pub fn open_read_only(path: &Path) -> Result<Self, LedgerError> {
        let open_error = |reason: String| LedgerError::Open { path: show(path), reason };
        match std::fs::metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(open_error("there is none yet: has the daemon run?".into()));
            }
            Err(error) => return Err(open_error(error.to_string())),
            Ok(_) => {}
        }
        File::open(path).map_err(|error| open_error(error.to_string()))?;
        let failed = |error| opening(path, Mismatch::Sqlite(error));
        let connection = connect_read_only(path).map_err(failed)?;
        schema::check(&connection).map_err(|mismatch| opening(path, mismatch))?;
        let owner = Owner { role: "reader".into(), boot: String::new(), pid: 0, start_time: 0 };
        Ok(Self { connection, path: path.to_owned(), host: String::new(), owner, seen: None })
    }

    /// A further connection, to read, of the process that has the ledger open. The file is opened by SQLite alone, which
    /// knows of both: a descriptor of ours would let go of all locks of the process when it is closed (fcntl(2)), and
    /// another process could then cut the log of changes under it.
    ///
    /// # Errors
    /// [`LedgerError::Open`]
    pub fn open_beside(path: &Path) -> Result<Self, LedgerError> {
        let connection = connect_beside(path).map_err(|error| opening(path, Mismatch::Sqlite(error)))?;
        schema::check(&connection).map_err(|mismatch| opening(path, mismatch))?;
        let owner = Owner { role: "reader".into(), boot: String::new(), pid: 0, start_time: 0 };
        Ok(Self { connection, path: path.to_owned(), host: String::new(), owner, seen: None })
    }

    /// How each job ended last.
    ///
    /// # Errors
    /// [`LedgerError::Read`]
    pub fn last_ends(&self) -> Result<Vec<LastEnd>, LedgerError> {
        self.snapshot(read::last_ends)
    }

    /// Whether nothing was ever written to the file: a daemon that begins makes it before it fills it.
    ///
    /// # Errors
    /// [`LedgerError::Read`] or [`LedgerError::Damaged`]
    pub fn is_blank(&self) -> Result<bool, LedgerError> {
        let count = "SELECT count(*) = 0 FROM sqlite_schema";
        self.connection.query_row(count, (), |row| row.get(0)).map_err(|error| self.reading(error))
    }

    /// A ledger that is gone with the process: what [`super::Buffered`] keeps until the disk takes it.
    ///
    /// # Errors
    /// [`LedgerError::Open`]
    pub(super) fn in_memory(owner: Owner, host: &str, after: RunId) -> Result<Self, LedgerError> {
        let path = Path::new(":memory:");
        let failed = |error| opening(path, Mismatch::Sqlite(error));
        let mut connection = Connection::open_in_memory().map_err(failed)?;
        prepare(&mut connection, false).map_err(|mismatch| opening(path, mismatch))?;
        write::continue_after(&connection, after).map_err(failed)?;
        Ok(Self { connection, path: path.to_owned(), host: host.to_owned(), owner, seen: None })
    }

    /// Takes a row over from another ledger as it is, with its number.
    pub(super) fn adopt_row(&self, record: &RunRecord) -> Result<(), LedgerError> {
        rows::adopt_row(&self.connection, record, &self.owner).map_err(|error| self.writing(error))
    }

    /// The next start or success comes after `place`.
    pub(super) fn continue_order_after(&self, place: Place) -> Result<(), LedgerError> {
        write::continue_order_after(&self.connection, place).map_err(|error| self.writing(error))
    }

    /// What is asked of each job at every start, from a ledger that is damaged.
    pub(super) fn restore_jobs(&self, jobs: &[JobPast]) -> Result<(), LedgerError> {
        let restore = || {
            let transaction = self.connection.unchecked_transaction()?;
            rows::restore_jobs(&transaction, jobs)?;
            transaction.commit()
        };
        restore().map_err(|error| self.writing(error))
    }

    /// # Errors
    /// [`LedgerError::Read`]
    pub fn pauses(&self) -> Result<Vec<PauseRecord>, LedgerError> {
        self.snapshot(read::pauses)
    }

    fn writing(&self, error: rusqlite::Error) -> LedgerError {
        let (path, reason) = (show(&self.path), explain(&error, &self.path));
        match damage::is_damage(&error) {
            true => LedgerError::Damaged { path, reason },
            false => LedgerError::Write { path, reason },
        }
    }

    fn reading(&self, error: rusqlite::Error) -> LedgerError {
        let (path, reason) = (show(&self.path), explain(&error, &self.path));
        match damage::is_damage(&error) {
            true => LedgerError::Damaged { path, reason },
            false => LedgerError::Read { path, reason },
        }
    }

    /// The open file is still whole, whatever became of its name: its content goes to that name again, and what
    /// is found there is kept beside it.
    fn put_back(&mut self, what: &str, now: Timestamp) -> Result<SetAside, LedgerError> {
        let rescued = beside(&self.path, ".rescued");
        let copied = damage::copy(&self.connection, &rescued);
        let failed = |reason: String| LedgerError::Write {
            path: show(&self.path),
            reason: format!("{what}, and it can't be put back: {reason}"),
        };
        match copied {
            Err(error) if damage::is_damage(&error) => return Err(self.reading(error)),
            Err(error) => return Err(failed(explain(&error, &self.path))),
            Ok(()) => {}
        }
        let moved_to = damage::set_aside(&self.path, now).map_err(|error| failed(error.to_string()))?;
        // Closed before the new one opens: it takes files away by their names.
        self.connection = Connection::open_in_memory().map_err(|error| failed(error.to_string()))?;
        damage::move_into_place(&rescued, &self.path).map_err(|error| failed(error.to_string()))?;
        *self = Self::open_suspected(&self.path, self.owner.clone(), &self.host, false)?;
        let kept = "all its rows were written to its place again".to_owned();
        Ok(SetAside { moved_to, reason: what.to_owned(), kept })
    }

    /// One snapshot for all that `inner` reads.
    fn snapshot<T>(&self, inner: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, LedgerError> {
        let read = || {
            let transaction = self.connection.unchecked_transaction()?;
            let found = inner(&transaction)?;
            transaction.commit()?;
            Ok(found)
        };
        read().map_err(|error| self.reading(error))
    }
}

impl Ledger for SqliteLedger {
    fn apply(&mut self, batch: &[Write]) -> Result<Vec<Applied>, LedgerError> {
        let Self { connection, host, owner, .. } = self;
        let mut write = || {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let applied = write::apply(&transaction, batch, owner, host)?;
            transaction.commit()?;
            Ok(applied)
        };
        let applied = write().map_err(|error| self.writing(error));
        if let Some(seen) = &mut self.seen {
            seen.note_change(&self.path);
        }
        applied
    }

    fn look(&mut self, now: Timestamp) -> Result<Option<SetAside>, LedgerError> {
        let Some(seen) = &mut self.seen else { return Ok(None) };
        match seen.look(&self.path) {
            Sight::Same => Ok(None),
            Sight::Changed => {
                // Another connection, so that what this one remembers does not hide what the file holds.
                let looked = connect_read_only(&self.path).and_then(|fresh| damage::look_for(&fresh));
                looked.map(|()| None).map_err(|error| self.reading(error))
            }
            Sight::Gone(what) => self.put_back(&what, now).map(Some),
        }
    }

    fn restore(&mut self, open: &[OpenRun]) -> Result<(), LedgerError> {
        let connection = &mut self.connection;
        let mut restore = || {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            open.iter().try_for_each(|open| rows::restore(&transaction, open))?;
            transaction.commit()
        };
        restore().map_err(|error| self.writing(error))
    }

    fn past(&self) -> Result<Past, LedgerError> {
        self.snapshot(read::past)
    }

    fn history(&self, filter: &Filter) -> Result<Vec<RunRecord>, LedgerError> {
        let mut records = Vec::new();
        self.visit(filter, &mut |record| {
            records.push(record);
            ControlFlow::Continue(())
        })?;
        Ok(records)
    }

    fn visit(
        &self,
        filter: &Filter,
        each: &mut dyn FnMut(RunRecord) -> ControlFlow<()>,
    ) -> Result<(), LedgerError> {
        let mut left = filter.limit.unwrap_or(usize::MAX);
        let mut below = read::Position::NEWEST;
        while left > 0 {
            let wanted = left.min(CHUNK);
            let rows = self.snapshot(|connection| read::history(connection, filter, below, wanted))?;
            let Some((last, _)) = rows.last() else { break };
            below = *last;
            left -= rows.len();
            let full = rows.len() == wanted;
            for (_, record) in rows {
                if each(record).is_break() {
                    return Ok(());
                }
            }
            if !full {
                break;
            }
        }
        Ok(())
    }

    fn run(&self, run: RunId) -> Result<Option<RunRecord>, LedgerError> {
        self.snapshot(|connection| read::run(connection, run))
    }

    fn latest(&self) -> Result<Vec<RunRecord>, LedgerError> {
        self.snapshot(read::latest)
    }

    fn incidents_of(&self, job: &JobName) -> Result<Vec<Incident>, LedgerError> {
        self.snapshot(|connection| read::incidents_of(connection, job.as_str()))
    }

    fn notices(&self) -> Result<Vec<Notice>, LedgerError> {
        self.snapshot(read::notices)
    }

    fn claimed(&self, job: &JobName, slot: Timestamp, epoch: u32) -> Result<Option<RunId>, LedgerError> {
        self.snapshot(|connection| read::claimed(connection, job.as_str(), slot, epoch))
    }

    fn refuses(&self, claim: &NewRow) -> Result<Option<RunId>, LedgerError> {
        self.snapshot(|connection| read::refuses(connection, claim))
    }

    fn last_run(&self) -> Result<Option<RunId>, LedgerError> {
        self.snapshot(read::last_run)
    }

    fn events(&self, from: Timestamp) -> Result<Vec<Event>, LedgerError> {
        self.snapshot(|connection| read::events(connection, from))
    }

    fn tables(&self, from: Timestamp) -> Result<Vec<TableRecord>, LedgerError> {
        self.snapshot(|connection| read::tables(connection, from))
    }

    fn chronicle(&self) -> Result<Chronicle, LedgerError> {
        self.snapshot(read::chronicle)
    }

    fn visit_slots(
        &self,
        job: &JobName,
        from: Timestamp,
        each: &mut dyn FnMut(SlotRow) -> ControlFlow<()>,
    ) -> Result<(), LedgerError> {
        let mut rows = self.snapshot(|connection| read::ranges_over(connection, job.as_str(), from))?;
        // No epoch lies before this one, so that rows at `from` itself are found.
        let mut after = (write::micros(from), -1);
        loop {
            for row in std::mem::take(&mut rows) {
                if each(row).is_break() {
                    return Ok(());
                }
            }
            rows = self.snapshot(|connection| read::slot_rows(connection, job.as_str(), after, CHUNK))?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = (write::micros(last.slot), i64::from(last.epoch));
        }
    }

    fn patience(&self, wait: Duration) {
        // The call only stores a number; it can't fail on an open connection.
        let _ = self.connection.busy_timeout(wait);
    }

    fn continue_after(&mut self, run: RunId) -> Result<(), LedgerError> {
        write::continue_after(&self.connection, run).map_err(|error| self.writing(error))
    }

    fn prune(&mut self, before: Timestamp, batch: usize) -> Result<usize, LedgerError> {
        let connection = &mut self.connection;
        let mut prune = || {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let deleted = prune::prune(&transaction, before, batch)?;
            transaction.commit()?;
            Ok(deleted)
        };
        let pruned = prune().map_err(|error| self.writing(error));
        if let Some(seen) = &mut self.seen {
            seen.note_change(&self.path);
        }
        pruned
    }
}

/// The settings of a writing connection, and the tables.
fn prepare(connection: &mut Connection, suspect: bool) -> Result<(), Mismatch> {
    connection.set_prepared_statement_cache_capacity(64);
    schema::check(connection)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", "on")?;
    // A log of changes that grew in one large transaction is cut back to this.
    connection.pragma_update(None, "journal_size_limit", 16 << 20)?;
    if suspect {
        damage::look_for(connection)?;
    }
    schema::migrate(connection)
}
