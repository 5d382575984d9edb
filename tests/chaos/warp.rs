//! A clock that the driver bends for every process of a host at once: time flows as it does, plus jumps.
//!
//! The offsets lie in `<host>/clock`, replaced whole by rename, so that no reader sees half of them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use punk_eco_sched::clock::{Alarm, Clock, OnWake, SystemClock, Wake};

/// Between two looks at the file: a step is told about as fast as the kernel would.
const LOOK: Duration = Duration::from_millis(1);

/// What is added to each of the machine's clocks, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Offsets {
    pub(crate) wall: i64,
    pub(crate) boot: i64,
    pub(crate) awake: i64,
}

impl Offsets {
    /// No file: nothing was ever bent.
    pub(crate) fn read(host: &Path) -> Self {
        let text = std::fs::read_to_string(host.join("clock")).unwrap_or_default();
        let mut numbers = text.split_whitespace().filter_map(|word| word.parse().ok());
        let mut next = || numbers.next().unwrap_or(0);
        Self { wall: next(), boot: next(), awake: next() }
    }

    pub(crate) fn write(self, host: &Path) {
        let new = host.join("clock.new");
        std::fs::write(&new, format!("{} {} {}\n", self.wall, self.boot, self.awake)).unwrap();
        std::fs::rename(new, host.join("clock")).unwrap();
    }

    /// Microseconds since 1970.
    pub(crate) fn now(self) -> i64 {
        SystemClock.now().as_microsecond() + self.wall
    }

    pub(crate) fn since_boot(self) -> i64 {
        bent(SystemClock.since_boot(), self.boot).as_micros().try_into().unwrap()
    }
}

pub(crate) struct WarpClock {
    host: PathBuf,
}

impl WarpClock {
    pub(crate) fn of(host: &Path) -> Self {
        Self { host: host.to_owned() }
    }
}

fn bent(time: Duration, by: i64) -> Duration {
    let magnitude = Duration::from_micros(by.unsigned_abs());
    if by < 0 { time.saturating_sub(magnitude) } else { time + magnitude }
}

impl Clock for WarpClock {
    fn now(&self) -> Timestamp {
        let by = Offsets::read(&self.host).wall;
        let now = SystemClock.now();
        if by < 0 {
            now - Duration::from_micros(by.unsigned_abs())
        } else {
            now + Duration::from_micros(by.unsigned_abs())
        }
    }

    fn since_boot(&self) -> Duration {
        bent(SystemClock.since_boot(), Offsets::read(&self.host).boot)
    }

    fn awake(&self) -> Duration {
        bent(SystemClock.awake(), Offsets::read(&self.host).awake)
    }

    fn alarm(&self, on_wake: OnWake) -> std::io::Result<Box<dyn Alarm>> {
        let shared = Arc::new((Mutex::new(None), Condvar::new()));
        let (host, armed) = (self.host.clone(), shared.clone());
        std::thread::Builder::new().name("alarm".into()).spawn(move || {
            let clock = WarpClock { host };
            let mut before = Offsets::read(&clock.host);
            loop {
                let (lock, change) = &*armed;
                let at = *change.wait_timeout(lock.lock().unwrap(), LOOK).unwrap().0;
                let offsets = Offsets::read(&clock.host);
                if offsets.wall - offsets.boot != before.wall - before.boot {
                    on_wake(Wake::Stepped);
                }
                before = offsets;
                if at.is_some_and(|at| at <= clock.now()) {
                    // Unless it was set anew meanwhile.
                    let mut now = lock.lock().unwrap();
                    if *now == at {
                        *now = None;
                    }
                    drop(now);
                    on_wake(Wake::Due);
                }
            }
        })?;
        Ok(Box::new(WarpAlarm(shared)))
    }
}

struct WarpAlarm(Arc<(Mutex<Option<Timestamp>>, Condvar)>);

impl Alarm for WarpAlarm {
    fn set(&self, at: Option<Timestamp>) {
        *self.0.0.lock().unwrap() = at;
        self.0.1.notify_one();
    }
}
