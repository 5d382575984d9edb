//! Which ends of a run are told: the last failure, a timeout, an interruption; in a daemon and without one.

use std::process::Stdio;

use super::{moody, name, run, set_mood, top};
use crate::support::daemon::{Host, wait_until};
use crate::support::smtp::{self, Smtp};

#[test]
fn only_the_last_attempt_is_told() {
    if smtp::missing() {
        return;
    }
    let smtp = Smtp::start();
    let host = Host::new("");
    let job = "  twice: { retries: { attempts: 2, backoff: 1s }, command: { run: [/bin/false] } }\n";
    host.write_table(&top(&smtp, "[infra]"), job);
    let daemon = host.daemon();
    assert_eq!(run(&host, "twice"), Some(1));
    wait_until("it is told", || smtp.mails().len() == 1);
    assert!(daemon.stop().success());
    let text = smtp.mails()[0]["text"].as_str().unwrap().to_owned();
    assert!(text.contains("\n  reason    exit code 1\n  run       1, 2 attempts\n"), "{text}");
    assert_eq!(smtp.mails().len(), 1);
}

#[test]
fn a_timeout_is_told_and_a_cancel_is_not() {
    if smtp::missing() {
        return;
    }
    let smtp = Smtp::start();
    let host = Host::new("");
    let jobs = "  slow: { timeout: 1s, command: { run: [/bin/sleep, '60'] } }\n  \
                endless: { command: { run: [/bin/sleep, '60'] } }\n  \
                dry: { prune_backups: { directory: /nowhere/at/all, pattern: '*.gz', older_than: 30d, \
                require_newer_verified: false } }\n";
    host.write_table(&top(&smtp, "[infra]"), jobs);
    let daemon = host.daemon();
    assert!(host.cli(&["run-now", "endless", "--detach"]).status.success());
    host.wait_for_outcome("endless", "running");
    assert!(host.cli(&["cancel", "1"]).status.success());
    host.wait_for_outcome("endless", "cancelled");
    assert_eq!(host.cli(&["run-now", "dry", "--dry-run"]).status.code(), Some(1));
    assert_eq!(run(&host, "slow"), Some(1));
    wait_until("it is told", || !smtp.mails().is_empty());
    assert!(daemon.stop().success());
    assert_eq!(smtp.subjects(), [format!("infra@shop.test: [punk-eco-sched] slow timed out on {}", name())]);
    let text = smtp.mails()[0]["text"].as_str().unwrap().to_owned();
    assert!(text.contains("\n  reason    not done after 1s: ended by its timeout\n"), "{text}");
}

#[test]
fn a_run_that_the_host_took_with_it_is_told_by_the_next_daemon() {
    if smtp::missing() {
        return;
    }
    let smtp = Smtp::start();
    let host = Host::new("");
    // By the variable the test finds it again.
    let folder = host.dir.path().display();
    let job = format!("  long: {{ env: {{ OF: {folder} }}, command: {{ run: [/bin/sleep, '600'] }} }}\n");
    host.write_table(&top(&smtp, "[infra]"), &job);
    let daemon = host.daemon();
    assert!(host.cli(&["run-now", "long", "--detach"]).status.success());
    host.wait_for_outcome("long", "running");
    wait_until("it has started", || host.processes().iter().any(|(_, line)| line.contains("sleep")));
    // As a power cut: spawner and program go too.
    for (pid, _) in host.processes() {
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    daemon.kill();
    let daemon = host.daemon();
    wait_until("it is told", || !smtp.mails().is_empty());
    assert!(daemon.stop().success());
    assert_eq!(
        smtp.subjects(),
        [format!("infra@shop.test: [punk-eco-sched] long was interrupted on {}", name())]
    );
    let text = smtp.mails()[0]["text"].as_str().unwrap().to_owned();
    assert!(text.contains("\n  reason    the daemon or the host died under it\n"), "{text}");
}

#[test]
fn without_a_daemon_run_now_tells_it_before_it_ends() {
    if smtp::missing() {
        return;
    }
    let mut smtp = Smtp::start();
    let host = Host::new("");
    host.write_table(&top(&smtp, "[infra]"), &moody(&host, "backup"));
    set_mood(&host, "7");
    assert_eq!(run(&host, "backup"), Some(1));
    let failed = format!("infra@shop.test: [punk-eco-sched] backup failed on {}", name());
    let recovered = format!("infra@shop.test: [punk-eco-sched] backup recovered on {}", name());
    assert_eq!(smtp.subjects(), std::slice::from_ref(&failed));
    assert_eq!(run(&host, "backup"), Some(1));
    set_mood(&host, "ok");
    smtp.stop();
    assert_eq!(run(&host, "backup"), Some(0));
    assert_eq!(smtp.subjects(), std::slice::from_ref(&failed));
    smtp.resume();
    // What it could not deliver is the next daemon's.
    let daemon = host.daemon();
    wait_until("the recovery is told", || smtp.mails().len() > 1);
    assert!(daemon.stop().success());
    assert_eq!(smtp.subjects(), [failed, recovered]);
}

#[test]
fn what_a_run_now_beside_the_daemon_leaves_is_told_once() {
    if smtp::missing() {
        return;
    }
    let mut smtp = Smtp::stopped(serde_json::json!({}));
    let host = Host::new("");
    let end = host.path("end");
    let long = format!(
        "  long: {{ command: {{ shell: 'while ! [ -e {0} ]; do sleep 0.05; done; exit $(cat {0})' }} }}\n",
        end.display()
    );
    host.write_table(&top(&smtp, "[infra]"), &(long + "  x: { command: { run: [/bin/false] } }\n"));
    let mut beside = host.command(&["run-now", "long"]);
    let mut beside = beside.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    host.wait_for_outcome("long", "running");
    let daemon = host.daemon();
    assert_eq!(run(&host, "x"), Some(1));
    let waits = |alerts: &str| {
        host.json(&["status", "--json"])["problems"].to_string().contains(&format!("{alerts} for infra"))
    };
    wait_until("the first try has failed", || waits("1 alert waits"));
    std::fs::write(&end, "3").unwrap();
    assert_eq!(beside.wait().unwrap().code(), Some(1));
    wait_until("the daemon has what it left", || waits("2 alerts wait"));
    smtp.resume();
    wait_until("both are told", || smtp.mails().len() >= 2);
    // The daemon knows that it was failing.
    assert_eq!(run(&host, "long"), Some(1));
    std::fs::write(&end, "0").unwrap();
    assert_eq!(run(&host, "long"), Some(0));
    wait_until("the recovery is told", || smtp.mails().len() >= 3);
    assert!(daemon.stop().success());
    let told = |what: &str| format!("infra@shop.test: [punk-eco-sched] {what} on {}", name());
    let mut subjects = smtp.subjects();
    subjects.sort();
    assert_eq!(subjects, ["long failed", "long recovered", "x failed"].map(told));
}

#[test]
fn a_job_that_is_gone_is_forgotten_in_silence() {
    if smtp::missing() {
        return;
    }
    let smtp = Smtp::start();
    let host = Host::new("");
    let other = "  other: { command: { run: [/bin/false] } }\n";
    let both = moody(&host, "backup") + other;
    host.write_table(&top(&smtp, "[infra]"), &both);
    set_mood(&host, "7");
    let daemon = host.daemon();
    assert_eq!(run(&host, "backup"), Some(1));
    host.write_table(&top(&smtp, "[infra]"), other);
    assert!(host.cli(&["reload"]).status.success());
    host.write_table(&top(&smtp, "[infra]"), &both);
    assert!(host.cli(&["reload"]).status.success());
    set_mood(&host, "ok");
    assert_eq!(run(&host, "backup"), Some(0));
    assert_eq!(run(&host, "other"), Some(1));
    wait_until("both failures are told", || smtp.mails().len() >= 2);
    assert!(daemon.stop().success());
    let failed = |job: &str| format!("infra@shop.test: [punk-eco-sched] {job} failed on {}", name());
    assert_eq!(smtp.subjects(), [failed("backup"), failed("other")]);
}
