//! Time: now, an alarm at an instant of the wall clock, and word of every step of that clock.
//!
//! Owns every reading of a clock in the program; `clippy.toml` forbids the direct calls elsewhere. Never
//! polls: the system clock's alarm is one absolute `CLOCK_REALTIME` timerfd, cancelled by the kernel when
//! the clock is set (timerfd_create(2), `TFD_TIMER_CANCEL_ON_SET`).

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::sync::watch;

/// What woke the alarm's listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// The instant asked for has come.
    Due,
    /// The wall clock was set, forward or back; read it again.
    Stepped,
}

/// Called from the alarm's own thread; must not block.
pub type OnWake = Box<dyn Fn(Wake) + Send + Sync>;

pub trait Clock: Send + Sync {
    fn now(&self) -> Timestamp;

    /// Time since the machine booted, suspends included (`CLOCK_BOOTTIME`): it never steps, so that its
    /// distance from `now` tells a step of the wall clock.
    fn since_boot(&self) -> Duration;

    /// Time since the machine booted, suspends left out (`CLOCK_MONOTONIC`): its distance from `since_boot` tells
    /// of a suspend.
    fn awake(&self) -> Duration;

    /// Makes the one alarm of this clock; `on_wake` is told of it and of every step.
    ///
    /// # Errors
    /// Where the kernel refuses a timer.
    fn alarm(&self, on_wake: OnWake) -> std::io::Result<Box<dyn Alarm>>;

    /// Until this clock's `since_boot` has come to `at`; steps of the wall clock don't matter. Within a runtime.
    fn until(&self, at: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(at.saturating_sub(self.since_boot())))
    }
}

pub trait Alarm: Send + Sync {
    /// Rings once the clock reaches `at` (at once where that has passed); replaces the instant set before.
    fn set(&self, at: Option<Timestamp>);
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is where the program reads the clock")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn since_boot(&self) -> Duration {
        elapsed(rustix::time::ClockId::Boottime)
    }

    fn awake(&self) -> Duration {
        elapsed(rustix::time::ClockId::Monotonic)
    }

    fn alarm(&self, on_wake: OnWake) -> std::io::Result<Box<dyn Alarm>> {
        let timer = Arc::new(timerfd_create(TimerfdClockId::Realtime, TimerfdFlags::CLOEXEC)?);
        let alarm = SystemAlarm { timer: timer.clone() };
        alarm.set(None);
        std::thread::Builder::new().name("alarm".into()).stack_size(64 * 1024).spawn(move || {
            loop {
                let mut count = [0_u8; 8];
                match rustix::io::read(&*timer, &mut count) {
                    Ok(_) => on_wake(Wake::Due),
                    Err(rustix::io::Errno::CANCELED) => on_wake(Wake::Stepped),
                    Err(_) => {}
                }
            }
        })?;
        Ok(Box::new(alarm))
    }
}

fn elapsed(clock: rustix::time::ClockId) -> Duration {
    let time = rustix::time::clock_gettime(clock);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

struct SystemAlarm {
    timer: Arc<rustix::fd::OwnedFd>,
}

impl Alarm for SystemAlarm {
    fn set(&self, at: Option<Timestamp>) {
        // An unarmed timer hears of no step, so "never" is an instant far away. Zero would disarm it.
        const NEVER: i64 = 1 << 40;
        let value = match at {
            Some(at) => {
                let at = at.max(Timestamp::UNIX_EPOCH);
                Timespec { tv_sec: at.as_second(), tv_nsec: i64::from(at.subsec_nanosecond()).max(1) }
            }
            None => Timespec { tv_sec: NEVER, tv_nsec: 0 },
        };
        let setting = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        // ECANCELED here tells of a step since the last read; the timer is armed all the same, and the
        // blocked reader is told of the step itself.
        let _ = timerfd_settime(&self.timer, flags, &setting);
    }
}

/// A clock that moves when a test says so.
#[derive(Clone)]
pub struct ManualClock(Arc<Mutex<ManualState>>);

struct ManualState {
    now: Timestamp,
    since_boot: watch::Sender<Duration>,
    suspended: Duration,
    alarm: Option<Timestamp>,
    on_wake: Option<Arc<OnWake>>,
}

impl ManualClock {
    pub fn new(now: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(ManualState {
            now,
            since_boot: watch::Sender::new(Duration::from_secs(1000)),
            suspended: Duration::ZERO,
            alarm: None,
            on_wake: None,
        })))
    }

    /// Time passes: the alarm rings where it falls due, and who waits for an instant goes on.
    pub fn advance(&self, by: Duration) {
        let ring = {
            let mut state = self.state();
            state.now += by;
            state.since_boot.send_modify(|since_boot| *since_boot += by);
            state.due()
        };
        if let Some(ring) = ring {
            ring(Wake::Due);
        }
    }

    /// The machine sleeps for that long; then the alarm rings where it fell due meanwhile.
    pub fn suspend(&self, by: Duration) {
        self.state().suspended += by;
        self.advance(by);
    }

    /// Somebody sets the clock: no time passes.
    pub fn step_to(&self, now: Timestamp) {
        let tell = {
            let mut state = self.state();
            state.now = now;
            state.on_wake.clone()
        };
        if let Some(tell) = tell {
            tell(Wake::Stepped);
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, ManualState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ManualState {
    fn due(&mut self) -> Option<Arc<OnWake>> {
        if self.alarm? > self.now {
            return None;
        }
        self.alarm = None;
        self.on_wake.clone()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.state().now
    }

    fn since_boot(&self) -> Duration {
        *self.state().since_boot.borrow()
    }

    fn awake(&self) -> Duration {
        let state = self.state();
        *state.since_boot.borrow() - state.suspended
    }

    fn alarm(&self, on_wake: OnWake) -> std::io::Result<Box<dyn Alarm>> {
        self.state().on_wake = Some(Arc::new(on_wake));
        Ok(Box::new(self.clone()))
    }

    fn until(&self, at: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let mut since_boot = self.state().since_boot.subscribe();
        Box::pin(async move {
            // A clock that is gone comes to no instant any more.
            if since_boot.wait_for(|now| *now >= at).await.is_err() {
                std::future::pending().await
            }
        })
    }
}

impl Alarm for ManualClock {
    fn set(&self, at: Option<Timestamp>) {
        let ring = {
            let mut state = self.state();
            state.alarm = at;
            state.due()
        };
        if let Some(ring) = ring {
            ring(Wake::Due);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_alarm_rings_at_once_for_a_past_instant_and_again_when_set_again() {
        let (tell, told) = std::sync::mpsc::channel();
        let alarm = SystemClock.alarm(Box::new(move |wake| tell.send(wake).unwrap())).unwrap();
        for _ in 0..3 {
            alarm.set(Some(SystemClock.now() - Duration::from_secs(1)));
            assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok(Wake::Due));
        }
        alarm.set(Some(SystemClock.now() + Duration::from_millis(20)));
        assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok(Wake::Due));
    }

    #[test]
    fn the_manual_clock_rings_when_advanced_past_the_instant_and_tells_of_steps() {
        let (tell, told) = std::sync::mpsc::channel();
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let clock = ManualClock::new(start);
        let alarm = clock.alarm(Box::new(move |wake| tell.send(wake).unwrap())).unwrap();
        alarm.set(Some(start + Duration::from_secs(60)));
        clock.advance(Duration::from_secs(59));
        assert!(told.try_recv().is_err());
        clock.advance(Duration::from_secs(1));
        assert_eq!(told.try_recv(), Ok(Wake::Due));
        clock.step_to(start);
        assert_eq!(told.try_recv(), Ok(Wake::Stepped));
    }

    #[tokio::test]
    async fn who_waits_on_the_manual_clock_goes_on_when_it_is_advanced_and_not_when_it_is_set() {
        let clock = ManualClock::new("2026-01-01T00:00:00Z".parse().unwrap());
        let waits = tokio::spawn(clock.until(clock.since_boot() + Duration::from_secs(60)));
        clock.step_to("2027-01-01T00:00:00Z".parse().unwrap());
        clock.advance(Duration::from_secs(59));
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        clock.advance(Duration::from_secs(1));
        waits.await.unwrap();
    }
}
