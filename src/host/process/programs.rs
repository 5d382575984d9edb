//! Starting programs for one attempt, waiting for them, and ending all that they left.

mod unheard;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::environment;
use super::mark::mark;
use super::orphans::{DIED, Leader, Watch};
use super::request::{MAX_OUTPUT, Prepared};
use super::{Account, Exit, Origin, Orphan, OutputLog, Program, StartError, Status, Swept, one};
use crate::host::procfs;
use crate::model::{JobName, Outcome, RunId};
use crate::policy::IoClass;
use crate::spawner::{Link, NotStarted, ProgramEnd, RunKey, Spawner};

/// Until the spawner has told of a program that no longer exists.
const REAPED: Duration = Duration::from_secs(5);

/// Whose programs these are, and how they run.
#[derive(Clone)]
pub struct ProgramContext {
    pub job: JobName,
    pub run: RunId,
    pub attempt: u32,
    pub slot: Option<Timestamp>,
    /// Of a run that this daemon has claimed.
    pub origin: Option<Origin>,
    /// The `user` of the job, looked up; for `command`.
    pub account: Option<Account>,
    /// The `env` of the job, its secrets resolved; for `command`.
    pub env: Vec<(String, String)>,
    pub nice: u8,
    pub io: Option<IoClass>,
    pub log: Arc<dyn OutputLog>,
}

impl ProgramContext {
    /// Of a run that gives its programs nothing but its name.
    pub fn new(job: JobName, run: RunId, attempt: u32, log: Arc<dyn OutputLog>) -> Self {
        Self {
            job,
            run,
            attempt,
            slot: None,
            origin: None,
            account: None,
            env: vec![],
            nice: 0,
            io: None,
            log,
        }
    }
}

/// Starts the programs of one attempt. Cheap to clone. The spawner keeps their exits, for a daemon after this one,
/// until [`Programs::forget`].
#[derive(Clone)]
pub struct Programs {
    inner: Arc<Inner>,
}

struct Inner {
    spawner: Spawner,
    context: ProgramContext,
    started: Mutex<Started>,
    /// What is known of the end of a program that no parent could tell of.
    lost: OnceLock<String>,
}

#[derive(Default)]
struct Started {
    /// None: nothing was ever started, so that there is nothing to end.
    link: Option<Arc<Link>>,
    pids: Vec<u32>,
    /// What is left of the run has no spawner that could be asked.
    orphan: Option<Arc<Orphan>>,
}

pub struct Running {
    pub pid: u32,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
    ended: Ended,
    /// Of a program that outlives its spawner: whose it is.
    kept: Option<Programs>,
}

enum Ended {
    NotYet(oneshot::Receiver<ProgramEnd>),
    Watched(Box<Watch>),
    Was(Exit),
}

impl Programs {
    pub(crate) fn new(spawner: Spawner, context: ProgramContext) -> Self {
        Self::of(spawner, context, Started::default())
    }

    /// A program that an earlier daemon started, from its spawner.
    pub(crate) fn adopt(
        spawner: Spawner,
        context: ProgramContext,
        link: Arc<Link>,
        pid: u32,
        ended: oneshot::Receiver<ProgramEnd>,
    ) -> (Self, Running) {
        let started = Started { link: Some(link), pids: vec![pid], ..Started::default() };
        let programs = Self::of(spawner, context, started);
        let kept = Some(programs.clone());
        (programs, Running { pid, stdout: None, stderr: None, ended: Ended::NotYet(ended), kept })
    }

    /// A run that an earlier daemon began, without its spawner.
    pub(crate) fn watch(spawner: Spawner, context: ProgramContext, orphan: Orphan) -> (Self, Running) {
        let pid = orphan.pid().unwrap_or(0);
        let orphan = Arc::new(orphan);
        let started = Started { orphan: Some(orphan.clone()), ..Started::default() };
        let programs = Self::of(spawner, context, started);
        let ended = Ended::Watched(Box::new(programs.watch_of(orphan)));
        let kept = Some(programs.clone());
        (programs, Running { pid, stdout: None, stderr: None, ended, kept })
    }

    fn of(spawner: Spawner, context: ProgramContext, started: Started) -> Self {
        let (started, lost) = (Mutex::new(started), OnceLock::new());
        Self { inner: Arc::new(Inner { spawner, context, started, lost }) }
    }

    /// Where a program went on without a parent that could tell of its end: what is known of that.
    pub fn lost(&self) -> Option<&str> {
        self.inner.lost.get().map(String::as_str)
    }

    /// The `user` of the job; `None`: the daemon's.
    pub fn account(&self) -> Option<&Account> {
        self.inner.context.account.as_ref()
    }

    /// The whole environment of a job's own command, but for the run's marks: a login's, then the job's `env`; and
    /// its HOME, which the job's `env` may move, as a crontab's may.
    pub fn login_environment(&self) -> (Vec<(String, String)>, PathBuf) {
        let context = &self.inner.context;
        let unknown;
        let account = match context.account.as_ref().or(self.inner.spawner.own_account()) {
            Some(account) => account,
            None => {
                // An id without an entry in the user database, as in some containers.
                let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
                unknown = Account { name: uid.to_string(), uid, gid, groups: vec![], home: "/".into() };
                &unknown
            }
        };
        let mut env = environment::login(account);
        for (name, value) in &context.env {
            environment::put(&mut env, name, value.clone());
        }
        let home = env.iter().find(|(name, _)| name == "HOME").map_or("/", |(_, home)| home);
        let home = PathBuf::from(home);
        (env, home)
    }

    /// This very program, for a job that starts it as a helper: also where the file was replaced meanwhile.
    ///
    /// # Errors
    /// [`StartError`], where there is no spawner.
    pub async fn own_program(&self) -> Result<String, StartError> {
        let none = |error: anyhow::Error| StartError::Host {
            program: "punk-eco-sched".to_owned(),
            reason: format!("{error:#}"),
        };
        // Through the spawner, which is this program: /proc/self would be whoever is about to become it.
        Ok(format!("/proc/{}/exe", self.link().await.map_err(none)?.spawner_pid()))
    }

    /// # Errors
    /// [`StartError`]
    pub async fn start(&self, program: Program) -> Result<Running, StartError> {
        let name = program.argv.first().cloned().unwrap_or_default();
        let failed = |host: bool, reason: String| {
            let program = name.clone();
            if host { StartError::Host { program, reason } } else { StartError::Program { program, reason } }
        };
        let keep = program.keep.is_some();
        let Prepared { request, stdout, stderr } = Prepared::new(&self.inner.context, self.key(), program)
            .map_err(|NotStarted { host, reason }| failed(host, reason))?;
        let link = self.link().await.map_err(|error| failed(true, format!("{error:#}")))?;
        let (started, ended) = link.start(request);
        match started.await {
            Ok(Ok(pid)) => {
                self.started().pids.push(pid);
                let kept = keep.then(|| self.clone());
                Ok(Running { pid, stdout, stderr, ended: Ended::NotYet(ended), kept })
            }
            Ok(Err(not)) => Err(failed(not.host, not.reason)),
            Err(_) if keep => {
                let found = self.unheard(&link).await;
                let running = found.map(|orphan| self.watched(orphan, stdout, stderr));
                running.ok_or_else(|| failed(true, unheard::NOT_STARTED.to_owned()))
            }
            // What there may be of it is ended with the attempt.
            Err(_) => {
                Err(failed(true, "the spawner has died before it said whether it was started".to_owned()))
            }
        }
    }

    /// The outcome of the attempt is in the ledger: its exits are of no more use. Never called by the end of a task, which
    /// may be the daemon's own end.
    pub fn forget(&self) {
        if let Some(link) = &self.started().link {
            link.forget(self.key(), self.inner.context.attempt);
        }
    }

    /// Ends every process of the run: TERM, `grace`, KILL; returns when none is left.
    pub async fn end_all(&self, grace: Duration) -> Swept {
        self.end_all_as(grace, None).await
    }

    /// As [`Programs::end_all`]; `cause` is what the attempt is to end as: the spawner tells it to a daemon after this one
    /// of every program that it has ended for it.
    pub async fn end_all_as(&self, grace: Duration, cause: Option<Outcome>) -> Swept {
        let (link, orphan) = {
            let started = self.started();
            (started.link.clone(), started.orphan.clone())
        };
        let (mut swept, orphan) = match link {
            None => (Swept::default(), orphan),
            Some(link) => match link.end_run(self.key(), grace, cause).await {
                // Beside what a spawner before this one has left.
                Ok(swept) => (swept, orphan),
                Err(_) => (Swept::default(), Some(self.orphan_of(&link))),
            },
        };
        if let Some(orphan) = orphan {
            let Swept { ended, survivors } = orphan.end(grace).await;
            swept.ended.extend(ended);
            swept.survivors.extend(survivors);
            self.inner.spawner.tidy_after(orphan.spawner).await;
        }
        swept
    }

    /// Whether one of its programs itself was ended, and not only what they left behind.
    pub fn were_ended(&self, swept: &Swept) -> bool {
        let started = self.started();
        let leaders =
            started.orphan.iter().flat_map(|orphan| &orphan.leaders).map(|leader| leader.pid.unsigned_abs());
        let pids: Vec<u32> = started.pids.iter().copied().chain(leaders).collect();
        swept.ended.iter().any(|process| pids.contains(&process.pid))
    }

    /// What is left of the run now that its spawner has died.
    fn orphan_of(&self, link: &Link) -> Arc<Orphan> {
        let spawner = link.spawner_pid();
        let leader = |pid: &u32| {
            let pid = pid.cast_signed();
            // The number may be another's by now; with none of ours it has ended.
            let ours = procfs::stat(pid).filter(|one| one.group == pid && one.session == spawner);
            ours.map_or(Leader { pid, start: 0 }, |one| Leader::of(&one))
        };
        let mut started = self.started();
        let leaders = started.pids.iter().map(leader).collect();
        started.orphan.get_or_insert_with(|| Arc::new(self.orphan(spawner, leaders))).clone()
    }

    /// This run without its spawner, which has died.
    fn orphan(&self, spawner: i32, leaders: Vec<Leader>) -> Orphan {
        let (context, owner) = (&self.inner.context, &self.inner.spawner);
        let mark = mark(owner.state(), context.run.0, context.job.as_str());
        Orphan {
            run: context.run,
            job: context.job.to_string(),
            slot: None,
            deadline: None,
            leaders,
            spawner,
            trouble: DIED.to_owned(),
            mark,
            cgroup: owner.cgroup_of(context.run, mark, spawner),
            looks: owner.looks().clone(),
        }
    }

    /// The spawner has died under a program that goes on.
    fn watch_on(&self) -> Option<Watch> {
        let link = self.started().link.clone()?;
        Some(self.watch_of(self.orphan_of(&link)))
    }

    fn watch_of(&self, orphan: Arc<Orphan>) -> Watch {
        let (log, clock) = (self.inner.context.log.clone(), self.inner.spawner.clock().clone());
        Watch::new(orphan, log, clock, MAX_OUTPUT)
    }

    /// Why nobody can know how the program ended that `at` was seen to have ended.
    fn lose(&self, at: Timestamp) {
        let orphan = self.started().orphan.clone();
        let Some(orphan) = orphan else { return };
        let Orphan { spawner, trouble, .. } = &*orphan;
        let text = format!(
            "its spawner (pid {spawner}) {trouble}, and only that process could learn its exit status: all that is known \
             is that it had ended by {at}; the log tells of its output"
        );
        self.inner.lost.get_or_init(|| text);
    }

    /// Ends one program and what it has started, while the others of the run go on: TERM, `grace`, KILL. How it ended;
    /// unknown where even KILL took too long.
    pub async fn end_one(&self, running: &mut Running, grace: Duration) -> Exit {
        let spawner = self.started().link.as_ref().map_or(0, |link| link.spawner_pid());
        if spawner > 1 {
            one::end(spawner, running.pid.cast_signed(), grace).await;
        }
        tokio::time::timeout(REAPED, running.wait()).await.unwrap_or_else(|_| unknown_exit())
    }

    /// The spawner of this attempt's programs; another one where it died.
    async fn link(&self) -> anyhow::Result<Arc<Link>> {
        if let Some(link) = self.started().link.clone().filter(|link| !link.is_dead()) {
            return Ok(link);
        }
        let link = self.inner.spawner.link().await?;
        let before = self.started().link.clone();
        if let Some(before) = before {
            self.orphan_of(&before);
        }
        self.started().link = Some(link.clone());
        Ok(link)
    }

    fn key(&self) -> RunKey {
        let context = &self.inner.context;
        RunKey { run: context.run.0, job: context.job.to_string() }
    }

    fn started(&self) -> MutexGuard<'_, Started> {
        self.inner.started.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    /// Waits for the exit, and until the output of logged and captured streams is in. May be dropped and called
    /// again.
    pub async fn wait(&mut self) -> Exit {
        loop {
            let exit = match &mut self.ended {
                Ended::Was(exit) => return exit.clone(),
                Ended::NotYet(ended) => match ended.await {
                    Ok(ProgramEnd { status, at, stdout, stderr, written, dropped }) => {
                        Exit { status, at, stdout, stderr, written, dropped }
                    }
                    Err(_) => unknown_exit(),
                },
                Ended::Watched(watch) => {
                    let at = watch.wait().await;
                    if let Some(programs) = &self.kept {
                        programs.lose(at);
                    }
                    Exit { at, ..unknown_exit() }
                }
            };
            let without_parent = matches!(self.ended, Ended::NotYet(_)) && exit.status == Status::Unknown;
            self.ended = match self.kept.as_ref().filter(|_| without_parent).and_then(Programs::watch_on) {
                Some(watch) => Ended::Watched(Box::new(watch)),
                None => Ended::Was(exit),
            };
        }
    }
}

fn unknown_exit() -> Exit {
    Exit {
        status: Status::Unknown,
        at: Timestamp::UNIX_EPOCH,
        stdout: vec![],
        stderr: vec![],
        written: 0,
        dropped: 0,
    }
}
