//! The checks of a job are told one by one: what fails because of another with that one, and nothing before its time.

use std::fs;

use super::{name, run, top};
use crate::support::daemon::{Host, wait_until};
use crate::support::smtp::{self, Smtp};

/// A check that fails while there is a file of its name.
fn check(host: &Host, name: &str, more: &str) -> String {
    let file = host.path(&format!("bad-{name}"));
    format!(
        "        - {{ name: {name}, {more} command: {{ run: [/bin/sh, -c, '! test -e {}'] }} }}\n",
        file.display()
    )
}

fn set(host: &Host, bad: &[&str]) {
    for name in ["db", "page", "slow"] {
        let file = host.path(&format!("bad-{name}"));
        if bad.contains(&name) {
            fs::write(file, "").unwrap();
        } else {
            let _ = fs::remove_file(file);
        }
    }
}

#[test]
fn checks_have_incidents_of_their_own_over_restarts_and_pauses() {
    if smtp::missing() {
        return;
    }
    let smtp = Smtp::start();
    let host = Host::new("");
    let checks = [
        check(&host, "db", ""),
        check(&host, "page", "because_of: [db],"),
        check(&host, "slow", "for: '2/3', severity: warning,"),
    ];
    host.write_table(
        &top(&smtp, "[infra]"),
        &format!("  monitoring:\n    health_check:\n      checks:\n{}", checks.concat()),
    );
    let on = format!(" on {}", name());
    let mut told: Vec<String> = vec![];
    let mut look = |bad: &[&str], exit: i32, news: &[&str]| {
        set(&host, bad);
        assert_eq!(run(&host, "monitoring"), Some(exit), "{bad:?}");
        told.extend(
            news.iter().map(|one| format!("infra@shop.test: [punk-eco-sched] monitoring: {one}{on}")),
        );
        wait_until(&format!("{bad:?} is told"), || smtp.mails().len() >= told.len());
        assert_eq!(smtp.subjects(), told, "{bad:?}");
    };
    let daemon = host.daemon();
    look(&[], 0, &[]);
    look(&["db", "page"], 1, &["db failed"]);
    // The first bad look of three.
    look(&["db", "page", "slow"], 1, &[]);
    daemon.kill();
    let daemon = host.daemon();
    look(&["db", "page", "slow"], 1, &["slow failed"]);
    // The page outlives its cause.
    look(&["page", "slow"], 1, &["db recovered", "page failed"]);
    look(&["slow"], 0, &["page recovered"]);
    look(&[], 0, &[]);
    look(&[], 0, &["slow recovered"]);
    // Work that was announced.
    assert!(host.cli(&["pause", "monitoring"]).status.success());
    look(&["db"], 1, &[]);
    assert!(host.cli(&["resume", "monitoring"]).status.success());
    look(&["db"], 1, &["db failed"]);
    let mails = smtp.mails();
    let text = mails[0]["text"].as_str().unwrap();
    assert!(text.contains("\n    therefore also: page\n"), "{text}");
    let slow = mails[1]["text"].as_str().unwrap();
    assert!(slow.contains("  slow (warning): exit code 1"), "{slow}");
    assert!(slow.contains("2 of the last 3 looks were bad, 2 make it fail"), "{slow}");
    assert!(daemon.stop().success());
}
