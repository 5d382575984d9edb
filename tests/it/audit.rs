//! `audit` and `why` over what a real daemon wrote.

use std::time::Duration;

use punk_eco_sched::clock::{Clock, SystemClock};

use crate::support::daemon::{Host, text, wait_until};

const EVERY_SECOND: &str = "  tick:\n    schedule: \"@every 1s\"\n    command: { run: [/bin/true] }\n";

/// Rows that ended, oldest first: their slots.
fn slots(host: &Host, job: &str) -> Vec<String> {
    let rows = host.history(job);
    rows.iter().rev().map(|row| row["slot"].as_str().unwrap().to_owned()).collect()
}

fn proven(host: &Host) {
    let found = host.json(&["audit", "--json"]);
    assert_eq!(found["unaccounted"], serde_json::json!([]), "{found}");
    assert_eq!((&found["slots"], &found["duplicates"]), (&found["accounted"], &serde_json::json!([])));
}

/// The paragraph, with a word for each instant in it.
fn without_times(told: &serde_json::Value) -> String {
    let words: Vec<&str> = told["explanation"].as_str().unwrap().split(' ').collect();
    let mut kept = String::new();
    for word in words {
        let core = word.trim_matches(|sign: char| ",.:;()".contains(sign));
        match core {
            _ if core.len() == 14 && core.ends_with("+00:00") => kept.push_str(&word.replace(core, "TIME")),
            // Its date stands before it.
            _ if core.len() == 10 && core.starts_with("20") && core.matches('-').count() == 2 => continue,
            _ => kept.push_str(word),
        }
        kept.push(' ');
    }
    kept.trim_end().to_owned()
}

fn why(host: &Host, job: &str, slot: &str) -> serde_json::Value {
    host.json(&["why", job, slot, "--json"])
}

#[test]
fn deaths_reloads_and_stops_leave_no_hole_and_a_deleted_row_is_one() {
    let jitter =
        "  late:\n    schedule: \"*/2 * * * * *\"\n    jitter: 1s\n    command: { run: [/bin/true] }\n";
    let boot = "  boot:\n    schedule: \"@reboot\"\n    command: { run: [/bin/true] }\n";
    let host = Host::new(&format!("{EVERY_SECOND}{jitter}{boot}"));
    let daemon = host.daemon();
    wait_until("some slots", || slots(&host, "tick").len() >= 2 && !slots(&host, "late").is_empty());
    daemon.kill();
    proven(&host);
    let before = slots(&host, "tick").len();
    let daemon = host.daemon();
    wait_until("it goes on", || slots(&host, "tick").len() > before + 1);
    host.write_jobs(&format!("{}{boot}", EVERY_SECOND.replace("1s", "2s")));
    assert!(host.cli(&["reload"]).status.success());
    let before = slots(&host, "tick").len();
    wait_until("by the new table", || slots(&host, "tick").len() > before);
    proven(&host);
    assert_eq!(daemon.stop().code(), Some(0));
    proven(&host);

    let all = slots(&host, "tick");
    let gone = &all[all.len() - 1];
    let ledger = rusqlite::Connection::open(host.path("state/ledger.db")).unwrap();
    let run = host.history("tick")[0]["run"].as_i64().unwrap();
    ledger.execute("DELETE FROM attempts WHERE run = ?1", [run]).unwrap();
    assert_eq!(ledger.execute("DELETE FROM runs WHERE id = ?1", [run]).unwrap(), 1);
    drop(ledger);
    let output = host.cli(&["audit", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["unaccounted"], serde_json::json!([{ "job": "tick", "slot": gone }]));
    assert_eq!(host.cli(&["audit", "boot"]).status.code(), Some(0));
    let told = why(&host, "tick", gone);
    assert_eq!((&told["due"], &told["rows"]), (&serde_json::json!(true), &serde_json::json!([])));
    let words = told["explanation"].as_str().unwrap();
    assert!(words.contains("It has no row, and should have one"), "{words}");

    for verb in [&["audit", "tik"][..], &["why", "tik", "now"]] {
        let output = host.cli(verb);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains("did you mean `tick`?"), "{}", text(&output.stderr));
    }
}

#[test]
fn why_tells_of_an_adoption_a_pause_and_a_death() {
    let long = "  long:\n    schedule: \"*/30 * * * * *\"\n    timeout: 50s\n    command: { shell: \"until [ -e go ]; do sleep 0.1; done\", cwd: \"DIR\" }\n";
    let host = Host::new("  none:\n    command: { run: [/bin/true] }\n");
    let dir = host.dir.path().display().to_string();
    host.write_jobs(&format!("{EVERY_SECOND}{}", long.replace("DIR", &dir)));
    let daemon = host.daemon();
    let row = host.wait_for("long", "runs", |row| row["outcome"] == "running" && row["slot"].is_string());
    let slot = row["slot"].as_str().unwrap();
    daemon.kill();
    let last = slots(&host, "tick").pop().unwrap();
    wait_until("slots pass", || {
        let last: jiff::Timestamp = last.parse().unwrap();
        SystemClock.now() > last + Duration::from_secs(4)
    });
    let daemon = host.daemon();
    std::fs::write(host.path("go"), "").unwrap();
    host.wait_for_outcome("long", "succeeded");
    let told = why(&host, "long", slot);
    assert_eq!((&told["job"], &told["slot"], &told["due"]), (&"long".into(), &slot.into(), &true.into()));
    assert_eq!(told["rows"][0]["run"], row["run"]);
    let words = without_times(&told);
    let expected = "The daemon was killed or crashed some time after TIME, its last sign, and started again at TIME: \
                    the run went on and was adopted.";
    assert!(words.contains(expected), "{words}");

    // Of the slots that passed meanwhile the newest ran for the others.
    let rows = host.history("tick");
    let coalesced = rows.iter().find(|row| row["reason"] == "coalesced").expect("one is coalesced");
    let told = why(&host, "tick", coalesced["slot"].as_str().unwrap());
    let words = told["explanation"].as_str().unwrap();
    assert!(words.contains("It was skipped (coalesced): a later slot was due as well"), "{words}");
    assert!(words.contains("The daemon was down: it died without saying so"), "{words}");

    assert!(host.cli(&["pause", "tick"]).status.success());
    let row = host.wait_for("tick", "paused", |row| row["reason"] == "paused");
    let told = why(&host, "tick", row["slot"].as_str().unwrap());
    let words = told["explanation"].as_str().unwrap();
    assert!(words.contains("It was skipped (paused): the job was paused at"), "{words}");
    assert_eq!(daemon.stop().code(), Some(0));
    proven(&host);
}

#[test]
fn why_tells_of_a_run_that_ended_while_no_daemon_lived() {
    let once = "  once:\n    schedule: \"*/4 * * * * *\"\n    command: { shell: \"until [ -e go ]; do sleep 0.1; done; echo over > over\", cwd: \"DIR\" }\n";
    let host = Host::new("  none:\n    command: { run: [/bin/true] }\n");
    host.write_jobs(&once.replace("DIR", &host.dir.path().display().to_string()));
    let daemon = host.daemon();
    let row = host.wait_for("once", "runs", |row| row["outcome"] == "running");
    daemon.kill();
    std::fs::write(host.path("go"), "").unwrap();
    wait_until("it ends", || host.path("over").exists());
    let over = SystemClock.now();
    wait_until("a slot passes after that", || SystemClock.now() > over + Duration::from_secs(8));
    let daemon = host.daemon();
    let run = &row["run"];
    wait_until("it is recorded", || {
        host.history("once").iter().any(|row| row["run"] == *run && row["outcome"] == "succeeded")
    });
    let words = without_times(&why(&host, "once", row["slot"].as_str().unwrap()));
    let expected = "The daemon was killed or crashed some time after TIME, its last sign, and started again at TIME: \
                    the run's program had gone on and ended meanwhile, and its spawner had kept how and when.";
    assert!(words.ends_with(expected), "{words}");
    let rows = host.history("once");
    if let Some(overlap) =
        rows.iter().find(|row| row["reason"] == "overlap" && row["slot"].as_str() > Some(&over.to_string()))
    {
        let words = without_times(&why(&host, "once", overlap["slot"].as_str().unwrap()));
        let expected = "which had ended at TIME while no daemon lived, was not yet closed when the next daemon came to this slot.";
        assert!(words.contains(expected), "{words}");
    }
    assert_eq!(daemon.stop().code(), Some(0));
    proven(&host);
}

#[test]
fn a_ledger_that_was_only_made_holds_nothing_and_times_in_the_wrong_order_are_a_slip() {
    let host = Host::new(EVERY_SECOND);
    std::fs::create_dir(host.path("state")).unwrap();
    std::fs::write(host.path("state/ledger.db"), "").unwrap();
    let output = host.cli(&["audit", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        found,
        serde_json::json!({ "slots": 0, "accounted": 0, "unaccounted": [], "duplicates": [], "until": null })
    );
    let output = host.cli(&["why", "tick", "now"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(text(&output.stderr), "error: tick: nothing is known of it yet: there is no ledger\n");
    let output = host.cli(&["audit", "--since", "2026-01-02T00:00:00Z", "--until", "2026-01-01T00:00:00Z"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        text(&output.stderr),
        "error: --since (2026-01-02 00:00:00+00:00) is later than --until (2026-01-01 00:00:00+00:00): no slot lies between\n"
    );
    std::fs::write(
        host.path("state/ledger.db"),
        "not a database, but long enough to be taken for one\n".repeat(20),
    )
    .unwrap();
    for verb in [&["audit", "--json"][..], &["why", "tick", "now"]] {
        let output = host.cli(verb);
        assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(1), ""));
        let path = host.path("state/ledger.db");
        assert_eq!(
            text(&output.stderr),
            format!("error: {}: the ledger is damaged: file is not a database\n", path.display())
        );
    }
}
