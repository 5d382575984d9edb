//! What `audit` finds in ledgers that were written by hand.

use serde_json::json;

use super::audit::{Audit, Question, audit};
use super::conformance::{at, owner};
use super::*;
use crate::model::{SkipReason, Trigger};

struct Case {
    ledger: SqliteLedger,
    now: i64,
    lives: bool,
    _folder: tempfile::TempDir,
}

/// A row of a job: skipped, or one that ran.
fn row(job: &str, slot: i64, epoch: u32, ran: bool) -> Write {
    range(job, slot, None, 1, epoch, ran)
}

fn range(job: &str, slot: i64, last: Option<i64>, slots: u64, epoch: u32, ran: bool) -> Write {
    Write::Claim(NewRow {
        job: JobName::new(job).unwrap(),
        kind: "command".into(),
        trigger: Trigger::Schedule,
        slot: Some(at(slot)),
        slot_last: last.map(at),
        slots,
        epoch,
        state: if ran { NewState::Started } else { NewState::Skipped(SkipReason::Missed) },
        requested_by: None,
        dry_run: false,
        at: at(slot),
    })
}

fn event(seconds: i64, kind: &str, detail: serde_json::Value) -> Write {
    Write::Event(Event { at: at(seconds), kind: kind.into(), detail })
}

/// A table of jobs in UTC: name, schedule, jitter in seconds. An empty schedule: disabled.
fn table(seconds: i64, jobs: &[(&str, &str, u64)]) -> [Write; 2] {
    let kind = if seconds == 0 { "daemon_started" } else { "reloaded" };
    let job = |(name, schedule, jitter): &(&str, &str, u64)| TableJob {
        job: JobName::new(name).unwrap(),
        kind: "command".into(),
        schedule: vec![if schedule.is_empty() { "* * * * *" } else { *schedule }.to_owned()],
        timezone: "UTC".into(),
        enabled: !schedule.is_empty(),
        jitter: Duration::from_secs(*jitter),
        group: None,
    };
    let zones = [("UTC".to_owned(), vec![(at(0), 0)])].into();
    let jobs = jobs.iter().map(job).collect();
    let detail = json!({ "pid": 7, "boot": "b00t", "boot_time": at(-30) });
    [
        event(seconds, kind, detail),
        Write::Table(TableRecord { in_force_from: at(seconds), hash: String::new(), zones, jobs }),
    ]
}

impl Case {
    /// Seconds count from 23:00 UTC.
    fn new(jobs: &[(&str, &str, u64)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ledger = SqliteLedger::open(&folder.path().join("ledger.db"), owner("daemon"), "web1").unwrap();
        let mut case = Self { ledger, now: 0, lives: false, _folder: folder };
        case.write(&table(0, jobs));
        case
    }

    fn write(&mut self, batch: &[Write]) {
        for applied in self.ledger.apply(batch).unwrap() {
            assert!(!matches!(applied, Applied::AlreadyClaimed(_)), "{batch:?}");
        }
    }

    fn rows(&mut self, job: &str, slots: impl IntoIterator<Item = i64>) {
        let rows: Vec<Write> = slots.into_iter().map(|slot| row(job, slot, 0, true)).collect();
        self.write(&rows);
    }

    fn accounted(&mut self, seconds: i64) {
        self.now = seconds;
        self.write(&[Write::Accounted { until: at(seconds) }]);
    }

    fn audit(&self) -> Audit {
        let living = self.lives.then_some((Some(7), None));
        let question = Question { job: None, since: None, until: None, living, now: at(self.now) };
        audit(&self.ledger, &question).unwrap()
    }

    /// Slots, and those without and with too many rows, in seconds.
    #[track_caller]
    fn check(&self, slots: u64, unaccounted: &[(&str, i64)], duplicates: &[(&str, i64)]) {
        let found = self.audit();
        let seconds = |slot: &Timestamp| slot.as_second() - at(0).as_second();
        let holes: Vec<_> =
            found.unaccounted.iter().map(|one| (one.job.as_str(), seconds(&one.slot))).collect();
        let twice: Vec<_> =
            found.duplicates.iter().map(|one| (one.job.as_str(), seconds(&one.slot))).collect();
        assert_eq!((found.slots, holes.as_slice(), twice.as_slice()), (slots, unaccounted, duplicates));
        assert_eq!(found.accounted, slots - unaccounted.len() as u64);
    }
}

#[test]
fn a_hole_is_found_and_told_in_the_words_of_the_contract() {
    let mut case = Case::new(&[("a", "* * * * *", 0), ("b", "*/2 * * * *", 0)]);
    case.rows("a", [0, 60, 180, 240]);
    case.rows("b", [0, 120, 240]);
    case.accounted(240);
    case.check(8, &[("a", 120)], &[]);
    assert_eq!(
        serde_json::to_string(&case.audit()).unwrap(),
        r#"{"slots":8,"accounted":7,"unaccounted":[{"job":"a","slot":"2026-11-22T23:02:00Z"}],"duplicates":[],"until":"2026-11-22T23:04:00Z"}"#
    );
    case.rows("a", [120]);
    case.check(8, &[], &[]);
    let only = |job: &str, since, until| {
        let job = Some(JobName::new(job).unwrap());
        let question = Question { job, since, until, living: None, now: at(300) };
        audit(&case.ledger, &question).unwrap().slots
    };
    assert_eq!(only("b", None, None), 3);
    assert_eq!(only("a", Some(at(60)), Some(at(180))), 3);
}

#[test]
fn a_living_daemon_may_be_ten_seconds_behind_and_no_more() {
    let mut case = Case::new(&[("a", "* * * * *", 0), ("j", "* * * * *", 30)]);
    case.rows("a", [0]);
    case.rows("j", [0]);
    case.accounted(5);
    case.lives = true;
    case.now = 69;
    case.check(2, &[], &[]);
    case.now = 70;
    case.check(3, &[("a", 60)], &[]);
    // With jitter the slot may be due half a minute later.
    case.now = 100;
    case.check(4, &[("a", 60), ("j", 60)], &[]);
    // One that has stopped owes nothing after its last word.
    case.write(&[event(6, "daemon_stopped", json!({ "pid": 7 }))]);
    case.check(2, &[], &[]);
}

#[test]
fn each_slot_is_judged_by_the_table_of_its_time() {
    let mut case = Case::new(&[("a", "* * * * *", 0), ("gone", "* * * * *", 0)]);
    case.rows("a", [0, 60]);
    case.rows("gone", [0, 60]);
    // At the very instant of a reload the new table counts.
    case.write(&table(120, &[("a", "*/3 * * * *", 0), ("off", "", 0), ("new", "*/2 * * * *", 0)]));
    case.rows("a", [180]);
    case.rows("new", [120]);
    case.write(&table(240, &[("a", "*/3 * * * *", 0), ("off", "* * * * *", 0)]));
    case.rows("off", [240, 300]);
    case.accounted(300);
    case.check(8, &[], &[]);
    case.accounted(360);
    case.check(10, &[("a", 360), ("off", 360)], &[]);
}

#[test]
fn a_range_row_answers_for_exactly_as_many_slots_as_it_says() {
    let check = |slots: u64, holes: &[(&str, i64)], twice: &[(&str, i64)]| {
        let mut case = Case::new(&[("a", "* * * * *", 0)]);
        case.rows("a", [0]);
        case.write(&[range("a", 60, Some(600), slots, 0, false), row("a", 660, 0, true)]);
        case.accounted(660);
        case.check(12, holes, twice);
    };
    check(10, &[], &[]);
    check(9, &[("a", 600)], &[]);
    check(11, &[], &[("a", 600)]);
    let mut case = Case::new(&[("a", "* * * * *", 0)]);
    case.write(&[range("a", 0, Some(600), 11, 0, false), row("a", 300, 0, true)]);
    case.accounted(600);
    case.check(11, &[], &[("a", 300)]);
}

#[test]
fn a_range_row_answers_for_no_slot_of_another_table_in_another_pass() {
    // Half past each minute; and a schedule that gives the ends of the range too.
    for (schedule, first) in [("30 * * * * *", 270), ("0/30 * * * * *", 240)] {
        let mut case = Case::new(&[("a", "* * * * *", 0)]);
        case.rows("a", [0]);
        case.write(&[range("a", 60, Some(600), 10, 0, false)]);
        let step = json!({ "seconds": -430.0, "from": at(640), "to": at(210), "again": ["a"] });
        case.write(&[event(210, "clock_stepped", step)]);
        case.write(&table(211, &[("a", schedule, 0)]));
        let every = if first == 270 { 60 } else { 30 };
        let second: Vec<i64> = (0..).map(|n| first + n * every).take_while(|slot| *slot <= 660).collect();
        let half = second.iter().filter(|slot| *slot % 60 == 30 && **slot != 450);
        case.write(&half.map(|slot| row("a", *slot, 1, true)).collect::<Vec<_>>());
        let full = second.iter().filter(|slot| *slot % 60 == 0);
        case.write(&full.map(|slot| row("a", *slot, 1, true)).collect::<Vec<_>>());
        case.accounted(660);
        case.check(11 + second.len() as u64, &[("a", 450)], &[]);
        case.write(&[row("a", 450, 1, true)]);
        case.check(11 + second.len() as u64, &[], &[]);
    }
}

#[test]
fn after_a_step_back_intervals_have_a_row_a_pass_and_fixed_times_run_once() {
    let jobs = [("a", "* * * * *", 0), ("day", "5 23 * * *", 0)];
    let check = |detail: serde_json::Value| {
        let mut case = Case::new(&jobs);
        case.rows("a", (0..=10).map(|minute| minute * 60));
        case.rows("day", [300]);
        case.write(&[event(210, "clock_stepped", detail.clone())]);
        case.write(&(4..=11).map(|minute| row("a", minute * 60, 1, true)).collect::<Vec<_>>());
        case.accounted(660);
        case.check(20, &[], &[]);
        // A second row of a fixed time that was only skipped is one a pass; one that ran is one too many.
        case.write(&[row("day", 300, 1, false)]);
        case.check(20, &[], &[]);
        case.write(&[row("day", 300, 2, true)]);
        case.check(20, &[], &[("day", 300)]);
        case.write(&[row("a", 60, 1, true)]);
        case.check(20, &[], &[("a", 60), ("day", 300)]);
    };
    check(json!({ "seconds": -430.0, "from": at(640), "to": at(210), "again": ["a"] }));
    // As earlier versions told it.
    check(json!({ "seconds": -430.0 }));
    // A row of the second pass is missing; a step of ten seconds is none.
    let mut case = Case::new(&jobs);
    case.rows("a", (0..=10).map(|minute| minute * 60));
    case.rows("day", [300]);
    case.write(&[event(605, "clock_stepped", json!({ "seconds": -10.0, "from": at(615), "to": at(605) }))]);
    case.accounted(605);
    case.check(12, &[], &[]);
    case.write(&[event(590, "clock_stepped", json!({ "seconds": -30.0, "from": at(620), "to": at(590) }))]);
    case.accounted(600);
    case.check(13, &[("a", 600)], &[]);
}

#[test]
fn a_ledger_of_the_future_is_not_believed() {
    let mut case = Case::new(&[("a", "* * * * *", 0)]);
    case.rows("a", (0..=10).map(|minute| minute * 60));
    // The next daemon brings another table; nothing but the ledger's last instant lay ahead of its clock.
    let [_, record] = table(30, &[("a", "*/2 * * * *", 0)]);
    let detail = json!({ "pid": 8, "boot": "b00t", "boot_time": at(-30) });
    case.write(&[event(30, "daemon_started", detail), record]);
    case.write(&[event(30, "clock_behind_ledger", json!({ "accounted": at(600), "now": at(30) }))]);
    case.write(&[row("a", 120, 1, true)]);
    case.accounted(120);
    case.check(12, &[], &[]);
    case.accounted(240);
    case.check(13, &[("a", 240)], &[]);
}

#[test]
fn a_start_shortly_before_the_ledgers_last_instant_is_no_step_back() {
    let mut case = Case::new(&[("a", "* * * * *", 0)]);
    case.rows("a", [0, 60]);
    case.accounted(63);
    // Two small steps back, of which one was made while nobody was there: the slot of 60 s is not dealt with again.
    case.write(&[event(71, "cancel_asked", json!({ "run": 1 }))]);
    let [_, record] = table(63, &[("a", "* * * * *", 0)]);
    let detail = json!({ "pid": 8, "boot": "b00t", "boot_time": at(-30) });
    case.write(&[event(57, "daemon_started", detail), record, event(58, "paused", json!({ "job": null }))]);
    case.rows("a", [120]);
    case.accounted(121);
    case.check(3, &[], &[]);
}

#[test]
fn rows_of_the_future_do_not_make_slots_due_that_waited_for_their_jitter() {
    let jobs = [("a", "* * * * *", 0), ("j", "* * * * *", 30)];
    let mut case = Case::new(&jobs);
    case.rows("a", [0, 60, 120]);
    case.rows("j", [0, 60]);
    case.accounted(119);
    let [_, record] = table(30, &jobs);
    let detail = json!({ "pid": 8, "boot": "b00t", "boot_time": at(-30) });
    let behind = json!({ "accounted": at(120), "complete": at(119), "now": at(30) });
    case.write(&[event(30, "daemon_started", detail), record, event(30, "clock_behind_ledger", behind)]);
    case.write(&[row("a", 60, 1, true), row("j", 60, 1, true)]);
    case.accounted(100);
    case.check(6, &[], &[]);
}

#[test]
fn every_boot_wants_its_row() {
    let mut case = Case::new(&[("up", "@reboot", 0)]);
    case.accounted(60);
    case.check(1, &[("up", -30)], &[]);
    case.write(&[row("up", -30, 0, true)]);
    case.check(1, &[], &[]);
}

#[test]
fn what_was_dropped_by_age_is_not_judged() {
    let mut case = Case::new(&[("a", "* * * * *", 0)]);
    let skipped = |slot| row("a", slot, 0, false);
    case.write(&[skipped(0), skipped(60), skipped(120), skipped(180)]);
    case.accounted(180);
    case.check(4, &[], &[]);
    assert_eq!(case.ledger.prune(at(90), 1).unwrap(), 1);
    case.check(2, &[], &[]);
}
