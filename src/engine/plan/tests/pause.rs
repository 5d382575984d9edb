//! Pauses.

use super::*;

#[test]
fn slots_of_a_paused_job_are_recorded_and_a_manual_run_ignores_the_pause() {
    check(
        [job("a", "*/5 * * * *"), job("b", "*/5 * * * *")],
        "10:01 pause a
         10:06 manual a
         10:07 ok 1
         10:07 ok 2
         10:08 resume a
         10:11 tick",
        "10:05 a 10:05 skipped paused
         10:05 b 10:05 schedule started as 1
         10:06 a manual started as 2
         10:10 a 10:10 schedule started as 3
         10:10 b 10:10 schedule started as 4",
    );
}

#[test]
fn a_pause_of_all_ends_by_itself() {
    check(
        [job("a", "*/5 * * * *"), job("b", "*/5 * * * *")],
        "10:01 pause all 10:10
         10:11 tick",
        "10:05 a 10:05 skipped paused
         10:05 b 10:05 skipped paused
         10:10 a 10:10 schedule started as 1
         10:10 b 10:10 schedule started as 2",
    );
}

#[test]
fn what_runs_or_waits_already_goes_on() {
    check(
        [job("a", "*/5 * * * *").overlap(Overlap::Queue)],
        "10:11 pause all
         10:12 ok 1
         10:16 tick",
        "10:05 a 10:05 schedule started as 1
         10:10 a 10:10 schedule queued as 2
         10:12 start 2
         10:15 a 10:15 skipped paused",
    );
}

#[test]
fn a_pause_survives_a_restart_and_may_end_during_it() {
    let jobs = || table(64, [job("a", "*/5 * * * *"), job("b", "*/5 * * * *")]);
    let pause = |job: &str, until: Option<&str>| PauseRecord {
        job: Some(job.to_owned()),
        since: at("09:00"),
        until: until.map(at),
        by: "root".into(),
    };
    let past = Recovered {
        pauses: vec![pause("a", None), pause("b", Some("09:50"))],
        ..recovered("09:42", &jobs())
    };
    check_from(
        vec![jobs()],
        past,
        "10:00:01",
        "10:05 tick",
        "10:00:01 a 09:45 skipped paused
         10:00:01 a 09:50 skipped paused
         10:00:01 a 09:55 skipped paused
         10:00:01 a 10:00 skipped paused
         10:00:01 b 09:45 skipped paused
         10:00:01 b 09:50 skipped coalesced
         10:00:01 b 09:55 skipped coalesced
         10:00:01 b 10:00 catch_up started as 1
         10:05 a 10:05 skipped paused
         10:05 b 10:05 skipped overlap",
    );
}

#[test]
fn a_disabled_job_has_no_slots_but_runs_by_hand() {
    check([job("a", "*/5 * * * *").disabled()], "10:11 manual a", "10:11 a manual started as 1");
}
