//! Plays a seed: a random table, random faults, then peace, an orderly end, and the checker.
//!
//! Which fault comes is decided here, what it does in the modules below. Never judges: the checker does.

mod clock;
mod deaths;
mod orders;

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::checker;
use crate::host::Host;
use crate::random::Random;
use crate::table::{BEGINNINGS, Table};
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
