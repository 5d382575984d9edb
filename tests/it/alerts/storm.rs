//! Many failures at once: a handful of mails, and no job that nobody hears of.

use std::collections::BTreeSet;

use punk_eco_sched::ledger::Ledger;
use serde_json::json;

use super::{name, top};
use crate::support::daemon::{Host, wait_until};
use crate::support::smtp::{self, Smtp};
use crate::support::webhook::Webhook;
use crate::time::Edge;

fn failing(jobs: std::ops::Range<usize>, schedule: &str) -> String {
    jobs.map(|number| {
        format!("  j{number:03}: {{ schedule: '{schedule}', command: {{ run: [/bin/false] }} }}\n")
    })
    .collect()
}

/// The jobs that mails name in a line of their own, those of which they say only how many, and all mails.
fn told(smtp: &Smtp) -> (BTreeSet<String>, usize, usize) {
    let (mut named, mut more) = (BTreeSet::new(), 0);
    let mails = smtp.mails();
    for mail in &mails {
        let text = mail["text"].as_str().unwrap();
        for line in text.lines() {
            let job = line.trim_start().get(..4).filter(|_| line.contains(" failed"));
            if let Some(job) = job.filter(|job| job.starts_with('j')) {
                // Nobody hears of one twice: a mail of one job says so in its first line, and there alone.
                assert!(named.insert(job.to_owned()), "{job} is told twice: {text}");
            }
            let count = line.strip_prefix("  and ").and_then(|line| line.strip_suffix(" more"));
            more += count.map_or(0, |count| count.parse().unwrap());
        }
    }
    (named, more, mails.len())
}

#[test]
fn two_hundred_failures_at_once_are_a_handful_of_mails() {
    if smtp::missing() {
        return;
    }
    let smtp = Smtp::start();
    let host = Host::new("");
    host.write_table(&top(&smtp, "[infra]"), &failing(0..200, "@every 2s"));
    let daemon = host.daemon();
    let gathered = || -> usize {
        let status = host.json(&["status", "--json"]);
        let problem = status["problems"][0].as_str().unwrap_or_default().to_owned();
        let count = problem.split_once(" alerts wait for infra (email): gathered into one message, sent at ");
        count.map_or(0, |(count, _)| count.parse().unwrap())
    };
    wait_until("status says that the rest is gathered", || gathered() + smtp.mails().len() == 200);
    // The incidents are all there too, each once.
    let status = host.json(&["status", "--json"]);
    assert_eq!(status["incidents"].as_array().unwrap().len(), 200);
    let before = smtp.mails().len();
    assert!(before <= 10, "{before}");
    // Who stops has no time to gather.
    assert!(daemon.stop().success());
    let (named, more, mails) = told(&smtp);
    assert_eq!((named.len() + more, mails), (200, before + 1));
    let digest = smtp.mails().pop().unwrap();
    let rest = 200 - before;
    assert_eq!(
        digest["headers"]["Subject"],
        format!("[punk-eco-sched] {rest} messages: {rest} failed on {}", name())
    );
    assert!(digest["text"].as_str().unwrap().contains("\nWhat to type next:\n\n  punk-eco-sched status\n"));
    // Nothing waits for the next one.
    let ledger = punk_eco_sched::ledger::SqliteLedger::open_read_only(&host.path("state/ledger.db")).unwrap();
    assert!(ledger.notices().unwrap().is_empty());
}

#[test]
fn what_is_gathered_is_told_in_its_time_and_so_is_the_end_of_the_storm() {
    if smtp::missing() {
        return;
    }
    let smtp = Smtp::start();
    let host = Host::new("");
    let bad = host.path("bad");
    let jobs: String = (0..40)
        .map(|number| {
            format!(
                "  j{number:03}: {{ schedule: '* * * * *', command: {{ run: [/bin/sh, -c, '! test -e {}'] }} }}\n",
                bad.display()
            )
        })
        .collect();
    host.write_table(&top(&smtp, "[infra]"), &jobs);
    std::fs::write(&bad, "").unwrap();
    let edge = Edge::start(&host, "2026-01-01T09:59:58Z").deliver();
    edge.advance(2);
    let waits = || edge.ledger().notices().unwrap().len();
    let gathers = || edge.waiting.problems().first().is_some_and(|problem| problem.contains("gathered"));
    wait_until("they are gathered", || gathers() && waits() + smtp.mails().len() == 40);
    let before = smtp.mails().len();
    assert!(before <= 10, "{before}");
    // By which `history` finds the run, whenever it began.
    assert!(edge.ledger().notices().unwrap().iter().all(|one| one.story["slot"] == "2026-01-01T10:00:00Z"));
    edge.clock.advance(std::time::Duration::from_secs(30));
    wait_until("the digest is sent", || waits() == 0);
    assert_eq!(smtp.mails().len(), before + 1);
    let (named, more, _) = told(&smtp);
    assert_eq!((named.len(), more), (40, 0));

    // All are well again: one more mail, each of them in it.
    std::fs::remove_file(&bad).unwrap();
    edge.advance(30);
    wait_until("the recoveries are gathered", || gathers() && waits() + smtp.mails().len() == before + 41);
    let sent = smtp.mails().len();
    edge.clock.advance(std::time::Duration::from_secs(60));
    wait_until("the second digest is sent", || waits() == 0);
    edge.stop();
    let mails = smtp.mails();
    assert_eq!(mails.len(), sent + 1);
    let text = mails.last().unwrap()["text"].as_str().unwrap();
    assert_eq!(
        text.matches(" recovered, it failed since 2026-01-01 10:00:00+00:00").count(),
        41 - (sent - before)
    );
}

/// A host where so many notices wait for a webhook, each of a job of its own.
fn with_waiting(count: usize, port: u16) -> Host {
    let host = Host::new("");
    let top =
        format!("contacts: {{ hook: {{ webhook: 'http://127.0.0.1:{port}/' }} }}\nalerts: {{ to: [hook] }}");
    host.write_table(&top, "  x: { command: { run: [/bin/false] } }\n");
    let edge = Edge::start(&host, "2026-01-01T10:00:00Z");
    edge.run_now("x");
    edge.stop();
    let more = count - 1;
    let sql = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {more}) \
         INSERT INTO notices (id, at, job, run, contact, channel, kind, story) \
         SELECT id || '.' || i, at + i, job || i, run, contact, channel, kind, story FROM notices, n"
    );
    let ledger = rusqlite::Connection::open(host.path("state/ledger.db")).unwrap();
    assert_eq!(ledger.execute(&sql, ()).unwrap(), more);
    host
}

#[test]
fn ten_thousand_that_wait_at_the_start_are_one_message_and_none_is_left() {
    let webhook = Webhook::start(&[503, 200]);
    let host = with_waiting(10000, webhook.port);
    let edge = Edge::start(&host, "2026-01-01T10:01:00Z").deliver();
    wait_until("they are gathered", || {
        edge.waiting
            .problems()
            .first()
            .is_some_and(|problem| problem.starts_with("10000 alerts wait for hook"))
    });
    assert_eq!(webhook.posted().len(), 0);
    // The first try fails, and all of them wait.
    wait_until("the first try", || {
        edge.clock.advance(std::time::Duration::from_secs(30));
        !webhook.posted().is_empty()
    });
    wait_until("none is left", || {
        edge.clock.advance(std::time::Duration::from_secs(5));
        edge.ledger().notices().unwrap().is_empty()
    });
    edge.stop();
    let posted = webhook.posted();
    assert_eq!(posted.len(), 2);
    assert_eq!((&posted[0].body["id"], &posted[0].body["count"]), (&posted[1].body["id"], &json!(10_000)));
    assert_eq!(posted[1].body["notices"].as_array().unwrap().len(), 100);
}

/// How a webhook that gives these answers, and the last of them from then on, is told of thirty at once: how many
/// notices each of its messages is of, and how many were given up.
fn told_of_thirty(answers: &[u16]) -> (Vec<u64>, i64) {
    let webhook = Webhook::start(answers);
    let host = with_waiting(30, webhook.port);
    let edge = Edge::start(&host, "2026-01-01T10:01:00Z").deliver();
    wait_until("none is left", || {
        edge.clock.advance(std::time::Duration::from_secs(30));
        edge.ledger().notices().unwrap().is_empty()
    });
    edge.stop();
    let ledger = rusqlite::Connection::open(host.path("state/ledger.db")).unwrap();
    let given_up = "SELECT count(*) FROM events WHERE kind = 'alert_given_up'";
    let given_up: i64 = ledger.query_row(given_up, (), |row| row.get(0)).unwrap();
    let told = webhook.posted().iter().map(|posted| posted.body["count"].as_u64().unwrap_or(1)).collect();
    (told, given_up)
}

#[test]
fn a_digest_that_is_refused_is_told_one_by_one_where_a_single_message_is_taken() {
    // One that is too large: each comes by itself then.
    let (told, given_up) = told_of_thirty(&[413, 200]);
    assert_eq!((told[0], told.len(), told[1..].iter().sum::<u64>(), given_up), (30, 31, 30, 0));
    // Nor is it forgotten while the server is away.
    let (told, given_up) = told_of_thirty(&[413, 503, 200, 400, 200]);
    assert_eq!((told[0], told.len(), told[1..].iter().sum::<u64>(), given_up), (30, 32, 31, 1));
    // A receiver that takes nothing of us is asked once more, and not thirty times.
    assert_eq!(told_of_thirty(&[403]), (vec![30, 1], 30));
}
