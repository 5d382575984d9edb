//! An expression in plain words.

use std::time::Duration;

use super::expression::{Calendar, Days, Expression, Weekdays, bits};
use crate::units::HumanDuration;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const ORDINALS: [&str; 5] = ["first", "second", "third", "fourth", "fifth"];

const ALL_MINUTES: u64 = (1 << 60) - 1;
const ALL_HOURS: u64 = (1 << 24) - 1;
const ALL_DAYS: u32 = u32::MAX - 1;
const ALL_MONTHS: u16 = 0x1ffe;
const ALL_WEEKDAYS: u8 = 0x7f;
/// So many times of day are named one by one.
const MOST_TIMES: u32 = 6;

pub(super) fn explain(expression: &Expression) -> String {
    match expression {
        Expression::Calendar(calendar) => {
            let parts = [time(calendar), dates(calendar), months(calendar.months)];
            let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
            parts.join(" ")
        }
        Expression::Every { milliseconds } => {
            format!("every {}", HumanDuration(Duration::from_millis(milliseconds.unsigned_abs())))
        }
        Expression::Reboot => "once after each boot".into(),
    }
}

fn time(calendar: &Calendar) -> String {
    let (seconds, minutes, hours) = (calendar.seconds, calendar.minutes, u64::from(calendar.hours));
    if seconds.count_ones() == 1 && minutes.count_ones() * hours.count_ones() <= MOST_TIMES {
        let second = seconds.trailing_zeros();
        let times = bits(hours).flat_map(|hour| bits(minutes).map(move |minute| (hour, minute)));
        let times = times.map(|(hour, minute)| match second {
            0 => format!("{hour:02}:{minute:02}"),
            _ => format!("{hour:02}:{minute:02}:{second:02}"),
        });
        return format!("at {}", joined(times.collect()));
    }
    let hour = hours_in_words(hours);
    match (seconds, minutes) {
        (1, 1) if hours == ALL_HOURS => "every hour".into(),
        (1, 1) if step(hours, 24).is_some() => format!("every {} hours", step(hours, 24).unwrap_or(1)),
        (1, _) => with(every("minute", minutes, 60), hour, minutes, 60),
        (_, ALL_MINUTES) => with(every("second", seconds, 60), hour, seconds, 60),
        _ => {
            let within = match step(minutes, 60) {
                Some(1) => "every minute".into(),
                Some(step @ (2 | 3)) => format!("every {} minute", ORDINALS[step as usize - 1]),
                Some(step) => format!("every {step}th minute"),
                None if minutes.count_ones() == 1 => format!("minute {}", minutes.trailing_zeros()),
                None => format!("minutes {}", runs(minutes, |minute| minute.to_string())),
            };
            format!("{} of {}", every("second", seconds, 60), with(within, hour, minutes, 60))
        }
    }
}

/// Joins what repeats with the hours in which it does.
fn with(what: String, hours: Option<String>, set: u64, size: u32) -> String {
    match hours {
        Some(hours) => format!("{what} {hours}"),
        None if step(set, size).is_some() => what,
        None => format!("{what} of every hour"),
    }
}

/// `every minute`, `every 5 minutes`, `at minutes 0, 7 and 9`.
fn every(unit: &str, set: u64, size: u32) -> String {
    match step(set, size) {
        Some(1) => format!("every {unit}"),
        Some(step) => format!("every {step} {unit}s"),
        None if set.count_ones() == 1 => format!("at {unit} {}", set.trailing_zeros()),
        None => format!("at {unit}s {}", runs(set, |value| value.to_string())),
    }
}

/// The distance of values that go evenly round the whole field from 0.
fn step(set: u64, size: u32) -> Option<u32> {
    let distance = size / set.count_ones();
    let even = set.count_ones() > 1 && distance * set.count_ones() == size;
    (even && bits(set).eq((0..size).step_by(distance as usize))).then_some(distance)
}

fn hours_in_words(hours: u64) -> Option<String> {
    if hours == ALL_HOURS {
        return None;
    }
    if hours.count_ones() == 1 {
        let hour = hours.trailing_zeros();
        return Some(format!("from {hour:02}:00 to {hour:02}:59"));
    }
    let (first, last) = (hours.trailing_zeros(), 63 - hours.leading_zeros());
    if last - first + 1 == hours.count_ones() {
        return Some(format!("from {first:02}:00 to {last:02}:59"));
    }
    Some(format!("of hours {}", runs(hours, |hour| hour.to_string())))
}

fn dates(calendar: &Calendar) -> String {
    let (days, weekdays) = (&calendar.days, &calendar.weekdays);
    let every_day = days.plain == ALL_DAYS;
    let every_weekday = weekdays.plain == ALL_WEEKDAYS;
    let both = days.unrestricted || weekdays.unrestricted;
    match (every_day, every_weekday) {
        (true, true) => String::new(),
        (true, false) if both => weekdays_in_words(weekdays),
        (false, true) if both => days_in_words(days),
        (false, false) if both => {
            format!("{}, but only {}", weekdays_in_words(weekdays), days_in_words(days))
        }
        (false, false) => format!("{} or {}", days_in_words(days), weekdays_in_words(weekdays)),
        // Either may match, and one always does.
        _ => String::new(),
    }
}

fn days_in_words(days: &Days) -> String {
    let mut parts = Vec::new();
    match days.plain.count_ones() {
        0 => {}
        1 => parts.push(format!("day {} of the month", days.plain.trailing_zeros())),
        _ => parts.push(format!("days {} of the month", runs(u64::from(days.plain), |day| day.to_string()))),
    }
    for before in bits(u64::from(days.before_last)) {
        parts.push(match before {
            0 => "the last day of the month".into(),
            1 => "the day before the last of the month".into(),
            _ => format!("the day {before} days before the last of the month"),
        });
    }
    for day in bits(u64::from(days.nearest_weekday)) {
        parts.push(match day {
            0 => "the last day of the month from Monday to Friday".into(),
            _ => format!("the day from Monday to Friday nearest to day {day} of the month"),
        });
    }
    format!("on {}", joined(parts))
}

fn weekdays_in_words(weekdays: &Weekdays) -> String {
    let name = |weekday: u32| WEEKDAYS[weekday as usize].to_owned();
    let mut parts = Vec::new();
    if weekdays.plain != 0 {
        parts.push(runs(u64::from(weekdays.plain), name));
    }
    for (nth, set) in weekdays.nth.iter().enumerate() {
        parts.extend(
            bits(u64::from(*set)).map(|day| format!("the {} {} of the month", ORDINALS[nth], name(day))),
        );
    }
    parts.extend(bits(u64::from(weekdays.last)).map(|day| format!("the last {} of the month", name(day))));
    format!("on {}", joined(parts))
}

fn months(months: u16) -> String {
    if months == ALL_MONTHS {
        return String::new();
    }
    format!("in {}", runs(u64::from(months), |month| MONTHS[month as usize - 1].to_owned()))
}

/// The values of a set, three and more in a row as a range: `1 to 5, 8 and 9`.
fn runs(set: u64, name: impl Fn(u32) -> String) -> String {
    let mut parts = Vec::new();
    let mut rest = set;
    while rest != 0 {
        let first = rest.trailing_zeros();
        let length = (rest >> first).trailing_ones();
        if length >= 3 {
            parts.push(format!("{} to {}", name(first), name(first + length - 1)));
        } else {
            parts.extend((first..first + length).map(&name));
        }
        rest &= !(((1 << length) - 1) << first);
    }
    joined(parts)
}

fn joined(mut parts: Vec<String>) -> String {
    match parts.pop() {
        Some(last) if !parts.is_empty() => format!("{} and {last}", parts.join(", ")),
        Some(only) => only,
        None => String::new(),
    }
}
