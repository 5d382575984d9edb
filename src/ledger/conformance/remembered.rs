//! What is read back: history, the past, pauses, incidents, events; and what is dropped.

use crate::model::{Channel, NoticeKind, Outcome, Severity, SkipReason, Trigger};
use serde_json::json;

use super::super::*;
use super::{at, claim, claimed, finished, owner};

pub(super) fn history_is_filtered_newest_first<L: Ledger>(mut ledger: L) {
    let started = NewState::Started;
    let missed = NewState::Skipped(SkipReason::Missed);
    let range = match claim("b", Some(-600), missed) {
        Write::Claim(row) => Write::Claim(NewRow { slot_last: Some(at(-60)), slots: 10, ..row }),
        other => other,
    };
    // Written in another order than that of their slots: 1 a 120, 2 a 0, 3 b 60, 4 b range, 5 a by hand at 0.
    ledger
        .apply(&[
            claim("a", Some(120), started),
            claim("a", Some(0), missed),
            claim("b", Some(60), started),
            range,
            claim("a", None, started),
        ])
        .unwrap();
    ledger
        .apply(&[finished(RunId(1), 130, Outcome::Failed), finished(RunId(3), 70, Outcome::Succeeded)])
        .unwrap();
    let check = |filter: Filter, expected: &[i64]| {
        let got: Vec<i64> = ledger.history(&filter).unwrap().iter().map(|record| record.run.0).collect();
        assert_eq!(got, expected, "{filter:?}");
        let mut visited = Vec::new();
        ledger
            .visit(&filter, &mut |record| {
                visited.push(record.run.0);
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(visited, expected, "{filter:?}");
    };
    let all = Filter::default;
    check(all(), &[1, 3, 5, 2, 4]);
    check(Filter { limit: Some(2), ..all() }, &[1, 3]);
    check(Filter { limit: Some(0), ..all() }, &[]);
    check(Filter { job: Some("a".into()), ..all() }, &[1, 5, 2]);
    check(Filter { job: Some("nobody".into()), ..all() }, &[]);
    check(Filter { outcome: Some(Outcome::Skipped), ..all() }, &[2, 4]);
    check(Filter { outcome: Some(Outcome::Succeeded), ..all() }, &[3]);
    check(Filter { outcome: Some(Outcome::Running), ..all() }, &[5]);
    check(Filter { job: Some("a".into()), outcome: Some(Outcome::Failed), ..all() }, &[1]);
    check(Filter { since: Some(at(0)), ..all() }, &[1, 3, 5, 2]);
    check(Filter { since: Some(at(-60)), ..all() }, &[1, 3, 5, 2, 4]);
    check(Filter { since: Some(at(61)), ..all() }, &[1]);
    let mut first = None;
    ledger
        .visit(&all(), &mut |record| {
            assert_eq!(first.replace(record.run), None, "it goes on after a break");
            ControlFlow::Break(())
        })
        .unwrap();
    assert_eq!(first, Some(RunId(1)));
}

pub(super) fn latest_is_the_newest_run_of_each_job<L: Ledger>(mut ledger: L) {
    let (started, queued) = (NewState::Started, NewState::Queued);
    let skipped = NewState::Skipped(SkipReason::Overlap);
    ledger
        .apply(&[
            claim("b", Some(0), started),
            claim("a", Some(0), started),
            claim("a", Some(60), started),
            claim("a", Some(120), skipped),
            claim("a", Some(180), queued),
            claim("c", Some(0), skipped),
            claim("d", Some(0), queued),
        ])
        .unwrap();
    ledger.apply(&[finished(RunId(2), 500, Outcome::Failed)]).unwrap();
    let latest: Vec<_> = ledger.latest().unwrap().iter().map(|one| (one.job.clone(), one.run.0)).collect();
    assert_eq!(latest, [("a".to_owned(), 3), ("b".to_owned(), 1)]);
    ledger.apply(&[finished(RunId(7), 9, Outcome::Cancelled)]).unwrap();
    assert_eq!(
        ledger.latest().unwrap().last().map(|one| (one.run.0, one.outcome)),
        Some((7, Outcome::Cancelled))
    );
}

pub(super) fn the_past_is_what_the_engine_needs<L: Ledger>(mut ledger: L) {
    let table = |hash: &str, from| TableRecord {
        in_force_from: at(from),
        hash: hash.into(),
        zones: [("Africa/Casablanca".to_owned(), vec![(at(0), 3600)])].into(),
        jobs: vec![TableJob {
            job: JobName::new("a").unwrap(),
            kind: "command".into(),
            schedule: vec!["0 0 * * *".into()],
            timezone: "Africa/Casablanca".into(),
            enabled: true,
            jitter: Duration::from_secs(90),
            group: Some("nightly".into()),
        }],
    };
    ledger
        .apply(&[
            Write::Table(table("one", 0)),
            claim("a", Some(0), NewState::Started),
            claim("a", Some(60), NewState::Started),
            Write::Accounted { until: at(60) },
            Write::Table(table("two", 1)),
        ])
        .unwrap();
    let epoch = match claim("b", Some(-60), NewState::Queued) {
        Write::Claim(row) => Write::Claim(NewRow { epoch: 3, slot_last: Some(at(-10)), ..row }),
        other => other,
    };
    ledger
        .apply(&[
            finished(RunId(1), 90, Outcome::Succeeded),
            epoch,
            Write::Adopted { run: RunId(2), owner: owner("run-now") },
            Write::Accounted { until: at(30) },
        ])
        .unwrap();
    let past = ledger.past().unwrap();
    assert_eq!(past.accounted, Some(at(30)));
    assert_eq!(past.table, Some(table("two", 1)));
    let open: Vec<_> = past
        .open
        .iter()
        .map(|open| {
            (open.record.run.0, open.record.attempts.len(), open.epoch, open.owner.clone(), open.queued)
        })
        .collect();
    assert_eq!(open, [(2, 1, 0, owner("run-now"), false), (3, 0, 3, owner("daemon"), true)]);
    assert_eq!(
        past.jobs,
        [
            JobPast {
                job: "a".into(),
                epoch: 0,
                last_slot: Some(at(60)),
                last_started: Some(2),
                last_succeeded: Some(3),
            },
            JobPast {
                job: "b".into(),
                epoch: 3,
                last_slot: Some(at(-10)),
                last_started: None,
                last_succeeded: None,
            },
        ]
    );
}

/// Where the last start and the last success of each job are.
fn places<L: Ledger>(ledger: &L) -> Vec<(Option<Place>, Option<Place>)> {
    ledger.past().unwrap().jobs.iter().map(|job| (job.last_started, job.last_succeeded)).collect()
}

pub(super) fn starts_and_successes_are_in_the_order_in_which_they_came<L: Ledger>(mut ledger: L) {
    let started = |job, slot| claim(job, Some(slot), NewState::Started);
    let success = |run, seconds| finished(RunId(run), seconds, Outcome::Succeeded);
    ledger.apply(&[started("a", 7_200), success(1, 7_260)]).unwrap();
    // The clock is set back by two hours.
    ledger.apply(&[started("b", 60)]).unwrap();
    assert_eq!(places(&ledger), [(Some(1), Some(2)), (Some(3), None)]);
    ledger.apply(&[success(2, 90), started("a", 120), success(3, 150)]).unwrap();
    assert_eq!(places(&ledger), [(Some(5), Some(6)), (Some(3), Some(4))]);
    // A failure, and what was only tried, have no place.
    ledger.apply(&[started("a", 180), finished(RunId(4), 190, Outcome::Failed)]).unwrap();
    let Write::Claim(tried) = started("b", 200) else { return };
    ledger.apply(&[Write::Claim(NewRow { dry_run: true, ..tried }), success(5, 210)]).unwrap();
    let [(started, succeeded), b] = places(&ledger)[..] else { panic!() };
    assert!(started > succeeded && succeeded == Some(6));
    assert_eq!(b, (Some(3), Some(4)));
}

pub(super) fn a_run_after_others_that_is_cancelled_while_it_waits_counts_as_begun<L: Ledger>(mut ledger: L) {
    let waits = |job, trigger| {
        let Write::Claim(row) = claim(job, None, NewState::Queued) else { panic!() };
        Write::Claim(NewRow { trigger, ..row })
    };
    let after = |job| waits(job, Trigger::After);
    let cancelled = |run| finished(RunId(run), 70, Outcome::Cancelled);
    ledger.apply(&[claim("a", None, NewState::Started), finished(RunId(1), 60, Outcome::Succeeded)]).unwrap();
    ledger.apply(&[after("b"), after("c"), waits("d", Trigger::Manual)]).unwrap();
    ledger.apply(&[cancelled(2), cancelled(4)]).unwrap();
    // One that makes way for the end of the daemon is made up for.
    ledger.apply(&[Write::Dropped { run: RunId(3), at: at(70), reason: SkipReason::Stopping }]).unwrap();
    assert_eq!(places(&ledger), [(Some(1), Some(2)), (Some(3), None), (None, None), (None, None)]);
}

pub(super) fn what_has_ended_counts_from_when_that_is_known<L: Ledger>(mut ledger: L) {
    let started = |job| claim(job, None, NewState::Started);
    let success = |run| finished(RunId(run), 90, Outcome::Succeeded);
    ledger.apply(&[started("a"), Write::EndKnown { run: RunId(1) }, started("b")]).unwrap();
    assert_eq!(ledger.past().unwrap().ended, [(RunId(1), 2)]);
    ledger.apply(&[Write::EndKnown { run: RunId(1) }, success(1)]).unwrap();
    let [(_, succeeded), (started_then, _)] = places(&ledger)[..] else { panic!() };
    assert!(succeeded < started_then, "{succeeded:?} {started_then:?}");
    assert_eq!(ledger.past().unwrap().ended, []);
    // One that goes on with another attempt has not ended; one that is over or unknown has no end to come.
    let again = Write::AttemptStarted { run: RunId(3), number: 2, at: at(60) };
    let ends = [1, 3, 99].map(|run| Write::EndKnown { run: RunId(run) });
    ledger.apply(&[started("a")]).unwrap();
    ledger.apply(&ends).unwrap();
    ledger.apply(&[again, started("b"), success(3)]).unwrap();
    let [(_, succeeded), (started_then, _)] = places(&ledger)[..] else { panic!() };
    assert!(succeeded > started_then, "{succeeded:?} {started_then:?}");
    assert_eq!(ledger.past().unwrap().ended, []);
}

pub(super) fn pauses_replace_each_other<L: Ledger>(mut ledger: L) {
    let a = || Some(JobName::new("a").unwrap());
    let pause = |job, since, until: Option<i64>| Write::Pause {
        job,
        since: at(since),
        until: until.map(at),
        by: "root (uid 0)".into(),
    };
    let record = |job: Option<&str>, since, until: Option<i64>| PauseRecord {
        job: job.map(str::to_owned),
        since: at(since),
        until: until.map(at),
        by: "root (uid 0)".into(),
    };
    ledger.apply(&[pause(None, 0, None), pause(a(), 1, Some(9)), pause(a(), 2, None)]).unwrap();
    assert_eq!(ledger.past().unwrap().pauses, [record(None, 0, None), record(Some("a"), 2, None)]);
    ledger.apply(&[Write::Resume { job: None }]).unwrap();
    assert_eq!(ledger.past().unwrap().pauses, [record(Some("a"), 2, None)]);
    ledger.apply(&[Write::Resume { job: a() }, pause(None, 5, Some(6))]).unwrap();
    assert_eq!(ledger.past().unwrap().pauses, [record(None, 5, Some(6))]);
}

pub(super) fn incidents_and_notices_stay_until_they_are_done<L: Ledger>(mut ledger: L) {
    let job = |name| JobName::new(name).unwrap();
    let incident = |name, failures| Incident {
        job: job(name),
        check: None,
        severity: Severity::Critical,
        opened_at: at(1),
        run: RunId(1),
        failures,
        reason: (failures > 1).then(|| "é".into()),
        told_at: (failures > 1).then(|| at(2)),
        openings: vec![at(-5), at(1)],
        flapping: failures > 1,
        closed_at: (failures > 1).then(|| at(3)),
    };
    let checked = |name, check: &str| Incident {
        check: Some(check.into()),
        severity: Severity::Warning,
        ..incident(name, 1)
    };
    let notice = |id: &str, contact: &str| Notice {
        id: id.into(),
        at: at(1),
        job: job("a"),
        run: RunId(1),
        contact: contact.into(),
        channel: Channel::Webhook,
        kind: NoticeKind::Failed,
        story: json!({ "reason": "é" }),
    };
    assert_eq!(ledger.notices().unwrap(), vec![]);
    let run = claimed(&ledger.apply(&[claim("a", None, NewState::Started)]).unwrap())[0];
    ledger
        .apply(&[
            finished(run, 1, Outcome::Failed),
            Write::Incident(incident("b", 1)),
            Write::Incident(incident("a", 1)),
            Write::Incident(checked("a", "disk /")),
            Write::Incident(checked("a", "page")),
            Write::Notice(notice("z", "me")),
            Write::Notice(notice("y", "you")),
        ])
        .unwrap();
    // A change that is written twice is there once.
    ledger.apply(&[Write::Incident(incident("a", 2)), Write::Notice(notice("z", "other"))]).unwrap();
    let of_a = [incident("a", 2), checked("a", "disk /"), checked("a", "page")];
    assert_eq!(ledger.past().unwrap().incidents, [&of_a[..], &[incident("b", 1)]].concat());
    assert_eq!(ledger.incidents_of(&job("a")).unwrap(), of_a);
    assert_eq!(ledger.notices().unwrap(), [notice("z", "me"), notice("y", "you")]);
    let done = |id: &str| Write::NoticeDone { id: id.into() };
    let gone = |check: Option<&str>| Write::IncidentGone { job: job("a"), check: check.map(str::to_owned) };
    ledger.apply(&[done("z"), done("unknown"), gone(None), gone(Some("page"))]).unwrap();
    assert_eq!(ledger.incidents_of(&job("a")).unwrap(), [checked("a", "disk /")]);
    assert_eq!(ledger.past().unwrap().incidents, [checked("a", "disk /"), incident("b", 1)]);
    assert_eq!(ledger.notices().unwrap(), [notice("y", "you")]);
}

pub(super) fn events_and_tables_are_kept<L: Ledger>(mut ledger: L) {
    let event =
        |seconds, kind: &str| Event { at: at(seconds), kind: kind.into(), detail: json!({"pid": seconds}) };
    let table = |seconds| TableRecord {
        in_force_from: at(seconds),
        hash: seconds.to_string(),
        zones: Default::default(),
        jobs: vec![],
    };
    ledger.apply(&[Write::Event(event(0, "daemon_started")), Write::Table(table(0))]).unwrap();
    ledger.apply(&[Write::Event(event(9, "daemon_stopped")), Write::Table(table(9))]).unwrap();
    assert_eq!(ledger.events(at(0)).unwrap(), [event(0, "daemon_started"), event(9, "daemon_stopped")]);
    assert_eq!(ledger.events(at(1)).unwrap(), [event(9, "daemon_stopped")]);
    assert_eq!(ledger.tables(at(-1)).unwrap(), [table(0), table(9)]);
    assert_eq!(ledger.tables(at(8)).unwrap(), [table(0), table(9)]);
    assert_eq!(ledger.tables(at(9)).unwrap(), [table(9)]);
}

pub(super) fn old_rows_are_dropped_in_batches<L: Ledger>(mut ledger: L) {
    assert_eq!(ledger.prune(at(0), 10).unwrap(), 0);
    let skipped = NewState::Skipped(SkipReason::Missed);
    ledger
        .apply(&[
            claim("a", Some(0), NewState::Started),
            claim("a", Some(1), NewState::Started),
            claim("a", Some(2), skipped),
            claim("a", Some(3), NewState::Started),
            claim("a", Some(50), skipped),
            Write::Event(Event { at: at(0), kind: "old".into(), detail: json!({}) }),
        ])
        .unwrap();
    ledger
        .apply(&[finished(RunId(1), 10, Outcome::Succeeded), finished(RunId(4), 60, Outcome::Succeeded)])
        .unwrap();
    // 2 is open, 4 ended later, 5 is of later.
    let dropped: Vec<usize> = (0..3).map(|_| ledger.prune(at(50), 1).unwrap()).collect();
    assert_eq!(dropped, [1, 1, 0]);
    let left: Vec<_> = ledger.history(&Filter::default()).unwrap().iter().map(|one| one.run.0).collect();
    assert_eq!(left, [5, 4, 2]);
    assert_eq!(ledger.events(at(0)).unwrap(), vec![]);
    let job = ledger.past().unwrap().jobs.remove(0);
    assert_eq!((job.last_slot, job.last_succeeded), (Some(at(50)), Some(5)));
    let next = claimed(&ledger.apply(&[claim("a", Some(99), NewState::Started)]).unwrap());
    assert_eq!(next, [RunId(6)]);
}

pub(super) fn a_thousand_claims_are_one_batch<L: Ledger>(mut ledger: L) {
    let batch: Vec<Write> =
        (0..1000).map(|n| claim(&format!("job-{n}"), Some(0), NewState::Started)).collect();
    let runs = claimed(&ledger.apply(&batch).unwrap());
    assert_eq!(runs, (1..=1000).map(RunId).collect::<Vec<_>>());
    let past = ledger.past().unwrap();
    assert_eq!((past.open.len(), past.jobs.len()), (1000, 1000));
    assert!(past.open.iter().all(|open| open.record.attempts.len() == 1 && open.owner == owner("daemon")));
    assert_eq!(ledger.history(&Filter::default()).unwrap().len(), 1000);
}
