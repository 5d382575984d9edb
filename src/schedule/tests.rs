//! Slots, as the contract states them, and in the zones and years where it is hard.

use super::*;

fn slots(expression: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
    let zone = TimeZone::get(zone).unwrap();
    let schedule = Schedule::parse(&[expression.to_owned()], &zone, "job").unwrap();
    let first: Timestamp = after.parse().unwrap();
    std::iter::successors(schedule.next_after(first), |slot| schedule.next_after(*slot))
        .take(count)
        .map(|slot| slot.to_string())
        .collect()
}

fn check(expression: &str, zone: &str, after: &str, expected: &[&str]) {
    assert_eq!(
        slots(expression, zone, after, expected.len()),
        expected,
        "`{expression}` in {zone} after {after}"
    );
}

#[test]
fn a_fixed_time_in_the_spring_gap_comes_at_its_end() {
    check(
        "30 2 * * *",
        "Europe/Paris",
        "2026-03-28T22:00:00Z",
        &["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"],
    );
}

#[test]
fn an_interval_goes_on_through_the_autumn_overlap() {
    check(
        "*/30 * * * *",
        "Europe/Paris",
        "2026-10-24T23:30:00Z",
        &[
            "2026-10-25T00:00:00Z",
            "2026-10-25T00:30:00Z",
            "2026-10-25T01:00:00Z",
            "2026-10-25T01:30:00Z",
            "2026-10-25T02:00:00Z",
        ],
    );
}
