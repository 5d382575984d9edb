//! `reload`: puts the changed file into force.

use super::failure::{Failure, code};
use super::{Context, output};
use crate::api::Reloaded;

pub(super) fn run(context: &Context) -> Result<u8, Failure> {
    let reloaded = context.daemon()?.reload().map_err(|error| {
        let failure = Failure::from(error);
        let hint = "the table in force before stays in force; `punk-eco-sched check` shows the same";
        if failure.code == code::WRONG { failure.hint(hint) } else { failure }
    })?;
    output::message(sentence(&reloaded));
    Ok(code::DONE)
}

/// `4 jobs in force: added a, b; removed c`
pub(super) fn sentence(reloaded: &Reloaded) -> String {
    let changes =
        [("added", &reloaded.added), ("changed", &reloaded.changed), ("removed", &reloaded.removed)];
    let changes: Vec<String> = changes
        .iter()
        .filter(|(_, jobs)| !jobs.is_empty())
        .map(|(what, jobs)| format!("{what} {}", jobs.join(", ")))
        .collect();
    let jobs = match reloaded.jobs {
        1 => "1 job".into(),
        jobs => format!("{jobs} jobs"),
    };
    match changes.as_slice() {
        [] => format!("{jobs} in force: no job changed"),
        changes => format!("{jobs} in force: {}", changes.join("; ")),
    }
}
