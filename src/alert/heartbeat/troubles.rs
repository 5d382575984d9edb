//! Whose heartbeats were not heard, and why, as `status` shows it. Sends nothing.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::model::JobName;

/// Named in a sentence.
const NAMED: usize = 3;

#[derive(Default)]
pub(super) struct Troubles(Mutex<BTreeMap<JobName, Trouble>>);

struct Trouble {
    reason: String,
    since: Timestamp,
}

impl Troubles {
    /// Whether no job has had this reason yet: a service that is away is said once, and not for each of its jobs.
    pub(super) fn note(&self, job: &JobName, reason: String, now: Timestamp) -> bool {
        let mut troubles = self.lock();
        let is_new = troubles.values().all(|trouble| trouble.reason != reason);
        let since = troubles.get(job).map_or(now, |trouble| trouble.since);
        troubles.insert(job.clone(), Trouble { reason, since });
        is_new
    }

    /// Whether it was the last one.
    pub(super) fn clear(&self, job: &JobName) -> bool {
        let mut troubles = self.lock();
        troubles.remove(job).is_some() && troubles.is_empty()
    }

    pub(super) fn keep_only(&self, is_wanted: impl Fn(&JobName) -> bool) {
        self.lock().retain(|job, _| is_wanted(job));
    }

    pub(super) fn problems(&self, is_wanted: impl Fn(&JobName) -> bool) -> Vec<String> {
        let troubles = self.lock();
        let mut by_reason: BTreeMap<&str, (Timestamp, Vec<&JobName>)> = BTreeMap::new();
        for (job, Trouble { reason, since }) in troubles.iter().filter(|(job, _)| is_wanted(job)) {
            let (first, jobs) = by_reason.entry(reason).or_insert((*since, vec![]));
            *first = (*first).min(*since);
            jobs.push(job);
        }
        let sentence = |(reason, (since, jobs)): (&str, (Timestamp, Vec<&JobName>))| {
            format!("no heartbeat of {} was heard since {since:.0}: {reason}", some_of(&jobs))
        };
        by_reason.into_iter().map(sentence).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<JobName, Trouble>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `a, b, c and 4997 more`
pub(super) fn some_of(jobs: &[&JobName]) -> String {
    let names: Vec<&str> = jobs.iter().take(NAMED).map(|job| job.as_str()).collect();
    let more = match jobs.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    names.join(", ") + &more
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_reason_is_one_sentence_whatever_the_number_of_jobs() {
        let job = |name: &str| JobName::new(name).unwrap();
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let troubles = Troubles::default();
        assert!(troubles.note(&job("e"), "it answers 500".into(), at(60)));
        for name in ["a", "b", "c", "d"] {
            assert!(!troubles.note(&job(name), "it answers 500".into(), at(0)));
        }
        assert!(troubles.note(&job("f"), "it answers 404".into(), at(0)));
        // The reason changes, and not the beginning.
        assert!(!troubles.note(&job("e"), "it answers 404".into(), at(90)));
        assert_eq!(
            troubles.problems(|job| job.as_str() != "f"),
            [
                "no heartbeat of e was heard since 1970-01-01T00:01:00Z: it answers 404",
                "no heartbeat of a, b, c and 1 more was heard since 1970-01-01T00:00:00Z: it answers 500",
            ]
        );
        // A job that goes takes its trouble with it: the next one with that reason is said.
        assert!(!troubles.note(&job("g"), "it answers 404".into(), at(90)));
        assert!(troubles.note(&job("g"), "it answers 410".into(), at(90)));
        troubles.keep_only(|job| job.as_str() != "g");
        assert!(troubles.note(&job("e"), "it answers 410".into(), at(90)));
        assert!(!troubles.note(&job("e"), "it answers 404".into(), at(90)));
        for name in ["a", "b", "c", "d", "e"] {
            assert!(!troubles.clear(&job(name)));
        }
        assert!(!troubles.clear(&job("e")));
        assert!(troubles.clear(&job("f")));
        assert_eq!(troubles.problems(|_| true), [""; 0]);
    }
}
