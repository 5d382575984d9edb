//! Heartbeats: a URL of somebody else's service is asked as the runs of a job begin and end, so that the silence of this
//! host is noticed by who still lives.
//!
//! Hears of runs as an [`Observer`], and holds up neither engine nor job: a job has one task while there is something to
//! ask for it. Only its newest state waits, nothing for longer than [`FRESH`]: a success that is told an hour late would
//! hide an hour of silence. Nothing of it is in the ledger; what dies with the daemon is what the service is there for.

mod ping;
mod troubles;
mod waiting;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{Notify, Semaphore, watch};

use self::ping::{Around, Said, ping};
use self::troubles::{Troubles, some_of};
use self::waiting::{Beat, Waiting};
use super::courier::Failure;
use crate::clock::Clock;
use crate::config::JobTable;
use crate::engine::{Observer, Seen, What};
use crate::model::{JobName, Outcome};

/// For how long it is tried, and the pauses in between.
const FRESH: Duration = Duration::from_secs(120);
const PAUSES: [Duration; 3] = [Duration::from_secs(3), Duration::from_secs(15), Duration::from_secs(45)];
/// Requests at once, of all jobs.
const AT_ONCE: usize = 16;

/// The heartbeats of all jobs. Cheap to clone.
#[derive(Clone)]
pub struct Heartbeats(Arc<Shared>);

struct Shared {
    around: Around,
    clock: Arc<dyn Clock>,
    runtime: tokio::runtime::Handle,
    /// Those with a task.
    lanes: Mutex<HashMap<JobName, Lane>>,
    turns: Semaphore,
    troubles: Troubles,
    /// No more pauses.
    finishing: watch::Sender<bool>,
    /// Told as a lane goes.
    gone: Notify,
}

#[derive(Default)]
struct Lane {
    waiting: Waiting,
    /// Told of each that comes.
    comes: Arc<Notify>,
}

impl Heartbeats {
    /// `logs`: where the logs of the jobs are.
    pub fn new(runtime: tokio::runtime::Handle, clock: Arc<dyn Clock>, logs: PathBuf, host: String) -> Self {
        Self(Arc::new(Shared {
            around: Around { logs, host },
            clock,
            runtime,
            lanes: Mutex::default(),
            turns: Semaphore::new(AT_ONCE),
            troubles: Troubles::default(),
            finishing: watch::channel(false).0,
            gone: Notify::new(),
        }))
    }

    pub fn observer(&self) -> Arc<dyn Observer> {
        Arc::new(self.clone())
    }

    /// Forgets the troubles of jobs that have no heartbeat any more.
    pub fn reloaded(&self, table: &JobTable) {
        self.0.troubles.keep_only(|job| has_one(table, job));
    }

    /// A sentence for each reason for which heartbeats of this table were not heard.
    pub fn problems(&self, table: &JobTable) -> Vec<String> {
        self.0.troubles.problems(|job| has_one(table, job))
    }

    /// Tries what waits once more, for at most so long.
    pub async fn finish(&self, within: Duration) {
        self.0.finishing.send_replace(true);
        let all_gone = async {
            loop {
                let gone = self.0.gone.notified();
                if self.0.lanes().is_empty() {
                    return;
                }
                gone.await;
            }
        };
        if tokio::time::timeout(within, all_gone).await.is_err() {
            let lanes = self.0.lanes();
            let mut jobs: Vec<&JobName> = lanes.keys().collect();
            jobs.sort_unstable();
            tracing::warn!("there is no more time for the heartbeats of {}", some_of(&jobs));
        }
    }
}

fn has_one(table: &JobTable, job: &JobName) -> bool {
    table.job(job.as_str()).is_some_and(|spec| spec.heartbeat.is_some())
}

impl Observer for Heartbeats {
    fn hears(&self, seen: &Seen<'_>) {
        let Some(heartbeat) = seen.spec.and_then(|spec| spec.heartbeat.as_ref()) else { return };
        if seen.dry_run {
            return;
        }
        let said = match &seen.what {
            What::Began { .. } if !heartbeat.only_success => Said::began(seen.trigger),
            // Neither a success nor a failure, as in alerts.
            What::Ended { outcome: Outcome::Cancelled, .. } => {
                if let Some(lane) = self.0.lanes().get_mut(seen.job) {
                    lane.waiting.forget_start(seen.run);
                }
                return;
            }
            What::Ended { outcome, .. } if *outcome != Outcome::Succeeded && heartbeat.only_success => return,
            What::Ended { at, started_at, outcome, error, report } => {
                let took = started_at.map(|start| at.duration_since(start).unsigned_abs());
                let reason = error.or(report.map(|report| report.summary.as_str()));
                Said::ended(*outcome, took, reason)
            }
            _ => return,
        };
        let since = self.0.clock.since_boot();
        self.take(seen.job, Beat { run: seen.run, heartbeat: heartbeat.clone(), said, since });
    }
}

impl Heartbeats {
    /// The job's task takes it; where there is none, one begins.
    fn take(&self, job: &JobName, beat: Beat) {
        let mut lanes = self.0.lanes();
        if let Some(lane) = lanes.get_mut(job) {
            lane.waiting.push(beat);
            lane.comes.notify_one();
            return;
        }
        let mut lane = Lane::default();
        lane.waiting.push(beat);
        let (shared, job, comes) = (self.0.clone(), job.clone(), lane.comes.clone());
        lanes.insert(job.clone(), lane);
        self.0.runtime.spawn(async move { shared.serve(&job, &comes).await });
    }
}

impl Shared {
    /// Until nothing waits of this job.
    async fn serve(&self, job: &JobName, comes: &Notify) {
        while let Some(beat) = self.next(job) {
            // A bug that one meets must not silence the job.
            if AssertUnwindSafe(self.tell(job, &beat, comes)).catch_unwind().await.is_err() {
                self.not_heard(job, "a bug: the request can't be made".to_owned());
            }
        }
    }

    fn next(&self, job: &JobName) -> Option<Beat> {
        let mut lanes = self.lanes();
        let beat = lanes.get_mut(job).and_then(|lane| lane.waiting.take());
        if beat.is_none() {
            lanes.remove(job);
            self.gone.notify_waiters();
        }
        beat
    }

    async fn tell(&self, job: &JobName, beat: &Beat, comes: &Notify) {
        let mut pauses = PAUSES.into_iter();
        let mut refused = None;
        loop {
            let left = FRESH.saturating_sub(self.age_of(beat));
            let Ok(Ok(turn)) = tokio::time::timeout(left, self.turns.acquire()).await else {
                let reason = format!("{AT_ONCE} others were asked at once, for {} s", FRESH.as_secs());
                return self.not_heard(job, reason);
            };
            if self.is_outdated(job, beat) {
                return self.given_up(job, beat, refused);
            }
            let answered = ping(job, beat, &self.around, self.clock.now()).await;
            drop(turn);
            let reason = match answered {
                Ok(()) => return self.heard(job),
                Err(Failure::ForGood(reason)) => return self.not_heard(job, reason),
                Err(Failure::ForNow(reason, _)) => reason,
            };
            let is_in_time = |pause: &Duration| self.age_of(beat) + *pause < FRESH;
            let pause = pauses.next().filter(is_in_time).filter(|_| !*self.finishing.borrow());
            let Some(pause) = pause else { return self.not_heard(job, reason) };
            refused = Some(reason);
            if !self.pause(pause, job, beat, comes).await {
                return self.given_up(job, beat, refused);
            }
        }
    }

    /// Whether it is still to be said then.
    async fn pause(&self, pause: Duration, job: &JobName, beat: &Beat, comes: &Notify) -> bool {
        let mut over = self.clock.until(self.clock.since_boot() + pause);
        let mut finishing = self.finishing.subscribe();
        loop {
            tokio::select! {
                () = &mut over => return true,
                _ = finishing.wait_for(|finishing| *finishing) => return true,
                () = comes.notified() => {
                    if self.is_outdated(job, beat) {
                        return false;
                    }
                }
            }
        }
    }

    fn age_of(&self, beat: &Beat) -> Duration {
        self.clock.since_boot().saturating_sub(beat.since)
    }

    fn is_outdated(&self, job: &JobName, beat: &Beat) -> bool {
        self.lanes().get(job).is_some_and(|lane| lane.waiting.outdates(beat))
    }

    fn heard(&self, job: &JobName) {
        if self.troubles.clear(job) {
            tracing::info!("heartbeats are heard again");
        }
    }

    /// A newer state has come before this one was heard. An end that was tried in vain is said all the same: of a job that
    /// runs each minute none would ever be tried for long enough. What a start wanted, its end still may get.
    fn given_up(&self, job: &JobName, beat: &Beat, refused: Option<String>) {
        if let Some(reason) = refused.filter(|_| !beat.said.is_start()) {
            self.not_heard(job, reason);
        }
    }

    fn not_heard(&self, job: &JobName, reason: String) {
        if self.troubles.note(job, reason.clone(), self.clock.now()) {
            tracing::warn!("no heartbeat of {job} was heard, and it is not tried again: {reason}");
        }
    }

    fn lanes(&self) -> MutexGuard<'_, HashMap<JobName, Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
