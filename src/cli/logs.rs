//! `logs`: what a job wrote, from the files, with or without a daemon.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::anyhow;

use super::output::{Colour, Paint};
use crate::logs::{LogLine, Stream, follow_file, last_lines, text_line, visit_run};
use crate::model::RunId;

/// What is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// Absent: the newest, and with `follow` or `lines` all.
    pub run: Option<RunId>,
    pub follow: bool,
    pub lines: Option<usize>,
    pub json: bool,
}

/// Prints the lines; how many there were, so that the caller can say where it looked when there were none.
///
/// # Errors
/// Where the log can't be read; an [`io::Error`] where `out` can't be written.
pub fn logs(
    directory: &Path,
    job: &str,
    wanted: Wanted,
    paint: Paint,
    out: &mut dyn Write,
) -> anyhow::Result<usize> {
    let Wanted { run, follow, lines, json } = wanted;
    if follow && json {
        anyhow::bail!("--json prints one document, which would never end with --follow: use one of them");
    }
    let mut count = 0;
    let mut written = Ok(());
    let mut print_one = |line: LogLine| {
        written = print_as(&line, json, count == 0, paint, out)
            // Who follows wants to see each line as it comes.
            .and_then(|()| if follow { out.flush() } else { Ok(()) });
        count += 1;
        if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    let read = match lines {
        _ if follow => follow_file(directory, job, run, lines, print_one),
        Some(lines) => last_lines(directory, job, run, lines).map(|last| {
            let _ = last.into_iter().try_for_each(&mut print_one);
        }),
        None => visit_run(directory, job, run, print_one),
    };
    written?;
    read.map_err(|error| anyhow!("{}: the log of {job} can't be read: {error}", directory.display()))?;
    if json {
        out.write_all(if count == 0 { b"[]\n" } else { b"\n]\n" })?;
    }
    out.flush()?;
    Ok(count)
}

fn print_as(line: &LogLine, json: bool, first: bool, paint: Paint, out: &mut dyn Write) -> io::Result<()> {
    if !json {
        return print(line, paint, out);
    }
    out.write_all(if first { b"[\n" } else { b",\n" })?;
    Ok(serde_json::to_writer(&mut *out, line)?)
}

/// As in a text log, whatever the format of the file.
pub(super) fn print(line: &LogLine, paint: Paint, out: &mut dyn Write) -> io::Result<()> {
    let (head, text) = text_line(line);
    let colour = match line.stream {
        Stream::Stdout => None,
        Stream::Stderr => Some(Colour::Yellow),
        Stream::Note => Some(Colour::Dim),
    };
    let text = colour.map_or_else(|| text.clone(), |colour| paint.on(colour, &text));
    writeln!(out, "{}{text}", paint.on(Colour::Dim, &head))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "2026-11-22T23:00:00.123Z 1 note  | attempt 1 of 1\n\
                       2026-11-22T23:00:01.000Z 2 stdout| hello\n\
                       2026-11-22T23:00:02.000Z 2 stderr| \u{1b}[31mforged by hand\n";

    fn printed(wanted: Wanted) -> anyhow::Result<(usize, String)> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.log"), LOG).unwrap();
        let mut out = Vec::new();
        let count = logs(folder.path(), "a", wanted, Paint::plain(), &mut out)?;
        Ok((count, String::from_utf8(out).unwrap()))
    }

    #[test]
    fn lines_are_shown_as_they_are_asked_for() {
        let check = |wanted: Wanted, expected: &str| {
            let (count, text) = printed(wanted).unwrap();
            assert_eq!(text, expected, "{wanted:?}");
            assert_eq!(count, expected.matches("Z").count(), "{wanted:?}");
        };
        let latest = "2026-11-22T23:00:01.000Z 2 stdout| hello\n\
                      2026-11-22T23:00:02.000Z 2 stderr| \\x1b[31mforged by hand\n";
        check(Wanted::default(), latest);
        check(Wanted { lines: Some(2), ..Wanted::default() }, latest);
        check(
            Wanted { run: Some(RunId(1)), ..Wanted::default() },
            "2026-11-22T23:00:00.123Z 1 note  | attempt 1 of 1\n",
        );
        check(
            Wanted { run: Some(RunId(1)), json: true, ..Wanted::default() },
            "[\n{\"time\":\"2026-11-22T23:00:00.123Z\",\"run\":1,\"stream\":\"note\",\"text\":\"attempt 1 of 1\"}\n]\n",
        );
        check(Wanted { run: Some(RunId(9)), json: true, ..Wanted::default() }, "[]\n");
        check(Wanted { run: Some(RunId(9)), ..Wanted::default() }, "");
    }

    #[test]
    fn what_cannot_be_shown_says_why() {
        assert_eq!(
            printed(Wanted { follow: true, json: true, ..Wanted::default() }).unwrap_err().to_string(),
            "--json prints one document, which would never end with --follow: use one of them"
        );
        let error =
            logs(Path::new("/nowhere"), "a", Wanted::default(), Paint::plain(), &mut Vec::new()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "/nowhere: the log of a can't be read: No such file or directory (os error 2)"
        );
    }

    #[test]
    fn a_follower_stops_when_nobody_reads_any_more() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.log"), LOG).unwrap();
        let wanted = Wanted { follow: true, ..Wanted::default() };
        let error = logs(folder.path(), "a", wanted, Paint::plain(), &mut Closed).unwrap_err();
        assert_eq!(error.downcast_ref::<io::Error>().unwrap().kind(), io::ErrorKind::BrokenPipe);
    }
}
