//! `prune_backups`: deletes old backups, keeps the rest, and names every one with the reason.
//!
//! What goes is decided by [`retention::plan`]; this file finds, carries out and reports.

use std::fmt::Write;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use async_trait::async_trait;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::{HostContext, Job, JobContext, JobError, KindOptions, Lack};
use crate::backup::catalogue::{self, Backup, Folder, Found};
use crate::backup::pattern::Pattern;
use crate::backup::retention::{self, Keep, Plan, Policy, Reason};
use crate::clock::Clock;
use crate::document::Invalid;
use crate::host::files;
use crate::logs::RunLog;
use crate::model::{Finding, Report};
use crate::units::{HumanDuration, Percent, Size};

#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PruneBackups {
    /// Looked through with all folders below it on the same file system; links are not followed.
    pub directory: PathBuf,
    /// Which files are backups, by name; a dump's manifest and roles go and stay with it.
    #[serde(default = "gzipped_sql")]
    pub pattern: String,
    /// Only what is older than this is deleted.
    #[serde(default = "thirty_days")]
    pub older_than: HumanDuration,
    /// So many of the newest backups of each database stay, whatever their age.
    #[serde(default = "seven")]
    pub keep_at_least: u32,
    /// So many days, weeks, months and years of which the newest backup stays as well, by the job's calendar.
    #[serde(default)]
    pub keep: Keep,
    /// Delete a backup only where a newer one, which stays, has been verified; age counts back from that one.
    #[serde(default = "yes")]
    pub require_newer_verified: bool,
    /// Where more than this share of the backups would go, nothing does, and the job fails.
    #[serde(default = "half")]
    pub max_deletions: Percent,
    /// Say what would be deleted, and delete nothing.
    #[serde(default)]
    pub dry_run: bool,
}

fn gzipped_sql() -> String {
    "*.sql.gz".to_owned()
}

fn thirty_days() -> HumanDuration {
    HumanDuration(Duration::from_secs(30 * 86_400))
}

fn seven() -> u32 {
    7
}

fn yes() -> bool {
    true
}

fn half() -> Percent {
    Percent(50.0)
}

impl KindOptions for PruneBackups {
    const NAME: &'static str = "prune_backups";
    const SUMMARY: &'static str = "delete old backups, keeping enough, each with its reason in the log";

    fn invalid(&self) -> Vec<Invalid> {
        let mut problems = Vec::new();
        let mut problem = |key: &str, message: String, hint: Option<&str>| {
            problems.push(Invalid { key: key.to_owned(), message, hint: hint.map(str::to_owned) });
        };
        if !self.directory.is_absolute() {
            let message = format!("`{}` is not an absolute path", self.directory.display());
            problem("directory", message, Some("begin it with /"));
        }
        if let Err(message) = Pattern::new(&self.pattern) {
            problem("pattern", message, None);
        }
        problems
    }
}

#[async_trait]
impl Job for PruneBackups {
    async fn run(&self, ctx: &JobContext) -> Result<Report, JobError> {
        let work = Pruning {
            options: self.clone(),
            dry_run: self.dry_run || ctx.dry_run,
            zone: ctx.zone.clone(),
            clock: ctx.clock.clone(),
            log: Journal { log: ctx.log.clone(), clock: ctx.clock.clone(), lines: String::new() },
            cancel: ctx.cancel.clone(),
        };
        tokio::task::spawn_blocking(move || work.run())
            .await
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }

    async fn preflight(&self, _ctx: &HostContext) -> Vec<Lack> {
        let opened = files::open_directory(&self.directory);
        let lack = |error: io::Error| Lack {
            // A dump may be about to make it.
            fatal: error.kind() != io::ErrorKind::NotFound,
            message: format!("the directory {} can't be opened: {error}", self.directory.display()),
            hint: None,
        };
        opened.err().map(lack).into_iter().collect()
    }

    fn can_dry_run(&self) -> bool {
        true
    }
}

struct Pruning {
    options: PruneBackups,
    dry_run: bool,
    zone: TimeZone,
    clock: Arc<dyn Clock>,
    log: Journal,
    cancel: CancellationToken,
}

/// What was done.
#[derive(Default)]
struct Done {
    backups: u64,
    files: u64,
    bytes: u64,
    failed: Vec<String>,
}

impl Pruning {
    fn run(mut self) -> Result<Report, JobError> {
        let directory = self.options.directory.clone();
        let cant = |error: io::Error| {
            JobError::permanent(anyhow!("the directory {} can't be read: {error}", directory.display()))
        };
        let pattern = Pattern::new(&self.options.pattern)
            .map_err(|why| JobError::permanent(anyhow!("pattern: {why}")))?;
        let root = files::open_directory(&directory).map_err(cant)?;
        let found = match catalogue::search(&root, &pattern, &self.cancel) {
            Err(_) if self.cancel.is_cancelled() => return Err(cancelled(&Done::default())),
            other => other.map_err(cant)?,
        };
        let plan = self.plan(&found);
        let findings = self.findings(&found, &plan);
        if plan.too_many {
            return Err(self.refuse(&found, &plan));
        }
        let done = self.carry_out(&root, &found, &plan)?;
        self.log.flush();
        if !done.failed.is_empty() {
            return Err(JobError::Retryable(anyhow!(
                "deleted {} backups, but {} could not be deleted: {}",
                done.backups,
                done.failed.len(),
                first_of(&done.failed)
            )));
        }
        Ok(self.report(&plan, &done, findings))
    }

    fn plan(&self, found: &Found) -> Plan {
        let policy = Policy {
            older_than: self.options.older_than.0,
            keep_at_least: self.options.keep_at_least,
            keep: self.options.keep,
            zone: self.zone.clone(),
            require_newer_verified: self.options.require_newer_verified,
            max_deletions: self.options.max_deletions,
        };
        let candidates: Vec<_> = backups(found).map(|(_, backup)| backup.candidate.clone()).collect();
        retention::plan(&candidates, &policy, self.clock.now())
    }

    fn findings(&mut self, found: &Found, plan: &Plan) -> Vec<Finding> {
        let mut findings = Vec::new();
        for one in &found.passed_over {
            let text = format!("{} passed over: {}", one.path.display(), one.why);
            if one.trouble {
                findings.push(Finding::warning(text.clone()));
            }
            self.log.line(&text);
        }
        for ((folder, backup), reason) in backups(found).zip(&plan.reasons) {
            if reason.is_odd() {
                findings.push(Finding::warning(format!("kept {}: {reason}", shown(folder, backup))));
            }
        }
        findings
    }

    fn refuse(&mut self, found: &Found, plan: &Plan) -> JobError {
        for ((folder, backup), reason) in backups(found).zip(&plan.reasons) {
            let verb = if reason.deletes() { "not deleted, though" } else { "kept:" };
            self.log.line(&format!("{verb} {}: {reason}", shown(folder, backup)));
        }
        self.log.flush();
        JobError::permanent(anyhow!(
            "nothing was deleted: {} of {} backups in {} are due to go ({}), and max_deletions is {}. Look at them with \
             --dry-run; then raise max_deletions for one run, or correct older_than or the pattern",
            plan.deletions,
            plan.reasons.len(),
            self.options.directory.display(),
            Percent((plan.deletions as f64 * 1000.0 / plan.reasons.len().max(1) as f64).round() / 10.0),
            self.options.max_deletions
        ))
    }

    fn carry_out(&mut self, root: &OwnedFd, found: &Found, plan: &Plan) -> Result<Done, JobError> {
        let mut done = Done::default();
        let mut reasons = plan.reasons.iter();
        for folder in &found.folders {
            let mut opened: Option<io::Result<OwnedFd>> = None;
            for backup in &folder.backups {
                let Some(reason) = reasons.next() else { return Ok(done) };
                if self.cancel.is_cancelled() {
                    self.log.flush();
                    return Err(cancelled(&done));
                }
                if !reason.deletes() {
                    self.log.about("kept", folder, backup, reason);
                    continue;
                }
                if self.dry_run {
                    self.log.about("would delete", folder, backup, reason);
                    continue;
                }
                let opened = opened.get_or_insert_with(|| catalogue::reopen(root, folder));
                let deleted = match opened {
                    Ok(fd) => catalogue::delete(fd, backup)
                        .map_err(|(name, error)| format!("{}: {error}", folder.path.join(name).display())),
                    Err(error) => Err(format!("{}: {error}", shown(folder, backup))),
                };
                match deleted {
                    Ok(bytes) => {
                        done.backups += 1;
                        done.files += backup.files.len() as u64;
                        done.bytes += bytes;
                        self.log.about("deleted", folder, backup, reason);
                    }
                    Err(why) => {
                        self.log.line(&format!("could not delete {why}"));
                        done.failed.push(why);
                    }
                }
            }
        }
        Ok(done)
    }

    fn report(&self, plan: &Plan, done: &Done, findings: Vec<Finding>) -> Report {
        let all = plan.reasons.len();
        let kept = all - plan.deletions;
        let summary = if self.dry_run {
            format!("would delete {} of {all} backups and keep {kept}; nothing was deleted", plan.deletions)
        } else {
            format!("deleted {} of {all} backups ({} freed), kept {kept}", done.backups, Size(done.bytes))
        };
        let mut report = Report::new(summary)
            .fact("backups", all)
            .fact("deleted", done.backups)
            .fact("kept", if self.dry_run { all } else { kept })
            .fact("files_deleted", done.files)
            .fact("bytes_freed", done.bytes);
        if self.dry_run {
            report = report.fact("would_delete", plan.deletions);
        }
        report.findings = findings;
        report
    }
}

fn cancelled(done: &Done) -> JobError {
    JobError::Retryable(anyhow!("stopped after {} backups were deleted", done.backups))
}

fn backups(found: &Found) -> impl Iterator<Item = (&Folder, &Backup)> {
    found.folders.iter().flat_map(|folder| folder.backups.iter().map(move |backup| (folder, backup)))
}

/// The dump by its path below the directory, and what goes with it.
fn shown(folder: &Folder, backup: &Backup) -> String {
    let mut text = String::new();
    let mut first = true;
    for name in backup.files.iter().rev() {
        if !first {
            text.push_str(" + ");
        }
        first = false;
        if !folder.path.as_os_str().is_empty() {
            let _ = write!(text, "{}/", folder.path.display());
        }
        text.push_str(&String::from_utf8_lossy(name));
    }
    // A name may hold anything, and must stay on its line.
    if text.contains(char::is_control) { text.escape_debug().to_string() } else { text }
}

fn first_of(failed: &[String]) -> String {
    const SHOWN: usize = 3;
    let more = failed.len().saturating_sub(SHOWN);
    let mut text = failed.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; ");
    if more > 0 {
        let _ = write!(text, "; and {more} more, all in the log");
    }
    text
}

/// Hands lines to the log in large pieces: there may be hundreds of thousands.
struct Journal {
    log: RunLog,
    clock: Arc<dyn Clock>,
    lines: String,
}

impl Journal {
    fn about(&mut self, what: &str, folder: &Folder, backup: &Backup, reason: &Reason) {
        let _ = write!(self.lines, "{what} ");
        self.lines.push_str(&shown(folder, backup));
        let _ = writeln!(self.lines, ": {reason}");
        self.flush_if_full();
    }

    fn line(&mut self, text: &str) {
        self.lines.push_str(text);
        self.lines.push('\n');
        self.flush_if_full();
    }

    fn flush_if_full(&mut self) {
        if self.lines.len() >= 64 << 10 {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.log.note(self.clock.now(), &self.lines);
        self.lines.clear();
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if !self.lines.is_empty() {
            self.flush();
        }
    }
}
