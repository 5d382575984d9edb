//! What the checks over a network share: times as people read them, and options that leave a server no time.

use std::time::Duration;

use crate::document::Invalid;
use crate::units::HumanDuration;

/// `34 ms`, `12.3 s`
pub(super) fn took(time: Duration) -> String {
    let milliseconds = time.as_secs_f64() * 1000.0;
    match milliseconds {
        // Whoever reads `0 ms` thinks that nothing was measured.
        ..1.0 => "less than 1 ms".into(),
        ..10_000.0 => format!("{milliseconds:.0} ms"),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}

pub(super) fn no_time(key: &str, time: HumanDuration) -> Option<Invalid> {
    time.0.is_zero().then(|| Invalid {
        key: key.into(),
        message: format!("`{key}: {time}` leaves no time for an answer"),
        hint: Some("as in 5s or 500ms".into()),
    })
}
