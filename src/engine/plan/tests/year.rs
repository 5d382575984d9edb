//! A year of local time through the plan and a real ledger, slot by slot.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use jiff::civil::Date;

use super::*;
use crate::ledger::{Applied, Filter, Ledger, Owner, SqliteLedger, Write};

/// Each run ends a second after its start.
struct Year {
    plan: Plan,
    ledger: SqliteLedger,
    last_run: i64,
    ending: Vec<RunId>,
}

impl Year {
    fn take(&mut self, event: Event, now: Timestamp, writes: &mut Vec<Write>) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for decision in self.plan.handle(event, now, &|_| false) {
                match decision {
                    Decision::Claim { token, row, .. } => {
                        assert_eq!(row.state, NewState::Started);
                        self.last_run += 1;
                        let run = RunId(self.last_run);
                        writes.push(Write::Claim(row));
                        self.ending.push(run);
                        events.push_back(Event::Claimed { token, run });
                    }
                    Decision::Accounted { until } => writes.push(Write::Accounted { until }),
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    fn write(&mut self, writes: &mut Vec<Write>, next: &mut i64) {
        for applied in self.ledger.apply(writes).unwrap() {
            if let Applied::Claimed(run) = applied {
                assert_eq!(run, RunId(*next));
                *next += 1;
            } else {
                assert_eq!(applied, Applied::Done);
            }
        }
        writes.clear();
    }
}

fn check_year(zone: &str) {
    let zone = TimeZone::get(zone).unwrap();
    let jobs = [("check", "*/5 * * * *"), ("half-past-two", "30 2 * * *"), ("midnight", "0 0 * * *")];
    let jobs = jobs.map(|(name, schedule)| {
        let schedule = Schedule::parse(&[schedule.to_owned()], &zone, name).unwrap();
        JobSpec { schedule: Some(schedule), ..job(name, "") }
    });
    let midnight = |date: Date| date.to_zoned(zone.clone()).unwrap().timestamp();
    let (first, last) = (Date::constant(2026, 1, 1), Date::constant(2027, 1, 1));
    let start = midnight(first) - Duration::from_secs(1);
    let end = midnight(last) - Duration::from_secs(1);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let owner = Owner { role: "daemon".into(), boot: String::new(), pid: 1, start_time: 1 };
    let ledger = SqliteLedger::open(&path, owner, "web1").unwrap();
    let (plan, _) = Plan::new(table(64, jobs), Recovered::default(), start, "web1", &|_| false);
    let mut year = Year { plan, ledger, last_run: 0, ending: vec![] };
    let (mut writes, mut next) = (vec![], 1);
    while let Some(now) = year.plan.next_wake().filter(|wake| *wake <= end) {
        year.take(Event::Tick, now, &mut writes);
        for run in std::mem::take(&mut year.ending) {
            let (at, outcome) = (now + Duration::from_secs(1), Outcome::Succeeded);
            writes.push(Write::Finished { run, at, outcome, error: None, report: None });
            year.take(Event::Ended { run, outcome }, at, &mut writes);
        }
        // A transaction for each slot would only be slower.
        if writes.len() > 5000 {
            year.write(&mut writes, &mut next);
        }
    }
    year.write(&mut writes, &mut next);

    let slots = |job: &str| {
        let mut slots = vec![];
        let filter = Filter { job: Some(job.to_owned()), ..Filter::default() };
        year.ledger
            .visit(&filter, &mut |record| {
                assert_eq!((record.outcome, record.attempts.len()), (Outcome::Succeeded, 1));
                slots.push(record.slot.unwrap());
                ControlFlow::Continue(())
            })
            .unwrap();
        slots.reverse();
        slots
    };
    let check = slots("check");
    let seconds = end.as_second() - start.as_second();
    assert_eq!((check[0], check.len() as i64), (midnight(first), seconds / 300));
    assert!(check.windows(2).all(|pair| pair[1].duration_since(pair[0]).as_secs() == 300));
    let days: Vec<Date> = first.series(jiff::Span::new().days(1)).take_while(|day| *day < last).collect();
    for job in ["half-past-two", "midnight"] {
        let slots = slots(job);
        let local: Vec<Date> = slots.iter().map(|slot| zone.to_datetime(*slot).date()).collect();
        assert_eq!((local.len(), &local), (365, &days), "{job}");
        assert_eq!(slots.iter().collect::<BTreeSet<_>>().len(), 365, "{job}");
    }
}

#[test]
fn a_year_in_paris() {
    check_year("Europe/Paris");
}

#[test]
fn a_year_in_casablanca() {
    check_year("Africa/Casablanca");
}

#[test]
fn a_year_on_lord_howe() {
    check_year("Australia/Lord_Howe");
}
