//! Long gaps and wrong clocks: what is made up for once the time is known again, and what is not.

use super::*;

#[test]
fn after_a_long_gap_no_job_runs_more_than_once() {
    let days = |days: u64| Duration::from_secs(days * 86_400);
    let catch_ups = |gap: Duration| {
        let mut world = World::new(
            vec![table(64, [job("a", "0 6 * * *").missed(MissedPolicy::RunAll)])],
            Recovered::default(),
            at("10:00"),
        );
        world.now += gap;
        world.handle(Event::Gap { of: gap });
        let runs = world.transcript.lines().filter(|line| line.contains(" catch_up ")).count();
        let coalesced = world.transcript.lines().filter(|line| line.ends_with("skipped coalesced")).count();
        // Once it is over, the policy is what it was.
        world.transcript.clear();
        while let Some(run) = world.runs.iter().find(|(_, run)| run.started).map(|(run, _)| *run) {
            world.end(run, Outcome::Succeeded);
        }
        world.now += days(3);
        world.handle(Event::Tick);
        let after = world.transcript.lines().filter(|line| line.contains(" catch_up ")).count();
        (runs, coalesced, after)
    };
    assert_eq!(catch_ups(days(30)), (30, 0, 3));
    assert_eq!(catch_ups(days(30) + Duration::from_secs(1)), (1, 29, 3));
}

#[test]
fn a_ledger_of_long_ago_is_said_and_runs_each_job_once_at_most() {
    let jobs = || {
        table(
            64,
            [
                job("a", "0 6 * * *").missed(MissedPolicy::RunAll),
                job("b", "0 7 1 1 *").missed(MissedPolicy::RunAll),
            ],
        )
    };
    let world = World::new(vec![jobs()], recovered("10:00", &jobs()), at("2026-02-01T05:00"));
    let lines: Vec<&str> = world.transcript.lines().collect();
    assert_eq!(
        lines[..3],
        [
            "2026-02-01T05:00 far behind",
            "2026-02-01T05:00 notice the ledger's last instant, 2026-01-01T10:00:00Z, lies 30d19h ago: each job runs \
             at most once for the slots since then, and old rows are kept for a day",
            "2026-02-01T05:00 a 02T06:00 skipped coalesced",
        ]
    );
    // The other is of one slot a year, which had passed before.
    let last = "2026-02-01T05:00 a 31T06:00 catch_up started as 1";
    assert_eq!((lines.len(), lines[lines.len() - 1]), (2 + 30, last));
}

#[test]
fn a_boot_in_1970_replays_nothing_once_the_clock_is_right() {
    let jobs = [job("hourly", "0 * * * *"), job("daily", "0 6 * * *")]
        .map(|job| job.missed(MissedPolicy::RunAll).overlap(Overlap::Allow));
    let jobs = table(64, jobs);
    let past =
        Recovered { slots: vec![(JobName::new("daily").unwrap(), at("06:00"))], ..recovered("09:00", &jobs) };
    let mut world = World::new(vec![jobs], past, at("1970-01-01T00:00:30"));
    world.play("1970-01-01T00:01 tick");
    world.transcript.clear();
    let gap = at("02T10:30").duration_since(world.now).unsigned_abs();
    world.now = at("02T10:30");
    world.handle(Event::Gap { of: gap });
    world.handle(Event::ClockStepped { back: None });
    // Whole days are counted at once, so that nothing is left for another turn.
    assert!(world.plan.next_wake().is_none_or(|wake| wake > world.now));
    world.play("02T11:00 tick");
    let lines: Vec<&str> = world.transcript.lines().skip(1).collect();
    assert_eq!(
        lines,
        [
            "02T10:30 hourly 1970-01-01T01:00..02T09:00 (490929) epoch 1 skipped coalesced",
            "02T10:30 daily 1970-01-01T06:00..06:00 (20455) skipped coalesced",
            "02T10:30 daily 02T06:00 catch_up started as 1",
            "02T10:30 hourly 02T10:00 epoch 1 catch_up started as 2",
            "02T11:00 hourly 02T11:00 epoch 1 schedule started as 3",
        ]
    );
}

/// Its only slot would have no run at all.
#[test]
fn a_missed_slot_is_not_left_to_one_that_had_its_row_before_the_clock_was_set_back() {
    let before = || table(64, [job("a", "8 10 * * *")]);
    let after = || table(64, [job("a", "4,8 10 * * *")]);
    let script = |first: &str| {
        format!(
            "{first}
             10:01 back
             10:01 reload 1
             10:12 jump"
        )
    };
    check_from(
        vec![before(), after()],
        Recovered::default(),
        "10:00",
        &script("10:09 tick"),
        "10:08 a 10:08 schedule started as 1
         10:12 a 10:04 skipped overlap",
    );
    check_from(
        vec![before(), after()],
        Recovered::default(),
        "10:00",
        &script("10:09 tick\n10:10 ok 1"),
        "10:08 a 10:08 schedule started as 1
         10:12 a 10:04 catch_up started as 2",
    );
    // Nor to several, and those before it are coalesced with it.
    check_from(
        vec![table(64, [job("a", "7-9 10 * * *")]), table(64, [job("a", "3-9 10 * * *")])],
        Recovered::default(),
        "10:00",
        "10:06 pause a
         10:09 tick
         10:10 resume a
         10:01 back
         10:01 reload 1
         10:12 jump",
        "10:07 a 10:07 skipped paused
         10:08 a 10:08 skipped paused
         10:09 a 10:09 skipped paused
         10:12 a 10:03 skipped coalesced
         10:12 a 10:04 skipped coalesced
         10:12 a 10:05 skipped coalesced
         10:12 a 10:06 catch_up started as 1",
    );
}

/// They are counted at once, and the range row ends before the one that runs.
#[test]
fn the_last_of_a_range_of_missed_slots_runs_for_those_that_had_their_rows() {
    let every_second = "* 0-59 10 * * *";
    check_from(
        vec![table(64, [job("a", "58-59 59 10 * * *")]), table(64, [job("a", every_second)])],
        Recovered::default(),
        "10:59:50",
        "10:59:59 jump
         10:59:59.5 ok 1
         10:05 back
         10:05 reload 1
         10:05:00.5 ok 2
         10:59:59.9 jump",
        "10:59:59 a 10:59:58 skipped coalesced
         10:59:59 a 10:59:59 catch_up started as 1
         10:05 a 10:05 schedule started as 2
         10:59:59.9 a 10:05:01..10:59:56 (3296) skipped coalesced
         10:59:59.9 a 10:59:57 catch_up started as 3",
    );
}
