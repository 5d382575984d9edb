//! What every ledger must do, whatever it is kept in. Each backend's tests call [`run`].

mod remembered;
mod slot_rows;

use jiff::Timestamp;

use super::*;
use crate::model::{Finding, Report};
use crate::model::{Outcome, SkipReason, Trigger};

pub(super) const OWNER_PID: u32 = 4711;

pub(super) fn owner(role: &str) -> Owner {
    Owner { role: role.into(), boot: "b00t".into(), pid: OWNER_PID, start_time: u64::MAX }
}

/// Seconds after 2026-11-22T23:00:00Z.
pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_795_388_400 + seconds).unwrap()
}

pub(super) fn claim(job: &str, slot: Option<i64>, state: NewState) -> Write {
    Write::Claim(NewRow {
        job: JobName::new(job).unwrap(),
        kind: "command".into(),
        trigger: if slot.is_some() { Trigger::Schedule } else { Trigger::Manual },
        slot: slot.map(at),
        slot_last: None,
        slots: 1,
        epoch: 0,
        state,
        requested_by: None,
        dry_run: false,
        at: at(slot.unwrap_or(0)),
    })
}

pub(super) fn finished(run: RunId, seconds: i64, outcome: Outcome) -> Write {
    Write::Finished { run, at: at(seconds), outcome, error: None, report: None }
}

pub(super) fn claimed(applied: &[Applied]) -> Vec<RunId> {
    let number = |applied: &Applied| match applied {
        Applied::Claimed(run) => *run,
        other => panic!("not claimed: {other:?}"),
    };
    applied.iter().map(number).collect()
}

/// `make` gives a new, empty ledger each time.
pub(super) fn run<L: Ledger>(mut make: impl FnMut() -> L) {
    run_all_but_pruning(&mut make);
    remembered::old_rows_are_dropped_in_batches(make());
    slot_rows::what_was_dropped_by_age_is_known(make());
}

/// For a ledger whose store takes nothing: there is nothing to drop from.
pub(super) fn run_all_but_pruning<L: Ledger>(make: &mut impl FnMut() -> L) {
    an_empty_ledger_knows_nothing(make());
    a_run_is_told_whole(make());
    a_slot_is_claimed_once(make());
    a_future_that_did_not_come_keeps_no_slot(make());
    a_queued_run_waits_starts_or_is_dropped(make());
    attempts_follow_each_other(make());
    the_error_of_a_run_is_told_once(make());
    odd_changes_change_nothing(make());
    remembered::history_is_filtered_newest_first(make());
    remembered::latest_is_the_newest_run_of_each_job(make());
    remembered::starts_and_successes_are_in_the_order_in_which_they_came(make());
    remembered::a_run_after_others_that_is_cancelled_while_it_waits_counts_as_begun(make());
    remembered::what_has_ended_counts_from_when_that_is_known(make());
    remembered::the_past_is_what_the_engine_needs(make());
    remembered::pauses_replace_each_other(make());
    remembered::incidents_and_notices_stay_until_they_are_done(make());
    remembered::events_and_tables_are_kept(make());
    remembered::a_thousand_claims_are_one_batch(make());
    slot_rows::are_visited_in_the_order_of_their_slots(make());
    slot_rows::a_range_is_refused_only_by_one_that_spans_it(make());
    slot_rows::the_chronicle_is_in_the_order_of_writing(make());
    numbers_go_on_above_those_given(make());
}

fn numbers_go_on_above_those_given<L: Ledger>(mut ledger: L) {
    let mut check = |after, expected| {
        ledger.continue_after(RunId(after)).unwrap();
        let run = claimed(&ledger.apply(&[claim("a", None, NewState::Started)]).unwrap())[0];
        assert_eq!((run, ledger.last_run().unwrap()), (RunId(expected), Some(run)));
    };
    check(41, 42);
    check(7, 43);
}

fn an_empty_ledger_knows_nothing<L: Ledger>(mut ledger: L) {
    assert_eq!(ledger.past().unwrap(), Past::default());
    assert_eq!(ledger.history(&Filter::default()).unwrap(), vec![]);
    assert_eq!(ledger.latest().unwrap(), vec![]);
    assert_eq!(ledger.run(RunId(1)).unwrap(), None);
    assert_eq!(ledger.last_run().unwrap(), None);
    assert_eq!(ledger.apply(&[]).unwrap(), vec![]);
}

fn a_run_is_told_whole<L: Ledger>(mut ledger: L) {
    let run = claimed(&ledger.apply(&[claim("db-backup", Some(0), NewState::Started)]).unwrap())[0];
    let record = || ledger.run(run).unwrap().unwrap();
    assert_eq!(
        serde_json::to_string(&record()).unwrap(),
        r#"{"run":1,"job":"db-backup","kind":"command","trigger":"schedule","slot":"2026-11-22T23:00:00Z","#
            .to_owned()
            + r#""outcome":"running","reason":null,"started_at":"2026-11-22T23:00:00Z","finished_at":null,"#
            + r#""host":"web1","attempts":[{"number":1,"started_at":"2026-11-22T23:00:00Z","#
            + r#""finished_at":null,"outcome":"running","error":null}],"summary":null,"facts":{},"findings":[]}"#
    );
    let mut report = Report::new("dumped é").fact("bytes", 432_013_312).fact("name", "x");
    report.findings.push(Finding::warning("slow"));
    let end = at(61) + std::time::Duration::from_micros(250_001);
    let done =
        Write::Finished { run, at: end, outcome: Outcome::Succeeded, error: None, report: Some(report) };
    assert_eq!(ledger.apply(&[done]).unwrap(), [Applied::Done]);
    let record = ledger.run(run).unwrap().unwrap();
    assert_eq!(
        serde_json::to_string(&record).unwrap(),
        r#"{"run":1,"job":"db-backup","kind":"command","trigger":"schedule","slot":"2026-11-22T23:00:00Z","#
            .to_owned()
            + r#""outcome":"succeeded","reason":null,"started_at":"2026-11-22T23:00:00Z","#
            + r#""finished_at":"2026-11-22T23:01:01.250001Z","host":"web1","attempts":[{"number":1,"#
            + r#""started_at":"2026-11-22T23:00:00Z","finished_at":"2026-11-22T23:01:01.250001Z","#
            + r#""outcome":"succeeded","error":null}],"summary":"dumped é","#
            + r#""facts":{"bytes":432013312,"name":"x"},"findings":[{"severity":"warning","message":"slow"}]}"#
    );
    assert_eq!(ledger.history(&Filter::default()).unwrap(), [record]);
}

fn a_slot_is_claimed_once<L: Ledger>(mut ledger: L) {
    let started = NewState::Started;
    let again = |epoch: u32| match claim("a", Some(0), started) {
        Write::Claim(row) => Write::Claim(NewRow { epoch, ..row }),
        other => other,
    };
    let first = claimed(&ledger.apply(&[again(0)]).unwrap())[0];
    let applied = ledger
        .apply(&[
            claim("a", Some(60), started),
            again(0),
            again(1),
            claim("b", Some(0), started),
            claim("a", None, started),
            claim("a", None, started),
        ])
        .unwrap();
    // Numbers only rise; a refused claim may cost one.
    let fresh: Vec<RunId> = applied
        .iter()
        .map(|one| match one {
            Applied::Claimed(run) => *run,
            _ => RunId(0),
        })
        .collect();
    assert_eq!(applied[1], Applied::AlreadyClaimed(first));
    assert_eq!(fresh[1], RunId(0));
    let rising = [first, fresh[0], fresh[2], fresh[3], fresh[4], fresh[5]];
    assert!(rising.is_sorted_by(|a, b| a < b), "{rising:?}");
    let a = JobName::new("a").unwrap();
    assert_eq!(ledger.claimed(&a, at(0), 0).unwrap(), Some(first));
    assert_eq!(ledger.claimed(&a, at(0), 1).unwrap(), Some(fresh[2]));
    assert_eq!(ledger.claimed(&a, at(0), 2).unwrap(), None);
    assert_eq!(ledger.history(&Filter::default()).unwrap().len(), 6);
    assert_eq!(ledger.last_run().unwrap(), Some(fresh[5]));
    // The same within one batch.
    let twice = [claim("c", Some(0), started), claim("c", Some(0), started)];
    let applied = ledger.apply(&twice).unwrap();
    let Applied::Claimed(c) = applied[0] else { panic!("{applied:?}") };
    assert_eq!(applied[1], Applied::AlreadyClaimed(c));
}

fn a_future_that_did_not_come_keeps_no_slot<L: Ledger>(mut ledger: L) {
    let year = 365 * 86_400;
    let row = |slot: i64, now: i64, state, last: Option<i64>| match claim("a", Some(slot), state) {
        Write::Claim(row) => Write::Claim(NewRow { at: at(now), slot_last: last.map(at), ..row }),
        other => other,
    };
    let refuses = |ledger: &L, slot: i64, now: i64| match row(slot, now, NewState::Started, None) {
        Write::Claim(row) => ledger.refuses(&row).unwrap(),
        other => panic!("{other:?}"),
    };
    let skipped = NewState::Skipped(SkipReason::Missed);
    // A year ahead: one slot is skipped, one stands for many, one is skipped and one runs.
    let ahead = [row(60, year, skipped, None), row(120, year, skipped, Some(999)), row(7, 7, skipped, None)];
    let first = claimed(&ledger.apply(&ahead).unwrap());
    let ran = claimed(&ledger.apply(&[row(1000, year, NewState::Started, None)]).unwrap())[0];
    ledger.apply(&[finished(ran, year, Outcome::Succeeded), Write::SetBack { epoch: 1 }]).unwrap();
    assert_eq!(refuses(&ledger, 60, 60), None);
    assert_eq!(refuses(&ledger, 60, year), Some(first[0]));
    // Then the time itself.
    let real = [
        row(60, 60, NewState::Started, None),
        row(120, 120, skipped, None),
        row(7, 60, NewState::Started, None),
        row(1000, 1000, NewState::Started, None),
    ];
    let applied = ledger.apply(&real).unwrap();
    assert_eq!(applied[2..], [Applied::AlreadyClaimed(first[2]), Applied::AlreadyClaimed(ran)]);
    let taken = claimed(&applied[..2]);
    let a = JobName::new("a").unwrap();
    assert_eq!(ledger.claimed(&a, at(60), 0).unwrap(), Some(first[0]));
    assert_eq!(ledger.claimed(&a, at(60), 1).unwrap(), Some(taken[0]));
    assert_eq!(ledger.claimed(&a, at(120), 1).unwrap(), Some(taken[1]));
    // The epoch of the clock is the same, whatever epochs such rows have.
    let known = &ledger.past().unwrap().jobs[0];
    assert_eq!((known.epoch, known.last_slot), (1, Some(at(120))));
    // What ran is not taken again, by a later back step neither; nor is what was skipped in good time.
    let again = [row(60, 30, NewState::Started, None), row(60, 61, NewState::Started, None)];
    let applied = ledger.apply(&again).unwrap();
    assert_eq!(applied, [Applied::AlreadyClaimed(first[0]); 2]);
}

fn a_queued_run_waits_starts_or_is_dropped<L: Ledger>(mut ledger: L) {
    let queue = |job, slot| claim(job, slot, NewState::Queued);
    let runs = claimed(
        &ledger
            .apply(&[queue("a", Some(0)), queue("b", Some(0)), queue("c", None), queue("d", Some(0))])
            .unwrap(),
    );
    let record = ledger.run(runs[0]).unwrap().unwrap();
    assert_eq!((record.outcome, record.started_at), (Outcome::Running, None));
    assert_eq!((record.reason.as_deref(), record.attempts.len()), (Some("queued"), 0));
    ledger
        .apply(&[
            Write::AttemptStarted { run: runs[0], number: 1, at: at(5) },
            Write::Dropped { run: runs[1], at: at(6), reason: SkipReason::Removed },
            Write::Finished {
                run: runs[2],
                at: at(7),
                outcome: Outcome::Cancelled,
                error: Some("cancelled by root (uid 0)".into()),
                report: None,
            },
        ])
        .unwrap();
    let check = |run: RunId, expected: (Outcome, Option<&str>, Option<i64>, Option<i64>)| {
        let record = ledger.run(run).unwrap().unwrap();
        let got = (record.outcome, record.reason.as_deref(), record.started_at, record.finished_at);
        assert_eq!(got, (expected.0, expected.1, expected.2.map(at), expected.3.map(at)));
    };
    check(runs[0], (Outcome::Running, None, Some(5), None));
    check(runs[1], (Outcome::Skipped, Some("removed"), None, None));
    check(runs[2], (Outcome::Cancelled, Some("cancelled by root (uid 0)"), None, Some(7)));
    check(runs[3], (Outcome::Running, Some("queued"), None, None));
    let open = ledger.past().unwrap().open;
    let open: Vec<_> = open.iter().map(|open| (open.record.run, open.queued)).collect();
    assert_eq!(open, [(runs[0], false), (runs[3], true)]);
}

fn attempts_follow_each_other<L: Ledger>(mut ledger: L) {
    let run = claimed(&ledger.apply(&[claim("a", Some(0), NewState::Started)]).unwrap())[0];
    let ended = |number, seconds, outcome| Write::AttemptEnded {
        run,
        number,
        at: at(seconds),
        outcome,
        error: Some(format!("error {number}")),
    };
    ledger
        .apply(&[
            ended(1, 1, Outcome::Failed),
            Write::AttemptStarted { run, number: 2, at: at(31) },
            ended(2, 32, Outcome::TimedOut),
            Write::AttemptStarted { run, number: 3, at: at(91) },
        ])
        .unwrap();
    ledger.apply(&[finished(run, 92, Outcome::Succeeded)]).unwrap();
    let record = ledger.run(run).unwrap().unwrap();
    let got: Vec<_> = record
        .attempts
        .iter()
        .map(|one| (one.number, one.started_at, one.finished_at, one.outcome, one.error.as_deref()))
        .collect();
    assert_eq!(
        got,
        [
            (1, at(0), Some(at(1)), Outcome::Failed, Some("error 1")),
            (2, at(31), Some(at(32)), Outcome::TimedOut, Some("error 2")),
            (3, at(91), Some(at(92)), Outcome::Succeeded, None),
        ]
    );
    assert_eq!((record.started_at, record.finished_at), (Some(at(0)), Some(at(92))));
}

fn the_error_of_a_run_is_told_once<L: Ledger>(mut ledger: L) {
    let mut check = |ended: Option<&str>, error: Option<&str>, expected: (Option<&str>, Option<&str>)| {
        let run = claimed(&ledger.apply(&[claim("a", None, NewState::Started)]).unwrap())[0];
        let outcome = Outcome::Failed;
        if let Some(ended) = ended {
            let error = Some(ended.to_owned());
            ledger.apply(&[Write::AttemptEnded { run, number: 1, at: at(1), outcome, error }]).unwrap();
        }
        let error = error.map(str::to_owned);
        ledger.apply(&[Write::Finished { run, at: at(2), outcome, error, report: None }]).unwrap();
        let record = ledger.run(run).unwrap().unwrap();
        assert_eq!((record.reason.as_deref(), record.attempts[0].error.as_deref()), expected);
    };
    check(None, Some("no space"), (None, Some("no space")));
    check(Some("no space"), Some("no space"), (None, Some("no space")));
    check(Some("no space"), Some("cancelled"), (Some("cancelled"), Some("no space")));
    check(Some("no space"), None, (None, Some("no space")));
}

fn odd_changes_change_nothing<L: Ledger>(mut ledger: L) {
    let applied = ledger
        .apply(&[
            Write::AttemptStarted { run: RunId(99), number: 1, at: at(0) },
            Write::AttemptEnded {
                run: RunId(99),
                number: 1,
                at: at(0),
                outcome: Outcome::Failed,
                error: None,
            },
            finished(RunId(99), 1, Outcome::Failed),
            Write::Dropped { run: RunId(99), at: at(0), reason: SkipReason::Overlap },
            Write::Adopted { run: RunId(99), owner: owner("daemon") },
            Write::Resume { job: None },
        ])
        .unwrap();
    assert_eq!(applied, [Applied::Done; 6]);
    assert_eq!(ledger.history(&Filter::default()).unwrap(), vec![]);
    // An end is final; only what was interrupted goes on.
    let runs = claimed(
        &ledger
            .apply(&[claim("a", Some(0), NewState::Started), claim("b", Some(0), NewState::Started)])
            .unwrap(),
    );
    ledger
        .apply(&[
            finished(runs[0], 1, Outcome::Succeeded),
            finished(runs[0], 2, Outcome::Failed),
            Write::AttemptStarted { run: runs[0], number: 2, at: at(3) },
            Write::Dropped { run: runs[0], at: at(3), reason: SkipReason::Overlap },
            finished(runs[1], 1, Outcome::Interrupted),
            Write::AttemptStarted { run: runs[1], number: 2, at: at(3) },
        ])
        .unwrap();
    let record = ledger.run(runs[0]).unwrap().unwrap();
    assert_eq!(
        (record.outcome, record.finished_at, record.attempts.len()),
        (Outcome::Succeeded, Some(at(1)), 1)
    );
    let record = ledger.run(runs[1]).unwrap().unwrap();
    assert_eq!((record.outcome, record.finished_at, record.attempts.len()), (Outcome::Running, None, 2));
}
