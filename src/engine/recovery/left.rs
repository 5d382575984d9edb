//! What outlived the process that had its run: programs that a spawner tells of, and those without one.

use std::collections::HashMap;

use crate::engine::restore::known_attempt;
use crate::host::process::Orphan;
use crate::ledger::{self, Owner, Place};
use crate::model::{Attempt, RunId, RunRecord};
use crate::spawner::{AdoptedProgram, Adoption};

/// What daemons before this one left running.
#[derive(Default)]
pub(in crate::engine) struct Left {
    pub(in crate::engine) programs: Vec<AdoptedProgram>,
    pub(super) orphans: HashMap<RunId, Orphan>,
    /// From where on runs that have ended count.
    pub(super) ended: HashMap<RunId, Place>,
}

impl Left {
    pub(in crate::engine) fn of(adoption: Adoption) -> Self {
        let orphans = adoption.orphans.into_iter().map(|orphan| (orphan.run, orphan)).collect();
        Self { programs: adoption.programs, orphans, ended: HashMap::new() }
    }

    /// That of the attempt which is under way. An attempt that has its end already keeps it: its exit came too late, from
    /// a spawner that could not be talked to meanwhile.
    pub(super) fn program_of(&mut self, record: &RunRecord, number: u32) -> Option<AdoptedProgram> {
        let ended = record.attempts.last().is_some_and(|attempt| attempt.finished_at.is_some());
        let under_way = |program: &AdoptedProgram| {
            let newer = if ended { program.attempt > number } else { program.attempt >= number };
            program.run == record.run && program.job == record.job && newer
        };
        // Where the ledger could not be written, spawners keep the exits of the attempts before it as well.
        let found = self.programs.iter().enumerate().filter(|(_, program)| under_way(program));
        let (index, _) = found.rev().max_by_key(|(_, program)| program.attempt)?;
        Some(self.programs.remove(index))
    }

    /// Those that spawners still know, as they were or ended.
    pub(super) fn attempts_of(&self, record: &RunRecord) -> Vec<Attempt> {
        let of_run = |program: &&AdoptedProgram| program.run == record.run && program.job == record.job;
        self.programs.iter().filter(of_run).map(known_attempt).collect()
    }

    /// A number alone won't do: ledgers come and go, and begin to count anew.
    pub(super) fn orphan_of(&mut self, open: &ledger::OpenRun, owner: &Owner) -> Option<Orphan> {
        let record = &open.record;
        let slot = record.slot.map(|slot| slot.to_string()).unwrap_or_default();
        let orphan = self.orphans.get(&record.run)?;
        let ours = orphan.job == record.job
            && orphan.slot.as_ref().is_none_or(|theirs| *theirs == slot)
            && open.owner.boot == owner.boot;
        ours.then(|| self.orphans.remove(&record.run)).flatten()
    }
}

/// What outlived the process that had its run, each program as one whose end can be waited for.
pub fn living_programs(left: &Adoption) -> HashMap<RunId, Owner> {
    let programs = left.programs.iter().filter(|program| !program.ended);
    let programs = programs.map(|program| (program.run, program.pid));
    let orphans = left.orphans.iter().filter_map(|orphan| Some((orphan.run, orphan.pid()?)));
    programs.chain(orphans).map(|(run, pid)| (run, Owner::of("program", pid))).collect()
}
