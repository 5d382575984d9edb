//! The requests of some minutes, from a log and from what rotation has made of it meanwhile. Judges nothing.
//!
//! Nothing is remembered between runs: lines are in the order of their times, so that the first one of the time asked
//! for is found by bisection in every file that was written since. Whichever way the files are rotated (renamed, copied
//! and truncated, compressed, twice within the time), each line counts once: files are told apart by their inodes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use jiff::Timestamp;

use super::line;

/// Below this a file is read from where it is.
const NEAR: u64 = 64 * 1024;
/// A longer line is none of a web server.
const LONGEST_LINE: usize = 64 * 1024;
/// Between two looks at whether the answer is still wanted.
const LINES: u64 = 4096;
/// How often files may be renamed under our hands.
const TRIES: usize = 5;

/// What was served.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Traffic {
    pub(super) requests: u64,
    /// Answered with 500 and above.
    pub(super) errors: u64,
    /// Lines of another format.
    pub(super) unreadable: u64,
    /// How many took so many milliseconds: as exact as the log, in bounded memory.
    times: BTreeMap<u64, u64>,
}

impl Traffic {
    fn add(&mut self, text: &[u8]) {
        let Some(request) = line::request(text) else {
            self.unreadable += 1;
            return;
        };
        self.requests += 1;
        self.errors += u64::from(request.status >= 500);
        if let Some(took) = request.took {
            let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            *self.times.entry(milliseconds).or_default() += 1;
        }
    }

    /// By nearest rank; none where no line says how long it took.
    pub(super) fn percentile(&self, percent: u64) -> Option<Duration> {
        let timed: u64 = self.times.values().sum();
        let rank = (timed * percent).div_ceil(100).max(1);
        let mut seen = 0;
        let at = self.times.iter().find(|(_, count)| {
            seen += **count;
            seen >= rank
        });
        at.map(|(milliseconds, _)| Duration::from_millis(*milliseconds))
    }
}

/// The requests after `since`, up to and with `until`. `stop`: nobody waits for it any more.
///
/// # Errors
/// In words: what can't be read.
pub(super) fn read(
    path: &Path,
    since: Timestamp,
    until: Timestamp,
    stop: &AtomicBool,
) -> Result<Traffic, String> {
    let mut traffic = Traffic::default();
    for LogFile { path, file } in
        files(path, since).map_err(|error| format!("{}: {error}", path.display()))?
    {
        let mut window = Window { since, until, stop, traffic: &mut traffic };
        let is_packed = path.extension().is_some_and(|end| end == "gz");
        let read = if is_packed {
            window.count(BufReader::new(MultiGzDecoder::new(file)))
        } else {
            begin(&file, since).and_then(|begin| {
                let mut file = &file;
                file.seek(SeekFrom::Start(begin))?;
                let length = file.metadata()?.len().saturating_sub(begin);
                window.count(BufReader::with_capacity(128 * 1024, file.take(length)))
            })
        };
        read.map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(traffic)
}

struct Window<'a> {
    since: Timestamp,
    until: Timestamp,
    stop: &'a AtomicBool,
    traffic: &'a mut Traffic,
}

impl Window<'_> {
    fn count(&mut self, mut lines: impl BufRead) -> io::Result<()> {
        let mut text = Vec::with_capacity(1024);
        let mut known: Option<(Vec<u8>, bool)> = None;
        // Lines without a time are of the moment of the last one that has one.
        let mut is_within = false;
        let mut untimed = 0;
        for number in 1.. {
            text.clear();
            let length = (&mut lines).take(LONGEST_LINE as u64).read_until(b'\n', &mut text)?;
            // The last one may still be in writing.
            if length == 0 || (text.last() != Some(&b'\n') && length < LONGEST_LINE) {
                break;
            }
            if number % LINES == 0 && (self.stop.load(Ordering::Relaxed) || untimed == number - 1) {
                break;
            }
            text.pop();
            // Many lines have the same second.
            let stamp = stamp(&text);
            match &known {
                Some((known, within)) if stamp.is_some_and(|stamp| stamp == &known[..]) => {
                    is_within = *within
                }
                _ => match line::time(&text) {
                    Some(at) => {
                        is_within = self.since < at && at <= self.until;
                        known = stamp.map(|stamp| (stamp.to_vec(), is_within));
                    }
                    None => untimed += 1,
                },
            }
            if is_within {
                self.traffic.add(&text);
            }
        }
        // A log of another format has no time at all, and was written in the time asked for: that is to be heard of.
        if known.is_none() {
            self.traffic.unreadable += untimed;
        }
        Ok(())
    }
}

fn stamp(line: &[u8]) -> Option<&[u8]> {
    let begin = line.iter().position(|byte| *byte == b'[')?;
    line.get(begin..begin + 28)
}

struct LogFile {
    path: PathBuf,
    file: File,
}

/// The log and its rotated ones that were written since, each once, whatever is renamed meanwhile.
fn files(path: &Path, since: Timestamp) -> io::Result<Vec<LogFile>> {
    let mut tries = 0;
    loop {
        tries += 1;
        let before = listed(path)?;
        let mut opened = Vec::new();
        let mut inodes = BTreeSet::new();
        let mut moved = false;
        for (path, inode) in &before {
            let file = match File::open(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    moved = true;
                    continue;
                }
                file => file?,
            };
            let metadata = file.metadata()?;
            moved |= metadata.ino() != *inode;
            let written = Timestamp::from_second(metadata.mtime()).unwrap_or(Timestamp::MAX);
            if inodes.insert(metadata.ino()) && written >= since {
                opened.push(LogFile { path: path.clone(), file });
            }
        }
        if tries == TRIES || (!moved && listed(path)? == before) {
            return Ok(opened);
        }
    }
}

/// With their inodes. One that is being compressed has both forms for a while: the plain one counts.
fn listed(path: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let other = entry.file_name().to_string_lossy().into_owned();
        if other.strip_prefix(&name).is_some_and(is_rotated) {
            // Gone between the two: renamed, most likely, and found under its other name in the next round.
            let Ok(metadata) = fs::metadata(entry.path()) else { continue };
            if metadata.is_file() {
                found.push((entry.path(), metadata.ino()));
            }
        }
    }
    if found.is_empty() {
        // The system's own words for it.
        File::open(path)?;
    }
    found.sort();
    let plain: BTreeSet<PathBuf> = found.iter().map(|(path, _)| path.clone()).collect();
    found.retain(|(path, _)| {
        path.extension().is_none_or(|end| end != "gz") || !plain.contains(&path.with_extension(""))
    });
    Ok(found)
}

/// `access.log`, `access.log.1`, `access.log.2.gz`, `access.log-20261122`, `access.log-20261122-1.gz`
fn is_rotated(rest: &str) -> bool {
    let number = rest.strip_suffix(".gz").unwrap_or(rest);
    let is_number = number.starts_with(['.', '-']) && number.bytes().any(|byte| byte.is_ascii_digit());
    rest.is_empty()
        || (is_number && number.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-')))
}

/// Where to begin to read: at or before the first line after `since`.
fn begin(file: &File, since: Timestamp) -> io::Result<u64> {
    let (mut low, mut high) = (0, file.metadata()?.len());
    while high - low > NEAR {
        let middle = low + (high - low) / 2;
        match next_time(file, middle)? {
            Some((_, at)) if at > since => high = middle,
            Some((line, _)) if line < high => low = line,
            // Nothing that has a time: what lies before says more.
            _ => high = middle,
        }
    }
    Ok(low)
}

/// The first line that begins after `offset` and has a time, among the next few.
fn next_time(mut file: &File, offset: u64) -> io::Result<Option<(u64, Timestamp)>> {
    file.seek(SeekFrom::Start(offset))?;
    let mut block = Vec::new();
    file.take(NEAR).read_to_end(&mut block)?;
    let mut begin = 0;
    while let Some(end) = block[begin..].iter().position(|byte| *byte == b'\n') {
        // The first piece is the rest of a line.
        if begin > 0
            && let Some(at) = line::time(&block[begin..begin + end])
        {
            return Ok(Some((offset + begin as u64, at)));
        }
        begin += end + 1;
    }
    Ok(None)
}
