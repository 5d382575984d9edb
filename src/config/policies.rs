//! The policy keys of a job, as written under the job or under `defaults:`, and how the two come together.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::Heartbeat;
use crate::document::{ContactName, Invalid, JobRef, SecretOr, WordOr};
use crate::host::secret::SecretText;
use crate::policy::{Interrupted, IoClass, Missed, MissedPolicy, Overlap, Retries};
use crate::units::HumanDuration;

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Policies {
    /// When: a cron expression, `@every 90s` or the like, or a list of them; absent: by hand only
    pub(super) schedule: Option<WordOr<String, Vec<String>>>,
    /// The IANA time zone of the schedule; default: the file's
    pub(super) timezone: Option<String>,
    /// false: its slots are neither run nor recorded
    pub(super) enabled: Option<bool>,
    /// What it is for; shown by `list` and in alerts
    pub(super) description: Option<String>,
    /// Of one attempt; then TERM, 10 s, KILL, to the whole tree; default: 1h
    pub(super) timeout: Option<HumanDuration>,
    /// How often a failed attempt is tried again, and when
    pub(super) retries: Option<RetriesKeys>,
    /// What a slot does while the job still runs; default: skip
    pub(super) overlap: Option<Overlap>,
    /// What becomes of slots that passed while the daemon was down, asleep or behind; default: `run_once`
    pub(super) missed: Option<WordOr<MissedPolicy, MissedKeys>>,
    /// What becomes of a run that the daemon's death or a power cut ended; default: leave for `command`, else rerun
    pub(super) interrupted: Option<Interrupted>,
    /// Delays each slot by a share of it that is fixed for host and job
    pub(super) jitter: Option<HumanDuration>,
    /// Also runs once each of these jobs has succeeded since this one last started
    pub(super) after: Option<Vec<JobRef>>,
    /// Jobs of one group never run at the same time
    pub(super) group: Option<String>,
    /// Contacts to tell; default: `alerts.to`
    pub(super) alert: Option<Vec<ContactName>>,
    /// A URL that is asked as each run begins and ends, so that silence is noticed elsewhere; `{job}` in it is the job's
    /// name, `none` is no URL
    pub(super) heartbeat: Option<SecretOr<SecretText, HeartbeatKeys>>,
    /// For `command`: the user to run as (needs root); default: the daemon's
    pub(super) user: Option<String>,
    /// For `command`: variables of its environment; nothing is inherited from the daemon
    pub(super) env: Option<BTreeMap<String, SecretText>>,
    /// 0 to 19, of the programs that a job starts
    #[schemars(range(min = 0, max = 19))]
    pub(super) nice: Option<u8>,
    /// The I/O class of the programs that a job starts
    pub(super) io: Option<IoClass>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RetriesKeys {
    /// The first included
    #[schemars(range(min = 1))]
    attempts: Option<u32>,
    /// Before the second attempt; doubles, with ±20 % jitter
    backoff: Option<HumanDuration>,
    /// The backoff grows no further
    max_backoff: Option<HumanDuration>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct MissedKeys {
    /// Run the newest, all of them, or none
    policy: Option<MissedPolicy>,
    /// How late a missed slot may still be run; default: until the next slot is due
    within: Option<HumanDuration>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HeartbeatKeys {
    /// The URL; `{job}` in it is the job's name
    url: SecretText,
    /// success: the URL itself, and nothing when a run begins or fails
    only: Option<Only>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Only {
    Success,
}

/// In the place of a URL: none for this job, whatever `defaults` has.
const NONE: &str = "none";

pub(super) const TIMEOUT: Duration = Duration::from_secs(3600);

impl Policies {
    /// What types alone can't say.
    pub(super) fn invalid(&self) -> Vec<Invalid> {
        let mut found = Vec::new();
        let mut wrong = |is_wrong: bool, key: &str, message: &str| {
            if is_wrong {
                found.push(Invalid { key: key.into(), message: message.into(), hint: None });
            }
        };
        let zero = |duration: Option<HumanDuration>| duration.is_some_and(|duration| duration.0.is_zero());
        wrong(zero(self.timeout), "timeout", "a timeout of nothing lets nothing run");
        wrong(self.nice.is_some_and(|nice| nice > 19), "nice", "expected a whole number from 0 to 19");
        if let Some(retries) = self.retries {
            wrong(
                retries.attempts == Some(0),
                "retries.attempts",
                "at least 1 attempt is needed: the first counts",
            );
            let crossed = retries.backoff.zip(retries.max_backoff).is_some_and(|(least, most)| least > most);
            wrong(crossed, "retries.max_backoff", "it is shorter than `backoff`");
        }
        let empty = |text: &Option<String>| text.as_ref().is_some_and(|text| text.trim().is_empty());
        wrong(empty(&self.group), "group", "a group needs a name");
        wrong(empty(&self.user), "user", "a user name is needed");
        let none = matches!(&self.schedule, Some(WordOr::Whole(list)) if list.is_empty());
        wrong(none, "schedule", "an empty list: leave `schedule` out for a job that is run by hand");
        if let Some((url, key)) = self.heartbeat.as_ref().and_then(|SecretOr(written)| match written {
            WordOr::Word(url) if url.literal() == Some(NONE) => None,
            WordOr::Word(url) => Some((url, "heartbeat")),
            WordOr::Whole(keys) => Some((&keys.url, "heartbeat.url")),
        }) && let Some(Err(reason)) = url.literal().map(Heartbeat::check)
        {
            wrong(true, key, &format!("not the URL of a heartbeat: {reason}"));
        }
        for name in self.env.iter().flat_map(BTreeMap::keys) {
            let unusable = name.is_empty() || name.contains(['=', '\0']);
            wrong(unusable, "env", "the name of a variable is empty or holds `=`");
        }
        found
    }

    pub(super) fn expressions(&self) -> Option<Vec<String>> {
        match self.schedule.as_ref()? {
            WordOr::Word(one) => Some(vec![one.clone()]),
            WordOr::Whole(several) => Some(several.clone()),
        }
    }

    /// The kind's, changed by the defaults, changed by the job, each key by itself.
    pub(super) fn retries(&self, defaults: &Self, kind: Retries) -> Retries {
        let mut retries = kind;
        for keys in [defaults.retries, self.retries].into_iter().flatten() {
            retries.attempts = keys.attempts.unwrap_or(retries.attempts);
            retries.backoff = keys.backoff.map_or(retries.backoff, |backoff| backoff.0);
            retries.max_backoff = keys.max_backoff.map_or(retries.max_backoff, |most| most.0);
        }
        // A long backoff beside a default limit means what it says.
        retries.max_backoff = retries.max_backoff.max(retries.backoff);
        retries
    }

    /// A word says everything; a map changes what it names.
    pub(super) fn missed(&self, defaults: &Self) -> Missed {
        let mut missed = Missed::default();
        for keys in [&defaults.missed, &self.missed].into_iter().flatten() {
            match keys {
                WordOr::Word(policy) => missed = Missed { policy: *policy, within: None },
                WordOr::Whole(keys) => {
                    missed.policy = keys.policy.unwrap_or(missed.policy);
                    missed.within = keys.within.map_or(missed.within, |within| Some(within.0));
                }
            }
        }
        missed
    }

    pub(super) fn heartbeat(&self, defaults: &Self) -> Option<Heartbeat> {
        match &self.heartbeat.as_ref().or(defaults.heartbeat.as_ref())?.0 {
            WordOr::Word(url) if url.literal() == Some(NONE) => None,
            WordOr::Word(url) => Some(Heartbeat::new(url.clone(), false)),
            WordOr::Whole(keys) => Some(Heartbeat::new(keys.url.clone(), keys.only.is_some())),
        }
    }

    /// Variables of both, the job's first.
    pub(super) fn env(&self, defaults: &Self) -> BTreeMap<String, SecretText> {
        let mut env = defaults.env.clone().unwrap_or_default();
        env.extend(self.env.clone().unwrap_or_default());
        env
    }
}
