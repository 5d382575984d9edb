//! Which jobs are paused, and until when.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::model::JobName;

#[derive(Debug, Default)]
pub(super) struct Pauses {
    all: Option<Pause>,
    jobs: BTreeMap<JobName, Pause>,
}

#[derive(Clone, Copy, Debug)]
struct Pause {
    since: Timestamp,
    until: Option<Timestamp>,
}

impl Pauses {
    pub(super) fn set(&mut self, job: Option<JobName>, since: Timestamp, until: Option<Timestamp>) {
        let pause = Pause { since, until };
        match job {
            Some(job) => _ = self.jobs.insert(job, pause),
            None => self.all = Some(pause),
        }
    }

    pub(super) fn clear(&mut self, job: Option<&JobName>) {
        match job {
            Some(job) => _ = self.jobs.remove(job),
            None => self.all = None,
        }
    }

    /// Whether something of this job due at `due`, and looked at only `now`, falls to a pause.
    pub(super) fn covers(&self, job: &JobName, due: Timestamp, now: Timestamp) -> bool {
        let one = |pause: &Pause| {
            let began = pause.since <= due || pause.until.is_none_or(|until| now < until);
            began && pause.until.is_none_or(|until| due < until)
        };
        self.all.as_ref().is_some_and(one) || self.jobs.get(job).is_some_and(one)
    }

    /// When what `covers` says of this job may change.
    pub(super) fn turns(&self, job: &JobName) -> Vec<Timestamp> {
        let pauses = self.all.iter().chain(self.jobs.get(job));
        pauses.flat_map(|pause| [Some(pause.since), pause.until]).flatten().collect()
    }

    /// The next end that was set beforehand.
    pub(super) fn first_end(&self) -> Option<Timestamp> {
        self.all.iter().chain(self.jobs.values()).filter_map(|pause| pause.until).min()
    }

    pub(super) fn forget_ended(&mut self, now: Timestamp) {
        let goes_on = |pause: &Pause| pause.until.is_none_or(|until| now < until);
        self.all = self.all.filter(goes_on);
        self.jobs.retain(|_, pause| goes_on(pause));
    }

    pub(super) fn list(&self) -> impl Iterator<Item = (Option<&JobName>, Option<Timestamp>)> {
        let all = self.all.iter().map(|pause| (None, pause.until));
        all.chain(self.jobs.iter().map(|(job, pause)| (Some(job), pause.until)))
    }
}
