//! The daemon's own log: standard error, which systemd's journal takes, and `_daemon.log` beside the jobs' logs.

use std::cell::Cell;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};

use jiff::Timestamp;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::clock::{Clock, SystemClock};
use crate::logs::{DaemonLog, Format, Level, Logs, worded};

/// Begins to log what is told through `tracing`. Once a process.
pub(super) fn start(logs: &Logs) {
    let journal = Journal { log: DaemonLog::new(logs), destination: Destination::of_stderr() };
    // Fails only where one was started before.
    let _ = tracing_subscriber::registry().with(journal.with_filter(LevelFilter::INFO)).try_init();
}

struct Journal {
    log: DaemonLog,
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
            Level::Error => "<3>",
            Level::Warn => "<4>",
            Level::Info => "<6>",
        };
        let text = worded(level, text);
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
        let mut text = String::new();
        event.record(&mut Message(&mut text));
        let level = match *event.metadata().level() {
            tracing::Level::ERROR => Level::Error,
            tracing::Level::WARN => Level::Warn,
            _ => Level::Info,
        };
        let now = SystemClock.now();
        // Who collects it as a file or from a container reads what the files have; a person and journald don't.
        let line = match self.destination {
            Destination::Other if self.log.format() == Format::Json => self.log.json(now, level, &text),
            destination => destination.line(now, level, &text).into_bytes(),
        };
        // Nobody may be listening any more; that must not end the daemon.
        let _ = std::io::stderr().write_all(&line);
        if !WRITING.replace(true) {
            self.log.write(now, level, &text);
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
