//! The log of one run.

use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::file::{Entry, JobFile};
use super::line::{Cutter, harmless};
use super::{Level, LogLine, Stream, lock, read};
use crate::model::RunId;

/// The log of one run. Cheap to clone; lines of several writers don't mix.
#[derive(Clone)]
pub struct RunLog(Arc<Inner>);

struct Inner {
    run: RunId,
    to: Destination,
    state: Mutex<State>,
}

enum Destination {
    File(Arc<JobFile>),
    Memory,
}

#[derive(Default)]
struct State {
    stdout: Cutter,
    stderr: Cutter,
    /// Lines of stdout and stderr that the file holds already.
    skip: [u64; 2],
    followers: Vec<UnboundedSender<LogLine>>,
    memory: Vec<LogLine>,
    error: Option<String>,
}

impl RunLog {
    /// Kept in memory, for tests of jobs.
    pub fn memory() -> Self {
        Self(Arc::new(Inner { run: RunId(1), to: Destination::Memory, state: Mutex::default() }))
    }

    pub(super) fn to_file(file: Arc<JobFile>, run: RunId) -> Self {
        Self(Arc::new(Inner { run, to: Destination::File(file), state: Mutex::default() }))
    }

    /// A piece of a program's output, cut anywhere: whole lines are written, the rest waits for more. Gives the number
    /// of lines that this made in the log, those that were skipped among them.
    pub fn output(&self, stream: Stream, at: Timestamp, bytes: &[u8]) -> u64 {
        let mut state = lock(&self.0.state);
        let mut texts = Vec::new();
        match state.cutter(stream) {
            Some(cutter) => cutter.push(bytes, |text| texts.push(text)),
            None => texts.push(harmless(bytes)),
        }
        let lines = texts.len() as u64;
        self.write(&mut state, (stream, Level::Info), at, texts);
        lines
    }

    /// Writes what waits for its line end.
    pub fn end_output(&self, stream: Stream, at: Timestamp) {
        let mut state = lock(&self.0.state);
        let last = state.cutter(stream).and_then(Cutter::end);
        self.write(&mut state, (stream, Level::Info), at, last.into_iter().collect());
    }

    /// A line of the scheduler's or the job's own; a text of several lines becomes several, of which the first alone
    /// has a level: the others quote what a program said.
    pub fn note(&self, at: Timestamp, text: &str) {
        self.note_as(at, Level::Info, text);
    }

    /// As [`RunLog::note`], of something that somebody may want to be woken for: a JSON log says so.
    pub fn note_as(&self, at: Timestamp, level: Level, text: &str) {
        self.note_with(at, [level, Level::Info], text);
    }

    /// Of the first line, and of the others.
    pub(super) fn note_with(&self, at: Timestamp, [first, others]: [Level; 2], text: &str) {
        let mut texts = Vec::new();
        let mut cutter = Cutter::default();
        cutter.push(text.as_bytes(), |line| texts.push(line));
        texts.extend(cutter.end());
        let rest = texts.split_off(texts.len().min(1));
        let mut state = lock(&self.0.state);
        self.write(&mut state, (Stream::Note, first), at, texts);
        self.write(&mut state, (Stream::Note, others), at, rest);
    }

    /// Every line from now on; the channel closes when the last clone of this log is dropped.
    pub fn follow(&self) -> UnboundedReceiver<LogLine> {
        let (follower, lines) = unbounded_channel();
        lock(&self.0.state).followers.push(follower);
        lines
    }

    /// How many lines of this stream the file holds for this run since the newest note that begins with
    /// `attempt `: where the output of an adopted program goes on.
    pub fn lines_logged(&self, stream: Stream) -> u64 {
        let mut count = 0;
        let mut add = |line: &LogLine| {
            if line.stream == Stream::Note && begins_attempt(&line.text) {
                count = 0;
            } else if line.stream == stream {
                count += 1;
            }
        };
        match &self.0.to {
            Destination::Memory => lock(&self.0.state).memory.iter().for_each(add),
            Destination::File(file) => {
                // What can't be read is logged again rather than not at all.
                let _ = read::visit_run(file.directory(), file.job(), Some(self.0.run), |line| {
                    add(&line);
                    std::ops::ControlFlow::Continue(())
                });
            }
        }
        count
    }

    /// The next lines of this stream are not written: an adopted program's output is told from its beginning,
    /// and these [`RunLog::lines_logged`] are in the file.
    pub fn skip_lines(&self, stream: Stream, lines: u64) {
        if let Some(skip) = lock(&self.0.state).skip(stream) {
            *skip = lines;
        }
    }

    /// The first error met while writing, taken: the run reports it as a finding.
    pub fn take_error(&self) -> Option<String> {
        lock(&self.0.state).error.take()
    }

    /// The lines of a log [in memory](RunLog::memory); none of one in a file, which [`read::read_run`] reads.
    pub fn lines(&self) -> Vec<LogLine> {
        lock(&self.0.state).memory.clone()
    }

    fn write(
        &self,
        state: &mut State,
        (stream, level): (Stream, Level),
        at: Timestamp,
        mut texts: Vec<String>,
    ) {
        if let Some(skip) = state.skip(stream)
            && *skip > 0
        {
            let skipped = texts.len().min(usize::try_from(*skip).unwrap_or(usize::MAX));
            *skip -= skipped as u64;
            texts.drain(..skipped);
        }
        if texts.is_empty() {
            return;
        }
        let run = self.0.run;
        if let Destination::File(file) = &self.0.to
            && let Err(error) = file.write(&Entry { run, stream, level, at, texts: &texts })
        {
            state.error.get_or_insert(error);
        }
        let memory = matches!(self.0.to, Destination::Memory);
        if !memory && state.followers.is_empty() {
            return;
        }
        for text in texts {
            let line = LogLine { time: at, run, stream, text };
            state.followers.retain(|follower| follower.send(line.clone()).is_ok());
            if memory {
                state.memory.push(line);
            }
        }
    }
}

impl State {
    fn cutter(&mut self, stream: Stream) -> Option<&mut Cutter> {
        match stream {
            Stream::Stdout => Some(&mut self.stdout),
            Stream::Stderr => Some(&mut self.stderr),
            Stream::Note => None,
        }
    }

    fn skip(&mut self, stream: Stream) -> Option<&mut u64> {
        match stream {
            Stream::Stdout => Some(&mut self.skip[0]),
            Stream::Stderr => Some(&mut self.skip[1]),
            Stream::Note => None,
        }
    }
}

/// `attempt 2 of 3 (retry)`; other notes tell of attempts too, that one goes on or why it failed.
fn begins_attempt(note: &str) -> bool {
    let rest = note.strip_prefix("attempt ").unwrap_or_default();
    rest.trim_start_matches(|c: char| c.is_ascii_digit()).starts_with(" of ")
}
