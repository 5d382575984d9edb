//! `verify FILE`: reads a backup whole and compares it with its manifest; exit code 1 and every reason where it differs.

mod archive;

use std::io::Write;
use std::path::Path;

use serde::Serialize;

use super::args::VerifyArgs;
use super::failure::{Failure, code};
use super::output::{self, Colour, Paint};
use super::{Context, progress};
use crate::backup::crypt::Identities;
use crate::backup::manifest::Manifest;
use crate::backup::names::{self, MANIFEST_SUFFIX, ROLES_SUFFIX};
use crate::backup::postgres::Readers;
use crate::backup::read::Progress;
use crate::backup::verify::{self, Verdict};
use crate::clock::SystemClock;
use crate::config::{self, Environment};
use crate::daemon;
use crate::jobs::Backs;
use crate::units::Size;

/// Of a key file: a longer one is something else.
const LONGEST_KEY_FILE: u64 = 1 << 20;

#[derive(Serialize)]
struct Document<'a> {
    file: &'a Path,
    ok: bool,
    reasons: Vec<&'a str>,
    bytes: u64,
    tables: Option<usize>,
    rows: Option<u64>,
    proof: Option<&'static str>,
}

#[derive(Serialize)]
struct Planned<'a> {
    file: &'a Path,
    plan: &'a [String],
}

pub(super) fn run(context: &Context, args: &VerifyArgs) -> Result<u8, Failure> {
    is_a_backup(&args.file)?;
    let keys = args.identity.as_deref().map(identities).transpose()?;
    if crate::backup::archive::is_archive(&args.file) {
        return archive::run(args, keys);
    }
    if args.plan {
        return plan(args);
    }
    // Before any thread.
    // Two at once are told apart by it, also in a container.
    let hand = daemon::by_hand(&format!("verify-{}", std::process::id()))?;
    let readers = readers(context, &args.file);
    let progress = Progress::default();
    let total = std::fs::metadata(&args.file).map_or(0, |metadata| metadata.len());
    let judging = verify::judge(&hand.work, &args.file, keys.as_ref(), &readers, progress.clone());
    let what = format!("reading {}", args.file.display());
    let verdict = hand.run(progress::shown(&what, total, &progress, judging), |line| {
        progress::clear();
        output::message(&line.text);
    })?;
    let verdict = verdict.map_err(|trouble| Failure::new(code::FAILED, trouble))?;
    tell(args, &verdict)
}

/// The connections of jobs.yaml lend their containers' pg_restore; without a file that can be read, this host's must do.
fn readers(context: &Context, file: &Path) -> Readers {
    let environment = Environment::of_process(&SystemClock);
    let Ok((table, _)) = config::load(&context.file(), &environment) else { return Readers::default() };
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let manifest = std::fs::read(file.with_file_name(names::manifest_of(&name))).ok();
    let manifest = manifest.and_then(|text| Manifest::parse(&text).ok());
    let job = manifest
        .and_then(|manifest| table.jobs.iter().find(|spec| spec.name.as_str() == manifest.job).cloned());
    let kept = job.and_then(|spec| spec.job.keeps(spec.name.as_str()));
    let own = kept.and_then(|kept| match kept.of {
        Backs::Database(connection) => table.connections.get(&*connection).cloned(),
        Backs::Files(_) => None,
    });
    Readers { own, others: table.connections.values().cloned().collect() }
}

fn tell(args: &VerifyArgs, verdict: &Verdict) -> Result<u8, Failure> {
    let counted = verdict.examined.as_ref().map(|examined| &examined.counted.tables);
    let tables = counted.map(Vec::len);
    let rows = counted.map(|tables| tables.iter().map(|table| table.rows).sum());
    if args.json.wanted {
        output::json(&Document {
            file: &args.file,
            ok: verdict.good(),
            reasons: verdict.reasons(),
            bytes: verdict.bytes,
            tables,
            rows,
            proof: verdict.manifest.as_ref().map(|manifest| manifest.proof.state.word()),
        })?;
        return Ok(if verdict.good() { code::DONE } else { code::FAILED });
    }
    let file = args.file.display();
    if verdict.good() {
        let mut out = output::data();
        writeln!(
            out,
            "{file}: {}: {} with {} rows in {} tables are what was written",
            Paint::stdout().on(Colour::Green, "good"),
            Size(verdict.bytes),
            rows.unwrap_or(0),
            tables.unwrap_or(0),
        )?;
        out.flush()?;
        return Ok(code::DONE);
    }
    if verdict.damage.is_empty() {
        let reason = verdict.hindrance.as_deref().unwrap_or_default();
        return Err(Failure::new(code::FAILED, format!("{file} can't be verified: {reason}")));
    }
    let reasons: String = verdict.reasons().iter().map(|reason| format!("\n  {reason}")).collect();
    Err(Failure::new(code::FAILED, format!("{file} is damaged:{reasons}")))
}

fn plan(args: &VerifyArgs) -> Result<u8, Failure> {
    let planned = verify::plan(&args.file).map_err(|trouble| Failure::new(code::FAILED, trouble))?;
    if args.json.wanted {
        output::json(&Planned { file: &args.file, plan: &planned })?;
        return Ok(code::DONE);
    }
    let mut out = output::data();
    planned.iter().try_for_each(|line| writeln!(out, "{line}"))?;
    out.flush()?;
    Ok(code::DONE)
}

/// What stands beside a dump is looked at with it, and is no backup of its own.
pub(super) fn is_a_backup(file: &Path) -> Result<(), Failure> {
    let shown = file.display();
    let metadata =
        std::fs::metadata(file).map_err(|error| Failure::wrong(format!("{shown} can't be read: {error}")))?;
    if !metadata.is_file() {
        return Err(Failure::wrong(format!("{shown} is not a file")).hint("name a dump"));
    }
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let beside = [(MANIFEST_SUFFIX, "a manifest"), (ROLES_SUFFIX, "a roles file")];
    match beside.into_iter().find(|(suffix, _)| name.trim_end_matches(".age").ends_with(suffix)) {
        Some((_, what)) => Err(Failure::wrong(format!("{shown} is {what}"))
            .hint("name the dump that it lies beside: the whole backup is verified with it")),
        None => Ok(()),
    }
}

pub(super) fn identities(file: &Path) -> Result<Identities, Failure> {
    let wrong = |why: &dyn std::fmt::Display| Failure::wrong(format!("--identity {}: {why}", file.display()));
    let mut text = String::new();
    let opened = std::fs::File::open(file).map_err(|error| wrong(&error))?;
    std::io::Read::read_to_string(&mut std::io::Read::take(opened, LONGEST_KEY_FILE), &mut text)
        .map_err(|error| wrong(&error))?;
    Identities::parse(&text).map_err(|why| wrong(&why))
}
