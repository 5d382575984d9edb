//! One turn of the loop: what the plan decides becomes one transaction, and what follows from it.
//!
//! Owns the order: nothing is started, answered or told before its row is durable.

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::message::{Ended, Refusal};
use super::plan::{Decision, Event, RefuseReason, Token};
use super::runner::{Begin, Held, RunEnd};
use super::time::Learnt;
use super::{Engine, Permit, UNRELEASED};
use crate::ledger::{self, Applied, Ledger, NewRow, NewState, Write};
use crate::model::{Outcome, RunId};

/// What one turn of the loop writes, and what it does once that is durable.
#[derive(Default)]
pub(super) struct Turn {
    pub(super) writes: Vec<Write>,
    /// Claims by their place in `writes`.
    pub(super) claims: Vec<(usize, Token, Option<u64>)>,
    pub(super) then: Vec<Then>,
    pub(super) learnt: Learnt,
    /// Held until all is written.
    pub(super) permit: Option<Permit>,
}

pub(super) enum Then {
    Start(RunId),
    Cancel(RunId),
    Tell(oneshot::Sender<()>),
    Answer(oneshot::Sender<bool>, bool),
    TellEnd(RunId, Ended),
    Forget(RunId),
    Release(Held),
}

impl Engine {
    /// Commits the turn, does what follows, and goes on while that leads to further decisions. `now`: of the turn's look
    /// at the clock. A clock that is set meanwhile is for the next look, which knows by how much.
    pub(super) fn complete(&mut self, mut turn: Turn, now: Timestamp) {
        loop {
            turn = self.commit(turn, now);
            if turn.writes.is_empty() && turn.then.is_empty() {
                return;
            }
        }
    }

    fn commit(&mut self, mut turn: Turn, now: Timestamp) -> Turn {
        self.hear_of_ends(&mut turn, now);
        let mut problem = None;
        // Where changes wait, an empty batch is a try to write them.
        let applied = if turn.writes.is_empty() && self.ledger.problem().is_none() {
            vec![]
        } else {
            self.ledger.apply(&turn.writes).unwrap_or_else(|error| {
                tracing::error!("{error}; the rows of this moment are lost, the jobs go on");
                problem = Some(error.to_string());
                vec![]
            })
        };
        let mut next = Turn::default();
        let mut start = vec![];
        for (index, token, request) in turn.claims {
            let Write::Claim(row) = &turn.writes[index] else { continue };
            match applied.get(index) {
                Some(Applied::Claimed(run)) => {
                    self.register(*run, row, request, now);
                    if row.state == NewState::Started {
                        start.push(*run);
                    }
                    self.plan_event(Event::Claimed { token, run: *run }, now, &mut next);
                }
                _ => {
                    if let Some(request) = request.and_then(|request| self.requests.remove(&request)) {
                        let reason = problem.clone().unwrap_or_else(|| "its row was not taken".to_owned());
                        let _ = request.reply.send(Err(Refusal::Unwritten(reason)));
                    }
                    self.plan_event(Event::AlreadyClaimed { token }, now, &mut next);
                }
            }
        }
        self.tell_observers(&turn.writes, &applied);
        for run in start {
            self.begin(run, Begin::Claimed);
        }
        for then in turn.then {
            match then {
                // The next daemon would take it for one that waits.
                Then::Start(run) if problem.is_some() && self.may_begin.is_some() => {
                    self.leave_to_daemon(run, now, &mut next);
                }
                Then::Start(run) => self.begin(run, Begin::Claimed),
                Then::Cancel(run) => self.cancel(run),
                // Whoever asked may have gone.
                Then::Tell(done) => drop(done.send(())),
                Then::Answer(reply, answer) => drop(reply.send(answer)),
                Then::TellEnd(run, end) => self.tell_end(run, end),
                Then::Forget(run) => drop(self.runs.remove(&run)),
                // An end that no ledger has: the spawner goes on to hold the exit for who takes the run over.
                Then::Release(_) if problem.is_some() => {}
                Then::Release(held) => self.unreleased.push(held),
            }
        }
        // What waits in memory alone is lost with this process: its exits stay with the spawner meanwhile.
        let kept = if self.ledger.problem().is_none() { 0 } else { UNRELEASED };
        let over = self.unreleased.len().saturating_sub(kept);
        self.unreleased.drain(..over).for_each(Held::release);
        self.dispatch_of(turn.writes);
        self.hear_of_ledger(now, &mut next);
        next
    }

    pub(super) fn decide(&mut self, decisions: Vec<Decision>, turn: &mut Turn, now: Timestamp) {
        for decision in decisions {
            match decision {
                Decision::Claim { token, row, request } => {
                    turn.claims.push((turn.writes.len(), token, request));
                    turn.writes.push(Write::Claim(row));
                }
                Decision::Start { run, .. } | Decision::Drop { run, .. } if !self.is_ours(turn) => {
                    self.leave_to_daemon(run, now, turn);
                }
                Decision::Cancel { run } if self.waits(run) && !self.is_ours(turn) => {
                    self.leave_to_daemon(run, now, turn);
                }
                Decision::Start { run, .. } => {
                    // From here on a cancel has a program to end, which this turn starts.
                    let number = self.runs.get_mut(&run).map_or(1, |active| active.starts(&self.table));
                    turn.writes.push(Write::AttemptStarted { run, number, at: now });
                    turn.then.push(Then::Start(run));
                }
                Decision::Drop { run, reason } if self.waits_again(run) => {
                    self.drop_again(run, reason, now, turn);
                }
                Decision::Drop { run, reason } => {
                    turn.writes.push(Write::Dropped { run, at: now, reason });
                    let reason = Some(reason.to_string());
                    let end = Ended { outcome: Outcome::Skipped, reason, summary: None, error: None };
                    turn.then.push(Then::TellEnd(run, end));
                    turn.then.push(Then::Forget(run));
                }
                // A run that still waits has nothing to end: its row ends here.
                Decision::Cancel { run } if self.waits(run) => {
                    let error = Some("cancelled while it waited for its turn".to_owned());
                    let end = RunEnd { run, at: now, outcome: Outcome::Cancelled, error, report: None };
                    self.finished(end, now, turn);
                }
                Decision::Cancel { run } => turn.then.push(Then::Cancel(run)),
                Decision::Refuse { request, reason } => self.refuse(request, &reason),
                Decision::Accounted { .. } if !self.keeps_account => {}
                Decision::Accounted { until } => turn.writes.push(Write::Accounted { until }),
                // What takes no slots has none to repeat.
                Decision::SetBack { .. } | Decision::BehindLedger { .. } if !self.keeps_account => {}
                Decision::SetBack { from, epoch, again } => self.was_set_back(from, epoch, again, now, turn),
                Decision::BehindLedger { accounted, complete, epoch } => {
                    self.is_behind_ledger(accounted, complete, epoch, now, turn);
                }
                Decision::FarBehind { accounted } => self.is_far_behind(accounted, now, turn),
                Decision::Notice(text) => {
                    tracing::warn!("{text}");
                    turn.writes.push(event(now, "notice", serde_json::json!({ "text": text })));
                }
            }
        }
    }

    fn refuse(&mut self, request: u64, reason: &RefuseReason) {
        let Some(request) = self.requests.remove(&request) else { return };
        let refusal = match reason {
            RefuseReason::UnknownJob => Refusal::UnknownJob,
            RefuseReason::RunsAlready(run) => Refusal::RunsAlready(*run),
            RefuseReason::Stopping => Refusal::Stopping,
        };
        let _ = request.reply.send(Err(refusal));
    }
}

/// A ledger that can't be read refuses nothing now; it will when the row is written.
pub(super) fn refuses(ledger: &dyn Ledger, row: &NewRow) -> bool {
    ledger.refuses(row).ok().flatten().is_some()
}

pub(super) fn event(at: Timestamp, kind: &str, detail: serde_json::Value) -> Write {
    Write::Event(ledger::Event { at, kind: kind.to_owned(), detail })
}
