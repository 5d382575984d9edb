//! `disk`: what a file system has left, in bytes and in inodes.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::watch;

use super::CheckSeverity;
use super::check::{Check, Common, Measured, rounded, shown};
use super::recent::Tolerance;
use crate::document::Invalid;
use crate::host::files::Usage;
use crate::jobs::{HostContext, JobContext, Lack};
use crate::model::Unit;
use crate::units::{HumanDuration, Percent, Size};

/// A file system of this machine answers in microseconds; one of a dead server never does.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Disk {
    /// Anything on the file system.
    #[serde(default = "root")]
    path: PathBuf,
    /// At least this share must be free, of what those who aren't root may use: 100 % less the Use% of `df`.
    #[serde(default = "twenty_percent")]
    free: Percent,
    /// At least this share of the inodes must be free, where the file system has a fixed number of them.
    #[serde(default = "ten_percent")]
    inodes_free: Percent,
    /// How findings and alerts call the check; default: what it looks at.
    name: Option<String>,
    /// What a failure of the check is.
    severity: Option<CheckSeverity>,
    /// How many of the last looks must be bad for the check to fail, as in 3/5; default: 1/1.
    #[serde(rename = "for")]
    tolerance: Option<Tolerance>,
}

fn root() -> PathBuf {
    "/".into()
}

fn twenty_percent() -> Percent {
    Percent(20.0)
}

fn ten_percent() -> Percent {
    Percent(10.0)
}

#[async_trait]
impl Check for Disk {
    fn subject(&self) -> String {
        self.path.display().to_string()
    }

    fn common(&self) -> Common<'_> {
        Common { name: self.name.as_ref(), severity: self.severity, tolerance: self.tolerance }
    }

    fn invalid(&self) -> Vec<Invalid> {
        if self.path.is_absolute() {
            return vec![];
        }
        let message = "`path` must be an absolute path".to_owned();
        vec![Invalid { key: "path".into(), message, hint: Some("as in /var/lib/docker".into()) }]
    }

    async fn look(&self, _ctx: &JobContext) -> Measured {
        match usage(&self.path, PATIENCE).await {
            Ok(usage) => judge(&usage, self.free.0, self.inodes_free.0),
            Err(reason) => Measured::of(false, format!("{}: {reason}", self.path.display())),
        }
    }

    async fn preflight(&self, _ctx: &HostContext) -> Vec<Lack> {
        match usage(&self.path, PATIENCE).await {
            Ok(_) => vec![],
            Err(reason) => {
                vec![Lack {
                    fatal: true,
                    message: format!("disk {}: {reason}", self.path.display()),
                    hint: None,
                }]
            }
        }
    }
}

type Answer = Option<Arc<Result<Usage, String>>>;

/// The looks that have no answer yet, of all jobs. A dead server's never get one, and a thread of its own waits for
/// each: so there must be no second one for the same path, however often somebody asks.
static UNDER_WAY: Mutex<Option<HashMap<PathBuf, watch::Receiver<Answer>>>> = Mutex::new(None);

async fn usage(path: &Path, patience: Duration) -> Result<Usage, String> {
    let mut answer = begin(path).map_err(|error| format!("no thread to look at it: {error}"))?;
    let answered = tokio::time::timeout(patience, answer.wait_for(Option::is_some)).await;
    match answered.map(|waited| waited.ok().and_then(|answer| answer.clone())) {
        Ok(Some(answer)) => answer.as_ref().clone(),
        Ok(None) => Err("a bug: the look at it was given up".to_owned()),
        Err(_) => Err(format!(
            "the file system doesn't answer within {}: is it a mount of a server that is gone? (`findmnt -T {}`)",
            HumanDuration(patience),
            path.display()
        )),
    }
}

/// Joins the look that is under way, or begins one. On a thread outside the runtime, which at its end would wait for
/// its own.
fn begin(path: &Path) -> io::Result<watch::Receiver<Answer>> {
    let mut guard = UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner);
    let looks = guard.get_or_insert_default();
    if let Some(look) = looks.get(path) {
        return Ok(look.clone());
    }
    let (tell, answer) = watch::channel(None);
    let asked = path.to_owned();
    let look = move || {
        let usage = Usage::of(&asked).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => "no such file or folder: is it mounted?".to_owned(),
            _ => error.to_string(),
        });
        let mut looks = UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner);
        looks.get_or_insert_default().remove(&asked);
        drop(looks);
        tell.send_replace(Some(Arc::new(usage)));
    };
    std::thread::Builder::new().name("statvfs".into()).stack_size(64 * 1024).spawn(look)?;
    looks.insert(path.to_owned(), answer.clone());
    Ok(answer)
}

fn judge(usage: &Usage, asked: f64, asked_inodes: f64) -> Measured {
    let percent = usage.free_share * 100.0;
    let space = format!(
        "{} % free of {} ({}), asked for: {asked} %",
        shown(percent, asked),
        Size(usage.total),
        Size(usage.free)
    );
    let of_space = Measured::of(percent >= asked, &space).against(rounded(percent), asked).measuring(
        "free",
        Unit::Ratio,
        usage.free_share,
        asked / 100.0,
    );
    let Some(inodes) = usage.inodes else { return of_space };
    let of_space = of_space.measuring("inodes_free", Unit::Ratio, inodes.free_share, asked_inodes / 100.0);
    let share = inodes.free_share * 100.0;
    let text = format!(
        "{} % of {} inodes free ({}), asked for: {asked_inodes} %",
        shown(share, asked_inodes),
        inodes.total,
        inodes.free
    );
    if share >= asked_inodes {
        return of_space;
    }
    // The numbers are those of what fails.
    match percent >= asked {
        true => Measured {
            measures: of_space.measures,
            ..Measured::of(false, text).against(rounded(share), asked_inodes)
        },
        false => Measured { text: format!("{space}; {text}"), ..of_space },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::files::Inodes;
    use crate::jobs::health_check::check::State;

    #[test]
    fn both_thresholds_are_held_and_the_text_names_what_fails() {
        let check = |free: u64, inodes: Option<u64>, state: State, value: f64, text: &str| {
            let share = |free: u64, total: u64| free as f64 / total as f64;
            let usage = Usage {
                free: free << 20,
                total: 40 << 30,
                free_share: share(free, 40 << 10),
                inodes: inodes.map(|free| Inodes { free, total: 1000, free_share: share(free, 1000) }),
            };
            let measured = judge(&usage, 20.0, 10.0);
            assert_eq!((measured.state, measured.text.as_str()), (state, text));
            assert_eq!(measured.value, value, "{text}");
            // Both are told, whichever fails.
            let free = inodes.map(|_| "inodes_free");
            let quantities: Vec<&str> = measured.measures.iter().map(|one| one.quantity.as_str()).collect();
            assert_eq!(quantities, ["free"].into_iter().chain(free).collect::<Vec<_>>(), "{text}");
            assert_eq!(measured.measures[0].value, Some(usage.free_share), "{text}");
            assert_eq!(measured.measures[0].threshold, Some(0.2), "{text}");
        };
        let enough = "25 % free of 40.0 GiB (10.0 GiB), asked for: 20 %";
        check(10 << 10, Some(100), State::Ok, 25.0, enough);
        // btrfs has no fixed number of inodes.
        check(10 << 10, None, State::Ok, 25.0, enough);
        let little = "12.5 % free of 40.0 GiB (5.0 GiB), asked for: 20 %";
        check(5 << 10, Some(500), State::Failing, 12.5, little);
        let few = "9.9 % of 1000 inodes free (99), asked for: 10 %";
        check(10 << 10, Some(99), State::Failing, 9.9, few);
        check(5 << 10, Some(99), State::Failing, 12.5, &format!("{little}; {few}"));
        let exactly = "20 % free of 40.0 GiB (8.0 GiB), asked for: 20 %";
        check(8 << 10, None, State::Ok, 20.0, exactly);
        let just_under = "19.998 % free of 40.0 GiB (8.0 GiB), asked for: 20 %";
        check(8191, None, State::Failing, 19.998, just_under);
    }
}
