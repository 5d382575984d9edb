//! `after`: a job that runs once others have succeeded.

use super::*;

#[test]
fn a_job_runs_once_all_others_have_succeeded_since_it_last_started() {
    check(
        [job("dump", "*/5 * * * *"), job("files", "7 10 * * *"), job("copy", "").after(&["dump", "files"])],
        "10:06 ok 1
         10:08 ok 2
         10:09 ok 3
         10:11 ok 4",
        "10:05 dump 10:05 schedule started as 1
         10:07 files 10:07 schedule started as 2
         10:08 copy after started as 3
         10:10 dump 10:10 schedule started as 4",
    );
}

#[test]
fn a_failure_brings_about_nothing() {
    check(
        [job("dump", "*/5 * * * *"), job("copy", "").after(&["dump"])],
        "10:06 failed 1
         10:11 ok 2",
        "10:05 dump 10:05 schedule started as 1
         10:10 dump 10:10 schedule started as 2
         10:11 copy after started as 3",
    );
}

#[test]
fn the_claim_comes_with_the_success_before_time_passes() {
    let mut world = World::new(
        vec![table(64, [job("a", ""), job("b", "").after(&["a"])])],
        Recovered::default(),
        at("10:00"),
    );
    world.play("10:01 manual a");
    let decisions =
        world
            .plan
            .handle(Event::Ended { run: RunId(1), outcome: Outcome::Succeeded }, at("10:02"), &|_| false);
    let [Decision::Claim { row, .. }] = &decisions[..] else { panic!("{decisions:?}") };
    assert_eq!(
        (row.job.as_str(), row.trigger, row.slot, row.state),
        ("b", Trigger::After, None, NewState::Started)
    );
}

#[test]
fn overlap_applies_and_the_job_stays_due() {
    check(
        [job("a", ""), job("b", "").after(&["a"])],
        "10:01 manual a
         10:02 ok 1
         10:03 manual a
         10:04 ok 3
         10:05 ok 2
         10:06 manual a
         10:07 ok 4",
        "10:01 a manual started as 1
         10:02 b after started as 2
         10:03 a manual started as 3
         10:04 b skipped overlap
         10:06 a manual started as 4
         10:07 b after started as 5",
    );
}

#[test]
fn a_queued_run_is_claimed_only_once() {
    check(
        [
            job("a", ""),
            job("b", "").after(&["a"]).group("g").overlap(Overlap::Queue),
            job("c", "").group("g"),
        ],
        "10:01 manual c
         10:02 manual a
         10:03 ok 2
         10:04 ok 1
         10:05 ok 3",
        "10:01 c manual started as 1
         10:02 a manual started as 2
         10:03 b after queued as 3
         10:04 start 3",
    );
}

#[test]
fn its_own_slot_starts_the_count_anew() {
    check(
        [job("a", ""), job("b", ""), job("c", "5 10 * * *").after(&["a", "b"])],
        "10:01 manual a
         10:02 ok 1
         10:06 manual b
         10:07 ok 3
         10:08 manual a
         10:09 ok 2
         10:10 ok 4",
        "10:01 a manual started as 1
         10:05 c 10:05 schedule started as 2
         10:06 b manual started as 3
         10:08 a manual started as 4
         10:10 c after started as 5",
    );
}

#[test]
fn a_paused_job_stays_due_until_the_pause_ends() {
    check(
        [
            job("a", ""),
            job("b", "").after(&["a"]),
            job("c", "").after(&["a"]),
            job("off", "").after(&["a"]).disabled(),
        ],
        "10:01 pause b
         10:01 pause c 10:30
         10:02 manual a
         10:03 ok 1
         10:10 resume b
         10:31 tick",
        "10:02 a manual started as 1
         10:10 b after started as 2
         10:30 c after started as 3",
    );
}

#[test]
fn what_succeeded_before_the_daemon_began_counts() {
    let jobs = || {
        table(
            64,
            [
                job("a", ""),
                job("b", ""),
                job("half", "").after(&["a", "b"]),
                job("ready", "").after(&["a"]),
                job("done", "").after(&["a"]),
                job("new", "").after(&["a"]),
                job("waits", "").after(&["a"]),
            ],
        )
    };
    let name = |text: &str| JobName::new(text).unwrap();
    let mut past = recovered("09:59", &jobs());
    past.past.retain(|past| past.job.as_str() != "new");
    past.last = vec![
        (name("a"), Some(30), Some(40)),
        (name("b"), Some(10), Some(11)),
        (name("half"), Some(20), None),
        (name("ready"), Some(21), None),
        // As a former version wrote it, of one instant.
        (name("done"), Some(40), None),
        (name("waits"), Some(22), None),
    ];
    past.open = vec![open(1, "waits", None, true), open(2, "b", None, false)];
    check_from(
        vec![jobs()],
        past,
        "10:00",
        "10:01 ok 2",
        "10:00 ready after started as 3
         10:00 start 1
         10:01 half after started as 4",
    );
}

#[test]
fn a_success_of_before_its_start_that_is_told_again_brings_about_nothing() {
    let jobs = || {
        let after = |name| job(name, "").after(&["a"]);
        table(64, [job("a", ""), after("ran"), after("waits")])
    };
    let name = |text: &str| JobName::new(text).unwrap();
    let mut past = recovered("09:59", &jobs());
    past.last =
        vec![(name("a"), Some(2), None), (name("ran"), Some(4), Some(5)), (name("waits"), Some(1), None)];
    let ended = |run, at_| OpenRun { ended_at: at_, ended: Some(3), ..open(run, "a", None, false) };
    past.open = vec![ended(1, Some(at("09:58"))), ended(2, None)];
    // The second one may have a further attempt: nobody knows yet when it ends.
    check_from(
        vec![jobs()],
        past,
        "10:00",
        "10:01 ok 1
         10:02 ok 3
         10:03 ok 2",
        "10:01 waits after started as 3
         10:03 ran after started as 4
         10:03 waits after started as 5",
    );
}

#[test]
fn a_run_that_overlapped_leaves_the_job_due_at_the_next_success_of_any() {
    check(
        [job("a", ""), job("b", ""), job("c", "").after(&["a", "b"])],
        "10:01 manual a
         10:02 ok 1
         10:03 manual b
         10:04 ok 2
         10:05 manual a
         10:06 ok 4
         10:07 manual b
         10:08 ok 5
         10:09 ok 3
         10:10 manual a
         10:11 ok 6",
        "10:01 a manual started as 1
         10:03 b manual started as 2
         10:04 c after started as 3
         10:05 a manual started as 4
         10:07 b manual started as 5
         10:08 c skipped overlap
         10:10 a manual started as 6
         10:11 c after started as 7",
    );
}
