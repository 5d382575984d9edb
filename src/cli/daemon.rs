//! `daemon`: runs in the foreground.

use super::Context;
use super::args::DaemonArgs;
use super::failure::Failure;

pub(super) fn run(context: &Context, args: &DaemonArgs) -> Result<u8, Failure> {
    // INTEGRATION: crate::daemon::run(&context.file(), args.grace.0)
    let _ = (context.file(), args.grace.0);
    Err(Failure::wrong("not wired"))
}
