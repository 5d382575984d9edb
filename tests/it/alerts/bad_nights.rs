//! Nights on which more than one thing goes wrong: what is to be told is told all the same.

use std::io::{BufRead, BufReader, Read, Write};
use std::sync::atomic::Ordering;

use serde_json::json;

use super::{name, run, top};
use crate::support::daemon::{Host, wait_until};
use crate::support::smtp::{self, Smtp};
use crate::support::web::{Server, until_closed};

/// `contacts:` and `alerts:` with whatever is at this port for a mail server.
fn mail_to(port: u16) -> String {
    format!(
        "contacts: {{ infra: {{ email: infra@shop.test }} }}\nalerts: {{ smtp: {{ host: 127.0.0.1, port: {port}, from: \
         sched@web.test }}, to: [infra] }}"
    )
}

#[test]
fn a_mail_server_whose_first_line_never_ends_fills_no_memory() {
    let flood = Server::start(|mut connection| {
        let piece = [b'2'; 1 << 16];
        while connection.write_all(&piece).is_ok() {}
    });
    let host = Host::new("");
    host.write_table(&mail_to(flood.port), "  x: { command: { run: [/bin/false] } }\n");
    let daemon = host.daemon();
    assert_eq!(run(&host, "x"), Some(1));
    let said = format!(
        "infra can't be told by email: SMTP at 127.0.0.1:{}: it says more than 64 KiB, which no mail server does; it is \
         tried again",
        flood.port
    );
    wait_until("it is given up long before its time", || host.daemon_log().contains("can't be told"));
    assert!(host.daemon_log().contains(&said), "{}", host.daemon_log());
    assert!(daemon.stop().success());
}

/// A host that was off for days, and has no network yet when its daemon starts; and a notice that can't be told at
/// all.
#[test]
fn a_notice_of_days_ago_is_not_given_up_by_its_first_failure_and_a_bad_one_silences_no_other() {
    if smtp::missing() {
        return;
    }
    let mut smtp = Smtp::stopped(json!({}));
    let host = Host::new("");
    let fails = "command: { run: [/bin/false] }";
    host.write_table(&top(&smtp, "[infra]"), &format!("  bad: {{ {fails} }}\n  old: {{ {fails} }}\n"));
    let daemon = host.daemon();
    assert_eq!((run(&host, "bad"), run(&host, "old")), (Some(1), Some(1)));
    daemon.kill();
    let ledger = rusqlite::Connection::open(host.path("state/ledger.db")).unwrap();
    let change = |sql: &str| assert_eq!(ledger.execute(sql, ()).unwrap(), 1, "{sql}");
    // A date before 1970 has no place in a mail.
    change("UPDATE notices SET at = -1 WHERE job = 'bad'");
    change("UPDATE notices SET at = at - 3 * 86400000000 WHERE job = 'old'");
    drop(ledger);
    std::fs::remove_file(host.path("daemon.err")).unwrap();
    let daemon = host.daemon();
    // A reload wakes who pauses.
    wait_until("both were tried", || {
        host.cli(&["reload"]);
        let log = host.daemon_log();
        log.contains("connection refused; it is tried again") && log.contains("a bug: the message of run 1")
    });
    smtp.resume();
    wait_until("the old one is told", || {
        host.cli(&["reload"]);
        smtp.mails().len() == 1
    });
    assert!(daemon.stop().success());
    assert_eq!(smtp.subjects(), [format!("infra@shop.test: [punk-eco-sched] old failed on {}", name())]);
    assert!(!host.daemon_log().contains("is not told"), "{}", host.daemon_log());
}

#[test]
fn a_webhook_that_takes_a_notice_and_never_ends_its_answer_gets_it_once() {
    let endless = Server::start(|mut connection| {
        let _ = connection.read(&mut [0; 1024]);
        let _ = connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
        until_closed(&mut connection);
    });
    let host = Host::new("");
    let top = format!(
        "contacts: {{ hook: {{ webhook: 'http://127.0.0.1:{}/' }} }}\nalerts: {{ to: [hook] }}",
        endless.port
    );
    host.write_table(&top, "  x: { command: { run: [/bin/false] } }\n");
    let daemon = host.daemon();
    assert_eq!(run(&host, "x"), Some(1));
    let told = "hook was told by webhook: x failed (run 1)";
    wait_until("it is told", || host.daemon_log().contains("told by webhook"));
    assert!(host.daemon_log().contains(told), "{}", host.daemon_log());
    assert!(daemon.stop().success());
    assert_eq!(endless.taken.load(Ordering::SeqCst), 1);
}

#[test]
fn a_mail_that_was_taken_is_sent_once_even_where_the_server_never_says_goodbye() {
    let server = Server::start(|connection| {
        let mut reader = BufReader::new(connection);
        let mut reply = "220 mail.test";
        loop {
            let _ = reader.get_mut().write_all(format!("{reply}\r\n").as_bytes());
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            reply = match line.trim_end() {
                "DATA" => {
                    let _ = reader.get_mut().write_all(b"354 go on\r\n");
                    while line != ".\r\n" {
                        line.clear();
                        if reader.read_line(&mut line).unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    "250 taken"
                }
                "QUIT" => return until_closed(reader.get_mut()),
                _ => "250 fine",
            };
        }
    });
    let host = Host::new("");
    host.write_table(&mail_to(server.port), "  x: { command: { run: [/bin/false] } }\n");
    let daemon = host.daemon();
    assert_eq!(run(&host, "x"), Some(1));
    wait_until("it is told", || host.daemon_log().contains("by email"));
    assert!(host.daemon_log().contains("infra was told by email: x failed (run 1)"), "{}", host.daemon_log());
    assert!(daemon.stop().success());
    assert_eq!(server.taken.load(Ordering::SeqCst), 1);
}
