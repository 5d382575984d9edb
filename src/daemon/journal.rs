//! The daemon's own log: standard error, which systemd's journal takes, and `_daemon.log` beside the jobs' logs.
//!
//! No job can have that name: a job's begins with a letter or a digit.

use std::cell::Cell;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::path::Path;

use jiff::Timestamp;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::clock::{Clock, SystemClock};
use crate::logs::{self, Logs, RunLog};
use crate::model::{JobName, RunId};

/// Begins to log what is told through `tracing`. Once a process.
pub(super) fn start(directory: &Path, settings: logs::Settings) {
    let file = Logs::new(directory, settings).run(&JobName::daemon(), RunId(0));
    let journal = Journal { file, destination: Destination::of_stderr() };
    // Fails only where one was started before.
    let _ = tracing_subscriber::registry().with(journal.with_filter(LevelFilter::INFO)).try_init();
}

struct Journal {
    file: RunLog,
    destination: Destination,
}

/// Where standard error leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Destination {
    Terminal,
    /// Has the time of each line already, and wants to know which ones matter: sd-daemon(3), `journalctl -p err`.
    Journald,
    Other,
}

impl Destination {
    fn of_stderr() -> Self {
        let stderr = std::io::stderr();
        if stderr.is_terminal() {
            return Self::Terminal;
        }
        // systemd.exec(5): the variable is inherited, also by who writes elsewhere.
        let named = std::env::var("JOURNAL_STREAM").unwrap_or_default();
        match rustix::fs::fstat(&stderr) {
            Ok(stat) if named == format!("{}:{}", stat.st_dev, stat.st_ino) => Self::Journald,
            _ => Self::Other,
        }
    }

    fn line(self, now: Timestamp, level: Level, text: &str) -> String {
        let priority = match level {
            Level::ERROR => "<3>",
            Level::WARN => "<4>",
            _ => "<6>",
        };
        match self {
            Self::Terminal => format!("{now:.3} {text}\n"),
            Self::Journald => text.lines().map(|line| format!("{priority}{line}\n")).collect(),
            Self::Other => format!("{text}\n"),
        }
    }
}

thread_local! {
    /// That the log can't be written is told through the log, too.
    static WRITING: Cell<bool> = const { Cell::new(false) };
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = match *event.metadata().level() {
            Level::ERROR => "error: ".to_owned(),
            Level::WARN => "warning: ".to_owned(),
            _ => String::new(),
        };
        event.record(&mut Message(&mut text));
        let now = SystemClock.now();
        let line = self.destination.line(now, *event.metadata().level(), &text);
        // Nobody may be listening any more; that must not end the daemon.
        let _ = std::io::stderr().write_all(line.as_bytes());
        if !WRITING.replace(true) {
            self.file.note(now, &text);
            WRITING.set(false);
        }
    }
}

struct Message<'a>(&'a mut String);

impl Visit for Message<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}
