//! What befalls the file itself: a lock, damage, a full disk, a read-only one, and hands that take it away.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::*;

#[test]
fn a_locked_ledger_holds_nobody_up_for_long() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let opened = path.clone();
    let mut ledger = Buffered::new(owner("daemon"), "web1", clock(), move |_| Ok((open(&opened)?, None)));
    ledger.patience(Duration::from_millis(1));
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    ledger.apply(&[claim("a", Some(0), NewState::Started)]).unwrap();
    assert_eq!(
        ledger.state().unwrap(),
        format!(
            "{}: the ledger can't be written: another process holds it locked (is it open in sqlite3, or being \
             copied?) since 2026-11-22T23:00:00Z; 1 changes wait in memory",
            path.display()
        )
    );
    other.execute_batch("ROLLBACK").unwrap();
    ledger.retry().unwrap();
    assert_eq!(open(&path).unwrap().history(&Filter::default()).unwrap().len(), 1);
}

#[test]
fn a_ledger_that_is_damaged_in_use_is_set_aside_and_nothing_new_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let (tell, told) = std::sync::mpsc::channel();
    let opened = path.clone();
    let mut ledger = Buffered::new(owner("daemon"), "web1", clock(), move |suspect| {
        let (ledger, aside) = open_or_set_aside(&opened, owner("daemon"), "web1", at(0), suspect)?;
        tell.send(aside.clone().and_then(|aside| aside.moved_to)).unwrap();
        Ok((ledger, aside))
    });
    assert_eq!(told.recv().unwrap(), None);
    let many: Vec<Write> =
        (0..300).map(|job| claim(&format!("job-{job}"), Some(0), NewState::Started)).collect();
    ledger.apply(&many).unwrap();
    {
        // Another process's change makes the ledger forget the pages that it remembers; and all into the file.
        let other = rusqlite::Connection::open(&path).unwrap();
        other.execute("INSERT INTO events (at, kind, detail) VALUES (0, 'x', '{}')", ()).unwrap();
        other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(())).unwrap();
    }
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    for page in 2..file.metadata().unwrap().len() / 4096 {
        std::os::unix::fs::FileExt::write_all_at(&file, &[0xa5; 4096], page * 4096).unwrap();
    }
    let run = claimed(&ledger.apply(&[claim("new", Some(60), NewState::Started)]).unwrap())[0];
    assert_eq!(run, RunId(301));
    assert_eq!(ledger.state(), None);
    let moved_to = folder.path().join("ledger.db.damaged-20261122T230000Z");
    assert_eq!(told.recv().unwrap(), Some(moved_to.clone()));
    let news = ledger.news();
    assert!(
        matches!(&news[..], [StoreNews::Replaced(aside)] if aside.moved_to == Some(moved_to)),
        "{news:?}"
    );
    // What runs is known to the new one, whatever could be read of the old one.
    let open_runs = open(&path).unwrap().past().unwrap().open;
    assert_eq!((open_runs.len(), open_runs[0].record.job.as_str()), (301, "job-0"));
    ledger.apply(&[finished(run, 61, Outcome::Succeeded)]).unwrap();
    let record = open(&path).unwrap().run(run).unwrap().unwrap();
    assert_eq!((record.job.as_str(), record.outcome), ("new", Outcome::Succeeded));
}

/// A small disk of its own, gone with the value.
struct Disk(tempfile::TempDir);

impl Disk {
    fn new(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        if mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"], folder.path()) {
            return Some(Self(folder));
        }
        assert!(std::env::var_os("CI").is_none(), "this test mounts a tmpfs: run it as root");
        None
    }
}

impl Drop for Disk {
    #[expect(clippy::disallowed_methods, reason = "a test's own mount")]
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's own mount")]
fn mount(arguments: &[&str], on: &Path) -> bool {
    Command::new("mount").args(arguments).arg(on).status().is_ok_and(|status| status.success())
}

#[test]
fn a_full_disk_stops_nothing_and_what_waited_is_written_once_there_is_room() {
    let Some(disk) = Disk::new("1m") else { return };
    let path = disk.0.path().join("ledger.db");
    let opened = path.clone();
    let mut ledger = Buffered::new(owner("daemon"), "web1", clock(), move |_| Ok((open(&opened)?, None)));
    ledger.apply(&[claim("first", Some(0), NewState::Started)]).unwrap();
    let free = rustix::fs::statvfs(disk.0.path()).unwrap();
    let ballast = disk.0.path().join("ballast");
    std::fs::write(&ballast, vec![0; usize::try_from(free.f_bavail * free.f_frsize).unwrap()]).unwrap();
    for slot in 0..50 {
        let batch: Vec<Write> =
            (0..20).map(|job| claim(&format!("job-{job}"), Some(slot), NewState::Started)).collect();
        claimed(&ledger.apply(&batch).unwrap());
    }
    let state = ledger.state().unwrap();
    assert!(
        state.contains("the ledger can't be written: the disk is full since 2026-11-22T23:00:0"),
        "{state}"
    );
    assert_eq!(ledger.history(&Filter::default()).unwrap().len(), 1001);
    std::fs::remove_file(ballast).unwrap();
    ledger.retry().unwrap();
    assert_eq!(ledger.state(), None);
    assert_eq!(open(&path).unwrap().history(&Filter::default()).unwrap().len(), 1001);
}

#[test]
fn a_ledger_on_a_read_only_disk_can_be_read_also_after_a_power_cut() {
    let Some(disk) = Disk::new("4m") else { return };
    let (clean, cut) = (disk.0.path().join("clean.db"), disk.0.path().join("cut.db"));
    open(&clean).unwrap().apply(&[claim("a", Some(0), NewState::Started)]).unwrap();
    let mut died = open(&cut).unwrap();
    died.apply(&[claim("a", Some(0), NewState::Started)]).unwrap();
    // As a power cut leaves it: with a log of changes. Linked, so that the end of `died` doesn't clear it.
    let kept = disk.0.path().join("kept.db");
    for part in ["", "-wal", "-shm"] {
        std::fs::copy(file::beside(&cut, part), file::beside(&kept, part)).unwrap();
    }
    drop(died);
    assert!(mount(&["-o", "remount,ro"], disk.0.path()));
    for path in [&clean, &cut, &kept] {
        let reader = SqliteLedger::open_read_only(path).unwrap();
        assert_eq!(reader.history(&Filter::default()).unwrap().len(), 1, "{}", path.display());
    }
    let path = clean.clone();
    let mut ledger = Buffered::new(owner("daemon"), "web1", clock(), move |_| Ok((open(&path)?, None)));
    ledger.apply(&[claim("b", Some(0), NewState::Started)]).unwrap();
    assert!(ledger.state().is_some());
}

#[test]
fn a_ledger_that_is_taken_away_in_use_is_put_back_whole() {
    let check = |take_away: &dyn Fn(&Path), found: bool, reason: &str| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        let opened = path.clone();
        let mut ledger = Buffered::new(owner("daemon"), "web1", clock(), move |suspect| {
            open_or_set_aside(&opened, owner("daemon"), "web1", at(0), suspect)
        });
        ledger.apply(&[claim("a", Some(0), NewState::Started)]).unwrap();
        take_away(&path);
        ledger.apply(&[claim("b", Some(0), NewState::Started)]).unwrap();
        assert_eq!(ledger.state(), None, "{reason}");
        let news = ledger.news();
        let [StoreNews::Replaced(aside)] = &news[..] else { panic!("{reason}: {news:?}") };
        assert_eq!(aside.reason, reason);
        let kept = folder.path().join("ledger.db.damaged-20261122T230000Z");
        assert_eq!(aside.moved_to, found.then_some(kept), "{reason}");
        assert_eq!(open(&path).unwrap().history(&Filter::default()).unwrap().len(), 2, "{reason}");
        // And it goes on from there.
        ledger.apply(&[claim("c", Some(0), NewState::Started)]).unwrap();
        assert_eq!((ledger.news(), ledger.state()), (vec![], None), "{reason}");
        assert_eq!(open(&path).unwrap().history(&Filter::default()).unwrap().len(), 3, "{reason}");
    };
    let remove = |path: &Path| std::fs::remove_file(path).unwrap();
    check(&remove, false, "the file was taken away while it was in use");
    let remove_all = |path: &Path| {
        for part in ["", "-wal", "-shm"] {
            std::fs::remove_file(file::beside(path, part)).unwrap();
        }
    };
    check(&remove_all, false, "the file was taken away while it was in use");
    let wal = |path: &Path| std::fs::remove_file(file::beside(path, "-wal")).unwrap();
    check(&wal, true, "its `-wal` file was taken away while it was in use");
    let directory = |path: &Path| {
        std::fs::remove_file(path).unwrap();
        std::fs::create_dir(path).unwrap();
    };
    check(&directory, true, "a directory was put into its place while it was in use");
    let other = |path: &Path| {
        std::fs::remove_file(path).unwrap();
        std::fs::write(path, "another").unwrap();
    };
    check(&other, true, "another file was put into its place while it was in use");
}
