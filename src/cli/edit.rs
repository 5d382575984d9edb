//! `edit`: as `crontab -e`. The file is replaced whole, and only by one that passed the check.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context as _, bail};

use super::failure::{Failure, code};
use super::{Context, output, reload};
use crate::api::client::ClientError;
use crate::clock::SystemClock;
use crate::config::{self, Environment};
use crate::document::Problems;

pub(super) fn run(context: &Context) -> Result<u8, Failure> {
    let named = context.file();
    // Through links, so that the file is replaced and not the link.
    let target = fs::canonicalize(&named).map_err(|e| Failure::wrong(format!("{}: {e}", named.display())))?;
    let draft = Draft::of(&target)?;
    // An interrupt is the editor's to handle: it must not end us and leave the draft behind.
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGQUIT] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false))).map_err(anyhow::Error::from)?;
    }
    loop {
        open_editor(&draft.path)?;
        let text = draft.text()?;
        if text == draft.original {
            output::message(format!("{}: not changed", named.display()));
            return Ok(code::DONE);
        }
        match check(&text, &named, &draft.path) {
            Ok(()) => break,
            Err(problems) => {
                output::message(problems);
                if !again()? {
                    return Err(Failure::wrong(format!("{}: left as it was", named.display())));
                }
            }
        }
    }
    draft.publish()?;
    output::message(format!("{}: replaced", named.display()));
    tell_daemon(context)
}

fn tell_daemon(context: &Context) -> Result<u8, Failure> {
    match context.connect()? {
        Ok(mut daemon) => {
            let reloaded = daemon.reload().map_err(|error| {
                Failure::from(error).hint("the file is saved; the daemon keeps the table it had")
            })?;
            output::message(reload::sentence(&reloaded));
        }
        Err(ClientError::NoDaemon { .. }) => output::message("no daemon runs: nothing to reload"),
        Err(error) => return Err(Failure::from(error).hint("the file is saved; the daemon was not reloaded")),
    }
    Ok(code::DONE)
}

/// A copy beside the file, so that it can take its place by a rename; removed unless it did.
struct Draft {
    path: PathBuf,
    target: PathBuf,
    original: Vec<u8>,
    metadata: fs::Metadata,
}

impl Draft {
    fn of(target: &Path) -> Result<Self, Failure> {
        let read = |error: io::Error| Failure::wrong(format!("{}: {error}", target.display()));
        let original = fs::read(target).map_err(read)?;
        let metadata = fs::metadata(target).map_err(read)?;
        // Hidden from a glob, with an ending by which editors know the language.
        let name = target.file_stem().unwrap_or_default().to_string_lossy();
        let path = target.with_file_name(format!(".{name}.edit-{}.yaml", std::process::id()));
        let draft = Self { path, target: target.to_owned(), original, metadata };
        draft.write().with_context(|| format!("{}: the copy to edit can't be made", draft.path.display()))?;
        Ok(draft)
    }

    fn write(&self) -> anyhow::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.path)?;
        file.write_all(&self.original)?;
        self.dress(&file)
    }

    /// Gives the file owner, group and mode of the original.
    fn dress(&self, file: &File) -> anyhow::Result<()> {
        let now = file.metadata()?;
        if (now.uid(), now.gid()) != (self.metadata.uid(), self.metadata.gid()) {
            fchown(file, Some(self.metadata.uid()), Some(self.metadata.gid()))
                .context("it can't be given to the owner of the file: edit it as that user or as root")?;
        }
        file.set_permissions(fs::Permissions::from_mode(self.metadata.mode() & 0o7777))?;
        Ok(())
    }

    fn text(&self) -> anyhow::Result<Vec<u8>> {
        fs::read(&self.path)
            .with_context(|| format!("{}: the edited copy can't be read", self.path.display()))
    }

    /// Puts the draft in the place of the file: whole, durable, or not at all.
    fn publish(&self) -> anyhow::Result<()> {
        let shown = self.target.display();
        if fs::read(&self.target).ok().as_ref() != Some(&self.original) {
            bail!("{shown}: somebody else changed it meanwhile: nothing was replaced, edit it again");
        }
        // The editor may have written a new file in the copy's place, dressed as it liked.
        let file = File::open(&self.path).with_context(|| self.path.display().to_string())?;
        self.dress(&file).with_context(|| self.path.display().to_string())?;
        file.sync_all().with_context(|| self.path.display().to_string())?;
        fs::rename(&self.path, &self.target).with_context(|| format!("{shown}: it can't be replaced"))?;
        let directory = self.target.parent().unwrap_or(Path::new("/"));
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .context(directory.display().to_string())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After a rename there is nothing left under this name.
        let _ = fs::remove_file(&self.path);
    }
}

/// What is wrong with the text, shown under the name that the person knows.
fn check(text: &[u8], named: &Path, draft: &Path) -> Result<(), Problems> {
    let environment = Environment::of_process(&SystemClock);
    let warnings = match std::str::from_utf8(text) {
        Ok(text) => config::read(text, named, &environment)?.1,
        Err(_) => Problems::default(),
    };
    // What is not about the text: its encoding, its length, and as root whose it is and who may write it.
    config::load(draft, &environment)?;
    if !warnings.is_empty() {
        output::message(warnings);
    }
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "the editor is the person's own program on the person's own terminal, not a run of a job"
)]
fn open_editor(path: &Path) -> Result<(), Failure> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    // As crontab does: the variable may hold arguments, so it is a piece of shell.
    let command = match set("VISUAL").or_else(|| set("EDITOR")) {
        Some(editor) => format!("{editor} \"$1\""),
        None => {
            "if command -v sensible-editor >/dev/null; then exec sensible-editor \"$1\"; fi; exec vi \"$1\""
                .into()
        }
    };
    let status = std::process::Command::new("/bin/sh").args(["-c", &command, "sh"]).arg(path).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => {
            Err(Failure::new(code::FAILED, format!("the editor ended with {status}: nothing was changed")))
        }
        Err(error) => Err(Failure::new(code::FAILED, format!("/bin/sh: {error}"))),
    }
}

/// Whether to open the editor again on a file that is wrong.
fn again() -> Result<bool, Failure> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(false);
    }
    loop {
        let mut errors = io::stderr();
        let _ = write!(errors, "[e]dit again, [q]uit without a change? ").and_then(|()| errors.flush());
        let mut answer = String::new();
        let count = io::stdin().read_line(&mut answer).map_err(anyhow::Error::from)?;
        match answer.trim() {
            "e" | "" if count > 0 => return Ok(true),
            "q" => return Ok(false),
            _ if count == 0 => return Ok(false),
            _ => {}
        }
    }
}
