//! Zones made from what was recorded of them.

use super::*;

fn instant(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The offset that a zone made of `then` has at each instant.
fn check(then: &[(&str, i32)], expected: &[(&str, i32)]) {
    let then: Vec<_> = then.iter().map(|(at, offset)| (instant(at), *offset)).collect();
    let zone = recorded("Europe/Paris", &then).unwrap();
    assert_eq!(zone.iana_name(), Some("Europe/Paris"));
    for (at, offset) in expected {
        assert_eq!(zone.to_offset(instant(at)).seconds(), *offset, "{at}");
    }
}

#[test]
fn a_zone_of_the_past_has_the_offsets_of_its_day() {
    // A decree that was withdrawn later: summer time begins a month early, and no winter time follows.
    check(
        &[("2026-01-10T00:00:00Z", 3600), ("2026-02-28T01:00:00Z", 7200)],
        &[
            // Before it, and beyond the two years that were recorded, as the tz database says today.
            ("2025-07-01T00:00:00Z", 7200),
            ("2025-12-01T00:00:00Z", 3600),
            ("2026-02-28T00:59:59Z", 3600),
            ("2026-02-28T01:00:00Z", 7200),
            ("2026-12-24T00:00:00Z", 7200),
            ("2028-01-05T00:00:00Z", 7200),
            ("2028-01-15T00:00:00Z", 3600),
            ("2040-07-01T00:00:00Z", 7200),
            ("2060-12-01T00:00:00Z", 3600),
        ],
    );
    check(&[], &[("2026-07-01T00:00:00Z", 7200)]);
}

#[test]
fn a_zone_that_has_not_changed_is_the_zone_of_today() {
    for name in ["Africa/Casablanca", "Australia/Lord_Howe", "UTC", "Asia/Kolkata"] {
        let today = TimeZone::get(name).unwrap();
        let from = instant("2026-11-22T22:58:20.5Z");
        let then = offsets(&today, from, from.checked_add(RECORDED_AHEAD).unwrap());
        assert_eq!(recorded(name, &then).unwrap(), today, "{name}");
    }
    assert_eq!(recorded("Mars/Olympus", &[]), None);
    let gone = recorded("Mars/Olympus", &[(instant("2026-01-10T00:00:00Z"), -5400)]).unwrap();
    assert_eq!(gone.to_offset(instant("2026-07-01T00:00:00Z")).seconds(), -5400);
}

#[test]
fn slots_follow_the_recorded_offsets() {
    let then = [(instant("2026-01-10T00:00:00Z"), 3600), (instant("2026-02-28T01:00:00Z"), 7200)];
    let zone = recorded("Europe/Paris", &then).unwrap();
    let daily = Schedule::parse(&["30 2 * * *".to_owned()], &zone, "a").unwrap();
    let mut slots = vec![instant("2026-02-27T00:00:00Z")];
    for _ in 0..3 {
        slots.push(daily.next_after(slots[slots.len() - 1]).unwrap());
    }
    // Its hour was jumped over on the 28th: the first instant after the gap.
    assert_eq!(
        slots[1..],
        ["2026-02-27T01:30:00Z", "2026-02-28T01:00:00Z", "2026-03-01T00:30:00Z"].map(instant)
    );
}
