//! Files, rotation, failures and followers, as users of the module see them.

use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use super::line::LIMIT;
use super::*;

fn at(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(1_795_388_400_000 + milliseconds).unwrap()
}

fn settings(max_size: u64, max_files: u32) -> Settings {
    Settings { format: Format::Text, max_size, max_files }
}

fn job(name: &str) -> JobName {
    JobName::new(name).unwrap()
}

fn text(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join(name)).unwrap_or_default()
}

fn texts(lines: &[LogLine]) -> Vec<&str> {
    lines.iter().map(|line| line.text.as_str()).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|one| one.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_line_tells_time_run_and_stream() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("made/where/missing");
    let logs = Logs::new(&directory, settings(1 << 20, 3));
    let log = logs.run(&job("db-backup"), RunId(812));
    assert!(!directory.exists(), "the disk is touched before the first line");
    log.note(at(123), "attempt 1 of 3");
    log.output(Stream::Stdout, at(124), b"one\ntw");
    log.output(Stream::Stderr, at(125), b"wrong\r\n");
    log.output(Stream::Stdout, at(60_000), b"o\n\nrest");
    log.end_output(Stream::Stdout, at(60_001));
    log.end_output(Stream::Stdout, at(60_002));
    log.note(at(60_003), "two\nlines");
    assert_eq!(
        text(&directory, "db-backup.log"),
        "2026-11-22T23:00:00.123Z 812 note  | attempt 1 of 3\n\
         2026-11-22T23:00:00.124Z 812 stdout| one\n\
         2026-11-22T23:00:00.125Z 812 stderr| wrong\n\
         2026-11-22T23:01:00.000Z 812 stdout| two\n\
         2026-11-22T23:01:00.000Z 812 stdout| \n\
         2026-11-22T23:01:00.001Z 812 stdout| rest\n\
         2026-11-22T23:01:00.003Z 812 note  | two\n\
         2026-11-22T23:01:00.003Z 812 note  | lines\n"
    );
    let mode = directory.join("db-backup.log").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o137, 0);
    assert_eq!(log.take_error(), None);
    logs.reconfigure(Settings { format: Format::Json, ..settings(1 << 20, 3) });
    log.output(Stream::Stdout, at(70_000), "é \"x\"\n".as_bytes());
    let line = text(&directory, "db-backup.log").lines().last().unwrap().to_owned();
    assert!(line.starts_with(r#"{"@timestamp":"2026-11-22T23:01:10.000Z","#), "{line}");
    // Both formats in one file.
    let lines = read_run(&directory, "db-backup", None).unwrap();
    assert_eq!(
        texts(&lines),
        ["attempt 1 of 3", "one", "wrong", "two", "", "rest", "two", "lines", "é \"x\""]
    );
    assert_eq!(
        lines[2],
        LogLine { time: at(125), run: RunId(812), stream: Stream::Stderr, text: "wrong".into() }
    );
}

#[test]
fn a_job_can_neither_forge_a_line_nor_reach_a_terminal() {
    let check = |bytes: &[u8], expected: &str| {
        let log = RunLog::memory();
        log.output(Stream::Stdout, at(0), bytes);
        log.output(Stream::Stdout, at(0), b"\n");
        assert_eq!(texts(&log.lines()), [expected]);
    };
    check(b"a\tb \\ c", "a\tb \\ c");
    check(b"\x1b[31mred\x07", "\\x1b[31mred\\x07");
    check(b"10%\r20%", "10%\\r20%");
    check(b"nul \0 del \x7f", "nul \\x00 del \\x7f");
    check(b"latin \xe9 cut \xe2\x82", "latin \u{fffd} cut \u{fffd}");
    check("c1 \u{9b}31m".as_bytes(), "c1 \\x9b31m");
    check("\u{202e}gnp.exe\u{2028}2026".as_bytes(), "\\u{202e}gnp.exe\\u{2028}2026");
    check("ünïcode 漢字 🎉".as_bytes(), "ünïcode 漢字 🎉");
}

#[test]
fn a_long_line_is_cut_by_its_content_alone() {
    let long = |count: usize| "é".repeat(count);
    // The cut falls within a character: 1 + 2n is odd.
    let line = format!("x{}", long(LIMIT));
    let whole = |pieces: usize| {
        let log = RunLog::memory();
        for piece in format!("{line}\nnext\n").as_bytes().chunks(pieces) {
            log.output(Stream::Stdout, at(0), piece);
        }
        log.lines()
    };
    let expected = whole(usize::MAX);
    let [first, second, third, last] = &texts(&expected)[..] else { panic!("{} lines", expected.len()) };
    assert_eq!(*first, format!("x{} […]", long(LIMIT / 2 - 1)));
    assert_eq!(*second, format!("[…] {} […]", long(LIMIT / 2)));
    assert_eq!(*third, "[…] é");
    assert_eq!(*last, "next");
    for pieces in [1, 7, 4096, LIMIT, LIMIT + 1] {
        assert_eq!(whole(pieces), expected, "in pieces of {pieces}");
    }
    let check = |length: usize, expected: usize| {
        let log = RunLog::memory();
        log.output(Stream::Stderr, at(0), &vec![b'a'; length]);
        log.output(Stream::Stderr, at(0), b"\n");
        assert_eq!(log.lines().len(), expected, "{length}");
    };
    check(LIMIT, 1);
    check(LIMIT + 1, 2);
}

#[test]
fn files_rotate_by_size_and_no_line_is_torn_or_lost() {
    let folder = tempfile::tempdir().unwrap();
    // A line has 36 bytes before its text and one after: three lines of 63 fit 200 bytes.
    let logs = Logs::new(folder.path(), settings(200, 3));
    let log = logs.run(&job("a"), RunId(1));
    let line = |number: u32| format!("{number:026}\n");
    let batch: String = (0..4).map(line).collect();
    log.output(Stream::Stdout, at(0), batch.as_bytes());
    assert_eq!(names(folder.path()), ["a.log", "a.log.1"]);
    assert_eq!(
        (text(folder.path(), "a.log.1").lines().count(), text(folder.path(), "a.log").lines().count()),
        (3, 1)
    );
    for number in 4..10 {
        log.output(Stream::Stdout, at(0), line(number).as_bytes());
    }
    assert_eq!(names(folder.path()), ["a.log", "a.log.1", "a.log.2"]);
    let numbers = || -> Vec<u32> {
        let lines = read_run(folder.path(), "a", Some(RunId(1))).unwrap();
        lines.iter().map(|line| line.text.parse().unwrap()).collect()
    };
    assert_eq!(numbers(), (3..10).collect::<Vec<_>>());
    for name in names(folder.path()) {
        assert!(folder.path().join(&name).metadata().unwrap().len() <= 200, "{name}");
    }
    // Fewer after a reload; and a line larger than a file still has its own.
    logs.reconfigure(settings(200, 1));
    log.output(Stream::Stdout, at(0), format!("{}\n", "9".repeat(9)).repeat(6).as_bytes());
    assert_eq!(names(folder.path()), ["a.log"]);
    logs.reconfigure(settings(20, 2));
    log.output(Stream::Stdout, at(0), b"11\n12\n");
    assert_eq!(names(folder.path()), ["a.log", "a.log.1"]);
    assert_eq!(numbers(), [11, 12]);
}

#[test]
fn many_runs_share_a_file_and_leave_none_open() {
    let folder = tempfile::tempdir().unwrap();
    let logs = Logs::new(folder.path(), settings(4000, 100));
    std::thread::scope(|scope| {
        for run in 0..8 {
            let log = logs.run(&job("a"), RunId(run));
            scope.spawn(move || {
                for number in 0..200 {
                    log.output(Stream::Stdout, at(0), format!("{number}\n").as_bytes());
                }
            });
        }
    });
    for run in 0..8 {
        let lines = read_run(folder.path(), "a", Some(RunId(run))).unwrap();
        let numbers: Vec<i32> = lines.iter().map(|line| line.text.parse().unwrap()).collect();
        assert_eq!(numbers, (0..200).collect::<Vec<_>>());
    }
    let kept: Vec<RunLog> = (0..500).map(|n| logs.run(&job(&format!("quiet-{n}")), RunId(n))).collect();
    kept[0].note(at(0), "x");
    let open = || {
        let links = std::fs::read_dir("/proc/self/fd").unwrap();
        let inside = links.filter(|link| {
            std::fs::read_link(link.as_ref().unwrap().path())
                .is_ok_and(|target| target.starts_with(folder.path()))
        });
        inside.count()
    };
    assert_eq!((open(), lock(&logs.0.files).len()), (1, 500));
    drop(kept);
    assert_eq!((open(), lock(&logs.0.files).len()), (0, 0));
}

#[test]
fn two_processes_may_rotate_the_same_file() {
    let folder = tempfile::tempdir().unwrap();
    // Two sets of logs know as little of each other as two processes.
    std::thread::scope(|scope| {
        for run in 0..2 {
            let log = Logs::new(folder.path(), settings(1000, 500)).run(&job("a"), RunId(run));
            scope.spawn(move || {
                for number in 0..1000 {
                    log.output(Stream::Stdout, at(0), format!("{number}\n").as_bytes());
                }
            });
        }
    });
    for run in 0..2 {
        let lines = read_run(folder.path(), "a", Some(RunId(run))).unwrap();
        let mut numbers: Vec<i32> = lines.iter().map(|line| line.text.parse().unwrap()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..1000).collect::<Vec<_>>());
    }
}

#[test]
fn an_unwritable_log_stops_no_job_and_what_waited_is_written_later() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("logs");
    // A file in the place of the folder: not even root writes there.
    std::fs::write(&directory, "").unwrap();
    let logs = Logs::new(&directory, settings(1 << 20, 3));
    let log = logs.run(&job("a"), RunId(1));
    log.output(Stream::Stdout, at(0), b"first\n");
    let error = log.take_error().unwrap();
    assert_eq!(
        error,
        format!(
            "{}: the log can't be written: Not a directory (os error 20)",
            directory.join("a.log").display()
        )
    );
    assert_eq!(log.take_error(), None);
    log.output(Stream::Stdout, at(1), &b"many\n".repeat(20_000));
    std::fs::remove_file(&directory).unwrap();
    log.output(Stream::Stdout, at(2), b"last\n");
    let lines = read_run(&directory, "a", None).unwrap();
    let kept = lines.iter().filter(|line| line.text == "many").count();
    assert_eq!(lines[0].text, "first");
    assert_eq!(
        texts(&lines[kept + 1..]),
        [&format!("{} lines were lost while the log could not be written", 20_000 - kept), "last"]
    );
    assert!(kept > 5_000, "{kept}");
}

#[test]
fn what_a_full_disk_broke_spoils_one_line_only() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.log"), "2026-11-22T23:00:00.000Z 1 stdout| whole\n2026-11-22T23:0")
        .unwrap();
    let logs = Logs::new(folder.path(), settings(1 << 20, 3));
    logs.run(&job("a"), RunId(1)).note(at(0), "next");
    assert_eq!(texts(&read_run(folder.path(), "a", None).unwrap()), ["whole", "next"]);
    // Somebody deletes the file under a run.
    let log = logs.run(&job("a"), RunId(2));
    log.note(at(0), "one");
    std::fs::remove_file(folder.path().join("a.log")).unwrap();
    log.note(at(0), "two");
    assert_eq!(texts(&read_run(folder.path(), "a", None).unwrap()), ["two"]);
}

#[test]
fn followers_hear_every_line_until_the_log_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let log = Logs::new(folder.path(), settings(1 << 20, 3)).run(&job("a"), RunId(7));
    log.note(at(0), "before");
    let mut lines = log.follow();
    let other = log.clone();
    other.output(Stream::Stderr, at(1), b"a\nb");
    other.end_output(Stream::Stderr, at(2));
    drop(log);
    drop(other);
    let mut heard = Vec::new();
    while let Some(line) = lines.blocking_recv() {
        heard.push((line.run.0, line.stream, line.text));
    }
    assert_eq!(heard, [(7, Stream::Stderr, "a".to_owned()), (7, Stream::Stderr, "b".to_owned())]);
}

#[test]
fn an_adopted_programs_output_goes_on_where_the_file_ends() {
    let folder = tempfile::tempdir().unwrap();
    let logs = Logs::new(folder.path(), settings(120, 100));
    let output: String = (0..20).map(|number| format!("{number}\n")).collect();
    let before = logs.run(&job("a"), RunId(1));
    before.note(at(0), "attempt 1 of 2");
    before.output(Stream::Stdout, at(0), b"old\nold\n");
    before.note(at(0), "attempt 2 of 2");
    before.output(Stream::Stderr, at(0), b"elsewhere\n");
    logs.run(&job("a"), RunId(2)).output(Stream::Stdout, at(0), b"another run\n");
    before.output(Stream::Stdout, at(0), &output.as_bytes()[..17]);
    drop(before);
    // As the engine says it before it takes the program's output over.
    logs.run(&job("a"), RunId(1)).note(at(1), "attempt 2 goes on: pid 812 was adopted");
    let after = logs.run(&job("a"), RunId(1));
    let logged = after.lines_logged(Stream::Stdout);
    assert_eq!((logged, after.lines_logged(Stream::Stderr)), (8, 1));
    after.skip_lines(Stream::Stdout, logged);
    for piece in output.as_bytes().chunks(5) {
        after.output(Stream::Stdout, at(1), piece);
    }
    let lines = read_run(folder.path(), "a", Some(RunId(1))).unwrap();
    let numbers: Vec<&str> = lines
        .iter()
        .filter(|line| line.stream == Stream::Stdout)
        .map(|line| line.text.as_str())
        .skip(2)
        .collect();
    assert_eq!(numbers, output.lines().collect::<Vec<_>>());
}

#[test]
fn the_newest_run_is_the_one_that_began_last() {
    let folder = tempfile::tempdir().unwrap();
    let logs = Logs::new(folder.path(), settings(100, 10));
    let (first, second) = (logs.run(&job("a"), RunId(900)), logs.run(&job("a"), RunId(3)));
    first.note(at(0), "one");
    second.note(at(1), "two");
    first.note(at(2), "three");
    assert_eq!(texts(&read_run(folder.path(), "a", None).unwrap()), ["two"]);
    assert_eq!(texts(&read_run(folder.path(), "a", Some(RunId(900))).unwrap()), ["one", "three"]);
    assert_eq!(texts(&last_lines(folder.path(), "a", None, 2).unwrap()), ["two", "three"]);
    assert_eq!(texts(&last_lines(folder.path(), "a", Some(RunId(900)), 9).unwrap()), ["one", "three"]);
    assert_eq!(read_run(folder.path(), "nobody", None).unwrap(), []);
    assert_eq!(
        read_run(&folder.path().join("absent"), "a", None).unwrap_err().kind(),
        std::io::ErrorKind::NotFound
    );
}

#[test]
fn following_a_file_survives_rotation_and_begins_before_there_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    let directory = folder.path().to_owned();
    let follower = std::thread::spawn(move || {
        follow_file(&directory, "a", None, None, |line| {
            tell.send(line.text.clone()).unwrap();
            if line.text == "end" { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    });
    let logs = Logs::new(folder.path(), settings(200, 50));
    let log = logs.run(&job("a"), RunId(1));
    logs.run(&job("ab"), RunId(5)).note(at(0), "of another job");
    let mut expected = Vec::new();
    for number in 0..100 {
        log.output(Stream::Stdout, at(0), format!("{number}\n").as_bytes());
        expected.push(number.to_string());
        if number % 10 == 0 {
            // In step now and then, so that both slow and fast writers are followed.
            while !expected.is_empty() {
                assert_eq!(told.recv_timeout(Duration::from_secs(20)).unwrap(), expected.remove(0));
            }
        }
    }
    log.note(at(0), "end");
    expected.push("end".into());
    for text in expected {
        assert_eq!(told.recv_timeout(Duration::from_secs(20)).unwrap(), text);
    }
    follower.join().unwrap();
}

#[test]
fn following_begins_with_what_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let logs = Logs::new(folder.path(), settings(100, 50));
    for run in 1..4 {
        let log = logs.run(&job("a"), RunId(run));
        log.note(at(0), &format!("{run} begins"));
        log.note(at(0), &format!("{run} ends"));
    }
    let check = |run: Option<i64>, lines: Option<usize>, expected: &[&str]| {
        let mut heard = Vec::new();
        follow_file(folder.path(), "a", run.map(RunId), lines, |line| {
            heard.push(line.text);
            if heard.len() == expected.len() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
        assert_eq!(heard, expected);
    };
    check(None, None, &["3 begins", "3 ends"]);
    check(None, Some(3), &["2 ends", "3 begins", "3 ends"]);
    check(Some(2), None, &["2 begins", "2 ends"]);
    check(Some(1), Some(1), &["1 ends"]);
}
