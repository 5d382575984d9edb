//! Verbs that talk to the daemon, with a daemon that says what the test wants.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::sync::{Arc, Mutex, mpsc};

use async_trait::async_trait;
use jiff::Timestamp;
use punk_eco_sched::api::server::Server;
use punk_eco_sched::api::{Control, Paused, Refused, Reloaded, RunEvent, Started, Status};
use punk_eco_sched::logs::{LogLine, Stream};
use punk_eco_sched::model::{Outcome, RunId};
use tokio::sync::mpsc::unbounded_channel;
use tokio_util::sync::CancellationToken;

use super::{Place, ended};

struct Daemon {
    place: Place,
    asked: Arc<Mutex<Vec<String>>>,
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

struct Script {
    asked: Arc<Mutex<Vec<String>>>,
    /// The log of a run that goes on until somebody cancels it.
    open: Mutex<Vec<tokio::sync::mpsc::UnboundedSender<RunEvent>>>,
    events: Vec<RunEvent>,
    bad_file: bool,
}

#[async_trait]
impl Control for Script {
    async fn run_now(&self, job: &str, dry_run: bool, _by: &str) -> Result<Started, Refused> {
        self.asked.lock().unwrap().push(format!("run {job} {dry_run}"));
        match job {
            "hello" => {
                let (tell, events) = unbounded_channel();
                self.events.iter().for_each(|event| tell.send(event.clone()).unwrap());
                Ok(Started { run: RunId(7), events })
            }
            "long" => {
                let (tell, events) = unbounded_channel();
                self.events.iter().for_each(|event| tell.send(event.clone()).unwrap());
                self.open.lock().unwrap().push(tell);
                Ok(Started { run: RunId(7), events })
            }
            "busy" => Err(Refused::RunsAlready { job: job.into(), run: RunId(6) }),
            _ => Err(Refused::UnknownJob { name: job.into(), nearest: Some("hello".into()) }),
        }
    }

    async fn cancel(&self, run: RunId, _by: &str) -> Result<(), Refused> {
        if run == RunId(7) { Ok(()) } else { Err(Refused::NotRunning { run }) }
    }

    async fn pause(&self, job: Option<&str>, until: Option<Timestamp>, _by: &str) -> Result<(), Refused> {
        self.asked.lock().unwrap().push(format!("pause {job:?} {}", until.is_some()));
        Ok(())
    }

    async fn resume(&self, job: Option<&str>, _by: &str) -> Result<(), Refused> {
        self.asked.lock().unwrap().push(format!("resume {job:?}"));
        Ok(())
    }

    async fn reload(&self, _by: &str) -> Result<Reloaded, Refused> {
        self.asked.lock().unwrap().push("reload".into());
        if self.bad_file {
            return Err(Refused::BadFile("jobs.yaml:3:5: unknown key `tiemout`".into()));
        }
        Ok(Reloaded {
            jobs: 2,
            added: vec!["b".into()],
            changed: vec![],
            removed: vec!["c".into(), "d".into()],
        })
    }

    async fn status(&self) -> Status {
        Status {
            version: "0.1.0".into(),
            pid: 812,
            started_at: "2026-11-22T15:00:00Z".parse().unwrap(),
            config: "/etc/jobs.yaml".into(),
            config_changed: true,
            jobs: 1,
            running: vec![],
            next: None,
            paused: vec![Paused {
                job: None,
                since: "2026-11-22T16:00:00Z".parse().unwrap(),
                until: None,
                by: "root (uid 0)".into(),
            }],
            problems: vec![],
            incidents: vec![],
        }
    }
}

impl Daemon {
    fn start(events: Vec<RunEvent>, bad_file: bool) -> Self {
        let place = Place::new().with_table();
        let asked = Arc::new(Mutex::new(vec![]));
        let script = Arc::new(Script { asked: asked.clone(), open: Mutex::default(), events, bad_file });
        let stop = CancellationToken::new();
        let (bound, ready) = mpsc::channel();
        let thread = std::thread::spawn({
            let (path, stop) = (place.socket(), stop.clone());
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let server = Server::bind(&path).unwrap();
                    bound.send(()).unwrap();
                    server.serve(script, stop).await;
                });
            }
        });
        ready.recv().unwrap();
        Self { place, asked, stop, thread: Some(thread) }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn line(stream: Stream, text: &str) -> RunEvent {
    let time = "2026-11-22T18:00:00Z".parse().unwrap();
    RunEvent::Line(LogLine { time, run: RunId(7), stream, text: text.into() })
}

fn end(outcome: Outcome, reason: Option<&str>, summary: Option<&str>, error: Option<&str>) -> RunEvent {
    let text = |text: Option<&str>| text.map(str::to_owned);
    RunEvent::Ended { outcome, reason: text(reason), summary: text(summary), error: text(error) }
}

#[test]
fn run_now_prints_the_log_and_ends_as_the_run_did() {
    let check = |events: &[RunEvent], code: i32, stdout: &str, stderr: &str| {
        let daemon = Daemon::start(events.to_vec(), false);
        assert_eq!(daemon.place.run(&["run-now", "hello", "--dry-run"]), ended(code, stdout, stderr));
        assert_eq!(daemon.asked(), ["run hello true"]);
    };
    check(
        &[
            RunEvent::Waiting("for the group backups".into()),
            line(Stream::Note, "attempt 1 of 1"),
            line(Stream::Stdout, "Grüße"),
            line(Stream::Stderr, "a warning"),
            line(Stream::Stdout, "bye"),
            end(Outcome::Succeeded, None, Some("exit status 0"), None),
        ],
        0,
        "Grüße\nbye\n",
        "waiting for the group backups\nattempt 1 of 1\na warning\nhello succeeded (run 7): exit status 0\n",
    );
    check(
        &[end(Outcome::Failed, None, None, Some("exit status 1"))],
        1,
        "",
        "hello failed (run 7): exit status 1\n",
    );
    check(
        &[end(Outcome::TimedOut, None, None, Some("after 1h"))],
        1,
        "",
        "hello timed_out (run 7): after 1h\n",
    );
    check(&[end(Outcome::Cancelled, None, None, None)], 1, "", "hello cancelled (run 7)\n");
    check(&[end(Outcome::Skipped, Some("overlap"), None, None)], 4, "", "hello skipped (run 7): overlap\n");
    check(
        &[line(Stream::Stdout, "half")],
        3,
        "half\n",
        "error: the daemon ended while run 7 was under way\nhint: `punk-eco-sched show 7` tells what became of it\n",
    );
}

#[test]
fn run_now_that_is_not_accepted() {
    let daemon = Daemon::start(vec![], false);
    let check = |job: &str, code: i32, stderr: &str| {
        assert_eq!(daemon.place.run(&["run-now", job]), ended(code, "", stderr));
    };
    check("helo", 2, "error: there is no job named `helo`: did you mean `hello`?\n");
    check("busy", 4, "error: not run: busy runs already (run 6)\n");
}

#[test]
fn run_now_detached_returns_at_once() {
    let daemon = Daemon::start(vec![], false);
    let expected = "run 7 of hello was started: `punk-eco-sched show 7` tells of it\n";
    assert_eq!(daemon.place.run(&["run-now", "hello", "--detach"]), ended(0, "", expected));
}

#[test]
fn pause_resume_cancel_and_reload() {
    let daemon = Daemon::start(vec![], false);
    let check = |arguments: &[&str], code: i32, stderr: &str| {
        assert_eq!(daemon.place.run(arguments), ended(code, "", stderr), "{arguments:?}");
    };
    check(&["pause", "hello"], 0, "hello is paused until resumed; `punk-eco-sched resume hello` ends it\n");
    let ended = daemon.place.run(&["pause", "--all", "--for", "2h"]);
    assert!(ended.stderr.starts_with("all jobs are paused until 2"), "{ended:?}");
    check(&["resume", "--all"], 0, "all jobs are resumed\n");
    check(&["cancel", "7"], 0, "run 7 is being cancelled: `punk-eco-sched show 7` tells its end\n");
    check(&["cancel", "8"], 2, "error: run 8 is not running\n");
    check(&["reload"], 0, "2 jobs in force: added b; removed c, d\n");
    assert_eq!(daemon.asked(), ["pause Some(\"hello\") false", "pause None true", "resume None", "reload"]);
}

#[test]
fn a_bad_file_is_not_reloaded() {
    let daemon = Daemon::start(vec![], true);
    assert_eq!(
        daemon.place.run(&["reload"]),
        ended(
            2,
            "",
            "error: jobs.yaml:3:5: unknown key `tiemout`\n\
             hint: the table in force before stays in force; `punk-eco-sched check` shows the same\n"
        )
    );
}

#[test]
fn the_daemon_is_found_while_the_rest_of_the_file_is_wrong() {
    let daemon = Daemon::start(vec![], false);
    let text = daemon.place.read("jobs.yaml").replace("jobs:", "jobs: [: broken");
    daemon.place.write("jobs.yaml", &text);
    assert_eq!(daemon.place.run(&["status"]).code, 0);
}

#[test]
fn status() {
    let daemon = Daemon::start(vec![], false);
    let text = daemon.place.run(&["status"]);
    assert_eq!((text.code, text.stderr.as_str()), (0, ""));
    assert!(text.stdout.contains("the file differs from the table in force"), "{}", text.stdout);
    assert_eq!(
        daemon.place.run(&["status", "--json"]),
        ended(
            0,
            r#"{
  "version": "0.1.0",
  "pid": 812,
  "started_at": "2026-11-22T15:00:00Z",
  "config": "/etc/jobs.yaml",
  "config_changed": true,
  "jobs": 1,
  "running": [],
  "next": null,
  "paused": [
    {
      "job": null,
      "since": "2026-11-22T16:00:00Z",
      "until": null,
      "by": "root (uid 0)"
    }
  ],
  "problems": [],
  "incidents": []
}
"#,
            ""
        )
    );
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the program under test, which is to be interrupted")]
fn an_interrupt_detaches_from_a_run_that_goes_on() {
    let daemon = Daemon::start(vec![line(Stream::Stdout, "begun")], false);
    let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin!("punk-eco-sched"))
        .args(["run-now", "long"])
        .current_dir(daemon.place.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The first line shows that it follows, and so that the interrupt is awaited.
    let mut stdout = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut stdout).unwrap();
    assert_eq!(stdout, "begun\n");
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT)
        .unwrap();
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(
        stderr,
        "run 7 goes on: `punk-eco-sched cancel 7` ends it, `punk-eco-sched logs long -f` follows it\n"
    );
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(daemon.asked(), ["run long false"]);
}
