//! `archive`: folders and files in one tar, with a manifest of every entry and its hash.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use anyhow::anyhow;
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::backup::archive::manifest::{Manifest, Noted, shown};
use crate::backup::archive::{self, Exclude, Order};
use crate::backup::codec::Compression;
use crate::backup::copies::{self, CopyTo, Destination};
use crate::backup::crypt::Recipients;
use crate::backup::names::{self, MANIFEST_SUFFIX};
use crate::backup::publish::Directory;
use crate::backup::work::Work;
use crate::document::Invalid;
use crate::host::files::{self, Owner};
use crate::model::{Finding, Report, Severity};
use crate::policy::Retries;
use crate::units::{Percent, Size};

use super::{Backs, HostContext, Job, JobContext, JobError, Kept, KindOptions, Lack};

#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    /// Folders, with all that is in them, and files.
    #[schemars(length(min = 1))]
    pub sources: Vec<PathBuf>,
    /// What the archive's name begins with, before its time.
    pub name: String,
    /// Where the archive and its manifest go; made with mode 0700 where it is missing. Never part of the archive.
    pub directory: PathBuf,
    /// What is left out: patterns of names like `*.tmp`, or of paths where they have a slash.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// How the archive is compressed.
    #[serde(default)]
    pub compression: Compression,
    /// What share of the file system must be free, the coming archive taken off.
    #[serde(default = "ten_percent")]
    pub min_free: Percent,
    /// Encrypt the archive to these age recipients; nothing of it is on this disk in another form, and this host can't
    /// read it again.
    #[serde(default)]
    pub encrypt_to: Recipients,
    /// Where copies go once the archive is published: s3://bucket/prefix, file:///mnt/backups, or maps with what opens
    /// them.
    #[serde(default)]
    pub copy_to: CopyTo,
}

fn ten_percent() -> Percent {
    Percent(10.0)
}

impl KindOptions for Archive {
    const NAME: &'static str = "archive";
    const SUMMARY: &'static str = "archive folders and files, with a manifest of every entry and its hash";
    const RETRIES: Retries = Retries::THRICE;

    fn invalid(&self) -> Vec<Invalid> {
        let mut problems = self.copy_to.problems("copy_to");
        let mut problem = |key: &str, message: String, hint: &str| {
            problems.push(Invalid { key: key.to_owned(), message, hint: Some(hint.to_owned()) });
        };
        if self.sources.is_empty() {
            problem("sources", "no source is named".to_owned(), "write one like [/srv/media]");
        }
        let plain = |path: &PathBuf| {
            path.is_absolute() && !path.components().any(|part| matches!(part, Component::ParentDir))
        };
        for (at, source) in self.sources.iter().enumerate() {
            let shown = source.display();
            if !plain(source) {
                let message = format!("`{shown}` is not an absolute path without `..`");
                problem("sources", message, "write it from the root on, like /srv/media");
            } else if let Some(other) =
                self.sources.iter().enumerate().find(|(other, path)| *other != at && source.starts_with(path))
            {
                // Of two that are the same, one is enough to tell.
                if source != other.1 || at > other.0 {
                    let message = format!("`{shown}` is within `{}`", other.1.display());
                    problem("sources", message, "leave it out: what is in a folder is archived with it");
                }
            }
            if *source == self.directory {
                let message = format!("`{shown}` is the directory of the archives themselves");
                problem("sources", message, "an archive never holds itself: name another directory");
            }
        }
        if !plain(&self.directory) {
            let message = format!("`{}` is not an absolute path", self.directory.display());
            problem(
                "directory",
                message,
                "begin it with /: the daemon's own folder is no place for archives",
            );
        }
        if self.name.is_empty() || names::file_safe(&self.name) != self.name {
            let message = format!("`{}` can't be part of a file's name", self.name);
            problem("name", message, "use letters, digits, `_` and `-`, like media");
        }
        for text in &self.exclude {
            if let Err(why) = Exclude::new(text) {
                problem("exclude", why, "write it like *.tmp, cache/ or /srv/media/cache");
            }
        }
        problems
    }
}

#[async_trait]
impl Job for Archive {
    async fn run(&self, ctx: &JobContext) -> Result<Report, JobError> {
        let order = self.order().map_err(|why| JobError::permanent(anyhow!(why)))?;
        let work = ctx.work();
        if ctx.dry_run {
            let size = archive::measure(&work, order, &self.directory).await?;
            let summary = format!(
                "would archive {} in {} to {}",
                Size(size.bytes),
                counted(size.files, "file"),
                self.directory.join(self.file_name(work.now())).display()
            );
            let report = Report::new(summary).fact("files", size.files).fact("source_bytes", size.bytes);
            return Ok(report.fact("unreadable", size.unreadable));
        }
        let since = ctx.clock.since_boot();
        let cant = |what: &str, error: &std::io::Error| {
            JobError::Retryable(anyhow!(
                "the directory {} can't be {what}: {error}",
                self.directory.display()
            ))
        };
        let (directory, made) = Directory::open(&self.directory, Owner::own(), 0o600)
            .map_err(|error| cant("made or opened", &error))?;
        if made {
            work.note(&format!("made the directory {}", self.directory.display()));
        }
        for said in directory.recover().map_err(|error| cant("read", &error))? {
            work.note(&said);
        }
        if ctx.attempt > 1
            && !self.copy_to.is_empty()
            && let Some((manifest, name)) = self.made_before(&directory, &work)
        {
            return self.bring(&work, &directory, self.report(&manifest, name, 0.0)).await;
        }
        let made = archive::make(&work, order, &directory).await?;
        for (what, list) in [
            ("left out", &made.manifest.left_out),
            ("changed", &made.manifest.changed),
            ("vanished", &made.manifest.vanished),
            ("not read", &made.manifest.unreadable),
        ] {
            tell(list, LOGGED, |line| work.note(&format!("{what}: {line}")));
        }
        let seconds = ctx.clock.since_boot().saturating_sub(since).as_secs_f64();
        let report = self.report(&made.manifest, made.manifest_name, seconds);
        let report = self.bring(&work, &directory, report).await?;
        if made.manifest.unreadable.is_empty() {
            Ok(report)
        } else {
            Err(JobError::Lacking(Box::new(report)))
        }
    }

    async fn preflight(&self, _ctx: &HostContext) -> Vec<Lack> {
        let lack = |message: String| Lack { fatal: true, message, hint: None };
        let mut lacks: Vec<Lack> = files::why_not_writable(&self.directory).map(lack).into_iter().collect();
        for source in &self.sources {
            let access = rustix::fs::access(source, rustix::fs::Access::READ_OK);
            lacks.extend(access.err().map(|error| lack(format!("the source {}: {error}", source.display()))));
        }
        lacks
    }

    fn can_dry_run(&self) -> bool {
        true
    }

    fn keeps(&self, name: &str) -> Option<Kept> {
        let (directory, of) = (self.directory.clone(), Backs::Files(self.name.clone()));
        Some(Kept { job: name.to_owned(), directory, of })
    }

    fn copies_to(&self) -> Vec<Destination> {
        self.copy_to.destinations()
    }

    fn backups_in(&self) -> Option<&Path> {
        Some(&self.directory)
    }
}

/// How many files of each list a run's log names; the manifest names all.
const LOGGED: usize = 100;
/// How many the findings name.
const FOUND: usize = 5;

impl Archive {
    /// What an earlier attempt of this run has archived and published: then only its copies are missing.
    fn made_before(&self, directory: &Directory, work: &Work) -> Option<(Manifest, String)> {
        let begin = format!("{}-", self.name);
        let names = directory.names().ok()?;
        names.into_iter().filter(|name| name.starts_with(&begin) && name.ends_with(MANIFEST_SUFFIX)).find_map(
            |name| {
                let manifest = Manifest::parse(&directory.read(&name).ok()?).ok()?;
                let of_this = (manifest.name.as_str(), &manifest.job) == (self.name.as_str(), &work.job)
                    && manifest.run.to_string() == work.run;
                of_this.then_some((manifest, name))
            },
        )
    }

    /// Adds to the report where the archive was copied to.
    async fn bring(
        &self,
        work: &Work,
        directory: &Arc<Directory>,
        mut report: Report,
    ) -> Result<Report, JobError> {
        let destinations = self.copy_to.destinations();
        if destinations.is_empty() {
            return Ok(report);
        }
        let brought = copies::bring(work, directory, &self.name, &destinations).await?;
        let places: Vec<&str> = destinations.iter().map(|one| one.place.url.as_str()).collect();
        report.summary = format!("{}, copied to {}", report.summary, places.join(", "));
        report.findings.extend(brought.warnings.into_iter().map(Finding::warning));
        Ok(report.fact("copies", serde_json::json!(places)))
    }

    fn order(&self) -> Result<Order, String> {
        Ok(Order {
            name: self.name.clone(),
            sources: self.sources.iter().map(|source| source.components().collect()).collect(),
            exclude: self.exclude.iter().map(|text| Exclude::new(text)).collect::<Result<_, _>>()?,
            exclude_texts: self.exclude.clone(),
            compression: self.compression,
            level: self.compression.default_level(),
            recipients: self.encrypt_to.clone(),
            min_free: self.min_free,
        })
    }

    fn file_name(&self, now: jiff::Timestamp) -> String {
        format!(
            "{}{}",
            names::stem(&self.name, now, 1),
            names::archive_suffix(self.compression, !self.encrypt_to.is_empty())
        )
    }

    fn report(&self, manifest: &Manifest, manifest_name: String, seconds: f64) -> Report {
        let mut summary = format!(
            "archived {}: {} in {} to {}",
            manifest.name,
            Size(manifest.bytes),
            counted(manifest.files, "file"),
            manifest.file
        );
        let count = |list: &[Noted]| list.len() as u64;
        if let Some(first) = manifest.unreadable.first() {
            let more = manifest.unreadable.len() - 1;
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            summary = format!("{summary}, without what could not be read: {}{more}", line(first));
        }
        let mut report = Report::new(summary);
        let suspect = |why: &String| Finding::warning(format!("{} is suspect: {why}", manifest.file));
        // What it lacks is told below, file by file.
        if manifest.unreadable.is_empty() {
            report.findings.extend(manifest.proof.suspect.iter().map(suspect));
        }
        report = report
            .fact("bytes", manifest.bytes)
            .fact("uncompressed_bytes", manifest.uncompressed_bytes)
            .fact("entries", manifest.entries.len())
            .fact("files", manifest.files)
            .fact("changed", count(&manifest.changed))
            .fact("vanished", count(&manifest.vanished))
            .fact("unreadable", count(&manifest.unreadable))
            .fact("left_out", count(&manifest.left_out))
            .fact("sha256", manifest.sha256.clone())
            .fact("directory", self.directory.to_string_lossy())
            .fact("file", manifest.file.clone())
            .fact("manifest", manifest_name)
            .fact("seconds", (seconds * 1000.0).round() / 1000.0);
        for (severity, what, list) in [
            (Severity::Critical, "not archived", &manifest.unreadable),
            (Severity::Warning, "changed while it was read", &manifest.changed),
            (Severity::Warning, "vanished while the archive was made", &manifest.vanished),
        ] {
            tell(list, FOUND, |line| {
                report.findings.push(Finding { severity, message: format!("{what}: {line}") });
            });
        }
        report
    }
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn line(noted: &Noted) -> String {
    format!("/{}: {}", shown(&noted.path), noted.why)
}

fn tell(list: &[Noted], most: usize, mut say: impl FnMut(String)) {
    list.iter().take(most).for_each(|noted| say(line(noted)));
    if list.len() > most {
        say(format!("{} more, which the manifest names", list.len() - most));
    }
}
