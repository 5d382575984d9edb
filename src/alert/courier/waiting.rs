//! What waits to be told and why, by contact and channel, as `status` shows it. Sends nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

use super::Lane;
use crate::model::Channel;

/// What waits to be told, as `status` shows it.
#[derive(Clone, Default)]
pub struct Waiting(Arc<Mutex<BTreeMap<Lane, Trouble>>>);

struct Trouble {
    reason: String,
    since: Timestamp,
    notices: usize,
    /// They are gathered, and sent as one at this time.
    gathered: Option<Timestamp>,
}

impl Waiting {
    /// A sentence for each contact who can't be reached, or for whom alerts are gathered.
    pub fn problems(&self) -> Vec<String> {
        let lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sentence = |((contact, channel), trouble): (&Lane, &Trouble)| {
            let alerts = match trouble.notices {
                1 => "1 alert waits".to_owned(),
                many => format!("{many} alerts wait"),
            };
            let (reason, since) = (&trouble.reason, trouble.since);
            if let Some(at) = trouble.gathered {
                return format!(
                    "{alerts} for {contact} ({channel}): gathered into one message, sent at {at:.0}"
                );
            }
            format!("{alerts} for {contact} ({channel}): {reason} since {since:.0}")
        };
        lanes.iter().map(sentence).collect()
    }

    /// How many wait, by contact and channel.
    pub fn counts(&self) -> Vec<(String, Channel, usize)> {
        let lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count =
            |((contact, channel), trouble): (&Lane, &Trouble)| (contact.clone(), *channel, trouble.notices);
        lanes.iter().map(count).collect()
    }

    /// Whether this reason is new.
    pub(super) fn note(&self, lane: &Lane, reason: &str, notices: usize, now: Timestamp) -> bool {
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let trouble = lanes.entry(lane.clone()).or_insert_with(|| Trouble {
            reason: String::new(),
            since: now,
            notices,
            gathered: None,
        });
        if trouble.gathered.take().is_some() {
            trouble.since = now;
        }
        trouble.notices = notices;
        let is_new = trouble.reason != reason;
        reason.clone_into(&mut trouble.reason);
        is_new
    }

    /// What keeps them from being sent is no trouble.
    pub(super) fn gathers(&self, lane: &Lane, notices: usize, until: Timestamp, now: Timestamp) {
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let gathered = Trouble { reason: String::new(), since: now, notices, gathered: Some(until) };
        lanes.insert(lane.clone(), gathered);
    }

    pub(super) fn clear(&self, lane: &Lane) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(lane);
    }
}
