//! Which jobs are failing: what the end of a run changes about it, and what is to be told.
//!
//! Pure: reads no clock and writes nothing. The engine writes what comes out in the transaction of the run's end.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::ledger::{Incident, Write};
use crate::model::{JobName, NoticeKind, Outcome, RunId};

/// The open incidents, by job.
#[derive(Debug, Default)]
pub struct Incidents(BTreeMap<JobName, Incident>);

/// The end of a run: of all its attempts, and no dry run.
pub struct End<'a> {
    pub job: &'a JobName,
    pub run: RunId,
    pub outcome: Outcome,
    pub at: Timestamp,
    /// There is a contact who would hear of it.
    pub heard: bool,
}

/// What follows from an end.
#[derive(Debug, PartialEq)]
pub struct Change {
    pub write: Write,
    /// What to tell, and of which incident; an incident that lasts is told once.
    pub tell: Option<(NoticeKind, Incident)>,
}

impl Incidents {
    pub fn new(open: impl IntoIterator<Item = Incident>) -> Self {
        Self(open.into_iter().map(|incident| (incident.job.clone(), incident)).collect())
    }

    /// Nothing follows from the end of a run with this outcome, whatever the job.
    pub fn is_neutral(&self, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Failed | Outcome::TimedOut | Outcome::Interrupted => false,
            Outcome::Succeeded => self.0.is_empty(),
            Outcome::Cancelled | Outcome::Skipped | Outcome::Running => true,
        }
    }

    /// A part of the daemon itself fails.
    pub fn failing(&mut self, part: &JobName, at: Timestamp, heard: bool) -> Change {
        let incident = self.0.entry(part.clone()).or_insert_with(|| Incident {
            job: part.clone(),
            opened_at: at,
            run: RunId(0),
            failures: 0,
            told: false,
        });
        incident.failures += 1;
        let news = heard && !incident.told;
        incident.told |= heard;
        let tell = news.then(|| (NoticeKind::Failed, incident.clone()));
        Change { write: Write::Incident(incident.clone()), tell }
    }

    /// It works again.
    pub fn recovered(&mut self, part: &JobName, heard: bool) -> Option<Change> {
        let incident = self.0.remove(part)?;
        let write = Write::IncidentClosed { job: part.clone() };
        let tell = (incident.told && heard).then_some((NoticeKind::Recovered, incident));
        Some(Change { write, tell })
    }

    /// All that are open, for a ledger that has lost them.
    pub fn open(&self) -> impl Iterator<Item = &Incident> {
        self.0.values()
    }

    pub fn ended(&mut self, end: &End<'_>) -> Option<Change> {
        if self.is_neutral(end.outcome) {
            return None;
        }
        if end.outcome == Outcome::Succeeded {
            let incident = self.0.remove(end.job)?;
            let write = Write::IncidentClosed { job: end.job.clone() };
            // Who never heard of the failure has no use for its end.
            let tell = (incident.told && end.heard).then_some((NoticeKind::Recovered, incident));
            return Some(Change { write, tell });
        }
        let incident = self.0.entry(end.job.clone()).or_insert_with(|| Incident {
            job: end.job.clone(),
            opened_at: end.at,
            run: end.run,
            failures: 0,
            told: false,
        });
        incident.failures += 1;
        // One that began while nobody was to be told is told as soon as somebody is.
        let news = end.heard && !incident.told;
        incident.told |= end.heard;
        let tell = news.then(|| (NoticeKind::Failed, incident.clone()));
        Some(Change { write: Write::Incident(incident.clone()), tell })
    }

    /// Takes over what another process has written of a job.
    pub fn replace(&mut self, job: &JobName, incident: Option<Incident>) {
        match incident {
            Some(incident) => drop(self.0.insert(job.clone(), incident)),
            None => drop(self.0.remove(job)),
        }
    }

    /// Closes, without a word, those of jobs that are gone: nobody waits for their recovery.
    pub fn keep_only(&mut self, is_there: impl Fn(&JobName) -> bool) -> Vec<Write> {
        let stays = |job: &JobName| !job.is_job() || is_there(job);
        let gone: Vec<JobName> = self.0.keys().filter(|job| !stays(job)).cloned().collect();
        self.0.retain(|job, _| stays(job));
        gone.into_iter().map(|job| Write::IncidentClosed { job }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs of one job in turn, a letter each: `s`ucceeded, `f`ailed, `t`imed out, `i`nterrupted, `c`ancelled,
    /// s`k`ipped; in capitals where nobody would hear of it. What is told after each: `F`ailed or `R`ecovered
    /// with the failures counted so far, `.` for nothing; then what is open at the end.
    fn check(runs: &str, told: &str, open: &str) {
        let job = JobName::new("a").unwrap();
        let mut incidents = Incidents::default();
        let mut found = String::new();
        for (number, letter) in (1..).zip(runs.chars()) {
            let outcome = match letter.to_ascii_lowercase() {
                's' => Outcome::Succeeded,
                'f' => Outcome::Failed,
                't' => Outcome::TimedOut,
                'i' => Outcome::Interrupted,
                'c' => Outcome::Cancelled,
                _ => Outcome::Skipped,
            };
            let at = Timestamp::from_second(number).unwrap();
            let heard = letter.is_ascii_lowercase();
            let change = incidents.ended(&End { job: &job, run: RunId(number), outcome, at, heard });
            found += &match change.and_then(|change| change.tell) {
                Some((NoticeKind::Failed, incident)) => format!("F{}", incident.failures),
                Some((NoticeKind::Recovered, incident)) => format!("R{}", incident.failures),
                Some((NoticeKind::Held, _)) => "H".to_owned(),
                None => ".".to_owned(),
            };
        }
        assert_eq!(found, told, "{runs}");
        let shown = incidents.0.values().map(|one| {
            assert_eq!(one.opened_at.as_second(), one.run.0, "{runs}");
            format!("since {}: {} {}", one.run, one.failures, if one.told { "told" } else { "untold" })
        });
        assert_eq!(shown.collect::<String>(), open, "{runs}");
    }

    #[test]
    fn a_failure_is_told_once_and_so_is_its_end() {
        check("s", ".", "");
        check("f", "F1", "since 1: 1 told");
        check("t", "F1", "since 1: 1 told");
        check("i", "F1", "since 1: 1 told");
        check("fffs", "F1..R3", "");
        check("ftifs", "F1...R4", "");
        check("sfsfs", ".F1R1F1R1", "");
        check("fss", "F1R1.", "");
        // Neither says anything about the job.
        check("cks", "...", "");
        check("fcks", "F1..R1", "");
        check("sfcf", ".F1..", "since 2: 2 told");
        // Nobody was to be told when it began.
        check("FFf", "..F3", "since 1: 3 told");
        check("Ffs", ".F2R2", "");
        check("FS", "..", "");
        check("Fs", "..", "");
        check("fS", "F1.", "");
    }

    #[test]
    fn what_is_written_is_what_is_known() {
        let (a, b) = (JobName::new("a").unwrap(), JobName::new("b").unwrap());
        let at = Timestamp::UNIX_EPOCH;
        let incident =
            |failures| Incident { job: a.clone(), opened_at: at, run: RunId(1), failures, told: true };
        let mut incidents = Incidents::new([incident(1)]);
        let end = |run, outcome| End { job: &a, run: RunId(run), outcome, at, heard: true };
        let change = incidents.ended(&end(2, Outcome::Failed)).unwrap();
        assert_eq!(change, Change { write: Write::Incident(incident(2)), tell: None });
        assert_eq!(incidents.keep_only(|job| *job == a), []);
        assert_eq!(incidents.keep_only(|job| *job == b), [Write::IncidentClosed { job: a.clone() }]);
        assert_eq!(incidents.ended(&end(3, Outcome::Succeeded)), None);
        incidents.replace(&a, Some(incident(7)));
        let change = incidents.ended(&end(4, Outcome::Succeeded)).unwrap();
        let write = Write::IncidentClosed { job: a.clone() };
        assert_eq!(change, Change { write, tell: Some((NoticeKind::Recovered, incident(7))) });
        incidents.replace(&a, Some(incident(7)));
        incidents.replace(&a, None);
        assert!(incidents.is_neutral(Outcome::Succeeded));
    }
}
