//! Overlap, groups, `max_running`, manual runs, cancel.

use super::*;

#[test]
fn a_slot_starts_its_job_and_the_next_one_follows() {
    check(
        [job("a", "*/5 * * * *")],
        "10:06 ok 1
         10:11 tick",
        "10:05 a 10:05 schedule started as 1
         10:10 a 10:10 schedule started as 2",
    );
}

#[test]
fn overlap_skip_records_the_slot_and_leaves_the_run_alone() {
    check(
        [job("a", "*/5 * * * *")],
        "10:11 ok 1
         10:16 tick",
        "10:05 a 10:05 schedule started as 1
         10:10 a 10:10 skipped overlap
         10:15 a 10:15 schedule started as 2",
    );
}

#[test]
fn overlap_queue_holds_one_and_skips_a_second() {
    check(
        [job("a", "*/5 * * * *").overlap(Overlap::Queue)],
        "10:16 ok 1
         10:17 ok 2
         10:18 tick",
        "10:05 a 10:05 schedule started as 1
         10:10 a 10:10 schedule queued as 2
         10:15 a 10:15 skipped overlap
         10:16 start 2",
    );
}

#[test]
fn overlap_replace_cancels_the_run_and_begins_once_it_has_ended() {
    check(
        [job("a", "*/5 * * * *").overlap(Overlap::Replace)],
        "10:10:07 cancelled 1
         10:12 ok 2",
        "10:05 a 10:05 schedule started as 1
         10:10 a 10:10 schedule queued as 2
         10:10 cancel 1
         10:10:07 start 2",
    );
}

#[test]
fn overlap_replace_also_replaces_what_still_waits_and_tells_the_run_only_once() {
    check(
        [job("a", "*/5 * * * *").overlap(Overlap::Replace)],
        "10:16 cancelled 1",
        "10:05 a 10:05 schedule started as 1
         10:10 a 10:10 schedule queued as 2
         10:10 cancel 1
         10:15 a 10:15 schedule queued as 3
         10:15 drop 2 overlap
         10:16 start 3",
    );
}

#[test]
fn overlap_allow_starts_beside() {
    check(
        [job("a", "*/5 * * * *").overlap(Overlap::Allow)],
        "10:11 manual a",
        "10:05 a 10:05 schedule started as 1
         10:10 a 10:10 schedule started as 2
         10:11 a manual started as 3",
    );
}

#[test]
fn a_group_runs_one_at_a_time_and_lets_others_pass() {
    check(
        [
            job("a", "5 10 * * *").group("db"),
            job("b", "6 10 * * *").group("db"),
            job("c", "7 10 * * *").group("db"),
            job("d", "8 10 * * *"),
        ],
        "10:09 failed 1
         10:10 ok 2
         10:11 tick",
        "10:05 a 10:05 schedule started as 1
         10:06 b 10:06 schedule queued as 2
         10:07 c 10:07 schedule queued as 3
         10:08 d 10:08 schedule started as 4
         10:09 start 2
         10:10 start 3",
    );
}

#[test]
fn jobs_of_one_group_due_at_one_instant_follow_each_other() {
    check(
        [job("a", "5 10 * * *").group("db"), job("b", "5 10 * * *").group("db")],
        "10:06 ok 1",
        "10:05 a 10:05 schedule started as 1
         10:05 b 10:05 schedule queued as 2
         10:06 start 2",
    );
}

#[test]
fn a_job_that_waits_for_its_group_overlaps_with_its_own_next_slot() {
    check(
        [job("a", "4 10 * * *").group("db"), job("b", "*/5 * * * *").group("db")],
        "10:11 tick",
        "10:04 a 10:04 schedule started as 1
         10:05 b 10:05 schedule queued as 2
         10:10 b 10:10 skipped overlap",
    );
}

#[test]
fn runs_above_the_limit_wait_in_the_order_of_their_slots() {
    let jobs = [
        job("z", "5 10 * * *"),
        job("y", "6 10 * * *"),
        job("x", "7 10 * * *"),
        job("grouped", "5 10 * * *").group("g"),
        job("waits", "6 10 * * *").group("g"),
    ];
    check_from(
        vec![table(2, jobs)],
        Recovered::default(),
        "10:00:01",
        // `waits` is before `y` by name, but its group is taken: it doesn't stand in the way of `y` and `x`.
        "10:08 ok 2
         10:09 ok 4
         10:10 ok 1
         10:11 tick",
        "10:05 grouped 10:05 schedule started as 1
         10:05 z 10:05 schedule started as 2
         10:06 waits 10:06 schedule queued as 3
         10:06 y 10:06 schedule queued as 4
         10:07 x 10:07 schedule queued as 5
         10:08 start 4
         10:09 start 5
         10:10 start 3",
    );
}

#[test]
fn a_manual_run_follows_overlap() {
    let run = |overlap, expected: &str| {
        check(
            [job("a", "").overlap(overlap)],
            "10:01 manual a
             10:02 manual a
             10:03 manual a",
            expected,
        );
    };
    run(
        Overlap::Skip,
        "10:01 a manual started as 1
         10:02 refuse RunsAlready(RunId(1))
         10:03 refuse RunsAlready(RunId(1))",
    );
    run(
        Overlap::Queue,
        "10:01 a manual started as 1
         10:02 a manual queued as 2
         10:03 refuse RunsAlready(RunId(2))",
    );
    run(
        Overlap::Replace,
        "10:01 a manual started as 1
         10:02 a manual queued as 2
         10:02 cancel 1
         10:03 a manual queued as 3
         10:03 drop 2 overlap",
    );
    run(
        Overlap::Allow,
        "10:01 a manual started as 1
         10:02 a manual started as 2
         10:03 a manual started as 3",
    );
}

#[test]
fn a_manual_run_waits_for_its_group_and_for_the_limit() {
    check_from(
        vec![table(2, [job("a", "").group("g"), job("b", "").group("g"), job("c", ""), job("d", "")])],
        Recovered::default(),
        "10:00:01",
        "10:01 manual a
         10:02 manual b
         10:03 manual c
         10:04 manual d
         10:05 ok 3
         10:06 ok 1
         10:07 manual unknown",
        "10:01 a manual started as 1
         10:02 b manual queued as 2
         10:03 c manual started as 3
         10:04 d manual queued as 4
         10:05 start 4
         10:06 start 2
         10:07 refuse UnknownJob",
    );
}

#[test]
fn a_manual_run_makes_the_slot_that_comes_meanwhile_overlap() {
    check(
        [job("a", "5 10 * * *")],
        "10:04 manual a
         10:06 tick",
        "10:04 a manual started as 1
         10:05 a 10:05 skipped overlap",
    );
}

#[test]
fn a_cancelled_queued_run_never_starts() {
    check(
        [job("a", "*/5 * * * *").overlap(Overlap::Queue)],
        "10:11 cancel 2
         10:12 ok 1
         10:13 cancel 99
         10:16 tick",
        "10:05 a 10:05 schedule started as 1
         10:10 a 10:10 schedule queued as 2
         10:11 cancel 2
         10:15 a 10:15 schedule started as 3",
    );
}

#[test]
fn runs_of_before_count() {
    let jobs = [
        job("a", "5 10 * * *"),
        job("b", "5 10 * * *").group("g"),
        job("c", "").group("g"),
        job("d", "").group("g"),
    ];
    let recovered = Recovered {
        open: vec![
            open(1, "a", Some("09:00"), false),
            open(2, "c", None, false),
            open(3, "d", Some("09:00"), true),
            open(4, "gone", None, false),
            open(5, "gone", None, true),
        ],
        ..Recovered::default()
    };
    check_from(
        vec![table(64, jobs)],
        recovered,
        "10:00:01",
        "10:06 ok 2
         10:07 ok 3
         10:08 ok 4",
        "10:00:01 drop 5 removed
         10:05 a 10:05 skipped overlap
         10:05 b 10:05 schedule queued as 6
         10:06 start 3
         10:07 start 6",
    );
}

#[test]
fn the_daemon_stops_taking_slots() {
    check(
        [job("a", "*/5 * * * *").overlap(Overlap::Queue), job("b", "").after(&["a"])],
        "10:11 stop
         10:12 manual a
         10:16 ok 1",
        "10:05 a 10:05 schedule started as 1
         10:10 a 10:10 schedule queued as 2
         10:11 drop 2 stopping
         10:12 refuse Stopping
         10:15 a 10:15 skipped stopping",
    );
}

#[test]
fn a_run_of_before_stands_in_the_way_of_no_slot_after_its_end() {
    let check = |overlap, ended: &str, expected: &str| {
        let jobs = || table(64, [job("a", "*/5 * * * *").overlap(overlap)]);
        let ended_at = Some(at(ended));
        let recovered = Recovered {
            open: vec![OpenRun { ended_at, ..open(1, "a", Some("10:05"), false) }],
            ..recovered("10:05:30", &jobs())
        };
        check_from(vec![jobs()], recovered, "10:12", "10:13 ok 1", expected);
    };
    check(
        Overlap::Skip,
        "10:09",
        "10:12 a 10:10 catch_up queued as 2
         10:13 start 2",
    );
    check(Overlap::Skip, "10:11", "10:12 a 10:10 skipped overlap");
    check(
        Overlap::Replace,
        "10:09",
        "10:12 a 10:10 catch_up queued as 2
         10:13 start 2",
    );
}
