//! `run-now JOB`: runs a job and follows its log, through the daemon or, where none answers, in this process.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use signal_hook::consts::SIGINT;
use tokio::signal::unix::SignalKind;

use super::Context;
use super::args::RunNowArgs;
use super::failure::{Failure, code};
use super::output::{self, Colour, Data, Paint};
use crate::api::client::{Client, ClientError, Followed};
use crate::api::{Control, RunEvent};
use crate::clock::SystemClock;
use crate::config::Environment;
use crate::daemon::{Occupied, standalone};
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
    let code = own.runtime().block_on(follow(own.control(), args, || own.claimed()));
    own.close();
    code
}

/// Runs the job through a [`Control`] of this process and follows it; Ctrl-C cancels it, as does whatever else
/// asks this process to end. `claimed` is called once the run is.
///
/// # Errors
/// What the control refuses.
async fn follow(control: Arc<dyn Control>, args: &RunNowArgs, claimed: impl FnOnce()) -> Result<u8, Failure> {
    let by = crate::api::name_of(rustix::process::getuid().as_raw());
    // Installed before the run is, so that no interrupt leaves one behind.
    let listen = |kind| tokio::signal::unix::signal(kind).map_err(anyhow::Error::from);
    let mut interrupts = listen(SignalKind::interrupt())?;
    let mut terminations = listen(SignalKind::terminate())?;
    let mut hangups = listen(SignalKind::hangup())?;
    let mut started = control.run_now(&args.job, args.dry_run, &by).await?;
    claimed();
    let mut printer = Printer::new(&args.job, started.run);
    let mut code = None;
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
                printer.say(Colour::Yellow, "cancelling").or_else(unread)?;
                // It may have ended in this instant: then its end is on its way to us.
                let _ = control.cancel(started.run, &by).await;
            }
        }
    }
    code.ok_or_else(|| {
        Failure::new(code::FAILED, format!("run {} ended without a word", started.run))
            .hint(format!("`punk-eco-sched show {}` tells what became of it", started.run))
    })
}

fn unread(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) }
}

/// Lines of standard output are data, everything else is a message.
struct Printer<'a> {
    job: &'a str,
    run: RunId,
    out: Data,
    paint: Paint,
}

impl<'a> Printer<'a> {
    fn new(job: &'a str, run: RunId) -> Self {
        Self { job, run, out: output::data(), paint: Paint::stderr() }
    }

    /// The exit code, where this was the end.
    fn event(&mut self, event: &RunEvent) -> io::Result<Option<u8>> {
        match event {
            RunEvent::Waiting(what) => self.say(Colour::Yellow, &format!("waiting {what}"))?,
            RunEvent::Line(line) => match line.stream {
                Stream::Stdout => writeln!(self.out, "{}", line.text)?,
                // Two streams on one terminal must keep their order.
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
        self.flush()?;
        output::message(self.paint.on(colour, text));
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
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
    struct Alone {
        ended: Option<Outcome>,
        log: Mutex<Option<UnboundedSender<RunEvent>>>,
    }

    fn end(outcome: Outcome) -> RunEvent {
        RunEvent::Ended { outcome, reason: None, summary: None, error: None }
    }

    #[async_trait]
    impl Control for Alone {
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

    fn code_of(job: &str, ended: Option<Outcome>) -> Result<u8, Failure> {
        let Verb::RunNow(args) = verb(&format!("run-now {job}")) else { panic!("{job}") };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(follow(Arc::new(Alone { ended, log: Mutex::default() }), &args, || ()))
    }

    #[test]
    fn without_a_daemon_the_exit_code_is_the_runs_and_an_interrupt_cancels_it() {
        assert_eq!(code_of("a", Some(Outcome::Succeeded)), Ok(0));
        assert_eq!(code_of("a", Some(Outcome::TimedOut)), Ok(1));
        assert_eq!(code_of("a", None), Ok(1));
        assert_eq!(code_of("b", None), Err(Failure::new(4, "not run: b runs already (run 6)")));
    }
}
