use super::*;
use crate::ledger::JobPast;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn owner(role: &str, pid: u32) -> Owner {
    Owner { role: role.into(), boot: String::new(), pid, start_time: 1 }
}

/// `failed`, `interrupted` and so on: attempts that ended so; `running`: one that did not end.
fn open(run: i64, job: &str, attempts: &[Outcome], owner: Owner) -> ledger::OpenRun {
    let attempts: Vec<Attempt> = (1..)
        .zip(attempts)
        .map(|(number, outcome)| Attempt {
            number,
            started_at: at(10),
            finished_at: (*outcome != Outcome::Running).then(|| at(20)),
            outcome: *outcome,
            error: None,
        })
        .collect();
    let record = RunRecord {
        run: RunId(run),
        job: job.into(),
        kind: "command".into(),
        trigger: Trigger::Manual,
        slot: None,
        outcome: Outcome::Running,
        reason: None,
        started_at: (!attempts.is_empty()).then(|| at(10)),
        finished_at: None,
        host: "web1".into(),
        attempts,
        summary: None,
        facts: serde_json::Map::new(),
        findings: vec![],
    };
    let queued = record.started_at.is_none();
    ledger::OpenRun { record, epoch: 0, owner, queued, dry_run: false, cancel_asked: false }
}

/// `left` and `again` say what becomes of them when they are interrupted.
fn table() -> JobTable {
    let text = "jobs:\n  left: { interrupted: leave, command: { run: [/bin/true] } }\n  \
                again: { interrupted: rerun, command: { run: [/bin/true] } }\n";
    let environment = crate::config::Environment::of_process(&crate::clock::SystemClock);
    crate::config::read(text, std::path::Path::new("jobs.yaml"), &environment).unwrap().0
}

/// What becomes of one open run of a daemon that is gone: what goes on, and what is written.
fn check(job: &str, attempts: &[Outcome], goes_on: &str, written: &str) {
    let past = Past { open: vec![open(1, job, attempts, owner("daemon", 7))], ..Past::default() };
    let found = recover(past, &table(), Adoption::default(), &owner("daemon", 8), |_| false, None, at(30));
    let how = |resume: &Resume| match &resume.how {
        How::Queued => "queued".to_owned(),
        How::Rerun { number } => format!("attempt {number} after {}", resume.tried),
        How::Adopted { number, .. } => format!("adopted {number}"),
        How::Orphaned { number, .. } => format!("watched {number}"),
    };
    assert_eq!(found.resume.iter().map(how).collect::<String>(), goes_on, "{job} {attempts:?}");
    assert_eq!(found.recovered.open.len(), found.resume.len(), "{job} {attempts:?}");
    let write = |write: &Write| match write {
        Write::AttemptEnded { number, outcome, .. } => format!("attempt {number} {outcome}"),
        Write::Finished { outcome, .. } => outcome.to_string(),
        Write::Adopted { owner, .. } => format!("taken by {}", owner.pid),
        other => format!("{other:?}"),
    };
    assert_eq!(found.writes.iter().map(write).collect::<Vec<_>>().join(", "), written, "{job} {attempts:?}");
}

#[test]
fn a_run_that_was_interrupted_follows_its_policy() {
    use Outcome::{Failed, Interrupted, Running, TimedOut};
    check("left", &[Running], "", "attempt 1 interrupted, interrupted");
    check("again", &[Running], "attempt 2 after 0", "attempt 1 interrupted, taken by 8");
    check("again", &[Failed, Running], "attempt 3 after 1", "attempt 2 interrupted, taken by 8");
    check("again", &[Interrupted], "attempt 2 after 0", "taken by 8");
    check("left", &[Interrupted], "", "interrupted");
    // One that waited for its next attempt was not interrupted.
    check("left", &[Failed], "attempt 2 after 1", "taken by 8");
    check("left", &[Interrupted, TimedOut], "attempt 3 after 1", "taken by 8");
    check("left", &[], "queued", "taken by 8");
    check("gone", &[Running], "", "attempt 1 interrupted, interrupted");
    check("gone", &[Failed], "", "interrupted");
}

#[test]
fn what_was_to_be_cancelled_is_not_run_again() {
    for (attempts, expected) in [(&[Outcome::Running][..], 2), (&[Outcome::Failed][..], 1), (&[][..], 1)] {
        let mut run = open(1, "again", attempts, owner("daemon", 7));
        run.cancel_asked = true;
        let past = Past { open: vec![run], ..Past::default() };
        let found =
            recover(past, &table(), Adoption::default(), &owner("daemon", 8), |_| false, None, at(30));
        assert_eq!((found.resume.len(), found.recovered.open.len()), (0, 0), "{attempts:?}");
        assert_eq!(found.writes.len(), expected, "{attempts:?}");
        let last = found.writes.last();
        assert!(
            matches!(last, Some(Write::Finished { outcome: Outcome::Cancelled, .. })),
            "{attempts:?}: {last:?}"
        );
    }
}

/// What it came after must not bring about another one.
#[test]
fn a_run_after_others_that_was_to_be_cancelled_while_it_waited_counts_as_begun() {
    let started = |trigger, attempts: &[Outcome]| {
        let mut run = open(1, "again", attempts, owner("daemon", 7));
        (run.cancel_asked, run.record.trigger) = (true, trigger);
        let job = JobPast {
            job: "again".into(),
            epoch: 0,
            last_slot: None,
            last_started: Some(3),
            last_succeeded: None,
        };
        let past = Past { open: vec![run], jobs: vec![job], ..Past::default() };
        let found =
            recover(past, &table(), Adoption::default(), &owner("daemon", 8), |_| false, None, at(30));
        found.recovered.last[0].1
    };
    assert_eq!(started(Trigger::After, &[]), Some(Place::MAX));
    assert_eq!(started(Trigger::After, &[Outcome::Running]), Some(3));
    assert_eq!(started(Trigger::Manual, &[]), Some(3));
}

#[test]
fn a_run_of_a_living_run_now_is_left_alone() {
    let past =
        || Past { open: vec![open(1, "again", &[Outcome::Running], owner(RUN_NOW, 7))], ..Past::default() };
    let found = recover(
        past(),
        &table(),
        Adoption::default(),
        &owner("daemon", 8),
        |owner| owner.pid == 7,
        None,
        at(30),
    );
    assert_eq!((found.writes.len(), found.resume.len(), found.recovered.open.len()), (0, 0, 1));
    assert_eq!((found.foreign[0].run, found.foreign[0].attempt), (RunId(1), 1));
    assert!(found.foreign[0].can_be_asked_to_end());
}

#[test]
fn for_one_run_only_what_lives_stands_in_the_way() {
    let check = |program: Option<u32>, living: &[u32], expected: Option<u32>| {
        let past =
            Past { open: vec![open(1, "again", &[Outcome::Running], owner("daemon", 7))], ..Past::default() };
        let programs = program.map(|pid| (RunId(1), owner("program", pid))).into_iter().collect();
        let found = recover_for_one_run(past, programs, |owner| living.contains(&owner.pid));
        assert_eq!(found.foreign.first().map(|foreign| foreign.owner.pid), expected);
        assert_eq!(found.recovered.open.len(), usize::from(expected.is_some()));
    };
    check(None, &[], None);
    check(None, &[7], Some(7));
    check(Some(9), &[9], Some(9));
    check(Some(9), &[], None);
}
