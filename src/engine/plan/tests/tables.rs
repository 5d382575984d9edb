//! Tables that change: at a reload, and while the daemon was down.

use super::*;

#[track_caller]
fn reload(before: Vec<JobSpec>, after: Vec<JobSpec>, script: &str, expected: &str) {
    let tables = vec![table(64, before), table(64, after)];
    check_from(tables, Recovered::default(), "10:00:01", script, expected);
}

#[test]
fn an_unchanged_schedule_keeps_its_place_and_a_new_one_counts_from_now() {
    reload(
        vec![job("same", "*/5 * * * *"), job("changed", "*/5 * * * *")],
        vec![job("same", "*/5 * * * *"), job("changed", "*/3 * * * *"), job("new", "* * * * *")],
        // The reload comes before anything has looked at the slots of 10:05.
        "10:05:01 jump
         10:05:02 reload 1
         10:06 tick",
        "10:05:01 changed 10:05 schedule started as 1
         10:05:01 same 10:05 schedule started as 2
         10:06 changed 10:06 skipped overlap
         10:06 new 10:06 schedule started as 3",
    );
}

#[test]
fn slots_due_before_the_reload_are_found_by_the_old_table() {
    let tables = vec![
        table(64, [job("a", "5 10 * * *"), job("gone", "5 10 * * *")]),
        table(64, [job("a", "9 10 * * *")]),
    ];
    let mut world = World::new(tables, Recovered::default(), at("10:00:01"));
    world.shows_accounted = true;
    world.now = at("10:05:03");
    let new = world.tables[1].clone();
    world.handle(Event::Reload(new));
    world.play("10:10 tick");
    assert_eq!(
        world.transcript,
        "10:05:03 gone 10:05 skipped removed\n\
         10:05:03 a 10:05 schedule started as 1\n\
         10:05:03 accounted 10:05:03\n\
         10:09 a 10:09 skipped overlap\n\
         10:09 accounted 10:09\n"
    );
}

#[test]
fn a_run_of_a_removed_job_goes_on_and_what_waits_is_dropped() {
    reload(
        vec![job("a", "*/5 * * * *").overlap(Overlap::Queue).group("g"), job("b", "6 10 * * *").group("g")],
        vec![job("b", "6 10 * * *").group("g")],
        "10:11 reload 1
         10:12 ok 1
         10:13 manual a",
        "10:05 a 10:05 schedule started as 1
         10:06 b 10:06 schedule queued as 2
         10:10 a 10:10 schedule queued as 3
         10:11 drop 3 removed
         10:12 start 2
         10:13 refuse UnknownJob",
    );
}

#[test]
fn a_run_of_a_job_that_is_gone_keeps_its_group_over_a_restart() {
    let new = table(64, [job("b", "6 10 * * *").group("g")]);
    let past = Recovered {
        open: vec![open(1, "a", Some("10:05"), false)],
        groups: [(JobName::new("a").unwrap(), "g".to_owned())].into(),
        ..recovered("10:05:30", &table(64, [job("a", "5 10 * * *").group("g")]))
    };
    check_from(
        vec![new],
        past,
        "10:05:40",
        "10:07 ok 1",
        "10:06 b 10:06 schedule queued as 2
         10:07 start 2",
    );
}

#[test]
fn a_table_of_a_small_step_back_counts_from_where_time_stands_still() {
    let tables = vec![table(64, [job("a", "0 12 * * *")]), table(64, [job("a", "* * * * *")])];
    let mut world = World::new(tables, Recovered::default(), at("10:00:01"));
    world.play("10:05:03 jump");
    world.play("10:04:58 back");
    let now = at("10:04:58");
    assert_eq!(world.plan.reached(now), at("10:05:03"));
    let new = world.tables[1].clone();
    world.handle(Event::Reload(new));
    world.play("10:05:30 tick");
    // 10:05 had passed when the table came.
    assert_eq!(world.transcript, "");
    assert_eq!(world.plan.next_slot("a"), Some(at("10:06")));
    assert_eq!(world.plan.reached(at("10:05:30")), at("10:05:30"));
}

#[test]
fn a_table_from_before_a_set_back_does_not_hold_back_what_came_after_it() {
    // It came into force at 12:00; the clock was set back to 9:00, and the daemon died at 9:30.
    let with = |since: Option<&str>| {
        let past = table(64, [job("a", "0 * * * *").missed(MissedPolicy::RunAll)]);
        let recovered = Recovered { past_since: since.map(at), ..recovered("09:30", &past) };
        World::new(vec![past], recovered, at("11:30:00")).transcript
    };
    let all = "11:30 a 10:00 catch_up started as 1\n11:30 a 11:00 catch_up queued as 2\n";
    assert_eq!(with(Some("12:00")), all);
    assert_eq!(with(Some("09:00")), all);
    // One that came later than what is accounted for, which lagged: nothing of its own passed before it.
    assert_eq!(with(None), all);
}

#[test]
fn a_job_that_comes_back_still_overlaps_with_its_run() {
    let tables = vec![table(64, [job("a", "*/5 * * * *")]), table(64, [])];
    check_from(
        tables,
        Recovered::default(),
        "10:00:01",
        "10:06 reload 1
         10:07 reload 0
         10:11 tick",
        "10:05 a 10:05 schedule started as 1
         10:10 a 10:10 skipped overlap",
    );
}

#[test]
fn a_queued_run_follows_the_table_in_force_when_it_starts() {
    reload(
        vec![job("a", "5 10 * * *").group("g"), job("b", "5 10 * * *").group("g")],
        vec![job("a", "5 10 * * *").group("g"), job("b", "5 10 * * *")],
        "10:06 reload 1",
        "10:05 a 10:05 schedule started as 1
         10:05 b 10:05 schedule queued as 2
         10:06 start 2",
    );
}

#[test]
fn a_larger_limit_starts_what_waits() {
    check_from(
        vec![
            table(1, [job("a", "5 10 * * *"), job("b", "5 10 * * *")]),
            table(2, [job("a", ""), job("b", "")]),
        ],
        Recovered::default(),
        "10:00:01",
        "10:06 reload 1",
        "10:05 a 10:05 schedule started as 1
         10:05 b 10:05 schedule queued as 2
         10:06 start 2",
    );
}

#[test]
fn a_slot_that_still_waits_for_its_share_is_not_lost() {
    reload(
        vec![
            job("same", "*/5 * * * *").jitter(60),
            job("changed", "*/5 * * * *").jitter(60),
            job("gone", "*/5 * * * *").jitter(60),
            job("off", "*/5 * * * *").jitter(60),
            job("less", "*/5 * * * *").jitter(60),
        ],
        vec![
            job("same", "*/5 * * * *").jitter(60),
            job("changed", "0 12 * * *").jitter(60),
            job("off", "*/5 * * * *").disabled(),
            job("less", "*/5 * * * *"),
        ],
        "10:05:00.5 reload 1
         10:06 tick",
        "10:05:00.5 off 10:05 skipped removed
         10:05:00.5 gone 10:05 skipped removed
         10:05:00.5 changed 10:05 schedule started as 1
         10:05:00.5 less 10:05 schedule started as 2
         10:05:57.569 same 10:05 schedule started as 3",
    );
}

#[test]
fn enabling_counts_from_now_and_disabling_ends_the_slots() {
    check_from(
        vec![
            table(64, [job("a", "*/5 * * * *").disabled(), job("b", "*/5 * * * *")]),
            table(64, [job("a", "*/5 * * * *"), job("b", "*/5 * * * *").disabled()]),
        ],
        Recovered::default(),
        "10:00:01",
        "10:07 reload 1
         10:11 tick",
        "10:05 b 10:05 schedule started as 1
         10:10 a 10:10 schedule started as 2",
    );
}

#[test]
fn slots_of_the_time_between_are_found_by_the_table_of_then() {
    let then = table(
        64,
        [
            job("same", "*/20 * * * *"),
            job("changed", "*/20 * * * *"),
            job("gone", "*/20 * * * *"),
            job("off", "*/20 * * * *"),
            job("manual", "*/20 * * * *"),
        ],
    );
    let now = table(
        64,
        [
            job("same", "*/20 * * * *"),
            job("changed", "*/15 * * * *").missed(MissedPolicy::Skip),
            job("new", "*/15 * * * *"),
            job("off", "*/20 * * * *").disabled(),
            job("manual", ""),
        ],
    );
    check_from(
        vec![now],
        recovered("09:20", &then),
        "10:05",
        "10:15 tick",
        "10:05 gone 09:40 skipped removed
         10:05 gone 10:00 skipped removed
         10:05 changed 09:40 skipped missed
         10:05 changed 10:00 skipped missed
         10:05 off 09:40 skipped removed
         10:05 off 10:00 skipped removed
         10:05 manual 09:40 skipped coalesced
         10:05 manual 10:00 catch_up started as 1
         10:05 same 09:40 skipped coalesced
         10:05 same 10:00 catch_up started as 2
         10:15 changed 10:15 schedule started as 3
         10:15 new 10:15 schedule started as 4",
    );
}

#[test]
fn a_new_ledger_starts_from_now() {
    let mut world = World::new(vec![table(64, [job("a", "*/5 * * * *")])], Recovered::default(), at("10:00"));
    assert_eq!((world.accounted, world.plan.next_wake()), (Some(at("10:00")), Some(at("10:05"))));
    assert_eq!(world.transcript, "10:00 a 10:00 schedule started as 1\n");
    world.play("10:05 tick");
}

#[test]
fn ten_thousand_jobs_due_at_one_instant_are_claimed_by_one_call() {
    let jobs = (0..10_000).map(|n| job(&format!("job-{n:05}"), "*/5 * * * *"));
    let (mut plan, _) = Plan::new(table(64, jobs), Recovered::default(), at("10:00:01"), "host", &|_| false);
    let decisions = plan.handle(Event::Tick, at("10:05"), &|_| false);
    let claims = decisions.iter().filter(|decision| matches!(decision, Decision::Claim { .. })).count();
    assert_eq!((claims, decisions.len(), plan.running()), (10_000, 10_001, 64));
    assert_eq!(decisions.last(), Some(&Decision::Accounted { until: at("10:05") }));
    assert!(size_of::<JobState>() + 2 * size_of::<(Timestamp, JobName)>() <= 200);
}

/// What becomes of a job of every five minutes, by a table in force from 09:55:00.5 on in a ledger that is accounted
/// for up to 09:40, when a daemon starts at 10:01. `slow`: the jitter of another job, in seconds.
fn check_past(slow: u64, now: Vec<JobSpec>, expected: &str) {
    let past = table(64, [job("a", "*/5 * * * *"), job("slow", "39 9 * * *").jitter(slow)]);
    let past = Recovered { past_since: Some(at("09:55:00.5")), ..recovered("09:40", &past) };
    let slow = job("slow", "39 9 * * *").jitter(slow);
    check_from(vec![table(64, now.into_iter().chain([slow]))], past, "10:01", "10:02 tick", expected);
}

#[test]
fn a_table_of_the_past_is_not_asked_about_slots_before_it_came() {
    // Another job's jitter of up to 16 minutes can have held back what is accounted for.
    let skips = |schedule| vec![job("a", schedule).missed(MissedPolicy::Skip)];
    check_past(960, skips("*/5 * * * *"), "10:01 a 10:00 skipped missed");
    check_past(960, skips("0 12 * * *"), "10:01 a 10:00 skipped missed");
    check_past(960, vec![], "10:01 a 10:00 skipped removed");
}

#[test]
fn a_table_that_came_long_after_what_is_accounted_for_is_of_a_clock_that_was_set_back_or_of_a_long_past() {
    // No jitter explains 15 minutes: the slots before it are still to be looked at.
    check_past(
        60,
        vec![],
        "10:01 a 09:45 skipped removed
         10:01 a 09:50 skipped removed
         10:01 a 09:55 skipped removed
         10:01 a 10:00 skipped removed",
    );
}

#[test]
fn a_run_whose_job_is_gone_keeps_the_group_that_the_last_table_gave_it() {
    let grouped = |name| job(name, "").group("g");
    let check = |tables: Vec<Arc<JobTable>>, expected| {
        let script = "10:00 manual a\n10:01 reload 1\n10:02 reload 2\n10:03 manual b";
        check_from(tables, Recovered::default(), "10:00", script, expected);
    };
    let last = || table(64, [grouped("b")]);
    check(
        vec![table(64, [job("a", "")]), table(64, [grouped("a")]), last()],
        "10:00 a manual started as 1\n10:03 b manual queued as 2",
    );
    check(
        vec![table(64, [grouped("a")]), table(64, [job("a", "")]), last()],
        "10:00 a manual started as 1\n10:03 b manual started as 2",
    );
}
