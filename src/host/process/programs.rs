//! Starting programs for one attempt, waiting for them, and ending all that they left.

mod unheard;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rustix::fs::MemfdFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::sync::oneshot;

use super::environment::{self, MARKER_JOB, MARKER_RUN, MARKER_SLOT};
use super::mark::mark;
use super::orphans::{DIED, Leader, Watch};
use super::{
    Account, Exit, Origin, Orphan, Output, OutputLog, Program, StartError, Status, Stdin, Swept,
    find_program, one,
};
use crate::host::procfs;
use crate::model::{JobName, Outcome, RunId};
use crate::policy::IoClass;
use crate::spawner::{Link, NotStarted, ProgramEnd, Request, RunKey, Sink, Spawner, Start};

/// Output that is logged of one program where its job doesn't say.
const MAX_OUTPUT: u64 = 10 << 20;

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

/// A request with the job's own ends of its pipes.
struct Prepared {
    request: Request,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
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
        let Prepared { request, stdout, stderr } =
            self.request(program).map_err(|NotStarted { host, reason }| failed(host, reason))?;
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
        let context = &self.inner.context;
        let mark = mark(self.inner.spawner.state(), context.run.0, context.job.as_str());
        let fresh = || {
            Arc::new(Orphan {
                run: context.run,
                job: context.job.to_string(),
                slot: None,
                deadline: None,
                leaders,
                spawner,
                trouble: DIED.to_owned(),
                mark,
                cgroup: self.inner.spawner.cgroup_of(context.run, mark, spawner),
                looks: self.inner.spawner.looks().clone(),
            })
        };
        started.orphan.get_or_insert_with(fresh).clone()
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

    fn request(&self, program: Program) -> Result<Prepared, NotStarted> {
        let never = |reason: String| NotStarted { host: false, reason };
        let context = &self.inner.context;
        let Program { argv, mut env, cwd, stdin, stdout, stderr, max_output, account, keep } = program;
        let Some(name) = argv.first() else { return Err(never("no program is named".to_owned())) };
        let folder = cwd.as_deref().unwrap_or(Path::new("/"));
        match std::fs::metadata(folder) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(never(format!("working folder {}: not a folder", folder.display()))),
            Err(error) => return Err(never(format!("working folder {}: {error}", folder.display()))),
        }
        let path = env.iter().find(|(name, _)| name == "PATH").map_or("", |(_, path)| path);
        let path = find_program(name, path, folder).map_err(never)?;
        let user = account.as_ref().map_or(Ok(None), change_to);
        let user = user.map_err(never)?;

        let host = |error: std::io::Error| NotStarted { host: true, reason: error.to_string() };
        let mut descriptors = vec![];
        let fed = match stdin {
            Stdin::Null => false,
            Stdin::Bytes(bytes) => {
                descriptors.push(file_of(&bytes).map_err(host)?);
                true
            }
            Stdin::From(descriptor) => {
                descriptors.push(descriptor);
                true
            }
        };
        let (stdout, our_stdout) = sink(stdout, &mut descriptors).map_err(host)?;
        let (stderr, our_stderr) = sink(stderr, &mut descriptors).map_err(host)?;

        environment::put(&mut env, MARKER_JOB, context.job.to_string());
        environment::put(&mut env, MARKER_RUN, context.run.to_string());
        environment::put(&mut env, MARKER_SLOT, environment::slot(context.slot));
        let start = Start {
            id: 0,
            run: self.key(),
            attempt: context.attempt,
            path,
            argv,
            env,
            cwd,
            stdin: fed,
            stdout,
            stderr,
            max_output: max_output.unwrap_or(MAX_OUTPUT),
            user,
            nice: context.nice,
            io: context.io,
            origin: keep.as_ref().and(context.origin.clone()),
            keep,
        };
        let request = Request { start, descriptors, log: context.log.clone() };
        Ok(Prepared { request, stdout: our_stdout, stderr: our_stderr })
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

/// `None` where the account is the daemon's own.
fn change_to(account: &Account) -> Result<Option<(u32, u32, Vec<u32>)>, String> {
    let own = nix::unistd::geteuid();
    if account.uid == own.as_raw() {
        return Ok(None);
    }
    if !own.is_root() {
        return Err(format!("user {}: only root can run a program as another user", account.name));
    }
    Ok(Some((account.uid, account.gid, account.groups.clone())))
}

/// The bytes as a file without a name: whoever reads it never waits, and nobody waits for a reader.
fn file_of(bytes: &[u8]) -> std::io::Result<OwnedFd> {
    use std::io::{Seek, Write};

    let mut file = std::fs::File::from(rustix::fs::memfd_create("stdin", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file.into())
}

fn sink(output: Output, descriptors: &mut Vec<OwnedFd>) -> std::io::Result<(Sink, Option<OwnedFd>)> {
    Ok(match output {
        Output::Null => (Sink::Null, None),
        Output::Log { tail } => (Sink::Log { tail }, None),
        Output::Capture { limit } => (Sink::Capture { limit }, None),
        Output::Pipe => {
            let (reading, writing) = pipe_with(PipeFlags::CLOEXEC)?;
            descriptors.push(writing);
            (Sink::Passed, Some(reading))
        }
    })
}
