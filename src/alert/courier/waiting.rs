//! What waits to be told and why, by contact and channel, as `status` shows it. Sends nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::Lane;
use crate::model::Channel;

/// What waits to be told, as `status` shows it.
#[derive(Clone, Default)]
pub struct Waiting(Arc<Mutex<BTreeMap<Lane, Waits>>>);

/// What waits in one lane.
#[derive(Default)]
struct Waits {
    notices: usize,
    /// They can't be delivered.
    trouble: Option<Trouble>,
    /// They are gathered, and sent as one at this time. That is no trouble, and ends none.
    gathered: Option<Timestamp>,
}

struct Trouble {
    reason: String,
    since: Timestamp,
}

impl Waiting {
    /// A sentence for each contact who can't be reached, or for whom alerts are gathered.
    pub fn problems(&self) -> Vec<String> {
        let sentence = |((contact, channel), waits): (&Lane, &Waits)| {
            let alerts = match waits.notices {
                1 => format!("1 alert waits for {contact} ({channel})"),
                many => format!("{many} alerts wait for {contact} ({channel})"),
            };
            match (&waits.trouble, waits.gathered) {
                (Some(Trouble { reason, since }), _) => Some(format!("{alerts}: {reason} since {since:.0}")),
                (None, Some(at)) => Some(format!("{alerts}: gathered into one message, sent at {at:.0}")),
                (None, None) => None,
            }
        };
        self.lock().iter().filter_map(sentence).collect()
    }

    /// How many can't be delivered, by contact and channel; those that are only gathered are not among them.
    pub fn counts(&self) -> Vec<(String, Channel, usize)> {
        let lanes = self.lock();
        let in_trouble = lanes.iter().filter(|(_, waits)| waits.trouble.is_some());
        in_trouble.map(|((contact, channel), waits)| (contact.clone(), *channel, waits.notices)).collect()
    }

    /// They can't be delivered. Whether this reason is new.
    pub(super) fn note(&self, lane: &Lane, reason: &str, notices: usize, now: Timestamp) -> bool {
        let mut lanes = self.lock();
        let waits = lanes.entry(lane.clone()).or_default();
        (waits.notices, waits.gathered) = (notices, None);
        let trouble = waits.trouble.get_or_insert_with(|| Trouble { reason: String::new(), since: now });
        let is_new = trouble.reason != reason;
        reason.clone_into(&mut trouble.reason);
        is_new
    }

    pub(super) fn gathers(&self, lane: &Lane, notices: usize, until: Timestamp) {
        let mut lanes = self.lock();
        let waits = lanes.entry(lane.clone()).or_default();
        (waits.notices, waits.gathered) = (notices, Some(until));
    }

    pub(super) fn clear(&self, lane: &Lane) {
        self.lock().remove(lane);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Lane, Waits>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gathered_is_no_trouble_and_hides_none() {
        let (waiting, lane) = (Waiting::default(), ("ops".to_owned(), Channel::Email));
        let at = |second: i64| Timestamp::from_second(1_795_388_400 + second).unwrap();
        let check = |undelivered: &[usize], sentence: &str| {
            let counts: Vec<usize> = waiting.counts().into_iter().map(|(_, _, count)| count).collect();
            assert_eq!((&counts[..], waiting.problems()), (undelivered, vec![sentence.to_owned()]));
        };
        waiting.gathers(&lane, 12, at(30));
        check(&[], "12 alerts wait for ops (email): gathered into one message, sent at 2026-11-22T23:00:30Z");
        assert!(waiting.note(&lane, "refused", 12, at(31)));
        check(&[12], "12 alerts wait for ops (email): refused since 2026-11-22T23:00:31Z");
        // More come meanwhile, and the server is still the same.
        waiting.gathers(&lane, 40, at(90));
        check(&[40], "40 alerts wait for ops (email): refused since 2026-11-22T23:00:31Z");
        assert!(!waiting.note(&lane, "refused", 40, at(91)));
        check(&[40], "40 alerts wait for ops (email): refused since 2026-11-22T23:00:31Z");
        waiting.clear(&lane);
        assert_eq!((waiting.counts(), waiting.problems()), (vec![], vec![]));
    }
}
