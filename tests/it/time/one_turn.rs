//! What comes to the engine while it is busy, and so in one turn.

use std::sync::{Condvar, Mutex};
use std::task::{Context, Poll, Waker};

use punk_eco_sched::clock::{Alarm, OnWake};

use super::*;

/// A clock at which the engine's thread, and no other, has to wait while it is held.
struct Held {
    clock: ManualClock,
    /// Whether it is to wait, and does.
    held: Mutex<(bool, bool)>,
    changed: Condvar,
}

impl Held {
    fn set(&self, held: bool) {
        self.held.lock().unwrap().0 = held;
        self.changed.notify_all();
    }

    fn waits(&self) -> bool {
        self.held.lock().unwrap().1
    }
}

impl Clock for Held {
    fn now(&self) -> Timestamp {
        if std::thread::current().name() == Some("engine") {
            let mut held = self.held.lock().unwrap();
            while held.0 {
                held.1 = true;
                held = self.changed.wait(held).unwrap();
            }
            held.1 = false;
        }
        self.clock.now()
    }

    fn since_boot(&self) -> Duration {
        self.clock.since_boot()
    }

    fn awake(&self) -> Duration {
        self.clock.awake()
    }

    fn alarm(&self, on_wake: OnWake) -> std::io::Result<Box<dyn Alarm>> {
        self.clock.alarm(on_wake)
    }
}

/// The end of the run before it dequeues a run, and the same turn cancels it.
#[test]
fn a_cancel_in_the_turn_that_dequeues_a_run_ends_it() {
    let host = Host::new("");
    let dir = host.dir.path().display();
    host.write_jobs(&format!(
        "  gated:\n    overlap: queue\n    command: {{ shell: 'echo begun; while [ ! -e {dir}/go-$PUNK_ECO_RUN ]; do sleep 0.05; done' }}\n"
    ));
    let clock = ManualClock::new(at("2026-01-01T10:00:01Z"));
    let held = Arc::new(Held { clock: clock.clone(), held: Mutex::default(), changed: Condvar::new() });
    let edge = Edge::start_on(&host, clock, held.clone());
    let begin = || edge.runtime.block_on(edge.engine.run_now("gated", false, "test")).unwrap().unwrap();
    let (first, second) = (begin(), begin());
    assert_eq!((first.queued, second.queued), (false, true));
    wait_until("the first has begun", || host.log("gated").contains("begun"));

    held.set(true);
    edge.engine.note("test", json!({}));
    wait_until("the engine is busy", || held.waits());
    std::fs::write(host.path("go-1"), "").unwrap();
    // Its last line, just before the engine is told.
    wait_until("the first has ended", || host.log("gated").contains("succeeded"));
    let mut cancel = Box::pin(edge.engine.cancel(second.run, "test"));
    let mut context = Context::from_waker(Waker::noop());
    assert!(matches!(cancel.as_mut().poll(&mut context), Poll::Pending));
    held.set(false);

    assert!(edge.runtime.block_on(cancel).unwrap());
    edge.settle();
    let filter = Filter { job: Some("gated".to_owned()), ..Filter::default() };
    let rows = edge.ledger().history(&filter).unwrap();
    let outcomes: Vec<String> = rows.iter().map(|row| row.outcome.to_string()).collect();
    assert_eq!(outcomes, ["cancelled", "succeeded"]);
    edge.stop();
}

#[test]
fn a_run_that_the_reload_itself_lets_begin_follows_the_new_table() {
    let host = Host::new("");
    let dir = host.dir.path().display();
    let job = |overlap: &str, says: &str| {
        format!(
            "  gated:\n    overlap: {overlap}\n    command: {{ shell: 'echo {says}; while [ ! -e {dir}/go ]; do sleep 0.05; done' }}\n"
        )
    };
    host.write_jobs(&job("queue", "old"));
    let daemon = host.daemon();
    for _ in 0..2 {
        assert!(host.cli(&["run-now", "gated", "--detach"]).status.success());
    }
    wait_until("the first has begun", || host.log("gated").contains("old"));
    host.write_jobs(&job("allow", "new"));
    assert!(host.cli(&["reload"]).status.success());
    wait_until("the second has begun", || host.log("gated").contains(" 2 stdout| "));
    std::fs::write(host.path("go"), "").unwrap();
    wait_until("both have ended", || host.history("gated").iter().all(|row| row["outcome"] == "succeeded"));
    let log = host.log("gated");
    let says: Vec<&str> =
        log.lines().filter_map(|line| line.split_once(" stdout| ")).map(|(_, text)| text).collect();
    assert_eq!(says, ["old", "new"]);
    assert!(daemon.stop().success());
}
