//! A thousand checks in one job: no more descriptors than the host gives, no more time than one of them may take.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{host, looked};
use crate::support::daemon::{Host, wait_until};
use crate::support::missing::skipped;
use crate::support::web::{Dead, Server, request, until_closed};

const CHECKS: usize = 1000;

fn thousand(port: u16, timeout: &str) -> Host {
    let checks: Vec<String> = (0..CHECKS)
        .map(|number| format!("http: {{ url: 'http://127.0.0.1:{port}/{number}', timeout: {timeout} }}"))
        .collect();
    host("", &checks)
}

fn states(results: &[serde_json::Value], state: &str) -> usize {
    results.iter().filter(|result| result["state"] == state).count()
}

#[test]
fn a_thousand_checks_of_a_live_server_are_fine() {
    let live = Server::start(|mut connection| {
        request(&mut connection);
        use std::io::Write;
        let _ = connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    });
    // What a unit without LimitNOFILE gives.
    let results = under("1024:1024", &thousand(live.port, "30s"));
    assert_eq!(states(&results, "ok"), CHECKS, "{:#?}", results[0]);
    assert_eq!(live.taken.load(Ordering::SeqCst), CHECKS);
}

/// Runs the job with limits of open files, soft and hard.
fn under(limits: &str, host: &Host) -> Vec<serde_json::Value> {
    let words = ["--nofile=".to_owned() + limits, "--".into(), crate::support::daemon::PROGRAM.into()];
    looked(host, |run| {
        let arguments: Vec<_> = run.get_args().map(std::ffi::OsStr::to_owned).collect();
        #[expect(clippy::disallowed_methods, reason = "the program under test")]
        let mut limited = std::process::Command::new("prlimit");
        limited.args(words).args(arguments);
        *run = limited;
    })
}

#[test]
fn a_thousand_silent_servers_cost_one_timeout() {
    let silent = Server::silent();
    let host = thousand(silent.port, "3s");
    // A usual limit, which the program may raise for itself.
    let started = Instant::now();
    let results = under("1024:8192", &host);
    assert_eq!(states(&results, "failing"), CHECKS, "{:#?}", results[0]);
    assert_eq!(silent.taken.load(Ordering::SeqCst), CHECKS);
    // One after the other they would take 50 minutes.
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}

#[test]
fn a_thousand_dead_addresses_cost_one_timeout() {
    let dead = Dead::new();
    let checks: Vec<String> = (0..CHECKS)
        .map(|number| format!("tcp: {{ name: t{number}, address: '127.0.0.1:{}', timeout: 3s }}", dead.port))
        .collect();
    let host = host("", &checks);
    let started = Instant::now();
    let results = under("1024:8192", &host);
    assert_eq!(states(&results, "failing"), CHECKS, "{:#?}", results[0]);
    let text = results[0]["message"].as_str().unwrap();
    assert!(text.contains("within 3s"), "{text}");
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}

#[test]
fn a_daemon_runs_a_thousand_checks_and_its_programs_keep_the_usual_limit() {
    let open = Server::start(|mut connection| until_closed(&mut connection));
    let checks: Vec<String> = (0..CHECKS)
        .map(|number| format!("{{ name: c{number}, tcp: {{ address: '127.0.0.1:{}' }} }}", open.port))
        .collect();
    let host = host("", &checks);
    let table = std::fs::read_to_string(host.config()).unwrap();
    std::fs::write(host.config(), format!("{table}\n  limit:\n    command: {{ shell: ulimit -Sn }}\n"))
        .unwrap();
    let daemon = host.spawn_daemon_under(&["prlimit", "--nofile=700:8192", "--"]);
    wait_until("the daemon answers", || host.cli(&["status"]).status.success());
    let output = host.cli(&["run-now", "watch"]);
    assert!(output.status.success(), "{}", crate::support::daemon::text(&output.stderr));
    let output = host.cli(&["run-now", "limit"]);
    assert_eq!(crate::support::daemon::text(&output.stdout), "700\n");
    let soft = |pid: u32| {
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        line.split_ascii_whitespace().nth(3).unwrap().to_owned()
    };
    assert_eq!(soft(daemon.pid()), "8192");
    // Also those of a spawner that was started after the limit was raised.
    let spawner = || {
        let all = host.processes().into_iter();
        all.filter(|(_, line)| line.contains(" __spawner ")).map(|(pid, _)| pid).next()
    };
    let first = spawner().unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(first).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    wait_until("another spawner", || spawner().is_some_and(|pid| pid != first));
    let output = host.cli(&["run-now", "limit"]);
    assert_eq!(crate::support::daemon::text(&output.stdout), "700\n");
    assert!(daemon.stop().success());
}

/// Each look-up that hangs holds a thread: what else needs one (alerts read logs on them) must not wait for hundreds.
#[test]
fn hundreds_of_certificates_behind_a_resolver_that_hangs_take_few_threads() {
    if !rustix::process::geteuid().is_root() {
        skipped("only root can give a process another resolver");
        return;
    }
    // Takes questions and never answers.
    let _resolver = std::net::UdpSocket::bind("127.77.0.1:53").unwrap();
    let checks: String = (0..300)
        .map(|number| format!("        - certificate: {{ address: 'host{number}.test:443' }}\n"))
        .collect();
    let host = Host::new(&format!("  x:\n    health_check:\n      checks:\n{checks}"));
    std::fs::write(host.path("resolv.conf"), "nameserver 127.77.0.1\n").unwrap();
    let shell =
        format!("mount --bind {} /etc/resolv.conf && exec \"$@\"", host.path("resolv.conf").display());
    let daemon = host.spawn_daemon_under(&["unshare", "-m", "sh", "-c", &shell, "sh"]);
    wait_until("the daemon answers", || host.cli(&["status"]).status.success());
    assert!(host.cli(&["run-now", "x", "--detach"]).status.success());
    let mut most = 0;
    wait_until("all are given up", || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
        let threads = status.lines().find_map(|line| line.strip_prefix("Threads:")).unwrap();
        most = most.max(threads.trim().parse().unwrap());
        host.history("x")[0]["outcome"] == "failed"
    });
    assert!(daemon.stop().success());
    assert!((10..100).contains(&most), "{most} threads");
    assert_eq!(host.history("x")[0]["facts"]["failed"], 300);
}
