//! JSON logs as others take them: a real rsyslog with the configuration that we ship, and a daemon's standard error.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::support::daemon::{Host, text, wait_until};
use crate::support::missing::lacks;
use crate::support::server::program;

const SAMPLE: &str = include_str!("../../packaging/logs/rsyslog.conf");

/// Stopped by its pid.
struct Rsyslog(Child);

impl Rsyslog {
    /// The sample, with a test's folder and receiver in the places of those of a host.
    fn start(host: &Host, port: u16) -> Self {
        let mut sample = SAMPLE.to_owned();
        for (theirs, ours) in [
            ("\"/var/log/punk_eco/*.log\"", format!("\"{}/*.log\"", host.path("logs").display())),
            ("\"/var/log/punk-eco-errors.log\"", format!("\"{}\"", host.path("errors").display())),
            ("\"logs.example.org\"", "\"127.0.0.1\"".to_owned()),
            ("\"5170\"", format!("\"{port}\"")),
        ] {
            assert_eq!(sample.matches(theirs).count(), 1, "{theirs}");
            sample = sample.replace(theirs, &ours);
        }
        let work = host.path("rsyslog");
        std::fs::create_dir_all(&work).unwrap();
        let configuration = work.join("rsyslog.conf");
        std::fs::write(&configuration, format!("global(workDirectory=\"{}\")\n{sample}", work.display()))
            .unwrap();
        let said = std::fs::File::create(work.join("said")).unwrap();
        // setpriv(1) execs: the pid is the server's, which dies with the thread that started it.
        let mut command = program("setpriv");
        command.args(["--pdeathsig=TERM", "rsyslogd", "-n", "-f"]).arg(configuration);
        command.arg("-i").arg(work.join("pid"));
        command.stdin(Stdio::null()).stdout(said.try_clone().unwrap()).stderr(said);
        Self(command.spawn().unwrap())
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        let pid = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw);
        let _ = pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::TERM));
        let _ = self.0.wait();
    }
}

/// What comes over TCP, a line each.
fn receiver() -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let lines: Arc<Mutex<Vec<String>>> = Arc::default();
    let taken = lines.clone();
    // Ends with the process of the test.
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            for line in BufReader::new(connection).lines().map_while(Result::ok) {
                taken.lock().unwrap().push(line);
            }
        }
    });
    (port, lines)
}

#[test]
fn a_real_rsyslog_takes_every_line_with_its_fields_across_rotations() {
    if lacks("rsyslogd") || lacks("setpriv") {
        return;
    }
    let host = Host::new("");
    host.write_table(
        "logs: { format: json, max_size: 16KiB, max_files: 100 }",
        "  chatty:\n    command: { shell: 'for i in $(seq 40); do echo \"line $i of é \\\"quoted\\\"\"; done; echo wrong >&2' }\n  \
         failing:\n    command: { shell: 'exit 7' }\n",
    );
    let (port, lines) = receiver();
    let _rsyslog = Rsyslog::start(&host, port);
    let _daemon = host.daemon();
    let received = || -> Vec<Value> {
        lines.lock().unwrap().iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let of_run = |run: i64| -> Vec<Value> {
        let run = Value::from(run.to_string());
        received().into_iter().filter(|line| line["labels.run"] == run).collect()
    };
    // A run fills most of a file, so that each but the first is cut by one rotation; a file that comes and goes before
    // rsyslog looks is lost to it.
    for number in 1..=4 {
        assert_eq!(host.cli(&["run-now", "chatty"]).status.code(), Some(0));
        let run = host.history("chatty")[0]["run"].as_i64().unwrap();
        wait_until(&format!("the lines of run {number} arrive"), || {
            let messages: BTreeSet<String> =
                of_run(run).iter().map(|line| line["message"].as_str().unwrap().to_owned()).collect();
            // 40 of its output, one of its standard error, who asked for it, its begin and its end.
            messages.len() == 44
        });
    }
    assert!(host.path("logs/chatty.log.1").exists(), "nothing was rotated");
    let run = host.history("chatty")[0]["run"].as_i64().unwrap();
    let name = nix::unistd::gethostname().unwrap().into_string().unwrap();
    let expect = |line: &Value, level: &str, stream: &str| {
        assert_eq!(line["log.level"], level, "{line}");
        assert_eq!(line["labels.stream"], stream, "{line}");
        assert_eq!(line["labels.job"], "chatty");
        assert_eq!(line["service.name"], "punk-eco-sched");
        assert_eq!(line["event.dataset"], "punk_eco_sched.job");
        assert_eq!(line["host.name"], name);
        assert!(line["@timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    };
    let one = |message: &str| {
        let found = of_run(run).into_iter().find(|line| line["message"] == message);
        found.unwrap_or_else(|| panic!("{message} did not arrive"))
    };
    expect(&one("line 40 of é \"quoted\""), "info", "stdout");
    expect(&one("wrong"), "info", "stderr");
    expect(&one("attempt 1 of 1 (manual)"), "info", "note");

    // The daemon's own lines come along, and a rule of theirs finds what failed by its level.
    wait_until("the daemon's own lines arrive", || {
        received().iter().any(|line| line["event.dataset"] == "punk_eco_sched.daemon")
    });
    assert_eq!(host.cli(&["run-now", "failing"]).status.code(), Some(1));
    let run = host.history("failing")[0]["run"].as_i64().unwrap();
    wait_until("the failure stands among the errors", || {
        let errors = std::fs::read_to_string(host.path("errors")).unwrap_or_default();
        errors.lines().any(|line| {
            line.contains(&format!("Z failing {run}: failed after ")) && line.ends_with(": exit code 7")
        })
    });
}

#[test]
fn a_reload_changes_the_format_and_every_verb_reads_both() {
    let jobs = "  one:\n    command: { shell: 'echo said' }\n";
    let host = Host::new("");
    host.write_table("logs: { format: text }", jobs);
    let daemon = host.daemon();
    assert_eq!(host.cli(&["run-now", "one"]).status.code(), Some(0));
    host.write_table("logs: { format: json }", jobs);
    assert!(host.cli(&["reload"]).status.success());
    assert_eq!(host.cli(&["run-now", "one"]).status.code(), Some(0));
    let log = host.log("one");
    let kinds: Vec<bool> = log.lines().map(|line| line.starts_with('{')).collect();
    assert_eq!(kinds, [false, false, false, false, true, true, true, true], "{log}");
    let shown = text(&host.cli(&["logs", "one", "-n", "8"]).stdout);
    assert_eq!(shown.lines().filter(|line| line.ends_with(" stdout| said")).count(), 2, "{shown}");
    let run = host.history("one")[0]["run"].to_string();
    assert!(text(&host.cli(&["show", &run]).stdout).contains("stdout| said"));

    // Standard error, which is a file here, goes along, and so does the daemon's own log.
    daemon.stop();
    for said in [host.daemon_log(), host.log("_daemon")] {
        let (before, after) = said.split_at(said.find('{').unwrap_or_else(|| panic!("no JSON in {said}")));
        assert!(!before.is_empty());
        for line in after.lines() {
            let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert_eq!(line["event.dataset"], "punk_eco_sched.daemon");
            assert_eq!(line["log.level"], "info", "{line}");
        }
    }
}

#[test]
fn journald_is_given_priorities_whatever_the_format() {
    let host = Host::new("");
    host.write_table("logs: { format: json }", "  one:\n    command: { shell: 'true' }\n");
    let daemon = host.spawn_daemon_with(|command| {
        // As systemd says it to what it starts: the file stands in for the journal's socket.
        let stderr = host.path("daemon.err").metadata().unwrap();
        command.env("JOURNAL_STREAM", format!("{}:{}", stderr.dev(), stderr.ino()));
    });
    wait_until("the daemon answers", || host.cli(&["status"]).status.success());
    std::fs::write(host.config(), "jobs: { one: { command: {} } }\n").unwrap();
    daemon.signal(rustix::process::Signal::HUP);
    wait_until("the reload is refused", || host.daemon_log().contains("<3>"));
    daemon.stop();
    let said = host.daemon_log();
    assert!(said.lines().all(|line| line.starts_with("<3>") || line.starts_with("<6>")), "{said}");
    assert!(said.lines().any(|line| line.starts_with("<3>error: ")), "{said}");
    let file = host.log("_daemon");
    let told: Vec<Value> = file.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let error = told.iter().find(|line| line["log.level"] == "error").unwrap();
    assert!(!error["message"].as_str().unwrap().starts_with("error"), "{error}");
}
