//! `cpu`: how busy the cores were, averaged over a time.
//!
//! Nobody waits for that time to pass: each run leaves a sample of the kernel's counters for the later ones.

use std::io;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use super::CheckSeverity;
use super::check::{Check, Common, Measured, rounded, shown};
use super::recent::Tolerance;
use super::samples::{Kept, Sample, Samples};
use crate::document::Invalid;
use crate::host::load::CpuTimes;
use crate::jobs::JobContext;
use crate::model::Unit;
use crate::units::{HumanDuration, Percent};

/// How long a run measures by itself where no earlier one has left a sample.
const OWN: Duration = Duration::from_secs(1);
/// A clock tick is 10 ms: over less than this, an average is made of too few of them.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(24 * 3600);

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Cpu {
    /// The busy share of all cores together must be below this. Waiting for a disk isn't busy; time that the
    /// hypervisor took is.
    #[serde(default = "eighty_percent")]
    below: Percent,
    /// Averaged over this time; the job must run at least that often.
    #[serde(default = "five_minutes")]
    over: HumanDuration,
    /// How findings and alerts call the check; default: what it looks at.
    name: Option<String>,
    /// What a failure of the check is.
    severity: Option<CheckSeverity>,
    /// How many of the last looks must be bad for the check to fail, as in 3/5; default: 1/1.
    #[serde(rename = "for")]
    tolerance: Option<Tolerance>,
}

fn eighty_percent() -> Percent {
    Percent(80.0)
}

fn five_minutes() -> HumanDuration {
    HumanDuration(Duration::from_secs(300))
}

#[async_trait]
impl Check for Cpu {
    fn subject(&self) -> String {
        format!("busy over {}", self.over)
    }

    fn common(&self) -> Common<'_> {
        Common { name: self.name.as_ref(), severity: self.severity, tolerance: self.tolerance }
    }

    fn invalid(&self) -> Vec<Invalid> {
        let mut found = vec![];
        if !(SHORTEST..=LONGEST).contains(&self.over.0) {
            let message = format!("`over` must lie between {SHORTEST:?} and 1d");
            found.push(Invalid { key: "over".into(), message, hint: Some("as in 5m".into()) });
        }
        found
    }

    async fn look(&self, ctx: &JobContext) -> Measured {
        let over = self.over.0;
        let file = Samples::path(&ctx.state, &ctx.job, self.over);
        let measured = match compare_and_keep(ctx, &file, over).await {
            Ok(Some(measured)) => Ok(measured),
            Ok(None) => measure(ctx).await,
            Err(error) => Err(error),
        };
        match measured {
            Ok((share, time)) => judge(share, time, over, self.below.0),
            Err(error) => Measured::unknown(format!("the cores can't be measured: {error}")),
        }
    }
}

/// The busy share since the kept sample that is nearest to `over` ago, and the time since then; `None`: there is none
/// to compare with. Samples are a convenience: whatever is wrong with their file is noted and nothing else.
async fn compare_and_keep(
    ctx: &JobContext,
    file: &Path,
    over: Duration,
) -> io::Result<Option<(f64, Duration)>> {
    let now = Sample { at: ctx.clock.since_boot(), times: CpuTimes::now()? };
    let (path, keep) = (file.to_owned(), !ctx.dry_run);
    let work = move || match Samples::begin(&path) {
        Err(problem) => (None, Some(problem)),
        Ok(Kept { mut samples, mut problem, held }) => {
            let earlier = samples.nearest(now.at, over, SHORTEST);
            if keep && samples.add(now, over) {
                problem = samples.write(&path, &held).err().or(problem);
            }
            (earlier, problem)
        }
    };
    let (earlier, problem) = tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?;
    if let Some(problem) = problem {
        ctx.log.note(ctx.clock.now(), &format!("samples of processor time: {problem}"));
    }
    let share =
        earlier.and_then(|earlier| now.times.busy_since(earlier.times).map(|share| (share, earlier.at)));
    Ok(share.map(|(share, since)| (share, now.at.saturating_sub(since))))
}

async fn measure(ctx: &JobContext) -> io::Result<(f64, Duration)> {
    let (since, before) = (ctx.clock.since_boot(), CpuTimes::now()?);
    tokio::time::sleep(OWN).await;
    let share = CpuTimes::now()?.busy_since(before);
    let share = share.ok_or_else(|| io::Error::other("the counters of /proc/stat stand still"))?;
    Ok((share, ctx.clock.since_boot().saturating_sub(since)))
}

fn judge(share: f64, time: Duration, over: Duration, below: f64) -> Measured {
    let percent = share * 100.0;
    let seconds = HumanDuration(Duration::from_secs_f64(time.as_secs_f64().round().max(1.0)));
    // A run that is late by a little has still measured what was asked for.
    let near = over.mul_f64(0.8) <= time && time <= over.mul_f64(1.25);
    let asked = if near { String::new() } else { format!(" over {}", HumanDuration(over)) };
    let text = format!("{} % busy over {seconds}, asked for: below {below} %{asked}", shown(percent, below));
    Measured::of(percent < below, text).against(rounded(percent), below).measuring(
        "busy",
        Unit::Ratio,
        share,
        below / 100.0,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::health_check::check::State;

    #[test]
    fn the_text_says_over_which_time_was_measured() {
        let check = |share: f64, seconds: f64, state: State, text: &str| {
            let over = Duration::from_secs(300);
            let measured = judge(share, Duration::from_secs_f64(seconds), over, 80.0);
            assert_eq!((measured.state, measured.text.as_str()), (state, text));
        };
        check(0.125, 300.2, State::Ok, "12.5 % busy over 5m, asked for: below 80 %");
        check(0.125, 287.0, State::Ok, "12.5 % busy over 4m47s, asked for: below 80 %");
        check(0.8, 1.003, State::Failing, "80 % busy over 1s, asked for: below 80 % over 5m");
        check(1.0, 7200.0, State::Failing, "100 % busy over 2h, asked for: below 80 % over 5m");
    }
}
