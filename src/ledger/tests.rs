//! What is particular to a file: its modes, crashes, damage, versions, readers, query plans.

use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::conformance::{self, at, claim, claimed, finished, owner};
use super::*;
use crate::model::{Channel, Outcome, Severity};

fn open(path: &Path) -> SqliteLedger {
    SqliteLedger::open(path, owner("daemon"), "web1").unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|one| one.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Copies the ledger as a power cut would leave it: without the shared memory, which is no file on a disk.
fn snapshot(path: &Path, into: &Path) -> PathBuf {
    std::fs::create_dir_all(into).unwrap();
    let copy = into.join("ledger.db");
    for part in ["", "-wal"] {
        let from = file::beside(path, part);
        if from.exists() {
            std::fs::copy(from, file::beside(&copy, part)).unwrap();
        }
    }
    copy
}

#[test]
fn sqlite_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let mut number = 0;
    conformance::run(|| {
        number += 1;
        open(&folder.path().join(format!("{number}.db")))
    });
}

#[test]
fn opening_makes_the_folders_and_keeps_strangers_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state/of the #1%?/ledger.db");
    let ledger = open(&path);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(path.parent().unwrap()) & 0o027, 0);
    for part in ["", "-wal", "-shm"] {
        assert_eq!(mode(&file::beside(&path, part)) & 0o137, 0, "{part}");
    }
    assert_eq!(SqliteLedger::open_read_only(&path).unwrap().last_run().unwrap(), None);
    drop(ledger);
    assert_eq!(names(path.parent().unwrap()), ["ledger.db"]);
    assert_eq!(SqliteLedger::open_read_only(&path).unwrap().last_run().unwrap(), None);
}

#[test]
fn what_cannot_be_opened_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let shown = path.display().to_string();
    let check = |prepare: &dyn Fn(), expected: &str| {
        for end in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(file::beside(&path, end));
        }
        let _ = std::fs::remove_dir(&path);
        prepare();
        let error = SqliteLedger::open(&path, owner("daemon"), "web1").unwrap_err();
        assert_eq!(error.to_string(), format!("{shown}: {expected}"));
        let error = SqliteLedger::open_read_only(&path).unwrap_err().to_string();
        assert!(error.starts_with(&shown), "{error}");
    };
    let sql = |text: &str| rusqlite::Connection::open(&path).unwrap().execute_batch(text).unwrap();
    check(
        &|| sql("CREATE TABLE cookies (x)"),
        "the ledger can't be opened: it is an SQLite file of another program: move it away",
    );
    check(
        &|| {
            drop(open(&path));
            sql("PRAGMA user_version = 9");
        },
        "the ledger is of a later version (9; this program knows 8): use the newer program",
    );
    check(&|| std::fs::create_dir(&path).unwrap(), "the ledger can't be opened: it is a directory");
    check(
        &|| std::fs::write(&path, "jobs:\n".repeat(999)).unwrap(),
        "the ledger is damaged: file is not a database",
    );
    std::fs::remove_file(&path).unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let below = folder.path().join("file/ledger.db");
    let error = SqliteLedger::open(&below, owner("daemon"), "web1").unwrap_err().to_string();
    assert!(error.contains("/file can't be made: File exists"), "{error}");
}

#[test]
fn a_reader_makes_nothing_and_reads_beside_a_writer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let error = SqliteLedger::open_read_only(&path).unwrap_err().to_string();
    assert_eq!(
        error,
        format!("{}: the ledger can't be opened: there is none yet: has the daemon run?", path.display())
    );
    assert!(names(folder.path()).is_empty());
    let mut writer = open(&path);
    writer.apply(&[claim("a", Some(0), NewState::Started)]).unwrap();
    let mut reader = SqliteLedger::open_read_only(&path).unwrap();
    assert_eq!(reader.history(&Filter::default()).unwrap().len(), 1);
    writer.apply(&[claim("a", Some(1), NewState::Started)]).unwrap();
    assert_eq!(reader.history(&Filter::default()).unwrap().len(), 2);
    let refused = reader.apply(&[claim("a", Some(2), NewState::Started)]).unwrap_err().to_string();
    assert!(
        refused.ends_with("can't be written: it is read-only for this user or on this disk"),
        "{refused}"
    );
    // A reader may even outlast the writer.
    drop(writer);
    assert_eq!(reader.history(&Filter::default()).unwrap().len(), 2);
    drop(reader);
    open(&path);
    assert_eq!(names(folder.path()), ["ledger.db"]);
    let reader = SqliteLedger::open_read_only(&path).unwrap();
    assert_eq!(reader.history(&Filter::default()).unwrap().len(), 2);
    assert_eq!(names(folder.path()), ["ledger.db"]);
}

#[test]
fn a_power_cut_at_any_instant_leaves_whole_batches() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let mut ledger = open(&path);
    for number in 0..5 {
        let batch: Vec<Write> = (0..100)
            .map(|job| claim(&format!("job-{job}"), Some(number), NewState::Started))
            .chain([Write::Accounted { until: at(number) }])
            .collect();
        ledger.apply(&batch).unwrap();
        let copy = snapshot(&path, &folder.path().join(format!("between-{number}")));
        let survived = open(&copy);
        assert_eq!(survived.past().unwrap().accounted, Some(at(number)));
        assert_eq!(survived.history(&Filter::default()).unwrap().len(), (number as usize + 1) * 100);
    }
    // In the middle of the writing of a batch: the log of changes, cut at every so many bytes.
    let wal = std::fs::read(file::beside(&path, "-wal")).unwrap();
    for cut in (0..wal.len()).step_by(wal.len() / 40) {
        let copy = snapshot(&path, &folder.path().join(format!("cut-{cut}")));
        std::fs::write(file::beside(&copy, "-wal"), &wal[..cut]).unwrap();
        let survived = open(&copy);
        let rows = survived.history(&Filter::default()).unwrap().len();
        let until =
            survived.past().unwrap().accounted.map_or(0, |until| until.as_second() - at(0).as_second() + 1);
        assert_eq!(rows as i64, until * 100, "cut at {cut}");
    }
}

#[test]
fn a_batch_that_another_thread_copies_while_it_is_written_is_there_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let mut ledger = open(&path);
    let (tell, told) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let (path, root) = (&path, folder.path());
        let copies = scope.spawn(move || {
            let mut copies = Vec::new();
            while told.try_recv() != Err(std::sync::mpsc::TryRecvError::Disconnected) && copies.len() < 30 {
                // The log of changes first and the file after it could tear at a checkpoint; none is due so soon.
                copies.push(snapshot(path, &root.join(format!("copy-{}", copies.len()))));
            }
            copies
        });
        for number in 0..20 {
            let batch: Vec<Write> =
                (0..20).map(|job| claim(&format!("job-{job}"), Some(number), NewState::Started)).collect();
            ledger.apply(&batch).unwrap();
        }
        drop(tell);
        for copy in copies.join().unwrap() {
            let rows = open(&copy).history(&Filter::default()).unwrap().len();
            assert_eq!(rows % 20, 0, "{}", copy.display());
        }
    });
}

#[test]
fn a_damaged_ledger_is_set_aside_and_its_numbers_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    drop(open(&path));
    // The schema may lie in several pages: without it no number is known.
    let empty = path.metadata().unwrap().len() / 4096;
    let mut ledger = open(&path);
    let batch: Vec<Write> =
        (0..200).map(|job| claim(&format!("job-{job}"), Some(0), NewState::Started)).collect();
    ledger.apply(&batch).unwrap();
    drop(ledger);
    // As a dying disk does it: pages in the middle that hold something else, and a log left by a sudden end.
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    let pages = file.metadata().unwrap().len() / 4096;
    for page in empty..pages {
        file.write_all_at(&[0xa5; 4096], page * 4096).unwrap();
    }
    std::fs::write(file::beside(&path, "-wal"), [0; 10]).unwrap();
    let (mut ledger, aside) = open_or_set_aside(&path, owner("daemon"), "web1", at(0), false).unwrap();
    let aside = aside.unwrap();
    let moved_to = aside.moved_to.unwrap();
    assert_eq!(moved_to, folder.path().join("ledger.db.damaged-20261122T230000Z"));
    assert!(aside.reason.starts_with("it was damaged ("), "{}", aside.reason);
    assert!(moved_to.metadata().unwrap().len() == pages * 4096);
    let run = claimed(&ledger.apply(&[claim("a", Some(0), NewState::Started)]).unwrap())[0];
    assert_eq!(run, RunId(201));
    assert_eq!(ledger.history(&Filter::default()).unwrap().len(), 1);
    drop(ledger);
    // A sound one stays where it is.
    let (ledger, aside) = open_or_set_aside(&path, owner("daemon"), "web1", at(0), false).unwrap();
    assert_eq!((ledger.last_run().unwrap(), aside), (Some(RunId(201)), None));
    drop(ledger);
    // Twice in a second: nothing is overwritten.
    std::fs::write(
        &path,
        "nothing that was ever a ledger, and longer than a header of one would be; ".repeat(9),
    )
    .unwrap();
    let (_, aside) = open_or_set_aside(&path, owner("daemon"), "web1", at(0), false).unwrap();
    let second = folder.path().join("ledger.db.damaged-20261122T230000Z-2");
    assert_eq!(aside.unwrap().moved_to, Some(second));
}

#[test]
fn damage_found_in_use_is_called_damage() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let mut ledger = open(&path);
    rusqlite::Connection::open(&path).unwrap().execute_batch("DROP TABLE attempts").unwrap();
    let error = ledger.apply(&[claim("a", Some(0), NewState::Started)]).unwrap_err();
    assert!(matches!(error, LedgerError::Damaged { .. }), "{error}");
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch(
            "INSERT INTO owners VALUES (1, 'daemon', '', 1, 1);
             INSERT INTO runs (job, kind, trigger, slots, epoch, moment, claimed_at, outcome, host, owner)
             VALUES ('a', 'command', 'whim', 1, 0, 0, 0, 'failed', 'web1', 1);
             CREATE TABLE attempts (run, number, started_at, finished_at, outcome, error)",
        )
        .unwrap();
    let error = ledger.run(RunId(1)).unwrap_err();
    assert!(matches!(error, LedgerError::Damaged { .. }), "{error}");
}

/// The files under tests/data were written by the versions that they name, and are never written again: each with
/// the number of its next row.
const OF_OTHER_VERSIONS: &[(&str, i64)] = &[
    ("ledger-v1.db", 4),
    ("ledger-v3.db", 4),
    ("ledger-v4.db", 4),
    ("ledger-v5.db", 5),
    ("ledger-v6.db", 5),
    ("ledger-v7.db", 5),
];

/// A copy of such a file, which may be written.
fn of_another_version(name: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    std::fs::copy(data.join(name), &path).unwrap();
    (folder, path)
}

#[test]
fn a_ledger_of_each_version_opens() {
    let mut files = names(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data"));
    files.retain(|name| name.starts_with("ledger-v"));
    assert_eq!(files, OF_OTHER_VERSIONS.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    for (name, next) in OF_OTHER_VERSIONS {
        let (_folder, path) = of_another_version(name);
        let mut ledger = open(&path);
        let record = ledger.run(RunId(1)).unwrap().unwrap();
        assert_eq!((record.job.as_str(), record.outcome), ("db-backup", Outcome::Succeeded));
        assert_eq!(record.facts["bytes"], 432_013_312);
        let past = ledger.past().unwrap();
        assert_eq!((past.accounted, past.open.len(), past.pauses.len()), (Some(at(60)), 1, 1));
        assert_eq!(past.table.unwrap().jobs[0].timezone, "Africa/Casablanca");
        assert_eq!(ledger.events(at(0)).unwrap().len(), 1);
        assert_eq!(
            claimed(&ledger.apply(&[claim("new", Some(0), NewState::Started)]).unwrap()),
            [RunId(*next)],
            "{name}"
        );
        let told = (past.incidents, ledger.notices().unwrap());
        ledger.apply(&[finished(RunId(2), 70, Outcome::Interrupted)]).unwrap();
        assert_eq!((ledger.past().unwrap().incidents, ledger.notices().unwrap()), told, "{name}");
    }
}

/// A reader must not wait until a daemon has brought it up.
#[test]
fn all_that_version_5_held_is_read_before_and_after_it_is_brought_up() {
    let (_folder, path) = of_another_version("ledger-v5.db");
    let version = || {
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0)).unwrap()
    };
    assert_eq!(version(), 5);
    check_what_version_5_held(&SqliteLedger::open_read_only(&path).unwrap());
    assert_eq!(version(), 5);
    check_what_version_5_held(&open(&path));
    assert_eq!(version(), 8);
    check_what_version_5_held(&open(&path));
}

/// `follows` began when `db-backup` succeeded: it must not begin again for that, by whatever clock.
#[test]
fn the_order_of_what_version_6_held_stays_and_goes_on() {
    let (_folder, path) = of_another_version("ledger-v6.db");
    check_what_version_5_held(&SqliteLedger::open_read_only(&path).unwrap());
    let mut ledger = open(&path);
    check_what_version_5_held(&ledger);
    let places = |ledger: &SqliteLedger, job: &str| {
        let jobs = ledger.past().unwrap().jobs;
        let job = jobs.into_iter().find(|known| known.job == job).unwrap();
        (job.last_started, job.last_succeeded)
    };
    let then = 1_795_388_440_000_000;
    assert_eq!(places(&ledger, "db-backup"), (Some(1_795_388_400_000_000), Some(then)));
    assert_eq!(places(&ledger, "follows"), (Some(then), None));
    let run = claimed(&ledger.apply(&[claim("db-backup", Some(-9_999), NewState::Started)]).unwrap())[0];
    ledger.apply(&[finished(run, -9_990, Outcome::Succeeded)]).unwrap();
    ledger.apply(&[claim("follows", Some(-9_990), NewState::Started)]).unwrap();
    assert_eq!(places(&ledger, "db-backup"), (Some(then + 1), Some(then + 2)));
    assert_eq!(places(&ledger, "follows"), (Some(then + 3), None));
}

fn check_what_version_5_held(ledger: &SqliteLedger) {
    let rows = ledger.history(&Filter::default()).unwrap();
    let rows: Vec<_> = rows.iter().map(|row| (row.run.0, row.job.as_str(), row.slot, row.outcome)).collect();
    assert_eq!(
        rows,
        [
            (3, "cleanup", Some(at(-60)), Outcome::Skipped),
            (2, "cleanup", Some(at(0)), Outcome::Running),
            (1, "db-backup", Some(at(0)), Outcome::Succeeded),
        ]
    );
    let mut slots = vec![];
    let mut note = |row: SlotRow| {
        slots.push((row.slot, row.slot_last, row.slots, row.epoch));
        ControlFlow::Continue(())
    };
    ledger.visit_slots(&JobName::new("cleanup").unwrap(), at(0), &mut note).unwrap();
    assert_eq!(slots, [(at(-60), Some(at(60)), 3, 0), (at(0), None, 1, 1)]);
    let record = ledger.run(RunId(1)).unwrap().unwrap();
    let attempts: Vec<_> = record.attempts.iter().map(|one| (one.outcome, one.error.as_deref())).collect();
    assert_eq!(
        attempts,
        [(Outcome::Failed, Some("connection refused")), (Outcome::Succeeded, None)],
        "{record:?}"
    );
    assert_eq!((record.facts["bytes"].as_i64(), record.findings.len()), (Some(432_013_312), 1));
    assert_eq!(record.findings[0].message, "2 tables are empty");

    let chronicle = ledger.chronicle().unwrap();
    assert_eq!((chronicle.accounted, chronicle.kept_from), (Some(at(60)), Some(at(-86_400))));
    let [event] = &chronicle.events[..] else { panic!("{:?}", chronicle.events) };
    assert_eq!(
        (event.at, event.kind.as_str(), &event.detail["boot"]),
        (at(0), "daemon_started", &"b00t".into())
    );
    let [table] = &chronicle.tables[..] else { panic!("{:?}", chronicle.tables) };
    assert_eq!((table.in_force_from, table.hash.as_str()), (at(-100), "00ff"));
    assert_eq!(table.zones["Africa/Casablanca"], [(at(-100), 3600), (at(7_000_000), 0)]);
    let [job] = &table.jobs[..] else { panic!("{table:?}") };
    assert_eq!((job.job.as_str(), &job.schedule[..]), ("db-backup", &["0 0 * * *".to_owned()][..]));
    // Version 5 said nothing of groups.
    assert_eq!((job.jitter, job.group.as_deref()), (Duration::from_secs(90), None));

    let past = ledger.past().unwrap();
    let [incident] = &past.incidents[..] else { panic!("{:?}", past.incidents) };
    assert_eq!(
        (incident.job.as_str(), incident.run, incident.failures, incident.told_at),
        ("certificates", RunId(4), 2, Some(incident.opened_at))
    );
    assert_eq!((incident.check.as_deref(), incident.severity), (None, Severity::Critical));
    assert_eq!(incident.openings, [incident.opened_at]);
    assert_eq!((incident.flapping, incident.closed_at), (false, None));
    let [notice] = &ledger.notices().unwrap()[..] else { panic!() };
    assert_eq!(
        (notice.id.as_str(), notice.contact.as_str(), notice.channel),
        ("0198-n1", "infra", Channel::Webhook)
    );
    assert_eq!(notice.story["reason"], "connection refused");
}

/// Ten million rows must not be read for an answer of twenty.
#[test]
fn no_question_reads_all_rows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    drop(open(&path));
    let connection = rusqlite::Connection::open(&path).unwrap();
    let check = |sql: &str, expected: &str| {
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let values = vec![rusqlite::types::Null; statement.parameter_count()];
        let steps = statement.query_map(rusqlite::params_from_iter(values), |row| row.get(3)).unwrap();
        let plan: Vec<String> = steps.map(Result::unwrap).collect();
        assert!(plan.iter().any(|step| step.contains(expected)), "{sql}: {plan:?}");
        let whole = |step: &String| step.starts_with("SCAN runs") || step.contains("TEMP B-TREE");
        assert!(!plan.iter().any(whole), "{sql}: {plan:?}");
    };
    let history = |filter: Filter| read::history_sql(&filter).0;
    let all = Filter::default;
    check(&history(all()), "runs_by_moment");
    check(&history(Filter { since: Some(at(0)), ..all() }), "runs_by_moment");
    check(&history(Filter { job: Some("a".into()), ..all() }), "runs_by_job");
    check(&history(Filter { outcome: Some(Outcome::Failed), ..all() }), "runs_by_outcome");
    check(
        &history(Filter { outcome: Some(Outcome::Failed), since: Some(at(0)), ..all() }),
        "runs_by_outcome",
    );
    check(
        &history(Filter { job: Some("a".into()), outcome: Some(Outcome::Failed), ..all() }),
        "runs_by_job_and_outcome (job=? AND outcome=? AND moment<?)",
    );
    check(&format!("SELECT runs.id {}", read::OPEN_RUNS), "runs_by_outcome");
    check(prune::PRUNABLE, "runs_by_moment");
    check(read::SLOT_ROWS, "sqlite_autoindex_runs_1 (job=? AND (slot,epoch)>(?,?))");
    check(read::LAST_END, "runs_by_job (job=?)");
    check(read::LAST_SUCCESS, "runs_by_job (job=?)");
    check(read::RANGES_OVER, "runs_of_ranges (job=? AND slot_last>?)");
}
