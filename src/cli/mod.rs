//! The command line: one file a verb. Owns what is printed and the exit codes; every verb is a thin caller of
//! the library.

pub mod args;
mod cancel;
mod completions;
mod daemon;
mod edit;
pub mod failure;
pub mod locate;
mod man;
mod next;
pub mod output;
mod pause;
mod reload;
mod resume;
pub mod run_now;
mod status;
pub mod time;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use self::args::{Cli, Verb};
use self::failure::Failure;
use self::output::{Colour, Paint};
use crate::api::client::{Client, ClientError};

/// Parses the command line, does what it says, and tells the exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to standard output and is no error; what is wrong goes to standard error.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(failure::code::WRONG));
        }
    };
    match dispatch(cli) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            let paint = Paint::stderr();
            if !failure.message.is_empty() {
                output::message(format!("{} {}", paint.on(Colour::Red, "error:"), failure.message));
            }
            if let Some(hint) = failure.hint {
                output::message(format!("{} {hint}", paint.on(Colour::Bold, "hint:")));
            }
            ExitCode::from(failure.code)
        }
    }
}

/// What the global options say.
#[derive(Debug)]
pub struct Context {
    pub config: Option<PathBuf>,
}

impl Context {
    /// The file of this invocation.
    ///
    /// # Errors
    /// Where there is none.
    pub fn file(&self) -> Result<PathBuf, Failure> {
        locate::config(self.config.as_deref())
    }

    /// The daemon, for verbs that can't do without.
    ///
    /// # Errors
    /// Exit code 3 where none answers.
    pub fn daemon(&self) -> Result<Client, Failure> {
        Ok(self.connect()??)
    }

    /// # Errors
    /// Where the file that was named can't be read; inside: why there is no daemon to talk to.
    pub fn connect(&self) -> Result<Result<Client, ClientError>, Failure> {
        Ok(Client::connect(&locate::socket(self.config.as_deref())?))
    }
}

fn dispatch(cli: Cli) -> Result<u8, Failure> {
    let context = Context { config: cli.config };
    match cli.verb {
        Verb::Daemon(args) => daemon::run(&context, &args),
        Verb::Next(args) => next::run(&context, &args),
        Verb::RunNow(args) => run_now::run(&context, &args),
        Verb::Status(args) => status::run(&context, &args),
        Verb::Reload => reload::run(&context),
        Verb::Pause(args) => pause::run(&context, &args),
        Verb::Resume(args) => resume::run(&context, &args),
        Verb::Cancel(args) => cancel::run(&context, &args),
        Verb::Edit => edit::run(&context),
        Verb::Completions(args) => completions::run(&args),
        Verb::Man => man::run(),
        _ => Err(Failure::wrong("")),
    }
}
