//! Carries out the plan: one thread that reads messages, asks [`plan::Plan`], writes each batch of decisions to
//! the ledger in one transaction, and then starts what may start.
//!
//! Owns the order of things: nothing is started before its claim is durable. Knows nothing of what a job does,
//! and takes no decision of its own. Never polls: the thread sleeps until a message or the clock's alarm.

mod active;
mod alerts;
mod beside;
mod drift;
mod foreign;
mod handle;
mod hold;
mod message;
mod observed;
pub mod plan;
mod recovery;
mod requests;
mod restore;
mod runner;
mod stop;
mod time;
mod trouble;
mod turn;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use self::active::Active;
use self::beside::Beside;
use self::drift::Drift;
pub use self::handle::{EngineHandle, Gone};
pub use self::hold::{hold_crash_loops, is_hold};
use self::message::Message;
pub use self::message::{Accepted, Ended, Refusal, Snapshot, SnapshotRun};
pub use self::observed::{Observer, Observers, Seen, What};
use self::plan::{Event, Plan};
use self::recovery::Foreign;
pub use self::recovery::{RUN_NOW, Recovery, living_programs, recover, recover_for_one_run};
pub use self::restore::restore_lost;
use self::runner::{Begin, Held, Surroundings};
use self::turn::{Then, Turn, event, refuses};
use crate::alert::{Dispatch, Incidents};
use crate::clock::{Alarm, Clock};
use crate::config::JobTable;
use crate::ledger::{self, Ledger, NewRow, TableRecord, Write};
use crate::logs::Logs;
use crate::model::RunId;
use crate::spawner::Spawner;

/// Rows of history dropped at one go, so that a long history never holds up a start.
const PRUNE_BATCH: usize = 500;
/// Between two tries to write what waits in memory, where nothing else happens, or to read. Nothing tells when a disk has
/// room again, or a file its right mode.
const RETRY_LEDGER: Duration = Duration::from_secs(5);
/// Exits that the spawner keeps at most for a ledger that can't be written.
const UNRELEASED: usize = 10_000;
const PRUNE_EVERY: Duration = Duration::from_secs(3600);
/// Between two batches, where there is more: for whoever else wants the ledger or the disk.
const PRUNE_PAUSE: Duration = Duration::from_millis(20);

/// What the engine is made of; see [`Engine::start`].
pub struct Parts {
    pub table: Arc<JobTable>,
    /// Absent for a `run-now` that works by itself: it takes no slots and accounts for none.
    pub opening: Option<Opening>,
    /// Of a `run-now` that works by itself.
    pub may_begin: Option<MayBegin>,
    pub ledger: Box<dyn Ledger>,
    pub recovery: Recovery,
    pub clock: Arc<dyn Clock>,
    pub spawner: Spawner,
    pub logs: Logs,
    pub courier: Dispatch,
    pub observers: Observers,
    pub host: String,
    pub state: PathBuf,
    pub runtime: tokio::runtime::Handle,
}

/// Whether a run that has waited in a process beside daemons may begin, or end, there: not where a daemon has come
/// meanwhile, which took it over. No other one comes while what this returns is held.
pub type MayBegin = Arc<dyn Fn() -> Option<Permit> + Send + Sync>;
pub type Permit = Box<dyn Send>;

/// What a daemon writes first.
pub struct Opening {
    pub table: TableRecord,
    /// Of the event that tells of the start.
    pub detail: serde_json::Value,
    /// How the ledger remembers a table, for one that has lost it.
    pub record_of: fn(&JobTable, Timestamp) -> TableRecord,
}

pub struct Engine {
    inbox: Receiver<Message>,
    outbox: Sender<Message>,
    plan: Plan,
    table: Arc<JobTable>,
    ledger: Box<dyn Ledger>,
    clock: Arc<dyn Clock>,
    alarm: Box<dyn Alarm>,
    around: Arc<Surroundings>,
    logs: Logs,
    courier: Dispatch,
    observers: Observers,
    host: String,
    incidents: Incidents,
    /// Notices that the courier has, by id.
    undelivered: HashSet<String>,
    next_notice: u64,
    /// Runs after which their job is held, and why: who is to be told, hears that instead.
    held: HashMap<RunId, String>,
    /// Among the runs that others began.
    dry_runs: HashSet<RunId>,
    /// Ends that are not on the disk yet.
    unreleased: Vec<Held>,
    runtime: tokio::runtime::Handle,
    runs: HashMap<RunId, Active>,
    /// Runs that other processes have in hand.
    foreign: HashMap<RunId, Foreign>,
    /// Held by the one who looks for what such a process has left.
    searching: Arc<tokio::sync::Mutex<()>>,
    beside: Beside,
    /// What a manual request waits for, by the number that the plan knows it by.
    requests: HashMap<u64, Request>,
    /// Those in force, and some that have ended by themselves.
    pauses: Vec<ledger::PauseRecord>,
    next_request: u64,
    drift: Drift,
    /// What the alarm was set to for the plan.
    awaited: Option<Timestamp>,
    next_prune: Timestamp,
    /// Nothing is dropped by age before, in time awake since boot.
    spared_until: Option<Duration>,
    record_of: Option<fn(&JobTable, Timestamp) -> TableRecord>,
    /// There is more to prune, or nobody has looked yet.
    pruning: bool,
    stopping: Option<Stopping>,
    /// Slots are taken here, so that what is not in the ledger was missed.
    keeps_account: bool,
    may_begin: Option<MayBegin>,
}

struct Request {
    by: String,
    reply: oneshot::Sender<Result<Accepted, Refusal>>,
}

struct Stopping {
    end_programs: bool,
    /// The grace is over: what works in this process is ended.
    forced: bool,
    done: Option<oneshot::Sender<()>>,
}

impl Engine {
    /// Begins: writes the table in force and what recovery found, starts what goes on, and then takes slots on a
    /// thread of its own until [`EngineHandle::stop`].
    ///
    /// # Errors
    /// Where the kernel refuses a timer or a thread.
    pub fn start(parts: Parts) -> std::io::Result<(EngineHandle, std::thread::JoinHandle<()>)> {
        let (outbox, inbox) = std::sync::mpsc::channel();
        let wake = outbox.clone();
        let alarm = parts.clock.alarm(Box::new(move |_| {
            // The engine has ended: nobody is left to wake.
            let _ = wake.send(Message::Wake);
        }))?;
        let now = parts.clock.now();
        let Recovery {
            recovered,
            writes,
            resume,
            foreign,
            orphans,
            strangers,
            dry_runs,
            incidents,
            interrupted: _,
            held,
        } = parts.recovery;
        let pauses = recovered.pauses.clone();
        let refuses = |row: &NewRow| refuses(&*parts.ledger, row);
        let (plan, decisions) = Plan::new(parts.table.clone(), recovered, now, &parts.host, &refuses);
        let mut engine = Self {
            inbox,
            outbox: outbox.clone(),
            plan,
            around: Arc::new(Surroundings {
                clock: parts.clock.clone(),
                spawner: parts.spawner,
                connections: parts.table.connections.clone(),
                state: parts.state,
                stopping: Arc::default(),
            }),
            table: parts.table,
            ledger: parts.ledger,
            drift: Drift::new(&*parts.clock),
            clock: parts.clock,
            alarm,
            logs: parts.logs,
            courier: parts.courier,
            observers: parts.observers,
            host: parts.host,
            incidents: Incidents::new(incidents),
            undelivered: HashSet::new(),
            next_notice: 0,
            held,
            dry_runs,
            unreleased: vec![],
            runtime: parts.runtime,
            runs: HashMap::new(),
            foreign: HashMap::new(),
            searching: Arc::default(),
            beside: Beside::default(),
            requests: HashMap::new(),
            pauses,
            next_request: 0,
            awaited: None,
            next_prune: now,
            spared_until: None,
            record_of: parts.opening.as_ref().map(|opening| opening.record_of),
            pruning: true,
            stopping: None,
            keeps_account: parts.opening.is_some(),
            may_begin: parts.may_begin,
        };
        let ended = CancellationToken::new();
        let alive = ended.clone().drop_guard();
        let handle = EngineHandle::new(outbox, ended);
        let thread = std::thread::Builder::new().name("engine".into()).spawn(move || {
            let mut turn = Turn::default();
            // Ends with the thread, however that ends.
            let _alive = alive;
            if let Some(mut opening) = parts.opening {
                // The plan judges by this table from this instant on.
                opening.table.in_force_from = engine.plan.reached(now);
                turn.writes.push(event(now, "daemon_started", opening.detail));
                turn.writes.push(Write::Table(opening.table));
            }
            // What this daemon has found is part of its life: whoever reads events takes them in this order.
            turn.writes.extend(writes);
            if engine.keeps_account {
                engine.begin_alerts(&mut turn);
                engine.spare_what_was_spared(now);
                engine.begin_troubles(&mut turn, now);
            }
            engine.take_over(resume, foreign, now, &mut turn);
            engine.end_orphans(orphans);
            engine.tell_of_strangers(strangers);
            engine.decide(decisions, &mut turn, now);
            engine.complete(turn, now);
            engine.run();
        })?;
        Ok((handle, thread))
    }

    fn run(&mut self) {
        while !self.is_done() {
            self.awaited = self.plan.next_wake();
            let wake = self.next_wake();
            self.alarm.set(wake);
            let Ok(first) = self.inbox.recv() else { return };
            let mut messages = vec![first];
            // What came meanwhile shares one transaction.
            messages.extend(self.inbox.try_iter().take(10_000));
            let mut turn = Turn::default();
            let now = self.look_at_the_clock(&mut turn);
            for message in messages {
                self.absorb(message, now, &mut turn);
            }
            self.plan_event(Event::Tick, now, &mut turn);
            self.tell_of_the_clock(now, &mut turn);
            self.remind(now, &mut turn);
            self.complete(turn, now);
            self.prune(now);
        }
        self.close();
    }

    /// Rows that wait in memory for the ledger are not to wait for the next slot as well, nor a long past that is to
    /// be dropped.
    fn next_wake(&self) -> Option<Timestamp> {
        let prune = self.pruning.then_some(self.next_prune);
        let planned = self.awaited.into_iter().chain(prune).chain(self.next_reminder()).min();
        if self.ledger.problem().is_none() {
            return planned;
        }
        let retry = self.clock.now().checked_add(RETRY_LEDGER).ok();
        planned.into_iter().chain(retry).min()
    }

    fn prune(&mut self, now: Timestamp) {
        if self.old_rows_are_spared() {
            self.pruning = false;
            return;
        }
        if now < self.next_prune {
            return;
        }
        let before = now.checked_sub(self.table.keep_history).unwrap_or(Timestamp::MIN);
        let dropped = self.ledger.prune(before, PRUNE_BATCH).unwrap_or_else(|error| {
            tracing::warn!("old rows stay in the ledger: {error}");
            0
        });
        self.pruning = dropped == PRUNE_BATCH;
        let pause = if self.pruning { PRUNE_PAUSE } else { PRUNE_EVERY };
        self.next_prune = now.checked_add(pause).unwrap_or(Timestamp::MAX);
    }
}
