//! Slots that passed while nobody could run them, and jitter.

use super::*;

#[test]
fn one_slot_at_most_ten_seconds_late_is_an_ordinary_run() {
    check(
        [job("a", "5 10 * * *").missed(MissedPolicy::Skip)],
        "10:05:10 jump",
        "10:05:10 a 10:05 schedule started as 1",
    );
    check(
        [job("a", "5 10 * * *").missed(MissedPolicy::Skip)],
        "10:05:11 jump",
        "10:05:11 a 10:05 skipped missed",
    );
}

#[test]
fn run_once_runs_the_newest_and_coalesces_the_others() {
    check(
        [job("a", "*/5 * * * *")],
        "10:05:11 jump
         10:06 ok 1
         10:22 jump
         10:23 ok 2
         10:26 tick",
        "10:05:11 a 10:05 catch_up started as 1
         10:22 a 10:10 skipped coalesced
         10:22 a 10:15 skipped coalesced
         10:22 a 10:20 catch_up started as 2
         10:25 a 10:25 schedule started as 3",
    );
}

#[test]
fn two_due_slots_are_missed_however_punctual() {
    check(
        [job("a", "* * * * * *")],
        "10:00:04 jump",
        "10:00:04 a 10:00:02 skipped coalesced
         10:00:04 a 10:00:03 skipped coalesced
         10:00:04 a 10:00:04 catch_up started as 1",
    );
}

#[test]
fn run_all_runs_them_in_order_one_at_a_time() {
    for overlap in [Overlap::Skip, Overlap::Queue, Overlap::Replace, Overlap::Allow] {
        check(
            [job("a", "*/5 * * * *").missed(MissedPolicy::RunAll).overlap(overlap)],
            "10:17 jump
             10:18 ok 1
             10:19 failed 2
             10:19:30 ok 3
             10:21 tick",
            "10:17 a 10:05 catch_up started as 1
             10:17 a 10:10 catch_up queued as 2
             10:17 a 10:15 catch_up queued as 3
             10:18 start 2
             10:19 start 3
             10:20 a 10:20 schedule started as 4",
        );
    }
}

#[test]
fn run_all_is_exempt_from_overlap_and_the_slots_that_follow_are_not() {
    check(
        [job("a", "*/5 * * * *").missed(MissedPolicy::RunAll)],
        "10:06 tick
         10:17 jump
         10:21 ok 1
         10:26 tick",
        "10:05 a 10:05 schedule started as 1
         10:17 a 10:10 catch_up queued as 2
         10:17 a 10:15 catch_up queued as 3
         10:20 a 10:20 skipped overlap
         10:21 start 2
         10:25 a 10:25 skipped overlap",
    );
}

#[test]
fn the_catch_up_of_run_once_follows_overlap() {
    check(
        [job("a", "*/5 * * * *")],
        "10:06 tick
         10:17 jump",
        "10:05 a 10:05 schedule started as 1
         10:17 a 10:10 skipped coalesced
         10:17 a 10:15 skipped overlap",
    );
}

#[test]
fn skip_records_each() {
    check(
        [job("a", "*/5 * * * *").missed(MissedPolicy::Skip)],
        "10:12 jump
         10:15 tick",
        "10:12 a 10:05 skipped missed
         10:12 a 10:10 skipped missed
         10:15 a 10:15 schedule started as 1",
    );
}

#[test]
fn within_limits_how_late_a_slot_may_still_run() {
    let run = |policy, seconds, expected: &str| {
        check([job("a", "*/5 * * * *").missed(policy).within(seconds)], "10:17 jump", expected);
    };
    run(
        MissedPolicy::RunOnce,
        120,
        "10:17 a 10:05 skipped coalesced
         10:17 a 10:10 skipped coalesced
         10:17 a 10:15 catch_up started as 1",
    );
    run(
        MissedPolicy::RunOnce,
        119,
        "10:17 a 10:05 skipped missed
         10:17 a 10:10 skipped missed
         10:17 a 10:15 skipped missed",
    );
    run(
        MissedPolicy::RunAll,
        420,
        "10:17 a 10:05 skipped missed
         10:17 a 10:10 catch_up started as 1
         10:17 a 10:15 catch_up queued as 2",
    );
}

#[test]
fn more_than_a_thousand_in_a_row_are_one_range_row() {
    check(
        [job("a", "* * * * * *")],
        "10:16:43 jump",
        "10:16:43 a 10:00:02..10:16:42 (1001) skipped coalesced
         10:16:43 a 10:16:43 catch_up started as 1",
    );
    let mut world =
        World::new(vec![table(64, [job("a", "* * * * * *")])], Recovered::default(), at("10:00:01.5"));
    world.play("10:16:42 jump");
    assert_eq!((world.rows.len(), world.rows.iter().all(|row| row.slots == 1)), (1001, true));
}

#[test]
fn a_long_past_is_counted_in_portions_and_nothing_is_accounted_for_before_its_time() {
    // Seven seconds don't divide a day, so that no day is like another.
    let jobs = table(64, [job("a", "* * * * * * + @every 7s")]);
    let mut world = World::new(vec![jobs], Recovered::default(), at("10:00:01.5"));
    world.shows_accounted = true;
    // A week and a bit: three portions.
    world.now = at("10T10:00:01");
    for _ in 0..3 {
        assert!(world.plan.next_wake().unwrap() <= world.now);
        world.handle(Event::Tick);
    }
    world.handle(Event::Tick);
    assert_eq!(
        world.transcript,
        "10T10:00:01 a 10:00:02..04T07:26:40 (249999) skipped coalesced\n\
         10T10:00:01 accounted 04T07:26:40.999999999\n\
         10T10:00:01 a 04T07:26:41..07T04:53:19 (249999) skipped coalesced\n\
         10T10:00:01 accounted 07T04:53:19.999999999\n\
         10T10:00:01 a 07T04:53:20..10T02:19:58 (249999) skipped coalesced\n\
         10T10:00:01 accounted 10T02:19:58.999999999\n\
         10T10:00:01 a 10T02:19:59..10T10:00 (27602) skipped coalesced\n\
         10T10:00:01 a 10T10:00:01 catch_up started as 1\n\
         10T10:00:01 accounted 10T10:00:01\n"
    );
}

#[test]
fn run_all_runs_at_most_ten_thousand() {
    let jobs = [job("a", "* * * * * *").missed(MissedPolicy::RunAll)];
    let mut world = World::new(vec![table(64, jobs)], Recovered::default(), at("10:00:00.5"));
    world.play("14:00 jump");
    let first = world.transcript.lines().take(2).collect::<Vec<_>>().join("\n");
    assert_eq!(
        first,
        "14:00 a 10:00:01..11:13:20 (4400) skipped missed\n14:00 a 11:13:21 catch_up started as 1"
    );
    assert_eq!(world.plan.queued().len(), 9_999);
}

#[test]
fn what_passed_while_the_daemon_was_down_follows_the_policy() {
    let jobs = || {
        table(
            64,
            [
                job("once", "*/15 * * * *"),
                job("all", "*/15 * * * *").missed(MissedPolicy::RunAll),
                job("skip", "*/15 * * * *").missed(MissedPolicy::Skip),
                job("punctual", "0 10 * * *").missed(MissedPolicy::Skip),
            ],
        )
    };
    check_from(
        vec![jobs()],
        recovered("09:30", &jobs()),
        "10:00:08",
        "10:00:09 tick",
        "10:00:08 once 09:45 skipped coalesced
         10:00:08 skip 09:45 skipped missed
         10:00:08 skip 10:00 skipped missed
         10:00:08 all 09:45 catch_up started as 1
         10:00:08 all 10:00 catch_up queued as 2
         10:00:08 once 10:00 catch_up started as 3
         10:00:08 punctual 10:00 schedule started as 4",
    );
}

#[test]
fn jitter_delays_by_a_share_fixed_for_host_and_job() {
    let share = |host: &str, name: &str, jitter| {
        slots::share(host, &job(name, "* * * * *").jitter(jitter)).as_millis()
    };
    assert_eq!(share("host", "a", 60), 57_642);
    assert_eq!(share("host", "b", 60), 49_891);
    assert_eq!(share("other", "a", 60), 58_886);
    assert_eq!(share("host", "a", 0), 0);
}

#[test]
fn a_jittered_row_carries_the_nominal_slot_and_lateness_counts_after_the_share() {
    let jobs = || [job("a", "*/5 * * * *").jitter(60).missed(MissedPolicy::Skip), job("b", "5 10 * * *")];
    let mut world = World::new(vec![table(64, jobs())], Recovered::default(), at("10:00:01"));
    world.shows_accounted = true;
    assert_eq!(world.plan.next_slot("a"), Some(at("10:05")));
    world.play("10:06 ok 2");
    world.play("10:11:07.642 jump");
    world.play("10:12 ok 3");
    world.play("10:16:07.643 jump");
    assert_eq!(
        world.transcript,
        "10:05 b 10:05 schedule started as 1\n\
         10:05 accounted 10:04:59.999999999\n\
         10:05:57.642 a 10:05 schedule started as 2\n\
         10:05:57.642 accounted 10:05:57.642\n\
         10:11:07.642 a 10:10 schedule started as 3\n\
         10:11:07.642 accounted 10:11:07.642\n\
         10:16:07.643 a 10:15 skipped missed\n\
         10:16:07.643 accounted 10:16:07.643\n"
    );
}

#[test]
fn a_slot_that_waits_for_its_share_survives_a_restart() {
    let jobs = || [job("a", "*/5 * * * *").jitter(60), job("s", "* * * * * *")];
    // `s` has rows up to 10:05:10; `a`'s share holds what is accounted for at 10:04:59.9.
    let past = Recovered {
        slots: vec![(JobName::new("s").unwrap(), at("10:05:10"))],
        ..recovered("10:04:59.999999999", &table(64, jobs()))
    };
    let mut world = World::new(vec![table(64, jobs())], past, at("10:05:12.5"));
    world.play("10:05:13 tick");
    world.play("10:05:58 tick");
    let of_a: Vec<&str> = world.transcript.lines().filter(|line| line.contains(" a ")).collect();
    assert_eq!(of_a, ["10:05:57.642 a 10:05 schedule started as 2"]);
    let first: Vec<&str> = world.transcript.lines().take(3).collect();
    assert_eq!(
        first,
        [
            "10:05:12.5 s 10:05:11 skipped coalesced",
            "10:05:12.5 s 10:05:12 catch_up started as 1",
            "10:05:13 s 10:05:13 skipped overlap",
        ]
    );
}
