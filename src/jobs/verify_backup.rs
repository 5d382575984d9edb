//! `verify_backup`: proves the latest backup of a `pg_dump` job: read whole, restored into a scratch database, counted;
//! or that of an `archive` job: read whole, each entry compared.
//!
//! What it finds is written into the backup's manifest, where retention and `backups` read it. A backup is called damaged
//! only where the backup itself is at fault, never for a server that is away.

mod archive;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::anyhow;
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Backs, HostContext, Job, JobContext, JobError, Kept, KindOptions, Lack};
use crate::backup::catalogue::Head;
use crate::backup::crypt::Identities;
use crate::backup::manifest::{Manifest, Proof, ProofEvent, State};
use crate::backup::newest::{NewestError, newest};
use crate::backup::postgres::Readers;
use crate::backup::read::Progress;
use crate::backup::restore::amount;
use crate::backup::restore::scratch::{self, Proven, Unproven};
use crate::backup::verify::{self, Checked};
use crate::backup::work::{Trouble, Work};
use crate::document::{ConnectionName, Invalid, JobRef};
use crate::host::files;
use crate::host::postgres::Connection;
use crate::model::{Finding, Report};
use crate::units::{HumanDuration, Size};

#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyBackup {
    /// The `pg_dump` or `archive` job whose latest backup is proven.
    pub of: JobRef,
    /// Whether a dump is restored into a scratch database too, which is dropped after.
    #[serde(default = "yes")]
    pub restore: bool,
    /// Whose server a dump is restored on; default: the one that was dumped.
    #[serde(default)]
    pub connection: Option<ConnectionName>,
    /// The file with the keys that open encrypted backups, as age-keygen writes it.
    #[serde(default)]
    pub identity: Option<PathBuf>,
    #[serde(skip)]
    kept: Option<Kept>,
}

fn yes() -> bool {
    true
}

impl KindOptions for VerifyBackup {
    const NAME: &'static str = "verify_backup";
    const SUMMARY: &'static str =
        "prove the latest backup: read it whole, restore it elsewhere, count its rows";

    fn invalid(&self) -> Vec<Invalid> {
        let relative = self.identity.as_ref().filter(|path| !path.is_absolute());
        let problem = |path: &PathBuf| Invalid {
            key: "identity".to_owned(),
            message: format!("`{}` is not an absolute path", path.display()),
            hint: Some("begin it with /".to_owned()),
        };
        relative.map(problem).into_iter().collect()
    }
}

#[async_trait]
impl Job for VerifyBackup {
    async fn run(&self, ctx: &JobContext) -> Result<Report, JobError> {
        let kept = self.kept()?;
        let work = ctx.work();
        let connection = match &kept.of {
            Backs::Database(connection) => connection,
            Backs::Files(name) => return self.prove_archive(&work, kept, name).await,
        };
        let file = latest(&work, kept, &named(&ctx.connections, connection)?.database)?;
        let keys = self.identity.as_deref().map(identities).transpose()?;
        let target = self.target(ctx, connection)?;
        if ctx.dry_run {
            let restored = if self.restore {
                format!(", and restore it at {}", target.address())
            } else {
                String::new()
            };
            return Ok(Report::new(format!("would read {}{restored}", file.display())));
        }
        let since = work.clock.since_boot();
        let readers = Self::readers(ctx, connection, &target)?;
        let checked = verify::check(&work, &file, keys.as_ref(), &readers, Progress::default()).await?;
        let read = work.clock.since_boot().saturating_sub(since);
        let again = verify::look_again(&file, &checked.manifest);
        let looked = again.map_err(|error| untold(&work, &file, "compared with those before it", &error))?;
        let mut report = report(&file, &checked).fact("read_seconds", rounded(read.as_secs_f64()));
        report.findings = suspicions(&file, &looked.proof);
        if !self.restore {
            let summary = format!("{}: read whole, nothing differs", report.summary);
            return Ok(Report { summary, ..report });
        }
        let proven = scratch::prove(&work, &target, &file, keys, &checked).await;
        let proven = match proven {
            Ok(proven) => proven,
            Err(Unproven::Trouble(trouble)) => return Err(trouble.into()),
            Err(Unproven::Damaged(trouble)) => {
                record(&work, &file, &checked.manifest, damaged(&work, &trouble))?;
                return Err(trouble.into());
            }
        };
        record(&work, &file, &checked.manifest, verified(&work, &proven))?;
        let summary = format!(
            "{}: restored in {}, every row is there",
            report.summary,
            HumanDuration(std::time::Duration::from_secs(proven.took.as_secs().max(1)))
        );
        Ok(Report { summary, ..report }
            .fact("seconds", rounded(proven.took.as_secs_f64()))
            .fact("tables_restored", proven.tables)
            .fact("rows_restored", proven.rows))
    }

    async fn preflight(&self, ctx: &HostContext) -> Vec<Lack> {
        let lack = |message: String| Lack { fatal: true, message, hint: None };
        let mut lacks = Vec::new();
        if let Some(Err(error)) = self.identity.as_deref().map(identities) {
            lacks.push(lack(error.to_string()));
        }
        let directory = self.kept.as_ref().map(|kept| kept.directory.as_path());
        if let Some(error) = directory.and_then(|path| files::open_directory(path).err()) {
            // The first dump makes it.
            let fatal = error.kind() != std::io::ErrorKind::NotFound;
            let message = format!("the directory of {}'s backups can't be opened: {error}", self.of);
            lacks.push(Lack { fatal, message, hint: None });
        }
        let named = self.connection.as_ref().filter(|name| !ctx.connections.contains_key(name.as_str()));
        lacks.extend(named.map(|name| lack(format!("connection {name} is not among those under postgres:"))));
        if let (Some(_), Some(Kept { of: Backs::Files(_), .. })) = (&self.connection, &self.kept) {
            let message = format!(
                "{} makes archives of files, which go to no server: `connection` has no use",
                self.of
            );
            lacks.push(Lack { fatal: false, message, hint: Some("leave it out".to_owned()) });
        }
        lacks
    }

    fn can_dry_run(&self) -> bool {
        true
    }

    fn works_on(&self) -> Vec<(String, &JobRef)> {
        vec![("of".to_owned(), &self.of)]
    }

    fn handed(&self, kept: &BTreeMap<String, Kept>) -> Option<Arc<dyn Job>> {
        let kept = kept.get(&*self.of)?.clone();
        Some(Arc::new(Self { kept: Some(kept), ..self.clone() }))
    }
}

impl VerifyBackup {
    fn kept(&self) -> Result<&Kept, JobError> {
        let missing = || JobError::permanent(anyhow!("nothing says where {} keeps its backups", self.of));
        self.kept.as_ref().ok_or_else(missing)
    }

    fn target(&self, ctx: &JobContext, dumped: &ConnectionName) -> Result<Connection, JobError> {
        let name = self.connection.as_ref().unwrap_or(dumped);
        let found = named(&ctx.connections, name)?;
        found.located().map_err(|error| JobError::permanent(anyhow!("connection {name}: host: {error}")))
    }

    /// Its custom dumps are read where they were made, else where they are restored.
    fn readers(ctx: &JobContext, dumped: &ConnectionName, target: &Connection) -> Result<Readers, JobError> {
        let own = Some(named(&ctx.connections, dumped)?.clone());
        Ok(Readers { own, others: vec![target.clone()] })
    }
}

fn named<'c>(known: &'c BTreeMap<String, Connection>, name: &str) -> Result<&'c Connection, JobError> {
    let missing = || JobError::permanent(anyhow!("connection {name} is not among those under postgres:"));
    known.get(name).ok_or_else(missing)
}

/// The newest backup of the job.
fn latest(work: &Work, kept: &Kept, of: &str) -> Result<PathBuf, JobError> {
    let path = &kept.directory;
    let future = |head: &Head| work.note(&format!("passed over {}, which is dated in the future", head.file));
    match newest(path, of, &kept.job, work.now(), future) {
        Ok(Some(head)) => Ok(path.join(head.file)),
        Ok(None) => Err(JobError::permanent(anyhow!(
            "there is no backup of {} in {}: has it run? `punk-eco-sched history {}` tells",
            kept.job,
            path.display(),
            kept.job
        ))),
        Err(error @ NewestError::Directory { .. }) => Err(JobError::Retryable(error.into())),
        Err(error @ NewestError::Manifest { .. }) => Err(JobError::permanent(error)),
    }
}

fn report(file: &Path, checked: &Checked) -> Report {
    let manifest = &checked.manifest;
    let summary = format!(
        "verified {}: {} in {}",
        manifest.file,
        Size(manifest.bytes),
        amount(manifest.tables.len(), manifest.rows)
    );
    Report::new(summary)
        .fact("file", manifest.file.clone())
        .fact("directory", file.parent().map(|path| path.to_string_lossy().into_owned()))
        .fact("bytes", manifest.bytes)
        .fact("tables", manifest.tables.len())
        .fact("rows", manifest.rows)
        .fact("dumped_at", manifest.started_at.to_string())
}

fn verified(work: &Work, proven: &Proven) -> ProofEvent {
    let how = format!(
        "restored into a scratch database, where {} were counted: those that were dumped",
        amount(proven.tables, proven.rows)
    );
    ProofEvent {
        state: State::Verified,
        at: work.now(),
        how,
        seconds: Some(rounded(proven.took.as_secs_f64())),
        tools: Some(proven.tools.clone()),
    }
}

fn damaged(work: &Work, trouble: &Trouble) -> ProofEvent {
    ProofEvent { state: State::Damaged, at: work.now(), how: trouble.to_string(), seconds: None, tools: None }
}

/// A proof that nobody can read later proves nothing.
fn record(work: &Work, file: &Path, checked: &Manifest, event: ProofEvent) -> Result<Manifest, JobError> {
    let state = event.state.word();
    verify::add(file, checked, event).map_err(|error| untold(work, file, state, &error))
}

fn untold(work: &Work, file: &Path, state: &str, error: &std::io::Error) -> JobError {
    work.note(&format!("the manifest of {} could not be written", file.display()));
    JobError::Retryable(anyhow!("{} is {state}, and its manifest can't be told so: {error}", file.display()))
}

/// What someone should look at before the backup is trusted.
fn suspicions(file: &Path, proof: &Proof) -> Vec<Finding> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    proof.suspect.iter().map(|why| Finding::warning(format!("{name} is suspect: {why}"))).collect()
}

/// Of a key file: a longer one is something else.
const LONGEST_KEY_FILE: u64 = 1 << 20;

fn identities(path: &Path) -> Result<Identities, JobError> {
    let wrong = |why: String| JobError::permanent(anyhow!("identity: {}: {why}", path.display()));
    let file = std::fs::File::open(path).map_err(|error| wrong(error.to_string()))?;
    let mut text = String::new();
    std::io::Read::read_to_string(&mut std::io::Read::take(file, LONGEST_KEY_FILE), &mut text)
        .map_err(|error| wrong(error.to_string()))?;
    Identities::parse(&text).map_err(wrong)
}

fn rounded(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}
