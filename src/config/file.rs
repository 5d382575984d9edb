//! The file itself: opened once, judged by what was opened, read within a limit.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::Environment;
use crate::document::Problems;

/// 10 000 jobs with every policy fit in a half of it.
const LARGEST: u64 = 8 * 1024 * 1024;

/// # Errors
/// One problem: why the file can't be read, or is not to be trusted.
pub(super) fn read(path: &Path, environment: &Environment) -> Result<String, Problems> {
    let file = open(path)?;
    if environment.uid == 0 {
        trusted(&file, path)?;
    }
    text_of(file, path)
}

/// As [`read`], of a file that decides nothing but where to look.
///
/// # Errors
/// As [`read`].
pub(super) fn read_any(path: &Path) -> Result<String, Problems> {
    text_of(open(path)?, path)
}

fn open(path: &Path) -> Result<File, Problems> {
    let refused = |message: String, hint: Option<String>| Err(Problems::of_file(path, message, hint));
    // Without NONBLOCK, a named pipe in its place would be waited for.
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) => {
            let hint = match error.kind() {
                std::io::ErrorKind::NotFound => {
                    Some(format!("name it with --config PATH or ${}", super::FILE_VARIABLE))
                }
                _ => None,
            };
            return refused(format!("the file can't be opened: {error}"), hint);
        }
    };
    let metadata = file.metadata().map_err(|error| Problems::of_file(path, error.to_string(), None))?;
    if metadata.is_dir() {
        let hint = Some(format!("is it {}?", path.join("jobs.yaml").display()));
        return refused("this is a directory, not a file".into(), hint);
    }
    if !metadata.is_file() {
        return refused("this is not a regular file".into(), None);
    }
    if metadata.len() > LARGEST {
        return refused(too_large(metadata.len()), Some("is this the right file?".into()));
    }
    Ok(file)
}

fn text_of(file: File, path: &Path) -> Result<String, Problems> {
    let mut bytes = Vec::new();
    if let Err(error) = file.take(LARGEST + 1).read_to_end(&mut bytes) {
        return Err(Problems::of_file(path, format!("the file can't be read: {error}"), None));
    }
    if bytes.len() as u64 > LARGEST {
        return Err(Problems::of_file(path, too_large(bytes.len() as u64), None));
    }
    String::from_utf8(bytes).map(without_mark).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let before = &error.as_bytes()[..at];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let message =
            format!("the file is not UTF-8: line {line}, byte {at} is 0x{:02x}", error.as_bytes()[at]);
        Problems::of_file(path, message, Some("save it as UTF-8".into()))
    })
}

/// Some editors begin a file with a byte-order mark; it would shift the columns of the first line.
fn without_mark(text: String) -> String {
    match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    }
}

fn too_large(bytes: u64) -> String {
    format!("the file is too large: {bytes} bytes or more, where {LARGEST} is the most")
}

/// Whoever can write the file can have the daemon run anything: as root, only root may.
fn trusted(file: &File, path: &Path) -> Result<(), Problems> {
    // Of the opened file: the name may lead elsewhere by now.
    let metadata = file.metadata().map_err(|error| Problems::of_file(path, error.to_string(), None))?;
    let hint = |command: &str| Some(format!("{command} {}", path.display()));
    if metadata.uid() != 0 {
        let message = format!(
            "the file belongs to user {}, who could have root run anything: it must belong to root",
            metadata.uid()
        );
        return Err(Problems::of_file(path, message, hint("chown root")));
    }
    if metadata.mode() & 0o022 != 0 {
        let message = format!(
            "the file is writable by others than root (mode {:04o}), who could have root run anything",
            metadata.mode() & 0o7777
        );
        return Err(Problems::of_file(path, message, hint("chmod go-w")));
    }
    Ok(())
}
