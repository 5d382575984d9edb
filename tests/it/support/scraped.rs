//! What `/metrics` of a daemon says, asked as plainly as can be: HTTP/1.0, whose answer ends with the connection.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

use super::daemon::{Host, text};
use super::server::program;

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// Each sample by its name and labels, as it stands there.
pub(crate) type Samples = BTreeMap<String, f64>;

/// `request`: the first line without the version, and further headers.
pub(crate) fn ask(mut stream: impl Read + Write, request: &[&str]) -> Answer {
    let (first, headers) = request.split_first().unwrap();
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    stream.write_all(format!("{first} HTTP/1.0\r\n{headers}\r\n").as_bytes()).unwrap();
    let mut answer = vec![];
    stream.read_to_end(&mut answer).unwrap();
    let answer = text(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_lowercase(), body: body.to_owned() }
}

pub(crate) fn tcp(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

pub(crate) fn socket(host: &Host) -> UnixStream {
    let stream = UnixStream::connect(host.path("control.sock")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// By the control socket.
pub(crate) fn scrape(host: &Host) -> Samples {
    let answer = ask(socket(host), &["GET /metrics"]);
    assert_eq!(answer.status, 200, "{}", answer.body);
    samples(&answer.body)
}

pub(crate) fn samples(body: &str) -> Samples {
    assert!(body.ends_with("\n# EOF\n"), "it is cut off: {body}");
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("{line}")))
    };
    body.lines().filter(|line| !line.starts_with('#')).map(sample).collect()
}

/// Fails where `promtool` finds anything to say; both of its texts go through it.
pub(crate) fn check_metrics(body: &str) {
    promtool(&["check", "metrics"], body);
}

pub(crate) fn promtool(arguments: &[&str], input: &str) {
    let mut child = program("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
}
