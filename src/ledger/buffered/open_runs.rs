//! The open runs as the last writes left them, so that a new store in the place of a damaged one knows them too.

use std::collections::BTreeMap;

use super::super::{Applied, NewState, OpenRun, Owner, Write};
use crate::model::{Attempt, Outcome, RunId, RunRecord};

/// Few: what runs or waits just now.
#[derive(Default)]
pub(super) struct OpenRuns(BTreeMap<RunId, OpenRun>);

impl OpenRuns {
    pub(super) fn add(&mut self, open: impl IntoIterator<Item = OpenRun>) {
        for run in open {
            self.0.entry(run.record.run).or_insert(run);
        }
    }

    /// Those that a store has seen, under the numbers that it gave them.
    pub(super) fn known_to_store(&self, number: impl Fn(RunId) -> Option<RunId>) -> Vec<OpenRun> {
        let renumbered = |open: &OpenRun| {
            let mut open = open.clone();
            open.record.run = number(open.record.run)?;
            Some(open)
        };
        self.0.values().filter_map(renumbered).collect()
    }

    /// Follows a write and what became of it.
    pub(super) fn follow(&mut self, write: &Write, applied: Applied, owner: &Owner, host: &str) {
        match write {
            Write::Claim(row) | Write::ClaimAs { row, .. } => {
                let Applied::Claimed(run) = applied else { return };
                let started_at = match row.state {
                    NewState::Skipped(_) => return,
                    NewState::Queued => None,
                    NewState::Started => Some(row.at),
                };
                let record = RunRecord {
                    run,
                    job: row.job.to_string(),
                    kind: row.kind.clone(),
                    trigger: row.trigger,
                    slot: row.slot,
                    outcome: Outcome::Running,
                    reason: started_at.is_none().then(|| "queued".to_owned()),
                    started_at,
                    finished_at: None,
                    host: host.to_owned(),
                    attempts: started_at.map(|at| begun(1, at)).into_iter().collect(),
                    summary: None,
                    facts: serde_json::Map::new(),
                    findings: vec![],
                };
                let (queued, owner) = (started_at.is_none(), owner.clone());
                let open = OpenRun {
                    record,
                    epoch: row.epoch,
                    owner,
                    queued,
                    dry_run: row.dry_run,
                    cancel_asked: false,
                };
                self.0.insert(run, open);
            }
            Write::AttemptStarted { run, number, at } => {
                let Some(open) = self.0.get_mut(run) else { return };
                open.queued = false;
                open.record.reason = None;
                open.record.started_at.get_or_insert(*at);
                if open.record.attempts.iter().all(|attempt| attempt.number != *number) {
                    open.record.attempts.push(begun(*number, *at));
                }
            }
            Write::AttemptEnded { run, number, at, outcome, error } => {
                let attempts = self.0.get_mut(run).map(|open| &mut open.record.attempts);
                let ended = attempts.and_then(|all| all.iter_mut().find(|one| one.number == *number));
                if let Some(attempt) = ended.filter(|attempt| attempt.finished_at.is_none()) {
                    (attempt.finished_at, attempt.outcome) = (Some(*at), *outcome);
                    attempt.error.clone_from(error);
                }
            }
            Write::Adopted { run, owner } => {
                if let Some(open) = self.0.get_mut(run) {
                    open.owner.clone_from(owner);
                }
            }
            Write::Finished { run, .. } | Write::Dropped { run, .. } => drop(self.0.remove(run)),
            _ => {}
        }
    }
}

fn begun(number: u32, at: jiff::Timestamp) -> Attempt {
    Attempt { number, started_at: at, finished_at: None, outcome: Outcome::Running, error: None }
}
