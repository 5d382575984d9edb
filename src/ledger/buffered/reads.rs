//! The [`Ledger`] of both: what the store holds, under what waits above it.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::ops::ControlFlow;
use std::time::Duration;

use jiff::Timestamp;

use super::super::{
    Applied, Chronicle, Event, Filter, JobPast, Ledger, LedgerError, NewRow, Notice, Past, SlotRow,
    StoreNews, TableRecord, Write,
};
use super::Buffered;
use crate::model::{JobName, RunId, RunRecord};

impl<L: Ledger + 'static> Ledger for Buffered<L> {
    /// Never fails: what can't be written waits, and [`Buffered::state`] says so.
    fn apply(&mut self, batch: &[Write]) -> Result<Vec<Applied>, LedgerError> {
        self.fresh.set(None);
        let applied = self.write_through(batch).unwrap_or_else(|error| self.keep(batch, &error));
        for (write, applied) in batch.iter().zip(&applied) {
            self.open_runs.follow(write, *applied, &self.owner, &self.host);
        }
        Ok(applied)
    }

    fn past(&self) -> Result<Past, LedgerError> {
        if let Some(past) = self.fresh.take().filter(|_| self.kept.is_none()) {
            return Ok(past);
        }
        let (below, above) = self.both(|ledger| ledger.past())?;
        let Some(above) = above else { return Ok(below) };
        let touched = self.waiting_rows(&Filter::default())?;
        let touched: HashSet<RunId> = touched.iter().map(|record| record.run).collect();
        let mut open: BTreeMap<RunId, _> = below
            .open
            .iter()
            .filter(|open| !touched.contains(&open.record.run))
            .map(|open| (open.record.run, open.clone()))
            .collect();
        for mut run in above.open {
            if let Some(before) = below.open.iter().find(|one| one.record.run == run.record.run) {
                run.epoch = before.epoch;
            }
            open.insert(run.record.run, run);
        }
        let mut jobs: BTreeMap<String, JobPast> =
            below.jobs.into_iter().map(|job| (job.job.clone(), job)).collect();
        for job in above.jobs {
            match jobs.get_mut(&job.job) {
                Some(known) => {
                    known.epoch = known.epoch.max(job.epoch);
                    known.last_slot = known.last_slot.max(job.last_slot);
                    known.last_started = known.last_started.max(job.last_started);
                    known.last_succeeded = known.last_succeeded.max(job.last_succeeded);
                }
                None => drop(jobs.insert(job.job.clone(), job)),
            }
        }
        Ok(Past {
            accounted: above.accounted.or(below.accounted),
            table: above.table.or(below.table),
            open: open.into_values().collect(),
            groups: below.groups.into_iter().chain(above.groups).collect(),
            pauses: above.pauses,
            jobs: jobs.into_values().collect(),
            // What the store has is the earlier, and stays.
            ended: above.ended.into_iter().chain(below.ended).collect(),
            incidents: above.incidents,
        })
    }

    fn notices(&self) -> Result<Vec<Notice>, LedgerError> {
        let (below, above) = self.both(|ledger| ledger.notices())?;
        Ok(above.unwrap_or(below))
    }

    fn history(&self, filter: &Filter) -> Result<Vec<RunRecord>, LedgerError> {
        let touched = self.waiting_rows(&Filter::default())?;
        let touched: HashSet<RunId> = touched.iter().map(|record| record.run).collect();
        // Those that wait hide as many rows of the store.
        let limit = filter.limit.map(|limit| limit.saturating_add(touched.len()));
        let store = self.store.as_ref().map(|store| store.history(&Filter { limit, ..filter.clone() }));
        let mut records = store.transpose()?.unwrap_or_default();
        if !touched.is_empty() {
            records.retain(|record| !touched.contains(&record.run));
            records.extend(self.waiting_rows(filter)?);
            records.sort_by_key(|record| {
                std::cmp::Reverse((record.slot.or(record.started_at).unwrap_or(Timestamp::MAX), record.run))
            });
        }
        records.truncate(filter.limit.unwrap_or(usize::MAX));
        Ok(records)
    }

    fn run(&self, run: RunId) -> Result<Option<RunRecord>, LedgerError> {
        let run = self.renumbered.get(&run).copied().unwrap_or(run);
        let (below, above) = self.both(|ledger| ledger.run(run))?;
        Ok(above.flatten().or(below))
    }

    fn latest(&self) -> Result<Vec<RunRecord>, LedgerError> {
        let (below, above) = self.both(|ledger| ledger.latest())?;
        let rows = below.into_iter().chain(above.unwrap_or_default());
        let jobs: BTreeMap<String, RunRecord> = rows.map(|record| (record.job.clone(), record)).collect();
        Ok(jobs.into_values().collect())
    }

    fn claimed(&self, job: &JobName, slot: Timestamp, epoch: u32) -> Result<Option<RunId>, LedgerError> {
        let (below, above) = self.both(|ledger| ledger.claimed(job, slot, epoch))?;
        Ok(above.flatten().or(below))
    }

    fn refuses(&self, claim: &NewRow) -> Result<Option<RunId>, LedgerError> {
        let (below, above) = self.both(|ledger| ledger.refuses(claim))?;
        Ok(above.flatten().or(below))
    }

    fn last_run(&self) -> Result<Option<RunId>, LedgerError> {
        Ok(Some(self.highest).filter(|run| *run > RunId(0)))
    }

    fn problem(&self) -> Option<String> {
        self.state()
    }

    fn news(&mut self) -> Vec<StoreNews> {
        std::mem::take(&mut self.news)
    }

    fn events(&self, from: Timestamp) -> Result<Vec<Event>, LedgerError> {
        let (mut events, above) = self.both(|ledger| ledger.events(from))?;
        events.extend(above.unwrap_or_default());
        Ok(events)
    }

    fn tables(&self, from: Timestamp) -> Result<Vec<TableRecord>, LedgerError> {
        let (mut tables, above) = self.both(|ledger| ledger.tables(from))?;
        tables.extend(above.unwrap_or_default());
        Ok(tables)
    }

    fn chronicle(&self) -> Result<Chronicle, LedgerError> {
        let (mut found, above) = self.both(|ledger| ledger.chronicle())?;
        let above = above.unwrap_or_default();
        found.accounted = above.accounted.or(found.accounted);
        found.tables.extend(above.tables);
        found.events.extend(above.events);
        Ok(found)
    }

    fn visit_slots(
        &self,
        job: &JobName,
        from: Timestamp,
        each: &mut dyn FnMut(SlotRow) -> ControlFlow<()>,
    ) -> Result<(), LedgerError> {
        let mut waiting = VecDeque::new();
        if let Some(kept) = &self.kept {
            kept.rows.visit_slots(job, from, &mut |row| {
                waiting.push_back(row);
                ControlFlow::Continue(())
            })?;
        }
        let mut goes_on = true;
        if let Some(store) = &self.store {
            store.visit_slots(job, from, &mut |row| {
                while let Some(first) = waiting.front().filter(|first| first.slot <= row.slot) {
                    let first = *first;
                    waiting.pop_front();
                    if each(first).is_break() {
                        goes_on = false;
                        return ControlFlow::Break(());
                    }
                }
                let next = each(row);
                goes_on = next.is_continue();
                next
            })?;
        }
        for row in waiting {
            if !goes_on || each(row).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn patience(&self, wait: Duration) {
        self.set_patience(wait);
    }

    fn continue_after(&mut self, run: RunId) -> Result<(), LedgerError> {
        self.highest = self.highest.max(run);
        self.written = self.written.max(run);
        if let Some(kept) = self.kept.as_mut() {
            kept.rows.continue_after(run)?;
        }
        self.store.as_mut().map_or(Ok(()), |store| store.continue_after(run))
    }

    fn prune(&mut self, before: Timestamp, batch: usize) -> Result<usize, LedgerError> {
        self.retry()?;
        let Some(store) = self.store.as_mut() else { return Ok(0) };
        store.prune(before, batch).inspect_err(|error| self.note_damage(error))
    }
}

impl<L: Ledger> Buffered<L> {
    /// What the store holds, and what waits above it; nothing where the store is not open.
    fn both<T: Default>(
        &self,
        read: impl Fn(&dyn Ledger) -> Result<T, LedgerError>,
    ) -> Result<(T, Option<T>), LedgerError>
    where
        L: 'static,
    {
        let below = self.store.as_ref().map(|store| read(store)).transpose()?.unwrap_or_default();
        let above = self.kept.as_ref().map(|kept| read(&kept.rows)).transpose()?;
        Ok((below, above))
    }

    fn waiting_rows(&self, filter: &Filter) -> Result<Vec<RunRecord>, LedgerError> {
        self.kept.as_ref().map_or(Ok(vec![]), |kept| kept.rows.history(filter))
    }
}
