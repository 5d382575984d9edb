//! The daemon's handle on its spawner: launching one, replacing one that died, starting programs through it. What
//! daemons before left is taken over in `adoption`. Never runs a program itself.

mod adoption;
mod process;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use anyhow::{Context, Result};

pub use self::adoption::{AdoptedProgram, Adoption};
use self::process::{greet, start_process, tidy};
use super::link::Link;
use super::rendezvous::Places;
use crate::clock::Clock;
use crate::host::cgroup::{Delegated, RunCgroup};
use crate::host::process::{Orphan, Processes, ProgramContext, Programs, Recorded, Running, Shared};
use crate::host::{accounts, sockets};
use crate::model::RunId;

/// How a spawner is started and found.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This program; tests name another.
    pub executable: PathBuf,
    /// The daemon's control socket: the spawner's lies beside it where the state directory takes none.
    pub control_socket: PathBuf,
    /// The state directory, which holds the spawners' sockets and tells one daemon's from another's. Must exist.
    pub state: PathBuf,
}

impl Settings {
    pub fn new(control_socket: PathBuf, state: PathBuf) -> Self {
        Self { executable: PathBuf::from("/proc/self/exe"), control_socket, state }
    }

    fn prepared(mut self) -> Result<Self> {
        let state = self.state.canonicalize();
        self.state = state.with_context(|| format!("state directory {}", self.state.display()))?;
        let socket = std::path::absolute(&self.control_socket)?;
        if let Some(folder) = socket.parent() {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("the folder of the control socket, {}", folder.display()))?;
        }
        self.control_socket = socket;
        Ok(self)
    }

    fn places(&self) -> Places<'_> {
        Places { state: &self.state, control_socket: &self.control_socket }
    }
}

/// A spawner that has been started, before there is a runtime to talk to it.
pub struct Launched {
    settings: Settings,
    child: Child,
    socket: std::os::unix::net::UnixStream,
}

impl Launched {
    /// The spawner's process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Spawner {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    clock: Arc<dyn Clock>,
    account: Option<crate::host::process::Account>,
    delegated: Option<Arc<Delegated>>,
    looks: Arc<Shared<Processes>>,
    /// By the spawner that has died.
    tidied: Mutex<HashMap<i32, Arc<Shared<()>>>>,
    current: tokio::sync::Mutex<Current>,
    /// To the spawners of daemons before this one.
    adopted: Mutex<Vec<Weak<Link>>>,
}

struct Current {
    link: Arc<Link>,
    child: Child,
}

impl Spawner {
    /// Starts a spawner. To be called before any thread is started, which keeps its memory small.
    ///
    /// # Errors
    /// Where the state directory is missing or the program can't be started.
    pub fn launch(settings: Settings) -> Result<Launched> {
        let settings = settings.prepared()?;
        let (child, socket) = start_process(&settings)
            .with_context(|| format!("the spawner {} can't be started", settings.executable.display()))?;
        Ok(Launched { settings, child, socket })
    }

    /// # Errors
    /// Where the spawner gave up, with its reason.
    pub async fn connect(launched: Launched, clock: Arc<dyn Clock>) -> Result<Self> {
        let Launched { settings, child, socket } = launched;
        let link = greet(socket, &settings, clock.clone()).await?;
        let account = accounts::own().ok();
        let current = tokio::sync::Mutex::new(Current { link, child });
        let delegated = Delegated::own().map(Arc::new);
        let inner = Arc::new(Inner {
            settings,
            clock,
            account,
            delegated,
            looks: Arc::default(),
            tidied: Mutex::default(),
            current,
            adopted: Mutex::default(),
        });
        tokio::spawn(replace_the_dead(Arc::downgrade(&inner)));
        Ok(Self { inner })
    }

    /// Returns when all that was said to spawners is on its way to them: one that does not hear that an exit is on
    /// record would keep it for the next daemon, and live as long.
    pub async fn flush(&self) {
        let adopted = std::mem::take(&mut *self.inner.adopted.lock().unwrap_or_else(PoisonError::into_inner));
        for link in adopted.iter().filter_map(Weak::upgrade) {
            link.flush().await;
        }
        let mut current = self.inner.current.lock().await;
        current.link.flush().await;
        if current.link.is_dead() {
            current.bury(&self.inner.settings);
        }
    }

    /// What starts the programs of one attempt. The context that starts them must live until the attempt's
    /// outcome is in the ledger: its end lets the spawner forget their exits.
    pub fn programs(&self, context: ProgramContext) -> Programs {
        Programs::new(self.clone(), context)
    }

    /// The spawner's process, for the curious.
    pub async fn pid(&self) -> i32 {
        self.inner.current.lock().await.link.spawner_pid()
    }

    /// Goes on with a run that has no spawner; `context` must name the same job, run and attempt.
    pub fn watch(&self, orphan: Orphan, context: ProgramContext) -> (Programs, Running) {
        Programs::watch(self.clone(), context, orphan)
    }

    /// Canonical.
    pub(crate) fn state(&self) -> &Path {
        &self.inner.settings.state
    }

    /// That of a run of the given spawner.
    pub(crate) fn cgroup_of(&self, run: RunId, mark: u64, spawner: i32) -> Option<RunCgroup> {
        self.inner.delegated.as_ref().map(|delegated| delegated.of_run(run.0, mark, spawner))
    }

    /// At all processes, for runs without a spawner.
    pub(crate) fn looks(&self) -> &Arc<Shared<Processes>> {
        &self.inner.looks
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.clock
    }

    /// Removes what a dead spawner has left, once nothing that it started lives: until then it tells the next daemon
    /// whose that is.
    pub(crate) async fn tidy_after(&self, spawner: i32) {
        let settings = self.inner.settings.clone();
        let shared = {
            let mut all = self.inner.tidied.lock().unwrap_or_else(PoisonError::into_inner);
            all.entry(spawner).or_default().clone()
        };
        shared.get(move || tidy(settings.places(), spawner)).await;
    }

    pub(crate) async fn link(&self) -> Result<Arc<Link>> {
        let mut current = self.inner.current.lock().await;
        if current.link.is_dead() {
            current.bury(&self.inner.settings);
            tracing::error!(
                "the spawner (pid {}) has died: commands that it ran go on and are watched to their end, which nobody \
                 can know; other programs are ended; another spawner takes its place",
                current.child.id()
            );
            let launched = sockets::with_usual_limit(|| Self::launch(self.inner.settings.clone()))?;
            let link = greet(launched.socket, &self.inner.settings, self.inner.clock.clone()).await?;
            *current = Current { link, child: launched.child };
        }
        Ok(current.link.clone())
    }

    /// What a spawner whose connection is closed wrote down of its programs. When this returns it is dead: it starts
    /// nothing any more.
    pub(crate) async fn last_words_of(&self, link: &Arc<Link>) -> Vec<Recorded> {
        let mut current = self.inner.current.lock().await;
        if Arc::ptr_eq(&current.link, link) {
            current.bury(&self.inner.settings);
        }
        link.written_down().to_vec()
    }

    pub(crate) fn own_account(&self) -> Option<&crate::host::process::Account> {
        self.inner.account.as_ref()
    }
}

impl Current {
    /// Its connection is closed: it has ended, or is about to.
    fn bury(&mut self, settings: &Settings) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let (places, spawner) = (settings.places(), self.link.spawner_pid());
        self.link.remember(|| places.records_of(spawner));
        tidy(places, spawner);
    }
}

/// A dead spawner is noticed at once and not when the next program is due, so that no zombie waits until then.
async fn replace_the_dead(inner: Weak<Inner>) {
    // One that dies again and again must not take all of the processor.
    const AT_MOST_ONE_IN: Duration = Duration::from_secs(5);
    loop {
        let Some(died) = inner.upgrade().map(|inner| async move { inner.current.lock().await.link.died() })
        else {
            return;
        };
        died.await.cancelled().await;
        let Some(inner) = inner.upgrade() else { return };
        if let Err(error) = (Spawner { inner }).link().await {
            tracing::error!("no program can be started: {error:#}");
        }
        tokio::time::sleep(AT_MOST_ONE_IN).await;
    }
}
