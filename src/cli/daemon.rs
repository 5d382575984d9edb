//! `daemon`: runs in the foreground.

use std::sync::Arc;

use super::Context;
use super::args::DaemonArgs;
use super::failure::{Failure, code};
use crate::clock::SystemClock;
use crate::daemon::{self, DaemonError, Options};

pub(super) fn run(context: &Context, args: &DaemonArgs) -> Result<u8, Failure> {
    let options = Options { config: context.file(), grace: args.grace.0 };
    match daemon::run(&options, Arc::new(SystemClock)) {
        Ok(()) => Ok(code::DONE),
        Err(DaemonError::File(problems)) => Err(super::wrong_file(problems)),
        Err(DaemonError::Other(error)) => Err(error.into()),
    }
}
