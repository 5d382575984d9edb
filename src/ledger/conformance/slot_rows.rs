//! What slots are judged by: rows in the order of their slots, and the chronicle.

use serde_json::json;

use super::*;
use crate::model::{Outcome, SkipReason};

fn row(slot: i64, epoch: u32) -> NewRow {
    match claim("a", Some(slot), NewState::Skipped(SkipReason::Missed)) {
        Write::Claim(row) => NewRow { epoch, ..row },
        other => panic!("{other:?}"),
    }
}

fn range(slot: i64, last: i64, slots: u64) -> NewRow {
    NewRow { slot_last: Some(at(last)), slots, ..row(slot, 0) }
}

fn visited(ledger: &dyn Ledger, job: &str, from: i64, most: usize) -> Vec<(i64, i64, u64, u32)> {
    let mut found = vec![];
    ledger
        .visit_slots(&JobName::new(job).unwrap(), at(from), &mut |row| {
            let seconds = |instant: Timestamp| instant.as_second() - at(0).as_second();
            let last = row.slot_last.map_or(-1, seconds);
            assert_eq!(row.outcome == Outcome::Running, row.slot == at(70), "{row:?}");
            found.push((seconds(row.slot), last, row.slots, row.epoch));
            if found.len() == most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    found
}

pub(in super::super) fn are_visited_in_the_order_of_their_slots<L: Ledger>(mut ledger: L) {
    let rows = [row(60, 0), range(10, 30, 21), row(5, 1), range(40, 50, 11), row(5, 0), row(6, 0)];
    ledger.apply(&rows.map(Write::Claim)).unwrap();
    ledger
        .apply(&[
            claim("a", None, NewState::Started),
            claim("b", Some(7), NewState::Skipped(SkipReason::Missed)),
            claim("a", Some(70), NewState::Started),
        ])
        .unwrap();
    let all = [
        (5, -1, 1, 0),
        (5, -1, 1, 1),
        (6, -1, 1, 0),
        (10, 30, 21, 0),
        (40, 50, 11, 0),
        (60, -1, 1, 0),
        (70, -1, 1, 0),
    ];
    assert_eq!(visited(&ledger, "a", 0, 99), all);
    assert_eq!(visited(&ledger, "a", 5, 99), all);
    assert_eq!(visited(&ledger, "a", 5, 2), all[..2]);
    // A range that goes on at that instant comes first.
    assert_eq!(visited(&ledger, "a", 30, 99), all[3..]);
    assert_eq!(visited(&ledger, "a", 30, 1), all[3..4]);
    assert_eq!(visited(&ledger, "a", 31, 99), all[4..]);
    assert_eq!(visited(&ledger, "b", 0, 99), [(7, -1, 1, 0)]);
    assert_eq!(visited(&ledger, "none", 0, 99), []);
    // More than are read in one go.
    let many: Vec<Write> = (0..1200).map(|n| Write::Claim(row(1000 + n, 0))).collect();
    ledger.apply(&many).unwrap();
    let slots: Vec<i64> = visited(&ledger, "a", 70, 9999).into_iter().map(|row| row.0).collect();
    assert_eq!(slots, std::iter::once(70).chain(1000..2200).collect::<Vec<_>>());
}

/// Its first slot may have had its row before the clock was set back; the thousands after it have none yet.
pub(in super::super) fn a_range_is_refused_only_by_one_that_spans_it<L: Ledger>(mut ledger: L) {
    ledger.apply(&[claim("a", Some(10), NewState::Started), Write::SetBack { epoch: 1 }]).unwrap();
    let mut taken = |row| matches!(ledger.apply(&[Write::Claim(row)]).unwrap()[..], [Applied::Claimed(_)]);
    assert!(taken(range(10, 3000, 2991)));
    assert!(!taken(range(10, 3000, 2991)));
    assert!(!taken(range(10, 2500, 2491)));
    assert!(taken(range(10, 4000, 3991)));
    assert!(!taken(row(10, 0)));
}

pub(in super::super) fn the_chronicle_is_in_the_order_of_writing<L: Ledger>(mut ledger: L) {
    assert_eq!(ledger.chronicle().unwrap(), Chronicle::default());
    let event = |seconds, kind: &str| Event { at: at(seconds), kind: kind.into(), detail: json!({}) };
    let table = |seconds| TableRecord {
        in_force_from: at(seconds),
        hash: seconds.to_string(),
        zones: Default::default(),
        jobs: vec![],
    };
    ledger.apply(&[Write::Event(event(100, "daemon_started")), Write::Table(table(100))]).unwrap();
    ledger
        .apply(&[
            Write::Event(event(9, "reloaded")),
            Write::Table(table(9)),
            Write::Accounted { until: at(10) },
        ])
        .unwrap();
    let found = ledger.chronicle().unwrap();
    assert_eq!(found.events, [event(100, "daemon_started"), event(9, "reloaded")]);
    assert_eq!(found.tables, [table(100), table(9)]);
    assert_eq!((found.accounted, found.kept_from), (Some(at(10)), None));
}

pub(in super::super) fn what_was_dropped_by_age_is_known<L: Ledger>(mut ledger: L) {
    let start = |seconds, boot: i64| {
        let detail = json!({ "boot": "b00t", "boot_time": at(boot) });
        Write::Event(Event { at: at(seconds), kind: "daemon_started".into(), detail })
    };
    let step = |seconds, from: i64| {
        let detail = json!({ "seconds": seconds - from, "from": at(from), "to": at(seconds) });
        Write::Event(Event { at: at(seconds), kind: "clock_stepped".into(), detail })
    };
    ledger.apply(&[start(0, -9), start(1, -5), step(2, 40), step(3, 60)]).unwrap();
    ledger.apply(&[Write::Claim(row(-9, 0)), Write::Claim(row(-5, 0)), Write::Claim(row(7, 0))]).unwrap();
    assert_eq!(ledger.prune(at(-20), 10).unwrap(), 0);
    assert_eq!(ledger.chronicle().unwrap().kept_from, None);
    assert_eq!(ledger.prune(at(50), 10).unwrap(), 2);
    // What the last boot was, and a step back from a time that is still judged.
    let found = ledger.chronicle().unwrap();
    assert_eq!(found.kept_from, Some(at(50)));
    assert_eq!(found.events.iter().map(|event| event.at).collect::<Vec<_>>(), [at(1), at(3)]);
    // The row that keeps `@reboot` from running again.
    assert_eq!(visited(&ledger, "a", -99, 99), [(-5, -1, 1, 0)]);
    // It never goes back.
    ledger.prune(at(49), 10).unwrap();
    assert_eq!(ledger.chronicle().unwrap().kept_from, Some(at(50)));
}
