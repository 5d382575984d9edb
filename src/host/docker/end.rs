//! Ending what runs inside a container: only what carries our mark, and all that it started.
//!
//! Where the container's processes are seen from here, they are looked up in /proc and signalled through a pidfd, so
//! that a number that was given away meanwhile hits nobody. Where they aren't (another pid namespace, another user), a
//! shell inside the container looks and signals.

use std::collections::HashMap;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::exec::{HEAD, MARKER_EXEC, Piece};
use super::{Docker, DockerError, Exec, Found, Order};
use crate::host::process::{MARKER_JOB, MARKER_RUN};
use crate::host::procfs;
use crate::units::HumanDuration;

/// The mark of the process that listens to an exec: when it is gone, nobody does.
const MARKER_CLIENT: &str = "PUNK_ECO_CLIENT";

/// What the engine is given to say whether a program runs: less than our own end leaves.
const LOOK: Duration = Duration::from_secs(2);
/// Between two looks at what was told to end. The engine has no wait for the programs in a container, and it may be dead
/// or hang; of what a program starts meanwhile nobody tells either.
const NEXT_LOOK: Duration = Duration::from_millis(50);
/// How long KILL may take.
const BOUND: Duration = Duration::from_secs(5);

/// Signals every process whose environment has the mark `$2` (a beginning of `NAME=VALUE`).
const SIGNAL_MARKED: &str = r#"n='
'
for p in /proc/[0-9]*; do
  e=$(tr '\000' '\n' <"$p/environ" 2>/dev/null) || continue
  case "$n$e" in *"$n$2"*) kill -"$1" "${p#/proc/}" 2>/dev/null;; esac
done
:"#;

/// Whose program this is.
#[derive(Clone, Debug)]
pub struct Owner {
    pub job: String,
    pub run: String,
}

impl Owner {
    /// The marks of a program whose client is this process.
    pub(super) fn marks(&self) -> Vec<(String, String)> {
        let own = procfs::own_pid();
        let start = procfs::stat(own).map_or(0, |stat| stat.start);
        let Self { job, run } = self;
        vec![
            (MARKER_JOB.to_owned(), job.clone()),
            (MARKER_RUN.to_owned(), run.clone()),
            (MARKER_CLIENT.to_owned(), format!("{job}/{run}/{own}/{start}")),
        ]
    }
}

impl Exec {
    /// TERM, after `grace` KILL, to the program and all that it started; returns when nothing of it is left.
    ///
    /// # Errors
    /// What is left, and why.
    pub(super) async fn end(&self, grace: Duration) -> Result<(), String> {
        if self.signal_until_gone(Signal::TERM, grace).await? {
            return Ok(());
        }
        if self.signal_until_gone(Signal::KILL, BOUND).await? {
            return Ok(());
        }
        Err(format!("{} in container {} could not be ended, not even by KILL", self.program, self.name))
    }

    /// Whether it is gone.
    async fn signal_until_gone(&self, signal: Signal, bound: Duration) -> Result<bool, String> {
        let until = tokio::time::Instant::now() + bound;
        let mark = format!("{MARKER_EXEC}={}", self.token);
        let mut told: HashMap<i32, u64> = HashMap::new();
        let mut told_inside = false;
        let mut lost = None;
        loop {
            // Before the engine is asked anything: it may be dead or hang, and the container lives on without it.
            let left = marked(&mark);
            for (pid, start) in &left {
                // TERM once: a second one may mean something else to a program.
                if told.insert(*pid, *start) != Some(*start) || signal == Signal::KILL {
                    send(*pid, &mark, signal);
                }
            }
            let mut running = false;
            if lost.is_none() {
                match tokio::time::timeout(LOOK, self.inspect()).await {
                    Ok(Ok(seen)) => running = seen.is_some_and(|seen| seen.running),
                    Ok(Err(error)) => lost = Some(error.to_string()),
                    Err(_) => lost = Some(format!("Docker doesn't answer within {}", HumanDuration(LOOK))),
                }
            }
            if left.is_empty() && !running {
                return match lost {
                    Some(why) if told.is_empty() => Err(why),
                    _ => Ok(true),
                };
            }
            if running && left.is_empty() && (!told_inside || signal == Signal::KILL) {
                told_inside = true;
                let found = Found {
                    id: self.container.clone(),
                    name: self.name.clone(),
                    image: String::new(),
                    addresses: vec![],
                    pid: None,
                    chosen: None,
                };
                self.docker.signal_inside(&found, &mark, signal).await.map_err(|error| error.to_string())?;
            }
            if tokio::time::Instant::now() >= until {
                return Ok(false);
            }
            tokio::time::sleep(NEXT_LOOK).await;
        }
    }
}

impl Docker {
    /// Ends what earlier attempts of this job left in the container: programs that nobody listens to any more. Says
    /// what it ended.
    ///
    /// # Errors
    /// [`DockerError`]; or, as [`DockerError::Refused`], that something could not be ended.
    pub async fn end_left_over(
        &self,
        found: &Found,
        owner: &Owner,
        grace: Duration,
    ) -> Result<Vec<String>, DockerError> {
        let mut ended = vec![];
        // By their marks, and not by the engine's list: it forgets its execs when it is restarted.
        for (pid, abandoned) in abandoned(&found.id, owner) {
            let exec = Exec {
                docker: self.clone(),
                container: found.id.clone(),
                name: found.name.clone(),
                program: abandoned.name,
                id: abandoned.token.clone(),
                token: abandoned.token,
            };
            exec.end(grace).await.map_err(|said| DockerError::Refused {
                name: found.name.clone(),
                program: "anything".to_owned(),
                said,
            })?;
            ended.push(format!(
                "ended {} (pid {pid}) in container {}, which run {} had left behind",
                exec.program, found.name, abandoned.run
            ));
        }
        ended.extend(self.end_unseen(found, owner, grace).await?);
        Ok(ended)
    }

    /// The same for processes that can't be seen from here: of those, only an earlier attempt of the same run is
    /// known to have nobody who listens.
    async fn end_unseen(
        &self,
        found: &Found,
        owner: &Owner,
        grace: Duration,
    ) -> Result<Vec<String>, DockerError> {
        if self.sees(found).await? {
            return Ok(vec![]);
        }
        let mark = format!("{MARKER_CLIENT}={}/{}/", owner.job, owner.run);
        let until = tokio::time::Instant::now() + grace;
        match self.signal_inside(found, &mark, Signal::TERM).await {
            // An image of few programs has no shell: that is no reason to make no dump.
            Err(DockerError::NoProgram { said, .. }) => {
                return Ok(vec![format!(
                    "what an earlier attempt may have left in container {} can't be looked for: its processes aren't \
                     seen from here, and it has no shell ({said})",
                    found.name
                )]);
            }
            told => told?,
        }
        while tokio::time::Instant::now() < until && self.running(found).await? > 0 {
            tokio::time::sleep(NEXT_LOOK).await;
        }
        self.signal_inside(found, &mark, Signal::KILL).await?;
        Ok(vec![])
    }

    /// Whether the container's processes have their numbers and environments here.
    async fn sees(&self, found: &Found) -> Result<bool, DockerError> {
        let container = self.inspect(&found.id).await?;
        let pid =
            container.and_then(|container| container.state?.pid).and_then(|pid| i32::try_from(pid).ok());
        let Some(pid) = pid.filter(|pid| *pid > 0) else { return Ok(true) };
        let group = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        Ok(group.contains(&found.id) && procfs::environment(pid, [MARKER_EXEC]).is_some())
    }

    async fn running(&self, found: &Found) -> Result<usize, DockerError> {
        let container = self.inspect(&found.id).await?;
        Ok(container.and_then(|container| container.exec_ids).map_or(0, |ids| ids.len()))
    }

    /// Has a shell inside signal what has the mark.
    async fn signal_inside(&self, found: &Found, mark: &str, signal: Signal) -> Result<(), DockerError> {
        let word = if signal == Signal::KILL { "KILL" } else { "TERM" };
        let argv = ["/bin/sh", "-c", SIGNAL_MARKED, "sh", word, mark].map(str::to_owned).to_vec();
        let order = Order { argv, env: vec![], stdin: false };
        let (exec, mut attached, _input) = self.start(found, &order).await?;
        let heard = async {
            let mut head = vec![];
            while let Some(piece) = exec.next(&mut attached).await? {
                if let Piece::Out(bytes) = piece {
                    let room = HEAD.saturating_sub(head.len()).min(bytes.len());
                    head.extend_from_slice(&bytes[..room]);
                }
            }
            let code = exec.exit_code().await?;
            exec.never_ran(code, &head).map_or(Ok(code), Err)
        };
        match tokio::time::timeout(BOUND, heard).await {
            Ok(Ok(0)) => Ok(()),
            Ok(Ok(code)) => Err(DockerError::Refused {
                name: found.name.clone(),
                program: "kill".to_owned(),
                said: format!("the shell that was to end a program ended with code {code}"),
            }),
            Ok(Err(error)) => Err(error),
            Err(_) => {
                Err(DockerError::TooLong { name: found.name.clone(), program: "kill".into(), limit: BOUND })
            }
        }
    }
}

/// A program inside whose client has ended.
struct Abandoned {
    name: String,
    run: String,
    token: String,
}

impl Abandoned {
    fn look(pid: i32, owner: &Owner) -> Option<Self> {
        let markers = [MARKER_EXEC, MARKER_JOB, MARKER_RUN, MARKER_CLIENT];
        let [Some(token), Some(job), Some(run), Some(client)] = procfs::environment(pid, markers)? else {
            return None;
        };
        let mut parts = client.rsplit('/');
        let start: u64 = parts.next()?.parse().ok()?;
        let number: i32 = parts.next()?.parse().ok()?;
        let listens = procfs::stat(number).is_some_and(|one| one.start == start && !one.is_zombie());
        (job == owner.job && !listens).then(|| Self {
            name: procfs::stat(pid).map_or_else(String::new, |one| one.name),
            run,
            token,
        })
    }
}

/// The programs inside the container whose clients have ended, each by one of its processes.
fn abandoned(container: &str, owner: &Owner) -> Vec<(i32, Abandoned)> {
    let mut found: Vec<(i32, Abandoned)> = vec![];
    for one in procfs::all() {
        let inside = || std::fs::read_to_string(format!("/proc/{}/cgroup", one.pid));
        if one.is_zombie() || !inside().is_ok_and(|group| group.contains(container)) {
            continue;
        }
        let Some(new) = Abandoned::look(one.pid, owner) else { continue };
        if !found.iter().any(|(_, other)| other.token == new.token) {
            found.push((one.pid, new));
        }
    }
    found
}

/// Every process with the mark in its environment, with its start: the program's children have it too.
fn marked(mark: &str) -> Vec<(i32, u64)> {
    let all = procfs::all().into_iter().filter(|one| !one.is_zombie());
    all.filter(|one| has_mark(one.pid, mark)).map(|one| (one.pid, one.start)).collect()
}

fn has_mark(pid: i32, mark: &str) -> bool {
    let block = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    block.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes())
}

/// The pidfd is taken before the mark is looked at: from then on the number can't become another process's.
fn send(pid: i32, mark: &str, signal: Signal) {
    let Some(fd) = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else {
        return;
    };
    if has_mark(pid, mark) {
        let _ = pidfd_send_signal(&fd, signal);
    }
}
