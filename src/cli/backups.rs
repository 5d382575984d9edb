//! `backups`: which backups exist where, and what has been proven of each. Reads the directories that the jobs of the
//! table name, and nothing else: no daemon, no ledger, no server.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::args::BackupsArgs;
use super::failure::{Failure, code};
use super::output::{self, Colour, Paint, Table};
use super::{Context, time};
use crate::backup::catalogue::{self, Backup, EventHead, is_ours};
use crate::backup::manifest::State;
use crate::backup::names;
use crate::backup::pattern::Pattern;
use crate::backup::retention::Standing;
use crate::clock::{Clock, SystemClock};
use crate::config::JobTable;
use crate::host::files;
use crate::units::{HumanDuration, Size};

/// One element of `backups --json`.
#[derive(Debug, PartialEq, Serialize)]
struct Row {
    /// None: no job of the table makes such backups there.
    job: Option<String>,
    /// Of the dump or archive, below the directory; of what is left without one, the manifest or the roles.
    file: String,
    directory: String,
    database: Option<String>,
    time: Option<Timestamp>,
    bytes: Option<u64>,
    /// `damaged`, `written`, `read_back`, `verified`; none without a manifest that can be read.
    proof: Option<String>,
    /// Why someone should look at it.
    suspect: Vec<String>,
    /// Of the last restore that proved it.
    restore_seconds: Option<f64>,
    copies: Vec<String>,
}

pub(super) fn run(context: &Context, args: &BackupsArgs) -> Result<u8, Failure> {
    let table = context.table()?;
    let (rows, troubles) = look(&table);
    if args.json.wanted {
        output::json(&rows)?;
    } else {
        let mut out = output::data();
        in_words(&rows, SystemClock.now()).print(&mut out, Paint::stdout())?;
        for row in &rows {
            for why in &row.suspect {
                writeln!(out, "{} is suspect: {why}", row.file)?;
            }
        }
        out.flush()?;
    }
    for trouble in &troubles {
        output::message(trouble);
    }
    Ok(if troubles.is_empty() { code::DONE } else { code::FAILED })
}

/// By job, in the order of the table, and in each the newest first; and what could not be looked at.
fn look(table: &JobTable) -> (Vec<Row>, Vec<String>) {
    let mut directories: BTreeMap<&Path, Vec<&str>> = BTreeMap::new();
    for job in &table.jobs {
        if let Some(directory) = job.job.backups_in() {
            directories.entry(directory).or_default().push(job.name.as_str());
        }
    }
    let (mut rows, mut troubles) = (Vec::new(), Vec::new());
    for (directory, jobs) in directories {
        match in_directory(directory, &jobs, &mut troubles) {
            Ok(found) => rows.extend(found),
            // Nothing has been dumped yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => troubles.push(format!(
                "the directory {} of {} can't be read: {error}",
                directory.display(),
                jobs.join(", ")
            )),
        }
    }
    let place = |row: &Row| {
        let of_job = |job: &String| table.jobs.iter().position(|one| one.name.as_str() == job);
        row.job.as_ref().and_then(of_job).unwrap_or(usize::MAX)
    };
    rows.sort_by_cached_key(|row| {
        (place(row), row.directory.clone(), std::cmp::Reverse(row.time), row.file.clone())
    });
    (rows, troubles)
}

fn in_directory(directory: &Path, jobs: &[&str], troubles: &mut Vec<String>) -> io::Result<Vec<Row>> {
    let root = files::open_directory(directory)?;
    let found = catalogue::search(&root, &Pattern::all(), &CancellationToken::new())?;
    for one in found.passed_over.iter().filter(|one| one.trouble) {
        troubles.push(format!("{} {}", directory.join(&one.path).display(), one.why));
    }
    let mut rows = Vec::new();
    for folder in &found.folders {
        let ours = folder
            .backups
            .iter()
            .filter(|backup| backup.files.iter().any(|name| std::str::from_utf8(name).is_ok_and(is_ours)));
        rows.extend(ours.map(|backup| row(directory, &folder.path, backup)));
    }
    assign(&mut rows, jobs);
    Ok(rows)
}

fn row(directory: &Path, folder: &Path, backup: &Backup) -> Row {
    let candidate = &backup.candidate;
    let file: PathBuf = folder.join(&*candidate.name);
    let proof = backup.head.as_ref().and_then(|head| head.proof.as_ref());
    let mut suspect: Vec<String> = proof.map(|proof| proof.suspect.clone()).unwrap_or_default();
    if candidate.standing == Standing::Fragment {
        suspect.push("the dump itself is gone".to_owned());
    }
    // Without a manifest, or with one that says nothing, the name still tells something.
    let time = match &candidate.time {
        Ok(time) => Some(*time),
        Err(why) => {
            suspect.push(why.to_string());
            names::time_in(&candidate.name)
        }
    };
    let is_archive = names::is_archive(&candidate.name);
    let of =
        candidate.database.strip_prefix("archive ").filter(|_| is_archive).unwrap_or(&candidate.database);
    let restored = |event: &&EventHead| event.state == State::Verified.word() && event.seconds.is_some();
    Row {
        job: backup.head.as_ref().and_then(|head| head.job.clone()),
        directory: directory.to_string_lossy().into_owned(),
        database: Some(of.to_owned()).filter(|name| !name.is_empty()),
        time,
        bytes: std::fs::symlink_metadata(directory.join(&file)).ok().map(|data| data.len()),
        proof: proof.map(|proof| proof.state.clone()),
        suspect,
        // An archive is proven by reading it.
        restore_seconds: proof
            .filter(|_| !is_archive)
            .and_then(|proof| proof.events.iter().rev().find(restored)?.seconds),
        copies: backup.head.iter().flat_map(|head| &head.copies).map(|copy| copy.to.clone()).collect(),
        file: file.to_string_lossy().into_owned(),
    }
}

/// A backup is that of the job that its manifest names. One without, or of a job that goes by another name now, is that
/// of the job which has others of the same database there, or of the only one there is.
fn assign(rows: &mut [Row], jobs: &[&str]) {
    let known = |row: &Row| row.job.clone().filter(|job| jobs.contains(&job.as_str()));
    let by_database: HashMap<String, String> =
        rows.iter().filter_map(|row| Some((row.database.clone()?, known(row)?))).collect();
    for row in rows {
        row.job =
            known(row).or_else(|| by_database.get(row.database.as_ref()?).cloned()).or_else(|| match jobs {
                [only] => Some((*only).to_owned()),
                _ => None,
            });
    }
}

fn in_words(rows: &[Row], now: Timestamp) -> Table {
    let mut shown = Table::default();
    let heads = ["JOB", "FILE", "DATABASE", "AGE", "SIZE", "PROOF", "RESTORED IN", "COPIES", "DIRECTORY"];
    shown.row(heads.map(|name| (name.to_owned(), Some(Colour::Dim))));
    let or_dash = |text: Option<String>| (text.unwrap_or_else(|| "-".to_owned()), None);
    for row in rows {
        let seconds = |seconds: f64| {
            let whole = std::time::Duration::from_secs(seconds.max(0.0).round() as u64);
            HumanDuration(whole).to_string()
        };
        shown.row([
            (row.job.clone().unwrap_or_else(|| "-".to_owned()), Some(Colour::Bold)),
            (plain(&row.file), None),
            or_dash(row.database.clone()),
            or_dash(row.time.map(|at| time::distance(at, now))),
            or_dash(row.bytes.map(|bytes| Size(bytes).to_string())),
            proof_in_words(row),
            or_dash(row.restore_seconds.map(seconds)),
            or_dash(Some(row.copies.join(", ")).filter(|copies| !copies.is_empty())),
            (row.directory.clone(), None),
        ]);
    }
    shown
}

fn proof_in_words(row: &Row) -> (String, Option<Colour>) {
    let (state, colour) = match row.proof.as_deref() {
        Some("verified") => ("verified", Some(Colour::Green)),
        Some("read_back") => ("read back", None),
        Some("damaged") => ("damaged", Some(Colour::Red)),
        Some(other) => (other, None),
        None => ("no manifest", Some(Colour::Yellow)),
    };
    if row.suspect.is_empty() {
        return (state.to_owned(), colour);
    }
    (format!("{state}, suspect"), Some(Colour::Red))
}

/// A name may hold anything, and must stay on its line.
fn plain(name: &str) -> String {
    if name.contains(char::is_control) { name.escape_debug().to_string() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(file: &str, job: &str, at: &str, more: &str) -> String {
        format!(
            r#"{{"format_version": 1, "database": "shop", "job": "{job}", "started_at": "{at}", "file": "{file}"{more}}}"#
        )
    }

    /// Two jobs share `folder`.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &str| std::fs::write(folder.path().join(name), content).unwrap();
        let proven = r#", "bytes": 4, "copies": [{"to": "s3://away/shop", "at": "2026-11-22T00:00:00Z", "bytes": 4}],
            "proof": {"state": "verified", "events": [{"state": "written"}, {"state": "verified", "seconds": 61.5},
            {"state": "read_back", "seconds": 1}]}"#;
        write("shop-20261121T000000Z.sql.gz", "1234");
        write("shop-20261121T000000Z.roles.sql.gz", "12");
        write(
            "shop-20261121T000000Z.manifest.json",
            &manifest("shop-20261121T000000Z.sql.gz", "nightly", "2026-11-21T00:00:00Z", proven),
        );
        write("shop-20261122T000000Z.sql.gz.age", "123456");
        let fell = r#", "proof": {"state": "read_back", "events": [], "suspect": ["its rows fell"]}"#;
        write(
            "shop-20261122T000000Z.manifest.json",
            &manifest("shop-20261122T000000Z.sql.gz.age", "of old", "2026-11-22T00:00:00Z", fell),
        );
        write("blog-20261120T000000Z.sql.gz", "");
        write("shop-20261119T000000Z.dump", "");
        write("shop-20261119T000000Z.manifest.json", "{");
        write("readme.txt", "");
        write(".shop-20261123T000000Z.sql.gz.partial-1-1", "");
        folder
    }

    fn rows(jobs: &[&str]) -> (tempfile::TempDir, Vec<Row>) {
        let folder = folder();
        let mut rows = in_directory(folder.path(), jobs, &mut vec![]).unwrap();
        rows.sort_by_key(|row| std::cmp::Reverse(row.time));
        (folder, rows)
    }

    #[test]
    fn each_backup_is_told_with_its_proof_and_its_job() {
        let (folder, rows) = rows(&["nightly", "weekly"]);
        let directory = folder.path().to_str().unwrap();
        let text = serde_json::to_string(&rows).unwrap().replace(directory, "/b");
        let found: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            found,
            serde_json::json!([
                {"job": "nightly", "file": "shop-20261122T000000Z.sql.gz.age", "directory": "/b", "database": "shop",
                 "time": "2026-11-22T00:00:00Z", "bytes": 6, "proof": "read_back", "suspect": ["its rows fell"],
                 "restore_seconds": null, "copies": []},
                {"job": "nightly", "file": "shop-20261121T000000Z.sql.gz", "directory": "/b", "database": "shop",
                 "time": "2026-11-21T00:00:00Z", "bytes": 4, "proof": "verified", "suspect": [],
                 "restore_seconds": 61.5, "copies": ["s3://away/shop"]},
                {"job": null, "file": "blog-20261120T000000Z.sql.gz", "directory": "/b", "database": "blog",
                 "time": "2026-11-20T00:00:00Z", "bytes": 0, "proof": null, "suspect": [],
                 "restore_seconds": null, "copies": []},
                {"job": "nightly", "file": "shop-20261119T000000Z.dump", "directory": "/b", "database": "shop",
                 "time": "2026-11-19T00:00:00Z", "bytes": 0, "proof": null,
                 "suspect": ["its manifest shop-20261119T000000Z.manifest.json can't be understood (EOF while parsing an \
                             object at line 1 column 1): look at it, or delete the backup by hand"],
                 "restore_seconds": null, "copies": []},
            ])
        );
    }

    #[test]
    fn the_table_of_the_only_job_there() {
        let (folder, rows) = rows(&["nightly"]);
        let mut out = Vec::new();
        in_words(&rows, "2026-11-22T02:00:00Z".parse().unwrap()).print(&mut out, Paint::plain()).unwrap();
        let directory = folder.path().to_str().unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap().replace(directory, "/b"), @r"
        JOB      FILE                              DATABASE  AGE       SIZE  PROOF                 RESTORED IN  COPIES          DIRECTORY
        nightly  shop-20261122T000000Z.sql.gz.age  shop      2h ago    6 B   read back, suspect    -            -               /b
        nightly  shop-20261121T000000Z.sql.gz      shop      1d2h ago  4 B   verified              1m2s         s3://away/shop  /b
        nightly  blog-20261120T000000Z.sql.gz      blog      2d2h ago  0 B   no manifest           -            -               /b
        nightly  shop-20261119T000000Z.dump        shop      3d2h ago  0 B   no manifest, suspect  -            -               /b
        ");
    }
}
