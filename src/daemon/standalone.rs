//! `run-now` without a daemon: the same engine, ledger and locks, for one run, in the process of the client.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::Context;

use super::control::DaemonControl;
use super::state::Turn;
use crate::alert::{self, Courier, Heartbeats};
use crate::api::Control;
use crate::clock::Clock;
use crate::config::{Environment, JobTable};
use crate::engine::{Engine, EngineHandle, MayBegin, Parts, RUN_NOW, living_programs, recover_for_one_run};
use crate::host::{procfs, sockets};
use crate::ledger::{Ledger, Owner, SqliteLedger};
use crate::logs::Logs;
use crate::spawner::{self, Spawner};

/// For the heartbeat of its one run: nobody is there to try it later.
const LAST_HEARTBEATS: Duration = Duration::from_secs(10);

/// An engine that takes no slots.
pub struct Standalone {
    runtime: tokio::runtime::Runtime,
    engine: EngineHandle,
    control: Arc<DaemonControl>,
    spawner: Spawner,
    heartbeats: Heartbeats,
    turn: Mutex<Option<Turn>>,
}

/// Must be called before the process has other threads.
///
/// # Errors
/// [`super::Occupied`] where a daemon has the state directory and does not answer; where the state can't be written.
pub fn standalone(
    config: &Path,
    environment: Environment,
    table: JobTable,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<Standalone> {
    let table = Arc::new(table.without_schedules());
    let turn = Turn::of_run_now(&table.paths.state)?;
    let may_begin = while_no_daemon_comes(table.paths.state.clone(), turn.last_daemon);
    let settings = spawner::Settings::new(table.paths.socket.clone(), table.paths.state.clone());
    let launched = Spawner::launch(settings)?;
    sockets::raise_limit();
    let runtime = super::runtime()?;
    let now = clock.now();
    let owner = Owner::current(RUN_NOW);
    let host = procfs::host_name();
    let ledger = SqliteLedger::open(&table.paths.state.join("ledger.db"), owner, &host)?;
    let past = ledger.past()?;
    let (spawner, programs) = runtime.block_on(async {
        let spawner =
            Spawner::connect(launched, clock.clone()).await.context("the spawner does not answer")?;
        // Only looked at: what outlived a daemon waits for the next one.
        let programs = living_programs(&spawner.adopt_all(&past.open_runs()).await);
        anyhow::Ok((spawner, programs))
    })?;
    let recovery = recover_for_one_run(past, programs, Owner::alive);
    let (courier, orders) = alert::dispatch();
    let heartbeats =
        Heartbeats::new(runtime.handle().clone(), clock.clone(), table.paths.logs.clone(), host.clone());
    let parts = Parts {
        opening: None,
        may_begin: Some(may_begin),
        table: table.clone(),
        ledger: Box::new(ledger),
        recovery,
        clock: clock.clone(),
        spawner: spawner.clone(),
        logs: Logs::new(&table.paths.logs, table.logs),
        courier,
        observers: vec![heartbeats.observer()],
        host,
        state: table.paths.state.clone(),
        runtime: runtime.handle().clone(),
    };
    let (engine, _thread) = Engine::start(parts).context("the engine can't be started")?;
    let waiting = alert::Waiting::default();
    // Of this run's own end; what others left waits for a daemon.
    let courier = Courier {
        table,
        desk: engine.desk(),
        clock: clock.clone(),
        waiting: waiting.clone(),
        host: procfs::host_name(),
    };
    runtime.spawn(courier.run(orders));
    let control = Arc::new(DaemonControl {
        engine: engine.clone(),
        config: config.to_owned(),
        environment,
        clock,
        started_at: now,
        waiting,
        heartbeats: heartbeats.clone(),
        published: None,
        reloading: tokio::sync::Mutex::default(),
    });
    Ok(Standalone { runtime, engine, control, spawner, heartbeats, turn: Mutex::new(Some(turn)) })
}

/// A daemon takes over the run that waits here when it comes. Until the start is written, none that comes reads the
/// ledger.
fn while_no_daemon_comes(state: PathBuf, last_daemon: Option<SystemTime>) -> MayBegin {
    Arc::new(move || {
        let turn = Turn::of_run_now(&state).ok().filter(|turn| turn.last_daemon == last_daemon)?;
        Some(Box::new(turn))
    })
}

impl Standalone {
    pub fn control(&self) -> Arc<dyn Control> {
        self.control.clone()
    }

    pub fn runtime(&self) -> &tokio::runtime::Runtime {
        &self.runtime
    }

    /// The run is claimed: others may look at the ledger.
    pub fn claimed(&self) {
        drop(self.turn.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Ends what still runs, and writes the last rows.
    pub fn close(self) {
        self.runtime.block_on(async {
            let _ = self.engine.stop(true, Duration::ZERO).await;
            self.heartbeats.finish(LAST_HEARTBEATS).await;
            self.spawner.flush().await;
        });
        self.runtime.shutdown_timeout(Duration::from_secs(1));
    }
}
