//! `completions SHELL`: from the same definitions as the help.

use std::io::Write;

use clap::CommandFactory;

use super::args::{Cli, CompletionsArgs};
use super::failure::{Failure, code};
use super::output;

pub(super) fn run(args: &CompletionsArgs) -> Result<u8, Failure> {
    // By way of memory: the generator panics where its writer fails, as standard output may.
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "punk-eco-sched", &mut text);
    let mut out = output::data();
    out.write_all(&text)?;
    out.flush()?;
    Ok(code::DONE)
}
