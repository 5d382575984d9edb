//! Our slots against what Debian's own cron was seen to do on days when clocks change. The records and the
//! script that made them are in `tests/data/debian-cron`.
//!
//! One difference, on purpose: cron runs a job once for each of its times that a gap jumped over, all at the
//! same minute. To us those are one slot, since a slot is an instant and has one row in the ledger. A job
//! that fires each 20 minutes has no use for four runs at once.

use super::*;

fn check(record: &str) {
    let mut lines = record.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (key, value) = line.split_once('\t').unwrap();
        (key, value.split_whitespace().collect::<Vec<_>>())
    });
    let mut header = |name: &str| {
        let (key, value) = lines.next().unwrap();
        assert_eq!(key, name);
        value[0]
    };
    let (zone, from, until) = (header("zone"), at(header("from")), at(header("until")));
    let mut compared = 0;
    for (expression, mut seen) in lines {
        seen.dedup();
        let ours = slots_between(&schedule(expression, zone), from, until);
        let ours: Vec<String> = ours.iter().map(Timestamp::to_string).collect();
        assert_eq!(ours, seen, "`{expression}` in {zone} from {from}");
        compared += 1;
    }
    assert!(compared >= 8, "the record of {zone} is cut off");
}

#[test]
fn an_hour_is_skipped_in_paris() {
    check(include_str!("../../../tests/data/debian-cron/paris-spring.tsv"));
}

#[test]
fn an_hour_comes_twice_in_paris() {
    check(include_str!("../../../tests/data/debian-cron/paris-autumn.tsv"));
}

#[test]
fn half_an_hour_is_skipped_on_lord_howe_island() {
    check(include_str!("../../../tests/data/debian-cron/lord-howe-spring.tsv"));
}

#[test]
fn half_an_hour_comes_twice_on_lord_howe_island() {
    check(include_str!("../../../tests/data/debian-cron/lord-howe-autumn.tsv"));
}

#[test]
fn the_hour_after_midnight_is_skipped_in_santiago() {
    check(include_str!("../../../tests/data/debian-cron/santiago-spring.tsv"));
}

#[test]
fn the_hour_before_midnight_comes_twice_in_santiago() {
    check(include_str!("../../../tests/data/debian-cron/santiago-autumn.tsv"));
}
