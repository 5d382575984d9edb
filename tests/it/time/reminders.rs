//! What lasts is told again although nothing happens, and by the next daemon too.

use super::*;

/// When each notice was written that nobody has delivered, and what it is.
fn notices(edge: &Edge<'_>) -> Vec<String> {
    let notices = edge.ledger().notices().unwrap();
    notices.iter().map(|notice| format!("{} {} {}", notice.at, notice.job, notice.kind)).collect()
}

#[test]
fn a_failure_that_lasts_is_told_again_each_six_hours_over_a_restart() {
    let host = Host::new("");
    host.write_table(
        "contacts: { infra: { webhook: 'http://127.0.0.1:9/' } }\nalerts: { to: [infra], remind_every: 6h }",
        "  daily: { schedule: '0 10 * * *', timezone: UTC, command: { run: ['false'] } }\n",
    );
    let edge = Edge::start(&host, "2026-01-01T09:59:30Z");
    edge.advance(30);
    let failed = "2026-01-01T10:00:00Z daily failed";
    assert_eq!(notices(&edge), [failed]);
    edge.advance(6 * 3600 - 1);
    assert_eq!(notices(&edge), [failed]);
    edge.advance(1);
    let reminder = "2026-01-01T16:00:00Z daily reminder";
    assert_eq!(notices(&edge), [failed, reminder]);
    edge.stop();
    let edge = Edge::start(&host, "2026-01-01T21:00:00Z");
    assert_eq!(notices(&edge), [failed, reminder]);
    // Nobody asks the engine anything: its own alarm wakes it.
    edge.clock.advance(seconds(3600));
    let last = "2026-01-01T22:00:00Z daily reminder";
    wait_until("the last reminder", || notices(&edge) == [failed, reminder, last]);
    edge.stop();
}
