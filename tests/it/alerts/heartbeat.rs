//! Heartbeats of a real daemon. The service behind them is somebody's cloud: a server of the test stands in for it, and
//! speaks as healthchecks.io does.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{moody, name, run, set_mood};
use crate::support::daemon::{Host, text, wait_until};
use crate::support::server::free_port;

/// What was asked: the first line without its version, and the body.
type Asked = (String, String);

struct Service {
    port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
    /// Takes requests and answers none.
    hangs: Arc<AtomicBool>,
}

impl Service {
    fn start() -> Self {
        Self::on(free_port(), "200 OK")
    }

    fn on(port: u16, answer: &'static str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let service = Self { port, asked: Arc::default(), hangs: Arc::default() };
        let (asked, hangs) = (service.asked.clone(), service.hangs.clone());
        // Ends with the process of the test.
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (asked, hangs) = (asked.clone(), hangs.clone());
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(connection);
                    let Some(one) = read(&mut reader) else { return };
                    asked.lock().unwrap().push(one);
                    if hangs.load(Ordering::SeqCst) {
                        // Until the other end has had enough.
                        let _ = reader.read(&mut [0]);
                        return;
                    }
                    let answer =
                        format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                    let _ = reader.get_mut().write_all(answer.as_bytes());
                });
            }
        });
        service
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/ping/{{job}}", self.port)
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The first lines, each without its `rid`; every one must have it.
    fn lines(&self) -> Vec<String> {
        let without = |line: &str| {
            let (line, id) = line.split_once("rid=").unwrap_or_else(|| panic!("{line} has no rid"));
            assert_eq!(id.len(), 36, "{id}");
            line.trim_end_matches(['?', '&']).to_owned()
        };
        self.asked().iter().map(|(line, _)| without(line)).collect()
    }

    fn wait_for(&self, expected: &[&str]) {
        wait_until(&format!("{expected:?} are asked"), || self.asked().len() >= expected.len());
        assert_eq!(self.lines(), expected);
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        if header.trim().is_empty() {
            break;
        }
        if let Some(value) = header.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((line.trim_end().strip_suffix(" HTTP/1.1")?.to_owned(), String::from_utf8(body).ok()?))
}

fn id_of(asked: &Asked) -> String {
    asked.0.split_once("rid=").unwrap().1.to_owned()
}

#[test]
fn each_run_says_how_it_begins_and_how_it_ends() {
    let service = Service::start();
    let host = Host::new("");
    let jobs = moody(&host, "backup")
        + "  slow:\n    timeout: 1s\n    command: { shell: 'sleep 600' }\n  \
           quiet:\n    heartbeat: none\n    command: { shell: 'true' }\n";
    host.write_table(&format!("defaults: {{ heartbeat: '{}' }}", service.url()), &jobs);
    let _daemon = host.daemon();
    set_mood(&host, "ok");
    assert_eq!(run(&host, "backup"), Some(0));
    service.wait_for(&["POST /ping/backup/start", "POST /ping/backup"]);
    set_mood(&host, "7");
    assert_eq!(run(&host, "backup"), Some(1));
    service.wait_for(&[
        "POST /ping/backup/start",
        "POST /ping/backup",
        "POST /ping/backup/start",
        "POST /ping/backup/fail",
    ]);
    let asked = service.asked();
    assert_eq!(id_of(&asked[0]), id_of(&asked[1]));
    assert_eq!(id_of(&asked[2]), id_of(&asked[3]));
    assert_ne!(id_of(&asked[0]), id_of(&asked[2]));
    let host_name = name();
    assert_eq!(asked[0].1, format!("backup on {host_name}, run 1: began (manual)\n"));
    assert_eq!(asked[1].1, format!("backup on {host_name}, run 1: succeeded after 0s\nexit code 0\n"));
    let failed = &asked[3].1;
    assert!(failed.starts_with(&format!("backup on {host_name}, run 2: failed after ")), "{failed}");
    assert!(failed.contains("\nexit code 7\n\n"), "{failed}");
    assert!(failed.contains(" stdout| the mood is 7\n"), "{failed}");

    assert_eq!(run(&host, "quiet"), Some(0));
    assert_eq!(run(&host, "slow"), Some(1));
    wait_until("the timeout is told", || service.asked().len() == 6);
    assert_eq!(service.lines()[4..], ["POST /ping/slow/start", "POST /ping/slow/fail"]);
    assert!(service.asked()[5].1.contains(": timed out after "), "{:?}", service.asked()[5]);
}

#[test]
fn of_a_run_with_retries_only_the_end_is_told_and_of_one_that_was_cancelled_nothing() {
    let service = Service::start();
    let host = Host::new("");
    let count = host.path("count");
    let count = count.display();
    host.write_table(
        "",
        &format!(
            "  flaky:\n    heartbeat: '{url}'\n    retries: {{ attempts: 3, backoff: 100ms }}\n    \
             command: {{ shell: 'echo x >> {count}; test $(wc -l < {count}) = 3' }}\n  \
             long:\n    heartbeat: '{url}'\n    command: {{ shell: 'sleep 600' }}\n  \
             dry:\n    heartbeat: '{url}'\n    command: {{ shell: 'true' }}\n",
            url = service.url()
        ),
    );
    let _daemon = host.daemon();
    assert_eq!(run(&host, "flaky"), Some(0));
    service.wait_for(&["POST /ping/flaky/start", "POST /ping/flaky"]);
    assert_eq!(host.cli(&["run-now", "dry", "--dry-run"]).status.code(), Some(0));
    assert_eq!(host.cli(&["run-now", "long", "--detach"]).status.code(), Some(0));
    service.wait_for(&["POST /ping/flaky/start", "POST /ping/flaky", "POST /ping/long/start"]);
    // One that is in its way, and is skipped.
    assert_eq!(host.cli(&["run-now", "long"]).status.code(), Some(4));
    let run_of_long = host.history("long")[0]["run"].to_string();
    assert_eq!(host.cli(&["cancel", &run_of_long]).status.code(), Some(0));
    host.wait_for_outcome("long", "cancelled");
    // What is told next is the next run's, so that nothing was told in between.
    assert_eq!(run(&host, "dry"), Some(0));
    wait_until("the next run is told", || service.asked().len() == 5);
    assert_eq!(service.lines()[3..], ["POST /ping/dry/start", "POST /ping/dry"]);
}

#[test]
fn another_style_gets_its_url_as_it_is_after_a_success() {
    let service = Service::start();
    let host = Host::new("");
    let keys = format!(
        "    heartbeat: {{ url: 'http://127.0.0.1:{}/api/push/KEY?status=up&msg={{job}}', only: success }}\n",
        service.port
    );
    host.write_table("", &(moody(&host, "backup") + &keys));
    let _daemon = host.daemon();
    set_mood(&host, "7");
    assert_eq!(run(&host, "backup"), Some(1));
    set_mood(&host, "ok");
    assert_eq!(run(&host, "backup"), Some(0));
    wait_until("the success is told", || !service.asked().is_empty());
    assert_eq!(service.asked(), [("GET /api/push/KEY?status=up&msg=backup".to_owned(), String::new())]);
}

#[test]
fn a_run_without_a_daemon_is_told_before_run_now_ends() {
    let service = Service::start();
    let host = Host::new("");
    let keys = format!("    heartbeat: '{}?key=1'\n", service.url());
    host.write_table("", &(moody(&host, "backup") + &keys));
    set_mood(&host, "ok");
    assert_eq!(run(&host, "backup"), Some(0));
    let lines = service.lines();
    // A start that is still on its way need not be said any more when its end is there.
    assert_eq!(lines.last().unwrap(), "POST /ping/backup?key=1");
    assert!(lines.len() == 1 || lines[0] == "POST /ping/backup/start?key=1", "{lines:?}");
    // Of one that answers nothing it waits no longer than ten seconds.
    service.hangs.store(true, Ordering::SeqCst);
    let started = Instant::now();
    assert_eq!(run(&host, "backup"), Some(0));
    assert!(started.elapsed() < Duration::from_secs(45), "{:?}", started.elapsed());
}

#[test]
fn the_next_daemon_tells_the_end_of_what_it_adopts() {
    let service = Service::start();
    let host = Host::new("");
    let go = host.path("go");
    host.write_table(
        "",
        &format!(
            "  long:\n    heartbeat: '{}'\n    command: {{ shell: 'until [ -e {} ]; do sleep 0.1; done; echo done' }}\n",
            service.url(),
            go.display()
        ),
    );
    let daemon = host.daemon();
    assert_eq!(host.cli(&["run-now", "long", "--detach"]).status.code(), Some(0));
    service.wait_for(&["POST /ping/long/start"]);
    daemon.kill();
    let _daemon = host.daemon();
    std::fs::write(&go, "").unwrap();
    service.wait_for(&["POST /ping/long/start", "POST /ping/long"]);
    let asked = service.asked();
    assert_eq!(id_of(&asked[0]), id_of(&asked[1]), "one run has one id, whichever daemon tells of it");
}

#[test]
fn what_died_with_the_host_is_told_as_a_failure() {
    let service = Service::start();
    let host = Host::new("");
    host.write_table(
        "",
        &format!(
            "  long:\n    heartbeat: '{}'\n    command: {{ shell: 'echo $$ > {}; exec sleep 600' }}\n",
            service.url(),
            host.path("pid").display()
        ),
    );
    let daemon = host.daemon();
    assert_eq!(host.cli(&["run-now", "long", "--detach"]).status.code(), Some(0));
    service.wait_for(&["POST /ping/long/start"]);
    let mut program = 0;
    wait_until("the program runs", || {
        program = std::fs::read_to_string(host.path("pid")).unwrap_or_default().trim().parse().unwrap_or(0);
        program > 0
    });
    daemon.kill();
    // The spawner first, as nobody hears of the program's end after a power cut; then the program.
    let spawners = host.processes().into_iter().filter(|(pid, _)| *pid != program).map(|(pid, _)| pid);
    for pid in spawners.chain([program]) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
    let state = || std::fs::read_to_string(format!("/proc/{program}/stat")).unwrap_or_default();
    wait_until("all is dead", || {
        host.processes().is_empty() && (state().is_empty() || state().contains(") Z "))
    });
    let _daemon = host.daemon();
    service.wait_for(&["POST /ping/long/start", "POST /ping/long/fail"]);
    assert!(service.asked()[1].1.contains(": interrupted after "), "{:?}", service.asked()[1]);
}

#[test]
fn a_service_that_was_away_hears_the_newest_state_and_status_says_what_was_not_heard() {
    let port = free_port();
    let host = Host::new("");
    let secret = "5f1e-secret";
    std::fs::write(host.path("url"), format!("http://127.0.0.1:{port}/{secret}/{{job}}\n")).unwrap();
    let keys = format!("    heartbeat: '${{file:{}}}'\n", host.path("url").display());
    host.write_table("", &(moody(&host, "backup") + &keys));
    let daemon = host.daemon();
    for mood in ["ok", "7", "ok"] {
        set_mood(&host, mood);
        run(&host, "backup");
    }
    // Nothing is refused by a port where nobody listens, but for now.
    let service = Service::on(port, "200 OK");
    wait_until("the newest end is told", || !service.asked().is_empty());
    assert_eq!(service.lines(), [format!("POST /{secret}/backup")]);
    assert!(service.asked()[0].1.contains(", run 3: succeeded"), "{:?}", service.asked());

    // One that refuses for good is not asked again, and it is said once.
    let refusing = Service::on(free_port(), "404 Not Found");
    std::fs::write(host.path("url"), format!("http://127.0.0.1:{}/{secret}/{{job}}\n", refusing.port))
        .unwrap();
    for _ in 0..2 {
        run(&host, "backup");
        let before = refusing.asked().len();
        wait_until("the end is refused", || {
            before > 0 && refusing.lines().last().is_some_and(|line| line.ends_with("/backup"))
                || refusing.asked().len() > before
        });
    }
    let sentence = format!(": http://127.0.0.1:{}/… answers 404", refusing.port);
    let problems = || text(&host.cli(&["status"]).stdout);
    wait_until("status says it", || problems().contains(&sentence));
    assert!(problems().contains("no heartbeat of backup was heard since "), "{}", problems());
    assert_eq!(host.daemon_log().matches("answers 404").count(), 1, "{}", host.daemon_log());

    // One that hears again takes it back.
    std::fs::write(host.path("url"), format!("http://127.0.0.1:{port}/{secret}/{{job}}\n")).unwrap();
    run(&host, "backup");
    wait_until("status takes it back", || !problems().contains("heartbeat"));
    daemon.stop();
    assert!(host.daemon_log().contains("heartbeats are heard again"));
    for said in [host.daemon_log(), host.log("_daemon"), host.log("backup")] {
        assert!(!said.contains(secret), "{said}");
    }
    let ledger = std::fs::read(host.path("state/ledger.db")).unwrap();
    assert!(!ledger.windows(secret.len()).any(|bytes| bytes == secret.as_bytes()));
}

#[test]
fn a_service_that_hangs_delays_neither_a_run_nor_the_end_of_the_daemon() {
    let service = Service::start();
    service.hangs.store(true, Ordering::SeqCst);
    let host = Host::new("");
    let jobs: String = (0..40)
        .map(|number| {
            format!("  job-{number}:\n    heartbeat: '{}'\n    command: {{ shell: 'true' }}\n", service.url())
        })
        .collect();
    host.write_table("", &jobs);
    let daemon = host.daemon();
    let started = Instant::now();
    for number in 0..40 {
        assert_eq!(run(&host, &format!("job-{number}")), Some(0));
    }
    // One request waits for ten seconds, and there are eighty: none of the runs waited for any.
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
    wait_until("they are asked", || service.asked().len() >= 16);
    // No more than these at once, as long as none is answered.
    let at_once = |asked: &[Asked]| {
        asked.len() <= 16 * (1 + usize::try_from(started.elapsed().as_secs() / 10).unwrap())
    };
    assert!(at_once(&service.asked()), "{}", service.asked().len());
    assert!(daemon.stop().success());
    assert!(
        host.daemon_log().contains("there is no more time for the heartbeats of job-"),
        "{}",
        host.daemon_log()
    );
}

/// None of its ends is ever tried for as long as it would take to give it up.
#[test]
fn a_job_that_runs_each_second_says_that_its_service_is_dead() {
    let host = Host::new("");
    let jobs = format!(
        "  often: {{ schedule: '@every 1s', heartbeat: 'http://127.0.0.1:{}/x', command: {{ run: ['true'] }} }}\n",
        free_port()
    );
    host.write_table("", &jobs);
    let daemon = host.daemon();
    let status = || text(&host.cli(&["status"]).stdout);
    wait_until("status says it", || status().contains("no heartbeat of often was heard since "));
    assert!(host.daemon_log().contains("no heartbeat of often was heard, and it is not tried again: "));
    // With the heartbeat goes the trouble.
    host.write_jobs("  often: { schedule: '@every 1s', command: { run: ['true'] } }\n");
    assert!(host.cli(&["reload"]).status.success());
    assert!(!status().contains("heartbeat"), "{}", status());
    daemon.stop();
}
