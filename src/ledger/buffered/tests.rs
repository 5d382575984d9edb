//! A store that fails: nothing stops, nothing is lost that memory can hold, and what is lost is said.

mod files;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::conformance::{self, at, claim, claimed, finished, owner};
use super::super::*;
use super::*;
use crate::clock::ManualClock;
use crate::model::{Outcome, RunRecord};

/// A store whose disk is full while `full` is set.
struct Flaky {
    inner: SqliteLedger,
    full: Arc<AtomicBool>,
}

impl Flaky {
    fn write(&self) -> Result<(), LedgerError> {
        if self.full.load(Ordering::SeqCst) {
            return Err(LedgerError::Write {
                path: "/state/ledger.db".into(),
                reason: "the disk is full".into(),
            });
        }
        Ok(())
    }
}

impl Ledger for Flaky {
    fn apply(&mut self, batch: &[Write]) -> Result<Vec<Applied>, LedgerError> {
        self.write()?;
        self.inner.apply(batch)
    }
    fn past(&self) -> Result<Past, LedgerError> {
        self.inner.past()
    }
    fn history(&self, filter: &Filter) -> Result<Vec<RunRecord>, LedgerError> {
        self.inner.history(filter)
    }
    fn run(&self, run: RunId) -> Result<Option<RunRecord>, LedgerError> {
        self.inner.run(run)
    }
    fn latest(&self) -> Result<Vec<RunRecord>, LedgerError> {
        self.inner.latest()
    }
    fn notices(&self) -> Result<Vec<Notice>, LedgerError> {
        self.inner.notices()
    }
    fn claimed(&self, job: &JobName, slot: Timestamp, epoch: u32) -> Result<Option<RunId>, LedgerError> {
        self.inner.claimed(job, slot, epoch)
    }
    fn refuses(&self, claim: &NewRow) -> Result<Option<RunId>, LedgerError> {
        self.inner.refuses(claim)
    }
    fn last_run(&self) -> Result<Option<RunId>, LedgerError> {
        self.inner.last_run()
    }
    fn events(&self, from: Timestamp) -> Result<Vec<Event>, LedgerError> {
        self.inner.events(from)
    }
    fn tables(&self, from: Timestamp) -> Result<Vec<TableRecord>, LedgerError> {
        self.inner.tables(from)
    }
    fn chronicle(&self) -> Result<Chronicle, LedgerError> {
        self.inner.chronicle()
    }
    fn visit_slots(
        &self,
        job: &JobName,
        from: Timestamp,
        each: &mut dyn FnMut(SlotRow) -> ControlFlow<()>,
    ) -> Result<(), LedgerError> {
        self.inner.visit_slots(job, from, each)
    }
    fn continue_after(&mut self, run: RunId) -> Result<(), LedgerError> {
        self.inner.continue_after(run)
    }
    fn prune(&mut self, before: Timestamp, batch: usize) -> Result<usize, LedgerError> {
        self.write()?;
        self.inner.prune(before, batch)
    }
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::new(at(0)))
}

fn open(path: &Path) -> Result<SqliteLedger, LedgerError> {
    SqliteLedger::open(path, owner("daemon"), "web1")
}

/// Over a store in a new folder, and the switch of its disk.
fn flaky(path: &Path) -> (Buffered<Flaky>, Arc<AtomicBool>) {
    let full = Arc::new(AtomicBool::new(false));
    let (path, switch) = (path.to_owned(), full.clone());
    let ledger = Buffered::new(owner("daemon"), "web1", clock(), move |_| {
        Ok((Flaky { inner: open(&path)?, full: switch.clone() }, None))
    });
    (ledger, full)
}

#[test]
fn conforms_over_a_store_that_works() {
    let folder = tempfile::tempdir().unwrap();
    let mut number = 0;
    conformance::run(|| {
        number += 1;
        flaky(&folder.path().join(format!("{number}.db"))).0
    });
}

#[test]
fn conforms_over_a_store_that_takes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut number = 0;
    conformance::run_all_but_pruning(&mut || {
        number += 1;
        let (ledger, full) = flaky(&folder.path().join(format!("{number}.db")));
        full.store(true, Ordering::SeqCst);
        ledger
    });
}

#[test]
fn conforms_without_a_store() {
    conformance::run_all_but_pruning(&mut || {
        Buffered::<SqliteLedger>::new(owner("daemon"), "web1", clock(), |_| {
            Err(LedgerError::Open { path: "/state/ledger.db".into(), reason: "Permission denied".into() })
        })
    });
}

/// A number that the file has given already would not tell a lost row from one that was there.
#[test]
fn what_waits_has_numbers_above_those_of_refused_claims() {
    let folder = tempfile::tempdir().unwrap();
    let (mut ledger, full) = flaky(&folder.path().join("ledger.db"));
    let first = claim("a", Some(0), NewState::Started);
    assert_eq!(ledger.apply(std::slice::from_ref(&first)).unwrap(), [Applied::Claimed(RunId(1))]);
    for _ in 0..2 {
        assert_eq!(ledger.apply(std::slice::from_ref(&first)).unwrap(), [Applied::AlreadyClaimed(RunId(1))]);
    }
    let given = open(&folder.path().join("ledger.db")).unwrap().last_run().unwrap().unwrap();
    full.store(true, Ordering::SeqCst);
    let Applied::Claimed(waits) = ledger.apply(&[claim("a", Some(60), NewState::Started)]).unwrap()[0] else {
        panic!("it is kept")
    };
    assert!(waits > given, "{waits} after {given}");
}

#[test]
fn what_waited_is_written_as_if_nothing_had_been() {
    let folder = tempfile::tempdir().unwrap();
    let script = |ledger: &mut dyn Ledger, full: &dyn Fn(bool)| {
        let a = || Some(JobName::new("a").unwrap());
        let pause = |since| Write::Pause { job: a(), since: at(since), until: None, by: "root".into() };
        let before = claimed(
            &ledger
                .apply(&[
                    claim("a", Some(0), NewState::Started),
                    claim("b", Some(0), NewState::Queued),
                    claim("c", Some(0), NewState::Queued),
                    pause(0),
                ])
                .unwrap()[..3],
        );
        let waits = |job: &str| Incident {
            failures: 2,
            ..Incident::of_job(JobName::new(job).unwrap(), before[0], at(5))
        };
        ledger.apply(&[Write::Incident(waits("b")), Write::Incident(waits("c"))]).unwrap();
        full(true);
        ledger
            .apply(&[
                finished(before[0], 10, Outcome::Succeeded),
                Write::AttemptStarted { run: before[1], number: 1, at: at(10) },
            ])
            .unwrap();
        let during = claimed(
            &ledger
                .apply(&[claim("a", Some(60), NewState::Started), Write::Accounted { until: at(60) }])
                .unwrap()[..1],
        );
        assert_eq!(during, [RunId(4)]);
        assert_eq!(
            ledger.apply(&[claim("c", Some(0), NewState::Started)]).unwrap(),
            [Applied::AlreadyClaimed(before[2])]
        );
        let failing = |name: &str, run| {
            let job = JobName::new(name).unwrap();
            Write::Incident(Incident { told_at: Some(at(70)), ..Incident::of_job(job, run, at(70)) })
        };
        let end = finished(during[0], 70, Outcome::Failed);
        let close = Write::IncidentGone { job: JobName::new("c").unwrap(), check: None };
        ledger.apply(&[end, failing("a", during[0]), close, Write::Resume { job: a() }]).unwrap();
        let open: Vec<_> =
            ledger.past().unwrap().open.iter().map(|one| (one.record.run, one.queued)).collect();
        assert_eq!(open, [(before[1], false), (before[2], true)]);
        let latest: Vec<_> = ledger.latest().unwrap().iter().map(|one| (one.run.0, one.outcome)).collect();
        assert_eq!(latest, [(4, Outcome::Failed), (2, Outcome::Running)]);
        let running = Filter { outcome: Some(Outcome::Running), limit: Some(2), ..Filter::default() };
        let running: Vec<_> = ledger.history(&running).unwrap().iter().map(|one| one.run.0).collect();
        assert_eq!(running, [3, 2]);
        let told = (ledger.past().unwrap(), ledger.history(&Filter::default()).unwrap());
        full(false);
        ledger.apply(&[pause(80)]).unwrap();
        told
    };
    let mut plain = open(&folder.path().join("plain.db")).unwrap();
    let expected = script(&mut plain, &|_| {});
    let (mut ledger, switch) = flaky(&folder.path().join("flaky.db"));
    let told = script(&mut ledger, &|full| switch.store(full, Ordering::SeqCst));
    assert_eq!(told, expected);
    assert_eq!(ledger.state(), None);
    drop(ledger);
    let kept = open(&folder.path().join("flaky.db")).unwrap();
    assert_eq!(kept.past().unwrap(), plain.past().unwrap());
    assert_eq!(kept.history(&Filter::default()).unwrap(), plain.history(&Filter::default()).unwrap());
    let events = kept.events(at(0)).unwrap();
    assert_eq!(
        serde_json::to_string(&events).unwrap(),
        r#"[{"at":"2026-11-22T23:00:00Z","kind":"ledger_recovered","detail":{"since":"2026-11-22T23:00:10Z","#
            .to_owned()
            + r#""reason":"/state/ledger.db: the ledger can't be written: the disk is full","written":7,"lost":0,"lost_runs":0,"lost_skipped":0,"lost_events":0}}]"#
    );
}

#[test]
fn the_state_says_since_when_why_and_how_much() {
    let folder = tempfile::tempdir().unwrap();
    let (mut ledger, full) = flaky(&folder.path().join("ledger.db"));
    assert_eq!(ledger.state(), None);
    full.store(true, Ordering::SeqCst);
    ledger.apply(&[claim("a", Some(5), NewState::Started), claim("b", Some(6), NewState::Started)]).unwrap();
    assert_eq!(
        ledger.state().unwrap(),
        "/state/ledger.db: the ledger can't be written: the disk is full since 2026-11-22T23:00:05Z; \
         2 changes wait in memory"
    );
    ledger.limit = 3;
    let runs = claimed(
        &ledger
            .apply(&[claim("a", Some(7), NewState::Started), claim("b", Some(8), NewState::Started)])
            .unwrap(),
    );
    assert_eq!(runs, [RunId(3), RunId(4)]);
    ledger.apply(&[finished(runs[1], 9, Outcome::Succeeded)]).unwrap();
    assert_eq!(
        ledger.state().unwrap(),
        "/state/ledger.db: the ledger can't be written: the disk is full since 2026-11-22T23:00:05Z; \
         3 changes wait in memory and 2 more could not be kept: 1 run and 1 other change"
    );
    assert!(ledger.retry().is_err());
    full.store(false, Ordering::SeqCst);
    ledger.retry().unwrap();
    assert_eq!(ledger.state(), None);
    assert_eq!(ledger.history(&Filter::default()).unwrap().len(), 3);
    assert_eq!(ledger.events(at(0)).unwrap()[0].detail["lost"], 2);
}

#[test]
fn rows_follow_their_numbers_when_another_process_took_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let (mut ledger, full) = flaky(&path);
    full.store(true, Ordering::SeqCst);
    let batch = [claim("a", Some(0), NewState::Started), claim("a", Some(1), NewState::Started)];
    let runs = claimed(&ledger.apply(&batch).unwrap());
    ledger.apply(&[finished(runs[0], 9, Outcome::Failed)]).unwrap();
    let theirs = claimed(&open(&path).unwrap().apply(&[claim("b", None, NewState::Started)]).unwrap())[0];
    assert_eq!(runs, [theirs, RunId(2)]);
    full.store(false, Ordering::SeqCst);
    ledger.apply(&[finished(runs[1], 9, Outcome::Succeeded)]).unwrap();
    let check = |run: RunId, expected: (i64, i64, Outcome)| {
        let record = ledger.run(run).unwrap().unwrap();
        assert_eq!(
            (record.run.0, record.slot, record.outcome),
            (expected.0, Some(at(expected.1)), expected.2)
        );
    };
    check(runs[0], (3, 0, Outcome::Failed));
    check(runs[1], (2, 1, Outcome::Succeeded));
    assert_eq!(open(&path).unwrap().run(theirs).unwrap().unwrap().outcome, Outcome::Running);
    // Full again: a change of a row that got another number finds it.
    let third = claimed(&ledger.apply(&[claim("a", Some(2), NewState::Started)]).unwrap())[0];
    full.store(true, Ordering::SeqCst);
    ledger.apply(&[finished(third, 9, Outcome::TimedOut)]).unwrap();
    assert_eq!(ledger.run(third).unwrap().unwrap().outcome, Outcome::TimedOut);
}

#[test]
fn what_a_program_was_told_is_the_number_of_its_row() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let (mut ledger, full) = flaky(&path);
    let skipped = NewState::Skipped(crate::model::SkipReason::Missed);
    let ahead = Write::Claim(NewRow { at: at(900), ..row_of(claim("a", Some(60), skipped)) });
    ledger.apply(&[ahead]).unwrap();
    full.store(true, Ordering::SeqCst);
    // Of a future that did not come: the file refuses the first try of this one, and memory doesn't.
    let mut told = claimed(&ledger.apply(&[claim("a", Some(60), NewState::Started)]).unwrap());
    // Memory refuses this one, which takes a number there.
    let twice = [claim("b", Some(0), NewState::Started), claim("b", Some(0), NewState::Started)];
    told.extend(claimed(&ledger.apply(&twice).unwrap()[..1]));
    told.extend(claimed(&ledger.apply(&[claim("c", None, NewState::Started)]).unwrap()));
    ledger.limit = 1;
    told.extend(claimed(&ledger.apply(&[claim("lost", Some(0), NewState::Started)]).unwrap()));
    ledger.limit = LIMIT;
    told.extend(claimed(&ledger.apply(&[claim("d", Some(0), NewState::Started)]).unwrap()));
    full.store(false, Ordering::SeqCst);
    told.extend(claimed(&ledger.apply(&[claim("e", Some(0), NewState::Started)]).unwrap()));
    assert_eq!(ledger.state(), None);
    let stored = open(&path).unwrap();
    let jobs: Vec<_> = told
        .iter()
        .map(|run| stored.run(*run).unwrap().map_or("-".to_owned(), |record| record.job))
        .collect();
    assert_eq!(jobs, ["a", "b", "c", "-", "d", "e"]);
}

#[test]
fn what_was_written_although_it_was_reported_as_failed_is_not_written_twice() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(&folder.path().join("ledger.db")).unwrap();
    let manual = row_of(claim("a", None, NewState::Started));
    let again = Write::ClaimAs { run: RunId(7), above: RunId(9), row: manual };
    for _ in 0..2 {
        assert_eq!(ledger.apply(std::slice::from_ref(&again)).unwrap(), [Applied::Claimed(RunId(7))]);
    }
    assert_eq!(ledger.history(&Filter::default()).unwrap().len(), 1);
}

#[test]
fn what_waited_is_written_in_the_order_in_which_it_came() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let (mut ledger, full) = flaky(&path);
    ledger.apply(&[claim("first", None, NewState::Started)]).unwrap();
    full.store(true, Ordering::SeqCst);
    let run = claimed(&ledger.apply(&[claim("first", None, NewState::Started)]).unwrap())[0];
    // Its success is what the other one comes `after`.
    ledger.apply(&[finished(run, 60, Outcome::Succeeded), claim("then", None, NewState::Started)]).unwrap();
    let order =
        |past: Past| (past.jobs[0].last_started, past.jobs[0].last_succeeded, past.jobs[1].last_started);
    assert_eq!(order(ledger.past().unwrap()), (Some(2), Some(3), Some(4)));
    full.store(false, Ordering::SeqCst);
    ledger.retry().unwrap();
    assert_eq!(order(open(&path).unwrap().past().unwrap()), (Some(2), Some(3), Some(4)));
}

fn row_of(write: Write) -> NewRow {
    let Write::Claim(row) = write else { panic!("no claim: {write:?}") };
    row
}

#[test]
fn ten_thousand_rows_wait_and_what_has_no_room_is_dropped_in_order_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (mut ledger, full) = flaky(&folder.path().join("ledger.db"));
    full.store(true, Ordering::SeqCst);
    ledger.limit = 8_000;
    let event = |slot| Event { at: at(slot), kind: "x".into(), detail: serde_json::Value::Null };
    let mut runs = vec![];
    for slot in 0..2_500 {
        let batch = [
            claim("runs", Some(slot), NewState::Started),
            claim("skips", Some(slot), NewState::Skipped(crate::model::SkipReason::Overlap)),
            Write::Event(event(slot)),
            Write::Accounted { until: at(slot) },
        ];
        runs.push(claimed(&ledger.apply(&batch).unwrap()[..1])[0]);
    }
    // Each that is kept gets its end.
    let ends: Vec<Write> = runs.iter().map(|run| finished(*run, 9_999, Outcome::Succeeded)).collect();
    ledger.apply(&ends).unwrap();
    let state = ledger.state().unwrap();
    assert!(state.ends_with("1000 more could not be kept: 500 skipped slots and 500 events"), "{state}");
    assert_eq!(ledger.news().len(), 1);
    full.store(false, Ordering::SeqCst);
    ledger.retry().unwrap();
    let lost = Lost { skipped: 500, events: 500, ..Lost::default() };
    assert_eq!(ledger.news(), [StoreNews::Written { changes: 9_000, lost }]);
    let stored = open(&folder.path().join("ledger.db")).unwrap();
    assert_eq!(stored.past().unwrap().accounted, Some(at(2_499)));
    let rows = |outcome| {
        let filter = Filter { outcome: Some(outcome), ..Filter::default() };
        stored.history(&filter).unwrap().len()
    };
    assert_eq!((rows(Outcome::Succeeded), rows(Outcome::Skipped), rows(Outcome::Running)), (2_500, 2_000, 0));
}
