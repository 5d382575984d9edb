//! More than there is room for: many jobs at one instant, slots faster than runs, a history that is too long.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::support::daemon::{Host, text, wait_until};

/// As an expression with seconds, an instant that is about to come.
fn soon(seconds: i64) -> String {
    #[expect(clippy::disallowed_methods, reason = "the program under test reads the machine's clock")]
    let at = Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
    at.strftime("%-S %-M %-H %-d %-m *").to_string()
}

fn instant(row: &Value, key: &str) -> Timestamp {
    row[key].as_str().unwrap_or_else(|| panic!("no {key}: {row}")).parse().unwrap()
}

#[test]
fn three_hundred_jobs_at_one_instant_are_all_run_a_few_at_a_time() {
    const JOBS: usize = 300;
    let host = Host::new("");
    let at = soon(5);
    let jobs: String = (0..JOBS)
        .map(|job| format!("  job-{job}: {{ schedule: '{at}', command: {{ run: ['true'] }} }}\n"))
        .collect();
    host.write_table("limits: { max_running: 8 }", &jobs);
    let _daemon = host.daemon();
    let mut rows = vec![];
    wait_until("every job has ended", || {
        rows = host.json(&["history", "--json"]).as_array().unwrap().clone();
        rows.len() == JOBS && rows.iter().all(|row| row["outcome"] == "succeeded")
    });
    let jobs: BTreeSet<&str> = rows.iter().map(|row| row["job"].as_str().unwrap()).collect();
    let slots: BTreeSet<&str> = rows.iter().map(|row| row["slot"].as_str().unwrap()).collect();
    assert_eq!((jobs.len(), slots.len()), (JOBS, 1));
    // Each start in the order of time; at each, how many others ran.
    let mut ends = vec![];
    let mut spans: Vec<_> =
        rows.iter().map(|row| (instant(row, "started_at"), instant(row, "finished_at"))).collect();
    spans.sort_unstable();
    for (started, finished) in spans {
        ends.retain(|end| *end > started);
        ends.push(finished);
        assert!(ends.len() <= 8, "{} at once at {started}", ends.len());
    }
}

/// The limit that the file asks for would take more pipes than there are descriptors.
#[test]
fn hundreds_of_jobs_due_together_all_end_well_with_few_descriptors() {
    const JOBS: usize = 500;
    let host = Host::new("");
    let go = host.path("go");
    let jobs = |schedule: &str| -> String {
        let job = |number| {
            format!(
                "  job-{number}: {{ schedule: '{schedule}', command: {{ shell: 'until [ -e {} ]; do sleep 0.1; done' }} }}\n",
                go.display()
            )
        };
        (0..JOBS).map(job).collect()
    };
    let write = |schedule: &str| host.write_table("limits: { max_running: 5000 }", &jobs(schedule));
    write("0 0 1 1 *");
    let daemon = host.spawn_daemon_under(&["prlimit", "--nofile=256:256", "--"]);
    wait_until("the daemon answers", || host.cli(&["status"]).status.success());
    // So that what is due is due for a daemon that is there, however long it took to start.
    write(&soon(10));
    assert!(host.cli(&["reload"]).status.success());
    let running = || {
        let status = host.json(&["status", "--json"]);
        status["running"].as_array().unwrap().iter().filter(|run| run["queued"] == false).count()
    };
    wait_until("as many run as there are descriptors for", || running() == 32);
    let descriptors = |pid: u32| std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let spawner = host.processes().into_iter().find(|(_, line)| line.contains(" __spawner ")).unwrap().0;
    let held = [daemon.pid(), spawner].map(descriptors);
    assert!(held.iter().all(|held| *held < 160), "daemon and spawner hold {held:?} descriptors");
    std::fs::write(&go, "").unwrap();
    let mut rows = vec![];
    wait_until("every job has ended", || {
        rows = host.json(&["history", "-n", "1000", "--json"]).as_array().unwrap().clone();
        rows.len() == JOBS && rows.iter().all(|row| row["outcome"] != "running")
    });
    let bad: Vec<_> =
        rows.iter().filter(|row| row["outcome"] != "succeeded" || row["findings"] != json!([])).collect();
    assert!(bad.is_empty(), "{} of {JOBS}: {:#}", bad.len(), bad[0]);
    let jobs: BTreeSet<&str> = rows.iter().map(|row| row["job"].as_str().unwrap()).collect();
    assert_eq!(jobs.len(), JOBS);
    // It was said, at the start and at the reload.
    let told = "32 run at once, the others wait";
    assert_eq!(host.daemon_log().matches(told).count(), 2, "{}", host.daemon_log());
    assert!(daemon.stop().success());
}

#[test]
fn slots_that_come_faster_than_runs_end_are_recorded_and_do_not_pile_up() {
    let host = Host::new("");
    let go = host.path("go");
    let job = |name: &str| {
        format!(
            "  {name}:\n    schedule: '* * * * * *'\n    overlap: {name}\n    command: {{ shell: 'while [ ! -e {} ]; do sleep 0.1; done' }}\n",
            go.display()
        )
    };
    host.write_table("limits: { max_running: 8 }", &["skip", "queue", "replace", "allow"].map(job).concat());
    let daemon = host.daemon();
    wait_until("a dozen slots of each", || {
        ["skip", "queue", "replace", "allow"].iter().all(|job| host.history(job).len() >= 12)
    });
    let running = |job: &str| {
        let rows = host.history(job);
        let open = |row: &&Value| row["outcome"] == "running";
        let begun = rows.iter().filter(open).filter(|row| !row["started_at"].is_null()).count();
        (begun, rows.iter().filter(open).count() - begun)
    };
    assert_eq!(running("skip"), (1, 0));
    assert_eq!(running("queue"), (1, 1));
    let (begun, waiting) = running("replace");
    assert!(begun + waiting <= 2, "{begun} run, {waiting} wait");
    // What the others leave of the eight.
    let (begun, waiting) = running("allow");
    assert!(begun <= 7 && begun + waiting >= 12, "{begun} run, {waiting} wait");
    // Nothing of it keeps the daemon from answering, nor from going.
    assert!(host.cli(&["pause", "--all"]).status.success());
    std::fs::write(&go, "").unwrap();
    for job in ["skip", "queue", "replace", "allow"] {
        wait_until(&format!("{job}: all have ended"), || running(job) == (0, 0));
    }
    for job in ["skip", "queue", "replace", "allow"] {
        let rows = host.history(job);
        let slots: BTreeSet<Timestamp> = rows.iter().map(|row| instant(row, "slot")).collect();
        let (first, last) = (*slots.first().unwrap(), *slots.last().unwrap());
        // Once each, without a hole.
        let seconds = (last - first).get_seconds() + 1;
        assert_eq!((rows.len(), i64::try_from(slots.len()).unwrap()), (slots.len(), seconds), "{job}");
    }
    assert!(daemon.stop().success());
}

#[test]
fn a_history_that_is_too_long_is_dropped_though_nothing_else_wakes_the_daemon() {
    const ROWS: i64 = 5_000;
    let yearly = "  yearly: { schedule: '0 0 29 2 *', command: { run: ['true'] } }";
    let host = Host::new(yearly);
    host.daemon().stop();
    let ledger = rusqlite::Connection::open(host.path("state/ledger.db")).unwrap();
    ledger
        .execute_batch(&format!(
            "BEGIN;
             INSERT INTO owners (id, role, boot, pid, start_time) VALUES (1, 'daemon', 'an older one', 1, 1);
             WITH RECURSIVE count (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM count WHERE n < {ROWS})
             INSERT INTO runs (job, kind, trigger, slot, slots, epoch, moment, claimed_at, outcome, host, owner)
             SELECT 'old', 'command', 'schedule', n * 1000000, 1, 0, n * 1000000, n * 1000000, 'succeeded', 'web1',
                    1 FROM count;
             COMMIT;"
        ))
        .unwrap();
    let left = || ledger.query_row("SELECT count(*) FROM runs", (), |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(left(), ROWS);
    let _daemon = host.spawn_daemon();
    wait_until("no old row is left", || left() == 0);
    let history = host.cli(&["history", "--json"]);
    assert_eq!(text(&history.stdout), "[]\n");
}
