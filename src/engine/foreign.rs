//! Runs that a `run-now` works on beside this process: how their end is heard of, and what goes on here where that
//! process has died.
//!
//! Never takes over anything from a process that lives.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::plan::Event;
use super::recovery::{Left, living_programs, recover_beside};
use super::{Engine, MayBegin, Message, RETRY_LEDGER, Turn};
use crate::ledger::{Owner, Write};
use crate::model::{Outcome, RunId};
use crate::spawner::{Adoption, Spawner};

impl Engine {
    /// Hears of the end of a `run-now` that works by itself.
    pub(super) fn watch(&self, run: RunId, owner: Owner) {
        let outbox = self.outbox.clone();
        self.runtime.spawn_blocking(move || {
            owner.wait_for_end();
            // The engine may have ended meanwhile.
            let _ = outbox.send(Message::ForeignGone { run });
        });
    }

    pub(super) fn foreign_gone(&mut self, run: RunId, now: Timestamp, turn: &mut Turn) {
        // What was left of one that died with another was found with that, and goes on here.
        let Some(foreign) = self.foreign.get(&run) else { return };
        let record = self.ledger.run(run).ok().flatten();
        match record.as_ref().map(|record| record.outcome) {
            Some(outcome) if outcome != Outcome::Running => self.foreign_ended(run, outcome, now, turn),
            // It is for the next daemon.
            _ if self.stopping.is_some() => {}
            _ => {
                let last = record.and_then(|record| record.attempts.last().map(|attempt| attempt.number));
                let open = [(run, foreign.job.to_string(), last.unwrap_or(foreign.attempt))];
                let (spawner, outbox) = (self.around.spawner.clone(), self.outbox.clone());
                let (searching, alone) = (self.searching.clone(), self.may_begin.clone());
                self.runtime.spawn(async move {
                    // The next search comes after what this one has found: a spawner is taken over once.
                    let _searching = searching.lock().await;
                    let message = match alone {
                        None => {
                            let adoption = spawner.adopt_all(&open).await;
                            Message::ForeignLeft { run, adoption }
                        }
                        Some(alone) => {
                            let program = look_only(alone, &spawner, &open).await;
                            Message::ForeignLives { run, program }
                        }
                    };
                    let _ = outbox.send(message);
                });
            }
        }
    }

    /// In a `run-now`: what it left behind is for a daemon to judge, and stands in the way while it lives.
    pub(super) fn foreign_lives(
        &mut self,
        run: RunId,
        program: Option<Owner>,
        now: Timestamp,
        turn: &mut Turn,
    ) {
        match (program, self.foreign.get_mut(&run)) {
            (Some(program), Some(foreign)) => {
                let text =
                    format!("its run-now has died; pid {} goes on, and others wait for its end", program.pid);
                self.logs.run(&foreign.job, run).note(now, &text);
                foreign.owner = program.clone();
                self.watch(run, program);
            }
            _ => self.foreign_ended(run, Outcome::Interrupted, now, turn),
        }
    }

    /// Its program goes on here, or it has ended: until then the run stands in the way of others.
    pub(super) fn foreign_left(&mut self, run: RunId, adoption: Adoption, now: Timestamp, turn: &mut Turn) {
        if self.stopping.is_some() {
            return;
        }
        for problem in &adoption.problems {
            tracing::error!("what run {run} has left can't be taken over: {problem}");
        }
        let past = match self.ledger.past() {
            Ok(past) => past,
            Err(error) => return self.look_again(run, &error.to_string()),
        };
        let mut left = Left::of(adoption);
        let found = left.programs.iter().map(|program| program.run);
        let dead: BTreeSet<RunId> = found.chain([run]).filter(|run| self.foreign.contains_key(run)).collect();
        let owner = Owner::current("daemon");
        for run in dead {
            let open = past.open.iter().find(|open| open.record.run == run).cloned();
            let taken = open.and_then(|open| recover_beside(open, &self.table, &mut left, &owner, now));
            let Some((writes, resume)) = taken else {
                self.foreign_is_over(run, now, turn);
                continue;
            };
            turn.writes.extend(writes);
            if let Some(foreign) = self.foreign.remove(&run) {
                tracing::warn!("the run-now of run {run} of {} has died: the run goes on here", foreign.job);
                self.take_over_alerts(&foreign.job);
            }
            self.resume(resume, now, turn);
        }
        self.end_orphans(left.programs);
    }

    fn look_again(&self, run: RunId, problem: &str) {
        tracing::error!("{problem}; what the run-now of run {run} has left is looked for again");
        let outbox = self.outbox.clone();
        self.runtime.spawn(async move {
            tokio::time::sleep(RETRY_LEDGER).await;
            let _ = outbox.send(Message::ForeignGone { run });
        });
    }

    /// Nothing of it lives.
    fn foreign_is_over(&mut self, run: RunId, now: Timestamp, turn: &mut Turn) {
        let ended = self.ledger.run(run).ok().flatten().map(|record| record.outcome);
        let outcome = ended.filter(|outcome| *outcome != Outcome::Running).unwrap_or_else(|| {
            let outcome = Outcome::Interrupted;
            let error = Some(super::hold::RUN_NOW_DIED.to_owned());
            turn.writes.push(Write::Finished { run, at: now, outcome, error, report: None });
            outcome
        });
        self.foreign_ended(run, outcome, now, turn);
    }

    fn foreign_ended(&mut self, run: RunId, outcome: Outcome, now: Timestamp, turn: &mut Turn) {
        if let Some(foreign) = self.foreign.remove(&run).filter(|_| self.keeps_account) {
            self.take_over_alerts(&foreign.job);
        }
        self.plan_event(Event::Ended { run, outcome }, now, turn);
        self.go_on_beside(run, now, turn);
    }
}

/// The program of a run that lives on without the process which had it. None of a daemon that comes misses its spawner
/// because of this look; where one has come already, all is its to see to.
async fn look_only(alone: MayBegin, spawner: &Spawner, open: &[(RunId, String, u32); 1]) -> Option<Owner> {
    let permit = tokio::task::spawn_blocking(move || alone()).await.ok().flatten()?;
    let left = spawner.adopt_all(open).await;
    let mut living = living_programs(&left);
    // Spawners are let go of before anybody else may look.
    drop(left);
    drop(permit);
    living.remove(&open[0].0)
}
