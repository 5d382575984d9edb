//! Composition: builds everything, and carries the system's signals and the socket's requests to the engine.
//!
//! Owns the order of start and stop. Takes no decision about jobs.

mod by_hand;
mod control;
mod journal;
mod pages;
mod record;
mod standalone;
mod state;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

pub use self::by_hand::{ByHand, by_hand};
use self::control::DaemonControl;
use self::pages::{DaemonPages, Published};
pub use self::standalone::{Standalone, standalone};
use self::state::StateDirectory;
pub use self::state::{Living, Occupied, living};
use crate::alert::{self, Courier, Heartbeats};
use crate::api::Control;
use crate::api::http::Front;
use crate::api::server::Server;
use crate::clock::Clock;
use crate::config::{self, Environment, JobTable, Problems};
use crate::engine::{Engine, EngineHandle, Opening, Parts, RUN_NOW, hold_crash_loops, recover, restore_lost};
use crate::host::{procfs, sockets};
use crate::ledger::{self, Buffered, Ledger, LedgerError, Owner, SqliteLedger};
use crate::logs::Logs;
use crate::metrics::Metrics;
use crate::model::Outcome;
use crate::spawner::{self, Spawner};

pub struct Options {
    pub config: PathBuf,
    /// What work in this process is given to end after SIGTERM.
    pub grace: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// jobs.yaml is wrong; nothing was started.
    #[error("{0}")]
    File(Problems),
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}

/// For what was being asked as the last job ended: nobody waits long for a daemon to stop.
const LAST_HEARTBEATS: Duration = Duration::from_secs(5);

/// Runs in the foreground until SIGTERM or SIGINT.
///
/// # Errors
/// [`DaemonError`], before the first slot is taken.
pub fn run(options: &Options, clock: Arc<dyn Clock>) -> Result<(), DaemonError> {
    let environment = Environment::of_process(&*clock);
    let (mut table, warnings) = config::load(&options.config, &environment).map_err(DaemonError::File)?;
    let state = StateDirectory::lock(&table.paths.state)?;
    state.wait_for_run_nows(&table.paths.state)?;
    // Before any thread: the spawner stays small, and nothing that it starts inherits from us.
    let settings = spawner::Settings::new(table.paths.socket.clone(), table.paths.state.clone());
    let launched = Spawner::launch(settings)?;
    sockets::raise_limit();
    let logs = Logs::new(&table.paths.logs, table.logs);
    journal::start(&logs);
    say_warnings(&warnings);
    bound_runs(&mut table);
    let table = Arc::new(table);
    let runtime = runtime()?;
    let served = runtime.block_on(serve(options, environment, table, &logs, launched, clock));
    // What still works in this process has had its grace.
    runtime.shutdown_timeout(Duration::from_secs(1));
    drop(state);
    Ok(served?)
}

/// Two threads: what takes long is done by other processes, or on threads of its own.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_stack_size(2 << 20)
        .enable_all()
        .build()
        .context("the runtime can't be started")
}

async fn serve(
    options: &Options,
    environment: Environment,
    table: Arc<JobTable>,
    logs: &Logs,
    launched: spawner::Launched,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<()> {
    let now = clock.now();
    let owner = Owner::current("daemon");
    let ledger = open_ledger(&table.paths.state, &owner, clock.clone())?;
    let spawner = Spawner::connect(launched, clock.clone()).await.context("the spawner does not answer")?;
    let mut past = ledger.past().unwrap_or_else(|error| {
        tracing::error!("{error}; scheduling goes on from now");
        ledger::Past::default()
    });
    // Asked first: what a `run-now` leaves that dies from now on is looked for when its end is heard of.
    let living = forget_ended(&mut past, &*ledger);
    let alive = |owner: &Owner| living.contains(owner) && (owner.role == RUN_NOW || owner.alive());
    let adoption = spawner.adopt_all(&past.open_runs()).await;
    for problem in &adoption.problems {
        tracing::error!("what it runs can't be taken over: {problem}");
    }
    let restored = restore_lost(&mut past, &adoption, &*ledger, &table, &owner);
    let boot = state::boot_time(&*ledger, &owner.boot, now);
    let mut recovery = recover(past, &table, adoption, &owner, alive, Some(boot), now);
    recovery.write_first(restored);
    hold_crash_loops(&mut recovery, &*ledger, &table, now);
    let (courier, orders) = alert::dispatch();
    let heartbeats = Heartbeats::new(
        tokio::runtime::Handle::current(),
        clock.clone(),
        table.paths.logs.clone(),
        procfs::host_name(),
    );
    let metrics = Metrics::new(clock.clone(), environment.clone(), now);
    metrics.remember(table.paths.state.join("ledger.db"));
    let parts = Parts {
        may_begin: None,
        opening: Some(Opening {
            table: record::of(&table, now),
            record_of: record::of,
            detail: serde_json::json!({
                "pid": owner.pid,
                "boot": owner.boot,
                "boot_time": boot,
                "version": env!("CARGO_PKG_VERSION"),
            }),
        }),
        table: table.clone(),
        ledger,
        recovery,
        clock: clock.clone(),
        spawner: spawner.clone(),
        logs: logs.clone(),
        courier,
        observers: vec![metrics.observer(), heartbeats.observer()],
        host: procfs::host_name(),
        state: table.paths.state.clone(),
        runtime: tokio::runtime::Handle::current(),
    };
    // The socket comes first: a daemon that can't be asked must not run jobs.
    let socket = table.paths.socket.clone();
    let server = Server::bind(&socket).with_context(|| format!("{}", socket.display()))?;
    let (engine, thread) = Engine::start(parts).context("the engine can't be started")?;
    let waiting = alert::Waiting::default();
    let courier = Courier {
        table: table.clone(),
        desk: engine.desk(),
        clock: clock.clone(),
        waiting: waiting.clone(),
        host: procfs::host_name(),
    };
    tokio::spawn(courier.run(orders));
    let pages = DaemonPages { engine: engine.clone(), metrics: metrics.clone(), waiting: waiting.clone() };
    let (pages, stop) = (Arc::new(pages), CancellationToken::new());
    let front = Front::start(pages.clone(), stop.clone());
    front.put(table.dashboard.clone());
    let control = Arc::new(DaemonControl {
        engine: engine.clone(),
        published: Some(Published { metrics, front }),
        config: options.config.clone(),
        environment,
        clock: clock.clone(),
        started_at: now,
        waiting,
        heartbeats: heartbeats.clone(),
        reloading: tokio::sync::Mutex::default(),
    });
    let serving = tokio::spawn(server.with_pages(pages).serve(control.clone(), stop.clone()));
    let jobs = match table.jobs.len() {
        1 => "1 job".to_owned(),
        jobs => format!("{jobs} jobs"),
    };
    tracing::info!("in force: {jobs} of {}", options.config.display());
    drop(table);
    notify(&[sd_notify::NotifyState::Ready]);
    if let Some(period) = sd_notify::watchdog_enabled() {
        tokio::spawn(feed_watchdog(engine.clone(), period));
    }
    wait_for_the_end(&engine, &control, options.grace).await?;
    stop.cancel();
    let _ = serving.await;
    // The engine's thread ends by itself once it has said that it stops.
    let _ = thread.join();
    heartbeats.finish(LAST_HEARTBEATS).await;
    spawner.flush().await;
    tracing::info!("stopped");
    Ok(())
}

/// A `run-now` may have ended its run since the ledger was read: such a run is no longer open. Who lives of those that
/// have one; what they end from now on is heard of as the end of their process.
fn forget_ended(past: &mut ledger::Past, ledger: &dyn Ledger) -> Vec<Owner> {
    let mut owners: Vec<Owner> = vec![];
    for open in &past.open {
        if !owners.contains(&open.owner) {
            owners.push(open.owner.clone());
        }
    }
    owners.retain(Owner::alive);
    // Asked only after that: who is dead by then has written its last.
    past.open.retain(|open| {
        owners.contains(&open.owner)
            || open.owner.role != RUN_NOW
            || ledger
                .run(open.record.run)
                .ok()
                .flatten()
                .is_none_or(|record| record.outcome == Outcome::Running)
    });
    owners
}

/// Tells systemd that the engine goes on, each time it has proved so; one that hangs is restarted. Three times in each
/// period that systemd has set: one that comes late is then no reason for a restart.
async fn feed_watchdog(engine: EngineHandle, period: Duration) {
    while engine.ping().await.is_ok() {
        notify(&[sd_notify::NotifyState::Watchdog]);
        tokio::time::sleep(period / 3).await;
    }
}

async fn wait_for_the_end(
    engine: &EngineHandle,
    control: &Arc<DaemonControl>,
    grace: Duration,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let end_programs = loop {
        tokio::select! {
            _ = terminate.recv() => break false,
            _ = interrupt.recv() => break true,
            // Better no daemon, which somebody starts again, than one that runs nothing.
            () = engine.ended() => anyhow::bail!("a bug: the engine has died; the programs that run go on"),
            _ = hangup.recv() => {
                notify(&[sd_notify::NotifyState::Reloading, sd_notify::NotifyState::monotonic_usec_now()?]);
                if let Err(refused) = control.reload("SIGHUP").await {
                    tracing::error!("the table in force stays: {refused}");
                }
                notify(&[sd_notify::NotifyState::Ready]);
            }
        }
    };
    notify(&[sd_notify::NotifyState::Stopping]);
    tracing::info!(
        "stopping: no more slots are taken; work in this process has {} to end",
        crate::units::HumanDuration(grace)
    );
    let mut stopped = Box::pin(engine.stop(end_programs, grace));
    loop {
        tokio::select! {
            _ = &mut stopped => return Ok(()),
            // Asked again: no more grace.
            _ = terminate.recv() => stopped = Box::pin(engine.stop(end_programs, Duration::ZERO)),
            _ = interrupt.recv() => stopped = Box::pin(engine.stop(true, Duration::ZERO)),
        }
    }
}

/// Opens the ledger for writing. One that is damaged is set aside, and where none can be written the rows wait
/// in memory: jobs must go on.
fn open_ledger(state: &Path, owner: &Owner, clock: Arc<dyn Clock>) -> anyhow::Result<Box<dyn Ledger>> {
    let path = state.join("ledger.db");
    let host = procfs::host_name();
    // A newer program has written it: this one must not begin another beside it.
    if let Err(error @ LedgerError::TooNew { .. }) = SqliteLedger::open_read_only(&path) {
        return Err(error.into());
    }
    Ok(Box::new(Buffered::new(owner.clone(), &host.clone(), clock.clone(), {
        let owner = owner.clone();
        move |suspect| ledger::open_or_set_aside(&path, owner.clone(), &host, clock.now(), suspect)
    })))
}

fn say_warnings(warnings: &Problems) {
    if !warnings.is_empty() {
        tracing::warn!("{warnings}");
    }
}

/// No more runs at once than there are descriptors for: the others wait for their turn.
fn bound_runs(table: &mut JobTable) {
    let (most, files) = sockets::runs_at_once();
    if table.max_running > most {
        tracing::warn!(
            "limits.max_running: {} runs at once may want more than the {files} open files that the daemon may have: {most} \
             run at once, the others wait; raise LimitNOFILE in the unit, or the hard limit of `ulimit -n`, for more",
            table.max_running
        );
        table.max_running = most;
    }
}

/// To systemd, where it started us.
fn notify(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!("systemd was not told: {error}");
    }
}
