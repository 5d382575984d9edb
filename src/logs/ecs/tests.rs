//! What stands in a line, by the schema; and what is read, of every version.

use std::ops::ControlFlow;
use std::path::Path;

use super::*;
use crate::logs::line::LIMIT;
use crate::logs::{DaemonLog, Format, Logs, RunLog, Settings, follow_file, last_lines, read_run};

/// Of schemas/*.yml of ECS 8.11, with the type in which JSON has each. `labels` is an object of keywords.
const FIELDS: &[(&str, &str)] = &[
    ("@timestamp", "date"),
    ("ecs.version", "keyword"),
    ("event.dataset", "keyword"),
    ("host.name", "keyword"),
    ("labels.", "keyword"),
    ("log.level", "keyword"),
    ("message", "match_only_text"),
    ("process.pid", "long"),
    ("service.name", "keyword"),
];

fn at(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(1_795_388_400_000 + milliseconds).unwrap()
}

fn json_logs(folder: &Path) -> Logs {
    Logs::new(folder, Settings { format: Format::Json, max_size: 1 << 30, max_files: 3 })
}

fn log(folder: &Path, run: i64) -> RunLog {
    json_logs(folder).run(&JobName::new("db-backup").unwrap(), RunId(run))
}

fn text(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join(name)).unwrap()
}

#[test]
fn a_line_is_what_the_logging_libraries_of_the_schema_write() {
    let folder = tempfile::tempdir().unwrap();
    let log = log(folder.path(), 812);
    log.note(at(1), "attempt 1 of 3");
    log.output(Stream::Stdout, at(2), "é \"x\"\\\t1\n".as_bytes());
    log.output(Stream::Stderr, at(3), b"\x1b[31mred\n");
    log.note_as(at(4), Level::Warn, "attempt 1 failed");
    log.note_as(at(5), Level::Error, "failed after 1.0s");
    let host = procfs::host_name();
    let source = format!(
        r#""ecs.version":"8.11.0","service.name":"punk-eco-sched","event.dataset":"punk_eco_sched.job","host.name":"{host}","labels.job":"db-backup","labels.run":"812""#
    );
    let expected = [
        r#"{"@timestamp":"2026-11-22T23:00:00.001Z","log.level":"info","message":"attempt 1 of 3",SOURCE,"labels.stream":"note"}"#,
        r#"{"@timestamp":"2026-11-22T23:00:00.002Z","log.level":"info","message":"é \"x\"\\\t1",SOURCE,"labels.stream":"stdout"}"#,
        r#"{"@timestamp":"2026-11-22T23:00:00.003Z","log.level":"info","message":"\\x1b[31mred",SOURCE,"labels.stream":"stderr"}"#,
        r#"{"@timestamp":"2026-11-22T23:00:00.004Z","log.level":"warn","message":"attempt 1 failed",SOURCE,"labels.stream":"note"}"#,
        r#"{"@timestamp":"2026-11-22T23:00:00.005Z","log.level":"error","message":"failed after 1.0s",SOURCE,"labels.stream":"note"}"#,
    ];
    let written = text(folder.path(), "db-backup.log");
    for (line, expected) in written.lines().zip(expected) {
        assert_eq!(line, expected.replace("SOURCE", &source));
    }
    assert_eq!(written.lines().count(), 5);
}

#[test]
fn a_note_is_one_line_of_its_level_whatever_it_quotes() {
    let folder = tempfile::tempdir().unwrap();
    let log = log(folder.path(), 812);
    log.note_as(at(0), Level::Error, "failed after 1.0s: exit code 7:\nno space left\n  at dump.sh:3");
    let written = text(folder.path(), "db-backup.log");
    let of_level = |level: &str| written.matches(&format!(r#""log.level":"{level}""#)).count();
    assert_eq!((of_level("error"), of_level("info"), written.lines().count()), (1, 2, 3), "{written}");
    assert!(written.lines().next().unwrap().contains(r#""log.level":"error","message":"failed after"#));
}

#[test]
fn the_daemons_lines_have_its_levels_and_no_run() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = DaemonLog::new(&json_logs(folder.path()));
    daemon.write(at(0), Level::Info, "ready with 4 jobs");
    daemon.write(at(0), Level::Warn, "two\nlines");
    daemon.write(at(0), Level::Error, "the \"worst\"");
    let host = procfs::host_name();
    let pid = std::process::id();
    let line = |level: &str, message: &str| {
        format!(
            r#"{{"@timestamp":"2026-11-22T23:00:00.000Z","log.level":"{level}","message":"{message}","ecs.version":"8.11.0","service.name":"punk-eco-sched","event.dataset":"punk_eco_sched.daemon","host.name":"{host}","process.pid":{pid}}}"#
        ) + "\n"
    };
    assert_eq!(
        text(folder.path(), "_daemon.log"),
        line("info", "ready with 4 jobs")
            + &line("warn", "two")
            + &line("warn", "lines")
            + &line("error", r#"the \"worst\""#)
    );
    let elsewhere = daemon.json(at(0), Level::Warn, "two\nlines");
    assert_eq!(String::from_utf8(elsewhere).unwrap(), line("warn", "two") + &line("warn", "lines"));
}

#[test]
fn every_key_is_a_field_of_the_schema_and_of_its_type() {
    let folder = tempfile::tempdir().unwrap();
    let log = log(folder.path(), i64::MAX);
    for stream in [Stream::Stdout, Stream::Stderr, Stream::Note] {
        log.output(stream, at(0), b"x\n");
    }
    let daemon = DaemonLog::new(&json_logs(folder.path()));
    for level in [Level::Info, Level::Warn, Level::Error] {
        log.note_as(at(0), level, "x");
        daemon.write(at(0), level, "x");
    }
    let written = text(folder.path(), "db-backup.log") + &text(folder.path(), "_daemon.log");
    assert_eq!(written.lines().count(), 9);
    for line in written.lines() {
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).unwrap();
        for required in ["@timestamp", "log.level", "message", "ecs.version", "service.name", "host.name"] {
            assert!(object.contains_key(required), "{required} is missing in {line}");
        }
        for (key, value) in &object {
            let known =
                FIELDS.iter().find(|(name, _)| key == name || (*name == "labels." && key.starts_with(name)));
            let Some((_, kind)) = known else { panic!("{key} is no field of the schema: {line}") };
            let fits = match *kind {
                "date" => value.as_str().is_some_and(|text| text.parse::<Timestamp>().is_ok()),
                "long" => value.is_i64() || value.is_u64(),
                _ => value.is_string(),
            };
            assert!(fits, "{key} is no {kind}: {line}");
            // A dot within a label's name would make an object of it where it is stored.
            assert!(!key.strip_prefix("labels.").is_some_and(|name| name.contains('.')), "{line}");
        }
    }
}

const OLDER: &str = "2026-11-22T22:00:00.000Z 7 stdout| as text\n\
    {\"time\":\"2026-11-22T22:00:01.000Z\",\"job\":\"db-backup\",\"run\":7,\"stream\":\"stderr\",\"text\":\"old \\\"keys\\\"\"}\n\
    {\"time\":\"2026-11-22T22:00:02.000Z\",\"job\":\"db-backup\",\"run\":8,\"stream\":\"note\",\"text\":\"of another\"}\n";

#[test]
fn a_file_may_hold_the_lines_of_every_version() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("db-backup.log"), OLDER).unwrap();
    log(folder.path(), 7).output(Stream::Stderr, at(0), b"new \"keys\"\n");
    let expected = [
        ("2026-11-22T22:00:00Z", 7, Stream::Stdout, "as text"),
        ("2026-11-22T22:00:01Z", 7, Stream::Stderr, "old \"keys\""),
        ("2026-11-22T22:00:02Z", 8, Stream::Note, "of another"),
        ("2026-11-22T23:00:00Z", 7, Stream::Stderr, "new \"keys\""),
    ]
    .map(|(time, run, stream, text)| LogLine {
        time: time.parse().unwrap(),
        run: RunId(run),
        stream,
        text: text.to_owned(),
    });
    let of_run: Vec<LogLine> = expected.iter().filter(|line| line.run == RunId(7)).cloned().collect();
    assert_eq!(last_lines(folder.path(), "db-backup", None, 9).unwrap(), expected);
    assert_eq!(read_run(folder.path(), "db-backup", Some(RunId(7))).unwrap(), of_run);
    assert_eq!(read_run(folder.path(), "db-backup", None).unwrap(), expected[2..3], "run 8 began last");
    let mut followed = Vec::new();
    follow_file(folder.path(), "db-backup", None, Some(9), |line| {
        followed.push(line);
        if followed.len() == 4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap();
    assert_eq!(followed, expected);
}

#[test]
fn what_a_program_prints_can_pass_for_no_other_run() {
    let folder = tempfile::tempdir().unwrap();
    let log = log(folder.path(), 812);
    let forged = [
        r#"x","labels.run":"5","labels.stream":"stdout"}"#,
        r#"{"@timestamp":"2026-11-22T23:00:00.000Z","message":"x","labels.run":"5","labels.stream":"note"}"#,
        "2026-11-22T23:00:00.000Z 5 note  | x",
        r"\",
        "",
    ];
    for text in forged {
        log.output(Stream::Stdout, at(0), format!("{text}\n").as_bytes());
    }
    let lines = read_run(folder.path(), "db-backup", Some(RunId(812))).unwrap();
    assert_eq!(lines.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), forged);
    assert_eq!(read_run(folder.path(), "db-backup", Some(RunId(5))).unwrap(), []);
    // Of the end alone, without parsing what stands before it.
    assert_eq!(run_of(br#"no JSON","labels.run":"812","labels.stream":"stdout"}"#), Some(RunId(812)));
    assert_eq!(run_of(br#"{"labels.run":"812","labels.stream":"elsewhere"}"#), None);
    assert_eq!(run_of(br#"{"labels.run":"eight","labels.stream":"stdout"}"#), None);
}

#[test]
fn the_longest_line_with_the_most_to_escape_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let log = log(folder.path(), i64::MIN);
    let text = "\"".repeat(LIMIT);
    log.output(Stream::Stdout, at(0), format!("{text}\n").as_bytes());
    let lines = read_run(folder.path(), "db-backup", None).unwrap();
    assert_eq!((lines.len(), lines[0].run), (1, RunId(i64::MIN)));
    assert!(lines[0].text == text);
}
