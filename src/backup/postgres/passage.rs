//! A program's output on its way into our threads: what ends when which side fails.

use std::sync::Arc;
use std::time::Duration;

use super::failure::{Failure, explain};
use super::sessions;
use super::tools::Call;
use crate::backup::stream::{Source, Stop, StreamError};
use crate::backup::work::Work;
use crate::host::postgres::Connection;
use crate::host::process::Status;
use crate::policy::TERM_GRACE;

/// Starts the program and hands its output to `taken` on a thread that may block; the program's failure, the
/// stream's, or what `taken` made of it.
///
/// # Errors
/// [`Failure`]
pub async fn through<T: Send + 'static>(
    work: &Work,
    connection: &Connection,
    call: Call,
    stall: Duration,
    taken: impl FnOnce(Source) -> Result<T, StreamError> + Send + 'static,
) -> Result<T, Failure> {
    let Call { name, mut program } = call;
    let has_session = sessions::name(work, &mut program);
    let stop = Stop::new().map_err(|error| Failure::Stream(StreamError::Read(error)))?;
    let mut running = work.programs.start(program).await.map_err(Failure::Start)?;
    let Some(pipe) = running.stdout.take() else {
        return Err(Failure::Stream(StreamError::Read(std::io::Error::other("there is no pipe"))));
    };
    let source = Source { pipe, stall, stop: Arc::clone(&stop) };
    // Also when this future is dropped: the thread must not go on by itself.
    let stop = StopOnDrop(stop);
    let mut working = tokio::task::spawn_blocking(move || taken(source));
    let mut lost = None;
    let worked = loop {
        tokio::select! {
            worked = &mut working => break worked,
            () = work.cancel.cancelled() => {
                stop.0.stop();
                break working.await;
            }
            exit = running.wait(), if lost.is_none() => {
                // Whatever still comes would count for nothing: nobody will know whether it is whole.
                if exit.status == Status::Unknown {
                    stop.0.stop();
                }
                lost = Some(exit.status == Status::Unknown);
            }
        }
    };
    let worked = worked.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    if worked.is_err() {
        work.programs.end_all(TERM_GRACE).await;
    }
    let exit = running.wait().await;
    // A server that waits for a lock, or for a disk, has not heard that its client is gone.
    if has_session && (worked.is_err() || exit.status != Status::Code(0)) {
        sessions::end(work, connection).await;
    }
    match worked {
        Err(StreamError::Stopped) if lost == Some(true) => {
            Err(Failure::Program(explain(&name, connection, exit.status, &exit.stderr)))
        }
        Err(error) => Err(Failure::Stream(error).of(&name, connection)),
        Ok(made) if exit.status == Status::Code(0) => Ok(made),
        Ok(_) => Err(Failure::Program(explain(&name, connection, exit.status, &exit.stderr))),
    }
}

struct StopOnDrop(Arc<Stop>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}
