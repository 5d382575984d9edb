//! A job that takes the daemon down with it is held after the third time, and everything else goes on.

use crate::support::daemon::{Daemon, Host, wait_until};
use crate::support::webhook::Webhook;

/// Starts daemons as systemd would, each when the one before it has died, until something is so.
fn restarted_until<'a>(
    host: &'a Host,
    mut daemon: Daemon<'a>,
    what: &str,
    mut condition: impl FnMut() -> bool,
) -> Daemon<'a> {
    wait_until(what, || {
        if daemon.has_ended() {
            daemon = host.spawn_daemon();
        }
        condition()
    });
    daemon
}

fn lines(host: &Host, name: &str) -> usize {
    std::fs::read_to_string(host.path(name)).unwrap_or_default().lines().count()
}

/// A job that kills the daemon, the spawner and itself, and one beside it that harms nobody. And who hears of it.
fn table(host: &Host, webhook: &Webhook, policies: &str) {
    let dir = host.dir.path().display();
    let top = format!(
        "contacts: {{ infra: {{ webhook: 'http://127.0.0.1:{}/' }} }}\nalerts: {{ to: [infra] }}",
        webhook.port
    );
    host.write_table(
        &top,
        &format!(
            "  killer:\n    schedule: '*/2 * * * * *'\n{policies}    command: {{ shell: 'echo $PUNK_ECO_SLOT >> {dir}/started; \
             test -e {dir}/tame || kill -9 $(cat {dir}/state/lock) $PPID $$' }}\n  \
             tick:\n    schedule: '1/2 * * * * *'\n    missed: skip\n    command: {{ shell: 'echo >> {dir}/ticks' }}\n"
        ),
    );
}

/// The daemon may die while it is asked.
fn is_held(host: &Host) -> bool {
    let status = host.cli(&["status", "--json"]).stdout;
    let status: serde_json::Value = serde_json::from_slice(&status).unwrap_or_default();
    status["paused"].as_array().is_some_and(|paused| paused.iter().any(|pause| pause["job"] == "killer"))
}

/// `runs`: how many rows the three starts make.
fn check(interrupted: &str, runs: usize) {
    let webhook = Webhook::start(&[200]);
    let host = Host::new("");
    table(&host, &webhook, &format!("    interrupted: {interrupted}\n"));
    let daemon = restarted_until(&host, host.spawn_daemon(), "the job is held", || is_held(&host));
    let ticks = lines(&host, "ticks");
    wait_until("the other job goes on", || lines(&host, "ticks") > ticks + 2);
    assert_eq!(lines(&host, "started"), 3);
    let rows = host.json(&["history", "killer", "-n", "1000", "--outcome", "interrupted", "--json"]);
    let attempts: Vec<usize> =
        rows.as_array().unwrap().iter().map(|row| row["attempts"].as_array().unwrap().len()).collect();
    assert_eq!((attempts.len(), attempts.iter().sum::<usize>()), (runs, 3), "{rows:#}");
    host.wait_for("killer", "a slot that is not run", |row| row["reason"] == "paused");
    let last = rows[0]["run"].as_i64().unwrap();
    let why = format!(
        "3 attempts in a row were interrupted by the death of the daemon or the host, the last in run {last}"
    );
    let pause = host.json(&["status", "--json"])["paused"][0].clone();
    assert_eq!(pause["by"], format!("the daemon: {why}"));
    let listed = String::from_utf8(host.cli(&["list"]).stdout).unwrap();
    let line = listed.lines().find(|line| line.starts_with("killer")).unwrap();
    assert!(line.contains("(held)"), "{listed}");

    // A daemon that is restarted in order holds it still, and says so no second time.
    assert!(daemon.stop().success());
    let daemon = host.daemon();
    wait_until("it is told", || webhook.posted().iter().any(|posted| posted.body["event"] == "held"));
    assert!(is_held(&host));
    let started = webhook.posted().into_iter().find(|posted| posted.body["event"] == "held").unwrap().body;
    assert_eq!((&started["job"], &started["run"]), (&"killer".into(), &last.into()));
    assert_eq!(started["reason"], why);
    let next: Vec<_> = started["next"].as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect();
    assert_eq!((next.len(), next[3]), (4, "punk-eco-sched resume killer"), "{next:?}");
    assert!(next[2].starts_with("punk-eco-sched why killer 20"), "{next:?}");

    // Somebody resumes it: it starts again, and the count begins anew.
    assert!(host.cli(&["resume", "killer"]).status.success());
    let daemon =
        restarted_until(&host, daemon, "it is held again", || lines(&host, "started") > 5 && is_held(&host));
    assert_eq!(lines(&host, "started"), 6);
    // By hand it runs all the same; its success is a recovery, and the hold stays until it is lifted.
    std::fs::write(host.path("tame"), "").unwrap();
    assert!(host.cli(&["run-now", "killer"]).status.success());
    assert!(is_held(&host));
    assert!(host.cli(&["resume", "killer"]).status.success());
    wait_until("slots are taken again", || lines(&host, "started") > 8);
    wait_until("the recovery is told", || {
        webhook.posted().iter().any(|posted| posted.body["event"] == "recovered")
    });
    assert!(daemon.stop().success());
    let posted = webhook.posted();
    let events: Vec<_> = posted
        .iter()
        .filter(|posted| posted.body["job"] == "killer")
        .map(|posted| posted.body["event"].as_str().unwrap())
        .collect();
    // With `leave` its first run ends before the others, and is told as any that is interrupted.
    let first: &[&str] = if runs == 1 { &[] } else { &["failed"] };
    assert_eq!(events, [first, &["held", "held", "recovered"]].concat());
}

#[test]
fn a_job_whose_attempts_kill_the_daemon_is_held_after_the_third() {
    check("rerun", 1);
}

#[test]
fn a_job_whose_runs_kill_the_daemon_is_held_after_the_third() {
    check("leave", 3);
}

#[test]
fn a_job_that_only_ran_when_somebody_killed_the_daemon_is_not_held() {
    let host = Host::new("");
    let dir = host.dir.path().display().to_string();
    host.write_jobs(&format!(
        "  slow:\n    command: {{ shell: 'echo $PPID >> {dir}/started; while [ ! -e {dir}/go ]; do sleep 0.05; done' }}\n"
    ));
    let mut begun = 0;
    for round in 0..4 {
        let _ = std::fs::remove_file(host.path("go"));
        let daemon = host.daemon();
        assert!(host.cli(&["run-now", "slow", "--detach"]).status.success());
        begun += 1;
        wait_until("it runs", || lines(&host, "started") == begun);
        // As a host that goes down: nothing of it is left.
        for (pid, _) in host.processes() {
            let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        drop(daemon);
        wait_until("nothing is left", || host.processes().is_empty());
        let daemon = host.daemon();
        host.wait_for_outcome("slow", "interrupted");
        assert_eq!(host.json(&["status", "--json"])["paused"], serde_json::json!([]), "round {round}");
        std::fs::write(host.path("go"), "").unwrap();
        assert!(host.cli(&["run-now", "slow"]).status.success());
        begun += 1;
        assert!(daemon.stop().success());
    }
}
