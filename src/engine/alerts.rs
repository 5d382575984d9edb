//! What the end of a run changes about its job's incident, and who is to be told: written with that end.

use std::time::Duration;

use jiff::Timestamp;

use super::{Engine, Message, Turn, event, is_hold};
use crate::alert::{Change, Desk, End, Story, own_routes, routes};
use crate::ledger::{Incident, Notice, PauseRecord, Write};
use crate::model::{Channel, JobName, NoticeKind, Outcome, Report, RunId};

/// What the courier is given for what waits when we stop: the daemon after us goes on where there is one.
const LAST_DELIVERIES: Duration = Duration::from_secs(5);
const LAST_DELIVERIES_OF_ONE_RUN: Duration = Duration::from_secs(10);

/// Where the table doesn't say; nobody is told then either, but what was told before lasts.
const REMIND_EVERY: Duration = Duration::from_secs(86_400);

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
    slot: Option<Timestamp>,
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
                && (!self.incidents.is_neutral(*outcome)
                    || report.as_ref().is_some_and(|report| !report.checks.is_empty())
                    || !self.keeps_account)
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
        let Some(Ending { job, attempts, slot, started_at }) = self.ending(run) else { return };
        // Nobody waits for a job that is gone from the table.
        let Some(spec) = self.table.job(job.as_str()).cloned() else { return };
        if !self.keeps_account {
            self.look_up_incident(&job);
        }
        let routes = routes(&self.table, &spec);
        let checks = report.map_or(&[][..], |report| &report.checks);
        let end = End {
            job: &job,
            run,
            outcome,
            at,
            reason: error.or(report.map(|report| report.summary.as_str())),
            checks,
            heard: !routes.is_empty(),
            quiet: self.is_quiet(&job),
        };
        let changes = self.incidents.ended(&end);
        let held = self.held.remove(&run);
        let mut told = vec![];
        for Change { write, tell } in changes {
            match &write {
                // Whoever heard that it was interrupted must hear this as well.
                Write::Incident(incident) if held.is_some() && incident.check.is_none() => {
                    told.push((NoticeKind::Held, incident.clone()));
                }
                _ => told.extend(tell),
            }
            follows.push(write);
        }
        let said = held.as_deref().or(end.reason);
        for (kind, incidents) in by_message(told) {
            let story = Story {
                description: spec.description.clone(),
                attempts,
                slot,
                started_at,
                ..Story::new(&self.host, &incidents[0], outcome, at)
            };
            let findings = report.map_or(&[][..], |report| &report.findings);
            let story = match incidents[0].check {
                None => story.reason(said).findings(findings),
                Some(_) => story.about(&incidents, checks),
            };
            self.tell(kind, &job, run, at, &story, &routes, now, follows);
        }
    }

    /// The notices of one message, for each who is to hear of it.
    #[expect(clippy::too_many_arguments, reason = "the fields of a notice")]
    fn tell(
        &mut self,
        kind: NoticeKind,
        job: &JobName,
        run: RunId,
        at: Timestamp,
        story: &Story,
        routes: &[(String, Channel)],
        now: Timestamp,
        follows: &mut Vec<Write>,
    ) {
        // Plain values always serialise.
        let story = serde_json::to_value(story).unwrap_or_default();
        for (contact, channel) in routes.iter().cloned() {
            let (id, job, story) = (self.next_notice_id(now), job.clone(), story.clone());
            follows.push(Write::Notice(Notice { id, at, job, run, contact, channel, kind, story }));
        }
    }

    /// When it has something to say although no run ends.
    pub(super) fn next_reminder(&self) -> Option<Timestamp> {
        self.keeps_account.then(|| self.incidents.due(self.remind_every())).flatten()
    }

    /// Tells again what lasts, and what has become of that which came and went.
    pub(super) fn remind(&mut self, now: Timestamp, turn: &mut Turn) {
        if self.next_reminder().is_none_or(|due| due > now) {
            return;
        }
        let (table, remind_every) = (self.table.clone(), self.remind_every());
        let routes = |job: &JobName| match table.job(job.as_str()) {
            Some(spec) => routes(&table, spec),
            None if !job.is_job() => own_routes(&table),
            None => vec![],
        };
        let quiet: Vec<JobName> = self
            .incidents
            .open()
            .map(|incident| &incident.job)
            .filter(|job| self.is_quiet(job))
            .cloned()
            .collect();
        let heard = |job: &JobName| !quiet.contains(job) && !routes(job).is_empty();
        let changes = self.incidents.tick(now, remind_every, heard);
        let mut told = vec![];
        for Change { write, tell } in changes {
            turn.writes.push(write);
            told.extend(tell);
        }
        for (kind, incidents) in by_message(told) {
            let first = &incidents[0];
            let outcome = match kind {
                NoticeKind::Recovered => Outcome::Succeeded,
                _ => Outcome::Failed,
            };
            let description = table.job(first.job.as_str()).and_then(|spec| spec.description.clone());
            // By which `history` finds that run.
            let slot = self.ending(first.run).and_then(|run| run.slot.or(run.started_at));
            let story = Story { description, slot, ..Story::new(&self.host, first, outcome, now) };
            let story = match first.check {
                None => story.reason(first.reason.as_deref()),
                Some(_) => story.about(&incidents, &[]),
            };
            let mut follows = vec![];
            self.tell(kind, &first.job, first.run, now, &story, &routes(&first.job), now, &mut follows);
            turn.writes.extend(follows);
        }
    }

    fn remind_every(&self) -> Duration {
        self.table.alerts.as_ref().map_or(REMIND_EVERY, |alerts| alerts.remind_every)
    }

    /// A person has paused the job, and expects it to fail. The daemon's own hold is no such pause.
    fn is_quiet(&self, job: &JobName) -> bool {
        let is_of = |pause: &PauseRecord| pause.job.as_deref().is_none_or(|name| name == job.as_str());
        self.pauses_in_force().iter().any(|pause| is_of(pause) && !is_hold(pause))
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
                slot: active.slot,
                started_at: active.started_at,
            });
        }
        // One that ended under another process.
        let record = self.ledger.run(run).ok().flatten()?;
        Some(Ending {
            job: JobName::new(&record.job).ok()?,
            attempts: record.attempts.last().map_or(0, |attempt| attempt.number),
            slot: record.slot,
            started_at: record.started_at,
        })
    }

    fn dry_run_of(&self, run: RunId) -> bool {
        self.runs.get(&run).map_or_else(|| self.dry_runs.contains(&run), |active| active.dry_run)
    }

    /// What another process may have written.
    fn look_up_incident(&mut self, job: &JobName) {
        match self.ledger.incidents_of(job) {
            Ok(incidents) => self.incidents.replace(job, incidents),
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

/// What is told in one message: a job by itself, and its checks together by what became of them, so that a storm in
/// one run is one message.
fn by_message(told: Vec<(NoticeKind, Incident)>) -> Vec<(NoticeKind, Vec<Incident>)> {
    let mut messages: Vec<(NoticeKind, Vec<Incident>)> = vec![];
    for (kind, incident) in told {
        let same = messages.iter_mut().find(|(known, incidents)| {
            let first = &incidents[0];
            *known == kind && first.job == incident.job && first.check.is_some() && incident.check.is_some()
        });
        match same {
            Some((_, incidents)) => incidents.push(incident),
            None => messages.push((kind, vec![incident])),
        }
    }
    messages
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
