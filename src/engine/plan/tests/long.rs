//! Years of per-second slots: few rows, few portions, and each slot counted.

use std::time::Instant;

use super::*;

const YEARS: u64 = 3 * 365 * 86_400 + 86_400;

/// From 2026-01-01 10:00 over three years, with a job that is due each second from 10:00:01 on.
fn three_years(policy: MissedPolicy) -> World {
    let jobs = table(64, [job("a", "* * * * * *").missed(policy)]);
    let mut world = World::new(vec![jobs], Recovered::default(), at("10:00:00.5"));
    world.now = at("2029-01-01T10:00:00");
    world
}

impl World {
    /// Goes on until nothing is due any more; how many portions it took.
    fn portions(&mut self) -> usize {
        let mut portions = 0;
        while self.plan.next_wake().is_some_and(|wake| wake <= self.now) {
            self.handle(Event::Tick);
            portions += 1;
            assert!(portions < 100, "{}", self.transcript);
        }
        portions
    }

    #[track_caller]
    fn check_long(&self, slots: u64, rows: usize) {
        assert_eq!(self.rows.iter().map(|row| row.slots).sum::<u64>(), slots);
        assert!(self.rows.len() <= rows, "{} rows", self.rows.len());
    }
}

#[test]
fn three_years_are_dealt_with_in_a_few_portions() {
    for (policy, runs) in [(MissedPolicy::Skip, 0), (MissedPolicy::RunOnce, 1), (MissedPolicy::RunAll, 1)] {
        let mut world = three_years(policy);
        world.handle(Event::Gap { of: Duration::from_secs(YEARS) });
        let portions = world.portions();
        assert!(portions <= 4, "{portions} portions");
        world.check_long(YEARS, 10);
        let ran = world.rows.iter().filter(|row| !matches!(row.state, NewState::Skipped(_))).count();
        assert_eq!(ran, runs, "{policy:?}");
        assert_eq!(world.accounted, Some(world.now));
    }
}

#[test]
fn a_clock_that_goes_back_from_years_ahead_is_dealt_with_at_once() {
    let mut world = three_years(MissedPolicy::Skip);
    // One portion, and no more before the clock is right again.
    world.handle(Event::Tick);
    world.now = at("10:00:30");
    let began = Instant::now();
    world.handle(Event::ClockStepped { back: Some(Duration::from_secs(YEARS - 30)) });
    // A walk takes minutes.
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    // The interval slots come again from 10:00:30 on.
    world.check_long(YEARS + 1, 10);
    assert_eq!(world.accounted, Some(world.now));
}

#[test]
fn a_job_that_went_during_years_of_downtime_is_accounted_for_at_once() {
    let each_minute = || job("b", "* * * * *");
    let then = table(64, [job("a", "* * * * * *"), job("gone", "* * * * * *"), each_minute()]);
    let table = table(64, [job("a", "0 0 * * *"), each_minute()]);
    let now = at("2029-01-01T10:00:00");
    let began = Instant::now();
    let mut world = World::new(vec![table], recovered("10:00", &then), now);
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    world.portions();
    // Until a moment before now for both that are judged by the old table.
    world.check_long(2 * (YEARS - 1) + YEARS / 60, 20);
}

#[test]
fn a_pause_within_the_years_parts_what_was_missed_from_what_was_paused() {
    let mut world = three_years(MissedPolicy::RunOnce);
    let (paused, resumed) = (at("2027-03-04T05:06:07"), at("2028-02-01T00:00:00"));
    let now = std::mem::replace(&mut world.now, paused);
    world.handle(Event::Tick);
    world.portions();
    world.handle(Event::Pause { job: None, until: Some(resumed) });
    world.now = now;
    world.portions();
    world.check_long(YEARS, 20);
    let by = |reason| {
        let rows = world.rows.iter().filter(|row| row.state == NewState::Skipped(reason));
        rows.map(|row| row.slots).sum::<u64>()
    };
    // The slot of that very second had come before the pause.
    let seconds = resumed.duration_since(paused).as_secs().unsigned_abs();
    assert_eq!(by(SkipReason::Paused), seconds - 1);
}

#[test]
fn a_slot_whose_row_came_back_stands_alone_among_those_that_were_missed() {
    let jobs = table(64, [job("a", "* * * * *").overlap(Overlap::Allow)]);
    let again = |run, slot| OpenRun { epoch: 2, ..open(run, "a", Some(slot), false) };
    let past = Recovered {
        epochs: vec![(JobName::new("a").unwrap(), 1)],
        // Of the first pass over the clock.
        open: vec![again(7, "10:01"), again(8, "22:00"), open(9, "a", Some("10:03"), false)],
        ..recovered("10:00:30", &jobs)
    };
    let mut world = World::new(vec![jobs], past, at("03T10:00:05"));
    world.handle(Event::Tick);
    let rows: Vec<String> = world
        .rows
        .iter()
        .map(|row| {
            let until = row.slot_last.map_or(String::new(), |last| format!("..{last}"));
            format!("{}{until} {} epoch {}", row.slot.unwrap(), row.slots, row.epoch)
        })
        .collect();
    assert_eq!(rows.len(), 718 + 2, "{rows:?}");
    assert_eq!(rows[0], "2026-01-01T10:02:00Z 1 epoch 2");
    assert_eq!(rows[717], "2026-01-01T21:59:00Z 1 epoch 2");
    assert_eq!(rows[718], "2026-01-01T22:01:00Z..2026-01-03T09:59:00Z 2159 epoch 2");
    assert_eq!(rows[719], "2026-01-03T10:00:00Z 1 epoch 2");
}
