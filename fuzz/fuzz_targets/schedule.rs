//! Any expression in a hard zone, from any instant: slots come one after another, or none does.
//!
//! The input: the text of one expression a line, then a byte for the zone and eight for the instant.

#![no_main]

use jiff::Timestamp;
use jiff::tz::TimeZone;
use libfuzzer_sys::{Corpus, fuzz_target};
use punk_eco_sched::schedule::Schedule;

const ZONES: &[&str] = &[
    "UTC",
    "Africa/Casablanca",
    "Africa/Monrovia",
    "America/Juneau",
    "America/Santiago",
    "America/Scoresbysund",
    "America/St_Johns",
    "Antarctica/Casey",
    "Antarctica/Troll",
    "Asia/Gaza",
    "Asia/Manila",
    "Asia/Tehran",
    "Australia/Lord_Howe",
    "Europe/Dublin",
    "Europe/Paris",
    "Pacific/Apia",
    "Pacific/Kwajalein",
];

const STEPS: usize = 300;

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some((text, place)) = input.split_last_chunk::<9>() else { return Corpus::Reject };
    let Ok(text) = std::str::from_utf8(text) else { return Corpus::Reject };
    let zone = TimeZone::get(ZONES[usize::from(place[0]) % ZONES.len()]).unwrap();
    let second = i64::from_le_bytes(place[1..].try_into().unwrap());
    // Nanoseconds of the whole range that can be told.
    let from = i128::from(second) * 10_000_000_000_000;
    let Ok(from) = Timestamp::from_nanosecond(from % Timestamp::MAX.as_nanosecond()) else {
        return Corpus::Reject;
    };
    let expressions: Vec<String> = text.split('\n').map(str::to_owned).collect();
    let schedule = match Schedule::parse(&expressions, &zone, "job") {
        Ok(schedule) => schedule,
        Err(errors) => {
            assert!(!errors.is_empty());
            for error in errors {
                assert!(!error.message.is_empty());
                let text = expressions.get(error.index).unwrap();
                if let Some(at) = error.at {
                    assert!(text.get(at.clone()).is_some(), "{at:?} is no place in {text:?}");
                }
            }
            return Corpus::Keep;
        }
    };
    assert!(!schedule.explain().is_empty());
    schedule.lint(from);
    let mut after = from;
    for _ in 0..STEPS {
        let interval = schedule.next_interval_after(after);
        let Some(slot) = schedule.next_after(after) else { break };
        assert!(slot > after, "{slot} after {after}");
        assert!(interval.is_none_or(|interval| interval >= slot), "{interval:?} before {slot}");
        let between = (after.as_nanosecond() + slot.as_nanosecond()) / 2;
        let between = Timestamp::from_nanosecond(between).unwrap();
        if between < slot {
            assert_eq!(schedule.next_after(between), Some(slot), "after {between}, which is after {after}");
        }
        after = slot;
    }
    Corpus::Keep
});
