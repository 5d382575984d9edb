//! `run-now` without a daemon: the same engine, ledger and locks, for one run, in the process of the client.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use super::control::DaemonControl;
use super::state::{self, StateDirectory};
use crate::api::Control;
use crate::clock::{Clock, SystemClock};
use crate::config::{Environment, JobTable};
use crate::engine::{Engine, EngineHandle, Parts, recover_for_one_run};
use crate::host::procfs;
use crate::ledger::{Ledger, Owner, SqliteLedger};
use crate::logs::Logs;
use crate::model::RunId;
use crate::spawner::{self, Spawner};

/// An engine that takes no slots.
pub struct Standalone {
    runtime: tokio::runtime::Runtime,
    engine: EngineHandle,
    control: Arc<DaemonControl>,
    spawner: Spawner,
}

/// Must be called before the process has other threads.
///
/// # Errors
/// Where a daemon has the state directory and does not answer, or the state can't be written.
pub fn standalone(config: &Path, environment: Environment, table: JobTable) -> anyhow::Result<Standalone> {
    let table = Arc::new(table.without_schedules());
    StateDirectory::check_free(&table.paths.state)?;
    let settings = spawner::Settings::new(table.paths.socket.clone(), table.paths.state.clone());
    let launched = Spawner::launch(settings)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("the runtime can't be started")?;
    let clock = Arc::new(SystemClock);
    let now = clock.now();
    let owner = Owner::current("run-now");
    let host = procfs::host_name();
    let ledger = SqliteLedger::open(&table.paths.state.join("ledger.db"), owner, &host)?;
    let (spawner, elsewhere) = runtime.block_on(async {
        let spawner =
            Spawner::connect(launched, clock.clone()).await.context("the spawner does not answer")?;
        // Only looked at: what outlived a daemon waits for the next one.
        let elsewhere: Vec<RunId> =
            spawner.adopt_all().await.programs.iter().map(|program| program.run).collect();
        anyhow::Ok((spawner, elsewhere))
    })?;
    // Between this look at what runs and the claim there is to be no other claim.
    let entrance = state::entrance(&table.paths.state)?;
    let recovery = recover_for_one_run(ledger.past()?, &elsewhere, Owner::alive);
    let parts = Parts {
        opening: None,
        table: table.clone(),
        ledger: Box::new(ledger),
        recovery,
        clock: clock.clone(),
        spawner: spawner.clone(),
        logs: Logs::new(&table.paths.logs, table.logs),
        host,
        state: table.paths.state.clone(),
        runtime: runtime.handle().clone(),
    };
    let (engine, _thread) = Engine::start(parts).context("the engine can't be started")?;
    let control = Arc::new(
        DaemonControl::new(engine.clone(), config.to_owned(), environment, clock, now).through(entrance),
    );
    Ok(Standalone { runtime, engine, control, spawner })
}

impl Standalone {
    pub fn control(&self) -> Arc<dyn Control> {
        self.control.clone()
    }

    pub fn runtime(&self) -> &tokio::runtime::Runtime {
        &self.runtime
    }

    /// Ends what still runs, and writes the last rows.
    pub fn close(self) {
        self.runtime.block_on(async {
            let _ = self.engine.stop(true, Duration::ZERO).await;
            self.spawner.flush().await;
        });
        self.runtime.shutdown_timeout(Duration::from_secs(1));
    }
}
