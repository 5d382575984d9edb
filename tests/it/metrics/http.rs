//! Who may ask, and what is answered to whom: on the dashboard's address, and on the control socket.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;

use crate::support::daemon::{Host, text, wait_until};
use crate::support::missing::lacks;
use crate::support::scraped::{ask, check_metrics, samples, scrape, socket, tcp};
use crate::support::server::free_port;

const JOBS: &str = "  one: { command: { run: [/bin/true] } }\n";
const OPEN_METRICS: &str = "Accept: application/openmetrics-text;version=1.0.0,application/openmetrics-text;\
                            version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

fn listening(dashboard: &str) -> Host {
    let host = Host::new(JOBS);
    host.write_table(&format!("dashboard: {{ {dashboard} }}"), JOBS);
    host
}

fn connects(port: u16) -> bool {
    std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
}

#[test]
fn whoever_has_the_token_reads_and_nobody_else() {
    let port = free_port();
    let host = listening(&format!("listen: '127.0.0.1:{port}', token: '${{file:TOKEN}}'"));
    let (file, config) = (host.path("token"), std::fs::read_to_string(host.config()).unwrap());
    std::fs::write(host.config(), config.replace("TOKEN", file.to_str().unwrap())).unwrap();
    std::fs::write(&file, "hunter2\n").unwrap();
    let _daemon = host.daemon();
    wait_until("it listens", || connects(port));
    let with = |token: &str, page: &str| ask(tcp(port), &[&format!("GET {page}"), token]);
    for token in [
        "X-Other: 1",
        "Authorization: Bearer hunter3",
        "Authorization: Bearer hunter2 x",
        "Authorization: Bearer hunter",
        "Authorization: Bearer",
        "Authorization: Basic hunter2",
    ] {
        for page in ["/metrics", "/healthz", "/", "/nowhere"] {
            let answer = with(token, page);
            assert_eq!(answer.status, 401, "{token} {page}: {}", answer.body);
            assert!(answer.head.contains("\r\nwww-authenticate: bearer realm="), "{}", answer.head);
            assert!(!answer.body.contains("punk_eco_sched"), "{}", answer.body);
        }
    }
    let answer = with("authorization: bearer hunter2", "/metrics");
    assert_eq!(answer.status, 200);
    assert_eq!(samples(&answer.body)["punk_eco_sched_jobs"], 1.0);
    // The socket's own mode says who may.
    assert_eq!(scrape(&host)["punk_eco_sched_jobs"], 1.0);

    // Another token comes into force with the table, for connections that are open too.
    let mut open = tcp(port);
    std::fs::write(&file, "hunter4").unwrap();
    assert!(host.cli(&["reload"]).status.success());
    wait_until("the new token is in force", || {
        with("Authorization: Bearer hunter4", "/metrics").status == 200
    });
    assert_eq!(with("Authorization: Bearer hunter2", "/metrics").status, 401);
    open.write_all(b"GET /metrics HTTP/1.0\r\nAuthorization: Bearer hunter2\r\n\r\n").unwrap();
    let mut old = String::new();
    open.read_to_string(&mut old).unwrap();
    assert!(old.starts_with("HTTP/1.0 401 "), "{old}");

    // One that can't be read is said, and opens nothing.
    std::fs::remove_file(&file).unwrap();
    assert!(host.cli(&["reload"]).status.success());
    wait_until("nobody is answered", || with("Authorization: Bearer hunter4", "/metrics").status == 503);
    assert_eq!(with("X-Other: 1", "/healthz").status, 503);
    let problem = host.json(&["status", "--json"])["problems"][0].as_str().unwrap().to_owned();
    assert!(problem.starts_with("dashboard.token: "), "{problem}");
    std::fs::write(&file, "hunter5").unwrap();
    wait_until("it is tried again", || with("Authorization: Bearer hunter5", "/metrics").status == 200);
    wait_until("the problem is gone", || {
        host.json(&["status", "--json"])["problems"] == serde_json::json!([])
    });
    for said in [host.daemon_log(), text(&host.cli(&["status"]).stdout)] {
        assert!(!said.contains("hunter"), "{said}");
    }
}

#[test]
fn every_page_on_both_ways() {
    let port = free_port();
    let host = listening(&format!("listen: '127.0.0.1:{port}'"));
    let _daemon = host.daemon();
    wait_until("it listens", || connects(port));
    let check = |request: &[&str], status: u16, head: &str, body: &str| {
        for answer in [ask(tcp(port), request), ask(socket(&host), request)] {
            assert_eq!(answer.status, status, "{request:?}: {}", answer.body);
            assert!(answer.head.contains(head), "{request:?}: {}", answer.head);
            assert!(answer.body.contains(body), "{request:?}: {}", answer.body);
        }
    };
    check(&["GET /healthz"], 200, "", "the scheduler answers\n");
    check(&["GET /"], 200, "", "/metrics ");
    check(&["GET /jobs"], 404, "", "there is /metrics and /healthz\n");
    check(&["GET /metrics/"], 404, "", "there is");
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        check(&[&format!("{method} /metrics")], 405, "\r\nallow: get, head", "use GET");
    }
    let plain = "\r\ncontent-type: text/plain; version=0.0.4";
    let open = "\r\ncontent-type: application/openmetrics-text; version=1.0.0; charset=utf-8";
    let counter =
        |name: &str| format!("# TYPE punk_eco_sched_job_{name} counter\npunk_eco_sched_job_runs_total{{");
    check(&["GET /metrics"], 200, plain, &counter("runs_total"));
    check(&["GET /metrics", "Accept: */*"], 200, plain, &counter("runs_total"));
    check(&["GET /metrics", OPEN_METRICS], 200, open, &counter("runs"));
    check(&["GET /metrics", "Accept: application/openmetrics-text;q=0,text/plain"], 200, plain, "");
    let head = ask(tcp(port), &["HEAD /metrics"]);
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    // A head that never ends.
    let long = format!("X-Long: {}", "x".repeat(64 << 10));
    assert_eq!(ask(tcp(port), &["GET /metrics", &long]).status, 431);
    if lacks("promtool") {
        return;
    }
    check_metrics(&ask(tcp(port), &["GET /metrics"]).body);
}

#[test]
fn clients_of_the_control_socket_are_greeted_as_before() {
    let host = Host::new(JOBS);
    let _daemon = host.daemon();
    let line = |client: &mut UnixStream| {
        let (mut line, mut byte) = (vec![], [0]);
        while byte[0] != b'\n' {
            client.read_exact(&mut byte).unwrap();
            line.push(byte[0]);
        }
        serde_json::from_slice::<serde_json::Value>(&line).unwrap()
    };
    let status = b"{\"protocol\":1,\"request\":\"status\"}\n";
    // One of an older version waits to be greeted; others speak before.
    let mut older = socket(&host);
    assert_eq!(line(&mut older)["protocol"], 1);
    older.write_all(status).unwrap();
    assert_eq!(line(&mut older)["status"]["jobs"], 1);
    let mut quick = socket(&host);
    quick.write_all(status).unwrap();
    assert_eq!(line(&mut quick)["protocol"], 1);
    assert_eq!(line(&mut quick)["status"]["jobs"], 1);
    // A word that only begins like one of HTTP.
    let mut other = socket(&host);
    other.write_all(b"GE").unwrap();
    assert_eq!(line(&mut other)["protocol"], 1);
    // A word in pieces.
    let mut slow = socket(&host);
    slow.write_all(b"G").unwrap();
    slow.write_all(b"ET /healthz HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
}

#[test]
fn clients_that_say_nothing_keep_nobody_out() {
    let port = free_port();
    let host = listening(&format!("listen: '127.0.0.1:{port}'"));
    let _daemon = host.daemon();
    wait_until("it listens", || connects(port));
    let mut silent: Vec<_> = (0..80).map(|_| tcp(port)).collect();
    for (at, client) in silent.iter_mut().enumerate().filter(|(at, _)| at % 2 == 0) {
        client.write_all(&b"GET /metrics HTTP/1.1\r\nX-Slow: "[..20 + at % 3]).unwrap();
    }
    assert_eq!(ask(tcp(port), &["GET /healthz"]).status, 200);
    // Each is hung up on, whether it has begun or not.
    for mut client in silent {
        let mut said = vec![];
        let _ = client.read_to_end(&mut said);
        assert!(said.is_empty() || text(&said).starts_with("HTTP/1.1 408 "), "{}", text(&said));
    }
}

#[test]
fn a_port_that_is_taken_stops_no_job_and_is_tried_again() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let host = listening(&format!("listen: '127.0.0.1:{port}'"));
    let _daemon = host.daemon();
    assert!(host.cli(&["run-now", "one"]).status.success());
    let problems = || host.json(&["status", "--json"])["problems"].clone();
    wait_until("it is said", || problems() != serde_json::json!([]));
    let expected = format!("dashboard.listen: 127.0.0.1:{port} can't be listened on: ");
    assert!(problems()[0].as_str().unwrap().starts_with(&expected), "{}", problems());
    drop(taken);
    wait_until("it is tried again", || connects(port));
    assert_eq!(ask(tcp(port), &["GET /healthz"]).status, 200);
    wait_until("the problem is gone", || problems() == serde_json::json!([]));

    // Elsewhere, and nowhere.
    let other = free_port();
    host.write_table(&format!("dashboard: {{ listen: '127.0.0.1:{other}' }}"), JOBS);
    assert!(host.cli(&["reload"]).status.success());
    wait_until("it listens elsewhere", || connects(other));
    assert!(!connects(port));
    host.write_jobs(JOBS);
    assert!(host.cli(&["reload"]).status.success());
    wait_until("nothing listens", || !connects(other));
}
