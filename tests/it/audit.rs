//! `audit` and `why` over what a real daemon wrote.

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
        std::time::SystemTime::now() > std::time::SystemTime::from(last) + std::time::Duration::from_secs(4)
    });
    let daemon = host.daemon();
    std::fs::write(host.path("go"), "").unwrap();
    host.wait_for_outcome("long", "succeeded");
    let told = why(&host, "long", slot);
    assert_eq!((&told["job"], &told["slot"], &told["due"]), (&"long".into(), &slot.into(), &true.into()));
    assert_eq!(told["rows"][0]["run"], row["run"]);
    let words = told["explanation"].as_str().unwrap();
    assert!(words.contains("died (killed, or crashed) while its program ran"), "{words}");
    assert!(words.contains("was adopted by the daemon that started at"), "{words}");

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
