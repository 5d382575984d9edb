//! The copies of what was dumped: made after the dump is published, so that their failure takes nothing from it.

use anyhow::anyhow;

use super::attempt;
use super::options::PgDump;
use crate::backup::copies::{self, Destination};
use crate::backup::manifest::Manifest;
use crate::backup::names::{self, MANIFEST_SUFFIX};
use crate::backup::publish::Directory;
use crate::backup::work::{Trouble, Work};
use crate::host::files::{self, Owner};
use crate::host::objects::{At, ObjectError, Store};
use crate::host::secret::SecretError;
use crate::jobs::{JobError, Lack};
use crate::model::{Finding, Report};

pub(super) struct Copying<'a> {
    pub(super) options: &'a PgDump,
    pub(super) work: &'a Work,
    pub(super) owner: Owner,
    pub(super) database: &'a str,
}

impl Copying<'_> {
    /// What an earlier attempt of this run has dumped and published: then only its copies are missing.
    pub(super) fn made_before(&self) -> Option<Report> {
        files::open_directory(&self.options.directory).ok()?;
        let (directory, _) =
            Directory::open(&self.options.directory, self.owner, self.options.mode()).ok()?;
        let begin = format!("{}-", names::file_safe(self.database));
        let mut found = directory.names().ok()?;
        found.retain(|name| name.starts_with(&begin) && name.ends_with(MANIFEST_SUFFIX));
        found.sort_by_key(|name| std::cmp::Reverse(names::time_in(name)));
        found.into_iter().find_map(|name| {
            let manifest = Manifest::parse(&directory.read(&name).ok()?).ok()?;
            let of_this = (manifest.database.as_str(), manifest.job.as_str())
                == (self.database, &self.work.job)
                && manifest.run.to_string() == self.work.run;
            let seconds = manifest.finished_at.duration_since(manifest.started_at).as_secs_f64();
            of_this.then(|| attempt::report(self.options, &manifest, &name, seconds))
        })
    }

    /// Adds to the report where the dump was copied to.
    pub(super) async fn bring(&self, mut report: Report) -> Result<Report, JobError> {
        let destinations = self.options.copy_to.destinations();
        if destinations.is_empty() {
            return Ok(report);
        }
        let path = &self.options.directory;
        let (directory, _) = Directory::open(path, self.owner, self.options.mode()).map_err(|error| {
            Trouble::Passing(anyhow!("the directory {} can't be opened: {error}", path.display()))
        })?;
        let brought = copies::bring(self.work, &directory, self.database, &destinations).await?;
        let places: Vec<&str> = destinations.iter().map(|one| one.place.url.as_str()).collect();
        report.summary = format!("{}, copied to {}", report.summary, places.join(", "));
        report.findings.extend(brought.warnings.into_iter().map(Finding::warning));
        Ok(report.fact("copies", serde_json::json!(places)))
    }
}

/// Each place is asked once.
pub(super) async fn lacking(options: &PgDump) -> Vec<Lack> {
    let mut lacks = Vec::new();
    for Destination { place, .. } in options.copy_to.destinations() {
        match (Store::probe(&place).await, &place.at) {
            (Ok(()), At::Folder(path)) if is_same_file_system(path, &options.directory) => {
                lacks.push(Lack {
                    fatal: false,
                    message: format!(
                        "copy_to: {} is on the same file system as {}: what destroys the one destroys the other",
                        place.url,
                        options.directory.display()
                    ),
                    hint: Some("name a share or another disk; is it mounted?".to_owned()),
                });
            }
            (Ok(()), _) => {}
            // A store may be away for a moment, and systemd gives credentials to the service alone: here nobody can
            // tell. That is no fault of the file or of this host.
            (Err(error), _) => {
                let unknown =
                    matches!(&error, ObjectError::Secret { error: SecretError::NoCredentials { .. }, .. });
                let fatal = error.is_lasting() && !unknown;
                lacks.push(Lack { fatal, message: format!("copy_to: {error}"), hint: None });
            }
        }
    }
    lacks
}

fn is_same_file_system(one: &std::path::Path, other: &std::path::Path) -> bool {
    let device = |path| {
        let (_, fd) = files::nearest_directory(path).ok()?;
        rustix::fs::fstat(fd).ok().map(|stat| stat.st_dev)
    };
    device(one).is_some_and(|found| Some(found) == device(other))
}
