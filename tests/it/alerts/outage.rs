//! A mail server that is down for an hour of the manual clock, while daemons come and go: each mail arrives once.

use std::fs;
use std::sync::atomic::Ordering;
use std::time::Duration;

use punk_eco_sched::ledger::Ledger;
use serde_json::json;

use super::{name, top};
use crate::support::daemon::{Host, wait_until};
use crate::support::smtp::{self, Smtp};
use crate::support::web::Server;
use crate::time::Edge;

const JOBS: [&str; 3] = ["backup", "monitoring", "renewal"];

/// Jobs that fail while there is a file of their name, each at a minute of its own.
fn jobs(host: &Host) -> String {
    let job = |(minute, name): (usize, &str)| {
        let bad = host.path(&format!("bad-{name}"));
        format!(
            "  {name}: {{ schedule: '{minute}-59/5 * * * *', command: {{ run: [/bin/sh, -c, '! test -e {}'] }} }}\n",
            bad.display()
        )
    };
    JOBS.into_iter().enumerate().map(job).collect()
}

fn set(host: &Host, bad: &[&str]) {
    for name in JOBS {
        let file = host.path(&format!("bad-{name}"));
        if bad.contains(&name) {
            fs::write(file, "").unwrap();
        } else {
            let _ = fs::remove_file(file);
        }
    }
}

/// Minute by minute.
fn pass(edge: &Edge<'_>, minutes: u32) {
    for _ in 0..minutes {
        edge.advance(60);
    }
}

#[test]
fn a_mail_server_that_is_down_for_an_hour_gets_each_mail_once() {
    if smtp::missing() {
        return;
    }
    let mut smtp = Smtp::start_with(json!({}));
    let host = Host::new("");
    host.write_table(&top(&smtp, "[infra]"), &jobs(&host));
    set(&host, &["backup"]);
    let edge = Edge::start(&host, "2026-01-01T09:59:00Z").deliver();
    pass(&edge, 2);
    wait_until("the first failure is told", || smtp.mails().len() == 1);
    edge.settle();
    wait_until("it is noted", || edge.ledger().notices().unwrap().is_empty());

    // Ten o'clock to eleven: nobody answers.
    smtp.stop();
    set(&host, &["monitoring"]);
    pass(&edge, 10);
    wait_until("it waits", || !edge.waiting.problems().is_empty());
    edge.stop();
    // While none runs, an hour doesn't stop.
    let mut edge = Edge::start(&host, "2026-01-01T10:15:00Z").deliver();
    set(&host, &["renewal"]);
    pass(&edge, 15);
    wait_until("it waits", || !edge.waiting.problems().is_empty());
    edge.kill_courier();
    edge.stop();
    let edge = Edge::start(&host, "2026-01-01T10:35:00Z").deliver();
    set(&host, &[]);
    pass(&edge, 25);
    let mails = smtp.mails();
    assert_eq!(mails.len(), 1, "{mails:?}");
    let due = edge.ledger().notices().unwrap();
    assert_eq!(due.len(), 5, "{due:?}");

    smtp.resume();
    // The longest pause between two tries.
    pass(&edge, 10);
    wait_until("all is told", || smtp.mails().len() >= 6);
    wait_until("all is noted", || edge.ledger().notices().unwrap().is_empty());
    assert_eq!(edge.waiting.problems(), [""; 0]);
    pass(&edge, 20);
    edge.stop();
    let edge = Edge::start(&host, "2026-01-01T11:31:00Z").deliver();
    pass(&edge, 20);
    edge.stop();

    let subjects = smtp.subjects();
    let of = |job: &str| -> Vec<&str> {
        let begins = format!("infra@shop.test: [punk-eco-sched] {job} ");
        subjects.iter().filter_map(|subject| subject.strip_prefix(&begins)?.split(' ').next()).collect()
    };
    for job in JOBS {
        assert_eq!(of(job), ["failed", "recovered"], "{job}: {subjects:?}");
    }
    assert_eq!(subjects.len(), 6, "{subjects:?}");
    // Each has an id of its own.
    let mut ids: Vec<String> =
        smtp.mails().iter().map(|mail| mail["headers"]["Message-ID"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 6, "{ids:?}");
    assert!(ids[0].ends_with(&format!("@{}>", name())), "{ids:?}");
}

#[test]
fn a_server_that_is_away_is_tried_again_as_the_clock_goes() {
    let rude = Server::start(drop);
    let host = Host::new("");
    let top = format!(
        "contacts: {{ hook: {{ webhook: 'http://127.0.0.1:{}/' }} }}\nalerts: {{ to: [hook] }}",
        rude.port
    );
    host.write_table(&top, "  x: { schedule: '0 10 * * *', command: { run: ['false'] } }\n");
    let edge = Edge::start(&host, "2026-01-01T09:59:59Z").deliver();
    edge.advance(1);
    // The pauses between the first six tries are two and a half minutes of real time.
    for tries in 1..=6 {
        wait_until(&format!("try {tries}"), || {
            // Two days of these steps, after which a notice is given up, take longer than this test waits.
            edge.clock.advance(Duration::from_secs(20));
            rude.taken.load(Ordering::SeqCst) >= tries
        });
    }
    edge.stop();
}
