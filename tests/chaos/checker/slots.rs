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
    /// In how many of the sure ones it was a slot of an interval, which has a row in each; a fixed time has one in all.
    sure_interval: usize,
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
    for (index, piece) in pieces.iter().enumerate() {
        let Some(job) = piece.jobs.iter().find(|job| job.name == name && job.enabled) else { continue };
        let longest = piece.jobs.iter().map(|job| job.jitter * SECOND).max().unwrap_or(0);
        let (mut begin, mut end) = (piece.begin, piece.end);
        if job.jitter > 0 {
            // A slot that waits for its share of the jitter is dealt with later than its time: when the clock is set
            // back meanwhile, in the next pass.
            begin.0 -= if piece.begins_by_step { longest } else { 2 * longest };
            // That may be soon after another table came into force, which only took it over.
            let set_back = pieces[index..].iter().find(|piece| piece.ends_by_step);
            end.0 = set_back.map_or(end.0, |last| end.0.min(last.end.0 - longest));
        }
        let slots = almanac.slots(&job.schedule, &job.timezone);
        if begin.0 > end.1 {
            continue;
        }
        for (slot, interval) in slots.range(begin.0..=end.1) {
            let one = expected.entry(*slot).or_default();
            one.possible += 1;
            let sure = (begin.1..=end.0).contains(slot);
            one.sure += usize::from(sure);
            one.sure_interval += usize::from(sure && *interval);
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
        // It stands for what one table gave, in one pass: other tables may have had slots between those.
        let given = pieces.iter().find_map(|piece| {
            let job = piece.jobs.iter().find(|job| job.name == name)?;
            let slots = almanac.slots(&job.schedule, &job.timezone);
            let given: Vec<i64> = slots.range(slot..=last).map(|(slot, _)| *slot).collect();
            let ends = given.first() == Some(&slot) && given.last() == Some(&last);
            (ends && i64::try_from(given.len()).unwrap() == row.slots).then_some(given)
        });
        let exact = given.is_some();
        for covered in given.unwrap_or_default() {
            found.entry(covered).or_default().push(row);
        }
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
                "too many rows: {} for a slot that came {} times by the clock: {name} {} {}",
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
        let least = one.sure_interval.max(one.sure.min(1));
        if rows < least {
            let by_the_clock = if one.interval && least > 1 {
                format!("came {least} times, as the clock was set back, and has {rows}")
            } else {
                "came, and has none".to_owned()
            };
            problems.push(format!("a slot without a row: {name} {} {by_the_clock}", shown(*slot)));
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
