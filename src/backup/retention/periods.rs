//! The calendar's part of retention: so many days, weeks, months and years of which the newest backup stays.

use std::collections::HashMap;
use std::fmt;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Candidate, Standing};

/// Of how many periods, counted back over those that have a backup, the newest stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Keep {
    /// Days.
    #[serde(default)]
    pub daily: u32,
    /// Weeks: from Monday, as ISO 8601 counts them.
    #[serde(default)]
    pub weekly: u32,
    /// Months.
    #[serde(default)]
    pub monthly: u32,
    /// Years.
    #[serde(default)]
    pub yearly: u32,
}

/// A day, week, month or year.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Period {
    Day(Date),
    /// The year of its Thursday, and its number.
    Week(i16, i8),
    Month(i16, i8),
    Year(i16),
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Day(date) => write!(f, "day {date}"),
            Self::Week(year, week) => write!(f, "week {year}-W{week:02}"),
            Self::Month(year, month) => write!(f, "month {year}-{month:02}"),
            Self::Year(year) => write!(f, "year {year}"),
        }
    }
}

type PeriodOf = fn(Date) -> Period;

/// For which periods each candidate is kept. `newest`: those that count, the newest first.
///
/// Where the newest of a period is doubtful, the newest one behind it that isn't stays as well.
pub(super) fn kept(
    candidates: &[Candidate],
    newest: &[(Timestamp, usize)],
    keep: &Keep,
    zone: &TimeZone,
) -> Vec<Vec<Period>> {
    let mut kept = vec![vec![]; candidates.len()];
    let wanted: [(u32, PeriodOf); 4] = [
        (keep.daily, Period::Day),
        (keep.weekly, |date| Period::Week(date.iso_week_date().year(), date.iso_week_date().week())),
        (keep.monthly, |date| Period::Month(date.year(), date.month())),
        (keep.yearly, |date| Period::Year(date.year())),
    ];
    for (count, period_of) in wanted.into_iter().filter(|(count, _)| *count > 0) {
        // Of each database: the periods that were met, the present one, and whether a sound backup of it is kept.
        let mut met: HashMap<&str, (u32, Option<Period>, bool)> = HashMap::new();
        for (time, at) in newest {
            let candidate = &candidates[*at];
            let period = period_of(zone.to_datetime(*time).date());
            let (number, present, sound) = met.entry(&candidate.database).or_default();
            let is_newest = *present != Some(period);
            if is_newest {
                *number += 1;
                *present = Some(period);
                *sound = false;
            }
            let is_sound = candidate.standing != Standing::Doubtful;
            if *number <= count && (is_newest || (is_sound && !*sound)) {
                kept[*at].push(period);
            }
            *sound |= is_sound;
        }
    }
    kept
}
