//! `service`: a unit is active under systemd.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use super::CheckSeverity;
use super::check::{Check, Common, Measured};
use super::recent::Tolerance;
use crate::document::Invalid;
use crate::host::process::{Output, Program, Status, login_path};
use crate::jobs::{HostContext, JobContext, Lack};
use crate::model::Unit;
use crate::units::HumanDuration;

/// There exactly where systemd is the init of this machine (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";
const ABSENT: &str = "systemd doesn't run here (/run/systemd/system is absent)";
/// systemctl answers in milliseconds; of a systemd that hangs it waits 90 seconds for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
const GRACE: Duration = Duration::from_secs(1);
const SUFFIXES: &[&str] = &[
    "service",
    "socket",
    "timer",
    "mount",
    "automount",
    "swap",
    "target",
    "path",
    "slice",
    "scope",
    "device",
];

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Service {
    /// The unit that must be active; `nginx` is `nginx.service`.
    unit: String,
    /// How findings and alerts call the check; default: what it looks at.
    name: Option<String>,
    /// What a failure of the check is.
    severity: Option<CheckSeverity>,
    /// How many of the last looks must be bad for the check to fail, as in 3/5; default: 1/1.
    #[serde(rename = "for")]
    tolerance: Option<Tolerance>,
}

#[async_trait]
impl Check for Service {
    fn subject(&self) -> String {
        self.unit()
    }

    fn common(&self) -> Common<'_> {
        Common { name: self.name.as_ref(), severity: self.severity, tolerance: self.tolerance }
    }

    fn invalid(&self) -> Vec<Invalid> {
        let Some(wrong) = wrong_name(&self.unit) else { return vec![] };
        let message = format!("`{}` is no unit's name: {wrong}", self.unit);
        vec![Invalid { key: "unit".into(), message, hint: Some("as in nginx.service".into()) }]
    }

    async fn look(&self, ctx: &JobContext) -> Measured {
        let unit = self.unit();
        if !Path::new(BOOTED).is_dir() {
            return Measured::unknown(format!("{ABSENT}: nothing can be said of {unit}"));
        }
        match ask(ctx, &unit).await {
            Ok(said) => judge(&unit, &said, ctx.clock.since_boot()),
            Err(reason) => Measured::unknown(format!("systemctl says nothing of {unit}: {reason}")),
        }
    }

    async fn preflight(&self, _ctx: &HostContext) -> Vec<Lack> {
        if Path::new(BOOTED).is_dir() {
            return vec![];
        }
        let hint = Some("a `command` check can ask the service itself".to_owned());
        vec![Lack { fatal: true, message: format!("service {}: {ABSENT}", self.unit()), hint }]
    }
}

impl Service {
    /// As systemctl completes a name.
    fn unit(&self) -> String {
        let suffix = self.unit.rsplit_once('.').map(|(_, suffix)| suffix);
        if suffix.is_some_and(|suffix| SUFFIXES.contains(&suffix)) {
            return self.unit.clone();
        }
        format!("{}.service", self.unit)
    }
}

/// systemd.unit(5); wildcards would be answered for several units.
fn wrong_name(unit: &str) -> Option<&'static str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    match unit {
        "" => Some("it is empty"),
        _ if unit.starts_with('-') => Some("it begins with `-`"),
        _ if !unit.chars().all(allowed) => Some("only letters, digits and `:-_.\\@` may be in it"),
        _ if unit.len() > 240 => Some("it is too long"),
        _ if unit.contains("@.") || unit.ends_with('@') => Some("a template needs what stands after its `@`"),
        _ => None,
    }
}

async fn ask(ctx: &JobContext, unit: &str) -> Result<String, String> {
    let path = login_path(nix::unistd::geteuid().as_raw()).to_owned();
    let words = [
        "systemctl",
        "show",
        "--no-pager",
        "--property=LoadState,LoadError,ActiveState,SubState,Result,StateChangeTimestampMonotonic",
        "--",
        unit,
    ];
    let program = Program {
        argv: words.map(str::to_owned).to_vec(),
        env: vec![("PATH".to_owned(), path), ("LC_ALL".to_owned(), "C.UTF-8".to_owned())],
        stdout: Output::Capture { limit: 64 << 10 },
        stderr: Output::Capture { limit: 4096 },
        ..Program::default()
    };
    let mut running = ctx.programs.start(program).await.map_err(|error| error.to_string())?;
    let Ok(exit) = tokio::time::timeout(PATIENCE, running.wait()).await else {
        ctx.programs.end_one(&mut running, GRACE).await;
        return Err(format!("no answer within {}: does systemd hang?", HumanDuration(PATIENCE)));
    };
    match exit.status {
        Status::Code(0) => Ok(String::from_utf8_lossy(&exit.stdout).into_owned()),
        Status::Code(code) => {
            let words = String::from_utf8_lossy(&exit.stderr);
            Err(format!("exit code {code}: {}", words.trim().lines().last().unwrap_or_default()))
        }
        _ => Err("it was killed".to_owned()),
    }
}

/// What `systemctl show` printed, a line a property.
fn judge(unit: &str, said: &str, since_boot: Duration) -> Measured {
    let property = |name: &str| {
        let value = said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_default().trim()
    };
    let (active, sub, result) = (property("ActiveState"), property("SubState"), property("Result"));
    let measured = |fine: bool, text: String| {
        let (found, asked) = (f64::from(u8::from(fine)), 1.0);
        Measured::of(fine, text).against(active, "active").measuring("active", Unit::Count, found, asked)
    };
    match property("LoadState") {
        "not-found" => {
            return measured(
                false,
                format!("there is no unit {unit} (`systemctl list-unit-files` lists all)"),
            );
        }
        "masked" => {
            return measured(
                false,
                format!("{unit} is masked: `systemctl unmask {unit}` lets it start again"),
            );
        }
        "loaded" => {}
        "" => return Measured::unknown(format!("systemctl says nothing of {unit}: it printed {said:?}")),
        state => {
            let error = Some(property("LoadError")).filter(|error| !error.is_empty());
            let error = error.map(|error| format!(": {error}")).unwrap_or_default();
            return measured(
                false,
                format!("{unit} can't be loaded ({state}){error} (see `systemctl status {unit}`)"),
            );
        }
    }
    // One that reads its configuration anew does its work meanwhile.
    if matches!(active, "active" | "reloading" | "refreshing") {
        return measured(true, format!("{active} ({sub})"));
    }
    let since = property("StateChangeTimestampMonotonic").parse().ok().filter(|since| *since > 0);
    let since = since.and_then(|since| since_boot.checked_sub(Duration::from_micros(since)));
    let since = since.map(|time| format!(" for {}", HumanDuration(Duration::from_secs(time.as_secs()))));
    let result = if matches!(result, "" | "success") { String::new() } else { format!(", result {result}") };
    measured(
        false,
        format!(
            "{unit} is {active} ({sub}){}{result}, asked for: active (see `systemctl status {unit}`)",
            since.unwrap_or_default()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::health_check::check::State;

    #[test]
    fn names_are_completed_as_systemctl_does_and_checked() {
        let service = |unit: &str| Service { unit: unit.into(), name: None, severity: None, tolerance: None };
        let check = |unit: &str, expected: Result<&str, &str>| {
            let wrong = service(unit).invalid().into_iter().next().map(|invalid| invalid.message);
            let found = wrong.map_or_else(|| Ok(service(unit).unit()), Err);
            assert_eq!(found, expected.map(str::to_owned).map_err(str::to_owned));
        };
        check("nginx", Ok("nginx.service"));
        check("nginx.service", Ok("nginx.service"));
        check("apt-daily.timer", Ok("apt-daily.timer"));
        check("php8.2-fpm", Ok("php8.2-fpm.service"));
        check("getty@tty1", Ok("getty@tty1.service"));
        check(r"srv-my\x2ddata.mount", Ok(r"srv-my\x2ddata.mount"));
        check("", Err("`` is no unit's name: it is empty"));
        check("--all", Err("`--all` is no unit's name: it begins with `-`"));
        let letters = "only letters, digits and `:-_.\\@` may be in it";
        check("nginx cron", Err(&format!("`nginx cron` is no unit's name: {letters}")));
        check("nginx*", Err(&format!("`nginx*` is no unit's name: {letters}")));
        let template = "a template needs what stands after its `@`";
        check("getty@.service", Err(&format!("`getty@.service` is no unit's name: {template}")));
    }

    /// As `systemctl show` of systemd 252 (Debian 12) printed it for units in these states, at 17415.24 s since boot.
    const RUNS: &str = "Result=success\nLoadState=loaded\nActiveState=active\nSubState=running\n\
                        StateChangeTimestampMonotonic=17403645090\nLoadError=\n";
    const REREADS: &str = "Result=success\nLoadState=loaded\nActiveState=reloading\nSubState=reload\n\
                           StateChangeTimestampMonotonic=17409068723\nLoadError=\n";
    const FAILED: &str = "Result=exit-code\nLoadState=loaded\nActiveState=failed\nSubState=failed\n\
                          StateChangeTimestampMonotonic=17408873344\nLoadError=\n";
    const AGAIN: &str = "Result=exit-code\nLoadState=loaded\nActiveState=activating\nSubState=auto-restart\n\
                         StateChangeTimestampMonotonic=17409969088\nLoadError=\n";
    const STARTS: &str = "Result=success\nLoadState=loaded\nActiveState=activating\nSubState=start\n\
                          StateChangeTimestampMonotonic=17409160522\nLoadError=\n";
    const NEVER_STARTED: &str = "Result=success\nLoadState=loaded\nActiveState=inactive\nSubState=dead\n\
                                 StateChangeTimestampMonotonic=0\nLoadError=\n";
    const ABSENT_UNIT: &str = "Result=success\nLoadState=not-found\nActiveState=inactive\nSubState=dead\n\
                               StateChangeTimestampMonotonic=0\n\
                               LoadError=org.freedesktop.systemd1.NoSuchUnit \"Unit nowhere.service not found.\"\n";
    const MASKED: &str = "Result=success\nLoadState=masked\nActiveState=inactive\nSubState=dead\n\
                          StateChangeTimestampMonotonic=0\n\
                          LoadError=org.freedesktop.systemd1.UnitMasked \"Unit masked.service is masked.\"\n";
    const DAMAGED: &str = "Result=success\nLoadState=bad-setting\nActiveState=inactive\nSubState=dead\n\
                           StateChangeTimestampMonotonic=0\nLoadError=org.freedesktop.systemd1.BadUnitSetting \
                           \"Unit damaged.service has a bad unit file setting.\"\n";

    #[test]
    fn each_state_of_a_unit_is_told_with_what_to_type_next() {
        let check = |name: &str, said: &str, state: State, text: &str| {
            let measured = judge(&format!("{name}.service"), said, Duration::from_millis(17_415_240));
            assert_eq!((measured.state, measured.text.as_str()), (state, text));
        };
        check("nginx", RUNS, State::Ok, "active (running)");
        check("rereads", REREADS, State::Ok, "reloading (reload)");
        check(
            "broken",
            FAILED,
            State::Failing,
            "broken.service is failed (failed) for 6s, result exit-code, asked for: active (see `systemctl status broken.service`)",
        );
        check(
            "again",
            AGAIN,
            State::Failing,
            "again.service is activating (auto-restart) for 5s, result exit-code, asked for: active (see `systemctl status again.service`)",
        );
        check(
            "slow",
            STARTS,
            State::Failing,
            "slow.service is activating (start) for 6s, asked for: active (see `systemctl status slow.service`)",
        );
        check(
            "calm",
            NEVER_STARTED,
            State::Failing,
            "calm.service is inactive (dead), asked for: active (see `systemctl status calm.service`)",
        );
        check(
            "nowhere",
            ABSENT_UNIT,
            State::Failing,
            "there is no unit nowhere.service (`systemctl list-unit-files` lists all)",
        );
        check(
            "masked",
            MASKED,
            State::Failing,
            "masked.service is masked: `systemctl unmask masked.service` lets it start again",
        );
        check(
            "damaged",
            DAMAGED,
            State::Failing,
            "damaged.service can't be loaded (bad-setting): org.freedesktop.systemd1.BadUnitSetting \"Unit damaged.service has a bad unit file setting.\" (see `systemctl status damaged.service`)",
        );
        let nothing = "systemctl says nothing of nginx.service: it printed \"\"";
        check("nginx", "", State::Unknown, nothing);
    }
}
