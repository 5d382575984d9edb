//! Who hears of a failure: a real daemon, a real mail server, and a webhook's receiver.

use serde_json::{Value, json};

use crate::support::daemon::{Host, text, wait_until};
use crate::support::smtp::Smtp;

/// `contacts:` and `alerts:` with this mail server and whoever is named in `to`.
fn top(smtp: &Smtp, to: &str) -> String {
    format!(
        "contacts:\n  infra: {{ email: infra@shop.test }}\n  security: {{ email: security@shop.test }}\n\
         alerts: {{ smtp: {{ {} }}, to: {to} }}",
        smtp.section()
    )
}

/// A job that does as the file beside it says: `ok`, or an exit code.
fn moody(host: &Host, name: &str) -> String {
    let mood = host.path("mood");
    format!(
        "  {name}:\n    description: What the test wants é\n    \
         command: {{ shell: 'echo \"the mood is $(cat {0})\"; test $(cat {0}) = ok || exit $(cat {0})' }}\n",
        mood.display()
    )
}

fn set_mood(host: &Host, mood: &str) {
    std::fs::write(host.path("mood"), mood).unwrap();
}

/// Runs a job through the daemon, to its end.
fn run(host: &Host, job: &str) -> Option<i32> {
    host.cli(&["run-now", job]).status.code()
}

#[test]
fn a_failure_is_told_once_and_so_is_the_recovery() {
    let smtp = Smtp::start();
    let host = Host::new("");
    host.write_table(&top(&smtp, "[infra]"), &moody(&host, "backup"));
    let daemon = host.daemon();
    set_mood(&host, "7");
    for _ in 0..3 {
        assert_eq!(run(&host, "backup"), Some(1));
    }
    set_mood(&host, "ok");
    for _ in 0..2 {
        assert_eq!(run(&host, "backup"), Some(0));
    }
    wait_until("both mails are there", || smtp.mails().len() >= 2);
    daemon.stop();
    let mails = smtp.mails();
    println!("{}\n{}", mails[0]["raw"].as_str().unwrap(), mails[1]["raw"].as_str().unwrap());
    assert_eq!(mails.len(), 2);
}
