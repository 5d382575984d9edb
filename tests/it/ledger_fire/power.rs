//! A power cut: what lies on the disk at any instant is a whole ledger, and no slot that was begun is missing in it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::support::daemon::{Host, wait_until};

/// The files as they are while the daemon stands still: a program that copies one file after the other while it
/// writes has files of different instants, which a power cut never leaves. The shared memory is no file on a disk;
/// where it is found all the same, SQLite must not believe it.
fn copy(state: &Path, to: &Path, parts: &[&str]) -> PathBuf {
    std::fs::create_dir_all(to).unwrap();
    for part in parts {
        let name = format!("ledger.db{part}");
        std::fs::copy(state.join(&name), to.join(&name)).unwrap();
    }
    to.join("ledger.db")
}

/// Every row is consistent with the others; the jobs and slots that have rows.
fn slots_of(ledger: &Path) -> BTreeSet<String> {
    let ledger_file = ledger.display();
    let ledger = rusqlite::Connection::open(ledger).unwrap();
    let number = |sql: &str| ledger.query_row(sql, (), |row| row.get::<_, i64>(0)).unwrap();
    let whole: String = ledger.query_row("PRAGMA integrity_check", (), |row| row.get(0)).unwrap();
    assert_eq!(whole, "ok", "{ledger_file}");
    assert!(ledger.prepare("PRAGMA foreign_key_check").unwrap().query(()).unwrap().next().unwrap().is_none());
    for (what, sql) in [
        (
            "a run goes on without an attempt",
            "SELECT count(*) FROM runs WHERE outcome = 'running' AND started_at IS NOT NULL
             AND NOT EXISTS (SELECT 1 FROM attempts WHERE run = runs.id AND finished_at IS NULL)",
        ),
        (
            "an attempt goes on in a run that has ended",
            "SELECT count(*) FROM attempts JOIN runs ON runs.id = attempts.run
             WHERE attempts.finished_at IS NULL AND runs.outcome <> 'running'",
        ),
        (
            "an end without an outcome",
            "SELECT count(*) FROM runs WHERE (finished_at IS NULL) <> (outcome IN ('running', 'skipped'))",
        ),
        (
            "a slot after the last accounted one",
            "SELECT count(*) FROM runs WHERE slot > (SELECT until FROM accounted)",
        ),
    ] {
        assert_eq!(number(sql), 0, "{ledger_file}: {what}");
    }
    let mut statement = ledger.prepare("SELECT job, slot FROM runs WHERE slot IS NOT NULL").unwrap();
    let slot = |row: &rusqlite::Row<'_>| {
        let instant = jiff::Timestamp::from_microsecond(row.get(1)?).unwrap();
        Ok(format!("{} {instant}", row.get::<_, String>(0)?))
    };
    statement.query_map((), slot).unwrap().map(Result::unwrap).collect()
}

#[test]
fn a_power_cut_at_any_instant_leaves_a_whole_ledger_with_every_slot_that_was_begun() {
    const JOBS: usize = 10;
    const CUTS: usize = 40;
    let host = Host::new("");
    let dir = host.dir.path().display();
    let jobs: String = (0..JOBS)
        .map(|number| {
            format!(
                "  job-{number}:\n    schedule: '* * * * * *'\n    overlap: allow\n    \
                 command: {{ shell: 'echo $PUNK_ECO_JOB $PUNK_ECO_SLOT >> {dir}/begun' }}\n"
            )
        })
        .collect();
    host.write_jobs(&jobs);
    let daemon = host.daemon();
    let begun = || std::fs::read_to_string(host.path("begun")).unwrap_or_default();
    let mut copies = vec![];
    for cut in 0..CUTS {
        // Cuts follow what happens rather than a clock: a few programs further each time, also amid a batch.
        let lines = begun().lines().count();
        wait_until("something happens", || begun().lines().count() > lines + cut % 4);
        daemon.signal(Signal::STOP);
        wait_until("it stands still", || is_stopped(daemon.pid()));
        let parts: &[&str] = if cut % 2 == 0 { &["", "-wal"] } else { &["", "-wal", "-shm"] };
        let ledger = copy(&host.path("state"), &host.path(&format!("cut-{cut}")), parts);
        copies.push((ledger, begun()));
        daemon.signal(Signal::CONT);
    }
    assert!(daemon.stop().success());
    for (ledger, begun) in copies {
        let slots = slots_of(&ledger);
        // The last line may be half written.
        let whole = begun.rsplit_once('\n').map_or("", |(whole, _)| whole);
        for line in whole.lines() {
            assert!(slots.contains(line), "{}: `{line}` was begun and has no row", ledger.display());
        }
    }
}

/// All its threads: a signal reaches them one after the other.
fn is_stopped(pid: u32) -> bool {
    std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten().all(|task| {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
    })
}
