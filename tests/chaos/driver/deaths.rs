//! Deaths and standstills: the daemon killed, stopped or frozen, its spawners killed, whatever happens before the next
//! one. Leaves the clock and the table to those who own them.

use std::time::Duration;

use rustix::process::Signal;

use super::Driver;
use crate::timeline::What;

impl Driver {
    pub(super) fn kill(&mut self) -> Result<(), String> {
        let spawner_too = self.random.percent(20);
        self.host.signal(Signal::KILL);
        if spawner_too {
            self.host.kill_spawners();
        }
        self.host.reap("killed")?;
        self.start_again()
    }

    pub(super) fn kill_when_due(&mut self) -> Result<(), String> {
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
    pub(super) fn start_again(&mut self) -> Result<(), String> {
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

    /// A `run-now` where no daemon answers: it is killed, or the next daemon comes up beside it.
    pub(super) fn run_alone(&mut self) {
        let job = self.random.pick(&self.table.jobs).clone();
        self.host.run_alone(&job.name);
        self.breathe(120);
        if self.random.percent(30) {
            self.host.kill_alone();
        }
    }

    pub(super) fn kill_spawner(&mut self) -> Result<(), String> {
        self.host.kill_spawners();
        self.breathe(30);
        self.host.sync()
    }

    pub(super) fn freeze(&mut self) -> Result<(), String> {
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

    pub(super) fn stop(&mut self) -> Result<(), String> {
        let signal = *self.random.pick(&[Signal::TERM, Signal::TERM, Signal::INT]);
        self.host.signal(signal);
        self.host.reap(if signal == Signal::INT { "interrupted" } else { "terminated" })?;
        self.start_again()
    }
}
