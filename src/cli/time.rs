//! Times as people type them on the command line. One parser for every verb.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};

use crate::units::HumanDuration;

/// Reads RFC 3339 (`2026-03-28T22:00:00Z`), a date or a date and time in `zone`, a time of today, `now`, `today`,
/// `yesterday`, `tomorrow`, `-2h`, `+2h` or `2h ago`.
///
/// # Errors
/// A sentence that shows how to write it.
pub fn parse(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Timestamp, String> {
    let text = text.trim();
    let wrong = || {
        format!(
            "`{text}` is not a time: write it like 2026-03-28T22:00:00Z, `2026-03-28 22:00`, 2026-03-28, 22:00, now, \
             today, yesterday, -2h or `2h ago`"
        )
    };
    let here = now.to_zoned(zone.clone());
    match text {
        "now" => return Ok(now),
        "today" => return start_of(&here, 0).ok_or_else(wrong),
        "yesterday" => return start_of(&here, -1).ok_or_else(wrong),
        "tomorrow" => return start_of(&here, 1).ok_or_else(wrong),
        _ => {}
    }
    if let Some(shift) = shift(text) {
        let (back, by) = shift?;
        let shifted = if back { now.checked_sub(by.0) } else { now.checked_add(by.0) };
        return shifted.map_err(|_| wrong());
    }
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Ok(instant);
    }
    // A date and time with an offset that is not RFC 3339 must not be read as a local one.
    let local = if text.contains(':') && text.contains('-') {
        let offset =
            text.rfind('+').is_some() || text.matches('-').count() > 2 || text.ends_with(['Z', 'z', ']']);
        if offset { None } else { text.parse::<DateTime>().ok() }
    } else if text.contains(':') {
        text.parse::<Time>().ok().map(|time| here.date().to_datetime(time))
    } else {
        text.parse::<Date>()
            .ok()
            .filter(|_| text.contains('-'))
            .map(|date| date.to_datetime(Time::midnight()))
    };
    let local = local.ok_or_else(wrong)?;
    zone.to_ambiguous_timestamp(local).compatible().map_err(|_| wrong())
}

/// An instant as people read it, with the offset: `2026-03-29 03:00:00+02:00`.
pub fn show(instant: Timestamp, zone: &TimeZone) -> String {
    instant.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S%:z").to_string()
}

/// As [`show`], as RFC 3339: `2026-03-29T03:00:00+02:00`.
pub fn rfc3339(instant: Timestamp, zone: &TimeZone) -> String {
    instant.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

/// How far away, in its two largest units: `in 5h54m`, `2m3s ago`.
pub fn distance(instant: Timestamp, now: Timestamp) -> String {
    let seconds = instant.as_second() - now.as_second();
    let span = brief(std::time::Duration::from_secs(seconds.unsigned_abs()));
    if seconds < 0 { format!("{span} ago") } else { format!("in {span}") }
}

/// A duration in its two largest units.
pub fn brief(duration: std::time::Duration) -> String {
    let seconds = duration.as_secs();
    let grain = match seconds {
        0..3600 => 1,
        3600..86_400 => 60,
        _ => 3600,
    };
    HumanDuration(std::time::Duration::from_secs(seconds / grain * grain)).to_string()
}

fn start_of(here: &Zoned, days: i64) -> Option<Timestamp> {
    Some(here.checked_add(days.days()).ok()?.start_of_day().ok()?.timestamp())
}

/// `-2h`, `+2h`, `2h ago`: whether back, and how far.
fn shift(text: &str) -> Option<Result<(bool, HumanDuration), String>> {
    let (back, by) = if let Some(by) = text.strip_suffix("ago") {
        (true, by.trim_end())
    } else if let Some(by) = text.strip_prefix('-') {
        (true, by)
    } else {
        (false, text.strip_prefix('+')?)
    };
    Some(by.parse().map(|by| (back, by)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let zone = TimeZone::get("Europe/Paris").unwrap();
        let now: Timestamp = "2026-03-29T10:00:00Z".parse().unwrap();
        let check = |text: &str, expected: &str| {
            assert_eq!(parse(text, now, &zone).map(|at| at.to_string()), Ok(expected.to_owned()), "{text}");
        };
        check("now", "2026-03-29T10:00:00Z");
        check("2026-03-28T22:00:00Z", "2026-03-28T22:00:00Z");
        check("2026-03-28T22:00:00.5+01:00", "2026-03-28T21:00:00.5Z");
        check("2026-03-28 22:00", "2026-03-28T21:00:00Z");
        check("2026-03-28T22:00:07", "2026-03-28T21:00:07Z");
        check("2026-03-30", "2026-03-29T22:00:00Z");
        check("12:30", "2026-03-29T10:30:00Z");
        // In the gap of the spring change: the same wall time counted on from before it.
        check("2026-03-29 02:30", "2026-03-29T01:30:00Z");
        check("today", "2026-03-28T23:00:00Z");
        check("yesterday", "2026-03-27T23:00:00Z");
        check("tomorrow", "2026-03-29T22:00:00Z");
        check("-2h", "2026-03-29T08:00:00Z");
        check("+90s", "2026-03-29T10:01:30Z");
        check("2h ago", "2026-03-29T08:00:00Z");
        check(" 2h30m  ago ", "2026-03-29T07:30:00Z");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        let now: Timestamp = "2026-03-29T10:00:00Z".parse().unwrap();
        for wrong in [
            "",
            "soon",
            "2026-13-01",
            "2026",
            "20260328",
            "22",
            "2026-03-28 25:00",
            "2026-03-28 22:00+1x",
            "99:00",
        ] {
            let error = parse(wrong, now, &TimeZone::UTC).unwrap_err();
            assert!(
                error.starts_with(&format!("`{wrong}` is not a time: write it like 2026-03-28T22")),
                "{wrong}: {error}"
            );
        }
        assert_eq!(parse("-2", now, &TimeZone::UTC), Err("`2` has no unit: write 2s, 2m, 2h or 2d".into()));
        assert!(parse("-9999999d", now, &TimeZone::UTC).is_err());
    }

    #[test]
    fn distances_have_two_units() {
        let now: Timestamp = "2026-03-29T10:00:00Z".parse().unwrap();
        let check = |seconds: i64, expected: &str| {
            let at = Timestamp::from_second(now.as_second() + seconds).unwrap();
            assert_eq!(distance(at, now), expected);
        };
        check(0, "in 0s");
        check(21_270, "in 5h54m");
        check(-123, "2m3s ago");
        check(-200_000, "2d7h ago");
    }
}
