//! Plays a seed: a random table, random faults, then peace, an orderly end, and the checker.

use std::path::Path;
use std::time::{Duration, Instant};

use punk_eco_sched::model::RunId;
use rustix::process::Signal;

use crate::checker;
use crate::host::Host;
use crate::random::Random;
use crate::table::{BEGINNINGS, Table};
use crate::timeline::What;
use crate::warp::Offsets;

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

/// How many faults a seed is at least; time that passes between them doesn't count.
const FAULTS: usize = 60;

/// What is wrong, if anything.
pub(crate) fn play(dir: &Path, seed: u64, real: bool) -> Result<Vec<String>, String> {
    let mut driver = Driver::new(dir, seed, real);
    let played = driver.run();
    driver.host.keep_timeline();
    if let Err(problem) = played {
        driver.host.keep_ledger();
        return Err(problem);
    }
    let left = driver.host.processes();
    let ledger = driver.host.keep_ledger();
    let mut told = checker::check(&checker::Found {
        ledger: &ledger,
        evidence: &std::fs::read_to_string(dir.join("evidence")).unwrap(),
        timeline: &driver.host.timeline,
    });
    told.extend(driver.host.audit().into_iter().map(|line| format!("the audit: {line}")));
    told.extend(left.into_iter().map(|(pid, command)| format!("left alive: {pid} {command}")));
    Ok(told)
}

struct Driver {
    host: Host,
    random: Random,
    /// As the file has it.
    table: Table,
    program: std::path::PathBuf,
    paused: Vec<Option<String>>,
    far: bool,
    real: bool,
}

impl Driver {
    fn new(dir: &Path, seed: u64, real: bool) -> Self {
        let mut random = Random::new(seed.wrapping_mul(2).wrapping_add(u64::from(real)));
        let table = Table::random(&mut random, real);
        if !real {
            let beginning: jiff::Timestamp = random.pick(BEGINNINGS).parse().unwrap();
            let wall = beginning.as_microsecond() - Offsets::default().now();
            // The host is up for a day already, so that none of its clocks is ever below zero.
            Offsets { wall, boot: 24 * HOUR, awake: 24 * HOUR }.write(dir);
        }
        let program = std::env::current_exe().unwrap();
        let host = Host::new(dir, real);
        let far = random.percent(12);
        Self { host, random, table, program, paused: vec![], far, real }
    }

    fn run(&mut self) -> Result<(), String> {
        self.write_table();
        self.start()?;
        while self.host.faults() < FAULTS {
            self.fault()?;
            if self.random.percent(60) {
                self.breathe(25);
            }
        }
        self.settle()
    }

    fn fault(&mut self) -> Result<(), String> {
        match self.random.between(0, 99) {
            0..=27 => self.let_time_pass(),
            28..=34 => self.kill(),
            35..=39 => self.kill_when_due(),
            40..=42 => self.kill_spawner(),
            43..=49 => self.freeze(),
            50..=54 => self.stop(),
            55..=61 => self.reload(),
            62..=63 => self.reload_badly(),
            64..=69 => self.pause_or_resume(),
            70..=75 => self.run_now(),
            76..=79 => self.cancel(),
            80..=84 if !self.real => self.step(),
            85..=90 if !self.real => self.set_back(),
            91..=94 if !self.real => self.suspend(),
            95..=97 => self.fill_disk(),
            98..=99 => self.host.try_second_daemon(),
            _ => self.let_time_pass(),
        }
    }

    fn start(&mut self) -> Result<(), String> {
        let jobs = self.table.jobs.clone();
        self.host.spawn(&jobs);
        self.host.wait_until_ready()
    }

    fn write_table(&mut self) {
        let text = self.table.text(&self.host.dir, &self.program);
        std::fs::write(self.host.dir.join("jobs.yaml"), text).unwrap();
    }

    /// Real time.
    fn breathe(&mut self, most: i64) {
        let milliseconds = self.random.between(0, most);
        std::thread::sleep(Duration::from_millis(milliseconds.unsigned_abs()));
    }

    /// Time passes: as it does in the real mode, at once in the manual one.
    fn advance(&mut self, by: i64, how: &str) {
        if self.real {
            self.breathe(1500);
        } else {
            self.host.jump(by, by, by, how);
        }
    }

    fn some_time(&mut self) -> i64 {
        match self.random.between(0, 99) {
            0..=29 => self.random.between(1, 9 * SECOND),
            30..=64 => self.random.between(10 * SECOND, 6 * MINUTE),
            65..=84 => self.random.between(6 * MINUTE, 70 * MINUTE),
            85..=96 => self.random.between(HOUR, 8 * HOUR),
            97..=98 => self.random.between(20 * HOUR, 50 * HOUR),
            _ if std::mem::take(&mut self.far) => self.random.between(31 * 24 * HOUR, 40 * 24 * HOUR),
            _ => HOUR,
        }
    }

    fn let_time_pass(&mut self) -> Result<(), String> {
        if self.random.percent(50) && self.advance_to_next_slot()? {
            return self.host.sync();
        }
        let by = self.some_time();
        self.advance(by, "advance");
        self.host.sync()
    }

    /// False where there is none.
    fn advance_to_next_slot(&mut self) -> Result<bool, String> {
        let status = self.host.client()?.status().map_err(|error| error.to_string())?;
        let Some(next) = status.next else { return Ok(false) };
        let late = self.random.between(0, 2 * SECOND);
        let by = next.slot.as_microsecond() - self.host.now() + late;
        if !(0..3 * 24 * HOUR).contains(&by) {
            return Ok(false);
        }
        self.advance(by, "to the next slot");
        Ok(true)
    }

    fn kill(&mut self) -> Result<(), String> {
        let spawner_too = self.random.percent(20);
        self.host.signal(Signal::KILL);
        if spawner_too {
            self.host.kill_spawners();
        }
        self.host.reap("killed")?;
        self.start_again()
    }

    fn kill_when_due(&mut self) -> Result<(), String> {
        if !self.advance_to_next_slot()? {
            return Ok(());
        }
        let pause = self.random.between(0, 12_000);
        std::thread::sleep(Duration::from_micros(pause.unsigned_abs()));
        self.host.signal(Signal::KILL);
        self.host.reap("killed when slots were due")?;
        self.start_again()
    }

    /// Whatever happens between two daemons.
    fn start_again(&mut self) -> Result<(), String> {
        if self.random.percent(50) {
            let by = self.some_time();
            self.advance(by, "nobody there");
        }
        if !self.real && self.random.percent(10) {
            let by = self.step_size();
            self.host.jump(by, 0, 0, "step, nobody there");
        }
        if self.random.percent(25) {
            self.change_table();
        }
        if self.random.percent(25) {
            self.run_alone();
        }
        // One that dies at once, wherever it had got to.
        while self.random.percent(15) {
            let jobs = self.table.jobs.clone();
            self.host.spawn(&jobs);
            let pause = self.random.between(0, 60_000);
            std::thread::sleep(Duration::from_micros(pause.unsigned_abs()));
            self.host.signal(Signal::KILL);
            self.host.reap("killed at its start")?;
        }
        self.start()
    }

    /// A `run-now` where no daemon answers: it is killed, or the next daemon comes up beside it. That only where nobody
    /// minds a second run: neither of the two processes sees what the other begins from then on.
    fn run_alone(&mut self) {
        let job = self.random.pick(&self.table.jobs).clone();
        self.host.run_alone(&job.name);
        self.breathe(120);
        if job.overlap != "allow" || job.group.is_some() || self.random.percent(30) {
            self.host.kill_alone();
        }
    }

    fn kill_spawner(&mut self) -> Result<(), String> {
        self.host.kill_spawners();
        self.breathe(30);
        self.host.sync()
    }

    fn freeze(&mut self) -> Result<(), String> {
        self.host.signal(Signal::STOP);
        self.host.frozen = true;
        std::thread::sleep(Duration::from_millis(2));
        self.host.record(self.host.now(), What::Frozen);
        let by = self.some_time();
        self.advance(by, "while it was stopped");
        if !self.real && self.random.percent(15) {
            let by = self.step_size();
            self.host.jump(by, 0, 0, "step, while it was stopped");
        }
        if self.random.percent(20) {
            self.host.signal(Signal::KILL);
            self.host.reap("killed while it was stopped")?;
            return self.start_again();
        }
        self.host.record(self.host.now(), What::Thawed);
        self.host.signal(Signal::CONT);
        self.host.frozen = false;
        self.host.sync()
    }

    fn stop(&mut self) -> Result<(), String> {
        let signal = *self.random.pick(&[Signal::TERM, Signal::TERM, Signal::INT]);
        self.host.signal(signal);
        self.host.reap(if signal == Signal::INT { "interrupted" } else { "terminated" })?;
        self.start_again()
    }

    fn change_table(&mut self) {
        for _ in 0..self.random.between(1, 3) {
            let said = self.table.change(&mut self.random, self.real);
            self.host.note(said);
        }
        self.write_table();
    }

    fn reload(&mut self) -> Result<(), String> {
        self.change_table();
        let wall = self.host.now();
        self.host.client()?.reload().map_err(|error| format!("the reload: {error}"))?;
        let (jobs, until) = (self.table.jobs.clone(), self.host.now());
        self.host.record(wall, What::Reloaded { jobs, until });
        self.host.sync()
    }

    fn reload_badly(&mut self) -> Result<(), String> {
        let bad = *self.random.pick(&["jobs: {}\n", "jobs:\n  a: { schedule: '61 * * * *' }\n", "\u{0}", ""]);
        std::fs::write(self.host.dir.join("jobs.yaml"), bad).unwrap();
        let answer = self.host.client()?.reload();
        self.write_table();
        if answer.is_ok() {
            return Err(format!("a bad file was taken: {bad:?}"));
        }
        self.host.record(self.host.now(), What::BadReload);
        self.host.sync()
    }

    fn pause_or_resume(&mut self) -> Result<(), String> {
        if !self.paused.is_empty() && self.random.percent(70) {
            return self.resume();
        }
        let job = (!self.random.percent(25)).then(|| self.random.pick(&self.table.jobs).name.clone());
        self.pause(job.clone())?;
        if !self.paused.contains(&job) {
            self.paused.push(job);
        }
        Ok(())
    }

    fn pause(&mut self, job: Option<String>) -> Result<(), String> {
        let (wall, after) = (self.host.now(), self.host.last_row());
        self.host.client()?.pause(job.as_deref(), None).map_err(|error| format!("the pause: {error}"))?;
        let by = self.host.last_row();
        self.host.record(wall, What::Paused { job, after, by });
        Ok(())
    }

    fn resume(&mut self) -> Result<(), String> {
        let Some(job) = self.paused.pop() else { return Ok(()) };
        let (wall, after) = (self.host.now(), self.host.last_row());
        let answer = self.host.client()?.resume(job.as_deref());
        // Its job may be gone from the table.
        let known = job.as_ref().is_none_or(|job| self.table.jobs.iter().any(|one| one.name == *job));
        if let Err(error) = answer
            && known
        {
            return Err(format!("the resume: {error}"));
        }
        let by = self.host.last_row();
        self.host.record(wall, What::Resumed { job, after, by });
        Ok(())
    }

    fn run_now(&mut self) -> Result<(), String> {
        let job = self.random.pick(&self.table.jobs).name.clone();
        let wall = self.host.now();
        // It may run already.
        if let Ok(RunId(run)) = self.host.client()?.run_now(&job, false, false) {
            self.host.record(wall, What::Manual { job, run });
        }
        Ok(())
    }

    fn cancel(&mut self) -> Result<(), String> {
        let status = self.host.client()?.status().map_err(|error| error.to_string())?;
        if status.running.is_empty() {
            return self.run_now();
        }
        let run = self.random.pick(&status.running).run;
        let wall = self.host.now();
        // It may have ended meanwhile.
        if self.host.client()?.cancel(run).is_ok() {
            self.host.record(wall, What::Cancelled { run: run.0 });
        }
        Ok(())
    }

    /// Far from what counts as small, either way.
    fn step_size(&mut self) -> i64 {
        let size = match self.random.between(0, 9) {
            0..=1 => self.random.between(SECOND, 9 * SECOND),
            2..=4 => self.random.between(12 * SECOND, 10 * MINUTE),
            5..=7 => self.random.between(10 * MINUTE, 3 * HOUR),
            _ => self.random.between(20 * HOUR, 26 * HOUR),
        };
        if self.random.percent(55) { -size } else { size }
    }

    fn step(&mut self) -> Result<(), String> {
        let by = self.step_size();
        self.host.jump(by, 0, 0, "step");
        self.host.sync()
    }

    /// The same hour twice: slots come, the clock goes back behind them, and they come again, to the same daemon or to
    /// one that finds the ledger ahead of the clock.
    fn set_back(&mut self) -> Result<(), String> {
        for _ in 0..self.random.between(1, 3) {
            self.some_minutes()?;
        }
        let by = -self.random.between(MINUTE, 25 * MINUTE);
        if self.random.percent(30) {
            self.host.signal(Signal::KILL);
            self.host.reap("killed before the clock was set back")?;
            self.host.jump(by, 0, 0, "step, nobody there");
            self.start()?;
        } else {
            self.host.jump(by, 0, 0, "step");
            self.host.sync()?;
        }
        for _ in 0..self.random.between(2, 6) {
            self.some_minutes()?;
            if self.random.percent(15) {
                self.host.signal(Signal::KILL);
                self.host.reap("killed after the clock was set back")?;
                self.start()?;
            }
        }
        Ok(())
    }

    fn some_minutes(&mut self) -> Result<(), String> {
        let by = self.random.between(MINUTE, 6 * MINUTE);
        self.advance(by, "advance");
        // What began is to end before the next slots, most often.
        self.breathe(12);
        self.host.sync()
    }

    fn suspend(&mut self) -> Result<(), String> {
        let by = self.some_time();
        self.host.jump(by, by, 0, "suspend");
        self.host.sync()
    }

    fn fill_disk(&mut self) -> Result<(), String> {
        if !self.host.small_disk {
            return self.let_time_pass();
        }
        self.host.fill_disk();
        for _ in 0..self.random.between(1, 3) {
            self.let_time_pass()?;
            self.breathe(20);
        }
        // Rows that wait in its memory go with it.
        if self.random.percent(40) {
            self.host.signal(Signal::KILL);
            self.host.reap("killed while the disk was full")?;
            if self.random.percent(50) {
                self.start()?;
                self.let_time_pass()?;
                self.host.free_disk();
            } else {
                self.host.free_disk();
                self.start()?;
            }
        } else {
            self.host.free_disk();
        }
        // What waited in memory is written at the next occasion, at the latest after five seconds of the host's time.
        let started = Instant::now();
        loop {
            self.advance(6 * SECOND, "for the ledger");
            self.host.sync()?;
            let status = self.host.client()?.status().map_err(|error| error.to_string())?;
            if status.problems.is_empty() {
                self.host.note("the ledger is whole again");
                return Ok(());
            }
            if started.elapsed() > Duration::from_secs(30) {
                return Err(format!("there is room, and the ledger is not written: {:?}", status.problems));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Peace: time goes on until everything has ended, then an orderly stop.
    fn settle(&mut self) -> Result<(), String> {
        while !self.paused.is_empty() {
            self.resume()?;
        }
        if !self.real {
            // The last segment of the wall clock is to cover some slots.
            self.advance(10 * MINUTE, "peace");
            self.host.sync()?;
        }
        // Nothing new begins, so that all can end.
        self.pause(None)?;
        let started = Instant::now();
        loop {
            let status = self.host.client()?.status().map_err(|error| error.to_string())?;
            if status.running.is_empty() {
                break;
            }
            if started.elapsed() > Duration::from_secs(90) {
                return Err(format!("runs that do not end: {:?}", status.running));
            }
            self.advance(HOUR, "for runs to end");
            self.host.sync()?;
            std::thread::sleep(Duration::from_millis(100));
        }
        self.host.wait_for_alone()?;
        self.host.sync()?;
        self.host.signal(Signal::TERM);
        self.host.reap("terminated")?;
        let started = Instant::now();
        while !self.host.processes().is_empty() && started.elapsed() < Duration::from_secs(30) {
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}
