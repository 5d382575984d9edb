mod debian_cron;
mod leap;
mod properties;
mod recorded;
mod slots;
mod text;
mod zones;

use super::*;

fn schedule(expression: &str, zone: &str) -> Schedule {
    let zone = TimeZone::get(zone).unwrap();
    Schedule::parse(&[expression.to_owned()], &zone, "db-backup").unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The slots after `from` and before `until`.
fn slots_between(schedule: &Schedule, from: Timestamp, until: Timestamp) -> Vec<Timestamp> {
    let mut slots = vec![from];
    while let Some(slot) = schedule.next_after(slots[slots.len() - 1]).filter(|slot| *slot < until) {
        // Without this, a wrong answer would hang the test.
        assert!(slot > slots[slots.len() - 1], "{slot} twice, or backwards: {schedule:?}");
        slots.push(slot);
    }
    slots.split_off(1)
}
