use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::super::check::State;
use super::*;

/// 23:00:00 of the test's day.
const NOW: i64 = 1_795_388_400;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(NOW + seconds).unwrap()
}

/// So many seconds after [`NOW`].
fn line(seconds: i64, status: u16, took: &str) -> String {
    let stamp = at(seconds).strftime("%d/%b/%Y:%H:%M:%S %z").to_string();
    format!("203.0.113.7 - - [{stamp}] \"GET / HTTP/1.1\" {status} 612 \"-\" \"curl/8\"{took}\n")
}

fn lines(from: i64, to: i64, status: u16) -> String {
    (from..to).map(|second| line(second, status, " 0.100")).collect()
}

fn read(path: &Path, since: i64, until: i64) -> Traffic {
    window::read(path, at(since), at(until), &AtomicBool::new(false)).unwrap()
}

fn packed(text: &str) -> Vec<u8> {
    let mut gzip = GzEncoder::new(vec![], Compression::fast());
    gzip.write_all(text.as_bytes()).unwrap();
    gzip.finish().unwrap()
}

fn log() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    (folder, path)
}

#[test]
fn only_the_lines_of_the_time_asked_for_count() {
    let (_folder, path) = log();
    // 12 MB: found by bisection, at every second alike.
    fs::write(&path, lines(-100_000, 1, 200)).unwrap();
    for (since, until, expected) in [
        (-300, 0, 300),
        (-1, 0, 1),
        (0, 0, 0),
        (-99_999, 0, 99_999),
        (-200_000, 0, 100_001),
        (-10, -5, 5),
        (5, 9, 0),
    ] {
        assert_eq!(read(&path, since, until).requests, expected, "{since}..{until}");
    }
    // Short and long ones, and what is no line of the format.
    let mixed = format!(
        "{}{}\n{}not a request\n{}",
        lines(-9, -5, 200),
        "x".repeat(70_000),
        lines(-5, -2, 500),
        lines(-2, 1, 200)
    );
    fs::write(&path, mixed).unwrap();
    let traffic = read(&path, -7, 0);
    assert_eq!((traffic.requests, traffic.errors, traffic.unreadable), (7, 3, 3));
}

#[test]
fn a_line_counts_once_however_the_files_are_rotated() {
    let (folder, path) = log();
    let count = || read(&path, -300, 0).requests;
    fs::write(&path, lines(-1000, -200, 200)).unwrap();
    assert_eq!(count(), 99);
    // Renamed, with a new one beside it, to which nothing was written yet.
    fs::rename(&path, folder.path().join("access.log.1")).unwrap();
    assert_eq!(count(), 99);
    fs::write(&path, lines(-200, -100, 200)).unwrap();
    assert_eq!(count(), 199);
    // Twice within the time, and compressed.
    fs::write(folder.path().join("access.log.2.gz"), packed(&lines(-1000, -200, 200))).unwrap();
    fs::rename(&path, folder.path().join("access.log.1")).unwrap();
    fs::write(&path, lines(-100, 1, 200)).unwrap();
    assert_eq!(count(), 300);
    // While it is compressed there are both.
    fs::write(folder.path().join("access.log.1.gz"), &packed(&lines(-200, -100, 200))[..40]).unwrap();
    assert_eq!(count(), 300);
    // A second name of the same file, and what only looks like one of ours.
    fs::hard_link(&path, folder.path().join("access.log.3")).unwrap();
    fs::write(folder.path().join("access.log.offset"), lines(-100, 1, 200)).unwrap();
    fs::write(folder.path().join("access.logs"), lines(-100, 1, 200)).unwrap();
    fs::write(folder.path().join("other_access.log"), lines(-100, 1, 200)).unwrap();
    assert_eq!(count(), 300);
    // By date, as some have it.
    fs::rename(folder.path().join("access.log.1"), folder.path().join("access.log-20261122")).unwrap();
    fs::remove_file(folder.path().join("access.log.1.gz")).unwrap();
    assert_eq!(count(), 300);
    // Not written since: not even opened.
    let old = folder.path().join("access.log.4.gz");
    fs::write(&old, "no gzip").unwrap();
    let times = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
    File::options().write(true).open(&old).unwrap().set_times(times).unwrap();
    assert_eq!(count(), 300);
}

#[test]
fn the_last_line_counts_when_it_is_whole() {
    let (_folder, path) = log();
    let text = lines(-3, 1, 200);
    for cut in 1..80 {
        fs::write(&path, &text[..text.len() - cut]).unwrap();
        assert_eq!((read(&path, -300, 0).requests, read(&path, -300, 0).unreadable), (3, 0));
    }
}

#[test]
fn percentiles_are_those_of_nearest_rank() {
    let check = |times: &[&str], expected: Option<u64>| {
        let (_folder, path) = log();
        let text: String = times.iter().map(|took| line(0, 200, took)).collect();
        fs::write(&path, text).unwrap();
        let found = read(&path, -1, 0).percentile(95);
        assert_eq!(found.map(|time| u64::try_from(time.as_millis()).unwrap()), expected, "{times:?}");
    };
    check(&[], None);
    check(&["", ""], None);
    check(&[" 0.007"], Some(7));
    check(&[" 0.300", " 0.100", " 0.200"], Some(300));
    let hundred: Vec<String> = (1..=100).map(|number| format!(" 0.{number:03}")).collect();
    check(&hundred.iter().map(String::as_str).collect::<Vec<_>>(), Some(95));
    // Those that say nothing don't count.
    check(&["", " 0.001", "", ""], Some(1));
}

fn judged(options: &str, text: &str) -> (State, String) {
    let (_folder, path) = log();
    fs::write(&path, text).unwrap();
    let check = AccessLog { path: path.clone(), ..serde_json::from_str(options).unwrap() };
    let measured = check.judge(&read(&path, -300, 0));
    (measured.state, measured.text.replace(&path.display().to_string(), "LOG"))
}

#[test]
fn traffic_is_judged_by_its_errors_and_its_slowest() {
    let check = |options: &str, text: &str, state: State, expected: &str| {
        assert_eq!(judged(options, text), (state, expected.to_owned()));
    };
    let fine = lines(-200, 0, 200);
    let fast = "95 % within 100 ms, asked for: below 500ms";
    check(
        "{}",
        &fine,
        State::Ok,
        &format!("200 requests in 5m, 0 of them failed: 0 %, asked for: below 1%; {fast}"),
    );
    check(
        "{}",
        &format!("{fine}{}", lines(-4, 0, 502)),
        State::Failing,
        &format!("204 requests in 5m, 4 of them failed: 2 %, asked for: below 1%; {fast}"),
    );
    check(
        r#"{"errors_below": "2%"}"#,
        &format!("{fine}{}", lines(-4, 0, 502)),
        State::Ok,
        &format!("204 requests in 5m, 4 of them failed: 1.96 %, asked for: below 2%; {fast}"),
    );
    let slow: String = (-20..0).map(|second| line(second, 200, " 0.750")).collect();
    check(
        "{}",
        &format!("{fine}{slow}"),
        State::Failing,
        "220 requests in 5m, 0 of them failed: 0 %, asked for: below 1%; 95 % within 750 ms, asked for: below 500ms",
    );
    // A client's mistakes are no errors of the server.
    check(
        "{}",
        &lines(-200, 0, 404),
        State::Ok,
        &format!("200 requests in 5m, 0 of them failed: 0 %, asked for: below 1%; {fast}"),
    );
    check(
        "{}",
        &lines(-99, 0, 500),
        State::TooLittle,
        "99 requests in 5m, too few to judge by (at least 100)",
    );
    check("{\"at_least\": 0}", "", State::TooLittle, "0 requests in 5m, too few to judge by (at least 1)");
    let untimed: String = (-200..0).map(|second| line(second, 200, "")).collect();
    check(
        "{}",
        &untimed,
        State::Unknown,
        &format!("200 requests in 5m, 0 of them failed: 0 %, asked for: below 1%; {HOW_TO_TIME}"),
    );
    let stamp = |second| line(second, 200, "").split('"').next().unwrap().to_owned();
    let other: String = (-3..0).map(|second| format!("{} GET / took 7\n", stamp(second))).collect();
    check("{}", &other, State::Unknown, "3 lines of LOG in 5m are not in nginx's combined format");
}

/// Written by another format, JSON say: silence would look like a night without visitors.
#[test]
fn a_log_without_any_times_is_said() {
    let json = "{\"status\": 500, \"request_time\": 9.9}\n";
    let one = "1 line of LOG in 5m is not in nginx's combined format";
    assert_eq!(judged("{}", json), (State::Unknown, one.to_owned()));
    // No more of it is read than it takes to see that.
    let many = "4095 lines of LOG in 5m are not in nginx's combined format";
    assert_eq!(judged("{}", &json.repeat(100_000)), (State::Unknown, many.to_owned()));
    // A few of them within a log that is fine are none of its requests.
    let mixed = format!("{json}{json}{}", lines(-200, 0, 200));
    assert_eq!(judged("{}", &mixed).0, State::Ok);
}

#[test]
fn a_log_that_is_not_there_is_said() {
    let (_folder, path) = log();
    let error = window::read(&path, at(-300), at(0), &AtomicBool::new(false)).unwrap_err();
    assert_eq!(error, format!("{}: No such file or directory (os error 2)", path.display()));
}
