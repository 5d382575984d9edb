//! Taking over what daemons before this one left running: their spawners' programs, and runs that have lost theirs.
//! Ends nothing, and never takes what serves a living process.

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;

use super::Spawner;
use crate::host::process::{Keep, Origin, Orphan, ProgramContext, Programs, Running, Search, Status};
use crate::host::procfs;
use crate::model::{Outcome, RunId};
use crate::spawner::link::{Link, Refusal, Welcome};
use crate::spawner::protocol::Listed;
use crate::spawner::rendezvous;
use crate::units::HumanDuration;

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
    /// Takes over what daemons before this one, or a `run-now` beside it that died, left running, and removes the
    /// sockets of dead spawners. `open`: the runs that have no end in the ledger, each with its last attempt.
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

    async fn adopt(&self, pid: i32, path: &Path) -> Result<Met> {
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
                    tokio::time::sleep(NEXT_TRY).await;
                }
                Err(Refusal { reason, busy: None }) => bail!("process {pid}: {reason}"),
            }
        }
        bail!("process {pid} says that it serves a process that is gone")
    }
}

/// What a spawner of a former daemon is given to answer.
const WELCOME: Duration = Duration::from_secs(10);

/// A spawner that still takes itself for the servant of a process that is gone is about to read the end of their
/// connection, and tells nobody when it has.
const NEXT_TRY: Duration = Duration::from_millis(25);
const TRIES: u32 = 40;

/// What became of a spawner of a former daemon.
enum Met {
    Adopted(Vec<AdoptedProgram>),
    /// It serves a living process.
    Busy,
    Dead,
}
