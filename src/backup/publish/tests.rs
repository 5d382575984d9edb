use super::*;
use crate::backup::codec::Compression;
use crate::backup::manifest::{FORMAT_VERSION, Manifest, Proof, Server};

const SUFFIXES: [&str; 2] = [".sql.gz", ".manifest.json"];

fn directory(path: &Path) -> Arc<Directory> {
    Directory::open(path, Owner::own(), 0o600).unwrap().0
}

fn stem(number: u32) -> String {
    names::stem("shop", "2026-11-22T23:00:00Z".parse().unwrap(), number)
}

fn visible_names(directory: &Directory) -> Vec<String> {
    let mut names: Vec<_> =
        directory.names().unwrap().into_iter().filter(|name| !name.starts_with('.')).collect();
    names.sort();
    names
}

/// Everything but `.` and `..`.
fn all_names(directory: &Directory) -> Vec<String> {
    let mut names: Vec<_> =
        directory.names().unwrap().into_iter().filter(|name| name != "." && name != "..").collect();
    names.sort();
    names
}

fn manifest(bytes: u64) -> Vec<u8> {
    let at = "2026-11-22T23:00:00Z".parse().unwrap();
    Manifest {
        format_version: FORMAT_VERSION,
        database: "shop".into(),
        database_in_file_names: None,
        host: "web1".into(),
        job: "db-backup".into(),
        run: 1,
        server: Server { host: "127.0.0.1".into(), port: 5432, version: "15.8".into() },
        client_version: "15.8".into(),
        started_at: at,
        finished_at: at,
        format: "plain".into(),
        compression: Compression::Gzip,
        level: 6,
        file: "shop-20261122T230000Z.sql.gz".into(),
        bytes,
        uncompressed_bytes: 1,
        sha256: String::new(),
        rows: 0,
        tables: vec![],
        roles: None,
        properties: None,
        encrypted_to: vec![],
        copies: vec![],
        proof: Proof::written(at, "read back"),
    }
    .to_json()
}

/// As SIGKILL leaves it: the file stays, the lock goes.
fn die(mut partial: Partial) {
    partial.published = true;
}

#[test]
fn files_appear_only_when_published_and_with_their_mode() {
    let folder = tempfile::tempdir().unwrap();
    let directory = directory(&folder.path().join("a/b"));
    let mut partials = directory.partials(stem, &SUFFIXES).unwrap();
    partials[0].write_all(b"x").unwrap();
    assert_eq!(visible_names(&directory), [""; 0]);
    publish(partials).unwrap();
    assert_eq!(
        all_names(&directory),
        ["shop-20261122T230000Z.manifest.json", "shop-20261122T230000Z.sql.gz"]
    );
    let mode = |path: &Path| std::os::unix::fs::MetadataExt::mode(&path.metadata().unwrap()) & 0o7777;
    assert_eq!(mode(&folder.path().join("a/b/shop-20261122T230000Z.sql.gz")), 0o600);
    assert_eq!(mode(&folder.path().join("a/b")), 0o700);
}

#[test]
fn two_backups_of_a_second_have_different_names_and_nothing_is_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let directory = directory(folder.path());
    let first = directory.partials(stem, &SUFFIXES).unwrap();
    let second = directory.partials(stem, &SUFFIXES).unwrap();
    assert_eq!(second[0].name, "shop-20261122T230000Z-2.sql.gz");
    std::fs::write(folder.path().join("shop-20261122T230000Z.manifest.json"), "theirs").unwrap();
    let error = publish(first).unwrap_err().to_string();
    assert_eq!(error, "shop-20261122T230000Z.manifest.json can't be published: File exists (os error 17)");
    drop(second);
    assert_eq!(all_names(&directory), ["shop-20261122T230000Z.manifest.json"]);
    assert_eq!(std::fs::read(folder.path().join("shop-20261122T230000Z.manifest.json")).unwrap(), b"theirs");
}

#[test]
fn what_a_dead_process_left_is_removed_and_a_living_one_s_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let directory = directory(folder.path());
    let dead = directory.partials(stem, &SUFFIXES).unwrap();
    let living = directory.partials(stem, &SUFFIXES).unwrap();
    std::fs::write(folder.path().join(".mine.partial-1"), "").unwrap();
    let left: Vec<String> = dead.iter().map(|partial| partial.hidden.clone()).collect();
    dead.into_iter().for_each(die);
    let mut said = directory.recover().unwrap();
    said.sort();
    let mut expected: Vec<_> = left
        .iter()
        .map(|hidden| format!("removed {hidden}, which a process that is gone left half-done"))
        .collect();
    expected.sort();
    assert_eq!(said, expected);
    assert_eq!(all_names(&directory).len(), 3);
    publish(living).unwrap();
}

#[test]
fn publishing_that_death_cut_short_is_completed() {
    for renamed in 0..2 {
        let folder = tempfile::tempdir().unwrap();
        let directory = directory(folder.path());
        let mut partials = directory.partials(stem, &SUFFIXES).unwrap();
        partials[0].write_all(b"dump").unwrap();
        partials[1].write_all(&manifest(4)).unwrap();
        partials.iter_mut().take(renamed).for_each(|partial| partial.rename().unwrap());
        partials.into_iter().for_each(die);
        assert_eq!(
            directory.recover().unwrap(),
            ["completed shop-20261122T230000Z.sql.gz, whose process died while publishing it"]
        );
        assert_eq!(
            all_names(&directory),
            ["shop-20261122T230000Z.manifest.json", "shop-20261122T230000Z.sql.gz"]
        );
    }
}

#[test]
fn a_manifest_that_doesn_t_match_its_dump_completes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let directory = directory(folder.path());
    let mut partials = directory.partials(stem, &SUFFIXES).unwrap();
    partials[0].write_all(b"du").unwrap();
    partials[1].write_all(&manifest(4)).unwrap();
    partials.into_iter().for_each(die);
    assert_eq!(directory.recover().unwrap().len(), 2);
    assert_eq!(all_names(&directory), [""; 0]);
}

#[test]
fn of_changes_at_once_none_is_lost_and_one_that_fails_changes_nothing() {
    const EACH: usize = 60;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.manifest.json"), "0").unwrap();
    let number = |text: &[u8]| std::str::from_utf8(text).unwrap().parse::<usize>().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            // As two processes have them: each its own.
            let directory = directory(folder.path());
            scope.spawn(move || {
                for _ in 0..EACH {
                    let add = |text: &[u8]| Ok((number(text) + 1).to_string().into_bytes());
                    directory.change("a.manifest.json", add).unwrap();
                }
            });
        }
    });
    let directory = directory(folder.path());
    assert_eq!(number(&directory.read("a.manifest.json").unwrap()), 3 * EACH);
    let failing = |_: &[u8]| Err(io::Error::other("no"));
    assert_eq!(directory.change("a.manifest.json", failing).unwrap_err().to_string(), "no");
    assert_eq!(number(&directory.read("a.manifest.json").unwrap()), 3 * EACH);
    assert_eq!(all_names(&directory), ["a.manifest.json"]);
}
