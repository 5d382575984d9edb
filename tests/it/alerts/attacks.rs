//! Servers that break off in the middle, and daemons that die or are told otherwise in the middle: what was promised
//! holds, and what may come twice can be told by its id.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use punk_eco_sched::ledger::{Ledger, SqliteLedger};
use serde_json::json;

use super::{name, run, top};
use crate::support::daemon::{Host, wait_until};
use crate::support::smtp::{self, Smtp};
use crate::support::web::{Server, until_closed};
use crate::support::webhook::Webhook;
use crate::time::Edge;

const FAILS: &str = "  x: { command: { run: [/bin/false] } }\n";

/// How a mail ends.
#[derive(Clone, Copy)]
enum End {
    /// The connection breaks within it.
    BreaksOff,
    /// It is all there, and the server says nothing to it.
    Silence,
    /// The server breaks the connection instead of its reply.
    NoReply,
    Reply(&'static str),
}

/// Speaks just enough SMTP; each connection's mail ends as the next one of `ends`, and from then on as the last one.
struct Script {
    server: Server,
    /// The Message-ID of each mail that began.
    ids: Arc<Mutex<Vec<String>>>,
}

impl Script {
    fn start(ends: &'static [End]) -> Self {
        let ids: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = ids.clone();
        let server = Server::start(move |connection| {
            let _ = converse(connection, ends, &seen);
        });
        Self { server, ids }
    }

    fn ids(&self) -> Vec<String> {
        self.ids.lock().unwrap().clone()
    }

    fn top(&self) -> String {
        format!(
            "contacts: {{ infra: {{ email: infra@shop.test }} }}\nalerts: {{ smtp: {{ host: 127.0.0.1, port: {}, from: \
             sched@web.test }}, to: [infra] }}",
            self.server.port
        )
    }
}

fn converse(connection: TcpStream, ends: &[End], ids: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(connection);
    let mut say = "220 mail.test";
    loop {
        reader.get_mut().write_all(format!("{say}\r\n").as_bytes())?;
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        say = "250 fine";
        if line.trim_end() != "DATA" {
            continue;
        }
        reader.get_mut().write_all(b"354 go on\r\n")?;
        let mut end = ends[0];
        while line != ".\r\n" {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if let Some(id) = line.strip_prefix("Message-ID: ") {
                let mut ids = ids.lock().unwrap();
                end = ends[ids.len().min(ends.len() - 1)];
                ids.push(id.trim_end().to_owned());
                if matches!(end, End::BreaksOff) {
                    return Ok(());
                }
            }
        }
        match end {
            End::Reply(reply) => say = reply,
            End::NoReply | End::BreaksOff => return Ok(()),
            End::Silence => {
                until_closed(reader.get_mut());
                return Ok(());
            }
        }
    }
}

#[test]
fn a_mail_that_breaks_off_or_is_put_off_is_sent_again_under_the_same_id() {
    let script = Script::start(&[
        End::BreaksOff,
        End::Reply("451 4.3.0 later"),
        End::NoReply,
        End::Reply("452 4.2.2 the mailbox is full"),
        End::Reply("250 taken"),
    ]);
    let host = Host::new("");
    host.write_table(&script.top(), "  x: { schedule: '0 10 * * *', command: { run: ['false'] } }\n");
    let edge = Edge::start(&host, "2026-01-01T09:59:59Z").deliver();
    edge.advance(1);
    wait_until("it is told", || {
        edge.clock.advance(Duration::from_secs(60));
        script.ids().len() == 5 && edge.ledger().notices().unwrap().is_empty()
    });
    assert_eq!(edge.waiting.problems(), [""; 0]);
    edge.stop();
    let ids = script.ids();
    assert!(ids.iter().all(|id| *id == ids[0] && id.ends_with(&format!("@{}>", name()))), "{ids:?}");
}

#[test]
fn a_mail_that_was_taken_and_not_noted_comes_again_under_the_same_id() {
    let script = Script::start(&[End::Silence, End::Reply("250 taken")]);
    let host = Host::new("");
    host.write_table(&script.top(), FAILS);
    let daemon = host.daemon();
    assert_eq!(run(&host, "x"), Some(1));
    wait_until("the mail is there", || script.ids().len() == 1);
    daemon.kill();
    let daemon = host.daemon();
    wait_until("it is there again", || {
        host.daemon_log().contains("infra was told by email: x failed (run 1)")
    });
    assert!(daemon.stop().success());
    let daemon = host.daemon();
    assert!(daemon.stop().success());
    let ids = script.ids();
    assert_eq!((ids.len(), &ids[0]), (2, &ids[1]));
}

/// Whatever is posted.
fn answering(answer: &'static str) -> Server {
    Server::start(move |mut connection| {
        let _ = connection.read(&mut [0; 1 << 16]);
        let _ = connection.write_all(answer.as_bytes());
        let _ = connection.shutdown(std::net::Shutdown::Write);
        until_closed(&mut connection);
    })
}

#[test]
fn a_webhook_that_answers_nonsense_gets_it_until_it_takes_it() {
    let garbage = answering("SMTP or so\r\n\r\n");
    let moved = answering("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n");
    let broken = answering("HTTP/1.1 500 Oh\r\ncontent-length: 1000\r\n\r\nno");
    let slow = Webhook::start(&[200]);
    let host = Host::new("");
    let file = host.path("address");
    let hook = |server: &Server| format!("webhook: 'http://127.0.0.1:{}/s3cret'", server.port);
    host.write_table(
        &format!(
            "contacts: {{ garbage: {{ {} }}, moved: {{ {} }}, broken: {{ {} }}, gone: {{ webhook: '${{file:{}}}' }} }}\n\
             alerts: {{ to: [garbage, moved, broken, gone] }}",
            hook(&garbage),
            hook(&moved),
            hook(&broken),
            file.display()
        ),
        "  x: { schedule: '0 10 * * *', command: { run: ['false'] } }\n",
    );
    std::fs::write(&file, format!("http://127.0.0.1:{}/s3cret", slow.port)).unwrap();
    let edge = Edge::start(&host, "2026-01-01T09:59:59Z").deliver();
    std::fs::remove_file(&file).unwrap();
    edge.advance(1);
    wait_until("all four wait", || edge.waiting.problems().len() == 4);
    let said = edge.waiting.problems().join("\n").replace(&format!("{}", file.display()), "FILE");
    let expected = [
        format!("1 alert waits for broken (webhook): http://127.0.0.1:{}/… answers 500 since ", broken.port),
        format!(
            "1 alert waits for garbage (webhook): what 127.0.0.1:{} answers can't be read as HTTP: ",
            garbage.port
        ),
        "1 alert waits for gone (webhook): ${file:FILE}: FILE can't be read: No such file or directory"
            .to_owned(),
        format!("1 alert waits for moved (webhook): http://127.0.0.1:{}/… answers 302 since ", moved.port),
    ];
    for expected in expected {
        assert!(said.contains(&expected), "{expected}\n{said}");
    }
    assert!(!said.contains("s3cret"), "{said}");
    std::fs::write(&file, format!("http://127.0.0.1:{}/s3cret", slow.port)).unwrap();
    wait_until("the one whose file is back is told", || {
        edge.clock.advance(Duration::from_secs(60));
        slow.posted().len() == 1
    });
    wait_until("the others go on", || {
        edge.clock.advance(Duration::from_secs(600));
        [&garbage, &moved, &broken]
            .iter()
            .all(|server| server.taken.load(std::sync::atomic::Ordering::SeqCst) >= 3)
    });
    assert_eq!(edge.waiting.problems().len(), 3);
    edge.stop();
}

#[test]
fn a_contact_that_goes_while_its_digest_is_gathered_is_given_up_whole() {
    let webhook = Webhook::start(&[200]);
    let host = Host::new("");
    let jobs: String = (0..60)
        .map(|number| {
            format!("  j{number:02}: {{ schedule: '@every 2s', command: {{ run: [/bin/false] }} }}\n")
        })
        .collect();
    let table = |contacts: &str, to: &str| {
        host.write_table(&format!("contacts: {{ {contacts} }}\nalerts: {{ to: [{to}] }}"), &jobs);
    };
    let hook = format!("hook: {{ webhook: 'http://127.0.0.1:{}/' }}", webhook.port);
    table(&format!("{hook}, other: {{ webhook: 'http://127.0.0.1:1/' }}"), "hook");
    let daemon = host.daemon();
    let waits = || -> usize {
        let status = host.json(&["status", "--json"]);
        let problem = status["problems"][0].as_str().unwrap_or_default().to_owned();
        let count = problem.split_once(" alerts wait for hook (webhook): gathered ");
        count.map_or(0, |(count, _)| count.parse().unwrap())
    };
    wait_until("all are told or gathered", || waits() > 0 && waits() + webhook.posted().len() == 60);
    let told = webhook.posted().len();
    table("other: { webhook: 'http://127.0.0.1:1/' }", "other");
    assert!(host.cli(&["reload"]).status.success());
    assert!(daemon.stop().success());
    assert_eq!(webhook.posted().len(), told);
    let log = host.daemon_log();
    let given_up = log.matches("hook is not told by webhook that j").count();
    assert_eq!(given_up, 60 - told, "{log}");
    let ledger = SqliteLedger::open_read_only(&host.path("state/ledger.db")).unwrap();
    let left: Vec<_> =
        ledger.notices().unwrap().into_iter().filter(|notice| notice.contact == "hook").collect();
    assert!(left.is_empty(), "{left:?}");
}

/// A mail server that takes one mail and puts off the digest: nothing is lost, and nothing told twice.
#[test]
fn a_digest_that_is_put_off_takes_with_it_what_comes_meanwhile() {
    if smtp::missing() {
        return;
    }
    let mut smtp = Smtp::stopped(json!({}));
    let host = Host::new("");
    let jobs: String = (0..40)
        .map(|number| {
            let minute = number / 20;
            format!("  j{number:02}: {{ schedule: '{minute} 10 * * *', command: {{ run: [/bin/false] }} }}\n")
        })
        .collect();
    host.write_table(&top(&smtp, "[infra]"), &jobs);
    let edge = Edge::start(&host, "2026-01-01T09:59:59Z").deliver();
    let waits = || edge.ledger().notices().unwrap().len();
    edge.advance(1);
    wait_until("twenty wait", || waits() == 20);
    for minute in 1..4 {
        edge.advance(60);
        wait_until("it was tried", || {
            edge.waiting.problems().iter().any(|problem| problem.contains("refused") || minute == 1)
        });
    }
    assert_eq!(waits(), 40);
    smtp.resume();
    wait_until("all are told", || {
        edge.clock.advance(Duration::from_secs(60));
        waits() == 0
    });
    edge.stop();
    let text: String = smtp.mails().iter().map(|mail| mail["text"].as_str().unwrap().to_owned()).collect();
    for number in 0..40 {
        let line = format!("\n  j{number:02} failed, since ");
        assert_eq!(text.matches(&line).count(), 1, "j{number:02}: {text}");
    }
    assert!(smtp.mails().len() <= 2, "{:?}", smtp.subjects());
}
