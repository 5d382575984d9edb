//! What the store does not take goes into memory, row by row and by the same rules. Never asks the store to write.

use jiff::Timestamp;

use super::kept::Kept;
use super::{Buffered, PATIENCE_IN_TROUBLE};
use crate::ledger::{Applied, Ledger, LedgerError, SqliteLedger, StoreNews, Write};
use crate::model::{JobName, RunId};

impl<L: Ledger> Buffered<L> {
    pub(super) fn keep(&mut self, batch: &[Write], error: &LedgerError) -> Vec<Applied> {
        if self.kept.is_none() {
            tracing::error!("{error}; changes are kept in memory until it can be written");
            // A claim that was refused took a number in the file all the same.
            let given = self.store.as_ref().and_then(|store| store.last_run().ok().flatten());
            self.highest = given.map_or(self.highest, |given| given.max(self.highest));
            self.kept = self.begin_keeping(error);
            self.set_patience(PATIENCE_IN_TROUBLE);
            self.news.push(StoreNews::Failing { reason: error.to_string() });
        }
        if let Some(kept) = self.kept.as_mut() {
            kept.reason = error.to_string();
        }
        batch.iter().map(|write| self.keep_one(write)).collect()
    }

    fn begin_keeping(&self, error: &LedgerError) -> Option<Kept> {
        let mut rows = SqliteLedger::in_memory(self.owner.clone(), &self.host, self.highest).ok()?;
        let past = self.store.as_ref().and_then(|store| store.past().ok()).unwrap_or_default();
        let pauses: Vec<Write> = past
            .pauses
            .into_iter()
            .map(|pause| Write::Pause {
                job: pause.job.and_then(|job| JobName::new(&job).ok()),
                since: pause.since,
                until: pause.until,
                by: pause.by,
            })
            .collect();
        let places = past.jobs.iter().flat_map(|job| [job.last_started, job.last_succeeded]).flatten();
        let last = places.chain(past.ended.iter().map(|(_, place)| *place)).max();
        rows.continue_order_after(last.unwrap_or_default()).ok()?;
        rows.apply(&pauses).ok()?;
        let notices = self.store.as_ref().and_then(|store| store.notices().ok()).unwrap_or_default();
        let incidents = past.incidents.into_iter().map(Write::Incident);
        rows.apply(&incidents.chain(notices.into_iter().map(Write::Notice)).collect::<Vec<_>>()).ok()?;
        Some(Kept::new(rows, error.to_string()))
    }

    fn keep_one(&mut self, original: &Write) -> Applied {
        let write = self.renumber(original);
        let claim = matches!(write, Write::Claim(_));
        if let Write::Claim(row) = &write
            && let Some(store) = &self.store
            && let Ok(Some(run)) = store.refuses(row)
        {
            return Applied::AlreadyClaimed(run);
        }
        let known = write.run().and_then(|run| self.store.as_ref()?.run(run).ok()?);
        let (full, written) = (self.limit, self.written);
        if let Some(kept) = self.kept.as_mut() {
            kept.since = kept.since.or(instant_of(&write));
            // Where the claim was lost, so is what follows it.
            let has_row = |run: RunId| {
                known.is_some() || run <= written || matches!(kept.rows.run(run), Ok(Some(_)) | Err(_))
            };
            let follows = matches!(
                write,
                Write::AttemptStarted { .. }
                    | Write::AttemptEnded { .. }
                    | Write::Finished { .. }
                    | Write::Dropped { .. }
            );
            let is_whole = !follows || write.run().is_none_or(has_row);
            if is_whole && kept.has_room(&write, full) {
                if let Some(record) = known {
                    // A row that was taken over already stays as it is.
                    let _ = kept.rows.adopt_row(&record);
                }
                if let Ok([applied]) = kept.rows.apply(std::slice::from_ref(&write)).as_deref() {
                    let applied = *applied;
                    match (applied, write) {
                        (Applied::AlreadyClaimed(_), _) => {}
                        (Applied::Claimed(run), write) => {
                            self.highest = self.highest.max(run);
                            kept.add(write, Some(run));
                        }
                        // Only the newest counts, and only once all before it is written.
                        (Applied::Done, Write::Accounted { until }) => kept.accounted = Some(until),
                        // As it came: it is renumbered once, when it is written.
                        (Applied::Done, _) => kept.add(original.clone(), None),
                    }
                    return applied;
                }
            }
            if kept.lose(original) {
                tracing::error!(
                    "{} changes wait for the ledger already: what there is no room for is lost, and counted",
                    kept.changes.len()
                );
            }
        }
        if !claim {
            return Applied::Done;
        }
        // It runs all the same, under a number that no other row gets.
        self.highest = RunId(self.highest.0 + 1);
        if let Some(kept) = &mut self.kept {
            let _ = kept.rows.continue_after(self.highest);
        }
        Applied::Claimed(self.highest)
    }
}

fn instant_of(write: &Write) -> Option<Timestamp> {
    match write {
        Write::Claim(row) | Write::ClaimAs { row, .. } => Some(row.at),
        Write::AttemptStarted { at, .. }
        | Write::AttemptEnded { at, .. }
        | Write::Finished { at, .. }
        | Write::Dropped { at, .. }
        | Write::Accounted { until: at }
        | Write::Pause { since: at, .. } => Some(*at),
        Write::Table(table) => Some(table.in_force_from),
        Write::Event(event) => Some(event.at),
        Write::Notice(notice) => Some(notice.at),
        Write::Adopted { .. }
        | Write::EndKnown { .. }
        | Write::Resume { .. }
        | Write::SetBack { .. }
        | Write::Incident(_)
        | Write::IncidentGone { .. }
        | Write::NoticeDone { .. } => None,
    }
}
