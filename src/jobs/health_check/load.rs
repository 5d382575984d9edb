//! `load`: how many processes want a core, for each core.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use super::CheckSeverity;
use super::check::{Check, Common, Measured, rounded, shown};
use super::recent::Tolerance;
use crate::document::Invalid;
use crate::host::load::LoadAverage;
use crate::jobs::JobContext;
use crate::model::Unit;

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Load {
    /// The load average over five minutes, divided by the cores of the machine, must be below this.
    #[serde(default = "one")]
    per_core_below: f64,
    /// How findings and alerts call the check; default: what it looks at.
    name: Option<String>,
    /// What a failure of the check is.
    severity: Option<CheckSeverity>,
    /// How many of the last looks must be bad for the check to fail, as in 3/5; default: 1/1.
    #[serde(rename = "for")]
    tolerance: Option<Tolerance>,
}

fn one() -> f64 {
    1.0
}

#[async_trait]
impl Check for Load {
    fn subject(&self) -> String {
        "per core".to_owned()
    }

    fn common(&self) -> Common<'_> {
        Common { name: self.name.as_ref(), severity: self.severity, tolerance: self.tolerance }
    }

    fn invalid(&self) -> Vec<Invalid> {
        if self.per_core_below.is_finite() && self.per_core_below >= 0.0 {
            return vec![];
        }
        let message = format!("no load is below {}", self.per_core_below);
        vec![Invalid { key: "per_core_below".into(), message, hint: Some("as in 1.0".into()) }]
    }

    async fn look(&self, _ctx: &JobContext) -> Measured {
        match LoadAverage::now() {
            Ok(reading) => judge(reading, self.per_core_below),
            Err(error) => Measured::unknown(format!("the load can't be measured: {error}")),
        }
    }
}

/// Of the kernel's three averages the five-minute one: a burst of some seconds doesn't show in it, and a check that
/// runs each five minutes misses nothing.
fn judge(LoadAverage { five_minutes, cores }: LoadAverage, below: f64) -> Measured {
    let per_core = five_minutes / f64::from(cores);
    let plural = if cores == 1 { "" } else { "s" };
    let text = format!(
        "load {five_minutes} over 5 minutes on {cores} core{plural}, {} a core, asked for: below {below}",
        shown(per_core, below)
    );
    Measured::of(per_core < below, text).against(rounded(per_core), below).measuring(
        "load_per_core",
        Unit::Count,
        per_core,
        below,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::health_check::check::State;

    #[test]
    fn the_load_is_judged_by_the_core() {
        let check = |five_minutes: f64, cores: u32, state: State, text: &str| {
            let measured = judge(LoadAverage { five_minutes, cores }, 1.0);
            assert_eq!((measured.state, measured.text.as_str()), (state, text));
        };
        check(1.4, 2, State::Ok, "load 1.4 over 5 minutes on 2 cores, 0.7 a core, asked for: below 1");
        check(1.0, 1, State::Failing, "load 1 over 5 minutes on 1 core, 1 a core, asked for: below 1");
        check(
            4.01,
            4,
            State::Failing,
            "load 4.01 over 5 minutes on 4 cores, 1.002 a core, asked for: below 1",
        );
        check(0.0, 4, State::Ok, "load 0 over 5 minutes on 4 cores, 0 a core, asked for: below 1");
    }
}
