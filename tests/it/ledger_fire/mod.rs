//! The ledger under fire, while a daemon takes slots: the jobs go on, no slot runs twice, who is to hear of it hears
//! of it once and of its end once, and the rows come back.

mod failing_disk;
mod power;

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::Value;

use self::failing_disk::FailingDisk;
use crate::support::daemon::{Daemon, Host, text, wait_until};
use crate::support::job::SmallDisk;
use crate::support::webhook::Webhook;

/// A host whose job writes each of its slots into a file outside the state, and who hears of its troubles.
struct Fire {
    host: Host,
    webhook: Webhook,
}

impl Fire {
    fn new() -> Self {
        let fire = Self { host: Host::new(""), webhook: Webhook::start(&[200]) };
        let dir = fire.host.dir.path().display();
        fire.host.write_table(
            &format!(
                "contacts: {{ infra: {{ webhook: 'http://127.0.0.1:{}/' }} }}\nalerts: {{ to: [infra] }}",
                fire.webhook.port
            ),
            &format!(
                "  tick:\n    schedule: '* * * * * *'\n    overlap: allow\n    missed: run_all\n    \
                 command: {{ shell: 'echo $PUNK_ECO_SLOT >> {dir}/slots' }}\n"
            ),
        );
        fire
    }

    /// Its state lies on a disk of its own.
    fn on_a_small_disk() -> Option<(Self, SmallDisk)> {
        let fire = Self::new();
        let disk = SmallDisk::mount(&fire.host.path("state"), "1M")?;
        Some((fire, disk))
    }

    /// A daemon that has taken a slot.
    fn daemon(&self) -> Daemon<'_> {
        let daemon = self.host.daemon();
        self.wait_for_slots(1);
        daemon
    }

    fn slots(&self) -> Vec<String> {
        let said = std::fs::read_to_string(self.host.path("slots")).unwrap_or_default();
        said.lines().map(str::to_owned).collect()
    }

    fn wait_for_slots(&self, more: usize) {
        let before = self.slots().len();
        wait_until("slots are taken", || self.slots().len() >= before + more);
    }

    fn status(&self) -> String {
        text(&self.host.cli(&["status"]).stdout)
    }

    /// `failed` and `recovered`, of the ledger.
    fn told(&self) -> Vec<Value> {
        let posted = self.webhook.posted().into_iter().map(|posted| posted.body);
        posted.filter(|body| body["job"].is_null()).collect()
    }

    fn wait_until_told(&self, events: &[&str]) -> Vec<Value> {
        wait_until("it is told", || self.told().len() >= events.len());
        let told = self.told();
        assert_eq!(
            told.iter().map(|one| one["event"].as_str().unwrap()).collect::<Vec<_>>(),
            events,
            "{told:#?}"
        );
        told
    }

    /// Stops, and compares what ran with what the ledger says of it from `since` on.
    fn check_rows(&self, daemon: Daemon<'_>, since: Option<&str>) {
        self.host.write_table("", "  none:\n    command: { run: ['true'] }\n");
        assert!(self.host.cli(&["reload"]).status.success());
        wait_until("all has ended", || {
            self.host.json(&["status", "--json"])["running"] == serde_json::json!([])
        });
        assert!(daemon.stop().success());
        let mut times = BTreeMap::new();
        for slot in self.slots() {
            *times.entry(slot).or_insert(0) += 1;
        }
        let twice: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
        assert!(twice.is_empty(), "slots that ran twice: {twice:?}");
        let rows = self.host.json(&["history", "tick", "-n", "100000", "--json"]);
        let since = since.map_or(i64::MIN, second_of);
        let mut told = BTreeMap::new();
        for row in rows.as_array().unwrap() {
            let slot = row["slot"].as_str().unwrap();
            assert!(told.insert(second_of(slot), row["outcome"].clone()).is_none(), "two rows: {row:#}");
            // Killed between its claim and its start.
            assert!(["succeeded", "interrupted"].map(Value::from).contains(&row["outcome"]), "{row:#}");
            assert!(row["outcome"] != "succeeded" || times.contains_key(slot), "it never ran: {row:#}");
        }
        for slot in times.keys().map(|slot| second_of(slot)).filter(|slot| *slot >= since) {
            assert!(told.contains_key(&slot), "a slot that ran has no row: {slot} of {told:#?}");
        }
        let told: Vec<i64> = told.into_keys().filter(|slot| *slot >= since).collect();
        let whole: Vec<i64> = (told[0]..=*told.last().unwrap()).collect();
        assert_eq!(told, whole, "a slot was left out");
    }
}

fn second_of(slot: &str) -> i64 {
    slot.parse::<Timestamp>().unwrap().as_second()
}

/// What takes all room that is left there.
fn fill(folder: &Path) -> PathBuf {
    let path = folder.join("fill");
    let mut file = std::fs::File::create(&path).unwrap();
    while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
    path
}

#[test]
fn a_full_disk_is_told_once_and_so_is_its_end() {
    let Some((fire, _disk)) = Fire::on_a_small_disk() else { return };
    let daemon = fire.daemon();
    let fills = fill(&fire.host.path("state"));
    let told = fire.wait_until_told(&["failed"]);
    let reason = told[0]["reason"].as_str().unwrap();
    assert!(reason.contains("the disk is full; rows wait in memory until it can be written"), "{reason}");
    assert_eq!(
        (&told[0]["job"], &told[0]["run"], &told[0]["outcome"]),
        (&Value::Null, &Value::Null, &"failed".into())
    );
    assert_eq!(told[0]["next"], serde_json::json!(["punk-eco-sched status", "df -h"]));
    fire.wait_for_slots(3);
    assert!(fire.status().contains("changes wait in memory"), "{}", fire.status());
    std::fs::remove_file(fills).unwrap();
    let told = fire.wait_until_told(&["failed", "recovered"]);
    let done = told[1]["reason"].as_str().unwrap();
    assert!(done.contains("changes that waited in memory are written; none is lost"), "{done}");
    fire.wait_for_slots(1);
    assert!(!fire.status().contains("problem"), "{}", fire.status());
    fire.check_rows(daemon, None);
    fire.wait_until_told(&["failed", "recovered"]);
}

#[test]
fn daemons_killed_while_the_disk_is_full_lose_no_run_and_repeat_none() {
    let Some((fire, _disk)) = Fire::on_a_small_disk() else { return };
    let daemon = fire.daemon();
    let fills = fill(&fire.host.path("state"));
    wait_until("rows wait in memory", || fire.status().contains("changes wait in memory"));
    fire.wait_for_slots(3);
    daemon.kill();
    let daemon = fire.host.daemon();
    fire.wait_for_slots(3);
    daemon.kill();
    std::fs::remove_file(fills).unwrap();
    let daemon = fire.host.daemon();
    assert!(fire.host.daemon_log().contains("its row was lost with a daemon: it is restored"));
    fire.wait_for_slots(2);
    fire.check_rows(daemon, None);
}

#[test]
fn rows_that_were_lost_with_a_daemon_come_back_with_what_brought_their_runs_about() {
    let host = Host::new("");
    let dir = host.dir.path().display();
    let gated = format!(
        "command: {{ shell: 'cd {dir}; : >ran-$PUNK_ECO_JOB; while [ ! -e go ]; do sleep 0.05; done' }}"
    );
    host.write_jobs(&format!(
        "  quick:\n    command: {{ run: ['true'] }}\n  then:\n    after: [quick]\n    {gated}\n  hand:\n    {gated}\n"
    ));
    let state = host.path("state");
    let Some(_disk) = SmallDisk::mount(&state, "1M") else { return };
    let daemon = host.daemon();
    fill(&state);
    for job in ["quick", "hand"] {
        assert!(host.cli(&["run-now", job, "--detach"]).status.success());
    }
    wait_until("both run", || ["ran-then", "ran-hand"].iter().all(|ran| host.path(ran).exists()));
    daemon.kill();
    std::fs::remove_file(state.join("fill")).unwrap();
    let daemon = host.daemon();
    assert!(host.daemon_log().contains("its row was lost with a daemon: it is restored"));
    std::fs::write(host.path("go"), "").unwrap();
    for (job, trigger) in [("then", "after"), ("hand", "manual")] {
        let mut ran = vec![];
        wait_until("its run ends", || {
            ran = host.history(job);
            ran.iter().any(|row| row["outcome"] == "succeeded")
        });
        assert_eq!((ran.len(), &ran[0]["trigger"]), (1, &trigger.into()), "{ran:#?}");
    }
    let ledger = rusqlite::Connection::open(state.join("ledger.db")).unwrap();
    let by = |job: &str| -> Option<String> {
        let sql = "SELECT requested_by FROM runs WHERE job = ?1 AND outcome = 'succeeded'";
        ledger.query_row(sql, [job], |row| row.get(0)).unwrap()
    };
    assert_eq!((by("hand").is_some(), by("then")), (true, None));
    assert!(daemon.stop().success());
}

#[test]
fn a_state_directory_that_is_read_only_at_the_start_is_said_and_nothing_is_left_running() {
    let host = Host::new("  one:\n    schedule: '@reboot'\n    command: { run: ['true'] }\n");
    let state = host.path("state");
    let Some(_disk) = SmallDisk::mount(&state, "1M") else { return };
    assert!(host.daemon().stop().success());
    rustix::mount::mount_remount(&state, rustix::mount::MountFlags::RDONLY, c"").unwrap();
    let mut daemon = host.spawn_daemon();
    assert_eq!(daemon.wait().code(), Some(1));
    let said = host.daemon_log();
    let expected = format!("{}/lock: can't be written: Read-only file system", state.display());
    assert!(said.contains(&expected), "{said}");
    wait_until("nothing is left", || host.processes().is_empty());
    // What was is still to be read.
    assert_eq!(host.history("one")[0]["outcome"], "succeeded");
}

#[test]
fn a_disk_that_the_kernel_makes_read_only_stops_no_job() {
    let fire = Fire::new();
    let state = fire.host.path("state");
    let Some(disk) = FailingDisk::mount(&fire.host.path("disk.img"), &state) else { return };
    let daemon = fire.daemon();
    disk.fail();
    fire.wait_until_told(&["failed"]);
    fire.wait_for_slots(3);
    assert!(fire.status().contains("changes wait in memory"), "{}", fire.status());
    fire.wait_until_told(&["failed"]);
    let ran = fire.slots();
    assert_eq!(ran.iter().collect::<std::collections::BTreeSet<_>>().len(), ran.len(), "a slot ran twice");
    assert!(daemon.stop().success());
    assert!(fire.host.daemon_log().contains("and are lost with the end of this process"));
}

#[test]
fn a_ledger_that_another_process_holds_locked_is_told_once_and_so_is_its_end() {
    let fire = Fire::new();
    let daemon = fire.daemon();
    let other = rusqlite::Connection::open(fire.host.path("state/ledger.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let told = fire.wait_until_told(&["failed"]);
    let reason = told[0]["reason"].as_str().unwrap();
    assert!(reason.contains("another process holds it locked"), "{reason}");
    fire.wait_for_slots(8);
    other.execute_batch("ROLLBACK").unwrap();
    fire.wait_until_told(&["failed", "recovered"]);
    fire.check_rows(daemon, None);
}

/// Does something to the file of a daemon that takes slots; afterwards slots go on and their rows are there. `whole`:
/// those from before, too.
fn check_in_use(what: &str, whole: bool, harm: impl FnOnce(&Path)) {
    let fire = Fire::new();
    let path = fire.host.path("state/ledger.db");
    let daemon = fire.host.daemon();
    fire.wait_for_slots(2);
    // Into the file itself, as after some hours.
    wait_until("it is written through", || {
        let other = rusqlite::Connection::open(&path).unwrap();
        other
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| row.get::<_, i64>(0))
            .is_ok_and(|busy| busy == 0)
    });
    harm(&path);
    let told = fire.wait_until_told(&["failed", "recovered"]);
    let reason = told[0]["reason"].as_str().unwrap();
    assert!(reason.contains(what), "{reason}");
    assert!(fire.host.daemon_log().contains(what), "{}", fire.host.daemon_log());
    let next = fire.slots().len();
    fire.wait_for_slots(3);
    let since = fire.slots()[next].clone();
    // A daemon that dies now knows all of it again.
    daemon.kill();
    let daemon = fire.host.daemon();
    fire.wait_for_slots(2);
    fire.check_rows(daemon, (!whole).then_some(&since));
    fire.wait_until_told(&["failed", "recovered"]);
}

#[test]
fn a_ledger_that_is_overwritten_in_use_is_set_aside() {
    check_in_use("it was damaged", false, |path| {
        let file = std::fs::File::options().write(true).open(path).unwrap();
        let pages = file.metadata().unwrap().len() / 4096;
        for page in 1..pages {
            file.write_all_at(&[0xa5; 4096], page * 4096).unwrap();
        }
    });
}

#[test]
fn a_ledger_that_is_truncated_in_use_is_set_aside() {
    check_in_use("it was damaged", false, |path| {
        std::fs::File::options().write(true).open(path).unwrap().set_len(4096).unwrap();
    });
}

#[test]
fn a_ledger_that_is_deleted_in_use_is_put_back() {
    check_in_use("the file was taken away while it was in use", true, |path| {
        std::fs::remove_file(path).unwrap()
    });
}

#[test]
fn a_directory_in_the_place_of_the_ledger_is_moved_aside() {
    check_in_use("a directory was put into its place", true, |path| {
        std::fs::remove_file(path).unwrap();
        std::fs::create_dir(path).unwrap();
    });
}

#[test]
fn a_ledger_that_is_damaged_at_the_start_keeps_what_can_be_read_of_it() {
    let fire = Fire::new();
    let host = &fire.host;
    // Nobody can be told of it before the damage.
    let port = fire.webhook.port;
    let dead = "contacts: { infra: { webhook: 'http://127.0.0.1:1/' } }\nalerts: { to: [infra] }";
    let jobs = "  fails:\n    command: { run: [/bin/false] }\n  paused:\n    command: { run: ['true'] }\n";
    host.write_table(dead, jobs);
    let daemon = host.daemon();
    assert_eq!(host.cli(&["run-now", "fails"]).status.code(), Some(1));
    assert!(host.cli(&["pause", "paused"]).status.success());
    for _ in 0..60 {
        assert!(host.cli(&["run-now", "paused"]).status.success());
    }
    assert!(daemon.stop().success());
    // The tables of the history, page by page; the small ones are left.
    let path = host.path("state/ledger.db");
    let pages: Vec<u64> = {
        let ledger = rusqlite::Connection::open(&path).unwrap();
        let sql =
            "SELECT rootpage FROM sqlite_schema WHERE tbl_name IN ('runs', 'attempts') AND rootpage > 0";
        let mut statement = ledger.prepare(sql).unwrap();
        let pages = statement.query_map((), |row| row.get::<_, i64>(0)).unwrap();
        pages.map(|page| page.unwrap().cast_unsigned()).collect()
    };
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    for page in pages {
        file.write_all_at(&[0xa5; 4096], (page - 1) * 4096).unwrap();
    }
    // As after a crash, so that the start looks.
    std::fs::write(host.path("state/ledger.db-wal"), [0; 10]).unwrap();
    let alive = format!(
        "contacts: {{ infra: {{ webhook: 'http://127.0.0.1:{port}/' }} }}\nalerts: {{ to: [infra] }}"
    );
    host.write_table(&alive, jobs);
    let daemon = host.daemon();
    let told = fire.wait_until_told(&["failed", "recovered"]);
    let reason = told[0]["reason"].as_str().unwrap();
    assert!(reason.starts_with("it was damaged ("), "{reason}");
    assert!(
        reason.contains(
            "1 open incidents, 1 notices, 1 pauses, 0 open runs, and that every slot has its row up to 20"
        ),
        "{reason}"
    );
    // What was to be told of the job is told, and its incident goes on.
    let of_job = |event: &str| {
        let posted = fire.webhook.posted();
        posted.iter().filter(|one| one.body["job"] == "fails" && one.body["event"] == event).count()
    };
    wait_until("the failure is told", || of_job("failed") == 1);
    assert_eq!(host.json(&["status", "--json"])["paused"][0]["job"], "paused");
    assert_eq!(host.cli(&["run-now", "fails"]).status.code(), Some(1));
    host.write_table(&alive, &jobs.replace("/bin/false", "/bin/true"));
    assert!(host.cli(&["reload"]).status.success());
    assert!(host.cli(&["run-now", "fails"]).status.success());
    wait_until("the recovery is told", || of_job("recovered") == 1);
    assert_eq!(of_job("failed"), 1);
    assert!(host.json(&["history", "fails", "--json"])[0]["run"].as_i64().unwrap() > 61);
    assert!(daemon.stop().success());
}

#[test]
fn a_trouble_that_is_over_when_the_next_daemon_starts_is_told_to_be_over() {
    let fire = Fire::new();
    let daemon = fire.daemon();
    assert!(daemon.stop().success());
    let ledger = rusqlite::Connection::open(fire.host.path("state/ledger.db")).unwrap();
    ledger
        .execute(
            "INSERT INTO incidents VALUES ('_ledger', '', 'critical', 0, 0, 1, NULL, 0, '[0]', 0, NULL)",
            (),
        )
        .unwrap();
    drop(ledger);
    let daemon = fire.host.daemon();
    fire.wait_until_told(&["recovered"]);
    assert!(daemon.stop().success());
}

#[test]
fn a_ledger_of_a_later_version_is_refused_and_left_as_it_is() {
    let fire = Fire::new();
    drop(fire.host.daemon());
    let path = fire.host.path("state/ledger.db");
    let ledger = rusqlite::Connection::open(&path).unwrap();
    ledger.execute_batch("PRAGMA user_version = 999; PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    drop(ledger);
    let before = std::fs::read(&path).unwrap();
    let mut daemon = fire.host.spawn_daemon();
    assert!(!daemon.wait().success());
    assert!(fire.host.daemon_log().contains("of a later version (999;"), "{}", fire.host.daemon_log());
    assert_eq!(std::fs::read(&path).unwrap(), before);
}
