//! What is told of jobs, checks and backups is what they did; of a daemon that has just started, too.

use serde_json::Value;

use crate::support::daemon::{Host, wait_until};
use crate::support::missing::lacks;
use crate::support::scraped::{Samples, ask, check_metrics, samples, scrape, socket};

/// The value of a series, by its name without the prefix.
#[track_caller]
fn value(samples: &Samples, series: &str) -> f64 {
    let name = format!("punk_eco_sched_{series}");
    *samples.get(&name).unwrap_or_else(|| panic!("there is no {name}: {samples:#?}"))
}

#[track_caller]
fn check(samples: &Samples, expected: &[(&str, f64)]) {
    for (series, expected) in expected {
        assert_eq!(value(samples, series), *expected, "{series}");
    }
}

/// A scrape in which everything that lies on disks has answered in time, as it may not on a busy machine.
fn scrape_whole(host: &Host, lies_there: &[&str]) -> Samples {
    let mut told = Samples::new();
    wait_until("the disks answer", || {
        told = scrape(host);
        lies_there.iter().all(|series| has(&told, series))
    });
    told
}

const ON_DISKS: &[&str] = &["config_changed", "ledger_size_bytes", "logs_size_bytes"];

fn has(samples: &Samples, beginning: &str) -> bool {
    let name = format!("punk_eco_sched_{beginning}");
    samples.keys().any(|series| series.starts_with(&name))
}

fn seconds(record: &Value, key: &str) -> f64 {
    let at: jiff::Timestamp = record[key].as_str().unwrap().parse().unwrap();
    at.as_microsecond() as f64 / 1e6
}

const FAILED: &str = r#"job_last_outcome{job_name="bad",outcome="failed"}"#;
const PAGE: &str = r#"job_name="health",check="pa\"ge""#;

#[test]
fn runs_checks_and_backups_are_told_and_a_restart_forgets_nothing_but_the_counts() {
    let host = Host::new("");
    std::fs::write(host.path("file"), "kept").unwrap();
    let dir = host.path("");
    let dir = dir.display();
    host.write_jobs(&format!(
        "  good: {{ command: {{ run: [/bin/true] }} }}\n  \
           bad: {{ retries: {{ attempts: 2, backoff: 1s }}, command: {{ run: [/bin/false] }} }}\n  \
           never: {{ enabled: false, schedule: '@yearly', command: {{ run: [/bin/true] }} }}\n  \
           files: {{ archive: {{ sources: [{dir}/file], name: files, directory: {dir}/backups, min_free: 0% }} }}\n  \
           health:\n    health_check:\n      checks:\n        \
             - memory: {{ below: 100%, name: memory }}\n        \
             - tcp: {{ address: '127.0.0.1:1', timeout: 7s, name: 'pa\"ge' }}\n          severity: warning\n        \
             - access_log: {{ path: {dir}/none.log, name: log }}\n"
    ));
    let daemon = host.daemon();
    check(
        &scrape_whole(&host, &[ON_DISKS, &["backup_present"]].concat()),
        &[
            ("jobs", 5.0),
            ("config_changed", 0.0),
            ("config_last_reload_successful", 1.0),
            (r#"job_enabled{job_name="never"}"#, 0.0),
            (r#"job_enabled{job_name="good"}"#, 1.0),
            (r#"job_info{job_name="files",kind="archive"}"#, 1.0),
            (r#"job_runs_total{job_name="good",outcome="succeeded"}"#, 0.0),
            (r#"backup_readable{job_name="files"}"#, 1.0),
            (r#"backup_present{job_name="files"}"#, 0.0),
            ("ledger_problem", 0.0),
        ],
    );
    assert!(!has(&scrape(&host), "job_last_"), "nothing has run yet");
    let codes: Vec<_> = ["good", "bad", "good", "files", "health"]
        .into_iter()
        .map(|job| host.cli(&["run-now", job]).status.code().unwrap())
        .collect();
    assert_eq!(codes[..4], [0, 1, 0, 0]);
    let backup = std::fs::read_dir(host.path("backups")).unwrap().flatten();
    let backup =
        backup.map(|entry| entry.path()).find(|path| path.extension().is_some_and(|end| end == "gz"));
    let bytes = std::fs::metadata(backup.unwrap()).unwrap().len() as f64;
    // Of a folder something is known for some seconds before it is looked at again.
    let before = scrape_whole(&host, &["backup_newest_size_bytes"]);
    let lasting = [
        (r#"job_last_outcome{job_name="good",outcome="succeeded"}"#, 1.0),
        (r#"job_last_outcome{job_name="good",outcome="failed"}"#, 0.0),
        (FAILED, 1.0),
        (r#"job_last_outcome{job_name="bad",outcome="succeeded"}"#, 0.0),
        (r#"job_last_outcome{job_name="bad",outcome="timed_out"}"#, 0.0),
        (r#"check_state{job_name="health",check="memory",state="ok"}"#, 1.0),
        (r#"check_state{job_name="health",check="memory",state="failing"}"#, 0.0),
        (&format!("check_state{{{PAGE},state=\"failing\"}}"), 1.0),
        // Nobody can tell: no better than failing.
        (r#"check_state{job_name="health",check="log",state="failing"}"#, 1.0),
        (&format!("check_threshold_seconds{{{PAGE},quantity=\"connect\"}}"), 7.0),
        (r#"check_threshold_ratio{job_name="health",check="memory",quantity="used"}"#, 1.0),
        (r#"incident_open{job_name="bad",check="",severity="critical"}"#, 1.0),
        (&format!("incident_open{{{PAGE},severity=\"warning\"}}"), 1.0),
        (r#"backup_present{job_name="files"}"#, 1.0),
        (r#"backup_newest_size_bytes{job_name="files"}"#, bytes),
        (r#"backup_newest_proof{job_name="files",proof="written"}"#, 1.0),
        (r#"backup_newest_proof{job_name="files",proof="verified"}"#, 0.0),
    ];
    check(&before, &lasting);
    check(
        &before,
        &[
            (r#"job_runs_total{job_name="good",outcome="succeeded"}"#, 2.0),
            (r#"job_runs_total{job_name="bad",outcome="failed"}"#, 1.0),
            (r#"job_runs_total{job_name="bad",outcome="succeeded"}"#, 0.0),
            (r#"job_attempts_total{job_name="good"}"#, 2.0),
            (r#"job_attempts_total{job_name="bad"}"#, 2.0),
            (r#"job_run_duration_seconds_count{job_name="good"}"#, 2.0),
            // It has waited a second between its attempts.
            (r#"job_run_duration_seconds_bucket{le="0.5",job_name="bad"}"#, 0.0),
            (r#"job_run_duration_seconds_bucket{le="+Inf",job_name="bad"}"#, 1.0),
        ],
    );
    let used = value(&before, r#"check_value_ratio{job_name="health",check="memory",quantity="used"}"#);
    assert!(used > 0.0 && used < 1.0, "{used}");
    let (good, bad) = (&host.history("good")[0], &host.history("bad")[0]);
    let ends = [
        (r#"job_last_run_end_timestamp_seconds{job_name="good"}"#, seconds(good, "finished_at")),
        (r#"job_last_success_timestamp_seconds{job_name="good"}"#, seconds(good, "finished_at")),
        (r#"job_last_run_end_timestamp_seconds{job_name="bad"}"#, seconds(bad, "finished_at")),
    ];
    check(&before, &ends);
    assert!(!has(&before, r#"job_last_success_timestamp_seconds{job_name="bad"}"#));
    assert!(!has(&before, "job_start_lateness_seconds_count"), "nobody is late who has no slot");
    assert_eq!(daemon.stop().code(), Some(0));

    // A dry run is no run of its job.
    let _daemon = host.daemon();
    assert_eq!(
        host.cli(&["run-now", "health", "--dry-run"]).status.code(),
        host.cli(&["run-now", "health", "--dry-run"]).status.code()
    );
    let after = scrape(&host);
    // At once; what lies on disks, as soon as these answer.
    check(&after, &ends);
    let after = scrape_whole(&host, &[ON_DISKS, &["backup_newest_size_bytes"]].concat());
    check(&after, &lasting);
    check(
        &after,
        &[
            (r#"job_runs_total{job_name="bad",outcome="failed"}"#, 0.0),
            (r#"job_attempts_total{job_name="health"}"#, 0.0),
            (r#"check_value_ratio{job_name="health",check="memory",quantity="used"}"#, used),
        ],
    );
    assert!(value(&after, "start_timestamp_seconds") > value(&before, "start_timestamp_seconds"));
    assert!(value(&after, r#"ledger_size_bytes{file="database"}"#) > 0.0);
    assert!(value(&after, "logs_size_bytes") > 0.0);
    if lacks("promtool") {
        return;
    }
    check_metrics(&ask(socket(&host), &["GET /metrics"]).body);
}

#[test]
fn slots_queues_and_pauses_are_told() {
    let host = Host::new("");
    let stop = host.path("stop");
    let stop = stop.display();
    host.write_jobs(&format!(
        "  tick: {{ schedule: '* * * * * *', command: {{ run: [/bin/true] }} }}\n  \
           long: {{ overlap: queue, command: {{ shell: 'while ! test -e {stop}; do sleep 0.05; done' }} }}\n  \
           fails: {{ schedule: '* * * * * *', command: {{ run: [/bin/false] }} }}\n"
    ));
    let _daemon = host.daemon();
    for _ in 0..2 {
        assert!(host.cli(&["run-now", "long", "--detach"]).status.success());
    }
    check(
        &scrape(&host),
        &[
            (r#"job_running{job_name="long"}"#, 1.0),
            (r#"job_queued{job_name="long"}"#, 1.0),
            (r#"job_paused{job_name="tick"}"#, 0.0),
        ],
    );
    std::fs::write(host.path("stop"), "").unwrap();
    wait_until("both have run", || {
        value(&scrape(&host), r#"job_runs_total{job_name="long",outcome="succeeded"}"#) == 2.0
    });
    wait_until("three slots passed without a success", || {
        value(&scrape(&host), r#"job_slots_since_success{job_name="fails"}"#) >= 3.0
    });
    assert!(host.cli(&["pause", "tick"]).status.success());
    wait_until("slots are skipped", || {
        value(&scrape(&host), r#"job_skipped_slots_total{job_name="tick",reason="paused"}"#) >= 2.0
    });
    let told = scrape(&host);
    check(
        &told,
        &[
            (r#"job_paused{job_name="tick"}"#, 1.0),
            (r#"job_paused{job_name="fails"}"#, 0.0),
            (r#"job_running{job_name="long"}"#, 0.0),
            (r#"job_queued{job_name="long"}"#, 0.0),
            (r#"job_skipped_slots_total{job_name="tick",reason="overlap"}"#, 0.0),
        ],
    );
    let ran = value(&told, r#"job_runs_total{job_name="tick",outcome="succeeded"}"#);
    assert!(ran >= 1.0);
    check(&told, &[(r#"job_start_lateness_seconds_count{job_name="tick"}"#, ran)]);
    // By hand, and so without a slot.
    assert!(!has(&told, r#"job_start_lateness_seconds_count{job_name="long"}"#));
    assert!(!has(&told, r#"job_next_slot_timestamp_seconds{job_name="long"}"#));
    let (next, start) = (
        value(&told, r#"job_next_slot_timestamp_seconds{job_name="fails"}"#),
        value(&told, "start_timestamp_seconds"),
    );
    assert!(next > start && next.fract() == 0.0, "{next} {start}");
}

#[test]
fn what_leaves_the_table_leaves_the_metrics() {
    let jobs = "  one: { command: { run: [/bin/true] } }\n";
    let host = Host::new(&format!("{jobs}  two: {{ command: {{ run: [/bin/true] }} }}\n"));
    let _daemon = host.daemon();
    for job in ["one", "two"] {
        assert!(host.cli(&["run-now", job]).status.success());
    }
    assert!(has(&scrape(&host), r#"job_last_outcome{job_name="two""#));
    let loaded = value(&scrape(&host), "config_last_reload_success_timestamp_seconds");

    host.write_jobs("  one: { command: { shall: 'x' } }\n");
    wait_until("the file differs", || scrape(&host).get("punk_eco_sched_config_changed") == Some(&1.0));
    assert_eq!(host.cli(&["reload"]).status.code(), Some(2));
    check(
        &scrape(&host),
        &[("config_last_reload_successful", 0.0), ("config_last_reload_success_timestamp_seconds", loaded)],
    );

    host.write_jobs(jobs);
    assert!(host.cli(&["reload"]).status.success());
    let told = scrape_whole(&host, ON_DISKS);
    check(&told, &[("jobs", 1.0), ("config_changed", 0.0), ("config_last_reload_successful", 1.0)]);
    assert!(value(&told, "config_last_reload_success_timestamp_seconds") > loaded);
    assert!(!told.keys().any(|series| series.contains("two")), "{told:#?}");

    // Nor do the checks of a job that has none any more; nor are they back when it has.
    let as_command = "command: { run: [/bin/true] }";
    for (two, checks) in [
        ("health_check: { checks: [{ memory: { below: 100% } }] }", true),
        (as_command, false),
        ("health_check: { checks: [{ memory: { below: 100% } }] }", false),
    ] {
        host.write_jobs(&format!("{jobs}  two: {{ {two} }}\n"));
        assert!(host.cli(&["reload"]).status.success());
        if checks {
            assert!(host.cli(&["run-now", "two"]).status.success());
        }
        assert_eq!(has(&scrape(&host), r#"check_state{job_name="two""#), checks, "{two}");
    }
    host.write_jobs(jobs);
    assert!(host.cli(&["reload"]).status.success());

    // What it was before is not what it is now.
    host.write_jobs(&format!("{jobs}  two: {{ command: {{ run: [/bin/true] }} }}\n"));
    assert!(host.cli(&["reload"]).status.success());
    let told = samples(&ask(socket(&host), &["GET /metrics"]).body);
    check(&told, &[(r#"job_runs_total{job_name="two",outcome="succeeded"}"#, 0.0)]);
    check(&told, &[(r#"job_runs_total{job_name="one",outcome="succeeded"}"#, 1.0)]);
}
