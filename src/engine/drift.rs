//! Tells a clock that was set from one that is merely disciplined.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::clock::Clock;

/// How far the wall clock may drift from the time since boot, between two looks, and not have been set.
const STEP: Duration = Duration::from_secs(1);

pub(super) struct Drift {
    /// Wall clock minus time since boot, at the last look.
    base: SignedDuration,
}

impl Drift {
    pub(super) fn new(clock: &dyn Clock) -> Self {
        Self { base: measure(clock.now(), clock.since_boot()) }
    }

    /// How far the clock was set since the last look; negative: back.
    pub(super) fn look(&mut self, now: Timestamp, since_boot: Duration) -> Option<SignedDuration> {
        let found = measure(now, since_boot);
        let step = found - std::mem::replace(&mut self.base, found);
        (step.unsigned_abs() > STEP).then_some(step)
    }
}

fn measure(now: Timestamp, since_boot: Duration) -> SignedDuration {
    now.duration_since(Timestamp::UNIX_EPOCH)
        - SignedDuration::try_from(since_boot).unwrap_or(SignedDuration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn a_step_is_told_from_time_that_passes() {
        let clock = ManualClock::new("2026-01-01T00:00:00Z".parse().unwrap());
        let mut drift = Drift::new(&clock);
        clock.advance(Duration::from_secs(7200));
        assert_eq!(drift.look(clock.now(), clock.since_boot()), None);
        clock.step_to("2026-01-01T01:00:00Z".parse().unwrap());
        assert_eq!(drift.look(clock.now(), clock.since_boot()), Some(SignedDuration::from_hours(-1)));
        assert_eq!(drift.look(clock.now(), clock.since_boot()), None);
    }
}
