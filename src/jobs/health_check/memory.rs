//! `memory`: how much of the machine's memory is in use.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use super::CheckSeverity;
use super::check::{Check, Common, Measured, rounded, shown};
use super::recent::Tolerance;
use crate::host::load::Memory as Reading;
use crate::jobs::JobContext;
use crate::model::Unit;
use crate::units::{Percent, Size};

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Memory {
    /// The share in use must be below this. In use is what isn't available: caches that can be dropped don't count.
    #[serde(default = "eighty_percent")]
    below: Percent,
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

#[async_trait]
impl Check for Memory {
    fn subject(&self) -> String {
        "in use".to_owned()
    }

    fn common(&self) -> Common<'_> {
        Common { name: self.name.as_ref(), severity: self.severity, tolerance: self.tolerance }
    }

    async fn look(&self, _ctx: &JobContext) -> Measured {
        match Reading::now() {
            Ok(reading) => judge(reading, self.below.0),
            Err(error) => Measured::unknown(format!("the memory can't be measured: {error}")),
        }
    }
}

fn judge(Reading { total, available }: Reading, below: f64) -> Measured {
    let used = total - available;
    let percent = used as f64 / total as f64 * 100.0;
    let text = format!(
        "{} % of {} in use ({}; {} available), asked for: below {below} %",
        shown(percent, below),
        Size(total),
        Size(used),
        Size(available)
    );
    Measured::of(percent < below, text).against(rounded(percent), below).measuring(
        "used",
        Unit::Ratio,
        percent / 100.0,
        below / 100.0,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_at_the_threshold_fails() {
        let check = |available: u64, fine: bool, text: &str| {
            let measured = judge(Reading { total: 16 << 30, available: available << 20 }, 80.0);
            assert_eq!(measured.text, text);
            assert_eq!(measured.state == super::super::check::State::Ok, fine, "{text}");
        };
        check(8192, true, "50 % of 16.0 GiB in use (8.0 GiB; 8.0 GiB available), asked for: below 80 %");
        check(3277, true, "79.999 % of 16.0 GiB in use (12.8 GiB; 3.2 GiB available), asked for: below 80 %");
        check(
            3276,
            false,
            "80.005 % of 16.0 GiB in use (12.8 GiB; 3.2 GiB available), asked for: below 80 %",
        );
        check(0, false, "100 % of 16.0 GiB in use (16.0 GiB; 0 B available), asked for: below 80 %");
    }
}
