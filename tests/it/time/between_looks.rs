//! A clock that is set just after the engine has looked at it: while it writes, and while it stops.

use std::sync::Mutex;

use punk_eco_sched::clock::{Alarm, OnWake};

use super::*;

/// Is set right after the engine's next look at it, which reads the time since boot twice.
struct SetAfterLook {
    clock: ManualClock,
    /// Readings until then, and to what it is set.
    armed: Mutex<Option<(usize, Timestamp)>>,
}

impl SetAfterLook {
    fn edge<'a>(host: &'a Host, now: &str) -> (Edge<'a>, Arc<Self>) {
        let clock = ManualClock::new(at(now));
        let seen = Arc::new(Self { clock: clock.clone(), armed: Mutex::new(None) });
        (Edge::start_on(host, clock, seen.clone()), seen)
    }

    fn set_after_look(&self, to: &str) {
        *self.armed.lock().unwrap() = Some((2, at(to)));
    }
}

impl Clock for SetAfterLook {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn since_boot(&self) -> Duration {
        let read = self.clock.since_boot();
        let mut armed = self.armed.lock().unwrap();
        *armed = armed.take().and_then(|(left, to)| match left {
            1 => {
                self.clock.step_to(to);
                None
            }
            _ => Some((left - 1, to)),
        });
        read
    }

    fn awake(&self) -> Duration {
        self.clock.awake()
    }

    fn alarm(&self, on_wake: OnWake) -> std::io::Result<Box<dyn Alarm>> {
        self.clock.alarm(on_wake)
    }
}

fn stepped(seconds: f64, from: &str, to: &str, again: &[&str]) -> (String, Value) {
    let touched = json!({ "slots": 0, "jobs": {} });
    let detail =
        json!({ "seconds": seconds, "from": at(from), "to": at(to), "touched": touched, "again": again });
    ("clock_stepped".to_owned(), detail)
}

#[test]
fn a_clock_that_is_set_back_while_rows_are_written_is_set_back_once() {
    let host = Host::new(&job("interval", "*/5 * * * *", "    missed: run_all\n"));
    let (edge, clock) = SetAfterLook::edge(&host, "2026-01-01T10:04:00Z");
    clock.set_after_look("2026-01-01T10:02:00Z");
    edge.advance(66);
    edge.settle();
    let once = stepped(-186.0, "2026-01-01T10:05:06Z", "2026-01-01T10:02:00Z", &["interval"]);
    assert_eq!(edge.told(), [once]);
    assert_eq!(edge.rows("interval"), ["10:05 schedule succeeded"]);
    edge.advance(180);
    assert_eq!(edge.rows("interval"), ["10:05 schedule succeeded", "10:05 schedule succeeded"]);
    edge.stop();
    assert_eq!(host.json(&["audit", "--json"])["duplicates"], json!([]));
}

#[test]
fn a_clock_that_is_set_back_while_the_daemon_stops_is_told_of() {
    let host = Host::new(&job("interval", "*/5 * * * *", ""));
    let (edge, clock) = SetAfterLook::edge(&host, "2026-01-01T10:04:00Z");
    edge.advance(61);
    clock.set_after_look("2026-01-01T10:03:00Z");
    edge.stop();
    let edge = Edge::start(&host, "2026-01-01T10:04:00Z");
    let once = stepped(-121.0, "2026-01-01T10:05:01Z", "2026-01-01T10:03:00Z", &["interval"]);
    assert_eq!(edge.told(), [once]);
    edge.advance(60);
    assert_eq!(edge.rows("interval"), ["10:05 schedule succeeded", "10:05 schedule succeeded"]);
    edge.stop();
}

#[test]
fn a_slot_that_falls_due_while_the_daemon_stops_has_its_row() {
    let host = Host::new(&job("a", "*/5 * * * *", ""));
    let (edge, clock) = SetAfterLook::edge(&host, "2026-01-01T10:04:00Z");
    clock.set_after_look("2026-01-01T10:05:01Z");
    edge.stop();
    let edge = Edge::start(&host, "2026-01-01T10:06:00Z");
    assert_eq!(edge.rows("a"), ["10:05 schedule skipped stopping"]);
    edge.stop();
}

#[test]
fn a_daemon_that_stops_while_time_stands_still_takes_nothing_back() {
    let host = Host::new(&job("a", "*/5 * * * *", ""));
    let edge = Edge::start(&host, "2026-01-01T10:04:00Z");
    edge.advance(62);
    edge.step_to("2026-01-01T10:04:57Z");
    edge.stop();
    let accounted = || {
        let ledger = SqliteLedger::open_read_only(&host.path("state/ledger.db")).unwrap();
        ledger.past().unwrap().accounted
    };
    assert_eq!(accounted(), Some(at("2026-01-01T10:05:02Z")));
    let edge = Edge::start(&host, "2026-01-01T10:04:58Z");
    edge.advance(3);
    assert_eq!(edge.rows("a"), ["10:05 schedule succeeded"]);
    edge.stop();
}
