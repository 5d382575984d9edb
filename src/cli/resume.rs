//! `resume JOB|--all`: ends a pause.

use super::args::ResumeArgs;
use super::failure::{Failure, code};
use super::pause::subject;
use super::{Context, output};

pub(super) fn run(context: &Context, args: &ResumeArgs) -> Result<u8, Failure> {
    let job = args.scope.job.as_deref();
    context.daemon()?.resume(job)?;
    output::message(subject(job, "is resumed", "are resumed"));
    Ok(code::DONE)
}
