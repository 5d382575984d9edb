//! What must not be forgotten with a damaged ledger, as far as it can be read: who is still to be told of what,
//! what is failing, paused or running, and how far every slot has its row.
//!
//! The history stays in the damaged file: to read all of it would hold up the start.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::{Incident, JobPast, Ledger, LedgerError, Notice, OpenRun, PauseRecord, SqliteLedger, read};
use super::{TableRecord, Write};
use crate::model::{JobName, RunId};

/// Each part for itself: one that can't be read is no reason to forget the others.
#[derive(Default)]
pub(super) struct Salvaged {
    last: Option<RunId>,
    accounted: Option<jiff::Timestamp>,
    table: Option<TableRecord>,
    open: Vec<OpenRun>,
    pauses: Vec<PauseRecord>,
    jobs: Vec<JobPast>,
    incidents: Vec<Incident>,
    notices: Vec<Notice>,
}

impl Salvaged {
    pub(super) fn read(path: &Path) -> Self {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let Ok(connection) = Connection::open_with_flags(path, flags) else { return Self::default() };
        Self {
            last: read::last_run(&connection).ok().flatten(),
            accounted: read::accounted(&connection).ok().flatten(),
            table: read::newest_table(&connection).ok().flatten(),
            open: read::open_runs(&connection).unwrap_or_default(),
            pauses: read::pauses(&connection).unwrap_or_default(),
            jobs: read::jobs(&connection).unwrap_or_default(),
            incidents: read::readable_incidents(&connection).unwrap_or_default(),
            notices: read::readable_notices(&connection).unwrap_or_default(),
        }
    }

    /// Says what it was.
    pub(super) fn write(self, ledger: &mut SqliteLedger) -> Result<String, LedgerError> {
        let Self { last, accounted, table, open, pauses, jobs, incidents, notices } = self;
        let last = last.unwrap_or(RunId(0));
        let said = format!(
            "a new one begins with what could be read of it: {} open incidents, {} notices, {} pauses, {} open runs, {}; \
             the rows up to number {last} are in the old one only",
            incidents.len(),
            notices.len(),
            pauses.len(),
            open.len(),
            accounted.map_or_else(
                || "but not up to when every slot has its row".to_owned(),
                |until| format!("and that every slot has its row up to {until:.0}")
            ),
        );
        ledger.continue_after(last)?;
        ledger.restore_jobs(&jobs)?;
        ledger.restore(&open)?;
        let pause = |pause: PauseRecord| Write::Pause {
            job: pause.job.and_then(|job| JobName::new(&job).ok()),
            since: pause.since,
            until: pause.until,
            by: pause.by,
        };
        let mut writes: Vec<Write> = table.into_iter().map(Write::Table).collect();
        writes.extend(pauses.into_iter().map(pause));
        writes.extend(incidents.into_iter().map(Write::Incident));
        writes.extend(notices.into_iter().map(Write::Notice));
        writes.extend(accounted.map(|until| Write::Accounted { until }));
        ledger.apply(&writes)?;
        Ok(said)
    }
}
