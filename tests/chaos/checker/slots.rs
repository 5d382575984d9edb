//! Each slot has its rows, and each row its slot.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::cron::Almanac;
use super::ledger::{Ledger, Row, shown};
use super::pieces::Piece;

const SECOND: i64 = 1_000_000;

#[derive(Debug, Default)]
struct Expected {
    /// In how many passes of the clock the slot surely came, and possibly.
    sure: usize,
    possible: usize,
    interval: bool,
}

pub(super) fn check(ledger: &Ledger, pieces: &[Piece<'_>], problems: &mut Vec<String>) {
    let Some(from) = pieces.iter().map(|piece| piece.begin.0).min() else { return };
    let until = pieces.iter().map(|piece| piece.end.1).max().unwrap_or(from);
    let mut almanac = Almanac::new(from - 60 * SECOND, until);
    let mut by_job: HashMap<&str, Vec<&Row>> = HashMap::new();
    for row in ledger.rows.iter().filter(|row| row.slot.is_some()) {
        by_job.entry(&row.job).or_default().push(row);
    }
    let names: BTreeSet<&str> = pieces.iter().flat_map(|piece| piece.jobs).map(|job| &*job.name).collect();
    for name in by_job.keys().filter(|name| !names.contains(**name)) {
        problems.push(format!("rows of {name}, a job that was in no table"));
    }
    for name in names {
        let expected = expected(name, pieces, &mut almanac);
        let rows = by_job.remove(name).unwrap_or_default();
        compare(name, &expected, &rows, pieces, &mut almanac, problems);
    }
}

fn expected(name: &str, pieces: &[Piece<'_>], almanac: &mut Almanac) -> BTreeMap<i64, Expected> {
    let mut expected: BTreeMap<i64, Expected> = BTreeMap::new();
    for piece in pieces {
        let Some(job) = piece.jobs.iter().find(|job| job.name == name && job.enabled) else { continue };
        let longest = piece.jobs.iter().map(|job| job.jitter * SECOND).max().unwrap_or(0);
        let (mut begin, mut end) = (piece.begin, piece.end);
        if job.jitter > 0 {
            // A slot that waits for its share of the jitter is dealt with later than its time: when the clock is set
            // back meanwhile, in the next pass.
            begin.0 -= if piece.begins_by_step { longest } else { 2 * longest };
            end.0 -= if piece.ends_by_step { longest } else { 0 };
        }
        let slots = almanac.slots(&job.schedule, &job.timezone);
        if begin.0 > end.1 {
            continue;
        }
        for (slot, interval) in slots.range(begin.0..=end.1) {
            let one = expected.entry(*slot).or_default();
            one.possible += 1;
            one.sure += usize::from((begin.1..=end.0).contains(slot));
            one.interval |= interval;
        }
    }
    expected
}

fn compare(
    name: &str,
    expected: &BTreeMap<i64, Expected>,
    rows: &[&Row],
    pieces: &[Piece<'_>],
    almanac: &mut Almanac,
    problems: &mut Vec<String>,
) {
    let mut found: BTreeMap<i64, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        let Some(slot) = row.slot else { continue };
        let last = row.slot_last.unwrap_or(slot);
        if row.slots == 1 && row.slot_last.is_none() {
            found.entry(slot).or_default().push(row);
            continue;
        }
        for covered in expected.range(slot..=last).map(|(slot, _)| *slot) {
            found.entry(covered).or_default().push(row);
        }
        // It counts what one table gave, in one pass.
        let exact = pieces.iter().any(|piece| {
            let Some(job) = piece.jobs.iter().find(|job| job.name == name) else { return false };
            let slots = almanac.slots(&job.schedule, &job.timezone);
            i64::try_from(slots.range(slot..=last).count()).unwrap() == row.slots
        });
        if !exact {
            problems.push(format!(
                "row {} of {name} says it stands for {} slots from {} to {}, which no table gave",
                row.id,
                row.slots,
                shown(slot),
                shown(last)
            ));
        }
    }
    for (slot, rows) in &found {
        let Some(one) = expected.get(slot) else {
            problems.push(format!("a row without a slot: {name} {} {}", shown(*slot), words(rows)));
            continue;
        };
        if rows.len() > one.possible {
            problems.push(format!(
                "{} rows for a slot that came {} times: {name} {} {}",
                rows.len(),
                one.possible,
                shown(*slot),
                words(rows)
            ));
        }
        if !one.interval && rows.iter().filter(|row| row.outcome != "skipped").count() > 1 {
            problems.push(format!("a fixed time was run twice: {name} {} {}", shown(*slot), words(rows)));
        }
    }
    for (slot, one) in expected {
        let rows = found.get(slot).map_or(0, Vec::len);
        let least = if one.interval { one.sure } else { one.sure.min(1) };
        if rows < least {
            problems.push(format!("a slot without a row: {name} {} has {rows} of {least}", shown(*slot)));
        }
    }
}

fn words(rows: &[&Row]) -> String {
    let one = |row: &&Row| {
        let reason = row.reason.as_deref().unwrap_or("-");
        let at = shown(row.claimed_at);
        format!(
            "(row {} epoch {} {} {} {reason} claimed at {at})",
            row.id, row.epoch, row.trigger, row.outcome
        )
    };
    rows.iter().map(one).collect::<Vec<_>>().join(" ")
}
