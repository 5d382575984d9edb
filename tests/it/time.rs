//! Clocks that are set, machines that sleep and a daemon that is stopped: what the ledger tells of it.

mod between_looks;
mod one_turn;
mod reminders;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::Timestamp;
use punk_eco_sched::alert::{self, Courier, Orders, Waiting};
use punk_eco_sched::clock::{Clock, ManualClock, SystemClock};
use punk_eco_sched::config::{self, Environment, JobTable};
use punk_eco_sched::engine::{Engine, EngineHandle, Opening, Parts, recover};
use punk_eco_sched::ledger::{Filter, Ledger, Owner, SqliteLedger, TableJob, TableRecord};
use punk_eco_sched::logs::Logs;
use punk_eco_sched::spawner::{Adoption, Settings, Spawner};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::daemon::{Host, PROGRAM, wait_until};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn record(table: &JobTable, now: Timestamp) -> TableRecord {
    let jobs = table.jobs.iter().map(|job| TableJob {
        job: job.name.clone(),
        kind: job.kind.name.to_owned(),
        schedule: job.schedule.as_ref().map(|one| one.expressions().to_vec()).unwrap_or_default(),
        timezone: "UTC".into(),
        enabled: job.enabled,
        jitter: job.jitter,
        group: job.group.clone(),
    });
    TableRecord { in_force_from: now, hash: table.hash.clone(), zones: [].into(), jobs: jobs.collect() }
}

/// An engine with a ledger and a spawner, on a clock that moves when the test says so.
pub(crate) struct Edge<'a> {
    host: &'a Host,
    pub(crate) clock: ManualClock,
    runtime: tokio::runtime::Runtime,
    pub(crate) engine: EngineHandle,
    thread: JoinHandle<()>,
    orders: Option<Orders>,
    courier: Option<tokio::task::JoinHandle<()>>,
    pub(crate) waiting: Waiting,
    spawner: Spawner,
}

impl<'a> Edge<'a> {
    pub(crate) fn start(host: &'a Host, now: &str) -> Self {
        let clock = ManualClock::new(at(now));
        Self::start_on(host, clock.clone(), Arc::new(clock))
    }

    /// `seen`: as the engine sees the clock.
    fn start_on(host: &'a Host, clock: ManualClock, seen: Arc<dyn Clock>) -> Self {
        let environment = Environment::of_process(&clock);
        let table = Arc::new(config::load(&host.config(), &environment).unwrap().0);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let mut settings = Settings::new(host.path("control.sock"), host.path("state"));
        settings.executable = PROGRAM.into();
        std::fs::create_dir_all(host.path("state")).unwrap();
        let launched = Spawner::launch(settings).unwrap();
        let spawner = runtime.block_on(Spawner::connect(launched, Arc::new(SystemClock))).unwrap();
        let owner = Owner::current("daemon");
        let ledger = SqliteLedger::open(&host.path("state/ledger.db"), owner.clone(), "web1").unwrap();
        let past = ledger.past().unwrap();
        let recovery = recover(past, &table, Adoption::default(), &owner, |_| false, None, clock.now());
        let (courier, orders) = alert::dispatch();
        let parts = Parts {
            may_begin: None,
            opening: Some(Opening {
                table: record(&table, clock.now()),
                detail: json!({}),
                record_of: record,
            }),
            logs: Logs::new(&host.path("logs"), table.logs),
            state: host.path("state"),
            table,
            ledger: Box::new(ledger),
            recovery,
            clock: seen,
            spawner: spawner.clone(),
            courier,
            observers: vec![],
            host: "web1".into(),
            runtime: runtime.handle().clone(),
        };
        let (engine, thread) = Engine::start(parts).unwrap();
        let waiting = Waiting::default();
        let edge = Self {
            host,
            clock,
            runtime,
            engine,
            thread,
            orders: Some(orders),
            courier: None,
            waiting,
            spawner,
        };
        edge.settle();
        edge
    }

    /// Delivers what is to be told, in real time but for its pauses, which are of the manual clock.
    pub(crate) fn deliver(mut self) -> Self {
        let environment = Environment::of_process(&self.clock);
        let courier = Courier {
            table: Arc::new(config::load(&self.host.config(), &environment).unwrap().0),
            desk: self.engine.desk(),
            clock: Arc::new(self.clock.clone()),
            waiting: self.waiting.clone(),
            host: "web1".into(),
        };
        self.courier = Some(self.runtime.spawn(courier.run(self.orders.take().unwrap())));
        self
    }

    /// The courier dies wherever it is, and with it the last word that an orderly stop would have.
    pub(crate) fn kill_courier(&mut self) {
        let courier = self.courier.take().unwrap();
        courier.abort();
        let _ = self.runtime.block_on(courier);
    }

    /// Returns when the engine has looked at the clock, and all that it started has ended.
    pub(crate) fn settle(&self) {
        self.runtime.block_on(self.engine.ping()).unwrap();
        wait_until("all has ended", || {
            self.runtime.block_on(self.engine.snapshot()).unwrap().runs.is_empty()
        });
        self.runtime.block_on(self.engine.ping()).unwrap();
    }

    pub(crate) fn run_now(&self, job: &str) {
        self.runtime.block_on(self.engine.run_now(job, false, "test")).unwrap().unwrap();
        self.settle();
    }

    pub(crate) fn advance(&self, by: u64) {
        self.clock.advance(seconds(by));
        self.settle();
    }

    fn step_to(&self, now: &str) {
        self.clock.step_to(at(now));
        self.settle();
    }

    pub(crate) fn ledger(&self) -> SqliteLedger {
        SqliteLedger::open_read_only(&self.host.path("state/ledger.db")).unwrap()
    }

    /// Rows in the order of their slots: when, by what, and what became of it.
    fn rows(&self, job: &str) -> Vec<String> {
        let filter = Filter { job: Some(job.to_owned()), ..Filter::default() };
        let rows = self.ledger().history(&filter).unwrap();
        let say = |slot: Timestamp| slot.to_string().trim_start_matches("2026-01-01T").replace(":00Z", "");
        rows.iter()
            .rev()
            .map(|row| {
                let reason = row.reason.as_ref().map(|reason| format!(" {reason}")).unwrap_or_default();
                format!("{} {} {}{reason}", say(row.slot.unwrap()), row.trigger, row.outcome)
            })
            .collect()
    }

    /// What was told of the clock, oldest first in the order of `at`.
    fn told(&self) -> Vec<(String, Value)> {
        const KINDS: [&str; 5] =
            ["clock_stepped", "suspended", "woke_late", "clock_behind_ledger", "ledger_far_behind"];
        let events = self.ledger().events(Timestamp::MIN).unwrap();
        let of_clock = events.into_iter().filter(|event| KINDS.contains(&event.kind.as_str()));
        of_clock.map(|event| (event.kind, event.detail)).collect()
    }

    pub(crate) fn stop(mut self) {
        // Without a courier nobody is waited for.
        self.orders = None;
        self.runtime.block_on(self.engine.stop(true, seconds(0))).unwrap();
        self.thread.join().unwrap();
        self.runtime.block_on(self.spawner.flush());
    }
}

fn job(name: &str, schedule: &str, policies: &str) -> String {
    format!("  {name}:\n    schedule: '{schedule}'\n{policies}    command: {{ run: ['true'] }}\n")
}

/// Three jobs that differ in what becomes of missed slots.
fn three(schedule: &str) -> String {
    ["run_once", "run_all", "skip"]
        .map(|missed| job(missed, schedule, &format!("    missed: {missed}\n")))
        .concat()
}

#[test]
fn of_two_minutes_that_a_stopped_daemon_slept_through_missed_decides() {
    let host = Host::new(&three("* * * * *"));
    let edge = Edge::start(&host, "2026-01-01T10:00:05Z");
    edge.advance(130);
    assert_eq!(edge.rows("run_once"), ["10:01 schedule skipped coalesced", "10:02 catch_up succeeded"]);
    assert_eq!(edge.rows("run_all"), ["10:01 catch_up succeeded", "10:02 catch_up succeeded"]);
    assert_eq!(edge.rows("skip"), ["10:01 schedule skipped missed", "10:02 schedule skipped missed"]);
    let detail = json!({
        "seconds": 75.0, "from": "2026-01-01T10:01:00Z", "to": "2026-01-01T10:02:15Z",
        "touched": { "slots": 6, "jobs": { "run_all": 2, "run_once": 2, "skip": 2 } },
    });
    assert_eq!(edge.told(), [("woke_late".to_owned(), detail)]);
    edge.stop();
}

#[test]
fn ten_seconds_late_is_not_told_and_eleven_are() {
    let host = Host::new(&job("a", "* * * * *", ""));
    let edge = Edge::start(&host, "2026-01-01T10:00:05Z");
    edge.advance(65);
    assert_eq!((edge.rows("a"), edge.told()), (vec!["10:01 schedule succeeded".to_owned()], vec![]));
    edge.advance(61);
    assert_eq!(edge.rows("a")[1], "10:02 catch_up succeeded");
    assert_eq!(edge.told()[0].1["seconds"], 11.0);
    edge.stop();
}

#[test]
fn steps_and_a_suspend_are_told_with_the_slots_that_they_touched() {
    let host = Host::new(&(job("fixed", "10,20 10 * * *", "") + &job("interval", "*/10 * * * *", "")));
    let edge = Edge::start(&host, "2026-01-01T10:05:00Z");
    let touched = |fixed: u64, interval: u64| json!({ "slots": fixed + interval, "jobs": { "fixed": fixed, "interval": interval } });
    let nothing = json!({ "slots": 0, "jobs": {} });
    edge.step_to("2026-01-01T10:25:00Z");
    edge.step_to("2026-01-01T10:20:00Z");
    edge.step_to("2026-01-01T10:19:55Z");
    // It sleeps for 25 minutes, and the clock is set while it does.
    edge.advance(15);
    edge.clock.suspend(seconds(1500));
    edge.step_to("2026-01-01T10:52:00Z");
    assert_eq!(
        edge.told(),
        [
            (
                "clock_stepped".to_owned(),
                json!({ "seconds": -5.0, "from": "2026-01-01T10:20:00Z", "to": "2026-01-01T10:19:55Z",
                        "touched": nothing, "again": [] })
            ),
            (
                "clock_stepped".to_owned(),
                json!({ "seconds": -300.0, "from": "2026-01-01T10:25:00Z", "to": "2026-01-01T10:20:00Z",
                        "touched": touched(1, 1), "again": ["interval"] })
            ),
            (
                "clock_stepped".to_owned(),
                json!({ "seconds": 1200.0, "from": "2026-01-01T10:05:00Z", "to": "2026-01-01T10:25:00Z",
                        "touched": touched(2, 2), "again": [] })
            ),
            (
                "suspended".to_owned(),
                json!({ "seconds": 1500.0, "from": "2026-01-01T10:20:10Z", "to": "2026-01-01T10:45:10Z",
                        "touched": { "slots": 2, "jobs": { "interval": 2 } } })
            ),
            (
                "clock_stepped".to_owned(),
                json!({ "seconds": 410.0, "from": "2026-01-01T10:45:10Z", "to": "2026-01-01T10:52:00Z",
                        "touched": { "slots": 1, "jobs": { "interval": 1 } }, "again": [] })
            ),
        ]
    );
    assert_eq!(edge.rows("fixed"), ["10:10 schedule skipped coalesced", "10:20 catch_up succeeded"]);
    edge.stop();
}

#[test]
fn why_says_what_the_clock_did_to_a_slot() {
    let host = Host::new(&job("fixed", "10 10 * * *", ""));
    let edge = Edge::start(&host, "2026-01-01T10:05:00Z");
    edge.step_to("2026-01-01T10:15:00Z");
    edge.step_to("2026-01-01T10:05:00Z");
    edge.advance(300);
    edge.advance(60);
    edge.clock.suspend(seconds(1500));
    edge.settle();
    edge.advance(540);
    edge.advance(130);
    edge.stop();
    let why = |job: &str, slot: &str| {
        let told = host.json(&["why", job, &format!("2026-01-01T{slot}:00Z"), "--json"]);
        let words = told["explanation"].as_str().unwrap().replace("2026-01-01 ", "").replace("+00:00", "");
        words.split_once(" UTC), ").unwrap().1.split_once(". ").unwrap().1.to_owned()
    };
    assert_eq!(
        why("fixed", "10:10"),
        "It ran as a catch-up as run 1, started at 10:15:00, 5m late, and ended succeeded at 10:15:00 after 0.0s: exit \
         code 0. The clock was set forward by 10m, from 10:05:00 to 10:15:00. The clock was set back by 10m, from \
         10:15:00 to 10:05:00: the time between came twice. The host slept (suspend) for 25m, from 10:11:00 to 10:36:00."
    );
}

#[test]
fn a_clock_that_was_a_year_ahead_for_a_minute_takes_no_slot_and_no_history() {
    let jobs = job("daily", "0 12 * * *", "") + &job("often", "*/30 * * * *", "    missed: skip\n");
    let host = Host::new("");
    host.write_table("logs: { keep_history: 90d }", &jobs);
    let edge = Edge::start(&host, "2026-01-01T11:59:00Z");
    edge.advance(60);
    edge.step_to("2027-01-01T12:00:30Z");
    edge.advance(60);
    // Daemons come and go meanwhile, and each would drop what is older than its clock allows.
    edge.stop();
    let edge = Edge::start(&host, "2027-01-01T12:02:00Z");
    edge.advance(7200);
    assert_eq!(edge.rows("daily")[0], "12:00 schedule succeeded");
    edge.step_to("2026-01-01T12:04:00Z");
    edge.stop();
    let edge = Edge::start(&host, "2026-01-01T12:05:00Z");
    edge.advance(1500);
    for _ in 0..47 {
        edge.advance(1800);
    }
    let daily = edge.rows("daily");
    let runs: Vec<&String> = daily.iter().filter(|row| row.contains("succeeded")).collect();
    assert_eq!(
        runs,
        [
            "12:00 schedule succeeded",
            "2026-01-02T12:00 schedule succeeded",
            "2027-01-01T12:00 catch_up succeeded"
        ]
    );
    let often = edge.rows("often").iter().filter(|row| row.ends_with("succeeded")).count();
    // The first, none of the year ahead, and all of the day that did come.
    assert_eq!(often, 1 + 48);
    edge.stop();
}

#[test]
fn a_ledger_that_tells_of_the_future_or_of_long_ago_is_told_of() {
    let host = Host::new(&job("a", "0 0 * * *", "    missed: run_all\n"));
    let edge = Edge::start(&host, "2026-01-01T00:00:00Z");
    edge.stop();
    let edge = Edge::start(&host, "2025-12-31T23:59:00Z");
    edge.advance(60);
    edge.stop();
    let edge = Edge::start(&host, "2026-02-05T01:00:00Z");
    assert_eq!(
        edge.told(),
        [
            (
                "clock_behind_ledger".to_owned(),
                json!({ "accounted": "2026-01-01T00:00:00Z", "now": "2025-12-31T23:59:00Z" })
            ),
            (
                "ledger_far_behind".to_owned(),
                json!({ "accounted": "2026-01-01T00:00:00Z", "now": "2026-02-05T01:00:00Z", "days": 35 })
            ),
        ]
    );
    let rows = edge.rows("a");
    assert_eq!(rows.iter().filter(|row| row.contains("catch_up")).count(), 1);
    assert_eq!((rows.len(), rows.last().unwrap().as_str()), (36, "2026-02-05T00:00 catch_up succeeded"));
    edge.stop();
}

#[test]
fn a_daemon_that_was_stopped_by_a_signal_catches_up_as_missed_says() {
    let host = Host::new(&three("0/15 * * * * *"));
    let daemon = host.daemon();
    host.wait_for_outcome("run_all", "succeeded");
    daemon.signal(Signal::STOP);
    let stopped = SystemClock.now();
    // Past two slots by more than ten seconds.
    let until = Timestamp::from_second((stopped.as_second() / 15 + 2) * 15 + 11).unwrap();
    wait_until("two slots are late", || SystemClock.now() >= until);
    daemon.signal(Signal::CONT);
    let slots =
        [1, 2].map(|n| Timestamp::from_second((stopped.as_second() / 15 + n) * 15).unwrap().to_string());
    let row = |job: &str, slot: &String| {
        host.history(job).into_iter().find(|row| row["slot"] == slot.as_str()).unwrap_or_default()
    };
    let became = |job: &str| {
        wait_until("both have ended", || {
            slots.iter().all(|slot| !matches!(row(job, slot)["outcome"].as_str(), None | Some("running")))
        });
        slots.each_ref().map(|slot| {
            let row = row(job, slot);
            [&row["trigger"], &row["outcome"], &row["reason"]]
                .map(|word| word.as_str().unwrap_or("-").to_owned())
                .join(" ")
        })
    };
    assert_eq!(became("run_once"), ["schedule skipped coalesced", "catch_up succeeded -"]);
    assert_eq!(became("run_all"), ["catch_up succeeded -", "catch_up succeeded -"]);
    assert_eq!(became("skip"), ["schedule skipped missed", "schedule skipped missed"]);
    let ledger = SqliteLedger::open_read_only(&host.path("state/ledger.db")).unwrap();
    let events = ledger.events(stopped).unwrap();
    let late: Vec<_> = events.iter().filter(|event| event.kind == "woke_late").collect();
    let [late] = late[..] else { panic!("{events:?}") };
    assert_eq!(late.detail["touched"]["jobs"], json!({ "run_all": 2, "run_once": 2, "skip": 2 }));
    assert!(daemon.stop().success());
}
