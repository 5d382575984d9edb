//! Starts in a row over one ledger, each after a death.

use super::*;
use crate::engine::recover;
use crate::ledger::{NewRow, NewState, Owner, SqliteLedger};
use crate::model::Trigger;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_795_388_400 + seconds).unwrap()
}

fn owner() -> Owner {
    Owner { role: "daemon".into(), boot: String::new(), pid: 7, start_time: 1 }
}

fn table() -> JobTable {
    let text = "jobs:\n  left: { interrupted: leave, command: { run: [/bin/true] } }\n  \
                again: { interrupted: rerun, command: { run: [/bin/true] } }\n";
    let environment = crate::config::Environment::of_process(&crate::clock::SystemClock);
    crate::config::read(text, std::path::Path::new("jobs.yaml"), &environment).unwrap().0
}

struct Life {
    ledger: SqliteLedger,
    now: i64,
    _folder: tempfile::TempDir,
}

impl Life {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ledger = SqliteLedger::open(&folder.path().join("ledger.db"), owner(), "web1").unwrap();
        Self { ledger, now: 0, _folder: folder }
    }

    fn pass(&mut self) -> Timestamp {
        self.now += 60;
        at(self.now)
    }

    fn claim(&mut self, job: &str, state: NewState) -> RunId {
        let now = self.pass();
        let row = NewRow {
            job: JobName::new(job).unwrap(),
            kind: "command".into(),
            trigger: Trigger::Schedule,
            slot: Some(now),
            slot_last: None,
            slots: 1,
            epoch: 0,
            state,
            requested_by: None,
            dry_run: false,
            at: now,
        };
        self.ledger.apply(&[Write::Claim(row)]).unwrap();
        self.ledger.last_run().unwrap().unwrap()
    }

    fn end(&mut self, run: RunId, outcome: Outcome, error: Option<&str>) {
        let (at, error) = (self.pass(), error.map(str::to_owned));
        self.ledger.apply(&[Write::Finished { run, at, outcome, error, report: None }]).unwrap();
    }

    fn tell(&mut self, kind: &str, detail: serde_json::Value) {
        let now = self.pass();
        self.ledger.apply(&[event(now, kind, detail)]).unwrap();
    }

    /// A daemon starts after whatever ended the one before it: which jobs are held now, and how many runs go on.
    fn start(&mut self) -> (Vec<String>, usize) {
        let now = self.pass();
        let table = table();
        let past = self.ledger.past().unwrap();
        let mut recovery =
            recover(past, &table, crate::spawner::Adoption::default(), &owner(), |_| false, None, now);
        hold_crash_loops(&mut recovery, &self.ledger, &table, now);
        let mut writes = recovery.writes.clone();
        for resume in &recovery.resume {
            if let How::Rerun { number } = resume.how {
                writes.push(Write::AttemptStarted { run: resume.record.run, number, at: now });
            }
        }
        writes.push(event(now, "daemon_started", serde_json::Value::Null));
        self.ledger.apply(&writes).unwrap();
        let pauses = recovery.recovered.pauses.into_iter().filter(is_hold).filter_map(|pause| pause.job);
        assert_eq!(recovery.recovered.open.len(), recovery.resume.len());
        (pauses.collect(), recovery.resume.len())
    }
}

fn held(job: &str) -> Vec<String> {
    vec![job.to_owned()]
}

#[test]
fn the_third_death_in_a_row_holds_a_job() {
    let mut life = Life::new();
    for _ in 0..2 {
        life.claim("left", NewState::Started);
        assert_eq!(life.start(), (vec![], 0));
        life.claim("left", NewState::Skipped(SkipReason::Overlap));
    }
    let run = life.claim("left", NewState::Started);
    let waits = life.claim("left", NewState::Queued);
    assert_eq!(life.start(), (held("left"), 0));
    let outcome = |run| life.ledger.run(run).unwrap().unwrap();
    assert_eq!(outcome(run).outcome, Outcome::Interrupted);
    assert_eq!(
        (outcome(waits).outcome, outcome(waits).reason.as_deref()),
        (Outcome::Skipped, Some("paused"))
    );
    let events = life.ledger.events(at(0)).unwrap();
    let told: Vec<_> =
        events.iter().filter(|event| event.kind == "held").map(|event| &event.detail).collect();
    assert_eq!(told, [&serde_json::json!({ "job": "left", "run": run, "interrupted": 3 })]);
    // Held it stays, and that is said once; by hand it runs, and it dies once more.
    life.claim("left", NewState::Started);
    assert_eq!(life.start(), (held("left"), 0));
    assert_eq!(life.ledger.events(at(0)).unwrap().iter().filter(|event| event.kind == "held").count(), 1);
}

#[test]
fn attempts_of_one_run_count_as_well() {
    let mut life = Life::new();
    let run = life.claim("again", NewState::Started);
    assert_eq!(life.start(), (vec![], 1));
    assert_eq!(life.start(), (vec![], 1));
    assert_eq!(life.start(), (held("again"), 0));
    let record = life.ledger.run(run).unwrap().unwrap();
    assert_eq!((record.outcome, record.attempts.len()), (Outcome::Interrupted, 3));
    assert_eq!(life.start(), (held("again"), 0));
}

#[test]
fn an_end_of_its_own_or_a_resume_begins_the_count_anew() {
    let check = |between: &dyn Fn(&mut Life), expected: Vec<String>| {
        let mut life = Life::new();
        for _ in 0..2 {
            life.claim("left", NewState::Started);
            life.start();
        }
        between(&mut life);
        life.claim("left", NewState::Started);
        assert_eq!(life.start().0, expected);
    };
    check(&|_| {}, held("left"));
    for outcome in [Outcome::Succeeded, Outcome::Failed, Outcome::TimedOut, Outcome::Cancelled] {
        let ends = |life: &mut Life| {
            let run = life.claim("left", NewState::Started);
            life.end(run, outcome, None);
        };
        check(&ends, vec![]);
    }
    check(&|life| life.tell("resumed", serde_json::json!({ "job": "left", "by": "root" })), vec![]);
    check(&|life| life.tell("resumed", serde_json::json!({ "job": "again", "by": "root" })), held("left"));
    check(&|life| life.tell("resumed", serde_json::json!({ "job": null, "by": "root" })), held("left"));
    // It ran until the daemon was stopped, and killed nobody.
    let stopped = |life: &mut Life| {
        let run = life.claim("left", NewState::Started);
        life.end(run, Outcome::Interrupted, Some(STOPPED));
    };
    check(&stopped, vec![]);
}

#[test]
fn runs_that_die_together_die_once() {
    let mut life = Life::new();
    for _ in 0..2 {
        for _ in 0..4 {
            life.claim("left", NewState::Started);
        }
        assert_eq!(life.start(), (vec![], 0));
    }
    life.claim("left", NewState::Started);
    life.claim("left", NewState::Started);
    assert_eq!(life.start(), (held("left"), 0));
}

#[test]
fn what_an_orderly_stop_left_running_on_a_host_that_goes_down_is_no_death() {
    let mut life = Life::new();
    for _ in 0..5 {
        let run = life.claim("left", NewState::Started);
        life.tell("daemon_stopped", serde_json::json!({ "pid": 7, "left_running": [run] }));
        assert_eq!(life.start(), (vec![], 0));
        let attempt = life.ledger.run(run).unwrap().unwrap().attempts[0].clone();
        assert_eq!((attempt.outcome, attempt.error.as_deref()), (Outcome::Interrupted, Some(LEFT)));
    }
}
