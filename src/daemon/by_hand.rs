//! Work on backups by a verb of the command line: with a spawner of its own for PostgreSQL's programs, and neither
//! ledger nor daemon, so that a backup can be read and restored where nothing else is left.

use std::future::Future;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::backup::work::Work;
use crate::clock::{Clock, SystemClock};
use crate::host::process::ProgramContext;
use crate::host::sockets;
use crate::logs::{LogLine, RunLog};
use crate::model::{JobName, RunId};
use crate::policy::TERM_GRACE;
use crate::spawner::{self, Spawner};

pub struct ByHand {
    runtime: tokio::runtime::Runtime,
    spawner: Spawner,
    pub work: Work,
}

/// Must be called before the process has other threads. `verb` is what marks its programs.
///
/// # Errors
/// Where no program could be started: no folder for temporary files, no spawner.
pub fn by_hand(verb: &str) -> anyhow::Result<ByHand> {
    let state = scratch_folder()?;
    let launched = Spawner::launch(spawner::Settings::new(state.join("control.sock"), state.clone()))?;
    sockets::raise_limit();
    let runtime = super::runtime()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let spawner =
        runtime.block_on(Spawner::connect(launched, clock.clone())).context("the spawner does not answer")?;
    let log = RunLog::memory();
    let programs = spawner.programs(ProgramContext::new(
        JobName::new(verb).map_err(anyhow::Error::msg)?,
        RunId(0),
        1,
        Arc::new(log.clone()),
    ));
    let cancel = CancellationToken::new();
    let (job, run) = (verb.to_owned(), "0".to_owned());
    let work = Work { job, run, dry_run: false, clock, log, programs, state, cancel };
    Ok(ByHand { runtime, spawner, work })
}

/// Where sockets and scratch files of this process go; closed to others.
fn scratch_folder() -> anyhow::Result<PathBuf> {
    static NUMBER: AtomicU32 = AtomicU32::new(1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("punk-eco-sched-{}-{number}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    // Of a dead process with our number, if it is there at all and ours.
    let _ = std::fs::remove_dir_all(&folder);
    let made = std::fs::DirBuilder::new().mode(0o700).create(&folder);
    made.with_context(|| format!("the folder {} can't be made", folder.display()))?;
    Ok(folder)
}

impl ByHand {
    /// Does the work, and hands each line of its log to `say` as it comes. An interrupt cancels it; what it has started
    /// is ended, in any case.
    ///
    /// # Errors
    /// Where no signal can be listened for.
    pub fn run<T>(&self, work: impl Future<Output = T>, mut say: impl FnMut(&LogLine)) -> anyhow::Result<T> {
        let mut lines = self.work.log.follow();
        self.runtime.block_on(async {
            let mut interrupts = signal(SignalKind::interrupt())?;
            let mut terminations = signal(SignalKind::terminate())?;
            let mut hangups = signal(SignalKind::hangup())?;
            let mut work = std::pin::pin!(work);
            let done = loop {
                tokio::select! {
                    biased;
                    Some(line) = lines.recv() => say(&line),
                    done = &mut work => break done,
                    _ = interrupts.recv() => self.work.cancel.cancel(),
                    _ = terminations.recv() => self.work.cancel.cancel(),
                    _ = hangups.recv() => self.work.cancel.cancel(),
                }
            };
            self.work.programs.end_all(TERM_GRACE).await;
            while let Ok(line) = lines.try_recv() {
                say(&line);
            }
            Ok(done)
        })
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        self.work.programs.forget();
        self.runtime.block_on(self.spawner.flush());
        let _ = std::fs::remove_dir_all(&self.work.state);
    }
}
