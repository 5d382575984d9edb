//! What the meaning of jobs.yaml depends on besides its text.

use std::collections::HashMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::clock::Clock;

/// The process's surroundings, taken once.
#[derive(Clone, Debug)]
pub struct Environment {
    pub variables: HashMap<String, String>,
    /// The zone of schedules where the file names none, or why it can't be known.
    pub zone: Result<TimeZone, String>,
    /// Effective: as 0, the file must be root's own.
    pub uid: u32,
    /// Slots are looked for from here on.
    pub now: Timestamp,
}

impl Environment {
    pub fn of_process(clock: &dyn Clock) -> Self {
        Self {
            // Names and values that aren't UTF-8 are none of ours.
            variables: std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .collect(),
            zone: TimeZone::try_system().map_err(|error| error.to_string()),
            uid: rustix::process::geteuid().as_raw(),
            now: clock.now(),
        }
    }

    /// An empty variable counts as absent.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// systemd gives a list parted by colons where the unit names several; the first is ours.
    pub(super) fn directory(&self, name: &str) -> Option<&str> {
        self.variable(name).and_then(|value| value.split(':').next())
    }
}
