//! Reading the files of a job: one run, or the last lines; oldest first, rotated files included.

use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind};
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::line::{LIMIT, decode, run_of};
use super::{LogLine, rotated};
use crate::model::RunId;

/// What a line of a JSON log may take: each byte of the text as `\u0000`, and the keys. A longer one is
/// none of ours.
const LONGEST: usize = LIMIT * 6 + 1024;

/// The lines of one run, or of the newest run in the files, oldest first.
///
/// # Errors
/// Where the folder or a file can't be read.
pub fn read_run(directory: &Path, job: &str, run: Option<RunId>) -> io::Result<Vec<LogLine>> {
    let mut lines = Vec::new();
    visit_run(directory, job, run, |line| {
        lines.push(line);
        ControlFlow::Continue(())
    })?;
    Ok(lines)
}

/// As [`read_run`], a line at a time.
///
/// # Errors
/// Where the folder or a file can't be read.
pub fn visit_run(
    directory: &Path,
    job: &str,
    run: Option<RunId>,
    mut each: impl FnMut(LogLine) -> ControlFlow<()>,
) -> io::Result<()> {
    let files = open_all(directory, job)?;
    let wanted = match run {
        Some(run) => run,
        None => match newest_run(&files)? {
            Some(run) => run,
            None => return Ok(()),
        },
    };
    for_each_line(&files, |line| {
        if run_of(line) != Some(wanted) {
            return ControlFlow::Continue(());
        }
        decode(line).map_or(ControlFlow::Continue(()), &mut each)
    })
}

/// The last lines of all runs, or of one.
///
/// # Errors
/// Where the folder or a file can't be read.
pub fn last_lines(directory: &Path, job: &str, run: Option<RunId>, count: usize) -> io::Result<Vec<LogLine>> {
    let files = open_all(directory, job)?;
    let mut last = VecDeque::new();
    for_each_line(&files, |line| {
        if run.is_none_or(|run| run_of(line) == Some(run))
            && let Some(line) = decode(line)
        {
            last.push_back(line);
            if last.len() > count {
                last.pop_front();
            }
        }
        ControlFlow::Continue(())
    })?;
    Ok(last.into())
}

/// The run whose first line is the last such: numbers alone don't tell after a ledger was begun anew.
fn newest_run(files: &[File]) -> io::Result<Option<RunId>> {
    let mut seen = HashSet::new();
    let mut newest = None;
    for_each_line(files, |line| {
        if let Some(run) = run_of(line)
            && newest != Some(run)
            && seen.insert(run)
        {
            newest = Some(run);
        }
        ControlFlow::Continue(())
    })?;
    Ok(newest)
}

/// The job's files, the oldest first. The live one is opened first: a rotation in between makes one file
/// appear twice, which is noticed, and none vanish.
pub(super) fn open_all(directory: &Path, job: &str) -> io::Result<Vec<File>> {
    let mut files = Vec::new();
    let mut seen = HashSet::new();
    for number in 0.. {
        match File::open(rotated(directory, job, number)) {
            Ok(file) => {
                let meta = file.metadata()?;
                if seen.insert((meta.dev(), meta.ino())) {
                    files.push(file);
                }
            }
            // Between a rotation and the next line there is no live file.
            Err(error) if error.kind() == ErrorKind::NotFound && number == 0 => {
                std::fs::metadata(directory)?;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => break,
            Err(error) => return Err(error),
        }
    }
    files.reverse();
    Ok(files)
}

fn for_each_line(files: &[File], mut each: impl FnMut(&[u8]) -> ControlFlow<()>) -> io::Result<()> {
    let mut line = Vec::new();
    for mut file in files {
        io::Seek::rewind(&mut file)?;
        let mut reader = BufReader::with_capacity(64 * 1024, file);
        while next_line(&mut reader, &mut line)? {
            // The last line of the live file may be half written at this moment.
            if line.pop() == Some(b'\n') && each(&line).is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Reads a line with its end into `line`; one that is longer than any of ours is read over and left out.
pub(super) fn next_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let mut any = false;
    loop {
        let available = match reader.fill_buf() {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            other => other?,
        };
        if available.is_empty() {
            return Ok(any);
        }
        any = true;
        let end = available.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(available.len(), |end| end + 1);
        if line.len() + taken <= LONGEST {
            line.extend_from_slice(&available[..taken]);
        }
        reader.consume(taken);
        if end.is_some() {
            return Ok(true);
        }
    }
}
