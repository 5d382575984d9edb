//! A start that its spawner never answered: it died meanwhile, and the program may run.
//!
//! It is looked for before anybody takes it for not started, since a second one would run beside it: by what the
//! spawner wrote down, by the mark, the cgroup and the spawner's session. What is found is watched to its end.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::super::orphans::Leader;
use super::super::{Orphan, Recorded};
use super::{Ended, Programs, Running};
use crate::spawner::Link;

pub(super) const NOT_STARTED: &str =
    "the spawner has died before it was started: neither what it wrote down nor any process tells of it";

impl Programs {
    /// `None` where nothing tells that the program was ever there.
    pub(super) async fn unheard(&self, link: &Arc<Link>) -> Option<Orphan> {
        let written_down = self.inner.spawner.last_words_of(link).await;
        let (context, spawner) = (&self.inner.context, link.spawner_pid());
        let heard = self.started().pids.clone();
        let ours = |one: &&Recorded| {
            one.run == context.run.0
                && one.job == context.job.as_str()
                && one.attempt == context.attempt
                && !heard.contains(&one.pid.unsigned_abs())
        };
        let leaders =
            written_down.iter().filter(ours).map(|one| Leader { pid: one.pid, start: one.start }).collect();
        let mut orphan = self.orphan(spawner, leaders);
        if orphan.leaders.is_empty() {
            orphan = orphan.with_leaders().await?;
        }
        let who = orphan.pid().map_or_else(|| "its processes".to_owned(), |pid| format!("pid {pid}"));
        tracing::warn!(
            "run {} of {}: the spawner (pid {spawner}) died before it told of a start that it had carried out: {who} \
             was found",
            context.run,
            context.job
        );
        Some(orphan)
    }

    pub(super) fn watched(
        &self,
        orphan: Orphan,
        stdout: Option<OwnedFd>,
        stderr: Option<OwnedFd>,
    ) -> Running {
        let pid = orphan.pid().unwrap_or(0);
        let orphan = Arc::new(orphan);
        self.started().orphan = Some(orphan.clone());
        let ended = Ended::Watched(Box::new(self.watch_of(orphan)));
        Running { pid, stdout, stderr, ended, kept: Some(self.clone()) }
    }
}
