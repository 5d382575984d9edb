//! Time: how much of it passes, and how the wall clock is stepped, set back and suspended. Never touches a process but
//! where one is to die beside a clock that is set back.

use rustix::process::Signal;

use super::{Driver, HOUR, MINUTE, SECOND};

impl Driver {
    /// Time passes: as it does in the real mode, at once in the manual one.
    pub(super) fn advance(&mut self, by: i64, how: &str) {
        if self.real {
            self.breathe(1500);
        } else {
            self.host.jump(by, by, by, how);
        }
    }

    pub(super) fn some_time(&mut self) -> i64 {
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

    pub(super) fn let_time_pass(&mut self) -> Result<(), String> {
        if self.random.percent(50) && self.advance_to_next_slot()? {
            return self.host.sync();
        }
        let by = self.some_time();
        self.advance(by, "advance");
        self.host.sync()
    }

    /// False where there is none.
    pub(super) fn advance_to_next_slot(&mut self) -> Result<bool, String> {
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

    /// Far from what counts as small, either way.
    pub(super) fn step_size(&mut self) -> i64 {
        let size = match self.random.between(0, 9) {
            0..=1 => self.random.between(SECOND, 9 * SECOND),
            2..=4 => self.random.between(12 * SECOND, 10 * MINUTE),
            5..=7 => self.random.between(10 * MINUTE, 3 * HOUR),
            _ => self.random.between(20 * HOUR, 26 * HOUR),
        };
        if self.random.percent(55) { -size } else { size }
    }

    pub(super) fn step(&mut self) -> Result<(), String> {
        let by = self.step_size();
        self.host.jump(by, 0, 0, "step");
        self.host.sync()
    }

    /// The same hour twice: slots come, the clock goes back behind them, and they come again, to the same daemon or to
    /// one that finds the ledger ahead of the clock.
    pub(super) fn set_back(&mut self) -> Result<(), String> {
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

    pub(super) fn some_minutes(&mut self) -> Result<(), String> {
        let by = self.random.between(MINUTE, 6 * MINUTE);
        self.advance(by, "advance");
        // What began is to end before the next slots, most often.
        self.breathe(12);
        self.host.sync()
    }

    pub(super) fn suspend(&mut self) -> Result<(), String> {
        let by = self.some_time();
        self.host.jump(by, by, 0, "suspend");
        self.host.sync()
    }
}
