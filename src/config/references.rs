//! Names that are used and defined nowhere: connections, contacts, jobs.

use std::collections::HashSet;

use crate::document::{
    Collected, Entry, Node, Problem, ProblemSeverity, Target, Value, listed, located, nearest,
};

/// Beyond so many, the nearest spelling is no longer looked for: it takes a look at every name.
const HINTED: usize = 100;

pub(super) fn unknown(root: &Node<'_>, jobs: &[Entry<'_>], collected: &Collected) -> Vec<Problem> {
    let (connections, contacts) = (defined(root, "postgres"), defined(root, "contacts"));
    let jobs: HashSet<&str> = jobs.iter().map(|entry| &*entry.key).collect();
    let mut found = Vec::new();
    for reference in &collected.references {
        let (known, word, section) = match reference.target {
            Target::Connection => (&connections, "connection", "postgres:"),
            Target::Contact => (&contacts, "contact", "contacts:"),
            Target::Job => (&jobs, "job", "jobs:"),
        };
        if known.contains(&*reference.text) {
            continue;
        }
        let hint = (found.len() < HINTED).then(|| hint(&reference.text, known, section));
        let message = format!("unknown {word} `{}`", reference.text);
        found.push(located(ProblemSeverity::Error, reference.place, &reference.path, message, hint));
    }
    found
}

fn defined<'a>(root: &'a Node<'_>, section: &str) -> HashSet<&'a str> {
    match root.get(section).map(|entry| &entry.node.value) {
        Some(Value::Map(entries)) => entries.iter().map(|entry| &*entry.key).collect(),
        _ => HashSet::new(),
    }
}

fn hint(text: &str, known: &HashSet<&str>, section: &str) -> String {
    let mut known: Vec<&str> = known.iter().copied().collect();
    known.sort_unstable();
    match nearest(text, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => format!("define it under `{section}`"),
        None => format!("known: {}", listed(&known)),
    }
}
