//! The table in force, as the ledger remembers it.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::config::JobTable;
use crate::ledger::{TableJob, TableRecord};
use crate::schedule;

pub(super) fn of(table: &JobTable, now: Timestamp) -> TableRecord {
    let until = now.checked_add(schedule::RECORDED_AHEAD).unwrap_or(Timestamp::MAX);
    let mut zones = BTreeMap::new();
    let mut jobs = Vec::with_capacity(table.jobs.len());
    for job in &table.jobs {
        let zone = job.schedule.as_ref().map_or(&table.timezone, schedule::Schedule::zone);
        let name = zone.iana_name().unwrap_or("UTC");
        if !zones.contains_key(name) {
            zones.insert(name.to_owned(), schedule::offsets(zone, now, until));
        }
        jobs.push(TableJob {
            job: job.name.clone(),
            kind: job.kind.name.to_owned(),
            schedule: job
                .schedule
                .as_ref()
                .map(|schedule| schedule.expressions().to_vec())
                .unwrap_or_default(),
            timezone: name.to_owned(),
            enabled: job.enabled,
            jitter: job.jitter,
            group: job.group.clone(),
        });
    }
    TableRecord { in_force_from: now, hash: table.hash.clone(), zones, jobs }
}
