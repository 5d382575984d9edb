//! A custom dump: only pg_restore can read it, so it is read through pg_restore, to its end.
//!
//! The bytes that pg_restore reads are those that are hashed: they come to it from our own reading, decrypted on the
//! way. Nothing is restored: it writes the dump as text, whose rows are counted.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use rustix::pipe::PipeFlags;
use tokio_util::sync::CancellationToken;

use super::walk::Walk;
use crate::backup::postgres::{Custom, Readers};
use crate::backup::read::{Examined, ReadError, Reading};
use crate::backup::stream::{self, Source, Stop, StreamError};
use crate::backup::work::{Trouble, Work};
use crate::host::process::Status;
use crate::policy::TERM_GRACE;

/// How long pg_restore may say nothing, which it does while it reads what it passes over.
const STALL: Duration = Duration::from_mins(10);

/// What pg_restore will not take from any file, and another version may.
const NOT_THE_FILE: [&str; 2] = ["unsupported version", "not support"];

pub(super) struct Restored {
    /// Of the file; its content is what pg_restore made of it.
    pub(super) examined: Result<Examined, ReadError>,
    /// Why pg_restore could not read the file to its end.
    pub(super) refused: Option<String>,
    /// Over all of the file that could be read.
    pub(super) walk: Walk,
    /// `15.18 (Debian 15.18-0+deb12u1)`
    pub(super) version: String,
}

/// # Errors
/// Where pg_restore is missing, was ended, or is of the wrong version.
pub(super) async fn restored(work: &Work, reading: Reading, readers: &Readers) -> Result<Restored, Trouble> {
    let tools = readers.find(work).await?;
    let (stdin, to_program) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(no_pipe)?;
    let stop = Stop::new().map_err(no_pipe)?;
    let mut running = work.programs.start(tools.read_custom(Custom::Pipe(stdin))?.program).await?;
    let Some(pipe) = running.stdout.take() else { return Err(no_pipe(io::ErrorKind::BrokenPipe)) };

    let cancel = work.cancel.clone();
    let feeding = tokio::task::spawn_blocking(move || feed(reading, to_program.into(), &cancel));
    let source = Source { pipe, stall: STALL, stop: Arc::clone(&stop) };
    let mut counting = tokio::task::spawn_blocking(move || stream::count(source));
    let counted = tokio::select! {
        counted = &mut counting => joined(counted),
        () = work.cancel.cancelled() => {
            stop.stop();
            joined(counting.await)
        }
    };
    if counted.is_err() {
        work.programs.end_all(TERM_GRACE).await;
    }
    let exit = running.wait().await;
    let (examined, walk) = joined(feeding.await);
    let (bytes, counted) = match counted {
        Ok(counted) => counted,
        Err(StreamError::Stopped) => return Err(Trouble::Passing(anyhow!("stopped"))),
        Err(error) => return Err(Trouble::Passing(anyhow!("pg_restore was ended: {error}"))),
    };
    let examined = examined.map(|examined| Examined { uncompressed_bytes: bytes, counted, ..examined });
    let refused = match exit.status {
        Status::Code(0) => None,
        Status::Code(code) => Some(last_words(code, &exit.stderr)),
        Status::Signal(signal) => {
            return Err(Trouble::Passing(anyhow!("pg_restore was ended by signal {signal}")));
        }
        Status::Unknown => return Err(Trouble::Passing(anyhow!("pg_restore ended, and nobody knows how"))),
    };
    if let Some(said) = refused.as_ref().filter(|said| NOT_THE_FILE.iter().any(|text| said.contains(text))) {
        return Err(Trouble::Lasting(anyhow!(
            "pg_restore {} can't read this dump: {said}; install a newer postgresql-client",
            tools.version
        )));
    }
    Ok(Restored { examined, refused, walk, version: tools.version })
}

/// Goes on reading when pg_restore has had enough: the file is hashed to its end all the same.
fn feed(reading: Reading, mut to: File, cancel: &CancellationToken) -> (Result<Examined, ReadError>, Walk) {
    let mut listens = true;
    let mut walk = Walk::default();
    let examined = reading.examine(cancel, |piece| {
        walk.feed(piece);
        if listens {
            match to.write_all(piece) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => listens = false,
                other => return other,
            }
        }
        Ok(())
    });
    (examined, walk)
}

fn last_words(code: i32, stderr: &[u8]) -> String {
    let said = String::from_utf8_lossy(stderr);
    let lines = || said.lines().map(str::trim).filter(|line| !line.is_empty());
    let told = lines().find(|line| line.contains(": error: ")).or_else(|| lines().next_back());
    match told {
        Some(line) => line.trim_start_matches("pg_restore: error: ").to_owned(),
        None => format!("it ended with code {code} and said nothing"),
    }
}

fn no_pipe(error: impl Into<io::Error>) -> Trouble {
    Trouble::Passing(anyhow!("pg_restore can't be given the dump: {}", error.into()))
}

fn joined<T>(ended: Result<T, tokio::task::JoinError>) -> T {
    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}
