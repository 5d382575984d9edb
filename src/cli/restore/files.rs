//! `restore files FILE --into DIR`: an archive's files, in the place of a folder that is kept.

use std::io::Write;

use crate::backup::archive;
use crate::backup::read::Progress;
use crate::cli::args::RestoreFilesArgs;
use crate::cli::failure::{Failure, code};
use crate::cli::output;
use crate::cli::{progress, verify};
use crate::clock::{Clock, SystemClock};
use crate::daemon;
use crate::units::Size;

pub(super) fn run(args: &RestoreFilesArgs) -> Result<u8, Failure> {
    let keys = args.identity.as_deref().map(verify::identities).transpose()?;
    let plan = archive::plan(&args.file, &args.into, SystemClock.now())
        .map_err(|trouble| Failure::new(code::FAILED, trouble))?;
    let mut out = output::data();
    plan.lines().iter().try_for_each(|line| writeln!(out, "{line}"))?;
    out.flush()?;
    drop(out);
    if args.plan {
        return Ok(code::DONE);
    }
    // Before any thread.
    let hand = daemon::by_hand("restore")?;
    let shown = Progress::default();
    let total = plan.file_bytes;
    let restoring = {
        let (work, progress) = (hand.work.clone(), shown.clone());
        async move {
            let restoring =
                tokio::task::spawn_blocking(move || archive::restore(&work, &plan, keys.as_ref(), progress));
            restoring.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
        }
    };
    let restored = hand.run(progress::shown("restoring", total, &shown, restoring), |line| {
        progress::clear();
        output::message(&line.text);
    })?;
    let restored = restored.map_err(|trouble| Failure::new(code::FAILED, trouble))?;
    for note in &restored.notes {
        output::message(note);
    }
    let mut out = output::data();
    let into = restored.into.display();
    writeln!(out, "restored {} entries ({}) into {into}", restored.entries, Size(restored.bytes))?;
    if let Some(kept) = &restored.kept_as {
        writeln!(out, "kept     what was there as {}", kept.display())?;
    }
    out.flush()?;
    Ok(code::DONE)
}
