//! What the engine does with each message: requests of people, and the news of runs.

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::plan::Event;
use super::recovery::Foreign;
use super::runner::RunEnd;
use super::{
    Accepted, Ended, Engine, Message, Refusal, Request, Snapshot, SnapshotRun, Surroundings, Then, Turn,
    event,
};
use crate::ledger::{self, Write};
use crate::model::{JobName, Outcome, RunId};
use crate::policy::Interrupted;

impl Engine {
    pub(super) fn absorb(&mut self, message: Message, now: Timestamp, turn: &mut Turn) {
        match message {
            Message::Wake => {}
            Message::BeginAttempt { run, .. } => {
                let Some(Message::BeginAttempt { number, at, written, .. }) =
                    self.beside.begins(run, message)
                else {
                    return;
                };
                if let Some(active) = self.runs.get_mut(&run) {
                    active.attempt = number;
                }
                turn.writes.push(Write::AttemptStarted { run, number, at });
                turn.then.push(Then::Tell(written));
            }
            Message::AttemptEnded { run, number, at, outcome, error, held } => {
                turn.writes.push(Write::AttemptEnded { run, number, at, outcome, error });
                turn.then.push(Then::Release(held));
                self.go_on_beside(run, now, turn);
            }
            Message::Finished(end, held) => {
                let run = end.run;
                self.finished(end, now, turn);
                turn.then.push(Then::Release(held));
                self.go_on_beside(run, now, turn);
            }
            Message::ForeignGone { run } => self.foreign_gone(run, now, turn),
            Message::ForeignLeft { run, adoption } => self.foreign_left(run, adoption, now, turn),
            Message::ForeignLives { run, program } => self.foreign_lives(run, program, now, turn),
            Message::RunNow { job, dry_run, by, reply } => self.run_now(&job, dry_run, by, reply, now, turn),
            Message::Cancel { run, by, reply } => {
                let known = self.runs.contains_key(&run)
                    || self.foreign.get(&run).is_some_and(Foreign::can_be_asked_to_end);
                // Nobody is told before a daemon after this one would know of it.
                turn.then.push(Then::Answer(reply, known));
                if known {
                    let detail = serde_json::json!({ "run": run, "by": by });
                    turn.writes.push(event(now, "cancel_asked", detail));
                    self.plan_event(Event::Cancel { run }, now, turn);
                }
            }
            Message::Pause { job, until, by, done } => {
                let detail = serde_json::json!({ "job": job, "until": until, "by": by });
                turn.writes.push(event(now, "paused", detail));
                let name = job.as_ref().map(ToString::to_string);
                self.pauses.retain(|pause| pause.job != name);
                self.pauses.push(ledger::PauseRecord { job: name, since: now, until, by: by.clone() });
                turn.writes.push(Write::Pause { job: job.clone(), since: now, until, by });
                self.plan_event(Event::Pause { job, until }, now, turn);
                turn.then.push(Then::Tell(done));
            }
            Message::Resume { job, by, done } => {
                turn.writes.push(event(now, "resumed", serde_json::json!({ "job": job, "by": by })));
                turn.writes.push(Write::Resume { job: job.clone() });
                self.plan_event(Event::Resume { job }, now, turn);
                turn.then.push(Then::Tell(done));
            }
            Message::Reload { table, mut record, by, done } => {
                let detail = serde_json::json!({ "hash": table.hash, "by": by });
                turn.writes.push(event(now, "reloaded", detail));
                // What this lets begin follows the new one.
                self.table = table.clone();
                // Slots of the old table come first; the new one's record follows them.
                self.plan_event(Event::Reload(table.clone()), now, turn);
                // From this instant on, whenever the file was read.
                record.in_force_from = self.plan.reached(now);
                turn.writes.push(Write::Table(record));
                self.logs.reconfigure(table.logs);
                self.around = std::sync::Arc::new(Surroundings {
                    clock: self.around.clock.clone(),
                    spawner: self.around.spawner.clone(),
                    connections: table.connections.clone(),
                    state: self.around.state.clone(),
                    stopping: self.around.stopping.clone(),
                });
                self.courier.table(table);
                self.close_incidents_of_gone_jobs(turn);
                turn.then.push(Then::Tell(done));
            }
            Message::Note { kind, detail } => turn.writes.push(event(now, &kind, detail)),
            Message::Status { reply } => drop(reply.send(self.snapshot())),
            Message::Ping { reply } => turn.then.push(Then::Tell(reply)),
            Message::Stop { end_programs, grace, done } => self.stop(end_programs, grace, done, now, turn),
            Message::GraceOver => self.end_what_is_left(),
            Message::News(news) => self.heard_from_courier(news, now, turn),
        }
    }

    pub(super) fn go_on_beside(&mut self, ended: RunId, now: Timestamp, turn: &mut Turn) {
        // A daemon that stops begins nothing; what waits stays open for the next.
        if self.stopping.is_some() {
            return;
        }
        for message in self.beside.ended(ended) {
            self.absorb(message, now, turn);
        }
    }

    pub(super) fn plan_event(&mut self, event: Event, now: Timestamp, turn: &mut Turn) {
        let ledger = &*self.ledger;
        let decisions = self.plan.handle(event, now, &|row| super::refuses(ledger, row));
        self.decide(decisions, turn, now);
    }

    fn run_now(
        &mut self,
        job: &str,
        dry_run: bool,
        by: String,
        reply: oneshot::Sender<Result<Accepted, Refusal>>,
        now: Timestamp,
        turn: &mut Turn,
    ) {
        let refusal = match self.table.job(job) {
            None => Refusal::UnknownJob,
            Some(spec) if dry_run && !spec.job.can_dry_run() => Refusal::NoDryRun { kind: spec.kind.name },
            Some(spec) => {
                let request = self.next_request;
                self.next_request += 1;
                let job = spec.name.clone();
                self.requests.insert(request, Request { by: by.clone(), reply });
                self.plan_event(Event::Manual { job, request, by, dry_run }, now, turn);
                return;
            }
        };
        let _ = reply.send(Err(refusal));
    }

    pub(super) fn finished(&mut self, mut end: RunEnd, now: Timestamp, turn: &mut Turn) {
        let run = end.run;
        let told = Ended {
            outcome: end.outcome,
            reason: None,
            summary: end.report.as_ref().map(|report| report.summary.clone()),
            error: end.error.clone(),
        };
        let forced = self.stopping.as_ref().is_some_and(|stopping| stopping.forced);
        if forced && end.outcome == Outcome::Cancelled {
            let error = Some(super::hold::STOPPED.to_owned());
            let active = self.runs.get(&run);
            let rerun = active
                .and_then(|active| active.spec.as_ref())
                .is_some_and(|spec| spec.interrupted == Interrupted::Rerun);
            if rerun && let Some(active) = active {
                // The run stays open: the next daemon tries it again.
                let number = active.attempt;
                let outcome = Outcome::Interrupted;
                turn.writes.push(Write::AttemptEnded { run, number, at: end.at, outcome, error });
                turn.then.push(Then::TellEnd(run, Ended { outcome, ..told }));
                turn.then.push(Then::Forget(run));
                return;
            }
            end = RunEnd { outcome: Outcome::Interrupted, error, ..end };
        }
        let outcome = end.outcome;
        let RunEnd { at, error, report, .. } = end;
        turn.writes.push(Write::Finished { run, at, outcome, error, report });
        // What this end sets off is claimed in the transaction that records it.
        self.plan_event(Event::Ended { run, outcome }, now, turn);
        turn.then.push(Then::TellEnd(run, Ended { outcome, ..told }));
        turn.then.push(Then::Forget(run));
    }

    fn snapshot(&self) -> Snapshot {
        let mut runs: Vec<SnapshotRun> = self
            .runs
            .iter()
            .map(|(run, active)| SnapshotRun {
                run: *run,
                job: active.job.clone(),
                started_at: active.started_at,
                attempt: active.attempt,
                queued: active.queued,
            })
            .collect();
        runs.extend(self.foreign.iter().map(|(run, foreign)| SnapshotRun {
            run: *run,
            job: foreign.job.clone(),
            started_at: foreign.started_at,
            attempt: foreign.attempt,
            queued: foreign.started_at.is_none(),
        }));
        runs.sort_by_key(|run| run.run);
        let mut incidents: Vec<_> = self.incidents.open().cloned().collect();
        incidents.sort_by_key(|incident| incident.opened_at);
        let names = || self.table.jobs.iter().map(|job| &job.name);
        let slots: Vec<Option<Timestamp>> = names().map(|name| self.plan.next_slot(name.as_str())).collect();
        let next = std::iter::zip(&slots, names()).filter_map(|(slot, name)| Some(((*slot)?, name))).min();
        Snapshot {
            table: self.table.clone(),
            runs,
            next: next.map(|(slot, name)| (name.clone(), slot)),
            paused: self.pauses_in_force(),
            ledger_problem: self.ledger.problem(),
            incidents,
            slots,
        }
    }

    pub(super) fn pauses_in_force(&self) -> Vec<ledger::PauseRecord> {
        let in_force: Vec<_> = self.plan.pauses().map(|(job, _)| job.map(JobName::as_str)).collect();
        self.pauses.iter().filter(|pause| in_force.contains(&pause.job.as_deref())).cloned().collect()
    }
}
