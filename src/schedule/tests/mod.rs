mod debian_cron;
mod properties;
mod slots;
mod text;

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
    std::iter::successors(schedule.next_after(from), |slot| schedule.next_after(*slot))
        .take_while(|slot| *slot < until)
        .collect()
}
