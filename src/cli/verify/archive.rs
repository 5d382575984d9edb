//! `verify FILE` of an archive of files.

use std::io::Write;
use std::path::Path;

use serde::Serialize;

use crate::backup::archive;
use crate::backup::crypt::Identities;
use crate::backup::names;
use crate::backup::read::Progress;
use crate::cli::args::VerifyArgs;
use crate::cli::failure::{Failure, code};
use crate::cli::output::{self, Colour, Paint};
use crate::cli::progress;
use crate::daemon;
use crate::units::Size;

#[derive(Serialize)]
struct Document<'a> {
    file: &'a Path,
    ok: bool,
    reasons: Vec<String>,
    bytes: u64,
    entries: Option<usize>,
    files: Option<u64>,
    proof: Option<&'static str>,
}

pub(super) fn run(args: &VerifyArgs, keys: Option<Identities>) -> Result<u8, Failure> {
    let total = std::fs::metadata(&args.file).map_or(0, |metadata| metadata.len());
    let shown = args.file.display();
    if args.plan {
        let name = args.file.file_name().unwrap_or_default().to_string_lossy();
        let manifest = names::manifest_of(&name);
        let mut out = output::data();
        writeln!(
            out,
            "would read {shown} ({}) to its end and compare each entry with {manifest}",
            Size(total)
        )?;
        writeln!(out, "would record in {manifest} what was found")?;
        out.flush()?;
        return Ok(code::DONE);
    }
    // Before any thread.
    let hand = daemon::by_hand("verify")?;
    let done = Progress::default();
    let checking = {
        let (work, file, done) = (hand.work.clone(), args.file.clone(), done.clone());
        async move {
            let checking =
                tokio::task::spawn_blocking(move || archive::check(&work, &file, keys.as_ref(), done));
            checking.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
        }
    };
    let what = format!("reading {shown}");
    let checked = hand.run(progress::shown(&what, total, &done, checking), |line| {
        progress::clear();
        output::message(&line.text);
    })?;
    if args.json.wanted {
        let good = checked.as_ref().ok();
        output::json(&Document {
            file: &args.file,
            ok: checked.is_ok(),
            reasons: checked.as_ref().err().map(ToString::to_string).into_iter().collect(),
            bytes: total,
            entries: good.map(|checked| checked.manifest.entries.len()),
            files: good.map(|checked| checked.manifest.files),
            proof: good.map(|checked| checked.manifest.proof.state.word()),
        })?;
        return Ok(if checked.is_ok() { code::DONE } else { code::FAILED });
    }
    let checked = checked.map_err(|trouble| Failure::new(code::FAILED, trouble))?;
    let mut out = output::data();
    writeln!(
        out,
        "{shown}: {}: {} with {} entries, {} of them files, are what was written",
        Paint::stdout().on(Colour::Green, "good"),
        Size(checked.bytes),
        checked.manifest.entries.len(),
        checked.manifest.files
    )?;
    out.flush()?;
    Ok(code::DONE)
}
