//! Which backups go and which stay, each with its reason. Pure: a dry run and a real one share it.
//!
//! One backup is one run: a dump with its manifest and its roles. Where a newer verified one is required, age counts
//! back from the newest verified backup of the database, and not from now: time alone, or a clock that is wrong,
//! deletes nothing, and neither do forty days on which every dump fails.

mod periods;

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

pub use periods::{Keep, Period};

use crate::units::{HumanDuration, Percent};

#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Only what is older than this goes.
    pub older_than: Duration,
    /// So many of the newest backups of each database stay, whatever their age.
    pub keep_at_least: u32,
    /// So many of each calendar period stay as well.
    pub keep: Keep,
    /// Of the calendar.
    pub zone: TimeZone,
    /// A backup goes only where a newer one, which stays, has been verified.
    pub require_newer_verified: bool,
    /// More than this share of all: nothing goes.
    pub max_deletions: Percent,
}

/// What is known of one backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Of the dump: what a reason calls it.
    pub name: Box<str>,
    /// Backups of one database are counted together; empty: nobody knows of which.
    pub database: Box<str>,
    /// Or why it can't be judged.
    pub time: Result<Timestamp, Box<str>>,
    pub standing: Standing,
}

/// What a backup is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Restored, counted, and nothing suspect about it.
    Verified,
    /// Nothing speaks against it.
    Unproven,
    /// Damaged, or suspect: it stands for no other.
    Doubtful,
    /// What lies beside a dump, without the dump.
    Fragment,
}

/// A backup that was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    pub name: Box<str>,
    pub time: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Deleted: so old, and, where one is required, this newer verified backup stays.
    Old {
        age: SignedDuration,
        verified: Option<Proven>,
    },
    /// The rest are kept.
    Young(SignedDuration),
    AmongNewest {
        place: u32,
        of: u32,
    },
    /// The newest of these periods, such as `month 2026-10`.
    OfPeriods(Vec<Period>),
    NoneVerified,
    /// So old, and so much older than the newest verified backup.
    TooNear {
        age: SignedDuration,
        before: SignedDuration,
        verified: Proven,
    },
    Future(Timestamp),
    Unknown(Box<str>),
}

impl Reason {
    pub fn deletes(&self) -> bool {
        matches!(self, Self::Old { .. })
    }

    /// Kept for a reason that someone should look at.
    pub fn is_odd(&self) -> bool {
        matches!(self, Self::Future(_) | Self::Unknown(_))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Old { age, verified: None } => write!(f, "{} old", rounded(*age)),
            Self::Old { age, verified: Some(Proven { name, time }) } => {
                write!(f, "{} old, and {name} of {time:.0} is newer and verified", rounded(*age))
            }
            Self::Young(age) => write!(f, "only {} old", rounded(*age)),
            Self::AmongNewest { place, of } => {
                write!(f, "number {place} of the {of} newest that are always kept")
            }
            Self::OfPeriods(periods) => {
                f.write_str("the newest of ")?;
                for (at, period) in periods.iter().enumerate() {
                    write!(f, "{}{period}", if at > 0 { ", " } else { "" })?;
                }
                Ok(())
            }
            Self::NoneVerified => write!(f, "no newer backup has been verified (require_newer_verified)"),
            Self::TooNear { age, before, verified: Proven { name, time } } => write!(
                f,
                "{} old, but only {} older than {name} of {time:.0}, the newest verified one, from which age counts \
                 (require_newer_verified)",
                rounded(*age),
                rounded(*before)
            ),
            Self::Future(time) => write!(f, "dated in the future, {time}: is the clock wrong, or was it?"),
            Self::Unknown(why) => f.write_str(why),
        }
    }
}

fn rounded(age: SignedDuration) -> HumanDuration {
    let seconds = u64::try_from(age.as_secs()).unwrap_or(0);
    let unit = match seconds {
        172_800.. => 86_400,
        7200.. => 3600,
        _ => 1,
    };
    HumanDuration(Duration::from_secs(seconds / unit * unit))
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
    let newest = newest_first(candidates, now);
    let places = places(candidates, &newest);
    let mut periods = periods::kept(candidates, &newest, &policy.keep, &policy.zone);
    let verified = newest_verified(candidates, &newest);
    let mut judge = |(at, candidate): (usize, &Candidate)| {
        let time = match &candidate.time {
            Ok(time) => *time,
            Err(why) => return Reason::Unknown(why.clone()),
        };
        let age = now.duration_since(time);
        if time > now {
            return Reason::Future(time);
        }
        if !exceeds(age, policy.older_than) {
            return Reason::Young(age);
        }
        if (1..=policy.keep_at_least).contains(&places[at]) {
            return Reason::AmongNewest { place: places[at], of: policy.keep_at_least };
        }
        let of_periods = std::mem::take(&mut periods[at]);
        if !of_periods.is_empty() {
            return Reason::OfPeriods(of_periods);
        }
        if !policy.require_newer_verified {
            return Reason::Old { age, verified: None };
        }
        let newer = verified.get(&*candidate.database).filter(|newest| newest.time > time);
        let Some(newer) = newer.cloned() else { return Reason::NoneVerified };
        let before = newer.time.duration_since(time);
        if !exceeds(before, policy.older_than) {
            return Reason::TooNear { age, before, verified: newer };
        }
        Reason::Old { age, verified: Some(newer) }
    };
    let reasons: Vec<Reason> = candidates.iter().enumerate().map(&mut judge).collect();
    let deletions = reasons.iter().filter(|reason| reason.deletes()).count();
    let too_many = deletions as f64 * 100.0 > policy.max_deletions.0 * candidates.len() as f64;
    Plan { reasons, deletions, too_many }
}

fn exceeds(age: SignedDuration, limit: Duration) -> bool {
    age > SignedDuration::try_from(limit).unwrap_or(SignedDuration::MAX)
}

/// Those that have a dump and a time that has come, the newest first.
fn newest_first(candidates: &[Candidate], now: Timestamp) -> Vec<(Timestamp, usize)> {
    let counts = |candidate: &Candidate| candidate.standing != Standing::Fragment;
    let dated = candidates.iter().enumerate().filter(|(_, candidate)| counts(candidate));
    let mut order: Vec<(Timestamp, usize)> =
        dated.filter_map(|(at, candidate)| Some((*candidate.time.as_ref().ok()?, at))).collect();
    order.retain(|(time, _)| *time <= now);
    order.sort_unstable_by(|a, b| b.cmp(a));
    order
}

/// The place of each candidate among those of its database, the newest first, from 1; 0: none. A doubtful one takes
/// no place from those behind it: seven empty dumps must not push out the last good ones.
fn places(candidates: &[Candidate], newest: &[(Timestamp, usize)]) -> Vec<u32> {
    let mut places = vec![0; candidates.len()];
    // Of all, and of those that nothing speaks against.
    let mut taken: HashMap<&str, (u32, u32)> = HashMap::new();
    for (_, at) in newest {
        let candidate = &candidates[*at];
        let (all, sound) = taken.entry(&candidate.database).or_default();
        *all += 1;
        places[*at] = if candidate.standing == Standing::Doubtful {
            *all
        } else {
            *sound += 1;
            *sound
        };
    }
    places
}

/// The newest verified backup of a database always stays, since nothing newer is: so what is older than it may go.
fn newest_verified<'a>(
    candidates: &'a [Candidate],
    newest: &[(Timestamp, usize)],
) -> HashMap<&'a str, Proven> {
    let mut verified: HashMap<&str, Proven> = HashMap::new();
    for (time, at) in newest {
        let candidate = &candidates[*at];
        if candidate.standing == Standing::Verified {
            let proven = || Proven { name: candidate.name.clone(), time: *time };
            verified.entry(&candidate.database).or_insert_with(proven);
        }
    }
    verified
}

#[cfg(test)]
mod tests;
