//! What is written correctly and yet perhaps not meant, and what can never come due.
//!
//! Never refuses anything but the impossible: a warning is a question to the operator.

use jiff::civil::Time;
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use super::expression::{Calendar, Expression, Weekdays};
use super::field::Part;
use super::parse;
use super::{HORIZON, REFERENCE, Schedule, ScheduleError};

/// A warning about a schedule that works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lint {
    pub message: String,
    pub hint: Option<String>,
    /// Which of the expressions.
    pub index: usize,
}

pub(super) fn lint(schedule: &Schedule, now: Timestamp) -> Vec<Lint> {
    let mut found = Vec::new();
    for (index, (text, expression)) in schedule.expressions().iter().zip(schedule.parsed()).enumerate() {
        let mut add = |message: String, hint: Option<String>| found.push(Lint { message, hint, index });
        if schedule.parsed()[..index].contains(expression) {
            add(
                format!("`{text}` is given twice"),
                Some("remove one; a slot that several give counts once".into()),
            );
            continue;
        }
        let Expression::Calendar(calendar) = expression else { continue };
        let parts = parse::words(text);
        if let [.., minute, hour, day, _, weekday] = parts[..] {
            let second = (parts.len() == 6).then(|| parts[0]);
            every_minute_of_an_hour(calendar, second, minute, hour, &mut add);
            uneven_steps(&parts, &mut add);
            either_day(calendar, text, day, weekday, &mut add);
        }
        short_months(calendar, &mut add);
        clock_changes(calendar, text, schedule.zone(), now, &mut add);
    }
    found
}

/// The error for an expression without a slot: a date that no calendar has, or a time that every clock change
/// of the zone jumps over.
pub(super) fn impossible(text: &str, expression: &Expression, zone: &TimeZone) -> ScheduleError {
    let parts = parse::words(text);
    let mut error = Part { text, start: 0 }.error(format!("`{text}` has no slot within 50 years"), None);
    let Expression::Calendar(calendar) = expression else { return error };
    let from = REFERENCE.as_second();
    let fields = |from: usize, to: usize| {
        Some(parts.get(from)?.start..parts.get(to).map(|to| to.start + to.text.len())?)
    };
    let shift = parts.len().saturating_sub(5);
    if calendar.next_local(from, from + HORIZON.as_secs()).is_some() {
        error.message.push_str(&format!(": clocks in {} jump over it each time", name(zone)));
        error.hint = Some("choose another time of day".into());
        error.at = fields(0, shift + 1);
        return error;
    }
    error.message.push_str(": no date matches");
    let mut any_weekday = calendar.clone();
    any_weekday.weekdays = Weekdays { plain: 0x7f, unrestricted: true, ..Weekdays::default() };
    if any_weekday.next_local(from, from + HORIZON.as_secs()).is_none() {
        error.hint = match (1..=12).filter(|month| calendar.months & (1 << month) != 0).map(length).max() {
            Some(29) => Some("February has 28 or 29 days".into()),
            Some(30) => Some("April, June, September and November have 30 days".into()),
            _ => None,
        };
    }
    error.at = fields(shift + 2, shift + 3);
    error
}

/// `* 2 * * *` where `0 2 * * *` was perhaps meant.
fn every_minute_of_an_hour(
    calendar: &Calendar,
    second: Option<Part<'_>>,
    minute: Part<'_>,
    hour: Part<'_>,
    add: &mut impl FnMut(String, Option<String>),
) {
    let all = |part: Part<'_>| part.text == "*" || part.text == "?";
    let single = |part: Part<'_>| !part.text.contains(['*', '?', '-', '/']);
    if second.is_some_and(all) && single(minute) {
        let message = format!("second `*` with minute `{}` runs 60 times in that minute", minute.text);
        add(message, Some("for once, write 0 as the second".into()));
    } else if all(minute) && single(hour) {
        let times = calendar.hours.count_ones() * 60;
        let message = format!(
            "minute `*` with hour `{}` runs {times} times a day, in every minute of the hour",
            hour.text
        );
        add(message, Some(format!("for once, write `0 {}` as minute and hour", hour.text)));
    }
}

/// Steps that don't go round evenly, so that the last distance is shorter than the others.
fn uneven_steps(parts: &[Part<'_>], add: &mut impl FnMut(String, Option<String>)) {
    const FIELDS: [(&str, u64, &str, &str); 6] = [
        ("second", 60, "minute", "s"),
        ("minute", 60, "hour", "m"),
        ("hour", 24, "day", "h"),
        ("day-of-month", 31, "month", ""),
        ("month", 12, "year", ""),
        ("day-of-week", 7, "week", ""),
    ];
    for (part, (field, size, whole, unit)) in parts.iter().zip(FIELDS.into_iter().skip(6 - parts.len())) {
        for item in part.split(|c| c == ',') {
            let Some((range, step)) = item.split_once('/') else { continue };
            let Ok(step) = step.text.parse::<u64>() else { continue };
            let every =
                (!unit.is_empty()).then(|| format!("write `@every {step}{unit}` to keep the distance"));
            if !matches!(range.text, "*" | "?") || step == 1 {
                continue;
            }
            if step >= size {
                let message =
                    format!("`{}` in the {field} field gives one value only, once each {whole}", item.text);
                add(message, every.filter(|_| step > size));
            } else if field == "day-of-month" {
                add(
                    format!(
                        "`{}` in the day-of-month field starts again on the 1st of each month",
                        item.text
                    ),
                    None,
                );
            } else if size % step != 0 {
                let last = size - (size - 1) / step * step;
                let message = format!(
                    "`{}` in the {field} field starts again each {whole}: the last distance is {last}, not {step}",
                    item.text
                );
                add(message, every);
            }
        }
    }
}

/// Both day fields restricted: either may match, which surprises most people.
fn either_day(
    calendar: &Calendar,
    text: &str,
    day: Part<'_>,
    weekday: Part<'_>,
    add: &mut impl FnMut(String, Option<String>),
) {
    if calendar.days.unrestricted || calendar.weekdays.unrestricted {
        return;
    }
    let message = format!(
        "`{text}` is due on every day that matches day-of-month `{}` and on every day that matches day-of-week `{}`: either is enough",
        day.text, weekday.text
    );
    add(
        message,
        Some("write `*` in one of them, or `1#1` in day-of-week for the first Monday of a month".into()),
    );
}

/// A day that some of the months lack, with nothing else that would match there.
fn short_months(calendar: &Calendar, add: &mut impl FnMut(String, Option<String>)) {
    let days = &calendar.days;
    let other = days.before_last != 0 || days.nearest_weekday != 0 || !calendar.weekdays.unrestricted;
    let first = days.plain.trailing_zeros();
    if other || first < 29 || days.plain == 0 {
        return;
    }
    let shortest = (1..=12).filter(|month| calendar.months & (1 << month) != 0).map(length).min();
    let message = match (first, shortest) {
        (29, Some(29)) => "29 February comes in leap years only".into(),
        (_, Some(shortest)) if first > shortest => format!("months without a day {first} have no slot"),
        _ => return,
    };
    add(message, Some("write `L` for the last day of the month".into()));
}

/// A fixed time that clocks jump over, or show twice, in the coming year.
fn clock_changes(
    calendar: &Calendar,
    text: &str,
    zone: &TimeZone,
    now: Timestamp,
    add: &mut impl FnMut(String, Option<String>),
) {
    if calendar.interval {
        return;
    }
    let until = now.saturating_add(SignedDuration::from_hours(366 * 24)).unwrap_or(Timestamp::MAX);
    let mut before = zone.to_offset(now);
    let (mut gap, mut overlap) = (false, false);
    for seam in zone.following(now).take_while(|seam| seam.timestamp() <= until) {
        let (at, after) = (seam.timestamp(), seam.offset());
        let local = |offset: Offset| at.as_second() + i64::from(offset.seconds());
        let found = calendar.next_local(local(before).min(local(after)), local(before).max(local(after)));
        if let Some(found) = found {
            let matched = Timestamp::from_second(found).map(|time| Offset::UTC.to_datetime(time));
            let Ok(matched) = matched else { return };
            let (from, to) = (before.to_datetime(at), after.to_datetime(at));
            let change = format!(
                "clocks in {} go from {} to {} on {}",
                name(zone),
                clock(from.time()),
                clock(to.time()),
                from.date()
            );
            if from < to && !gap {
                gap = true;
                let message = format!(
                    "`{text}`: {change}, so that {} is jumped over: it runs at {}",
                    clock(matched.time()),
                    clock(to.time())
                );
                add(message, Some(format!("a time from {} on is not affected", clock(to.time()))));
            } else if from > to && !overlap {
                overlap = true;
                let message = format!(
                    "`{text}`: {change}, so that {} comes twice: it runs the first time only",
                    clock(matched.time())
                );
                add(message, Some(format!("a time from {} on is not affected", clock(from.time()))));
            }
        }
        before = after;
    }
}

/// The most days that a month can have.
fn length(month: u32) -> u32 {
    match month {
        2 => 29,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// As people write a time of day: seconds only where there are some.
fn clock(time: Time) -> String {
    let text = time.to_string();
    text.strip_suffix(":00").map(str::to_owned).unwrap_or(text)
}

fn name(zone: &TimeZone) -> &str {
    zone.iana_name().unwrap_or("this zone")
}
