//! What a lane still has to tell, and whose turn it is. Pure.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use jiff::Timestamp;

use crate::ledger::Notice;

/// After so long nobody is helped by hearing of it.
const KEEP: Duration = Duration::from_secs(48 * 3600);
/// But it is tried for as long as this: a host that was off for days has no network yet in its first second, and a
/// clock that was wrong makes a notice look older than it is.
const TRIED: Duration = Duration::from_secs(3600);

pub(super) struct Queued {
    pub(super) notice: Notice,
    pub(super) tries: u32,
    /// When it came, since boot.
    pub(super) since: Duration,
}

impl Queued {
    pub(super) fn new(notice: Notice, since_boot: Duration) -> Self {
        Self { notice, tries: 0, since: since_boot }
    }

    pub(super) fn is_too_old(&self, now: Timestamp, since_boot: Duration) -> bool {
        let age = now.duration_since(self.notice.at).unsigned_abs();
        has_expired(age, since_boot.saturating_sub(self.since))
    }
}

/// The oldest that was tried least, but never before an older one of the same job: nobody is to hear of a recovery
/// and then of the failure. One that is refused again and again holds up no other job's.
pub(super) fn next(queue: &VecDeque<Queued>) -> Option<usize> {
    let mut seen = HashSet::new();
    let mut least: Option<(u32, usize)> = None;
    for (at, Queued { notice, tries, .. }) in queue.iter().enumerate() {
        if !seen.insert(&notice.job) {
            continue;
        }
        // Ten thousand may wait: nobody looks at them all to find that it is the first one's turn.
        if *tries == 0 {
            return Some(at);
        }
        if least.is_none_or(|(fewest, _)| *tries < fewest) {
            least = Some((*tries, at));
        }
    }
    least.map(|(_, at)| at)
}

/// `tried`: for how long this daemon has tried to tell of something that is so old.
fn has_expired(age: Duration, tried: Duration) -> bool {
    age > KEEP && tried > TRIED
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Channel, JobName, NoticeKind, RunId};

    #[test]
    fn a_job_is_told_in_order_and_holds_up_no_other() {
        let queued = |job: &str, tries| Queued {
            notice: Notice {
                id: String::new(),
                at: Timestamp::UNIX_EPOCH,
                job: JobName::new(job).unwrap(),
                run: RunId(1),
                contact: String::new(),
                channel: Channel::Email,
                kind: NoticeKind::Failed,
                story: serde_json::Value::Null,
            },
            tries,
            since: Duration::ZERO,
        };
        let check = |queue: &[(&str, u32)], expected: Option<usize>| {
            let queue: VecDeque<Queued> = queue.iter().map(|(job, tries)| queued(job, *tries)).collect();
            assert_eq!(next(&queue), expected);
        };
        check(&[], None);
        check(&[("a", 0), ("b", 0)], Some(0));
        check(&[("a", 1), ("a", 0)], Some(0));
        check(&[("a", 1), ("a", 0), ("b", 0)], Some(2));
        check(&[("a", 1), ("b", 2), ("b", 0)], Some(0));
    }

    #[test]
    fn a_notice_expires_after_two_days_of_which_an_hour_was_spent_on_trying() {
        let check = |age: u64, tried: u64, expected: bool| {
            let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
            assert_eq!(
                has_expired(minutes(age), minutes(tried)),
                expected,
                "{age} min old, tried for {tried}"
            );
        };
        check(47 * 60, 47 * 60, false);
        check(49 * 60, 61, true);
        // A host that was off for a weekend.
        check(72 * 60, 59, false);
        check(72 * 60, 61, true);
    }
}
