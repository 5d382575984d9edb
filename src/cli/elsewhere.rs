//! A backup that is named by the address of its copy (`s3://…`, `file://…`): brought here for `verify` and `restore`.

use std::path::{Path, PathBuf};

use super::failure::Failure;
use super::{Context, output};
use crate::backup::copies::{self, Destination, Fetched};
use crate::daemon::{self, ByHand};

/// A file of this host; what was brought is removed with it.
pub(super) struct Local {
    pub(super) path: PathBuf,
    /// Dropped in this order: the file lies in the scratch folder of the other.
    _held: Option<(Fetched, ByHand)>,
}

/// # Errors
/// Where no job copies to that place, or the copy can't be brought.
pub(super) fn local(context: &Context, file: &Path) -> Result<Local, Failure> {
    let Some(url) = file.to_str().filter(|text| text.contains("://")) else {
        return Ok(Local { path: file.to_owned(), _held: None });
    };
    let table = context.table()?;
    let all: Vec<Destination> = table.jobs.iter().flat_map(|job| job.job.copies_to()).collect();
    let Some((destination, name)) = copies::locate(url, &all)? else {
        return Ok(Local { path: file.to_owned(), _held: None });
    };
    let hand = daemon::by_hand("fetch")?;
    let fetching = copies::fetch(&hand.work, destination, name);
    let fetched = hand.run(fetching, |line| output::message(&line.text))??;
    Ok(Local { path: fetched.path.clone(), _held: Some((fetched, hand)) })
}
