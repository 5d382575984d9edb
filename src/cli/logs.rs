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
