//! The proof of an archive: all of it is read, and each entry and the hash of its content compared with the manifest.

use std::path::Path;

use anyhow::anyhow;

use super::{VerifyBackup, identities, latest, rounded, suspicions};
use crate::backup::archive;
use crate::backup::manifest::State;
use crate::backup::read::Progress;
use crate::backup::work::Work;
use crate::jobs::{JobError, Kept};
use crate::model::Report;
use crate::units::Size;

impl VerifyBackup {
    /// Nothing is unpacked: what a restore would write is what is read here.
    pub(super) async fn prove_archive(
        &self,
        work: &Work,
        kept: &Kept,
        name: &str,
    ) -> Result<Report, JobError> {
        let file = latest(work, kept, name)?;
        let keys = self.identity.as_deref().map(identities).transpose()?;
        if work.dry_run {
            return Ok(Report::new(format!("would read {} and compare each entry", file.display())));
        }
        let since = work.clock.since_boot();
        let checking = {
            let (work, file) = (work.clone(), file.clone());
            tokio::task::spawn_blocking(move || {
                archive::check(&work, &file, keys.as_ref(), Progress::default())
            })
        };
        let checked = checking.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        let seconds = work.clock.since_boot().saturating_sub(since).as_secs_f64();
        let manifest = &checked.manifest;
        if manifest.proof.state != State::Verified {
            // A proof that nobody can read later proves nothing. The log says why.
            return Err(JobError::Retryable(anyhow!(
                "{} is what was written, and its manifest can't be told so",
                file.display()
            )));
        }
        let summary = format!(
            "verified {}: {} with {} entries, each of them what was written",
            manifest.file,
            Size(manifest.bytes),
            manifest.entries.len()
        );
        let mut report = Report::new(summary)
            .fact("file", manifest.file.clone())
            .fact("directory", file.parent().map(Path::to_string_lossy))
            .fact("bytes", manifest.bytes)
            .fact("entries", manifest.entries.len())
            .fact("files", manifest.files)
            .fact("archived_at", manifest.started_at.to_string())
            .fact("seconds", rounded(seconds));
        report.findings = suspicions(&file, &manifest.proof);
        Ok(report)
    }
}
