//! `why`: what happened to a job at a time.
use super::Context;
use super::args::WhyArgs;
use super::failure::Failure;
pub(super) fn run(_context: &Context, _args: &WhyArgs) -> Result<u8, Failure> {
    Err(Failure::wrong(""))
}
