//! What a backup is, against what its manifest says. Pure.

use std::collections::BTreeMap;

use jiff::Unit;

use crate::backup::codec::Compression;
use crate::backup::count::{Counted, TableRows};
use crate::backup::manifest::Manifest;
use crate::backup::names;
use crate::backup::postgres::Format;
use crate::backup::read::{Examined, Form};

/// Of a backup whose every table differs, so many are named.
const TABLES_TOLD: usize = 10;

/// What the names contradict: the file's own, and what the manifest says of file and database.
pub(super) fn of_names(manifest: &Manifest, file: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if manifest.file != file {
        wrong.push(format!("the manifest beside it is that of {}", manifest.file));
        return wrong;
    }
    let database = manifest.database_in_file_names.as_deref().unwrap_or(&manifest.database);
    let time = names::time_in(file);
    if !names::stem_of(file).strip_prefix(database).is_some_and(|rest| rest.starts_with('-')) {
        wrong.push(format!(
            "it is named for another database than {}, which its manifest names",
            manifest.database
        ));
    }
    if let (Some(time), Ok(started)) = (time, manifest.started_at.round(Unit::Second))
        && time.duration_since(started).as_secs().abs() > 1
    {
        wrong.push(format!("it is named for {time}, and its manifest is that of a dump begun at {started}"));
    }
    wrong
}

/// A custom dump says of which database it is.
pub(super) fn of_database(manifest: &Manifest, found: Option<&str>) -> Option<String> {
    let found = found.filter(|found| *found != manifest.database)?;
    Some(format!("it is a dump of the database {found}, and its manifest names {}", manifest.database))
}

/// What the manifest contradicts in itself.
pub(super) fn of_manifest(manifest: &Manifest) -> Vec<String> {
    let rows: u64 = manifest.tables.iter().map(|table| table.rows).sum();
    if rows == manifest.rows {
        return vec![];
    }
    vec![format!("its manifest contradicts itself: {} rows in all, and {rows} in its tables", manifest.rows)]
}

/// What the bytes of a file contradict; `what` begins each reason.
pub(super) fn of_bytes(what: &str, (bytes, sha256): (u64, &str), expected: (u64, &str)) -> Vec<String> {
    let mut wrong = Vec::new();
    if bytes == 0 && expected.0 > 0 {
        wrong.push(format!("{what} is empty: {} bytes were written", expected.0));
    } else if bytes != expected.0 {
        wrong.push(format!("{what} has {bytes} bytes where {} were written", expected.0));
    }
    if sha256 != expected.1 {
        wrong.push(format!("{what} is not what was written: its SHA-256 is {sha256}, not {}", expected.1));
    }
    wrong
}

/// What its content contradicts. `same_reader`: its text comes from what read it when it was dumped.
pub(super) fn of_content(manifest: &Manifest, found: &Examined, same_reader: bool) -> Vec<String> {
    let mut wrong = of_form(manifest, found.form);
    if same_reader && found.uncompressed_bytes != manifest.uncompressed_bytes {
        wrong.push(format!(
            "its content has {} bytes where {} were dumped",
            found.uncompressed_bytes, manifest.uncompressed_bytes
        ));
    }
    wrong.extend(of_text("it", &found.counted));
    wrong.extend(of_tables(&manifest.tables, &found.counted.tables));
    wrong
}

/// What is wrong with a text of pg_dump's or pg_dumpall's, whatever the manifest says.
pub(super) fn of_text(what: &str, counted: &Counted) -> Vec<String> {
    let mut wrong = Vec::new();
    if !counted.complete && counted.wrong.is_none() {
        wrong.push(format!("{what} breaks off: the closing comment of the dump is missing"));
    }
    wrong.extend(counted.wrong.clone());
    wrong
}

fn of_form(manifest: &Manifest, form: Form) -> Vec<String> {
    let mut wrong = Vec::new();
    let encrypted = !manifest.encrypted_to.is_empty();
    if form.encrypted != encrypted {
        wrong.push(if encrypted {
            "it is not encrypted, and was written encrypted".to_owned()
        } else {
            "it is encrypted, and was not when it was written".to_owned()
        });
    }
    if form.format.word() != manifest.format {
        wrong.push(format!("it is a dump in the format {}, not {}", form.format.word(), manifest.format));
    } else if form.format == Format::Plain && form.compression != manifest.compression {
        let word = |compression| match compression {
            Compression::Gzip => "compressed with gzip",
            Compression::Zstd => "compressed with zstd",
            Compression::None => "not compressed",
        };
        wrong.push(format!("it is {}, and was {}", word(form.compression), word(manifest.compression)));
    }
    wrong
}

fn of_tables(expected: &[TableRows], found: &[TableRows]) -> Vec<String> {
    let (dumped, found) = (by_name(expected), by_name(found));
    let mut wrong = Vec::new();
    for ((schema, name), rows) in &dumped {
        match found.get(&(*schema, *name)) {
            Some(now) if now == rows => {}
            Some(now) => wrong.push(format!("table {schema}.{name} has {now} rows where {rows} were dumped")),
            None => wrong.push(format!("table {schema}.{name} is missing, of which {rows} rows were dumped")),
        }
    }
    for (schema, name) in found.keys().filter(|name| !dumped.contains_key(*name)) {
        wrong.push(format!("table {schema}.{name} is in it, and was not dumped"));
    }
    if wrong.len() > TABLES_TOLD {
        let more = wrong.split_off(TABLES_TOLD).len();
        wrong.push(format!("and {more} more tables differ"));
    }
    wrong
}

/// Of a table that is there in several pieces, the rows of all.
fn by_name(tables: &[TableRows]) -> BTreeMap<(&str, &str), u64> {
    let mut rows = BTreeMap::new();
    for table in tables {
        *rows.entry((table.schema.as_str(), table.name.as_str())).or_insert(0) += table.rows;
    }
    rows
}
