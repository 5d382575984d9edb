//! Long times at once: how many slots lie in them, without a look at each.
//!
//! Owns which days are alike. Far from a change of the zone's offset, two days on which the same expressions have their
//! date have the same slots, so that one of them is counted and stands for the others. The other days are the caller's,
//! slot by slot.

use std::collections::HashMap;

use jiff::Timestamp;

use super::Schedule;
use super::expression::{DAY, Expression};
use super::occurrence::{FARTHEST_OFFSET, stretch_at};

/// Fewer days than this aren't worth the count.
const LEAST_DAYS: usize = 3;
/// In one leap: longer ones are made of several.
const MOST_DAYS: usize = 40_000;
const DAY_IN_MILLISECONDS: i64 = DAY * 1000;

/// Slots next to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leap {
    pub last: Timestamp,
    pub count: u64,
    /// Slots that were looked at to tell this.
    pub looked_at: usize,
}

/// The slots of one day, by nanoseconds since it began.
#[derive(Clone, Copy)]
struct Pattern {
    count: u64,
    last: i128,
}

impl Schedule {
    /// From the slot `first` over as many whole days as it takes to come near `until`, where at least `leave` slots
    /// remain. `None`: there is nothing to gain, so that the next slot is to be looked at by itself.
    pub fn leap(&self, first: Timestamp, until: Timestamp, leave: u64) -> Option<Leap> {
        let (begins, ends, offset) = self.alike(first, until)?;
        let mut patterns: HashMap<u64, Pattern> = HashMap::new();
        let mut days: Vec<Pattern> = vec![];
        let mut looked_at = 0;
        for begin in (begins..).step_by(DAY as usize).take_while(|begin| begin + DAY <= ends).take(MOST_DAYS)
        {
            let key = self.matching(begin + offset);
            let pattern = match patterns.get(&key) {
                Some(known) => *known,
                None => {
                    let begin = nanoseconds(begin);
                    let from = Timestamp::from_nanosecond(begin - 1).ok()?;
                    let (count, last) = self.count(from, begin + nanoseconds(DAY))?;
                    looked_at += usize::try_from(count).ok()?;
                    let pattern = Pattern { count, last: last.as_nanosecond() - begin };
                    patterns.insert(key, pattern);
                    pattern
                }
            };
            days.push(pattern);
        }
        let mut left = 0;
        while left < leave {
            left += days.pop()?.count;
        }
        let last = days.iter().rposition(|day| day.count > 0)?;
        let begin = nanoseconds(begins + i64::try_from(last).ok()? * DAY);
        let before = Timestamp::from_nanosecond(first.as_nanosecond() - 1).ok()?;
        let (lead, _) = self.count(before, nanoseconds(begins))?;
        Some(Leap {
            last: Timestamp::from_nanosecond(begin + days[last].last).ok()?,
            count: lead + days.iter().map(|day| day.count).sum::<u64>(),
            looked_at: looked_at + usize::try_from(lead).ok()?,
        })
    }

    /// The whole days, from a second to a second, after `first` and up to `until` that are alike wherever their date is:
    /// with the offset that they have.
    fn alike(&self, first: Timestamp, until: Timestamp) -> Option<(i64, i64, i64)> {
        let even = |expression: &Expression| match expression {
            Expression::Every { milliseconds } => DAY_IN_MILLISECONDS % milliseconds == 0,
            Expression::Calendar(_) | Expression::Reboot => true,
        };
        if self.parsed().len() > 64 || !self.parsed().iter().all(even) {
            return None;
        }
        let begins = first.as_second() + 1;
        let stretch = stretch_at(self.zone(), begins)?;
        // A fixed time may have been reached before the offset changed, or be reached by its change.
        let interval = self.parsed().iter().all(Expression::is_interval);
        let calm = |at: i64| {
            let from = Timestamp::from_second(at - if interval { 0 } else { 3 * FARTHEST_OFFSET }).ok()?;
            let seam = self.zone().preceding(Timestamp::from_second(at + 1).ok()?).next();
            Some(seam.is_none_or(|seam| seam.timestamp() <= from))
        };
        let mut day = (begins + stretch.offset).div_euclid(DAY) * DAY + DAY - stretch.offset;
        let ends = stretch.ends.min(until.as_second());
        let least = i64::try_from(LEAST_DAYS).ok()? * DAY;
        while !calm(day)? {
            day += DAY;
        }
        (day.saturating_add(least) <= ends).then_some((day, ends, stretch.offset))
    }

    /// A bit for each expression that has the date of this local second.
    fn matching(&self, local: i64) -> u64 {
        let has = |expression: &Expression| match expression {
            Expression::Calendar(calendar) => calendar.next_local(local, local + DAY).is_some(),
            Expression::Every { .. } => true,
            Expression::Reboot => false,
        };
        self.parsed().iter().fold(0, |bits, expression| bits << 1 | u64::from(has(expression)))
    }

    /// Slots after an instant and before another (in nanoseconds), with the last of them.
    fn count(&self, after: Timestamp, end: i128) -> Option<(u64, Timestamp)> {
        let (mut count, mut last) = (0, after);
        while let Some(slot) = self.next_after(last).filter(|slot| slot.as_nanosecond() < end) {
            (count, last) = (count + 1, slot);
        }
        Some((count, last))
    }
}

fn nanoseconds(seconds: i64) -> i128 {
    i128::from(seconds) * 1_000_000_000
}
