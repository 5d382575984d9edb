//! Leaps against a walk over each slot.

use super::*;

/// Leaps from slot to slot over the time between; each must tell of as many slots as a walk finds.
#[track_caller]
fn check(expressions: &[&str], zone: &str, from: &str, until: &str, leave: u64) -> (usize, u64) {
    let expressions: Vec<String> = expressions.iter().map(|one| (*one).to_owned()).collect();
    let schedule = Schedule::parse(&expressions, &TimeZone::get(zone).unwrap(), "a").unwrap();
    let (from, until) = (at(from), at(until));
    let walked = slots_between(&schedule, from, until);
    let (mut index, mut leaps, mut leapt) = (0, 0, 0);
    while let Some(slot) = walked.get(index) {
        let Some(leap) = schedule.leap(*slot, until, leave) else {
            index += 1;
            continue;
        };
        let count = usize::try_from(leap.count).unwrap();
        assert_eq!(
            walked.get(index + count - 1),
            Some(&leap.last),
            "{count} slots from {slot}: {schedule:?}"
        );
        assert!(walked.len() - index - count >= usize::try_from(leave).unwrap(), "{slot}: {schedule:?}");
        index += count;
        leaps += 1;
        leapt += leap.count;
    }
    assert!(leapt <= walked.len() as u64);
    (leaps, leapt)
}

#[test]
fn days_that_are_alike_are_counted_once() {
    let (from, until) = ("2026-01-01T12:00:00Z", "2026-12-31T12:00:00Z");
    // All but the last days, which the `leave` asks for: the half of a day before the first midnight, and 362 days.
    assert_eq!(check(&["*/5 * * * *"], "UTC", from, until, 1), (1, 362 * 288 + 143));
    // The clock changes twice: three leaps, and the days of the changes by hand.
    assert_eq!(check(&["*/5 * * * *"], "Europe/Paris", from, until, 10), (3, 24_611 + 60_156 + 18_984));
    for zone in ["UTC", "Europe/Paris", "Australia/Lord_Howe", "Africa/Casablanca", "America/St_Johns"] {
        for expressions in [
            &["30 2 * * *"][..],
            &["0 */2 * * 1-5", "15,30 3 1,15 * *"],
            &["*/10 9-17 * * MON", "0 0 L * *", "@every 90m"],
            &["0 0 1 1 *", "7 */3 * 6 *"],
        ] {
            let (leaps, leapt) = check(expressions, zone, from, until, 3);
            assert!(leaps > 0 && leapt > 0, "{expressions:?} {zone}");
        }
    }
    // A day that Samoa never had.
    let (from, until) = ("2011-10-01T00:00:00Z", "2012-03-01T00:00:00Z");
    assert!(check(&["*/30 * * * *", "10 12 30 * *"], "Pacific/Apia", from, until, 100).0 > 0);
}

#[test]
fn what_does_not_repeat_each_day_or_is_too_short_is_left_to_a_walk() {
    assert_eq!(check(&["@every 7m"], "UTC", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z", 1), (0, 0));
    assert_eq!(check(&["* * * * *"], "UTC", "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z", 1), (0, 0));
    assert_eq!(check(&["0 * * * *"], "UTC", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z", 1000), (0, 0));
}
