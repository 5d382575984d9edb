use std::collections::HashMap;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use jiff::Timestamp;

use super::disks::{Newest, look_for};
use super::families::{FAMILIES, PREFIX};
use super::look::{Ages, Looks};
use super::seen::{Book, DURATIONS, ENDS};
use crate::engine::{Observer, Seen, What};
use crate::ledger::LastEnd;
use crate::model::{JobName, Outcome, RunId, SkipReason, Trigger};

#[test]
fn names_follow_the_rules_of_prometheus() {
    let mut names: Vec<String> = FAMILIES.iter().map(|family| family.full_name()).collect();
    for (family, name) in std::iter::zip(FAMILIES, &names) {
        assert!(name.bytes().all(|letter| letter.is_ascii_lowercase() || letter == b'_'), "{name}");
        assert!(
            name.starts_with(PREFIX) && family.help.ends_with('.') && !family.help.contains('\n'),
            "{name}"
        );
        assert!(!family.labels.iter().any(|label| ["job", "instance", "le"].contains(label)), "{name}");
    }
    names.sort();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count, "two have the same name");
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn hear(book: &Book, what: What<'_>, dry_run: bool) {
    let job = JobName::new("db").unwrap();
    let (trigger, slot, due) = (Trigger::Schedule, Some(at(100)), Some(at(103)));
    book.hears(&Seen { job: &job, run: RunId(1), trigger, slot, due, dry_run, spec: None, what });
}

fn ended(outcome: Outcome, second: i64) -> What<'static> {
    What::Ended { at: at(second), started_at: Some(at(104)), outcome, error: None, report: None }
}

#[test]
fn what_is_heard_is_counted_and_dry_runs_are_not() {
    let book = Book::default();
    for dry_run in [false, true] {
        hear(&book, What::Began { at: at(104) }, dry_run);
        hear(&book, What::Again { number: 2, at: at(106) }, dry_run);
        hear(&book, ended(Outcome::Failed, 164), dry_run);
        hear(&book, What::Skipped { reason: SkipReason::Missed, slots: 1440 }, dry_run);
    }
    let seen = book.copy()["db"].clone();
    assert_eq!((seen.attempts, seen.runs, seen.skipped), (2, [0, 1, 0, 0, 0], [0, 0, 1440, 0, 0, 0]));
    assert_eq!((seen.last, seen.last_success), (Some((at(164), Outcome::Failed)), None));
    let (took, late) = (seen.durations.clone().unwrap(), seen.latenesses.clone().unwrap());
    // A minute is not more than a minute; its jitter does not make it late.
    assert_eq!(
        (took.sum, took.counts[DURATIONS.iter().position(|bound| *bound == 60.0).unwrap()]),
        (60.0, 1)
    );
    assert_eq!((late.sum, late.counts), (1.0, [0, 0, 0, 0, 1, 0, 0, 0, 0]));
    assert_eq!(ENDS[1], Outcome::Failed);
}

#[test]
fn the_ledgers_past_does_not_hide_what_was_heard_meanwhile() {
    let book = Book::default();
    hear(&book, ended(Outcome::Failed, 200), false);
    let past = |job: &str, outcome, end, success: Option<i64>| LastEnd {
        job: job.to_owned(),
        outcome,
        at: at(end),
        succeeded_at: success.map(at),
        facts: serde_json::Map::new(),
    };
    book.remember(vec![
        past("db", Outcome::Succeeded, 150, Some(150)),
        past("web", Outcome::TimedOut, 160, Some(40)),
        past("_ledger", Outcome::Failed, 160, None),
    ]);
    let seen = book.copy();
    assert_eq!((seen["db"].last, seen["db"].last_success), (Some((at(200), Outcome::Failed)), Some(at(150))));
    assert_eq!(
        (seen["web"].last, seen["web"].last_success),
        (Some((at(160), Outcome::TimedOut)), Some(at(40)))
    );
    assert_eq!(seen.len(), 2);
}

#[test]
fn a_success_without_checks_leaves_none_and_a_failure_says_nothing_of_them() {
    let book = Book::default();
    let results = serde_json::json!({ "results": [{ "name": "page", "state": "ok", "fails": false }] });
    let past = LastEnd {
        job: "db".to_owned(),
        outcome: Outcome::Succeeded,
        at: at(100),
        succeeded_at: Some(at(100)),
        facts: results.as_object().unwrap().clone(),
    };
    book.remember(vec![past]);
    let count = |outcome, second, expected: usize| {
        hear(&book, ended(outcome, second), false);
        assert_eq!(book.copy()["db"].checks.len(), expected, "{outcome:?}");
    };
    count(Outcome::TimedOut, 200, 1);
    count(Outcome::Succeeded, 300, 0);
}

fn ages(now: u64, patience: u64) -> Ages {
    let second = Duration::from_secs(1);
    Ages {
        now: second * u32::try_from(now).unwrap(),
        fresh: 5 * second,
        stale: 60 * second,
        patience: Duration::from_millis(patience),
    }
}

/// What hangs is asked for once, keeps nobody waiting beyond the bound, and hides nothing else.
#[tokio::test]
async fn a_disk_that_does_not_answer_holds_up_nothing_but_itself() {
    let looks = Looks::<String, u64>::new();
    let (release, hangs) = mpsc::channel::<()>();
    let hangs = std::sync::Arc::new(std::sync::Mutex::new(hangs));
    let asked = std::sync::Arc::new(std::sync::Mutex::new(HashMap::<String, u64>::new()));
    let look = {
        let asked = asked.clone();
        move |key: &String, before: Option<&u64>| {
            *asked.lock().unwrap().entry(key.clone()).or_default() += 1;
            if key == "dead" {
                let _ = hangs.lock().unwrap().recv();
            }
            before.map_or(1, |before| before + 1)
        }
    };
    let wanted = || ["dead", "a", "b"].map(str::to_owned).to_vec();
    let found = looks.at(wanted(), ages(100, 200), look.clone()).await;
    let mut keys: Vec<_> = found.keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["a", "b"]);
    // Fresh: not asked again; a while later: asked again, the dead one still by its first thread.
    looks.at(wanted(), ages(104, 50), look.clone()).await;
    assert_eq!(asked.lock().unwrap()["a"], 1);
    let found = looks.at(wanted(), ages(106, 2000), look.clone()).await;
    assert_eq!((*found["a"], asked.lock().unwrap()["dead"]), (2, 1));
    release.send(()).unwrap();
    drop(release);
    // Whether its first thread is done by now or not: it is not asked again so soon after it was.
    let found = looks.at(wanted(), ages(104, 30_000), look.clone()).await;
    assert_eq!(*found["dead"], 1);
    // What was found long ago says nothing of now.
    let found = looks.at(vec!["gone".to_owned()], ages(108, 30_000), look.clone()).await;
    assert_eq!(found.len(), 1);
    let never = |_: &String, _: Option<&u64>| -> u64 {
        loop {
            std::thread::park();
        }
    };
    assert!(looks.at(vec!["gone".to_owned()], ages(169, 1), never).await.is_empty());
}

fn manifest(folder: &Path, name: &str, begun: &str, proof: &str) {
    let text = format!(
        r#"{{"format_version": 1, "database": "shop", "job": "db-backup", "started_at": "{begun}", "file": "{name}.sql.gz",
            "bytes": 1048576, "proof": {{"state": "{proof}"}}}}"#
    );
    let partial = folder.join("partial");
    std::fs::write(&partial, text).unwrap();
    std::fs::rename(partial, folder.join(format!("{name}.manifest.json"))).unwrap();
}

#[test]
fn a_folder_that_has_not_changed_is_not_read_again_and_one_that_has_is() {
    let folder = tempfile::tempdir().unwrap();
    let (name, begun) = ("shop-20261122T000000Z", "2026-11-22T00:00:00Z");
    manifest(folder.path(), name, begun, "written");
    let wanted = (folder.path().to_owned(), vec![("db-backup".to_owned(), "shop".to_owned())]);
    // Long after the folder was changed, by whatever clock.
    let now = "2100-01-01T00:00:00Z".parse().unwrap();
    let second = Duration::from_secs(1);
    let one = |proof: &str| {
        let (begun, bytes, proof) = (begun.parse().unwrap(), Some(1_048_576), proof.to_owned());
        vec![Some(Newest::One { begun, bytes, proof })]
    };
    let first = look_for(&wanted, None, second, now);
    assert_eq!(first.newest, one("written"));
    // In place: the folder itself does not change by that, nor does our own way of writing do so.
    let path = folder.path().join(format!("{name}.manifest.json"));
    let text = std::fs::read_to_string(&path).unwrap().replace("written", "damaged");
    std::fs::write(&path, text).unwrap();
    let second_look = look_for(&wanted, Some(&first), 2 * second, now);
    assert_eq!(second_look.newest, one("written"));
    // After a while it is read all the same.
    assert_eq!(look_for(&wanted, Some(&first), 601 * second, now).newest, one("damaged"));
    manifest(folder.path(), name, begun, "verified");
    let third = look_for(&wanted, Some(&second_look), 3 * second, now);
    assert_eq!(third.newest, one("verified"));
    std::fs::remove_file(path).unwrap();
    assert_eq!(look_for(&wanted, Some(&third), 4 * second, now).newest, [Some(Newest::None)]);
    std::fs::write(folder.path().join(format!("{name}.manifest.json")), "{").unwrap();
    assert_eq!(look_for(&wanted, None, 5 * second, now).newest, [None]);
}
