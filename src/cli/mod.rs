//! The command line: one file a verb. Owns what is printed and the exit codes; every verb is a thin caller of
//! the library.

mod alert_test;
pub mod args;
mod audit;
mod backups;
mod cancel;
pub mod check;
mod completions;
mod daemon;
mod edit;
mod elsewhere;
pub mod failure;
pub mod history;
mod list;
pub mod locate;
pub mod logs;
mod man;
mod next;
pub mod output;
mod pause;
mod progress;
mod reload;
mod restore;
mod resume;
pub mod run_now;
pub mod schema;
pub mod show;
mod status;
mod stored;
#[cfg(test)]
mod testing;
pub mod time;
mod verify;
mod why;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use self::args::{CheckArgs, Cli, Verb};
use self::failure::Failure;
use self::output::{Colour, Paint};
use crate::api::Refused;
use crate::api::client::{Client, ClientError};
use crate::clock::SystemClock;
use crate::config::{self, Environment, JobTable, Paths};
use crate::document::{Problems, nearest};

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
    /// The file of this invocation, whether it is there or not.
    pub fn file(&self) -> PathBuf {
        config::find_file(self.config.as_deref(), &Environment::of_process(&SystemClock))
    }

    /// The table, or every problem that is in the way of one.
    ///
    /// # Errors
    /// Exit code 2, with the problems.
    pub fn table(&self) -> Result<JobTable, Failure> {
        let environment = Environment::of_process(&SystemClock);
        let (table, _warnings) = config::load(&self.file(), &environment).map_err(wrong_file)?;
        Ok(table)
    }

    /// Where the daemon keeps what it writes, whatever else is wrong with the file.
    pub fn paths(&self) -> Paths {
        config::paths_of(&self.file(), &Environment::of_process(&SystemClock))
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

/// Each problem says itself whether it is an error.
fn wrong_file(problems: Problems) -> Failure {
    let count = problems.iter().filter(|problem| problem.is_error()).count();
    output::message(&problems);
    let count = if count == 1 { "1 error".into() } else { format!("{count} errors") };
    Failure::wrong(format!("the file has {count}"))
}

fn unknown_job<'n>(job: &str, names: impl IntoIterator<Item = &'n str>) -> Failure {
    let nearest = nearest(job, names).map(str::to_owned);
    Refused::UnknownJob { name: job.to_owned(), nearest }.into()
}

fn dispatch(cli: Cli) -> Result<u8, Failure> {
    let context = Context { config: cli.config };
    match cli.verb {
        Verb::Daemon(args) => daemon::run(&context, &args),
        Verb::List(args) => list::run(&context, &args),
        Verb::Next(args) => next::run(&context, &args),
        Verb::RunNow(args) => run_now::run(&context, &args),
        Verb::Status(args) => status::run(&context, &args),
        Verb::Reload => reload::run(&context),
        Verb::Pause(args) => pause::run(&context, &args),
        Verb::Resume(args) => resume::run(&context, &args),
        Verb::Cancel(args) => cancel::run(&context, &args),
        Verb::AlertTest(args) => alert_test::run(&context, &args),
        Verb::Edit => edit::run(&context),
        Verb::History(args) => stored::history(&context, &args),
        Verb::Show(args) => stored::show(&context, &args),
        Verb::Logs(args) => stored::logs(&context, &args),
        Verb::Audit(args) => audit::run(&context, &args),
        Verb::Why(args) => why::run(&context, &args),
        Verb::Verify(mut args) => {
            let local = elsewhere::local(&context, &args.file)?;
            args.file.clone_from(&local.path);
            verify::run(&context, &args)
        }
        Verb::Restore(mut what) => {
            let local = elsewhere::local(&context, what.file())?;
            what.file().clone_from(&local.path);
            restore::run(&context, &what)
        }
        Verb::Backups(args) => backups::run(&context, &args),
        Verb::Completions(args) => completions::run(&args),
        Verb::Man => man::run(),
        Verb::Check(CheckArgs { no_host, json }) => {
            let options = check::Options { no_host, json: json.wanted };
            Ok(check::check(&context.file(), options, &mut output::data(), &mut std::io::stderr())?)
        }
        Verb::Schema => {
            schema::schema(&mut output::data())?;
            Ok(failure::code::DONE)
        }
    }
}
