//! One run: its attempts with backoff, its timeout, its cancel, its log.
//!
//! Owns the life of a run between its claim and its end. Never decides whether a run may begin: the plan does.
//! Tells the engine of each attempt through [`RunSink`], and waits until the ledger has it before it starts
//! anything.

mod ends;
mod words;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use self::ends::{
    AttemptEnd, cancelled_between, cancelled_end, ended_by_the_daemon_before, interrupted_end, judge_result,
    timed_out_end, with_log_error,
};
use self::words::{first_line, last_line, level_of, shown, survivors};
use super::Gone;
use crate::clock::Clock;
use crate::config::JobSpec;
use crate::host::accounts;
use crate::host::postgres::Connection;
use crate::host::process::{Keep, Origin, Orphan, ProgramContext, Programs, Running, Swept, judge};
use crate::host::secret::{self, ExposeSecret};
use crate::jobs::{JobContext, JobError};
use crate::logs::{Level, RunLog};
use crate::model::{JobName, Outcome, Report, RunId, Trigger};
use crate::policy::{Interrupted, Retries, TERM_GRACE};
use crate::spawner::{AdoptedProgram, Spawner};

/// Attempts in a row that are interrupted before a run is given up: whatever kills the spawner may be the job itself.
const INTERRUPTIONS: u32 = 3;

/// What a run needs from the daemon it runs in.
pub(super) struct Surroundings {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) spawner: Spawner,
    pub(super) connections: Arc<BTreeMap<String, Connection>>,
    pub(super) state: PathBuf,
    /// What is cancelled from now on is ended with the daemon.
    pub(super) stopping: Arc<AtomicBool>,
}

/// A run that may begin.
pub(super) struct Run {
    pub(super) run: RunId,
    pub(super) job: JobName,
    /// Absent for an adopted run whose job is gone from the table.
    pub(super) spec: Option<Arc<JobSpec>>,
    pub(super) trigger: Trigger,
    pub(super) slot: Option<Timestamp>,
    /// Of its first attempt, which may lie before this daemon's time.
    pub(super) began: Timestamp,
    pub(super) dry_run: bool,
    pub(super) origin: Option<Origin>,
    pub(super) log: RunLog,
    pub(super) cancel: CancellationToken,
}

/// How a run begins here. `tried`: attempts of before that count against `retries.attempts`.
pub(super) enum Begin {
    /// The ledger has its first attempt already.
    Claimed,
    /// An attempt of this number follows one that was interrupted; the ledger has its start already.
    Rerun { number: u32, tried: u32 },
    /// Attempt `number` still runs: its program outlived the daemon before this one.
    Adopted { number: u32, tried: u32, program: Box<AdoptedProgram> },
    /// Attempt `number` still runs, and no spawner can tell of it.
    Orphaned { number: u32, tried: u32, orphan: Box<Orphan> },
}

/// What an attempt goes on with that began before this daemon.
enum Left {
    Adopted(Box<AdoptedProgram>),
    Orphaned(Box<Orphan>),
}

/// Where the runner puts what must be remembered.
#[async_trait]
pub(super) trait RunSink: Send + Sync {
    /// Returns once the ledger has it (or keeps it in memory, where it can't be written).
    ///
    /// # Errors
    /// [`Gone`] where nobody writes any more: then nothing may be started, and the run stays open for the next
    /// daemon.
    async fn attempt_started(&self, run: RunId, number: u32, at: Timestamp) -> Result<(), Gone>;
    fn attempt_ended(
        &self,
        run: RunId,
        number: u32,
        at: Timestamp,
        outcome: Outcome,
        error: Option<String>,
        held: Held,
    );
    fn finished(&self, end: RunEnd, held: Held);
}

/// What lets the spawner forget the exits of an attempt: [`Held::release`], once its end is in the ledger. One
/// that is merely dropped, as with a message that nobody reads any more, leaves them to the next daemon.
pub(super) struct Held(Option<Programs>);

impl Held {
    pub(super) fn release(self) {
        if let Some(programs) = self.0 {
            programs.forget();
        }
    }
}

/// How a run ended.
#[derive(Debug)]
pub(super) struct RunEnd {
    pub(super) run: RunId,
    pub(super) at: Timestamp,
    pub(super) outcome: Outcome,
    pub(super) error: Option<String>,
    pub(super) report: Option<Report>,
}

/// Carries a run to its end and tells `sink`.
pub(super) async fn execute(run: Run, begin: Begin, around: Arc<Surroundings>, sink: Arc<dyn RunSink>) {
    let id = &run.run;
    let retries = run.spec.as_ref().map_or(Retries::ONCE, |spec| spec.retries);
    let rerun = run.spec.as_ref().is_some_and(|spec| spec.interrupted == Interrupted::Rerun);
    let (mut number, tried, mut left, mut announced) = match begin {
        Begin::Claimed => (1, 0, None, true),
        Begin::Rerun { number, tried } => (number, tried, None, true),
        Begin::Adopted { number, tried, program } => (number, tried, Some(Left::Adopted(program)), true),
        Begin::Orphaned { number, tried, orphan } => (number, tried, Some(Left::Orphaned(orphan)), true),
    };
    let mut tries = tried.saturating_add(1);
    let mut interrupted = 0;
    let end = loop {
        if !announced {
            let start = sink.attempt_started(*id, number, around.clock.now());
            match run.cancel.run_until_cancelled(start).await {
                Some(Ok(())) => {}
                Some(Err(Gone)) => return,
                None => break cancelled_between(),
            }
        }
        announced = false;
        let end = attempt(&run, number, left.take(), &around).await;
        let now = end.at.unwrap_or_else(|| around.clock.now());
        let pause = if end.outcome == Outcome::Interrupted {
            interrupted += 1;
            if !rerun || interrupted == INTERRUPTIONS {
                break end;
            }
            // Such an attempt doesn't count.
            backoff(retries, interrupted)
        } else if end.retryable && tries < retries.attempts {
            (interrupted, tries) = (0, tries + 1);
            backoff(retries, tries - 1)
        } else {
            break end;
        };
        let error = end.error.clone().unwrap_or_default();
        let text = format!("attempt {number} {}: {error}; the next in {}", end.outcome, shown(pause));
        run.log.note_as(now, Level::Warn, &text);
        sink.attempt_ended(*id, number, now, end.outcome, end.error, end.held);
        // The pause is what was asked for: whatever made the attempt fail is given time to end.
        if run.cancel.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            break cancelled_between();
        }
        number += 1;
    };
    let at = end.at.unwrap_or_else(|| around.clock.now());
    let last = last_line(&end, at.duration_since(run.began).unsigned_abs());
    run.log.note_as(at, level_of(end.outcome), &last);
    let report = with_log_error(end.report, &run.log);
    sink.finished(RunEnd { run: *id, at, outcome: end.outcome, error: end.error, report }, end.held);
}

async fn attempt(run: &Run, number: u32, left: Option<Left>, around: &Arc<Surroundings>) -> AttemptEnd {
    let started = around.clock.now();
    let cancel = CancellationToken::new();
    let ended_at = Arc::new(OnceLock::new());
    let mut ended_as = None;
    let (programs, mut work, deadline) = match left {
        Some(Left::Orphaned(orphan)) => {
            let deadline = orphan.deadline;
            let context = context_of_before(&run.job, run.run, number, &run.log);
            let (programs, mut running) = around.spawner.watch(*orphan, context);
            let ended_at = ended_at.clone();
            let work = tokio::spawn(async move {
                let at = running.wait().await.at;
                ended_at.get_or_init(|| at);
                Err(JobError::Retryable(anyhow::Error::msg("nobody knows how the program ended")))
            });
            (programs, work, deadline)
        }
        Some(Left::Adopted(adopted)) => {
            // One that has ended meanwhile has its exit; no timeout undoes that.
            ended_as = adopted.ended_as;
            let deadline = match ended_as {
                _ if adopted.ended => None,
                // The spawner goes on to end it.
                Some(_) => started.checked_add(3 * TERM_GRACE).ok(),
                None => adopted.keep.deadline,
            };
            let keep = adopted.keep.clone();
            run.log.note(started, &format!("attempt {number} goes on: pid {} was adopted", adopted.pid));
            let context = context_of_before(&run.job, adopted.run, adopted.attempt, &run.log);
            let (programs, running) = adopted.attach(context);
            let ended_at = ended_at.clone();
            let work = tokio::spawn(async move { finish_adopted(running, &keep, &ended_at).await });
            (programs, work, deadline)
        }
        None => {
            let Some(spec) = &run.spec else {
                return AttemptEnd::failed("its job is gone from jobs.yaml".to_owned(), false);
            };
            let deadline = started.checked_add(spec.timeout).ok();
            run.log.note(started, &first_line(run, spec, number));
            let context = match context(run, spec, number, around, cancel.clone(), deadline).await {
                Ok(context) => context,
                Err(error) => return AttemptEnd::failed(error, false),
            };
            let programs = context.programs.clone();
            let job = spec.job.clone();
            (programs, tokio::spawn(async move { job.run(&context).await }), deadline)
        }
    };
    let left = deadline.map_or(Duration::MAX, |deadline| {
        Duration::try_from(deadline.duration_since(started)).unwrap_or(Duration::ZERO)
    });
    let (stopped, cause) = tokio::select! {
        // What is done is done, whatever came at the same time.
        biased;
        result = &mut work => {
            let swept = programs.end_all(TERM_GRACE).await;
            let at = ended_at.get().copied();
            let end = match (&result, programs.lost(), ended_as) {
                (Ok(Err(_)), Some(lost), _) => interrupted_end(lost, &swept),
                (Ok(_), _, Some(cause)) => ended_by_the_daemon_before(run, cause, &swept),
                _ => judge_result(result, &swept),
            };
            return AttemptEnd { held: Held(Some(programs)), at, ..end };
        }
        () = run.cancel.cancelled() => {
            let stopping = around.stopping.load(Ordering::Relaxed);
            let cause = if stopping { Outcome::Interrupted } else { Outcome::Cancelled };
            (cancelled_end(), cause)
        }
        () = sleep(left) => match ended_as {
            Some(cause) => (ended_by_the_daemon_before(run, cause, &Swept::default()), cause),
            None => (timed_out_end(run), Outcome::TimedOut),
        },
    };
    // The job's own future goes on meanwhile, so that it can take its partial files away.
    cancel.cancel();
    let swept = programs.end_all_as(TERM_GRACE, Some(cause)).await;
    let worked = tokio::time::timeout(TERM_GRACE, &mut work).await;
    if worked.is_err() {
        work.abort();
    }
    // What the job started while it was being ended.
    let rest = programs.end_all_as(TERM_GRACE, Some(cause)).await;
    let by_itself = ended_as.is_none() && !programs.were_ended(&swept) && !programs.were_ended(&rest);
    if let Ok(result @ Ok(Ok(_))) = worked
        && by_itself
    {
        // It was done before it could be ended: work that is finished is not to be repeated.
        let at = ended_at.get().copied();
        return AttemptEnd { held: Held(Some(programs)), at, ..judge_result(result, &swept) };
    }
    let error = stopped.error.map(|error| error + &survivors(&swept) + &survivors(&rest));
    AttemptEnd { held: Held(Some(programs)), error, ..stopped }
}

async fn context(
    run: &Run,
    spec: &JobSpec,
    number: u32,
    around: &Surroundings,
    cancel: CancellationToken,
    deadline: Option<Timestamp>,
) -> Result<JobContext, String> {
    let mut env = Vec::with_capacity(spec.env.len());
    for (name, value) in &spec.env {
        let value = value.resolve_within(secret::PATIENCE).await;
        let value = value.map_err(|error| format!("env.{name}: {error}"))?;
        env.push((name.clone(), value.expose_secret().to_owned()));
    }
    let account = spec.user.as_deref().map(accounts::by_name).transpose()?;
    let programs = around.spawner.programs(ProgramContext {
        job: spec.name.clone(),
        run: run.run,
        attempt: number,
        slot: run.slot,
        origin: run.origin.clone(),
        account,
        env,
        nice: spec.nice,
        io: spec.io,
        log: Arc::new(run.log.clone()),
    });
    Ok(JobContext {
        job: spec.name.clone(),
        run: run.run,
        attempt: number,
        trigger: run.trigger,
        slot: run.slot,
        zone: spec.zone.clone(),
        dry_run: run.dry_run,
        clock: around.clock.clone(),
        log: run.log.clone(),
        programs,
        connections: around.connections.clone(),
        state: around.state.clone(),
        cancel,
        deadline,
    })
}

/// What the programs of an earlier daemon need: they were started long ago, with all that they were to have.
pub(super) fn context_of_before(job: &JobName, run: RunId, attempt: u32, log: &RunLog) -> ProgramContext {
    ProgramContext::new(job.clone(), run, attempt, Arc::new(log.clone()))
}

async fn finish_adopted(
    mut running: Running,
    keep: &Keep,
    ended_at: &OnceLock<Timestamp>,
) -> Result<Report, JobError> {
    let exit = running.wait().await;
    ended_at.get_or_init(|| exit.at);
    judge(&exit, keep).map_err(|error| JobError::Retryable(anyhow::Error::msg(error)))
}

/// Doubles from try to try up to its bound, ±20 % so that jobs that failed together don't return together.
fn backoff(retries: Retries, tries: u32) -> Duration {
    let doubled = retries.backoff.saturating_mul(1_u32.checked_shl(tries - 1).unwrap_or(u32::MAX));
    let random = RandomState::new().build_hasher().finish() % 4001;
    let share = 0.8 + f64::from(u16::try_from(random).unwrap_or(0)) / 10_000.0;
    doubled.min(retries.max_backoff).mul_f64(share)
}

/// For a timeout or a backoff, which may be longer than instants go.
async fn sleep(duration: Duration) {
    match tokio::time::Instant::now().checked_add(duration) {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_to_its_bound_within_a_fifth() {
        let retries =
            Retries { attempts: 9, backoff: Duration::from_secs(30), max_backoff: Duration::from_secs(600) };
        for (tries, expected) in [(1, 30.0), (2, 60.0), (3, 120.0), (5, 480.0), (6, 600.0), (64, 600.0)] {
            let got = backoff(retries, tries).as_secs_f64();
            assert!((0.8 * expected..=1.2 * expected).contains(&got), "try {tries}: {got}");
        }
    }
}
