//! Which backups go and which stay, each with its reason. Pure: a dry run and a real one share it.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::units::{HumanDuration, Percent};

#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Only what is older than this goes.
    pub older_than: Duration,
    /// So many of the newest backups of each database stay, whatever their age.
    pub keep_at_least: u32,
    /// A backup goes only where a newer one that stays has been verified.
    pub require_newer_verified: bool,
    /// More than this share of all: nothing goes.
    pub max_deletions: Percent,
}

/// What is known of one backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Backups of one database are counted together; empty: nobody knows of which.
    pub database: Box<str>,
    /// Or why it can't be judged.
    pub time: Result<Timestamp, Box<str>>,
    pub verified: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Deleted: so old.
    Old(SignedDuration),
    /// The rest are kept.
    Young(SignedDuration),
    AmongNewest {
        place: u32,
        of: u32,
    },
    NoneVerified,
    Future(Timestamp),
    Unknown(Box<str>),
}

impl Reason {
    pub fn deletes(&self) -> bool {
        matches!(self, Self::Old(_))
    }

    /// Kept for a reason that someone should look at.
    pub fn is_odd(&self) -> bool {
        matches!(self, Self::Future(_) | Self::Unknown(_))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = |age: &SignedDuration| {
            let whole = Duration::from_secs(u64::try_from(age.as_secs()).unwrap_or(0));
            let unit = if whole.as_secs() >= 2 * 86_400 {
                86_400
            } else if whole.as_secs() >= 7200 {
                3600
            } else {
                1
            };
            HumanDuration(Duration::from_secs(whole.as_secs() / unit * unit))
        };
        match self {
            Self::Old(age) => write!(f, "{} old", days(age)),
            Self::Young(age) => write!(f, "only {} old", days(age)),
            Self::AmongNewest { place, of } => {
                write!(f, "number {place} of the {of} newest that are always kept")
            }
            Self::NoneVerified => write!(f, "no newer backup has been verified (require_newer_verified)"),
            Self::Future(time) => write!(f, "dated in the future, {time}: is the clock wrong, or was it?"),
            Self::Unknown(why) => f.write_str(why),
        }
    }
}

/// What becomes of each candidate, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub reasons: Vec<Reason>,
    pub deletions: usize,
    /// More would go than `max_deletions` allows.
    pub too_many: bool,
}

pub fn plan(candidates: &[Candidate], policy: &Policy, now: Timestamp) -> Plan {
    let places = places(candidates, now);
    let newest_verified = newest_verified(candidates, now);
    let older_than = SignedDuration::try_from(policy.older_than).unwrap_or(SignedDuration::MAX);
    let reasons: Vec<Reason> = candidates
        .iter()
        .zip(places)
        .map(|(candidate, place)| {
            let time = match &candidate.time {
                Ok(time) => *time,
                Err(why) => return Reason::Unknown(why.clone()),
            };
            let age = now.duration_since(time);
            let verified = newest_verified.get(&*candidate.database).is_some_and(|newest| *newest > time);
            if time > now {
                Reason::Future(time)
            } else if age <= older_than {
                Reason::Young(age)
            } else if place <= policy.keep_at_least {
                Reason::AmongNewest { place, of: policy.keep_at_least }
            } else if policy.require_newer_verified && !verified {
                Reason::NoneVerified
            } else {
                Reason::Old(age)
            }
        })
        .collect();
    let deletions = reasons.iter().filter(|reason| reason.deletes()).count();
    let too_many = deletions as f64 * 100.0 > policy.max_deletions.0 * candidates.len() as f64;
    Plan { reasons, deletions, too_many }
}

/// The place of each candidate among those of its database, the newest first, from 1. What has no time, or one in
/// the future, takes no place: it would push out a good one.
fn places(candidates: &[Candidate], now: Timestamp) -> Vec<u32> {
    let mut order: Vec<(Timestamp, usize)> =
        candidates.iter().enumerate().filter_map(|(at, one)| Some((*one.time.as_ref().ok()?, at))).collect();
    order.retain(|(time, _)| *time <= now);
    order.sort_unstable_by(|a, b| b.cmp(a));
    let mut places = vec![0; candidates.len()];
    let mut taken: HashMap<&str, u32> = HashMap::new();
    for (_, at) in order {
        let place = taken.entry(&candidates[at].database).or_default();
        *place += 1;
        places[at] = *place;
    }
    places
}

/// The newest verified backup of a database always stays, since nothing newer is: so what is older than it may go.
fn newest_verified(candidates: &[Candidate], now: Timestamp) -> HashMap<&str, Timestamp> {
    let mut newest: HashMap<&str, Timestamp> = HashMap::new();
    for candidate in candidates.iter().filter(|candidate| candidate.verified) {
        let Ok(time) = candidate.time else { continue };
        if time <= now {
            newest
                .entry(&candidate.database)
                .and_modify(|newest| *newest = time.max(*newest))
                .or_insert(time);
        }
    }
    newest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: i64 = 86_400;

    fn now() -> Timestamp {
        "2026-11-22T23:00:00Z".parse().unwrap()
    }

    fn aged(database: &str, seconds: i64, verified: bool) -> Candidate {
        Candidate {
            database: database.into(),
            time: Ok(now() - SignedDuration::from_secs(seconds)),
            verified,
        }
    }

    fn policy(keep_at_least: u32, require_newer_verified: bool, max_deletions: f64) -> Policy {
        let older_than = Duration::from_secs(30 * 86_400);
        Policy { older_than, keep_at_least, require_newer_verified, max_deletions: Percent(max_deletions) }
    }

    fn check(candidates: &[Candidate], policy: &Policy, expected: &[&str], too_many: bool) {
        let plan = plan(candidates, policy, now());
        let found: Vec<String> = plan
            .reasons
            .iter()
            .map(|reason| format!("{} {reason}", if reason.deletes() { "delete:" } else { "keep:" }))
            .collect();
        assert_eq!(found, expected);
        assert_eq!(plan.too_many, too_many);
    }

    #[test]
    fn only_what_is_strictly_older_goes() {
        check(
            &[aged("a", 30 * DAY, false), aged("a", 30 * DAY + 1, false), aged("a", 45 * DAY + 3601, false)],
            &policy(0, false, 100.0),
            &["keep: only 30d old", "delete: 30d old", "delete: 45d old"],
            false,
        );
    }

    #[test]
    fn so_many_of_each_database_stay() {
        check(
            &[
                aged("a", 40 * DAY, false),
                aged("b", 50 * DAY, false),
                aged("a", 41 * DAY, false),
                aged("a", 60, false),
            ],
            &policy(2, false, 100.0),
            &[
                "keep: number 2 of the 2 newest that are always kept",
                "keep: number 1 of the 2 newest that are always kept",
                "delete: 41d old",
                "keep: only 1m old",
            ],
            false,
        );
    }

    #[test]
    fn what_can_t_be_judged_stays_and_takes_no_place() {
        let unknown =
            Candidate { database: "a".into(), time: Err("its manifest is torn".into()), verified: false };
        check(
            &[aged("a", -3600, true), unknown, aged("a", 40 * DAY, false), aged("a", 41 * DAY, false)],
            &policy(1, false, 100.0),
            &[
                "keep: dated in the future, 2026-11-23T00:00:00Z: is the clock wrong, or was it?",
                "keep: its manifest is torn",
                "keep: number 1 of the 1 newest that are always kept",
                "delete: 41d old",
            ],
            false,
        );
    }

    #[test]
    fn without_a_newer_verified_backup_nothing_goes() {
        check(
            &[
                aged("a", 40 * DAY, false),
                aged("a", 50 * DAY, true),
                aged("a", 60 * DAY, false),
                aged("b", 60 * DAY, false),
                aged("b", -60, true),
            ],
            &policy(0, true, 100.0),
            &[
                "keep: no newer backup has been verified (require_newer_verified)",
                "keep: no newer backup has been verified (require_newer_verified)",
                "delete: 60d old",
                "keep: no newer backup has been verified (require_newer_verified)",
                "keep: dated in the future, 2026-11-22T23:01:00Z: is the clock wrong, or was it?",
            ],
            false,
        );
    }

    #[test]
    fn more_than_the_share_is_too_many_and_the_share_itself_is_not() {
        let two = [aged("a", 40 * DAY, false), aged("a", DAY, false)];
        check(&two, &policy(0, false, 50.0), &["delete: 40d old", "keep: only 1d old"], false);
        let three = [aged("a", 40 * DAY, false), aged("a", 41 * DAY, false), aged("a", DAY + 1, false)];
        check(
            &three,
            &policy(0, false, 66.6),
            &["delete: 40d old", "delete: 41d old", "keep: only 1d old"],
            true,
        );
        check(&[], &policy(0, false, 0.0), &[], false);
    }

    proptest! {
        #[test]
        fn nothing_young_goes_and_enough_stays(
            units in proptest::collection::vec((0..3_u8, -100..100_i64, any::<bool>(), 0..8_u8), 0..60),
            keep in 0..10_u32,
            older in 0..60_u64,
            verified in any::<bool>(),
        ) {
            let candidates: Vec<Candidate> = units
                .iter()
                .map(|(database, days, verified, broken)| {
                    let mut one = aged(&database.to_string(), days * DAY, *verified);
                    if *broken == 0 {
                        one.time = Err("torn".into());
                    }
                    one
                })
                .collect();
            let policy = Policy { older_than: Duration::from_secs(older * 86_400), ..policy(keep, verified, 50.0) };
            let plan = plan(&candidates, &policy, now());
            for (candidate, reason) in candidates.iter().zip(&plan.reasons) {
                if !reason.deletes() {
                    continue;
                }
                let time = *candidate.time.as_ref().expect("what has no time is kept");
                prop_assert!(time < now() - SignedDuration::try_from(policy.older_than).unwrap());
                let newer_kept = candidates.iter().zip(&plan.reasons).filter(|(other, reason)| {
                    !reason.deletes()
                        && other.database == candidate.database
                        && other.time.as_ref().is_ok_and(|other| *other >= time && *other <= now())
                });
                prop_assert!(newer_kept.clone().count() >= keep as usize);
                prop_assert!(!verified || newer_kept.clone().any(|(other, _)| other.verified));
            }
        }
    }
}
