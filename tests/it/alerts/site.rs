//! A site through its bad day: a real nginx before a small application, its log rotated twice, and a real mail server. What
//! is told has the figures that an independent count of the log gives.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::{name, run, top};
use crate::support::daemon::{Host, wait_until};
use crate::support::missing::lacks;
use crate::support::nginx::Nginx;
use crate::support::server::program;
use crate::support::smtp::{self, Smtp};
use crate::support::web::{self, Server};

/// What the application does with a request, by its path.
fn application() -> Server {
    Server::start(|mut connection| {
        let request = web::request(&mut connection);
        let path = request.split(' ').nth(1).unwrap_or_default();
        if path == "/slow" {
            std::thread::sleep(Duration::from_millis(600));
        }
        let status = if path == "/broken" { "500 Internal Server Error" } else { "200 OK" };
        let _ = write!(connection, "HTTP/1.1 {status}\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
    })
}

struct Site {
    nginx: Nginx,
    _application: Server,
}

/// All that the log says, read in another way than the program does.
#[derive(Debug, PartialEq)]
struct Count {
    requests: u64,
    errors: u64,
    /// Milliseconds.
    p95: u64,
}

impl Site {
    fn start() -> Self {
        let application = application();
        let nginx = Nginx::before(application.port);
        Self { nginx, _application: application }
    }

    fn log(&self, suffix: &str) -> PathBuf {
        self.nginx.prefix().join(format!("access.log{suffix}"))
    }

    /// So many requests to a path, `at_once` of them beside each other.
    fn ask(&self, path: &str, count: usize, at_once: usize) {
        std::thread::scope(|scope| {
            for _ in 0..at_once {
                scope.spawn(|| (0..count / at_once).for_each(|_| self.get(path)));
            }
        });
    }

    fn get(&self, path: &str) {
        let mut connection = TcpStream::connect(("127.0.0.1", self.nginx.http)).unwrap();
        write!(connection, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
    }

    /// Waits until nginx has written so many lines in all: it does so after the answer.
    fn has_logged(&self, requests: u64) {
        wait_until(&format!("{requests} requests are in the log"), || self.count().requests == requests);
    }

    fn count(&self) -> Count {
        let mut took = vec![];
        let mut errors = 0;
        for line in self.lines() {
            // 127.0.0.1 - - [23/Nov/2026:10:00:00 +0000] "GET / HTTP/1.0" 200 2 "-" "-" 0.001
            let fields: Vec<&str> = line.split(' ').collect();
            errors += u64::from(fields[8].starts_with('5'));
            let (seconds, milliseconds) = fields[12].split_once('.').unwrap();
            took.push(seconds.parse::<u64>().unwrap() * 1000 + milliseconds.parse::<u64>().unwrap());
        }
        took.sort_unstable();
        // Nearest rank: the smallest that 95 of 100 don't exceed.
        let rank = (took.len() * 95).div_ceil(100).saturating_sub(1);
        Count { requests: took.len() as u64, errors, p95: took.get(rank).copied().unwrap_or(0) }
    }

    /// Of the log and of all that was rotated away.
    fn lines(&self) -> Vec<String> {
        let mut text = String::new();
        for suffix in ["", ".1", ".2"] {
            text += &fs::read_to_string(self.log(suffix)).unwrap_or_default();
        }
        if self.log(".2.gz").exists() {
            let unpacked = program("gzip").arg("-dc").arg(self.log(".2.gz")).output().unwrap();
            text += &String::from_utf8(unpacked.stdout).unwrap();
        }
        text.lines().map(str::to_owned).collect()
    }

    /// As logrotate does it for nginx: rename, then USR1.
    fn rotate(&self) {
        if self.log(".1").exists() {
            fs::rename(self.log(".1"), self.log(".2")).unwrap();
            assert!(program("gzip").arg(self.log(".2")).status().unwrap().success());
        }
        fs::rename(self.log(""), self.log(".1")).unwrap();
    }

    fn reopen(&self) {
        self.nginx.signal("reopen");
        wait_until("nginx writes a new log", || self.log("").exists());
    }
}

/// What the newest run measured, by check.
fn measured(host: &Host, check: &str) -> Value {
    let row = host.history("monitoring").into_iter().next().unwrap();
    let results = row["facts"]["results"].as_array().unwrap().clone();
    results.into_iter().find(|result| result["name"] == check).unwrap()["value"].clone()
}

#[test]
#[expect(clippy::cast_precision_loss, reason = "some hundred requests")]
fn a_site_that_fails_is_slow_stops_and_comes_back_is_told_with_the_figures_of_its_log() {
    if smtp::missing() || lacks("nginx") || lacks("gzip") {
        return;
    }
    let (smtp, mut site) = (Smtp::start(), Site::start());
    let host = Host::new("");
    let (log, port) = (site.log(""), site.nginx.http);
    let log = log.display();
    host.write_table(
        &top(&smtp, "[infra]"),
        &format!(
            "  monitoring:\n    health_check:\n      checks:\n        \
             - http: {{ name: page, url: 'http://127.0.0.1:{port}/health' }}\n        \
             - access_log: {{ name: errors, path: {log}, over: 1h, errors_below: 1%, p95_below: 1h }}\n        \
             - access_log: {{ name: speed, path: {log}, over: 1h, errors_below: 100%, p95_below: 500ms }}\n"
        ),
    );
    let daemon = host.daemon();
    let on = format!(" on {}", name());
    let mut told: Vec<String> = vec![];
    // The exit code, and what is told; the figures of both checks are those of the log.
    let mut look = |site: &Site, expected: &Count, exit: i32, news: &[&str]| -> Vec<Value> {
        site.has_logged(expected.requests);
        let count = site.count();
        assert_eq!((count.requests, count.errors), (expected.requests, expected.errors));
        assert_eq!(run(&host, "monitoring"), Some(exit), "{count:?}: {:?}", host.history("monitoring")[0]);
        let share = (count.errors as f64 * 100_000.0 / count.requests as f64).round() / 1000.0;
        for check in ["errors", "speed"] {
            let value =
                json!({ "requests": count.requests, "errors": share, "p95": count.p95 as f64 / 1000.0 });
            assert_eq!(measured(&host, check), value, "{check}");
        }
        told.extend(
            news.iter().map(|one| format!("infra@shop.test: [punk-eco-sched] monitoring: {one}{on}")),
        );
        wait_until(&format!("{news:?} is told"), || smtp.mails().len() >= told.len());
        assert_eq!(smtp.subjects(), told);
        assert_eq!(count.p95 >= 500, expected.p95 >= 500, "{count:?}");
        smtp.mails().split_off(told.len() - news.len())
    };
    let logged = |requests, errors, p95| Count { requests, errors, p95 };

    site.ask("/", 200, 1);
    look(&site, &logged(200, 0, 0), 0, &[]);
    // Two of a hundred.
    site.ask("/broken", 6, 1);
    site.ask("/", 94, 1);
    let mails = look(&site, &logged(300, 6, 0), 1, &["errors failed"]);
    let text = mails[0]["text"].as_str().unwrap();
    assert!(
        text.contains("\n  errors: 300 requests in 1h, 6 of them failed: 2 %, asked for: below 1%;"),
        "{text}"
    );
    look(&site, &logged(300, 6, 0), 1, &[]);

    site.rotate();
    site.reopen();
    site.ask("/slow", 40, 20);
    let mails = look(&site, &logged(340, 6, 600), 1, &["speed failed"]);
    let text = mails[0]["text"].as_str().unwrap();
    let p95 = format!("; 95 % within {} ms, asked for: below 500ms\n", site.count().p95);
    assert!(
        text.contains("\n  speed: 340 requests in 1h, 6 of them failed: ") && text.contains(&p95),
        "{text}"
    );
    // Errors grow rare, what was slow still counts.
    site.ask("/", 400, 1);
    let mails = look(&site, &logged(740, 6, 600), 1, &["errors recovered"]);
    let text = mails[0]["text"].as_str().unwrap();
    assert!(
        text.contains("\n  errors: 740 requests in 1h, 6 of them failed: 0.8 %, asked for: below 1%;"),
        "{text}"
    );
    assert!(text.contains("\n    it failed in 3 runs, since "), "{text}");

    site.nginx.stop();
    look(&site, &logged(740, 6, 600), 1, &["page failed"]);
    look(&site, &logged(740, 6, 600), 1, &[]);
    // The log is rotated for the second time while nobody writes it.
    site.rotate();
    site.nginx.restart();
    look(&site, &logged(740, 6, 600), 1, &["page recovered"]);
    site.ask("/", 600, 1);
    look(&site, &logged(1340, 6, 0), 0, &["speed recovered"]);
    look(&site, &logged(1340, 6, 0), 0, &[]);
    assert!(daemon.stop().success());
    assert_eq!(smtp.subjects(), told);
}
