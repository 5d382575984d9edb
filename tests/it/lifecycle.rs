//! What becomes of runs when the daemon stops, is killed, or comes back.

use punk_eco_sched::host::procfs;
use rustix::process::Signal;
use serde_json::json;

use crate::support::daemon::{Host, text, wait_until};

/// A job that says `begun`, waits for the file `go`, says `done` and exits with 0.
fn gated(host: &Host) -> String {
    format!(
        "  gated:\n    command: {{ shell: 'echo begun; while [ ! -e {0}/go ]; do sleep 0.05; done; echo done' }}\n",
        host.dir.path().display()
    )
}

#[test]
fn a_due_command_runs_and_history_tells_it_in_the_agreed_shape() {
    let host = Host::new("  tick:\n    schedule: '* * * * * *'\n    command: { shell: 'echo hello' }\n");
    let daemon = host.daemon();
    let row = host.wait_for_outcome("tick", "succeeded");
    let keys: Vec<&str> = row.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        [
            "run",
            "job",
            "kind",
            "trigger",
            "slot",
            "outcome",
            "reason",
            "started_at",
            "finished_at",
            "host",
            "attempts",
            "summary",
            "facts",
            "findings"
        ]
    );
    assert_eq!(row["kind"], "command");
    assert_eq!(row["trigger"], "schedule");
    assert_eq!(row["reason"], json!(null));
    assert_eq!(row["attempts"][0]["number"], 1);
    assert_eq!(row["attempts"][0]["outcome"], "succeeded");
    assert_eq!(row["attempts"][0]["error"], json!(null));
    assert!(host.log("tick").contains("hello"), "{}", host.log("tick"));
    assert!(daemon.stop().success());
    wait_until("nothing is left", || host.processes().is_empty());
}

#[test]
fn a_command_outlives_a_killed_daemon_and_is_adopted_with_its_whole_output_and_true_exit() {
    let host = Host::new("");
    host.write_jobs(&gated(&host));
    let daemon = host.daemon();
    assert!(host.cli(&["run-now", "gated", "--detach"]).status.success());
    wait_until("the job has begun", || host.log("gated").contains("begun"));
    daemon.kill();
    let daemon = host.daemon();
    assert_eq!(host.history("gated")[0]["outcome"], "running");
    std::fs::write(host.path("go"), "").unwrap();
    let row = host.wait_for("gated", "ends", |row| row["outcome"] != "running");
    assert_eq!(row["outcome"], "succeeded", "{row:#}");
    assert_eq!(row["attempts"].as_array().unwrap().len(), 1);
    assert_eq!(row["facts"], json!({ "exit_code": 0, "output_bytes": 11 }));
    assert_eq!(host.history("gated").len(), 1);
    let log = host.log("gated");
    assert_eq!((log.matches("begun").count(), log.matches("done").count()), (1, 1), "{log}");
    assert!(daemon.stop().success());
    wait_until("nothing is left", || host.processes().is_empty());
}

#[test]
fn a_command_that_ended_while_no_daemon_lived_is_told_with_its_true_exit_by_the_next() {
    let host = Host::new("");
    host.write_jobs(&gated(&host).replace("echo done", "echo done; exit 7"));
    let daemon = host.daemon();
    assert!(host.cli(&["run-now", "gated", "--detach"]).status.success());
    wait_until("the job has begun", || host.log("gated").contains("begun"));
    daemon.kill();
    std::fs::write(host.path("go"), "").unwrap();
    // One that has ended is a child until the spawner has heard of it.
    let spawner =
        host.processes().into_iter().find(|(_, command)| command.contains(" __spawner ")).unwrap().0;
    wait_until("the job's shell has ended", || {
        !procfs::all().iter().any(|one| one.parent.unsigned_abs() == spawner)
    });
    let daemon = host.daemon();
    let row = host.wait_for("gated", "ends", |row| row["outcome"] != "running");
    assert_eq!(row["outcome"], "failed", "{row:#}");
    let since = host.json(&["status", "--json"])["started_at"].as_str().unwrap().to_owned();
    let ended = row["finished_at"].as_str().unwrap();
    assert!(ended < since.as_str(), "it ended at {ended}, before the daemon of {since}");
    assert!(row["attempts"][0]["error"].as_str().unwrap().contains('7'), "{row:#}");
    assert!(host.log("gated").contains("done"));
    assert!(daemon.stop().success());
}

#[test]
fn sigterm_leaves_a_running_program_and_sigint_ends_it() {
    let host = Host::new("");
    host.write_jobs(&gated(&host));
    let daemon = host.daemon();
    assert!(host.cli(&["run-now", "gated", "--detach"]).status.success());
    wait_until("the job has begun", || host.log("gated").contains("begun"));
    assert!(daemon.stop().success());
    assert!(host.processes().iter().any(|(_, command)| command.contains("echo begun")));
    let daemon = host.spawn_daemon();
    wait_until("the daemon answers", || host.cli(&["status"]).status.success());
    daemon.signal(Signal::INT);
    // A second one does not wait for the grace.
    daemon.signal(Signal::INT);
    let mut daemon = daemon;
    assert!(daemon.wait().success());
    wait_until("nothing is left", || host.processes().is_empty());
    assert_eq!(host.history("gated")[0]["outcome"], "interrupted");
}

#[test]
fn a_second_daemon_on_the_same_state_directory_is_refused() {
    let host = Host::new("  tick:\n    command: { run: ['true'] }\n");
    let first = host.daemon();
    let second = host.cli(&["daemon"]);
    assert!(!second.status.success());
    let said = text(&second.stderr);
    assert!(said.contains(&format!("pid {}", first.pid())) && said.contains("state"), "{said}");
    assert!(host.cli(&["status"]).status.success());
    assert!(first.stop().success());
}

#[test]
fn a_bad_reload_keeps_the_old_table_and_says_why() {
    let host = Host::new("  tick:\n    command: { run: ['true'] }\n");
    let daemon = host.daemon();
    host.write_jobs("  tick:\n    comand: { run: ['true'] }\n");
    let reload = host.cli(&["reload"]);
    assert_eq!(reload.status.code(), Some(2));
    assert!(text(&reload.stderr).contains("did you mean `command`"), "{}", text(&reload.stderr));
    assert_eq!(host.json(&["status", "--json"])["config_changed"], true);
    assert!(host.cli(&["run-now", "tick"]).status.success(), "the old table is in force");
    host.write_jobs("  tock:\n    command: { run: ['true'] }\n");
    daemon.signal(Signal::HUP);
    wait_until("the new table is in force", || host.cli(&["run-now", "tock"]).status.success());
    assert_eq!(host.cli(&["run-now", "tick"]).status.code(), Some(2));
    assert!(daemon.stop().success());
}

#[test]
fn a_pause_survives_a_restart_and_its_slots_are_recorded() {
    let host = Host::new("  tick:\n    schedule: '* * * * * *'\n    command: { run: ['true'] }\n");
    let daemon = host.daemon();
    host.wait_for_outcome("tick", "succeeded");
    assert!(host.cli(&["pause", "tick"]).status.success());
    let paused = |row: &serde_json::Value| row["outcome"] == "skipped" && row["reason"] == "paused";
    host.wait_for("tick", "a slot is skipped", paused);
    daemon.kill();
    let daemon = host.daemon();
    let restarted = host.history("tick").len();
    wait_until("further slots are skipped", || host.history("tick").len() > restarted + 2);
    assert!(paused(&host.history("tick")[0]), "{:#}", host.history("tick")[0]);
    assert!(host.cli(&["run-now", "tick"]).status.success(), "a manual run ignores the pause");
    assert!(host.cli(&["resume", "tick"]).status.success());
    host.wait_for("tick", "runs again", |row| row["outcome"] == "succeeded" && row["trigger"] == "schedule");
    assert!(daemon.stop().success());
}

#[test]
fn run_now_works_with_and_without_a_daemon_and_its_exit_code_tells() {
    let host = Host::new("");
    let jobs = format!(
        "  good:\n    command: {{ shell: 'echo fine' }}\n  bad:\n    command: {{ shell: 'echo broken >&2; exit 3' }}\n{}",
        gated(&host)
    );
    host.write_jobs(&jobs);
    let check = |host: &Host| {
        let good = host.cli(&["run-now", "good"]);
        assert_eq!((good.status.code(), text(&good.stdout).contains("fine")), (Some(0), true), "{good:?}");
        let bad = host.cli(&["run-now", "bad"]);
        assert_eq!(bad.status.code(), Some(1));
        assert!(text(&bad.stderr).contains("broken"), "{}", text(&bad.stderr));
        let unknown = host.cli(&["run-now", "goood"]);
        assert_eq!(unknown.status.code(), Some(2));
        assert!(text(&unknown.stderr).contains("`good`"), "{}", text(&unknown.stderr));
    };
    check(&host);
    assert_eq!(host.cli(&["status"]).status.code(), Some(3));
    let daemon = host.daemon();
    check(&host);
    assert!(host.cli(&["run-now", "gated", "--detach"]).status.success());
    assert_eq!(host.cli(&["run-now", "gated"]).status.code(), Some(4));
    let run = host.history("gated")[0]["run"].to_string();
    assert!(host.cli(&["cancel", &run]).status.success());
    host.wait_for_outcome("gated", "cancelled");
    assert_eq!(host.history("good").len(), 2);
    assert!(daemon.stop().success());
    wait_until("nothing is left", || host.processes().is_empty());
}

#[test]
fn a_timeout_ends_the_whole_tree_and_nothing_else() {
    let host = Host::new("");
    let dir = host.dir.path().display();
    let jobs = format!(
        "  stubborn:\n    timeout: 1s\n    command:\n      shell: |\n        trap '' TERM\n        (trap '' TERM; while :; do sleep 0.2; done) &\n        setsid sh -c 'trap \"\" TERM; (trap \"\" TERM; exec sleep 1001) & while :; do sleep 0.2; done' &\n        while :; do sleep 0.2; done\n  other:\n    command: {{ shell: 'echo begun; while [ ! -e {dir}/go ]; do sleep 0.05; done' }}\n"
    );
    host.write_jobs(&jobs);
    let daemon = host.daemon();
    assert!(host.cli(&["run-now", "other", "--detach"]).status.success());
    let run = host.cli(&["run-now", "stubborn"]);
    assert_eq!(run.status.code(), Some(1));
    let row = &host.history("stubborn")[0];
    assert_eq!(row["outcome"], "timed_out");
    let left: Vec<_> = marked("stubborn", host.dir.path()).into_iter().collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(host.history("other")[0]["outcome"], "running");
    std::fs::write(host.path("go"), "").unwrap();
    host.wait_for_outcome("other", "succeeded");
    assert!(daemon.stop().success());
}

/// Living processes with the marker of a job that descend from this host's spawner.
fn marked(job: &str, _host: &std::path::Path) -> Vec<u32> {
    let needle = format!("PUNK_ECO_JOB={job}\0");
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter(|entry| {
            let environ = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            environ.windows(needle.len()).any(|window| window == needle.as_bytes())
        })
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

#[test]
fn what_a_job_leaves_behind_is_ended_and_reported() {
    // Both are what they will be before the job ends: setsid becomes sleep.
    let script = r#"setsid sleep 1002 & a=$!; sleep 1003 & b=$!
        until [ "$(cat /proc/$a/comm):$(cat /proc/$b/comm)" = sleep:sleep ]; do :; done; echo gone"#;
    let host = Host::new(&format!("  littering:\n    command:\n      shell: |\n        {script}\n"));
    let daemon = host.daemon();
    assert!(host.cli(&["run-now", "littering"]).status.success());
    let row = host.wait_for_outcome("littering", "succeeded");
    let finding = row["findings"][0]["message"].as_str().unwrap();
    assert!(
        finding.starts_with("left behind and ended: sleep (") && finding.matches("sleep (").count() == 2,
        "{finding}"
    );
    assert_eq!(marked("littering", host.dir.path()), Vec::<u32>::new());
    assert!(daemon.stop().success());
}

#[test]
fn a_log_folder_that_cannot_be_written_stops_no_job_and_is_said() {
    let host = Host::new("  tick:\n    command: { shell: 'echo hello' }\n");
    std::fs::write(host.path("logs"), "in the way").unwrap();
    let daemon = host.daemon();
    assert!(host.cli(&["run-now", "tick"]).status.success());
    let row = host.wait_for_outcome("tick", "succeeded");
    let finding = row["findings"][0]["message"].as_str().unwrap();
    assert!(finding.contains("logs"), "{finding}");
    assert!(daemon.stop().success());
}

#[test]
fn a_stale_socket_is_no_obstacle() {
    let host = Host::new("  tick:\n    command: { run: ['true'] }\n");
    drop(std::os::unix::net::UnixListener::bind(host.path("control.sock")).unwrap());
    assert_eq!(host.cli(&["status"]).status.code(), Some(3));
    let daemon = host.daemon();
    assert!(daemon.stop().success());
    assert!(!host.path("control.sock").exists());
}

#[test]
fn systemd_hears_that_the_daemon_is_ready_lives_and_stops() {
    let host = Host::new("  tick:\n    command: { run: ['true'] }\n");
    let systemd = std::os::unix::net::UnixDatagram::bind(host.path("notify")).unwrap();
    systemd.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    let mut daemon = host
        .command(&["daemon"])
        .env("NOTIFY_SOCKET", host.path("notify"))
        .env("WATCHDOG_USEC", "300000")
        .spawn()
        .unwrap();
    let hear = || {
        let mut bytes = [0; 4096];
        let length = systemd.recv(&mut bytes).unwrap();
        text(&bytes[..length])
    };
    assert_eq!(hear(), "READY=1\n");
    // More than the one at the start: it goes on.
    assert_eq!([hear(), hear()], ["WATCHDOG=1\n", "WATCHDOG=1\n"]);
    let pid = rustix::process::Pid::from_child(&daemon);
    rustix::process::kill_process(pid, Signal::HUP).unwrap();
    wait_until("it reloads", || hear().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    wait_until("it is ready again", || hear() == "READY=1\n");
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    wait_until("it stops", || hear() == "STOPPING=1\n");
    assert!(daemon.wait().unwrap().success());
}

/// `number outcome` of each attempt.
fn attempts(row: &serde_json::Value) -> Vec<String> {
    let attempts = row["attempts"].as_array().unwrap().iter();
    attempts.map(|one| format!("{} {}", one["number"], one["outcome"].as_str().unwrap())).collect()
}

#[test]
fn attempts_that_fail_or_take_too_long_are_tried_again_as_often_as_agreed() {
    let host = Host::new(
        "  fails:\n    retries: { attempts: 3, backoff: 1s, max_backoff: 1s }\n    command: { shell: 'exit 7' }\n  \
           hangs:\n    timeout: 1s\n    retries: { attempts: 2, backoff: 1s }\n    command: { shell: 'sleep 60' }\n",
    );
    let daemon = host.daemon();
    for job in ["fails", "hangs"] {
        assert!(host.cli(&["run-now", job, "--detach"]).status.success());
    }
    let row = host.wait_for_outcome("fails", "failed");
    assert_eq!(attempts(&row), ["1 failed", "2 failed", "3 failed"]);
    assert_eq!(row["attempts"][2]["error"], "exit code 7");
    let row = host.wait_for_outcome("hangs", "timed_out");
    assert_eq!(attempts(&row), ["1 timed_out", "2 timed_out"]);
    assert!(daemon.stop().success());
    wait_until("nothing is left", || host.processes().is_empty());
}

#[test]
fn a_run_that_waits_for_its_next_attempt_goes_on_with_the_next_daemon_and_counts_them_all() {
    let host = Host::new(
        "  fails:\n    retries: { attempts: 2, backoff: 2s, max_backoff: 2s }\n    command: { shell: 'exit 7' }\n",
    );
    let daemon = host.daemon();
    assert!(host.cli(&["run-now", "fails", "--detach"]).status.success());
    host.wait_for("fails", "has failed once", |row| row["attempts"][0]["outcome"] == "failed");
    assert!(daemon.stop().success());
    let daemon = host.daemon();
    let row = host.wait_for_outcome("fails", "failed");
    assert_eq!(attempts(&row), ["1 failed", "2 failed"]);
    assert!(daemon.stop().success());
}
