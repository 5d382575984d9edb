//! Runs that were found beside each other at the start, which overlap or a group forbids.
//!
//! Owns what keeps their further attempts apart: one waits while another is under way. Nothing that begins later needs
//! it, as the plan says when that may.

use std::collections::{HashMap, HashSet};

use super::Message;
use crate::config::JobTable;
use crate::model::{JobName, RunId};
use crate::policy::Overlap;

#[derive(Default)]
pub(super) struct Beside {
    /// Of each run those that are to wait for it, and for which it waits.
    others: HashMap<RunId, Vec<RunId>>,
    under_way: HashSet<RunId>,
    /// Starts of attempts that wait.
    held: Vec<(RunId, Message)>,
}

impl Beside {
    /// `found`: all runs that are under way.
    pub(super) fn of<'a>(found: impl Iterator<Item = (RunId, &'a JobName)>, table: &JobTable) -> Self {
        let mut alike: HashMap<(bool, &str), Vec<RunId>> = HashMap::new();
        for (run, job) in found {
            let Some(spec) = table.job(job.as_str()) else { continue };
            if spec.overlap != Overlap::Allow {
                alike.entry((false, job.as_str())).or_default().push(run);
            }
            if let Some(group) = &spec.group {
                alike.entry((true, group)).or_default().push(run);
            }
        }
        let mut beside = Self::default();
        for runs in alike.values().filter(|runs| runs.len() > 1) {
            for run in runs {
                let others = runs.iter().filter(|other| *other != run);
                beside.others.entry(*run).or_default().extend(others);
                beside.under_way.insert(*run);
            }
        }
        beside
    }

    /// The message, where the attempt that it begins may begin now; it is kept otherwise.
    pub(super) fn begins(&mut self, run: RunId, message: Message) -> Option<Message> {
        let Some(others) = self.others.get(&run) else { return Some(message) };
        if others.iter().any(|other| self.under_way.contains(other)) {
            self.held.push((run, message));
            return None;
        }
        self.under_way.insert(run);
        Some(message)
    }

    /// An attempt of it has ended, or it has. Those that may begin now, which are to be asked of again.
    pub(super) fn ended(&mut self, run: RunId) -> Vec<Message> {
        // One that was cancelled while it waited begins no more.
        self.held.retain(|(waits, _)| *waits != run);
        if !self.under_way.remove(&run) {
            return vec![];
        }
        std::mem::take(&mut self.held).into_iter().map(|(_, message)| message).collect()
    }
}
