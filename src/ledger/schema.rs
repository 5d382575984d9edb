//! The tables of the SQLite ledger, version by version.
//!
//! A migration that was released is never edited: a further one is added at the end. `tests/data` keeps a
//! file of each version.

use rusqlite::{Connection, TransactionBehavior};

/// `PRAGMA application_id`, the bytes `pesc`: tells a ledger from any other SQLite file.
const APPLICATION_ID: i64 = 0x7065_7363;

/// One script a version; the version is how many were carried out (`PRAGMA user_version`).
const MIGRATIONS: &[&str] =
    &[VERSION_1, VERSION_2, VERSION_3, VERSION_4, VERSION_5, VERSION_6, VERSION_7, VERSION_8];

/// Checks have incidents of their own, which are reminded of, and may come and go.
const VERSION_8: &str = "
ALTER TABLE incidents RENAME TO incidents_of_jobs;
CREATE TABLE incidents (
    job        TEXT NOT NULL,
    -- Empty: the job itself.
    check_name TEXT NOT NULL,
    severity   TEXT NOT NULL,
    opened_at  INTEGER NOT NULL,
    run        INTEGER NOT NULL,
    failures   INTEGER NOT NULL,
    reason     TEXT,
    told_at    INTEGER,
    -- A JSON array of instants.
    openings   TEXT NOT NULL,
    flapping   INTEGER NOT NULL,
    closed_at  INTEGER,
    PRIMARY KEY (job, check_name)
) STRICT, WITHOUT ROWID;
INSERT INTO incidents
    SELECT job, '', 'critical', opened_at, run, failures, NULL, iif(told, opened_at, NULL), json_array(opened_at), 0, NULL
    FROM incidents_of_jobs;
DROP TABLE incidents_of_jobs;
";

/// What comes `after` what, whatever the clock says: a success of a time that came twice must not count twice.
const VERSION_7: &str = "
-- Starts and successes are counted. In `jobs`, `last_started` and `last_succeeded` are places in that order from here on;
-- what they were, microseconds, goes before them in the order of the instants.
CREATE TABLE sequence (
    one   INTEGER PRIMARY KEY CHECK (one = 1),
    last  INTEGER NOT NULL
) STRICT;
INSERT INTO sequence (one, last)
    SELECT 1, max(ifnull(max(last_started), 0), ifnull(max(last_succeeded), 0)) FROM jobs;
-- Runs that are known to have ended and are still to be judged: from where on they count if they have succeeded.
CREATE TABLE ended (
    run   INTEGER PRIMARY KEY,
    place INTEGER NOT NULL
) STRICT;
";

/// The failures of one job, where others have failed by the hundred thousand: they were all read for that.
const VERSION_6: &str = "
CREATE INDEX runs_by_job_and_outcome ON runs (job, outcome, moment, id) WHERE outcome <> 'succeeded';
";

/// `audit` judges only what must still be there, and finds range rows that begin before what it looks at.
const VERSION_5: &str = "
-- Rows of slots before this may have been dropped by age.
CREATE TABLE kept (
    one        INTEGER PRIMARY KEY CHECK (one = 1),
    from_when  INTEGER NOT NULL
) STRICT;
CREATE INDEX runs_of_ranges ON runs (job, slot_last) WHERE slot_last IS NOT NULL;
";

/// Which jobs are failing, and who is still to be told of what: written with the end of the run that is its cause.
const VERSION_4: &str = "
CREATE TABLE incidents (
    job       TEXT PRIMARY KEY,
    opened_at INTEGER NOT NULL,
    run       INTEGER NOT NULL,
    failures  INTEGER NOT NULL,
    told      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE notices (
    -- In the order in which they came.
    number  INTEGER PRIMARY KEY,
    id      TEXT NOT NULL UNIQUE,
    at      INTEGER NOT NULL,
    job     TEXT NOT NULL,
    run     INTEGER NOT NULL,
    contact TEXT NOT NULL,
    channel TEXT NOT NULL,
    kind    TEXT NOT NULL,
    story   TEXT NOT NULL
) STRICT;
";

/// A run that only says what it would do must never become a real one, nor count as a success of its job.
const VERSION_3: &str = "ALTER TABLE runs ADD COLUMN dry_run INTEGER NOT NULL DEFAULT 0;";

/// The offsets of a table's zones are kept once a zone, not once a job.
const VERSION_2: &str = "ALTER TABLE tables ADD COLUMN zones TEXT NOT NULL DEFAULT '{}';";

/// Instants are microseconds since 1970 in UTC.
const VERSION_1: &str = "
CREATE TABLE owners (
    id          INTEGER PRIMARY KEY,
    role        TEXT NOT NULL,
    boot        TEXT NOT NULL,
    pid         INTEGER NOT NULL,
    start_time  INTEGER NOT NULL,
    UNIQUE (role, boot, pid, start_time)
) STRICT;

CREATE TABLE runs (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    job          TEXT NOT NULL,
    kind         TEXT NOT NULL,
    trigger      TEXT NOT NULL,
    slot         INTEGER,
    slot_last    INTEGER,
    slots        INTEGER NOT NULL,
    epoch        INTEGER NOT NULL,
    -- By what history is sorted: the (last) slot, else the start, else the claim.
    moment       INTEGER NOT NULL,
    claimed_at   INTEGER NOT NULL,
    outcome      TEXT NOT NULL,
    reason       TEXT,
    started_at   INTEGER,
    finished_at  INTEGER,
    host         TEXT NOT NULL,
    owner        INTEGER NOT NULL REFERENCES owners (id),
    requested_by TEXT,
    summary      TEXT,
    facts        TEXT,
    findings     TEXT,
    UNIQUE (job, slot, epoch)
) STRICT;
CREATE INDEX runs_by_moment ON runs (moment, id);
CREATE INDEX runs_by_job ON runs (job, moment, id);
-- Successes are the many; what somebody looks for is here: the open, the failed, the skipped.
CREATE INDEX runs_by_outcome ON runs (outcome, moment, id) WHERE outcome <> 'succeeded';

CREATE TABLE attempts (
    run         INTEGER NOT NULL REFERENCES runs (id),
    number      INTEGER NOT NULL,
    started_at  INTEGER NOT NULL,
    finished_at INTEGER,
    outcome     TEXT NOT NULL,
    error       TEXT,
    PRIMARY KEY (run, number)
) STRICT, WITHOUT ROWID;

-- What is asked of each job at every start and by every list, so that neither reads all rows. Survives them.
CREATE TABLE jobs (
    job            TEXT PRIMARY KEY,
    epoch          INTEGER NOT NULL,
    last_slot      INTEGER,
    last_started   INTEGER,
    last_succeeded INTEGER,
    -- The newest row that ended or runs.
    latest         INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE accounted (
    one   INTEGER PRIMARY KEY CHECK (one = 1),
    until INTEGER NOT NULL
) STRICT;

CREATE TABLE tables (
    id            INTEGER PRIMARY KEY,
    in_force_from INTEGER NOT NULL,
    hash          TEXT NOT NULL,
    jobs          TEXT NOT NULL
) STRICT;

CREATE TABLE events (
    id     INTEGER PRIMARY KEY,
    at     INTEGER NOT NULL,
    kind   TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT;
CREATE INDEX events_by_time ON events (at);

-- The empty name stands for every job.
CREATE TABLE pauses (
    job     TEXT PRIMARY KEY,
    since   INTEGER NOT NULL,
    until   INTEGER,
    paused_by TEXT NOT NULL
) STRICT, WITHOUT ROWID;
";

pub(super) enum Mismatch {
    TooNew { found: i64, known: i64 },
    Foreign,
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Mismatch {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// Whether this program can read the file as it is.
pub(super) fn check(connection: &Connection) -> Result<(), Mismatch> {
    let known = known();
    match found(connection)? {
        found if found > known => Err(Mismatch::TooNew { found, known }),
        _ => Ok(()),
    }
}

/// Brings the file to this program's version, in one transaction.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), Mismatch> {
    check(connection)?;
    if found(connection)? == known() {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Asked again under the lock: another process may have been quicker.
    let from = usize::try_from(found(&transaction)?).unwrap_or_default();
    for script in MIGRATIONS.iter().skip(from) {
        transaction.execute_batch(script)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", known())?;
    transaction.commit()?;
    Ok(())
}

fn known() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

fn found(connection: &Connection) -> Result<i64, Mismatch> {
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let version = number("user_version")?;
    let application = number("application_id")?;
    if application == APPLICATION_ID {
        return Ok(version);
    }
    let objects: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))?;
    if objects == 0 && application == 0 { Ok(0) } else { Err(Mismatch::Foreign) }
}
