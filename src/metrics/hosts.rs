//! The metrics of the daemon itself: its table, ledger, logs and alerts; and of incidents and backups.

use std::collections::BTreeMap;
use std::fmt;

use super::disks::Newest;
use super::families::*;
use super::samples::Out;
use super::{Told, seconds};
use crate::alert::channels;
use crate::backup::manifest::State;

const PROOFS: [State; 4] = [State::Damaged, State::Written, State::ReadBack, State::Verified];

pub(super) fn daemon(told: &Told, out: &mut Out<'_>) -> fmt::Result {
    out.family(&BUILD, |to| to.info(&[env!("CARGO_PKG_VERSION")]))?;
    out.family(&START, |to| to.gauge(&[], seconds(told.started_at)))?;
    out.family(&JOBS, |to| to.gauge(&[], size(told.snapshot.table.jobs.len() as u64)))?;
    out.family(&CONFIG_CHANGED, |to| {
        told.files.config_changed.map_or(Ok(()), |changed| to.flag(&[], changed))
    })?;
    out.family(&RELOAD_SUCCESSFUL, |to| to.flag(&[], told.reload.successful))?;
    out.family(&RELOAD_SUCCESS, |to| to.gauge(&[], seconds(told.reload.succeeded_at)))
}

pub(super) fn rest(told: &Told, out: &mut Out<'_>) -> fmt::Result {
    out.family(&INCIDENT_OPEN, |to| {
        told.snapshot.incidents.iter().try_for_each(|one| {
            let check = one.check.as_deref().unwrap_or_default();
            to.flag(&[one.job.as_str(), check, one.severity.word()], true)
        })
    })?;
    backups(told, out)?;
    out.family(&ALERTS_WAITING, |to| {
        let mut counts: BTreeMap<(String, _), usize> =
            channels(&told.snapshot.table).into_iter().map(|lane| (lane, 0)).collect();
        counts.extend(
            told.waiting.iter().map(|(contact, channel, count)| ((contact.clone(), *channel), *count)),
        );
        counts.iter().try_for_each(|((contact, channel), count)| {
            to.gauge(&[contact, channel.word()], size(*count as u64))
        })
    })?;
    out.family(&LEDGER_PROBLEM, |to| to.flag(&[], told.snapshot.ledger_problem.is_some()))?;
    out.family(&LEDGER_SIZE, |to| {
        let files = std::iter::zip(["database", "wal"], told.files.ledger.into_iter().flatten());
        files.clone().try_for_each(|(file, bytes)| to.gauge(&[file], size(bytes)))
    })?;
    out.family(&LOGS_SIZE, |to| told.files.logs.map_or(Ok(()), |bytes| to.gauge(&[], size(bytes))))
}

fn backups(told: &Told, out: &mut Out<'_>) -> fmt::Result {
    let all = || told.files.backups.iter().map(|(job, newest)| (job.as_str(), newest));
    let found = || all().filter_map(|(job, newest)| Some((job, newest.as_ref()?)));
    let ones = || {
        found().filter_map(|(job, newest)| match newest {
            Newest::None => None,
            Newest::One { begun, bytes, proof } => Some((job, *begun, *bytes, proof.as_str())),
        })
    };
    out.family(&BACKUP_READABLE, |to| all().try_for_each(|(job, newest)| to.flag(&[job], newest.is_some())))?;
    out.family(&BACKUP_PRESENT, |to| {
        found().try_for_each(|(job, newest)| to.flag(&[job], *newest != Newest::None))
    })?;
    out.family(&BACKUP_TIMESTAMP, |to| {
        ones().try_for_each(|(job, begun, _, _)| to.gauge(&[job], seconds(begun)))
    })?;
    out.family(&BACKUP_BYTES, |to| {
        let mut sizes = ones().filter_map(|(job, _, bytes, _)| Some((job, bytes?)));
        sizes.try_for_each(|(job, bytes)| to.gauge(&[job], size(bytes)))
    })?;
    out.family(&BACKUP_PROOF, |to| {
        ones().try_for_each(|(job, _, _, proof)| {
            PROOFS.iter().try_for_each(|one| to.flag(&[job, one.word()], one.word() == proof))
        })
    })
}

#[expect(clippy::cast_precision_loss, reason = "bytes on one host are below 2^52")]
fn size(bytes: u64) -> f64 {
    bytes as f64
}
