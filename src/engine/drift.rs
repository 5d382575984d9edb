//! Tells a clock that was set from one that is merely disciplined, and a machine that slept from one that was awake.
//!
//! Pure: three clocks are compared from one look to the next. What follows from it is the engine's.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::clock::Clock;

/// How far two clocks may drift apart, between two looks, with no step and no suspend to explain it.
const STEP: Duration = Duration::from_secs(1);

/// How long the three readings of one look may take, and how often they are tried: a process that is stopped between
/// two of them would see a step where there is none.
const AT_ONCE: Duration = Duration::from_millis(100);
const TRIES: usize = 20;

pub(super) struct Drift {
    last: Reading,
}

#[derive(Clone, Copy)]
struct Reading {
    now: Timestamp,
    since_boot: Duration,
    awake: Duration,
}

/// What became of the clocks since the look before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Look {
    pub(super) now: Timestamp,
    /// The instant of the look before.
    pub(super) before: Timestamp,
    /// What the wall clock would say had nobody set it.
    pub(super) unset: Timestamp,
    /// How far it was set; negative: back.
    pub(super) step: Option<SignedDuration>,
    /// How long the machine slept.
    pub(super) suspended: Option<Duration>,
}

impl Drift {
    pub(super) fn new(clock: &dyn Clock) -> Self {
        Self { last: read(clock) }
    }

    pub(super) fn look(&mut self, clock: &dyn Clock) -> Look {
        let found = read(clock);
        let last = std::mem::replace(&mut self.last, found);
        let passed = found.since_boot.saturating_sub(last.since_boot);
        let unset = last.now.checked_add(passed).unwrap_or(Timestamp::MAX);
        let step = found.now.duration_since(unset);
        let suspended = passed.saturating_sub(found.awake.saturating_sub(last.awake));
        Look {
            now: found.now,
            before: last.now,
            unset,
            step: (step.unsigned_abs() > STEP).then_some(step),
            suspended: (suspended > STEP).then_some(suspended),
        }
    }
}

fn read(clock: &dyn Clock) -> Reading {
    let mut tries = 0..TRIES;
    loop {
        let since_boot = clock.since_boot();
        let reading = Reading { now: clock.now(), since_boot, awake: clock.awake() };
        if clock.since_boot().saturating_sub(since_boot) < AT_ONCE || tries.next().is_none() {
            return reading;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Alarm, ManualClock, OnWake};

    fn at(text: &str) -> Timestamp {
        format!("2026-01-01T{text}Z").parse().unwrap()
    }

    #[test]
    fn steps_and_suspends_are_told_from_time_that_passes() {
        let clock = ManualClock::new(at("00:00:00"));
        let mut drift = Drift::new(&clock);
        let mut check = |step: Option<i64>, suspended: Option<u64>, unset: &str| {
            let look = drift.look(&clock);
            let found = (look.step.map(|step| step.as_secs()), look.suspended.map(|by| by.as_secs()));
            assert_eq!((found, look.unset), ((step, suspended), at(unset)));
        };
        clock.advance(Duration::from_secs(7200));
        check(None, None, "02:00:00");
        clock.step_to(at("01:00:00"));
        check(Some(-3600), None, "02:00:00");
        check(None, None, "01:00:00");
        clock.step_to(at("01:00:01"));
        check(None, None, "01:00:00");
        clock.suspend(Duration::from_secs(600));
        check(None, Some(600), "01:10:01");
        clock.advance(Duration::from_secs(59));
        clock.suspend(Duration::from_secs(60));
        clock.step_to(at("05:00:00"));
        check(Some(3 * 3600 + 48 * 60), Some(60), "01:12:00");
        clock.suspend(Duration::from_secs(1));
        check(None, None, "05:00:01");
    }

    /// The process is stopped for a minute after each of its first readings of the wall clock.
    struct Stopped(ManualClock, std::sync::atomic::AtomicUsize);

    impl Clock for Stopped {
        fn now(&self) -> Timestamp {
            let now = self.0.now();
            let left = &self.1;
            if left.load(std::sync::atomic::Ordering::Relaxed) > 0 {
                left.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
                self.0.advance(Duration::from_secs(60));
            }
            now
        }
        fn since_boot(&self) -> Duration {
            self.0.since_boot()
        }
        fn awake(&self) -> Duration {
            self.0.awake()
        }
        fn alarm(&self, on_wake: OnWake) -> std::io::Result<Box<dyn Alarm>> {
            self.0.alarm(on_wake)
        }
    }

    #[test]
    fn a_process_that_is_stopped_between_two_readings_sees_no_step() {
        let clock = Stopped(ManualClock::new(at("00:00:00")), 0.into());
        let mut drift = Drift::new(&clock);
        clock.1.store(3, std::sync::atomic::Ordering::Relaxed);
        let look = drift.look(&clock);
        assert_eq!((look.step, look.suspended, look.now), (None, None, at("00:03:00")));
    }
}
