//! Clocks that are set, and boots.

use super::*;

fn mixed() -> [JobSpec; 3] {
    [job("every", "*/5 * * * *"), job("fixed", "7 10 * * *"), job("both", "8 10 * * * + */10 * * * *")]
        .map(|job| job.overlap(Overlap::Allow))
}

#[test]
fn after_a_set_back_intervals_repeat_under_a_new_epoch_and_fixed_times_do_not() {
    check(
        mixed(),
        "10:11 tick
         10:01 back
         10:16 tick",
        "10:05 every 10:05 schedule started as 1
         10:07 fixed 10:07 schedule started as 2
         10:08 both 10:08 schedule started as 3
         10:10 both 10:10 schedule started as 4
         10:10 every 10:10 schedule started as 5
         10:05 every 10:05 epoch 1 schedule started as 6
         10:07 fixed 10:07 already
         10:08 both 10:08 already
         10:10 both 10:10 epoch 1 schedule started as 7
         10:10 every 10:10 epoch 1 schedule started as 8
         10:15 every 10:15 epoch 1 schedule started as 9",
    );
}

#[test]
fn the_event_and_the_clock_itself_tell_of_one_step_only() {
    check(
        [job("a", "*/5 * * * *").overlap(Overlap::Allow)],
        "10:11 tick
         10:01 stepped 600
         10:01:01 tick
         10:06 tick
         10:02 back
         10:06 tick",
        "10:05 a 10:05 schedule started as 1
         10:10 a 10:10 schedule started as 2
         10:05 a 10:05 epoch 1 schedule started as 3
         10:05 a 10:05 epoch 2 schedule started as 4",
    );
}

#[test]
fn a_step_back_of_at_most_ten_seconds_is_ignored() {
    check(
        [job("a", "*/5 * * * *").overlap(Overlap::Allow)],
        "10:05:01 tick
         10:04:51 back
         10:05:02 tick
         10:10 tick",
        "10:05 a 10:05 schedule started as 1
         10:10 a 10:10 schedule started as 2",
    );
}

#[test]
fn small_steps_add_up() {
    check(
        [job("a", "* * * * * *").overlap(Overlap::Allow)],
        "10:00:03 tick
         09:59:58 back
         09:59:52 back
         09:59:53 tick",
        "10:00:02 a 10:00:02 schedule started as 1
         10:00:03 a 10:00:03 schedule started as 2
         09:59:52 a 09:59:52 epoch 1 schedule started as 3
         09:59:53 a 09:59:53 epoch 1 schedule started as 4",
    );
}

#[test]
fn a_step_measured_better_than_from_event_to_event_counts_in_full() {
    // The last event was 5 s before where the clock is now, yet it was set back by 50.
    check(
        [job("a", "*/5 * * * *").overlap(Overlap::Allow)],
        "10:05:00 tick
         10:04:55 stepped 50
         10:05 tick",
        "10:05 a 10:05 schedule started as 1
         10:05 a 10:05 epoch 1 schedule started as 2",
    );
}

#[test]
fn a_set_back_without_slots_to_repeat_repeats_none() {
    check(
        [job("a", "*/5 * * * *")],
        "10:04 jump
         10:02 back
         10:05 tick",
        "10:05 a 10:05 epoch 1 schedule started as 1",
    );
}

#[test]
fn a_repeated_fixed_slot_never_replaces_the_run_it_stands_for() {
    check(
        [job("a", "5 10 * * *").overlap(Overlap::Replace)],
        "10:06 tick
         10:01 back
         10:06 tick",
        "10:05 a 10:05 schedule started as 1
         10:05 a 10:05 already",
    );
}

#[test]
fn a_bad_clock_at_boot_costs_no_fixed_slot_once_it_is_right() {
    check_from(
        vec![table(64, [job("a", "5 10 * * *").overlap(Overlap::Allow)])],
        Recovered::default(),
        "2030-06-01T00:00",
        "2030-06-01T10:06 tick
         10:00 back
         10:06 tick",
        "2030-06-01T10:05 a 2030-06-01T10:05 schedule started as 1
         10:05 a 10:05 schedule started as 2",
    );
}

#[test]
fn a_step_forward_makes_missed_slots() {
    check(
        [job("a", "*/5 * * * *")],
        "10:04 tick
         10:17 jump",
        "10:17 a 10:05 skipped coalesced
         10:17 a 10:10 skipped coalesced
         10:17 a 10:15 catch_up started as 1",
    );
}

#[test]
fn the_alarm_is_right_after_steps() {
    let mut world = World::new(
        vec![table(64, [job("a", "*/5 * * * *").jitter(60)])],
        Recovered::default(),
        at("10:00:01"),
    );
    let wake = |world: &mut World, line: &str| {
        world.play(line);
        show(world.plan.next_wake().unwrap())
    };
    assert_eq!(wake(&mut world, "10:00:02 tick"), "10:05:57.642");
    assert_eq!(wake(&mut world, "11:00 jump"), "11:00:57.642");
    // The slot of 10:30 had its row before, and the clock does not come by it again.
    assert_eq!(wake(&mut world, "10:30:20 back"), "10:35:57.642");
    assert_eq!(wake(&mut world, "10:30:15 back"), "10:35:57.642");
    assert_eq!(wake(&mut world, "10:29:59 back"), "10:30:57.642");
}

#[test]
fn a_ledger_of_the_future_is_not_believed() {
    let jobs = || table(64, [job("a", "*/5 * * * *"), job("b", "6 10 * * *")]);
    let name = |text: &str| JobName::new(text).unwrap();
    let past = Recovered {
        slots: vec![(name("a"), at("12:00")), (name("b"), at("10:06"))],
        ..recovered("12:00", &jobs())
    };
    check_from(
        vec![jobs()],
        past,
        "10:01",
        "10:06 tick",
        "10:01 notice the ledger's last instant, 2026-01-01T12:00:00Z, lies in the future: the clock was wrong then or \
         is wrong now (2026-01-01T10:01:00Z); it is not believed, and scheduling goes on from now
         10:05 a 10:05 epoch 1 schedule started as 1
         10:06 b 10:06 schedule started as 2",
    );
}

#[test]
fn epochs_go_on_after_a_restart() {
    let jobs = || table(64, [job("a", "*/5 * * * *"), job("b", "6 10 * * *")]);
    let name = |text: &str| JobName::new(text).unwrap();
    let past = Recovered {
        epochs: vec![(name("a"), 3)],
        slots: vec![(name("a"), at("10:02"))],
        ..recovered("10:02", &jobs())
    };
    check_from(
        vec![jobs()],
        past,
        "10:03",
        "10:06 tick",
        "10:05 a 10:05 epoch 3 schedule started as 1
         10:06 b 10:06 schedule started as 2",
    );
}

#[test]
fn reboot_jobs_are_claimed_at_start_with_the_boots_time() {
    let boot = || Recovered { boot: Some(at("09:00")), ..Recovered::default() };
    let jobs = || {
        [
            job("a", "@reboot"),
            job("b", "@reboot + */30 * * * *"),
            job("c", "@reboot").disabled(),
            job("d", "@reboot").jitter(28800),
        ]
    };
    check_from(
        vec![table(64, jobs())],
        boot(),
        "10:00:01",
        "11:00 tick",
        "10:00:01 a 09:00 schedule started as 1
         10:00:01 b 09:00 schedule started as 2
         10:30 b 10:30 skipped overlap
         10:32:07.724 d 09:00 schedule started as 3
         11:00 b 11:00 skipped overlap",
    );
}

#[test]
fn time_stands_still_after_a_small_step_back() {
    // Not one slot twice, nor before the clock shows its time again; and what is due by then is no more than punctual.
    check(
        [job("a", "*/2 * * * * *").overlap(Overlap::Allow), job("b", "4 0 10 * * *")],
        "10:00:05 tick
         09:59:55 back
         09:59:58 stepped 5
         10:00:02 tick
         10:00:05.9 tick
         10:00:08 tick",
        "10:00:02 a 10:00:02 schedule started as 1
         10:00:04 a 10:00:04 schedule started as 2
         10:00:04 b 10:00:04 schedule started as 3
         10:00:06 a 10:00:06 schedule started as 4
         10:00:08 a 10:00:08 schedule started as 5",
    );
}

#[test]
fn ten_seconds_back_are_few_and_more_are_not() {
    let slot = |back: &str, expected: &str| {
        check(
            [job("a", "*/5 * * * *").overlap(Overlap::Allow)],
            &format!("10:05 tick\n10:05:01 jump\n{back} back\n10:05:02 tick"),
            &format!("10:05 a 10:05 schedule started as 1{expected}"),
        );
    };
    slot("10:04:51", "");
    slot("10:04:50.999", "\n10:05 a 10:05 epoch 1 schedule started as 2");
}

#[test]
fn a_step_to_exactly_a_slot_comes_by_it() {
    check(
        [job("a", "*/5 * * * *").overlap(Overlap::Allow), job("b", "5 10 * * *")],
        "10:10 tick
         10:05 back
         10:15 jump",
        "10:05 a 10:05 schedule started as 1
         10:05 b 10:05 schedule started as 2
         10:10 a 10:10 schedule started as 3
         10:05 a 10:05 epoch 1 schedule started as 4
         10:05 b 10:05 already
         10:15 a 10:10 epoch 1 skipped coalesced
         10:15 a 10:15 epoch 1 catch_up started as 5",
    );
}

#[test]
fn what_jitter_held_back_is_settled_before_the_clock_goes_back() {
    // On this host a is due 57.6 s after its slots.
    check(
        [job("a", "*/5 * * * *").jitter(60).overlap(Overlap::Allow)],
        "10:05:40 jump
         10:05:20 back
         10:06 tick
         10:04 back
         10:06 tick",
        "10:05:20 a 10:05 schedule started as 1
         10:05:57.642 a 10:05 epoch 2 schedule started as 2",
    );
}

#[test]
fn rows_of_a_future_that_did_not_come_keep_no_slot_from_running() {
    // The clock is a day ahead for a minute; each slot of that day comes all the same, those of a range row too.
    let dense = format!("{} * * * *", (0..60).map(|minute| minute.to_string()).collect::<Vec<_>>().join(","));
    let dense = dense.replacen("* * *", "0-23 * *", 1);
    assert!(dense.ends_with(",59 0-23 * * *"), "{dense}");
    let jobs = [job("daily", "0 12 * * *"), job("dense", &dense)].map(|job| job.missed(MissedPolicy::Skip));
    let mut world = World::new(vec![table(64, jobs)], Recovered::default(), at("10:00:30"));
    for line in ["02T10:00:30 jump", "10:01:30 back"] {
        world.play(line);
    }
    assert_eq!(
        world.transcript,
        "02T10:00:30 dense 10:01..02T09:59 (1439) skipped missed\n\
         02T10:00:30 dense 02T10:00 skipped missed\n\
         02T10:00:30 daily 12:00 skipped missed\n"
    );
    world.transcript.clear();
    world.play("10:02 tick");
    world.play("10:02:30 ok 1");
    world.play("10:03 tick");
    world.play("10:03:30 ok 2");
    assert_eq!(
        world.transcript,
        "10:02 dense 10:02 schedule started as 1\n10:03 dense 10:03 schedule started as 2\n"
    );
    world.play("11:59:59 jump");
    world.play("12:00 tick");
    let daily: Vec<&str> = world.transcript.lines().filter(|line| line.contains("daily")).collect();
    assert_eq!(daily, ["12:00 daily 12:00 taken as epoch 1 schedule started as 3"]);
    // What ran is not run again, whatever the clock does next.
    world.transcript.clear();
    world.play("12:00:05 ok 3");
    world.play("11:59 back");
    world.play("12:00 tick");
    assert!(world.transcript.contains("12:00 daily 12:00 already"), "{}", world.transcript);
}
