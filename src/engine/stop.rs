//! The ends of the engine's life: what it takes over when it begins, and how it stops.

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::active::Again;
use super::beside::Beside;
use super::plan::Event;
use super::recovery::{Foreign, How, Resume};
use super::runner::context_of_before;
use super::{Active, Begin, Engine, Message, Stopping, Turn, event};
use crate::host::process::{Orphan, judge};
use crate::ledger::Write;
use crate::model::{JobName, RunId};
use crate::policy::TERM_GRACE;
use crate::spawner::AdoptedProgram;

impl Engine {
    /// Runs of the daemon before this one, and of a living `run-now`.
    pub(super) fn take_over(
        &mut self,
        resume: Vec<Resume>,
        foreign: Vec<Foreign>,
        now: Timestamp,
        turn: &mut Turn,
    ) {
        let under_way = resume.iter().filter(|one| !one.how.waits()).map(|one| (one.record.run, &one.job));
        let under_way = under_way.chain(foreign.iter().map(|foreign| (foreign.run, &foreign.job)));
        self.beside = Beside::of(under_way, &self.table);
        for resume in resume {
            self.resume(resume, now, turn);
        }
        for foreign in foreign {
            self.watch(foreign.run, foreign.owner.clone());
            self.foreign.insert(foreign.run, foreign);
        }
    }

    /// One run of before.
    pub(super) fn resume(&mut self, resume: Resume, now: Timestamp, turn: &mut Turn) {
        let Resume { record, job, dry_run, tried, cancel, how } = resume;
        let run = record.run;
        let attempt = record.attempts.last().map_or(0, |attempt| attempt.number);
        if let Some(found) = how.found() {
            let detail = serde_json::json!({ "job": job, "run": run, "found": found });
            turn.writes.push(event(now, "adopted", detail));
        }
        let active = Active {
            log: self.logs.run(&job, run),
            spec: self.table.job(job.as_str()).cloned(),
            job,
            trigger: record.trigger,
            slot: record.slot,
            dry_run,
            origin: None,
            cancel: CancellationToken::new(),
            started_at: record.started_at,
            attempt,
            queued: how.waits(),
            again: match how {
                How::Rerun { number } => Some(Again { number, tried }),
                _ => None,
            },
            ended: None,
        };
        let timeout = active.spec.as_ref().map(|spec| spec.timeout);
        if cancel {
            active.cancel.cancel();
        }
        self.runs.insert(run, active);
        match how {
            // The plan says when.
            How::Queued | How::Rerun { .. } => {}
            How::Adopted { number, program } => {
                self.begin(run, Begin::Adopted { number, tried, program });
            }
            How::Orphaned { number, mut orphan } => {
                // What was not recorded follows from the table of today.
                let began = record.attempts.last().map(|attempt| attempt.started_at);
                let agreed = began.zip(timeout).and_then(|(began, timeout)| began.checked_add(timeout).ok());
                orphan.deadline = orphan.deadline.or(agreed);
                self.begin(run, Begin::Orphaned { number, tried, orphan });
            }
        }
    }

    /// Their runs have ended, as far as the ledger knows: nothing outlives its run.
    pub(super) fn end_orphans(&self, orphans: Vec<AdoptedProgram>) {
        for orphan in orphans {
            let Ok(job) = JobName::new(&orphan.job) else { continue };
            if !orphan.ended {
                tracing::warn!(
                    "pid {} of run {} ({job}) outlived its run: it is ended",
                    orphan.pid,
                    orphan.run
                );
            }
            let log = self.logs.run(&job, orphan.run);
            let context = context_of_before(&job, orphan.run, orphan.attempt, &log);
            let (keep, number) = (orphan.keep.clone(), orphan.attempt);
            self.runtime.spawn(async move {
                let ended = orphan.ended;
                let (programs, mut running) = orphan.attach(context);
                if ended {
                    let exit = running.wait().await;
                    let told = judge(&exit, &keep).map_or_else(|error| error, |report| report.summary);
                    log.note(
                        exit.at,
                        &format!("heard only now of attempt {number}, which ended at {}: {told}", exit.at),
                    );
                }
                programs.end_all(TERM_GRACE).await;
                programs.forget();
            });
        }
    }

    /// Nothing is done to what only bears a mark: the ledger doesn't say that it is ours.
    pub(super) fn tell_of_strangers(&self, strangers: Vec<Orphan>) {
        for Orphan { run, job, leaders, spawner, trouble, .. } in strangers {
            let who = leaders.first().map_or_else(String::new, |leader| format!(", pid {},", leader.pid));
            tracing::warn!(
                "a process{who} bears the marks of run {run} of {job}, which isn't open in the ledger; its spawner \
                 (pid {spawner}) {trouble}; it is left alone"
            );
        }
    }

    pub(super) fn stop(
        &mut self,
        end_programs: bool,
        grace: Duration,
        done: oneshot::Sender<()>,
        now: Timestamp,
        turn: &mut Turn,
    ) {
        if let Some(stopping) = &mut self.stopping {
            stopping.end_programs |= end_programs;
        } else {
            self.plan_event(Event::Stop, now, turn);
            self.stopping = Some(Stopping { end_programs, forced: false, done: None });
        }
        if let Some(stopping) = &mut self.stopping {
            stopping.done = Some(done);
        }
        let outbox = self.outbox.clone();
        // What ends within the grace is heard of by itself, and the engine's thread ends with the last of it.
        self.runtime.spawn(async move {
            tokio::time::sleep(grace).await;
            // Then nobody listens any more.
            let _ = outbox.send(Message::GraceOver);
        });
    }

    pub(super) fn end_what_is_left(&mut self) {
        let Some(stopping) = &mut self.stopping else { return };
        stopping.forced = true;
        self.around.stopping.store(true, std::sync::atomic::Ordering::Relaxed);
        let end_programs = stopping.end_programs;
        for active in self.runs.values().filter(|active| !active.queued) {
            if end_programs || !active.outlives_daemon() {
                active.cancel.cancel();
            }
        }
    }

    /// Stopping, and nothing works in this process any more.
    pub(super) fn is_done(&self) -> bool {
        self.stopping.as_ref().is_some_and(|stopping| {
            self.runs
                .values()
                .all(|active| active.queued || (active.outlives_daemon() && !stopping.end_programs))
        })
    }

    pub(super) fn close(&mut self) {
        let mut turn = Turn::default();
        self.awaited = self.plan.next_wake();
        let now = self.look_at_the_clock(&mut turn);
        // Ends that came while the last turn was written; whoever asks for something now asks in vain.
        for message in self.inbox.try_iter().collect::<Vec<_>>() {
            if matches!(message, Message::Finished(..) | Message::AttemptEnded { .. } | Message::News(_)) {
                self.absorb(message, now, &mut turn);
            }
        }
        // What has come due since then has its row before it counts as accounted for.
        self.plan_event(Event::Tick, now, &mut turn);
        self.tell_of_the_clock(now, &mut turn);
        self.complete(turn, now);
        let left: Vec<RunId> = self.runs.keys().copied().collect();
        let detail = serde_json::json!({ "pid": std::process::id(), "left_running": left });
        let until = self.plan.accounted(self.plan.reached(now));
        let last = [Write::Accounted { until }, event(now, "daemon_stopped", detail)];
        if self.keeps_account
            && let Err(error) = self.ledger.apply(&last)
        {
            tracing::error!("{error}");
        }
        self.finish_alerts();
        if let Some(problem) = self.ledger.problem() {
            tracing::error!("{problem}, and are lost with the end of this process");
        }
        if let Some(done) = self.stopping.as_mut().and_then(|stopping| stopping.done.take()) {
            let _ = done.send(());
        }
    }
}
