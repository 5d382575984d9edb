//! The command line as types: the one table behind parsing, help, man page and completions.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::model::{Outcome, RunId};
use crate::units::HumanDuration;

#[derive(Debug, Parser)]
#[command(
    name = "punk-eco-sched",
    version,
    about = "Runs the jobs of jobs.yaml and keeps a record of every slot",
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = "Exit codes: 0 done; 1 the job failed, timed out or was cancelled, or the audit found a hole; 2 the command line or the file is \
                  wrong; 3 the daemon is needed and doesn't answer; 4 not run, since it runs already."
)]
pub struct Cli {
    /// The table of jobs [default: $PUNK_ECO_SCHED_CONFIG, /etc/punk-eco-sched/jobs.yaml, ./jobs.yaml]
    #[arg(long, global = true, value_name = "PATH", value_hint = clap::ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run in the foreground and run each job when it is due
    ///
    /// SIGTERM: take no more slots, give work in this process its grace, leave running programs to the next daemon.
    /// SIGINT: end those too, after the grace. SIGHUP: reload.
    Daemon(DaemonArgs),
    /// Find every problem in the file, then what this host lacks
    Check(CheckArgs),
    /// Show the jobs: kind, schedule, next slot, last outcome
    List(ListArgs),
    /// Show coming slots, of the table or of any expression
    ///
    /// Without JOB: the slots of all enabled jobs in the order of time. Times without an offset, and the local times
    /// shown, are in the zone of the schedule.
    Next(NextArgs),
    /// Run a job now and follow its log
    ///
    /// Through the daemon where one answers, by itself where none does, with the same ledger and locks. Pauses and
    /// `enabled` don't count, `overlap` does. Ctrl-C detaches; without a daemon it cancels.
    RunNow(RunNowArgs),
    /// Show what the daemon does now; exit code 3 where there is none
    Status(StatusArgs),
    /// Put the changed file into force; a wrong one is refused and the old table stays
    Reload,
    /// Stop taking the slots of a job, or of all, until resumed
    Pause(PauseArgs),
    /// End a pause
    Resume(ResumeArgs),
    /// End a run and every program it started
    Cancel(CancelArgs),
    /// Send a contact a test message by each of its ways; exit code 1 where one fails
    ///
    /// By the file as it is on the disk, with or without a daemon. The message says that nothing is wrong.
    AlertTest(AlertTestArgs),
    /// Edit the file in $VISUAL or $EDITOR, check it, and reload the daemon
    Edit,
    /// Show what became of slots and runs, newest first
    History(HistoryArgs),
    /// Show one run whole: attempts, report, findings, log
    Show(ShowArgs),
    /// Show a job's log; without --run of its latest run
    Logs(LogsArgs),
    /// Prove that every slot has its one row; exit code 1 and a list where not
    ///
    /// Slots are computed again from the tables that were in force. Judged up to the last instant that the ledger has
    /// accounted for; what a living daemon is more than 10 seconds behind with counts as unaccounted.
    Audit(AuditArgs),
    /// Tell what happened to a job at a time, and why
    ///
    /// By the table that was in force then, the ledger, and what the daemon noted of itself and of the clock.
    Why(WhyArgs),
    /// Read a backup whole and compare it with its manifest; exit code 1 and every reason where it differs
    ///
    /// Size, SHA-256, the rows of each table, the roles, names and closing comment. A custom dump is read through
    /// pg_restore. What was found is recorded in the manifest.
    Verify(VerifyArgs),
    /// Restore a backup beside what is there now
    #[command(subcommand)]
    Restore(Restore),
    /// Show which backups exist where: age, size, what has been proven of each, where copies are
    ///
    /// Of the directories of all jobs that make backups, by the manifests in them; needs no daemon. Exit code 1 where
    /// a directory can't be read.
    Backups(BackupsArgs),
    /// Print the JSON Schema of jobs.yaml
    Schema,
    /// Print shell completions
    Completions(CompletionsArgs),
    /// Print the manual page: `punk-eco-sched man | man -l -`
    Man,
}

#[derive(Debug, Args)]
pub struct DaemonArgs {
    /// How long work in this process may go on after SIGTERM or SIGINT
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    pub grace: HumanDuration,
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Look at the file alone
    #[arg(long)]
    pub no_host: bool,
    #[command(flatten)]
    pub json: Json,
}

#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    pub json: Json,
}

#[derive(Debug, Args)]
pub struct NextArgs {
    /// One job instead of all
    #[arg(value_name = "JOB")]
    pub job: Option<String>,
    /// Slots of this expression; needs no file
    #[arg(long, value_name = "EXPR", conflicts_with = "job", allow_hyphen_values = true)]
    pub expr: Option<String>,
    /// Its time zone [default: the system's]
    #[arg(long, value_name = "TZ", requires = "expr")]
    pub timezone: Option<String>,
    /// Slots after this time: 2026-03-28T22:00:00Z, `2026-03-28 22:00`, today, -2h, `2h ago`
    #[arg(long, value_name = "TIME", default_value = "now", allow_hyphen_values = true)]
    pub from: String,
    /// How many
    #[arg(short = 'n', value_name = "COUNT", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub count: u32,
    #[command(flatten)]
    pub json: Json,
}

#[derive(Debug, Args)]
pub struct RunNowArgs {
    /// The job's name
    #[arg(value_name = "JOB")]
    pub job: String,
    /// Return as soon as the run is accepted; needs the daemon
    #[arg(long)]
    pub detach: bool,
    /// Say what would be done and do nothing, where the kind can
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    pub json: Json,
}

#[derive(Debug, Args)]
pub struct PauseArgs {
    #[command(flatten)]
    pub scope: Scope,
    /// How long [default: until `resume`]
    #[arg(long = "for", value_name = "DURATION")]
    pub duration: Option<HumanDuration>,
}

#[derive(Debug, Args)]
pub struct ResumeArgs {
    #[command(flatten)]
    pub scope: Scope,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Scope {
    /// The job's name
    #[arg(value_name = "JOB")]
    pub job: Option<String>,
    /// Every job
    #[arg(long)]
    pub all: bool,
}

#[derive(Debug, Args)]
pub struct CancelArgs {
    /// The run's number, as `status` and `history` show it
    #[arg(value_name = "RUN", value_parser = run_id)]
    pub run: RunId,
}

#[derive(Debug, Args)]
pub struct AlertTestArgs {
    /// The contact's name in the file
    #[arg(value_name = "CONTACT")]
    pub contact: String,
}

#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// One job instead of all
    #[arg(value_name = "JOB")]
    pub job: Option<String>,
    /// How many; default: 20, and with --json all
    #[arg(short = 'n', value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub count: Option<u32>,
    /// running, succeeded, failed, timed_out, cancelled, interrupted or skipped
    #[arg(long, value_name = "OUTCOME", value_parser = outcome)]
    pub outcome: Option<Outcome>,
    /// Not before this time: `2026-03-28`, `2026-03-28 22:00`, yesterday, 2h or `2h ago`
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub since: Option<String>,
    #[command(flatten)]
    pub json: Json,
}

#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The run's number
    #[arg(value_name = "RUN", value_parser = run_id)]
    pub run: RunId,
    #[command(flatten)]
    pub json: Json,
}

#[derive(Debug, Args)]
pub struct LogsArgs {
    /// The job's name
    #[arg(value_name = "JOB")]
    pub job: String,
    /// Another run than the latest
    #[arg(long, value_name = "RUN", value_parser = run_id)]
    pub run: Option<RunId>,
    /// Go on with what is written from now on
    #[arg(short, long)]
    pub follow: bool,
    /// The last lines only
    #[arg(short = 'n', value_name = "LINES")]
    pub lines: Option<usize>,
    #[command(flatten)]
    pub json: Json,
}

#[derive(Debug, Args)]
pub struct AuditArgs {
    /// One job instead of all
    #[arg(value_name = "JOB")]
    pub job: Option<String>,
    /// Slots not before this time: `2026-03-28`, `2026-03-28 22:00`, yesterday, 2h or `2h ago`
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub since: Option<String>,
    /// Slots not after this time
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub until: Option<String>,
    #[command(flatten)]
    pub json: Json,
}

#[derive(Debug, Args)]
pub struct WhyArgs {
    /// The job's name
    #[arg(value_name = "JOB")]
    pub job: String,
    /// `2026-11-22 03:00` in the job's zone, 03:00 of today, 2026-11-22T03:00:00Z, 2h or `2h ago`
    #[arg(value_name = "TIME", allow_hyphen_values = true)]
    pub time: String,
    #[command(flatten)]
    pub json: Json,
}

#[derive(Debug, Args)]
pub struct BackupsArgs {
    #[command(flatten)]
    pub json: Json,
}

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The dump; its manifest lies beside it
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub file: PathBuf,
    /// The keys that open it where it is encrypted, as age-keygen writes them
    #[arg(long, value_name = "KEYFILE", value_hint = clap::ValueHint::FilePath)]
    pub identity: Option<PathBuf>,
    /// Say what would be done and do nothing
    #[arg(long)]
    pub plan: bool,
    #[command(flatten)]
    pub json: Json,
}

#[derive(Debug, Subcommand)]
pub enum Restore {
    /// Restore a dump into a new database, count its rows, and put it in the place of the old one with --swap
    ///
    /// Prints its plan first. A dump without a manifest (.sql, .sql.gz, .sql.zst, or of pg_dump --format=custom) is
    /// restored too. With --swap the old database stays as NAME_before_TIME.
    Db(RestoreDbArgs),
    /// Restore an archive's files into a folder; the one that is there is kept under another name
    ///
    /// Prints its plan first. Everything is unpacked beside the folder and compared with the manifest before it takes
    /// the folder's place; the old one stays as DIR.before-TIME. An archive of one folder becomes DIR itself, any other
    /// lies in DIR with whole paths. A .tar, .tar.gz or .tar.zst without a manifest is restored too.
    Files(RestoreFilesArgs),
}

impl Restore {
    /// The backup.
    pub(super) fn file(&mut self) -> &mut PathBuf {
        match self {
            Self::Db(args) => &mut args.file,
            Self::Files(args) => &mut args.file,
        }
    }
}

#[derive(Debug, Args)]
pub struct RestoreDbArgs {
    /// The dump; its manifest and its roles lie beside it
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub file: PathBuf,
    /// The entry of `postgres:` whose server and database are meant
    #[arg(long, value_name = "NAME")]
    pub connection: String,
    /// The new database's name [default: DATABASE_restored_TIME]
    #[arg(long, value_name = "NAME")]
    pub into: Option<String>,
    /// Give it the name of the connection's database, which is kept under another
    #[arg(long)]
    pub swap: bool,
    /// Say what would be done and do nothing
    #[arg(long)]
    pub plan: bool,
    /// The keys that open it where it is encrypted, as age-keygen writes them
    #[arg(long, value_name = "KEYFILE", value_hint = clap::ValueHint::FilePath)]
    pub identity: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct RestoreFilesArgs {
    /// The archive; its manifest lies beside it
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub file: PathBuf,
    /// The folder that takes the files, there or not
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub into: PathBuf,
    /// Say what would be done and do nothing
    #[arg(long)]
    pub plan: bool,
    /// The keys that open it where it is encrypted, as age-keygen writes them
    #[arg(long, value_name = "KEYFILE", value_hint = clap::ValueHint::FilePath)]
    pub identity: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    pub shell: clap_complete::Shell,
}

#[derive(Clone, Copy, Debug, Args)]
pub struct Json {
    /// Print one JSON document
    #[arg(long = "json")]
    pub wanted: bool,
}

fn run_id(text: &str) -> Result<RunId, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(RunId(number)),
        _ => Err("a run is a number, as `punk-eco-sched history` shows it".into()),
    }
}

fn outcome(text: &str) -> Result<Outcome, String> {
    Outcome::from_word(text).ok_or_else(|| {
        let words: Vec<&str> = Outcome::ALL.iter().map(|outcome| outcome.word()).collect();
        format!("use one of {}", words.join(", "))
    })
}
