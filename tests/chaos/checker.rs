//! Holds the ledger against what the jobs wrote and what the driver knows. Uses nothing of the product: it has its own
//! calendar (`cron`), its own reading of the ledger's file (`ledger`), and its own idea of what was due (`pieces`,
//! `slots`), of what was to become of it (`policies`) and of what may have (`runs`).

mod cron;
mod ledger;
mod pieces;
mod policies;
mod runs;
mod slots;

use std::collections::BTreeMap;
use std::path::Path;

use crate::timeline::Entry;

/// What a seed left behind.
pub(crate) struct Found<'a> {
    pub(crate) ledger: &'a Path,
    pub(crate) evidence: &'a str,
    pub(crate) timeline: &'a [Entry],
}

/// What is wrong.
pub(crate) fn check(found: &Found<'_>) -> Vec<String> {
    let ledger = match ledger::Ledger::read(found.ledger) {
        Ok(ledger) => ledger,
        Err(error) => return vec![format!("the ledger can't be read: {error}")],
    };
    let mut problems = vec![];
    if !ledger.whole {
        problems.push("the ledger's file is damaged".to_owned());
    }
    let walk = pieces::cut(found.timeline, &ledger.tables);
    // What an operator would see first comes first; a table on record at another time is most often why.
    runs::check(&ledger, found.evidence, found.timeline, &mut problems);
    policies::check(&ledger, found.timeline, &mut problems);
    slots::check(&ledger, &walk.pieces, &mut problems);
    problems.extend(walk.problems);
    few_of_each(problems)
}

/// One thing that is broken has a thousand slots to show it.
fn few_of_each(problems: Vec<String>) -> Vec<String> {
    const FEW: usize = 8;
    let kind = |problem: &str| {
        problem
            .split_whitespace()
            .filter(|word| word.chars().all(char::is_alphabetic))
            .take(3)
            .collect::<Vec<_>>()
            .join(" ")
    };
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut told = vec![];
    for problem in problems {
        let count = seen.entry(kind(&problem)).or_default();
        *count += 1;
        if *count <= FEW {
            told.push(problem);
        }
    }
    for (kind, count) in seen.into_iter().filter(|(_, count)| *count > FEW) {
        told.push(format!("{} more: {kind} …", count - FEW));
    }
    told
}
