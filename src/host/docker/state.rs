//! What state a container is in, in words.

use bollard::models::{ContainerState, ContainerStateStatusEnum as Status, HealthStatusEnum};
use jiff::Timestamp;

use crate::units::HumanDuration;

/// `None` where it runs and nothing speaks against it.
pub(super) fn trouble(state: Option<&ContainerState>, now: Timestamp) -> Option<String> {
    let Some(state) = state else { return Some("Docker doesn't say its state".to_owned()) };
    let code = state.exit_code.unwrap_or_default();
    let ago = state.finished_at.as_deref().and_then(|at| ago(at, now)).unwrap_or_default();
    let memory = if state.oom_killed == Some(true) { ", after it ran out of memory" } else { "" };
    let mut text = match state.status {
        Some(Status::RUNNING) => return None,
        Some(Status::EXITED) => format!("exited with code {code}{ago}{memory}"),
        Some(Status::RESTARTING) => format!("restarting, after it exited with code {code}{ago}{memory}"),
        Some(Status::PAUSED) => "paused".to_owned(),
        Some(Status::CREATED) => "created, but never started".to_owned(),
        Some(Status::DEAD) => format!("dead{ago}"),
        Some(Status::REMOVING) => "being removed".to_owned(),
        Some(Status::STOPPING) => "stopping".to_owned(),
        Some(Status::EMPTY) | None => "in no state that Docker names".to_owned(),
    };
    if let Some(error) = state.error.as_deref().filter(|error| !error.is_empty()) {
        text.push_str(&format!(" ({error})"));
    }
    Some(text)
}

/// What the container's own health check says against it.
pub(super) fn ill(state: Option<&ContainerState>) -> Option<String> {
    let health = state?.health.as_ref()?;
    if health.status != Some(HealthStatusEnum::UNHEALTHY) {
        return None;
    }
    let last = health.log.as_ref().and_then(|log| log.last()?.output.as_deref());
    let last = last.map(|text| text.trim().chars().take(200).collect::<String>()).unwrap_or_default();
    let last = if last.is_empty() { last } else { format!(" ({})", last.replace('\n', "; ")) };
    let times = health.failing_streak.unwrap_or_default();
    Some(format!("unhealthy: its health check failed {times} times in a row{last}"))
}

/// ` 3m ago`, where the time makes sense.
fn ago(at: &str, now: Timestamp) -> Option<String> {
    let at: Timestamp = at.parse().ok()?;
    // Docker writes the year 1 for never.
    if at < Timestamp::UNIX_EPOCH {
        return None;
    }
    let past = std::time::Duration::try_from(now.duration_since(at)).ok()?.as_secs();
    // Two units say enough.
    let rounded = match past {
        0..3600 => past,
        3600..86_400 => past / 60 * 60,
        _ => past / 3600 * 3600,
    };
    Some(format!(" {} ago", HumanDuration(std::time::Duration::from_secs(rounded))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_told_with_its_code_and_its_age() {
        let now: Timestamp = "2026-11-22T23:00:00Z".parse().unwrap();
        let check = |state: serde_json::Value, expected: Option<&str>| {
            let state: ContainerState = serde_json::from_value(state).unwrap();
            assert_eq!(trouble(Some(&state), now).as_deref(), expected);
        };
        check(serde_json::json!({"Status": "running", "ExitCode": 0}), None);
        check(
            serde_json::json!({"Status": "exited", "ExitCode": 137, "FinishedAt": "2026-11-22T22:57:00.5Z"}),
            Some("exited with code 137 2m59s ago"),
        );
        check(
            serde_json::json!({"Status": "exited", "ExitCode": 137, "OOMKilled": true,
                "FinishedAt": "2026-11-20T22:57:00Z"}),
            Some("exited with code 137 2d ago, after it ran out of memory"),
        );
        check(
            serde_json::json!({"Status": "created", "FinishedAt": "0001-01-01T00:00:00Z"}),
            Some("created, but never started"),
        );
        assert_eq!(trouble(None, now).as_deref(), Some("Docker doesn't say its state"));
    }

    #[test]
    fn an_unhealthy_container_is_told_with_the_last_words_of_its_check() {
        let state = serde_json::json!({"Status": "running", "Health": {"Status": "unhealthy", "FailingStreak": 4,
            "Log": [{"ExitCode": 1, "Output": "no answer\n"}]}});
        let state: ContainerState = serde_json::from_value(state).unwrap();
        assert_eq!(
            ill(Some(&state)).as_deref(),
            Some("unhealthy: its health check failed 4 times in a row (no answer)")
        );
    }
}
