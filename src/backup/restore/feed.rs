//! Carries a backup's content into the program that restores it, and judges both ends.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use anyhow::anyhow;
use rustix::pipe::{PipeFlags, pipe_with};

use super::server::{Server, stopped};
use crate::backup::crypt::Identities;
use crate::backup::postgres::{Call, Format, explain};
use crate::backup::read::{Examined, Progress, ReadError, Reading};
use crate::backup::work::Trouble;
use crate::host::postgres::Connection;
use crate::host::process::{Output, Status, Stdin};
use crate::policy::TERM_GRACE;

/// Restores the content of `file` into `database`, which must be empty.
///
/// # Errors
/// What the program said, or what is wrong with the file. What was restored until then stays: drop the database.
pub(super) async fn feed(
    server: &Server<'_>,
    database: &str,
    file: &Path,
    keys: Option<Identities>,
    progress: Progress,
) -> Result<Examined, Trouble> {
    let opened = File::open(file).map_err(|error| anyhow!("{} can't be opened: {error}", file.display()))?;
    let reading = Reading::open(opened, keys.as_ref(), progress).map_err(|error| unreadable(file, &error))?;
    let custom = reading.form().format == Format::Custom;
    let (read_end, write_end) =
        pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from).map_err(anyhow::Error::from)?;
    let stdin = Stdin::From(read_end);
    let Call { name, mut program } = if custom {
        server.tools.restore_custom(server.entry, database, stdin)?
    } else {
        server.tools.psql(server.entry, database, stdin)?
    };
    // What a dump selects (setval) tells nobody anything; a client of Docker wants somebody who reads it.
    program.stdout = Output::Capture { limit: 0 };
    program.stderr = Output::Log { tail: 4096 };
    let programs = &server.work.programs;
    let mut running = programs.start(program).await?;
    let cancel = server.work.cancel.clone();
    let mut reader = tokio::task::spawn_blocking(move || {
        let mut pipe = File::from(write_end);
        let examined = reading.examine(&cancel, |piece| match pipe.write_all(piece) {
            // pg_restore has had what it wanted; the rest is read for its hash.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe && custom => Ok(()),
            other => other,
        });
        (examined, pipe)
    });
    let cancelled = server.work.cancel.cancelled();
    let read = tokio::select! {
        read = &mut reader => read,
        () = cancelled => {
            // The thread may be waiting for a program that reads nothing for an hour.
            programs.end_one(&mut running, TERM_GRACE).await;
            reader.await
        }
    };
    let (examined, pipe) = read.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    // The end of a damaged file must not look like the end of a whole one.
    if examined.as_ref().is_err_and(|error| !matches!(error, ReadError::Sink(_))) {
        programs.end_one(&mut running, TERM_GRACE).await;
    }
    drop(pipe);
    let exit = tokio::select! {
        exit = running.wait() => exit,
        () = server.work.cancel.cancelled() => programs.end_one(&mut running, TERM_GRACE).await,
    };
    if server.work.cancel.is_cancelled() {
        return Err(stopped());
    }
    let there = Connection { database: database.to_owned(), ..server.entry.clone() };
    match examined {
        Ok(examined) if exit.status == Status::Code(0) => Ok(examined),
        Ok(_) => Err(explain(&name, &there, exit.status, &exit.stderr)),
        Err(ReadError::Sink(error)) if exit.status == Status::Code(0) => Err(Trouble::Lasting(anyhow!(
            "{name} of {database} ended before the end of {}: {error}",
            file.display()
        ))),
        Err(ReadError::Sink(_)) => Err(explain(&name, &there, exit.status, &exit.stderr)),
        Err(error) => Err(unreadable(file, &error)),
    }
}

/// What is wrong with a file that was being read.
pub(super) fn unreadable(file: &Path, error: &ReadError) -> Trouble {
    match error {
        ReadError::Stopped => stopped(),
        ReadError::NoKey => {
            Trouble::Lasting(anyhow!("{} {error}: name the file of the key with --identity", file.display()))
        }
        error => Trouble::Lasting(anyhow!("{} {error}", file.display())),
    }
}
