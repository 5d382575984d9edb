//! What the end of a run changes about its job's incident, and who is to be told: written with that end.

use std::time::Duration;

use jiff::Timestamp;

use super::{Engine, Message, Turn, event};
use crate::alert::{Change, Desk, End, Story, routes};
use crate::ledger::{Notice, Write};
use crate::model::{JobName, NoticeKind, Outcome, Report, RunId};

/// What the courier is given for what waits when we stop: the daemon after us goes on where there is one.
const LAST_DELIVERIES: Duration = Duration::from_secs(5);
const LAST_DELIVERIES_OF_ONE_RUN: Duration = Duration::from_secs(10);

/// What became of a notice.
pub(super) enum News {
    Delivered(String),
    GivenUp(String, serde_json::Value),
    /// The courier has nothing under way any more.
    Finished,
}

/// What is known of a run that has ended.
struct Ending {
    job: JobName,
    attempts: u32,
    started_at: Option<Timestamp>,
}

impl Engine {
    /// What the daemon before this one left.
    pub(super) fn begin_alerts(&mut self, turn: &mut Turn) {
        self.close_incidents_of_gone_jobs(turn);
        match self.ledger.notices() {
            Ok(notices) => self.dispatch(notices),
            Err(error) => tracing::error!("{error}; what was still to be told waits for the next start"),
        }
    }

    /// Adds to the ends of runs in this turn what follows from them for those who are to be told.
    pub(super) fn hear_of_ends(&mut self, turn: &mut Turn, now: Timestamp) {
        let mut follows = vec![];
        for write in &turn.writes {
            if let Write::Finished { run, at, outcome, error, report } = write
                && !self.dry_run_of(*run)
                && (!self.incidents.is_neutral(*outcome) || !self.keeps_account)
            {
                self.hear_of(*run, *at, *outcome, error.as_deref(), report.as_ref(), now, &mut follows);
            }
        }
        turn.writes.extend(follows);
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one write")]
    fn hear_of(
        &mut self,
        run: RunId,
        at: Timestamp,
        outcome: Outcome,
        error: Option<&str>,
        report: Option<&Report>,
        now: Timestamp,
        follows: &mut Vec<Write>,
    ) {
        let Some(Ending { job, attempts, started_at }) = self.ending(run) else { return };
        // Nobody waits for a job that is gone from the table.
        let Some(spec) = self.table.job(job.as_str()).cloned() else { return };
        if !self.keeps_account {
            self.look_up_incident(&job);
        }
        let routes = routes(&self.table, &spec);
        let end = End { job: &job, run, outcome, at, heard: !routes.is_empty() };
        let Some(Change { write, tell }) = self.incidents.ended(&end) else { return };
        let held = self.held.remove(&run);
        let tell = match &write {
            // Whoever heard that it was interrupted must hear this as well.
            Write::Incident(incident) if held.is_some() => {
                (!routes.is_empty()).then(|| (NoticeKind::Held, incident.clone()))
            }
            _ => tell,
        };
        follows.push(write);
        let Some((kind, incident)) = tell else { return };
        let error = held.as_deref().or(error);
        let said = error.or(report.map(|report| report.summary.as_str()));
        let story = Story {
            description: spec.description.clone(),
            attempts,
            started_at,
            ..Story::new(&self.host, &incident, outcome, at)
        };
        let story = story.reason(said).findings(report.map_or(&[], |report| &report.findings));
        // Plain values always serialise.
        let story = serde_json::to_value(&story).unwrap_or_default();
        for (contact, channel) in routes {
            let (id, job, story) = (self.next_notice_id(now), job.clone(), story.clone());
            follows.push(Write::Notice(Notice { id, at, job, run, contact, channel, kind, story }));
        }
    }

    pub(super) fn next_notice_id(&mut self, now: Timestamp) -> String {
        self.next_notice += 1;
        format!("{:x}.{:x}.{}", now.as_microsecond(), std::process::id(), self.next_notice)
    }

    fn ending(&self, run: RunId) -> Option<Ending> {
        if let Some(active) = self.runs.get(&run) {
            return Some(Ending {
                job: active.job.clone(),
                attempts: active.attempt,
                started_at: active.started_at,
            });
        }
        // One that ended under another process.
        let record = self.ledger.run(run).ok().flatten()?;
        Some(Ending {
            job: JobName::new(&record.job).ok()?,
            attempts: record.attempts.last().map_or(0, |attempt| attempt.number),
            started_at: record.started_at,
        })
    }

    fn dry_run_of(&self, run: RunId) -> bool {
        self.runs.get(&run).map_or_else(|| self.dry_runs.contains(&run), |active| active.dry_run)
    }

    /// What another process may have written.
    fn look_up_incident(&mut self, job: &JobName) {
        match self.ledger.incident(job) {
            Ok(incident) => self.incidents.replace(job, incident),
            Err(error) => tracing::warn!("{error}; whether {job} was failing is not known"),
        }
    }

    /// A `run-now` beside us has ended: what it left is ours.
    pub(super) fn take_over_alerts(&mut self, job: &JobName) {
        self.look_up_incident(job);
        match self.ledger.notices() {
            Ok(notices) => self.dispatch(notices),
            Err(error) => tracing::warn!("{error}; what is still to be told waits for the next start"),
        }
    }

    /// What the ledger has now goes to the courier.
    pub(super) fn dispatch(&mut self, notices: Vec<Notice>) {
        let new = notices.into_iter().filter(|notice| self.undelivered.insert(notice.id.clone())).collect();
        self.courier.deliver(new);
    }

    pub(super) fn dispatch_of(&mut self, writes: Vec<Write>) {
        let notice = |write| match write {
            Write::Notice(notice) => Some(notice),
            _ => None,
        };
        self.dispatch(writes.into_iter().filter_map(notice).collect());
    }

    /// Closes the incidents of jobs that the table in force no longer has.
    pub(super) fn close_incidents_of_gone_jobs(&mut self, turn: &mut Turn) {
        let table = &self.table;
        turn.writes.extend(self.incidents.keep_only(|job| table.job(job.as_str()).is_some()));
    }

    pub(super) fn heard_from_courier(&mut self, news: News, now: Timestamp, turn: &mut Turn) {
        let id = match news {
            News::Delivered(id) => id,
            News::GivenUp(id, detail) => {
                turn.writes.push(event(now, "alert_given_up", detail));
                id
            }
            News::Finished => return,
        };
        self.undelivered.remove(&id);
        turn.writes.push(Write::NoticeDone { id });
    }

    /// Gives the courier a last while; what it has delivered is not delivered again by the next daemon.
    pub(super) fn finish_alerts(&mut self) {
        let within = if self.keeps_account { LAST_DELIVERIES } else { LAST_DELIVERIES_OF_ONE_RUN };
        if self.undelivered.is_empty() || !self.courier.finish(within) {
            return;
        }
        // The courier keeps its own time; this is for one that has died.
        while let Ok(message) = self.inbox.recv_timeout(within + Duration::from_secs(1)) {
            let Message::News(news) = message else { continue };
            let (now, mut turn) = (self.clock.now(), Turn::default());
            let finished = matches!(news, News::Finished);
            self.heard_from_courier(news, now, &mut turn);
            self.complete(turn, now);
            if finished {
                return;
            }
        }
    }
}

/// The courier's way to the engine.
pub(super) struct AlertDesk(pub(super) std::sync::mpsc::Sender<Message>);

impl Desk for AlertDesk {
    fn delivered(&self, id: String) {
        self.say(News::Delivered(id));
    }

    fn given_up(&self, id: String, detail: serde_json::Value) {
        self.say(News::GivenUp(id, detail));
    }

    fn finished(&self) {
        self.say(News::Finished);
    }
}

impl AlertDesk {
    fn say(&self, news: News) {
        // Without an engine the notice stays in the ledger, and is delivered again.
        let _ = self.0.send(Message::News(news));
    }
}
