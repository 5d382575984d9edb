//! The daemon's handle on its spawner: launching one, finding those of daemons before, starting programs.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;

use super::link::{Link, Refusal, Welcome};
use super::protocol::Listed;
use super::rendezvous::Places;
use super::{rendezvous, server};
use crate::clock::Clock;
use crate::host::cgroup::{Delegated, RunCgroup};
use crate::host::process::{
    Keep, Origin, Orphan, Processes, ProgramContext, Programs, Recorded, Running, Search, Shared, Status,
};
use crate::host::{accounts, procfs, sockets};
use crate::model::{Outcome, RunId};
use crate::units::HumanDuration;

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

/// What daemons before this one left running.
#[derive(Default)]
pub struct Adoption {
    pub programs: Vec<AdoptedProgram>,
    /// Runs that go on while their spawner is dead, or can't be talked to.
    pub orphans: Vec<Orphan>,
    /// Spawners that can't be talked to, each in a sentence.
    pub problems: Vec<String>,
}

/// A program that outlived its daemon, ended or not. It must be attached to, or its spawner keeps it for ever.
pub struct AdoptedProgram {
    pub run: RunId,
    pub attempt: u32,
    pub job: String,
    pub pid: u32,
    pub started_at: Timestamp,
    pub keep: Keep,
    /// It has ended meanwhile: its exit is waiting.
    pub ended: bool,
    /// How and when it did.
    pub exit: Option<(Status, Timestamp)>,
    /// Counted from the boot; absent where a spawner of a former version tells of it.
    pub started_since_boot: Option<Duration>,
    pub ended_since_boot: Option<Duration>,
    /// The daemon before had it ended, and what the attempt was to end as.
    pub ended_as: Option<Outcome>,
    /// Of its run, where it has one.
    pub slot: Option<Timestamp>,
    pub origin: Option<Origin>,
    listed: Listed,
    link: Arc<Link>,
    spawner: Spawner,
}

impl AdoptedProgram {
    /// Goes on with its log; `context` must name the same job, run and attempt.
    pub fn attach(self, context: ProgramContext) -> (Programs, Running) {
        let ended = self.link.attach(&self.listed, context.log.clone());
        Programs::adopt(self.spawner, context, self.link, self.pid, ended)
    }
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

    /// Takes over what daemons before this one, or a `run-now` beside it that died, left running, and removes the sockets of dead spawners. `open`: the runs
    /// that have no end in the ledger, each with its last attempt.
    pub async fn adopt_all(&self, open: &[(RunId, String, u32)]) -> Adoption {
        let mut adoption = Adoption::default();
        let places = self.inner.settings.places();
        let (own, found) = {
            // One of ours that comes meanwhile is not to be taken for another's.
            let current = self.inner.current.lock().await;
            (current.link.spawner_pid(), places.find())
        };
        let found = found.unwrap_or_else(|error| {
            adoption.problems.push(format!("spawners can't be looked for: {error:#}"));
            vec![]
        });
        let (mut spoken_to, mut out_of_reach) = (vec![own], vec![]);
        for (pid, path) in found {
            if pid == own {
                continue;
            }
            let trouble = match self.adopt(pid, &path).await {
                Ok(Met::Adopted(programs)) => {
                    spoken_to.push(pid);
                    adoption.programs.extend(programs);
                    continue;
                }
                Ok(Met::Busy) => {
                    spoken_to.push(pid);
                    continue;
                }
                Ok(Met::Dead) => None,
                Err(error) => {
                    adoption.problems.push(format!("spawner {pid}: {error:#}"));
                    Some(format!("can't be talked to ({error:#})"))
                }
            };
            out_of_reach.push((pid, places.records_of(pid), trouble));
        }
        let adopted: HashSet<RunId> = adoption.programs.iter().map(|program| program.run).collect();
        let missing = open.iter().filter(|(run, ..)| !adopted.contains(run)).cloned().collect();
        let (state, delegated) = (self.state().to_owned(), self.inner.delegated.clone());
        let looks = self.inner.looks.clone();
        let (orphans, out_of_reach) = tokio::task::spawn_blocking(move || {
            let delegated = delegated.as_deref();
            let search = Search { state: &state, delegated, looks: &looks, spoken_to, missing };
            (search.run(&out_of_reach), out_of_reach)
        })
        .await
        .unwrap_or_default();
        adoption.orphans = orphans;
        for (pid, _, trouble) in out_of_reach {
            if trouble.is_none() {
                self.tidy_after(pid).await;
            }
        }
        adoption
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

    async fn adopt(&self, pid: i32, path: &Path) -> Result<Met> {
        const TRIES: u32 = 40;
        for _ in 0..TRIES {
            let socket = match rendezvous::connect(path) {
                Ok(socket) => socket,
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) =>
                {
                    // Nobody listens, and nobody will: its number is in its name.
                    return Ok(Met::Dead);
                }
                Err(error) => return Err(error).with_context(|| path.display().to_string()),
            };
            let state = self.inner.settings.state.clone();
            let (link, welcome) = Link::new(socket, state, true, self.inner.clock.clone())?;
            // One that is stopped, or none of ours: the jobs don't wait for it.
            let Ok(welcome) = tokio::time::timeout(WELCOME, welcome).await else {
                bail!(
                    "it doesn't answer within {} at {}: what it may run goes on without being heard",
                    HumanDuration(WELCOME),
                    path.display()
                );
            };
            match welcome? {
                Ok(Welcome { programs }) => {
                    let mut all = self.inner.adopted.lock().unwrap_or_else(PoisonError::into_inner);
                    all.push(Arc::downgrade(&link));
                    drop(all);
                    let adopted = |listed: Listed| AdoptedProgram {
                        run: RunId(listed.run.run),
                        attempt: listed.attempt,
                        job: listed.run.job.clone(),
                        pid: listed.pid,
                        started_at: listed.started_at,
                        keep: listed.keep.clone(),
                        ended: listed.ended,
                        exit: listed.exit,
                        started_since_boot: listed.started_since_boot,
                        ended_since_boot: listed.ended_since_boot,
                        origin: listed.origin.clone(),
                        ended_as: listed.ended_as,
                        slot: listed.slot.as_ref().and_then(|slot| slot.parse().ok()),
                        listed,
                        link: link.clone(),
                        spawner: self.clone(),
                    };
                    return Ok(Met::Adopted(programs.into_iter().map(adopted).collect()));
                }
                Err(Refusal { busy: Some(other), .. }) => {
                    if procfs::stat(other).is_some_and(|stat| !stat.is_zombie()) {
                        // A living `run-now`, whose run is its own.
                        return Ok(Met::Busy);
                    }
                    tokio::time::sleep(Duration::from_millis(25)).await;
                }
                Err(Refusal { reason, busy: None }) => bail!("process {pid}: {reason}"),
            }
        }
        bail!("process {pid} says that it serves a process that is gone")
    }
}

/// What a spawner of a former daemon is given to answer.
const WELCOME: Duration = Duration::from_secs(10);

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

/// What became of a spawner of a former daemon.
enum Met {
    Adopted(Vec<AdoptedProgram>),
    /// It serves a living process.
    Busy,
    Dead,
}

fn tidy(places: Places<'_>, spawner: i32) {
    let lives =
        |one: &procfs::ProcessStat| !one.is_zombie() && (one.session == spawner || one.pid == spawner);
    let recorded = |record: &Recorded| {
        procfs::stat(record.pid).is_some_and(|one| one.start == record.start && !one.is_zombie())
    };
    // The cheap question first: a thousand runs may end at once.
    if spawner <= 1 || places.records_of(spawner).iter().any(recorded) || procfs::all().iter().any(lives) {
        return;
    }
    for left in places.sockets_of(spawner).into_iter().chain([places.record_of(spawner)]) {
        let _ = std::fs::remove_file(left);
    }
}

/// A dead spawner is noticed at once and not when the next program is due, so that no zombie waits until then.
async fn replace_the_dead(inner: Weak<Inner>) {
    const PAUSE: Duration = Duration::from_secs(5);
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
        // One that dies again and again must not take all of the processor.
        tokio::time::sleep(PAUSE).await;
    }
}

async fn greet(
    socket: std::os::unix::net::UnixStream,
    settings: &Settings,
    clock: Arc<dyn Clock>,
) -> Result<Arc<Link>> {
    let (link, welcome) = Link::new(socket, settings.state.clone(), false, clock)?;
    match welcome.await? {
        Ok(_) => Ok(link),
        Err(Refusal { reason, .. }) => bail!("{reason}"),
    }
}

#[expect(clippy::disallowed_methods, reason = "the spawner is the one program that it can't start itself")]
fn start_process(settings: &Settings) -> io::Result<(Child, std::os::unix::net::UnixStream)> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    let mut command = Command::new(&settings.executable);
    std::os::unix::process::CommandExt::arg0(&mut command, "punk-eco-sched");
    command.arg(server::VERB).arg(&settings.control_socket).arg(&settings.state);
    command.stdin(std::os::fd::OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
    // Whatever the daemon was given in secret is none of the spawner's business; programs get none of it anyway.
    command.env_clear();
    Ok((command.spawn()?, ours))
}
