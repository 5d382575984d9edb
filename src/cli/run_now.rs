//! `run-now JOB`: runs a job and follows its log, through the daemon or, where none answers, in this process.

use std::io::{self, BufWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tokio::signal::unix::SignalKind;

use super::Context;
use super::args::RunNowArgs;
use super::failure::{Failure, code};
use super::output::{self, Colour, Data, Paint};
use crate::api::client::{Client, ClientError, Followed};
use crate::api::{Control, RunEvent};
use crate::clock::SystemClock;
use crate::config::Environment;
use crate::daemon::{Occupied, living, standalone};
use crate::ledger::Ledger;
use crate::logs::Stream;
use crate::model::{Outcome, RunId};

pub(super) fn run(context: &Context, args: &RunNowArgs) -> Result<u8, Failure> {
    match context.connect()? {
        Ok(daemon) if args.detach => detached(daemon, args),
        Ok(daemon) => followed(daemon, args),
        Err(error @ ClientError::NoDaemon { .. }) if args.detach => {
            Err(Failure::from(error).hint("without --detach the job runs in this process"))
        }
        Err(ClientError::NoDaemon { .. }) => by_itself(context, args),
        Err(error) => Err(error.into()),
    }
}

fn detached(mut daemon: Client, args: &RunNowArgs) -> Result<u8, Failure> {
    let run = daemon.run_now(&args.job, args.dry_run, false)?;
    output::message(format!(
        "run {run} of {} was started: `punk-eco-sched show {run}` tells of it",
        args.job
    ));
    Ok(code::DONE)
}

fn followed(mut daemon: Client, args: &RunNowArgs) -> Result<u8, Failure> {
    let run = daemon.run_now(&args.job, args.dry_run, true)?;
    // From here on an interrupt means: stop looking. Before, it ended us, as nothing had been started.
    let (wake, interrupt) = UnixStream::pair().map_err(anyhow::Error::from)?;
    signal_hook::low_level::pipe::register(SIGINT, OwnedFd::from(interrupt)).map_err(anyhow::Error::from)?;
    let mut printer = Printer::new(&args.job, run);
    loop {
        if !daemon.has_more() {
            printer.flush()?;
        }
        match daemon.next_event(wake.as_fd())? {
            Followed::Event(event) => {
                if let Some(code) = printer.event(&event)? {
                    return Ok(code);
                }
            }
            Followed::Lost(count) => {
                printer.say(
                    Colour::Yellow,
                    &format!("{count} lines are left out here: the log file has them"),
                )?;
            }
            Followed::Woken => {
                let text = format!(
                    "run {run} goes on: `punk-eco-sched cancel {run}` ends it, `punk-eco-sched logs {} -f` follows it",
                    args.job
                );
                printer.say(Colour::Bold, &text)?;
                return Ok(code::DONE);
            }
            Followed::Closed => {
                printer.flush()?;
                let message = format!("the daemon ended while run {run} was under way");
                let hint = format!("`punk-eco-sched show {run}` tells what became of it");
                return Err(Failure::new(code::NO_DAEMON, message).hint(hint));
            }
        }
    }
}

/// The job in this process, with the same ledger and locks as a daemon's.
fn by_itself(context: &Context, args: &RunNowArgs) -> Result<u8, Failure> {
    let table = context.table()?;
    if table.job(&args.job).is_none() {
        return Err(super::unknown_job(&args.job, table.jobs.iter().map(|job| job.name.as_str())));
    }
    let environment = Environment::of_process(&SystemClock);
    let own = standalone(&context.file(), environment, table, Arc::new(SystemClock)).map_err(|error| {
        let code = if error.is::<Occupied>() { code::NO_DAEMON } else { code::FAILED };
        Failure::new(code, format!("{error:#}"))
    })?;
    let followed = own.runtime().block_on(follow(own.control(), args, || own.claimed()));
    own.close();
    match followed? {
        Alone::Ended(code) => Ok(code),
        Alone::Left { run, cancel } => left_to_daemon(context, args, run, cancel),
    }
}

/// What became of a run in this process.
#[derive(Debug, PartialEq)]
enum Alone {
    /// With this exit code.
    Ended(u8),
    /// A daemon came while it waited, and has it now. `cancel`: somebody asked for its end too late.
    Left { run: RunId, cancel: bool },
}

/// Waits for the end of a run that waited here until a daemon came, as the ledger tells it.
fn left_to_daemon(context: &Context, args: &RunNowArgs, run: RunId, cancel: bool) -> Result<u8, Failure> {
    /// Between two looks at the ledger.
    const LOOK: Duration = Duration::from_millis(200);
    let (mut wake, interrupt) = UnixStream::pair().map_err(anyhow::Error::from)?;
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        let interrupt = interrupt.try_clone().map_err(anyhow::Error::from)?;
        signal_hook::low_level::pipe::register(signal, OwnedFd::from(interrupt))
            .map_err(anyhow::Error::from)?;
    }
    wake.set_read_timeout(Some(LOOK)).map_err(anyhow::Error::from)?;
    let mut printer = Printer::new(&args.job, run);
    let text = format!(
        "run {run} waits in the daemon, which has come meanwhile: `punk-eco-sched logs {} -f` follows it",
        args.job
    );
    printer.say(Colour::Yellow, &text)?;
    printer.flush()?;
    if cancel && let Ok(mut daemon) = context.connect()? {
        // It may have ended just now.
        let _ = daemon.cancel(run);
    }
    loop {
        // Asked first: what a daemon wrote before it ended counts.
        let lives = living(&context.paths().state).is_some();
        let record = context.ledger()?.map(|ledger| ledger.run(run)).transpose();
        let record = record.map_err(anyhow::Error::from)?.flatten();
        if let Some(record) = record.filter(|record| record.outcome != Outcome::Running) {
            let error = record.attempts.last().and_then(|attempt| attempt.error.clone());
            let (outcome, reason, summary) = (record.outcome, record.reason, record.summary);
            let end = RunEvent::Ended { outcome, reason, summary, error };
            return Ok(printer.event(&end)?.unwrap_or(code::FAILED));
        }
        if !lives {
            let message = format!("run {run} was left to a daemon, which has ended");
            let hint =
                format!("the next one goes on with it: `punk-eco-sched show {run}` tells what became of it");
            return Err(Failure::new(code::NO_DAEMON, message).hint(hint));
        }
        if matches!(wake.read(&mut [0]), Ok(1)) {
            let text = format!("run {run} goes on: `punk-eco-sched cancel {run}` ends it");
            printer.say(Colour::Bold, &text)?;
            return Ok(code::DONE);
        }
    }
}

/// Runs the job through a [`Control`] of this process and follows it; Ctrl-C cancels it, as does whatever else
/// asks this process to end. `claimed` is called once the run is.
///
/// # Errors
/// What the control refuses.
async fn follow(
    control: Arc<dyn Control>,
    args: &RunNowArgs,
    claimed: impl FnOnce(),
) -> Result<Alone, Failure> {
    let by = crate::api::name_of(rustix::process::getuid().as_raw());
    // Installed before the run is, so that no interrupt leaves one behind.
    let listen = |kind| tokio::signal::unix::signal(kind).map_err(anyhow::Error::from);
    let mut interrupts = listen(SignalKind::interrupt())?;
    let mut terminations = listen(SignalKind::terminate())?;
    let mut hangups = listen(SignalKind::hangup())?;
    let mut started = control.run_now(&args.job, args.dry_run, &by).await?;
    claimed();
    let mut printer = Printer::new(&args.job, started.run);
    let (mut code, mut cancel) = (None, false);
    loop {
        if started.events.is_empty() {
            printer.flush().or_else(unread)?;
        }
        tokio::select! {
            event = started.events.recv() => {
                let Some(event) = event else { break };
                // A reader that has gone (`| head`) must not end the job half-way.
                code = code.or(printer.event(&event).or_else(|error| unread(error).map(|()| None))?);
            }
            () = async {
                tokio::select! {
                    _ = interrupts.recv() => {}
                    _ = terminations.recv() => {}
                    _ = hangups.recv() => {}
                }
            } => {
                cancel = true;
                printer.say(Colour::Yellow, "cancelling").or_else(unread)?;
                // It may have ended in this instant: then its end is on its way to us.
                let _ = control.cancel(started.run, &by).await;
            }
        }
    }
    Ok(code.map_or(Alone::Left { run: started.run, cancel }, Alone::Ended))
}

fn unread(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) }
}

/// Lines of standard output are data, everything else is a message.
struct Printer<'a> {
    job: &'a str,
    run: RunId,
    out: Data,
    /// Messages that are not shown yet: a clean-up says hundreds of thousands.
    messages: BufWriter<io::Stderr>,
    paint: Paint,
}

impl<'a> Printer<'a> {
    fn new(job: &'a str, run: RunId) -> Self {
        let messages = BufWriter::with_capacity(64 * 1024, io::stderr());
        Self { job, run, out: output::data(), messages, paint: Paint::stderr() }
    }

    /// The exit code, where this was the end.
    fn event(&mut self, event: &RunEvent) -> io::Result<Option<u8>> {
        match event {
            RunEvent::Waiting(what) => self.say(Colour::Yellow, &format!("waiting {what}"))?,
            RunEvent::Line(line) => match line.stream {
                // Two streams on one terminal must keep their order.
                Stream::Stdout => {
                    self.flush_messages();
                    writeln!(self.out, "{}", line.text)?;
                }
                Stream::Stderr => self.say(Colour::Red, &line.text)?,
                Stream::Note => self.say(Colour::Dim, &line.text)?,
            },
            RunEvent::Ended { outcome, reason, summary, error } => {
                let (colour, code) = match (outcome, reason.as_deref()) {
                    (Outcome::Succeeded, _) => (Colour::Green, code::DONE),
                    (Outcome::Skipped, Some("overlap")) => (Colour::Yellow, code::RUNS_ALREADY),
                    _ => (Colour::Red, code::FAILED),
                };
                self.flush()?;
                // What a check has found is both.
                let summary = &summary.clone().filter(|summary| error.as_ref() != Some(summary));
                output::message(ending(
                    self.paint.on(colour, outcome.word()),
                    self.job,
                    self.run,
                    [reason, error, summary],
                ));
                return Ok(Some(code));
            }
        }
        Ok(None)
    }

    fn say(&mut self, colour: Colour, text: &str) -> io::Result<()> {
        self.out.flush()?;
        // As with `output::message`: with standard error gone there is nobody left to tell.
        let _ = writeln!(self.messages, "{}", self.paint.on(colour, text));
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flush_messages();
        self.out.flush()
    }

    fn flush_messages(&mut self) {
        let _ = self.messages.flush();
    }
}

/// `db-backup succeeded (run 812): dumped punk_eco`
fn ending(outcome: String, job: &str, run: RunId, details: [&Option<String>; 3]) -> String {
    let mut text = format!("{job} {outcome} (run {run})");
    for detail in details.into_iter().flatten().filter(|detail| !detail.is_empty()) {
        text.push_str(": ");
        text.push_str(detail);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use jiff::Timestamp;
    use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

    use super::*;
    use crate::api::{Refused, Reloaded, Started, Status};
    use crate::cli::args::Verb;
    use crate::cli::testing::verb;

    /// One run, which ends as the test says, or as cancelled once it is.
    #[derive(Default)]
    struct OneRun {
        ended: Option<Outcome>,
        log: Mutex<Option<UnboundedSender<RunEvent>>>,
    }

    fn end(outcome: Outcome) -> RunEvent {
        RunEvent::Ended { outcome, reason: None, summary: None, error: None }
    }

    #[async_trait]
    impl Control for OneRun {
        async fn run_now(&self, job: &str, _dry_run: bool, _by: &str) -> Result<Started, Refused> {
            if job != "a" {
                return Err(Refused::RunsAlready { job: job.into(), run: RunId(6) });
            }
            let (tell, events) = unbounded_channel();
            match self.ended {
                Some(outcome) => tell.send(end(outcome)).unwrap(),
                None => {
                    *self.log.lock().unwrap() = Some(tell);
                    let me = rustix::process::getpid();
                    rustix::process::kill_process(me, rustix::process::Signal::INT).unwrap();
                }
            }
            Ok(Started { run: RunId(7), events })
        }

        async fn cancel(&self, run: RunId, _by: &str) -> Result<(), Refused> {
            assert_eq!(run, RunId(7));
            self.log.lock().unwrap().take().unwrap().send(end(Outcome::Cancelled)).unwrap();
            Ok(())
        }

        async fn pause(&self, _: Option<&str>, _: Option<Timestamp>, _: &str) -> Result<(), Refused> {
            unreachable!()
        }

        async fn resume(&self, _: Option<&str>, _: &str) -> Result<(), Refused> {
            unreachable!()
        }

        async fn reload(&self, _: &str) -> Result<Reloaded, Refused> {
            unreachable!()
        }

        async fn status(&self) -> Status {
            unreachable!()
        }
    }

    fn code_of(job: &str, ended: Option<Outcome>) -> Result<Alone, Failure> {
        let Verb::RunNow(args) = verb(&format!("run-now {job}")) else { panic!("{job}") };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(follow(Arc::new(OneRun { ended, log: Mutex::default() }), &args, || ()))
    }

    #[test]
    fn without_a_daemon_the_exit_code_is_the_runs_and_an_interrupt_cancels_it() {
        assert_eq!(code_of("a", Some(Outcome::Succeeded)), Ok(Alone::Ended(0)));
        assert_eq!(code_of("a", Some(Outcome::TimedOut)), Ok(Alone::Ended(1)));
        assert_eq!(code_of("a", None), Ok(Alone::Ended(1)));
        assert_eq!(code_of("b", None), Err(Failure::new(4, "not run: b runs already (run 6)")));
    }
}
