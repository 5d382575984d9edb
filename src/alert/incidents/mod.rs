//! What is failing, jobs and their checks: what the end of a run changes about it, and what is to be told.
//!
//! An incident is told when it opens, again each `remind_every`, and when it ends. One that opens for the third time
//! within an hour is flapping: that is told, and then nothing until it was steady for half an hour.
//! Pure: reads no clock and writes nothing. The engine writes what comes out in the transaction of the run's end.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use crate::ledger::{Incident, Write};
use crate::model::{CheckState, Checked, JobName, NoticeKind, Outcome, RunId, Severity};

/// An incident that opens so often within this time is flapping.
const OPENINGS: usize = 3;
pub(super) const WITHIN: Duration = Duration::from_secs(3600);
/// Steady for so long, it is flapping no more.
pub(super) const CALM: Duration = Duration::from_secs(1800);

/// The open incidents, and those that ended within the hour.
#[derive(Debug, Default)]
pub struct Incidents(BTreeMap<Subject, Incident>);

type Subject = (JobName, Option<String>);

/// The end of a run: of all its attempts, and no dry run.
pub struct End<'a> {
    pub job: &'a JobName,
    pub run: RunId,
    pub outcome: Outcome,
    pub at: Timestamp,
    pub reason: Option<&'a str>,
    /// What the run looked at. Where there is any, the run did its work, and these fail in its place.
    pub checks: &'a [Checked],
    /// There is a contact who would hear of it.
    pub heard: bool,
    /// The job is paused: its failures are not told now.
    pub quiet: bool,
}

/// What follows.
#[derive(Debug, PartialEq)]
pub struct Change {
    pub write: Write,
    /// What to tell, and of which incident.
    pub tell: Option<(NoticeKind, Incident)>,
}

/// When something was found, by which run, and who hears of it.
#[derive(Clone, Copy)]
struct Seen {
    run: RunId,
    at: Timestamp,
    heard: bool,
    quiet: bool,
}

/// How it was found.
#[derive(Clone, Copy)]
enum Found<'a> {
    Bad { severity: Severity, reason: Option<&'a str> },
    Good,
}

impl Incidents {
    pub fn new(kept: impl IntoIterator<Item = Incident>) -> Self {
        Self(kept.into_iter().map(|incident| (subject(&incident), incident)).collect())
    }

    /// Nothing follows from the end of a run without checks with this outcome, whatever the job.
    pub fn is_neutral(&self, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Failed | Outcome::TimedOut | Outcome::Interrupted => false,
            Outcome::Succeeded => self.0.is_empty(),
            Outcome::Cancelled | Outcome::Skipped | Outcome::Running => true,
        }
    }

    pub fn ended(&mut self, end: &End<'_>) -> Vec<Change> {
        let found = match end.outcome {
            Outcome::Succeeded => Found::Good,
            Outcome::Failed if !end.checks.is_empty() => Found::Good,
            Outcome::Failed | Outcome::TimedOut | Outcome::Interrupted => {
                Found::Bad { severity: Severity::Critical, reason: end.reason }
            }
            Outcome::Cancelled | Outcome::Skipped | Outcome::Running => return vec![],
        };
        let End { run, at, heard, quiet, .. } = *end;
        let seen = Seen { run, at, heard, quiet };
        let mut changes = Vec::new();
        changes.extend(self.find((end.job.clone(), None), found, seen));
        // A run that did not get as far says nothing of its checks.
        if matches!(found, Found::Bad { .. }) {
            return changes;
        }
        let names: BTreeSet<&str> = end.checks.iter().map(|check| check.name.as_str()).collect();
        let gone = |(job, check): &&Subject| {
            job == end.job && check.as_deref().is_some_and(|check| !names.contains(check))
        };
        let gone: Vec<Subject> = self.0.keys().filter(gone).cloned().collect();
        changes.extend(gone.into_iter().map(|subject| self.forget(subject)));
        for check in end.checks {
            let found = match check.state {
                CheckState::Ok => Found::Good,
                // Told with its cause; on its own if it outlives that.
                CheckState::Failing if check.because_of.is_some() => continue,
                CheckState::Failing => {
                    Found::Bad { severity: check.severity, reason: Some(check.text.as_str()) }
                }
                CheckState::Pending | CheckState::Unknown => continue,
            };
            let subject = (end.job.clone(), Some(check.name.clone()));
            changes.extend(self.find(subject, found, seen));
        }
        changes
    }

    /// A part of the daemon itself fails.
    pub fn failing(&mut self, part: &JobName, reason: &str, at: Timestamp, heard: bool) -> Change {
        let seen = Seen { run: RunId(0), at, heard, quiet: false };
        self.is_bad((part.clone(), None), Severity::Critical, Some(reason), seen)
    }

    /// It works again.
    pub fn recovered(&mut self, part: &JobName, at: Timestamp, heard: bool) -> Option<Change> {
        self.find((part.clone(), None), Found::Good, Seen { run: RunId(0), at, heard, quiet: false })
    }

    fn find(&mut self, subject: Subject, found: Found<'_>, seen: Seen) -> Option<Change> {
        match found {
            Found::Bad { severity, reason } => Some(self.is_bad(subject, severity, reason, seen)),
            Found::Good => self.is_good(subject, seen),
        }
    }

    fn is_bad(&mut self, subject: Subject, severity: Severity, reason: Option<&str>, seen: Seen) -> Change {
        let known = self.0.get(&subject);
        let open = known.filter(|known| known.closed_at.is_none()).cloned();
        let before = open.unwrap_or_else(|| opened(&subject, known, seen));
        let failures = before.failures + 1;
        let mut incident = Incident { severity, failures, reason: reason.map(str::to_owned), ..before };
        let news = seen.heard && !seen.quiet && incident.told_at.is_none();
        if news {
            incident.told_at = Some(seen.at);
        }
        self.0.insert(subject, incident.clone());
        let kind = if incident.flapping { NoticeKind::Flapping } else { NoticeKind::Failed };
        Change { write: Write::Incident(incident.clone()), tell: news.then_some((kind, incident)) }
    }

    fn is_good(&mut self, subject: Subject, seen: Seen) -> Option<Change> {
        let known = self.0.get(&subject)?;
        if let Some(closed_at) = known.closed_at {
            let is_past = !known.flapping && age(closed_at, seen.at) >= WITHIN;
            return is_past.then(|| self.forget(subject));
        }
        let incident = Incident { closed_at: Some(seen.at), ..known.clone() };
        // Who never heard of the failure has no use for its end.
        let news = seen.heard && incident.told_at.is_some() && !incident.flapping;
        // What flaps was told, and stays so until it is steady.
        let told_at = incident.told_at.filter(|_| incident.flapping);
        let kept = Incident { told_at, ..incident.clone() };
        self.0.insert(subject, kept.clone());
        let tell = news.then_some((NoticeKind::Recovered, incident));
        Some(Change { write: Write::Incident(kept), tell })
    }

    /// When something is to be told although no run ends.
    pub fn due(&self, remind_every: Duration) -> Option<Timestamp> {
        self.0.values().filter_map(|incident| due(incident, remind_every)).min()
    }

    /// What is to be told by now: reminders, and what was flapping and is steady. `heard`: that somebody is to hear of
    /// this job now.
    pub fn tick(
        &mut self,
        now: Timestamp,
        remind_every: Duration,
        heard: impl Fn(&JobName) -> bool,
    ) -> Vec<Change> {
        let is_due = |incident: &&Incident| due(incident, remind_every).is_some_and(|due| due <= now);
        let all: Vec<Incident> = self.0.values().filter(is_due).cloned().collect();
        all.into_iter().map(|incident| self.tell_of(incident, now, &heard)).collect()
    }

    fn tell_of(
        &mut self,
        mut incident: Incident,
        now: Timestamp,
        heard: impl Fn(&JobName) -> bool,
    ) -> Change {
        let subject = subject(&incident);
        let heard = heard(&incident.job);
        let is_calm = incident.flapping && steady(&incident).is_some_and(|calm| calm <= now);
        if is_calm && incident.closed_at.is_some() {
            let news = heard && incident.told_at.is_some();
            let Change { write, .. } = self.forget(subject);
            return Change { write, tell: news.then_some((NoticeKind::Recovered, incident)) };
        }
        let kind = if is_calm { NoticeKind::Failed } else { NoticeKind::Reminder };
        incident.flapping &= !is_calm;
        // A pause puts a reminder off, and what is news waits for the next failure.
        incident.told_at = (heard || !is_calm).then_some(now);
        self.0.insert(subject, incident.clone());
        Change { write: Write::Incident(incident.clone()), tell: heard.then_some((kind, incident)) }
    }

    /// Those that are open.
    pub fn open(&self) -> impl Iterator<Item = &Incident> {
        self.0.values().filter(|incident| incident.closed_at.is_none())
    }

    /// All that are known, for a ledger that has lost them.
    pub fn all(&self) -> impl Iterator<Item = &Incident> {
        self.0.values()
    }

    /// Takes over what another process has written of a job.
    pub fn replace(&mut self, job: &JobName, incidents: Vec<Incident>) {
        self.0.retain(|(known, _), _| known != job);
        self.0.extend(incidents.into_iter().map(|incident| (subject(&incident), incident)));
    }

    /// Closes, without a word, those of jobs that are gone: nobody waits for their recovery.
    pub fn keep_only(&mut self, is_there: impl Fn(&JobName) -> bool) -> Vec<Write> {
        let gone = |(job, _): &&Subject| job.is_job() && !is_there(job);
        let gone: Vec<Subject> = self.0.keys().filter(gone).cloned().collect();
        gone.into_iter().map(|subject| self.forget(subject).write).collect()
    }

    fn forget(&mut self, subject: Subject) -> Change {
        self.0.remove(&subject);
        let (job, check) = subject;
        Change { write: Write::IncidentGone { job, check }, tell: None }
    }
}

/// One that opens, before its first failure is counted, with what is known of its last times.
fn opened((job, check): &Subject, known: Option<&Incident>, Seen { run, at, .. }: Seen) -> Incident {
    let before = known.map_or(&[][..], |known| &known.openings);
    let mut openings: Vec<Timestamp> =
        before.iter().copied().filter(|opening| age(*opening, at) < WITHIN).collect();
    openings.push(at);
    // The last ones alone matter.
    openings.drain(..openings.len().saturating_sub(OPENINGS));
    let still = known.filter(|known| known.flapping);
    Incident {
        check: check.clone(),
        failures: 0,
        told_at: still.and_then(|known| known.told_at),
        flapping: still.is_some() || openings.len() == OPENINGS,
        openings,
        ..Incident::of_job(job.clone(), run, at)
    }
}

fn due(incident: &Incident, remind_every: Duration) -> Option<Timestamp> {
    let told_at = incident.told_at.filter(|_| incident.closed_at.is_none());
    let reminder = told_at.and_then(|told| told.checked_add(remind_every).ok());
    let calm = if incident.flapping { steady(incident) } else { None };
    reminder.into_iter().chain(calm).min()
}

/// When one that flapped is steady, if nothing changes.
fn steady(incident: &Incident) -> Option<Timestamp> {
    incident.closed_at.unwrap_or(incident.opened_at).checked_add(CALM).ok()
}

/// Zero where the clock was set back meanwhile.
fn age(then: Timestamp, now: Timestamp) -> Duration {
    now.duration_since(then).try_into().unwrap_or_default()
}

fn subject(incident: &Incident) -> Subject {
    (incident.job.clone(), incident.check.clone())
}
