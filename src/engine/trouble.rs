//! Trouble of the daemon itself: an incident like that of a job, told to `alerts.to`.
//!
//! Owns what follows from what befalls the ledger. Never judges it: the ledger says what happened.

use jiff::Timestamp;

use super::{Engine, Turn, event};
use crate::alert::{Change, Story, own_routes};
use crate::ledger::{Notice, StoreNews, Write};
use crate::model::{JobName, Outcome, RunId};

impl Engine {
    /// One that the daemon before us left open, over a ledger that works: that is its end.
    pub(super) fn begin_troubles(&mut self, turn: &mut Turn, now: Timestamp) {
        let ours = JobName::ledger();
        if self.ledger.problem().is_none() && self.incidents.open().any(|incident| incident.job == ours) {
            self.ledger_works("it was in order when the daemon started", now, turn);
        }
    }

    pub(super) fn hear_of_ledger(&mut self, now: Timestamp, turn: &mut Turn) {
        let news = self.ledger.news();
        let mut done = vec![];
        for one in &news {
            match one {
                StoreNews::Failing { reason } => {
                    let reason = format!("{reason}; rows wait in memory until it can be written");
                    self.ledger_fails(&reason, now, turn);
                }
                StoreNews::Replaced(aside) => {
                    self.tell_again(now, turn);
                    let (reason, moved_to) = (aside.to_string(), &aside.moved_to);
                    let detail = serde_json::json!({ "reason": reason.clone(), "moved_to": moved_to });
                    turn.writes.push(event(now, "ledger_replaced", detail));
                    self.ledger_fails(&reason, now, turn);
                    done.push(reason);
                }
                StoreNews::Written { changes, lost } => {
                    let lost = match lost.total() {
                        0 => "none is lost".to_owned(),
                        _ => format!("lost, for want of memory, are {lost}"),
                    };
                    done.push(format!("{changes} changes that waited in memory are written; {lost}"));
                }
            }
        }
        // What befell it while it could not be written either is not over yet.
        if !done.is_empty() && self.ledger.problem().is_none() {
            self.ledger_works(&done.join("; "), now, turn);
        }
    }

    fn ledger_fails(&mut self, reason: &str, now: Timestamp, turn: &mut Turn) {
        let heard = !own_routes(&self.table).is_empty();
        let change = self.incidents.failing(&JobName::ledger(), reason, now, heard);
        self.tell_of_ledger(change, Outcome::Failed, reason, now, turn);
    }

    fn ledger_works(&mut self, done: &str, now: Timestamp, turn: &mut Turn) {
        let heard = !own_routes(&self.table).is_empty();
        if let Some(change) = self.incidents.recovered(&JobName::ledger(), now, heard) {
            self.tell_of_ledger(change, Outcome::Succeeded, done, now, turn);
        }
    }

    fn tell_of_ledger(
        &mut self,
        change: Change,
        outcome: Outcome,
        said: &str,
        now: Timestamp,
        turn: &mut Turn,
    ) {
        turn.writes.push(change.write);
        let Some((kind, incident)) = change.tell else { return };
        let story = Story::new(&self.host, &incident, outcome, now).reason(Some(said));
        // Plain values always serialise.
        let story = serde_json::to_value(&story).unwrap_or_default();
        for (contact, channel) in own_routes(&self.table) {
            let (id, job, story) = (self.next_notice_id(now), JobName::ledger(), story.clone());
            let run = RunId(0);
            turn.writes.push(Write::Notice(Notice { id, at: now, job, run, contact, channel, kind, story }));
        }
    }

    /// What this daemon knows and the ledger before this one held.
    fn tell_again(&mut self, now: Timestamp, turn: &mut Turn) {
        if let Some(record_of) = self.record_of {
            turn.writes.push(Write::Table(record_of(&self.table, self.plan.reached(now))));
        }
        let pauses = self.pauses_in_force().into_iter().map(|pause| Write::Pause {
            job: pause.job.and_then(|job| JobName::new(&job).ok()),
            since: pause.since,
            until: pause.until,
            by: pause.by,
        });
        turn.writes.extend(pauses);
        turn.writes.extend(self.incidents.all().cloned().map(Write::Incident));
    }
}
