//! Holds the ledger against what the jobs wrote and what the driver knows. Uses nothing of the product: it has its own
//! calendar (`cron`), its own reading of the ledger's file (`ledger`), and its own idea of what was due (`pieces`,
//! `slots`) and of what may have become of it (`runs`).

mod cron;
mod ledger;
mod pieces;
mod runs;
mod slots;

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
    problems.extend(walk.problems);
    slots::check(&ledger, &walk.pieces, &mut problems);
    runs::check(&ledger, found.evidence, found.timeline, &mut problems);
    problems
}
