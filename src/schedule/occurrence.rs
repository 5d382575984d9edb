//! Where local times fall on the time line of a zone.
//!
//! Owns gaps and overlaps. A zone is a chain of stretches of constant offset; within one stretch local
//! time and instants run in step, so that all care goes to the seams:
//!
//! - An interval expression has a slot at each instant of a stretch whose local time matches.
//! - A fixed-time expression has a slot at the first instant at which local time *reaches* a matching time.
//!   That is the time itself on ordinary days, its first pass in an overlap, and the end of the gap where
//!   it was jumped over; several times in one gap reach it together and are one slot.
//!
//! "Reaches" needs the latest local time that was shown before: [`reached_before`].

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::HORIZON;
use super::expression::{Calendar, Expression};

/// No offset is further from UTC, in seconds (tz databases and jiff allow up to 25:59:59).
pub(super) const FARTHEST_OFFSET: i64 = 26 * 3600;

pub(super) const MOST_OFFSETS: usize = 64;

/// The offsets, in seconds east of UTC, in force from `from` until `until`: each with the instant from
/// which it holds, the first with `from` itself. At most [`MOST_OFFSETS`], so that a record of them stays small.
pub fn offsets(zone: &TimeZone, from: Timestamp, until: Timestamp) -> Vec<(Timestamp, i32)> {
    let mut offsets = vec![(from, zone.to_offset(from).seconds())];
    for transition in zone.following(from) {
        if transition.timestamp() >= until || offsets.len() == MOST_OFFSETS {
            break;
        }
        let offset = transition.offset().seconds();
        // Some transitions change only the abbreviation.
        if offsets.last().is_none_or(|(_, last)| *last != offset) {
            offsets.push((transition.timestamp(), offset));
        }
    }
    offsets
}

/// The first slot of `expression` after `after`, within the horizon.
pub(super) fn next(expression: &Expression, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
    match expression {
        Expression::Calendar(calendar) => next_of_calendar(calendar, zone, after),
        Expression::Every { milliseconds } => {
            let step = i128::from(*milliseconds) * 1_000_000;
            Timestamp::from_nanosecond((after.as_nanosecond().div_euclid(step) + 1) * step).ok()
        }
        Expression::Reboot => None,
    }
}

/// A stretch of constant offset, in seconds: instants `begins..ends`. `ends` is `i64::MAX` for the last.
pub(super) struct Stretch {
    begins_at_seam: bool,
    pub(super) ends: i64,
    pub(super) offset: i64,
}

fn next_of_calendar(calendar: &Calendar, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
    // Slots lie on whole seconds, so the first candidate is the next one.
    let mut earliest = whole_seconds(after) + 1;
    let limit = earliest + HORIZON.as_secs();
    loop {
        // No local time before `matching` matches, whatever the offset; so no slot comes sooner than this.
        let matching = calendar.next_local(earliest - FARTHEST_OFFSET, limit + FARTHEST_OFFSET)?;
        earliest = earliest.max(matching - FARTHEST_OFFSET);
        if earliest > limit {
            return None;
        }
        let stretch = stretch_at(zone, earliest)?;
        let mut from = earliest + stretch.offset;
        if !calendar.interval {
            let reached = reached_before(zone, earliest);
            // A tz file may end in a seam that changes nothing (2038-01-19T03:14:07Z), and that only `following` tells.
            let known = stretch.begins_at_seam && reached > i64::MIN;
            from = if known { reached } else { from.max(reached) };
        }
        let until = stretch.ends.saturating_add(stretch.offset).min(limit + 2 * FARTHEST_OFFSET);
        if let Some(local) = calendar.next_local(from, until) {
            let slot = (local - stretch.offset).max(earliest);
            return if slot > limit { None } else { Timestamp::from_second(slot).ok() };
        }
        // The last stretch of a zone ends with time itself.
        earliest = stretch.ends;
        if earliest > limit {
            return None;
        }
    }
}

/// The stretch that holds the second `at`; `None` beyond the last instant that can be told.
pub(super) fn stretch_at(zone: &TimeZone, at: i64) -> Option<Stretch> {
    let instant = Timestamp::from_second(at).ok()?;
    let ends = zone.following(instant).next().map_or(i64::MAX, |next| next.timestamp().as_second());
    let before = Timestamp::from_second(at - 1).ok();
    // `following` is exclusive: from the second before, it names `at` where a seam is there.
    let begins_at_seam = before
        .and_then(|before| zone.following(before).next())
        .is_some_and(|seam| seam.timestamp() == instant);
    Some(Stretch { begins_at_seam, ends, offset: i64::from(zone.to_offset(instant).seconds()) })
}

/// The local time up to which clocks of the zone had got by the instant `at`, in local seconds: the latest
/// end of the earlier stretches. One that ended longer ago than the largest possible step can't be ahead of
/// the local time at `at`, so that it is left out.
fn reached_before(zone: &TimeZone, at: i64) -> i64 {
    // `preceding` is exclusive, and a seam at `at` counts.
    let Ok(after) = Timestamp::from_second(at + 1) else { return i64::MIN };
    let mut reached = i64::MIN;
    for seam in zone.preceding(after) {
        let seam = seam.timestamp().as_second();
        if seam + 2 * FARTHEST_OFFSET < at {
            break;
        }
        if let Ok(before) = Timestamp::from_second(seam - 1) {
            reached = reached.max(seam + i64::from(zone.to_offset(before).seconds()));
        }
    }
    reached
}

fn whole_seconds(instant: Timestamp) -> i64 {
    instant.as_nanosecond().div_euclid(1_000_000_000) as i64
}
