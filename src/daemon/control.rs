//! What a client of the socket can ask, carried to the engine.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::Mutex;
use tokio::sync::mpsc::unbounded_channel;

use super::pages::Published;
use super::{bound_runs, record, say_warnings};
use crate::alert::{self, Heartbeats, Waiting};
use crate::api::{
    Control, NextSlot, OpenIncident, Paused, Refused, Reloaded, RunEvent, RunningRun, Started, Status,
};
use crate::clock::Clock;
use crate::config::{self, Environment, JobTable};
use crate::document::nearest;
use crate::engine::{Accepted, EngineHandle, Gone, Refusal};
use crate::ledger::Incident;
use crate::model::{JobName, RunId};

pub(super) struct DaemonControl {
    pub(super) engine: EngineHandle,
    pub(super) config: PathBuf,
    pub(super) environment: Environment,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) started_at: Timestamp,
    pub(super) waiting: Waiting,
    pub(super) heartbeats: Heartbeats,
    /// Of a daemon.
    pub(super) published: Option<Published>,
    /// One reload at a time.
    pub(super) reloading: Mutex<()>,
}

impl DaemonControl {
    async fn table(&self) -> Result<Arc<JobTable>, Refused> {
        Ok(self.engine.snapshot().await.map_err(gone)?.table)
    }

    /// The name of a job of the table in force, or why there is none.
    async fn known(&self, job: Option<&str>) -> Result<Option<JobName>, Refused> {
        let Some(name) = job else { return Ok(None) };
        let table = self.table().await?;
        table.job(name).map(|spec| Some(spec.name.clone())).ok_or_else(|| unknown(name, &table))
    }
}

#[async_trait]
impl Control for DaemonControl {
    async fn run_now(&self, job: &str, dry_run: bool, by: &str) -> Result<Started, Refused> {
        let answer = self.engine.run_now(job, dry_run, by).await;
        match answer.map_err(gone)? {
            Ok(accepted) => Ok(follow(accepted)),
            Err(Refusal::UnknownJob) => Err(unknown(job, &*self.table().await?)),
            Err(Refusal::RunsAlready(run)) => Err(Refused::RunsAlready { job: job.to_owned(), run }),
            Err(Refusal::Stopping) => Err(Refused::Other("not run: the daemon is stopping".to_owned())),
            Err(Refusal::Unwritten(reason)) => Err(Refused::Other(format!("not run: {reason}"))),
            Err(Refusal::NoDryRun { kind }) => Err(Refused::Other(format!(
                "not run: a job of kind `{kind}` can't say what it would do without doing it"
            ))),
        }
    }

    async fn cancel(&self, run: RunId, by: &str) -> Result<(), Refused> {
        let found = self.engine.cancel(run, by).await.map_err(gone)?;
        found.then_some(()).ok_or(Refused::NotRunning { run })
    }

    async fn pause(&self, job: Option<&str>, until: Option<Timestamp>, by: &str) -> Result<(), Refused> {
        let job = self.known(job).await?;
        self.engine.pause(job, until, by).await.map_err(gone)
    }

    async fn resume(&self, job: Option<&str>, by: &str) -> Result<(), Refused> {
        let job = self.known(job).await?;
        self.engine.resume(job, by).await.map_err(gone)
    }

    async fn reload(&self, by: &str) -> Result<Reloaded, Refused> {
        let _one = self.reloading.lock().await;
        let (config, environment) = (self.config.clone(), self.environment.clone());
        let loaded = tokio::task::spawn_blocking(move || config::load(&config, &environment))
            .await
            .map_err(|error| Refused::Other(format!("a bug: reading the file panicked: {error}")))?;
        let (mut table, warnings) = match loaded {
            Ok(loaded) => loaded,
            Err(problems) => {
                let text = problems.to_string();
                self.engine.note("reload_refused", serde_json::json!({ "by": by, "problems": text }));
                if let Some(published) = &self.published {
                    published.metrics.reload_refused();
                }
                return Err(Refused::BadFile(text));
            }
        };
        say_warnings(&warnings);
        bound_runs(&mut table);
        let old = self.table().await?;
        if old.paths != table.paths {
            tracing::warn!(
                "paths: have changed in {}: they come into force when the daemon starts again",
                self.config.display()
            );
        }
        let reloaded = difference(&old, &table);
        let table = Arc::new(table);
        let record = record::of(&table, self.clock.now());
        self.engine.reload(table.clone(), record, by).await.map_err(gone)?;
        self.heartbeats.reloaded(&table);
        if let Some(published) = &self.published {
            published.reloaded(&table);
        }
        tracing::info!(
            "{}: {} jobs are in force; added {:?}, changed {:?}, removed {:?} (asked by {by})",
            self.config.display(),
            reloaded.jobs,
            reloaded.added,
            reloaded.changed,
            reloaded.removed
        );
        Ok(reloaded)
    }

    async fn status(&self) -> Status {
        let mut status = Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started_at: self.started_at,
            config: self.config.display().to_string(),
            config_changed: false,
            jobs: 0,
            running: vec![],
            next: None,
            paused: vec![],
            problems: vec![],
            incidents: vec![],
        };
        let Ok(snapshot) = self.engine.snapshot().await else {
            status.problems.push("the engine has stopped: see the daemon's log".to_owned());
            return status;
        };
        status.config_changed = match config::hash_of(&self.config, &self.environment) {
            Ok(hash) => hash != snapshot.table.hash,
            Err(error) => {
                status.problems.push(error.to_string());
                true
            }
        };
        status.jobs = snapshot.table.jobs.len();
        status.problems.extend(snapshot.ledger_problem);
        status.problems.extend(self.waiting.problems());
        status.problems.extend(self.heartbeats.problems(&snapshot.table));
        status.problems.extend(self.published.iter().flat_map(|published| published.front.problems()));
        status.next = snapshot.next.map(|(job, slot)| NextSlot { job: job.to_string(), slot });
        status.running = snapshot
            .runs
            .into_iter()
            .map(|run| RunningRun {
                run: run.run,
                job: run.job.to_string(),
                started_at: run.started_at,
                attempt: run.attempt,
                queued: run.queued,
            })
            .collect();
        status.paused = snapshot
            .paused
            .into_iter()
            .map(|pause| Paused { job: pause.job, since: pause.since, until: pause.until, by: pause.by })
            .collect();
        status.incidents = snapshot.incidents.into_iter().map(open_incident).collect();
        status
    }
}

/// Its reason cut, since a thousand of them are one answer.
fn open_incident(incident: Incident) -> OpenIncident {
    const LONGEST_REASON: usize = 500;
    OpenIncident {
        job: incident.job.is_job().then(|| incident.job.to_string()),
        check: incident.check,
        severity: incident.severity,
        since: incident.opened_at,
        failures: incident.failures,
        reason: incident.reason.map(|reason| alert::cut(&reason, LONGEST_REASON)),
        flapping: incident.flapping,
    }
}

/// The lines of a run as they come, then its end.
fn follow(accepted: Accepted) -> Started {
    let Accepted { run, queued, mut lines, mut ended } = accepted;
    let (events, received) = unbounded_channel();
    if queued {
        let _ = events.send(RunEvent::Waiting("for its turn".to_owned()));
    }
    tokio::spawn(async move {
        let end = loop {
            tokio::select! {
                biased;
                Some(line) = lines.recv() => {
                    if events.send(RunEvent::Line(line)).is_err() {
                        return;
                    }
                }
                end = &mut ended => break end,
            }
        };
        // Every line was written before the end was told.
        while let Ok(line) = lines.try_recv() {
            let _ = events.send(RunEvent::Line(line));
        }
        if let Ok(end) = end {
            let _ = events.send(RunEvent::Ended {
                outcome: end.outcome,
                reason: end.reason,
                summary: end.summary,
                error: end.error,
            });
        }
    });
    Started { run, events: received }
}

fn unknown(name: &str, table: &JobTable) -> Refused {
    let nearest = nearest(name, table.jobs.iter().map(|job| job.name.as_str())).map(str::to_owned);
    Refused::UnknownJob { name: name.to_owned(), nearest }
}

fn difference(old: &JobTable, new: &JobTable) -> Reloaded {
    let names = |from: &JobTable, keep: &dyn Fn(&crate::config::JobSpec) -> bool| -> Vec<String> {
        from.jobs.iter().filter(|job| keep(job)).map(|job| job.name.to_string()).collect()
    };
    Reloaded {
        jobs: new.jobs.len(),
        added: names(new, &|job| old.job(job.name.as_str()).is_none()),
        changed: names(new, &|job| old.job(job.name.as_str()).is_some_and(|old| !old.is_like(job))),
        removed: names(old, &|job| new.job(job.name.as_str()).is_none()),
    }
}

fn gone(_: Gone) -> Refused {
    Refused::Other("the engine has stopped: see the daemon's log".to_owned())
}
