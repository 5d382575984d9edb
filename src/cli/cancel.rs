//! `cancel RUN`: ends a run and every program it started.

use super::args::CancelArgs;
use super::failure::{Failure, code};
use super::{Context, output};

pub(super) fn run(context: &Context, args: &CancelArgs) -> Result<u8, Failure> {
    context.daemon()?.cancel(args.run)?;
    output::message(format!(
        "run {} is being cancelled: `punk-eco-sched show {}` tells its end",
        args.run, args.run
    ));
    Ok(code::DONE)
}
