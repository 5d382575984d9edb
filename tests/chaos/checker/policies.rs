//! What was to become of each slot: by pauses, by `missed`, by `after`.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::ledger::{Ledger, Row, shown};
use crate::timeline::{Entry, Job, What};

const SECOND: i64 = 1_000_000;
/// How late one slot may be and still be an ordinary run; the daemon looks at its clock a moment after it rang.
const PUNCTUAL: i64 = 11 * SECOND;
/// `run_all` runs no more slots at once than these.
const MOST: usize = 10_000;
/// From here on `run_all` is `run_once`.
const FAR: i64 = 30 * 86_400 * SECOND;

pub(super) fn check(ledger: &Ledger, timeline: &[Entry], problems: &mut Vec<String>) {
    let mut jobs: HashMap<&str, Vec<&Job>> = HashMap::new();
    for entry in timeline {
        if let What::Started { jobs: table, .. } | What::Reloaded { jobs: table, .. } = &entry.what {
            for job in table {
                jobs.entry(&job.name).or_default().push(job);
            }
        }
    }
    pauses(ledger, timeline, problems);
    // A run whose row was lost with its daemon, while the disk was full, comes back without word of what brought it
    // about, under the time of its start.
    let lost = |entry: &Entry| matches!(&entry.what, What::Down { how, .. } if how.contains("full"));
    let rows_were_lost = timeline.iter().any(lost);
    missed(ledger, &jobs, rows_were_lost, problems);
    after(ledger, &jobs, problems);
    if !rows_were_lost {
        by_hand(ledger, timeline, problems);
    }
}

/// By the order of the rows, since the clock may show the same instant twice: a row was claimed under a pause surely
/// from `by` of the pause to `after` of the resume, and possibly from `after` to `by`.
fn pauses(ledger: &Ledger, timeline: &[Entry], problems: &mut Vec<String>) {
    // By job, none for all: first row and last.
    let mut sure: Vec<(Option<&str>, i64, i64)> = vec![];
    let mut possible: Vec<(Option<&str>, i64, i64)> = vec![];
    for entry in timeline {
        match &entry.what {
            What::Paused { job, after, by } => {
                sure.push((job.as_deref(), by + 1, i64::MAX));
                possible.push((job.as_deref(), after + 1, i64::MAX));
            }
            What::Resumed { job, after, by } => {
                let job = job.as_deref();
                sure.iter_mut().filter(|one| one.0 == job).for_each(|one| one.2 = one.2.min(*after));
                possible.iter_mut().filter(|one| one.0 == job).for_each(|one| one.2 = one.2.min(*by));
            }
            _ => {}
        }
    }
    let covers = |pauses: &[(Option<&str>, i64, i64)], row: &Row| {
        pauses.iter().any(|(job, first, last)| {
            job.is_none_or(|job| job == row.job) && (*first..=*last).contains(&row.id)
        })
    };
    for row in ledger.rows.iter().filter(|row| row.trigger != "manual") {
        let reason = if row.outcome == "skipped" { row.reason.as_deref().unwrap_or("-") } else { "ran" };
        if covers(&sure, row) && !["paused", "removed", "stopping"].contains(&reason) {
            problems.push(format!("a pause was passed over: {}", words(row)));
        }
        let held = ledger.held.contains(&row.job);
        if reason == "paused" && !covers(&possible, row) && !held {
            problems.push(format!("skipped for a pause that nobody made: {}", words(row)));
        }
    }
}

/// What one look of the daemon at a job's slots has made of them.
fn missed(
    ledger: &Ledger,
    jobs: &HashMap<&str, Vec<&Job>>,
    rows_were_lost: bool,
    problems: &mut Vec<String>,
) {
    let mut looks: BTreeMap<(&str, i64), Vec<&Row>> = BTreeMap::new();
    // By job: slots that were to run, and when that was decided.
    let mut chosen: HashMap<&str, Vec<(i64, i64)>> = HashMap::new();
    for row in ledger.rows.iter().filter(|row| row.slot.is_some()) {
        if !row.is(&["paused", "removed", "stopping"]) {
            looks.entry((&row.job, row.claimed_at)).or_default().push(row);
        }
        // One that waited for its turn may have been dropped later, whatever for.
        if row.trigger == "catch_up" || !row.is(&["paused", "removed", "missed", "coalesced"]) {
            chosen.entry(&row.job).or_default().extend(row.slot.map(|slot| (slot, row.claimed_at)));
        }
    }
    for ((name, at), rows) in &looks {
        // The policy stays as long as the name.
        let Some(job) = jobs.get(name).and_then(|forms| forms.first()) else { continue };
        let newest =
            rows.iter().filter(|row| !row.is(&["missed", "coalesced"])).filter_map(|row| row.slot).max();
        let oldest = rows.iter().filter_map(|row| row.slot).min().unwrap_or(*at);
        for row in rows {
            let Some(slot) = row.slot else { continue };
            let late = at - slot - job.jitter * SECOND;
            let wrong = if row.is(&["coalesced"]) {
                let last = row.slot_last.unwrap_or(slot);
                // By the same look: what had run before the clock was set back did not run for this one. A run whose
                // row was lost was found again.
                let stands = |(slot, decided): &(i64, i64)| {
                    last < *slot && slot <= at && (decided == at || rows_were_lost && decided <= at)
                };
                let later = chosen.get(name).is_some_and(|all| all.iter().any(stands));
                match &*job.missed {
                    "skip" => Some("coalesced, though its job skips what it missed"),
                    "run_all" if at - oldest < FAR => {
                        Some("coalesced, though its job runs all that it missed")
                    }
                    _ if !later => Some("coalesced, and no later slot ran in its place"),
                    _ => None,
                }
            } else if row.is(&["missed"]) {
                let in_time = job.within.is_none_or(|within| at - slot <= within * SECOND);
                match &*job.missed {
                    "skip" => None,
                    "run_once" if newest.is_some_and(|newest| newest < slot) => {
                        Some("missed, and an older slot ran in its place")
                    }
                    "run_all" if in_time && rows.len() < MOST => Some("missed, though its job runs all"),
                    "run_once" if in_time => Some("missed, though it is not too late to run once"),
                    _ => None,
                }
            } else if row.trigger == "catch_up" && job.missed == "skip" {
                Some("caught up with, though its job skips what it missed")
            } else if row.trigger == "schedule" && late > PUNCTUAL && !rows_were_lost {
                Some("an ordinary run, though it came late")
            } else if job.missed == "run_once" && newest.is_some_and(|newest| slot < newest) {
                Some("run, though a later one was missed too: `run_once` takes the newest")
            } else {
                None
            };
            if let Some(wrong) = wrong {
                problems.push(format!("a missed slot was {wrong}: {}", words(row)));
            }
        }
    }
}

/// Each run that came `after` another job has a success of that one before it, which no other such run had.
fn after(ledger: &Ledger, jobs: &HashMap<&str, Vec<&Job>>, problems: &mut Vec<String>) {
    for (name, forms) in jobs {
        let followed: HashSet<&str> = forms.iter().filter_map(|job| job.after.as_deref()).collect();
        let mut count = 0;
        for row in ledger.rows.iter().filter(|row| row.job == *name && row.trigger == "after") {
            let before = ledger.rows.iter().filter(|other| {
                other.id < row.id && followed.contains(&*other.job) && other.outcome == "succeeded"
            });
            let successes = before.count();
            count += usize::from(row.outcome != "skipped");
            if successes < count.max(1) {
                problems.push(format!(
                    "run {} of {name} is the {count}. that came after {followed:?}, which had succeeded {successes} times",
                    row.id
                ));
            }
        }
    }
}

/// Nothing begins as if by hand that nobody asked for.
fn by_hand(ledger: &Ledger, timeline: &[Entry], problems: &mut Vec<String>) {
    let mut asked: HashMap<&str, i64> = HashMap::new();
    for entry in timeline {
        if let What::Manual { job, .. } | What::Alone { job } = &entry.what {
            *asked.entry(job).or_default() += 1;
        }
    }
    for row in ledger.rows.iter().filter(|row| row.trigger == "manual") {
        let left = asked.entry(&row.job).or_default();
        *left -= 1;
        if *left < 0 {
            problems
                .push(format!("run {} of {} was started by hand, and nobody asked for it", row.id, row.job));
        }
    }
}

fn words(row: &Row) -> String {
    format!(
        "{} {} (row {} {} {} {} claimed at {})",
        row.job,
        row.slot.map_or("-".to_owned(), shown),
        row.id,
        row.trigger,
        row.outcome,
        row.reason.as_deref().unwrap_or("-"),
        shown(row.claimed_at)
    )
}
