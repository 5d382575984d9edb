//! Whether a backup fell sharply against those before it: the database may have been emptied, or the dump may have
//! seen a part of it. Pure. Says what someone should look at, and never that a backup is bad.

use std::collections::HashMap;

use super::count::TableRows;
use super::manifest::Manifest;
use crate::units::Size;

/// How many dumps before it a dump is compared with: a week of nights, so that one odd night decides nothing.
pub const LOOKED_AT: usize = 7;

/// What is below this share of the median has fallen sharply. Databases grow, and shrink a little when they are
/// cleaned; one that loses a half within a night has been truncated more often than cleaned.
const SHARE: f64 = 0.5;

/// Tables with fewer rows come and go: a queue, a list of sessions.
const LARGE_TABLE: f64 = 1000.0;

/// Tables that are named one by one; of more their number is enough.
const NAMED: usize = 5;

/// What fell in `new` against the manifests `before` it, of the same database; none where nothing did, or where there
/// is nothing to compare with.
pub fn reasons(before: &[Manifest], new: &Manifest) -> Vec<String> {
    if before.is_empty() {
        return vec![];
    }
    let mut reasons = Vec::new();
    let mut fell = |found: u64, of: fn(&Manifest) -> u64, told: &dyn Fn(u64, u64) -> String| {
        reasons.extend(fallen(found, before.iter().map(of).collect()).map(|usual| told(found, usual)));
    };
    let than = than(before.len(), "dump");
    // Before compression: another level or program is no reason to look.
    fell(new.uncompressed_bytes, |one| one.uncompressed_bytes, &|found, usual| {
        format!("its size fell to {} (uncompressed), from {} {than}", Size(found), Size(usual))
    });
    fell(new.tables.len() as u64, |one| one.tables.len() as u64, &|found, usual| {
        format!("its tables fell to {found}, from {usual} {than}")
    });
    fell(new.rows, |one| one.rows, &|found, usual| format!("its rows fell to {found}, from {usual} {than}"));
    reasons.extend(tables(before, new, &than));
    reasons
}

/// The same of an archive, of which so many files and bytes (before compression) are known.
pub fn reasons_of_archive(before: &[(u64, u64)], (files, bytes): (u64, u64)) -> Vec<String> {
    let than = than(before.len(), "archive");
    let size = fallen(bytes, before.iter().map(|one| one.1).collect());
    let size = size
        .map(|usual| format!("its size fell to {} (uncompressed), from {} {than}", Size(bytes), Size(usual)));
    let count = fallen(files, before.iter().map(|one| one.0).collect());
    let count = count.map(|usual| format!("its files fell to {files}, from {usual} {than}"));
    size.into_iter().chain(count).collect()
}

fn than(count: usize, what: &str) -> String {
    match count {
        1 => format!("in the {what} before"),
        count => format!("in the middle of the last {count} {what}s"),
    }
}

/// What was usual, where so little is found.
fn fallen(found: u64, before: Vec<u64>) -> Option<u64> {
    let usual = median(before);
    ((found as f64) < usual * SHARE).then_some(usual as u64)
}

/// Large tables that lost most of their rows, or all, or are gone.
fn tables(before: &[Manifest], new: &Manifest, than: &str) -> Vec<String> {
    let mut usual: HashMap<(&str, &str), Vec<u64>> = HashMap::new();
    for table in before.iter().flat_map(|manifest| &manifest.tables) {
        usual.entry(name(table)).or_default().push(table.rows);
    }
    let found: HashMap<_, u64> = new.tables.iter().map(|table| (name(table), table.rows)).collect();
    let mut fallen = Vec::new();
    for ((schema, table), mut rows) in usual {
        // Where a dump had no such table, it had no rows of it.
        rows.resize(before.len(), 0);
        let usual = median(rows);
        if usual < LARGE_TABLE {
            continue;
        }
        let was = format!("{usual:.0} rows {than}");
        match found.get(&(schema, table)) {
            None => fallen.push(format!("table {schema}.{table} is gone, which had {was}")),
            Some(0) => fallen.push(format!("table {schema}.{table} is empty, which had {was}")),
            Some(&rows) if (rows as f64) < usual * SHARE => {
                fallen.push(format!("table {schema}.{table} fell to {rows} rows, from {was}"));
            }
            Some(_) => {}
        }
    }
    fallen.sort_unstable();
    let more = fallen.len().saturating_sub(NAMED);
    if more > 0 {
        fallen.truncate(NAMED);
        fallen.push(format!("{more} more large table{} fell as well", if more == 1 { "" } else { "s" }));
    }
    fallen
}

fn name(table: &TableRows) -> (&str, &str) {
    (&table.schema, &table.name)
}

fn median(mut values: Vec<u64>) -> f64 {
    values.sort_unstable();
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        count if count % 2 == 0 => (values[middle - 1] as f64 + values[middle] as f64) / 2.0,
        _ => values[middle] as f64,
    }
}

#[cfg(test)]
mod tests;
