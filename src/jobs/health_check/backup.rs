//! `backup`: the newest backup of a job is young enough, and proven. That there is none, or none any more, is a failure.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::CheckSeverity;
use super::check::{Check, Common, Measured, rounded};
use super::recent::Tolerance;
use crate::backup::catalogue::Head;
use crate::backup::manifest::State;
use crate::backup::newest::newest;
use crate::document::JobRef;
use crate::jobs::{Backs, JobContext, Kept};
use crate::model::Unit;
use crate::units::{HumanDuration, Size};

/// A folder of this machine answers in milliseconds; one of a dead server never does.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Backup {
    /// The job that makes the backups.
    of: JobRef,
    /// How old the newest one may be, from its beginning on.
    #[serde(default = "a_day_and_two_hours")]
    newer_than: HumanDuration,
    /// Whether it must have been proven by a restore (verify_backup).
    #[serde(default = "yes")]
    verified: bool,
    /// How findings and alerts call the check; default: what it looks at.
    name: Option<String>,
    /// What a failure of the check is.
    severity: Option<CheckSeverity>,
    /// How many of the last looks must be bad for the check to fail, as in 3/5; default: 1/1.
    #[serde(rename = "for")]
    tolerance: Option<Tolerance>,
    /// Told when the whole table is read.
    #[serde(skip)]
    kept: Option<Kept>,
}

fn a_day_and_two_hours() -> HumanDuration {
    HumanDuration(Duration::from_secs(26 * 3600))
}

fn yes() -> bool {
    true
}

#[async_trait]
impl Check for Backup {
    fn subject(&self) -> String {
        self.of.to_string()
    }

    fn common(&self) -> Common<'_> {
        Common { name: self.name.as_ref(), severity: self.severity, tolerance: self.tolerance }
    }

    fn works_on(&self) -> Option<&JobRef> {
        Some(&self.of)
    }

    fn hand(&mut self, kept: Kept) {
        self.kept = Some(kept);
    }

    async fn look(&self, ctx: &JobContext) -> Measured {
        let Some(kept) = self.kept.clone() else {
            return Measured::unknown(format!("nothing says where {} keeps its backups", self.of));
        };
        let of = match &kept.of {
            Backs::Files(name) => name.clone(),
            Backs::Database(connection) => match ctx.connections.get(connection.as_str()) {
                Some(connection) => connection.database.clone(),
                None => {
                    return Measured::unknown(format!("there is no connection {connection} under postgres:"));
                }
            },
        };
        let now = ctx.clock.now();
        let looking = tokio::task::spawn_blocking(move || {
            newest(&kept.directory, &of, &kept.job, now, |_| {}).map(|found| (found, kept.directory))
        });
        match tokio::time::timeout(PATIENCE, looking).await {
            Ok(Ok(Ok((Some(head), _)))) => self.judge(&head, now),
            Ok(Ok(Ok((None, directory)))) => {
                let text = format!("there is no backup of {} in {}", self.of, directory.display());
                Measured::of(false, text).against(json!({ "age": null }), self.threshold())
            }
            Ok(Ok(Err(error))) => Measured::unknown(error.to_string()),
            Ok(Err(error)) => Measured::unknown(format!("the backups were not looked at: {error}")),
            Err(_) => {
                let patience = HumanDuration(PATIENCE);
                Measured::unknown(format!(
                    "the directory of {}'s backups doesn't answer within {patience}",
                    self.of
                ))
            }
        }
    }
}

impl Backup {
    fn judge(&self, head: &Head, now: Timestamp) -> Measured {
        let age: Duration = now.duration_since(head.started_at).try_into().unwrap_or_default();
        let proof = head.proof.as_ref();
        let state = proof.map_or("written", |proof| proof.state.as_str());
        let suspect = proof.map_or(&[][..], |proof| &proof.suspect);
        let is_proven = state == State::Verified.word() || (!self.verified && state != State::Damaged.word());
        let shown = HumanDuration(Duration::from_secs(age.as_secs() / 60 * 60));
        let size = head.bytes.map(|bytes| format!(", {}", Size(bytes))).unwrap_or_default();
        let mut text = format!("{} is {shown} old{size}, {state}", head.file);
        let wanted = if self.verified { ", verified" } else { "" };
        text += &format!("; asked for: newer than {}{wanted}", self.newer_than);
        if let Some(why) = suspect.first() {
            text += &format!("; suspect: {why}");
        }
        let value = json!({ "age": rounded(age.as_secs_f64()), "proof": state, "bytes": head.bytes });
        let fine = age < self.newer_than.0 && is_proven && suspect.is_empty();
        #[expect(clippy::cast_precision_loss, reason = "a backup of 2^52 bytes is none of this world")]
        let bytes = head.bytes.map(|bytes| bytes as f64);
        Measured::of(fine, text)
            .against(value, self.threshold())
            .measuring("age", Unit::Seconds, age.as_secs_f64(), self.newer_than.0.as_secs_f64())
            .measuring("size", Unit::Bytes, bytes, None)
    }

    /// The age in seconds.
    fn threshold(&self) -> serde_json::Value {
        let proof = self.verified.then_some(State::Verified.word());
        json!({ "age": self.newer_than.0.as_secs_f64(), "proof": proof })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::health_check::check::State as Found;

    /// What is said of the newest backup of a folder with these manifests, at 23:00 of the day after.
    fn check(options: &str, proofs: &[(&str, &str)], state: Found, expected: &str) {
        let folder = tempfile::tempdir().unwrap();
        for (hour, proof) in proofs {
            let stamp = format!("202611{hour}0000Z");
            let at = format!("2026-11-{}T{}:00:00Z", &hour[..2], &hour[3..]);
            let manifest = format!(
                r#"{{"format_version": 1, "database": "shop", "job": "db-backup", "started_at": "{at}",
                     "file": "shop-{stamp}.sql.gz", "bytes": 1048576, "proof": {proof}}}"#
            );
            std::fs::write(folder.path().join(format!("shop-{stamp}.manifest.json")), manifest).unwrap();
        }
        let check: Backup = serde_json::from_str(options).unwrap();
        let now = "2026-11-22T23:00:00Z".parse().unwrap();
        let measured = match newest(folder.path(), "shop", "db-backup", now, |_| {}).unwrap() {
            Some(head) => check.judge(&head, now),
            None => Measured::of(false, "none"),
        };
        assert_eq!((measured.state, measured.text.as_str()), (state, expected));
    }

    #[test]
    fn the_newest_backup_is_judged_by_its_age_and_its_proof() {
        let (plain, loose) = (r#"{"of": "db-backup"}"#, r#"{"of": "db-backup", "verified": false}"#);
        let (verified, written) = (r#"{"state": "verified"}"#, r#"{"state": "written"}"#);
        let damaged = r#"{"state": "damaged"}"#;
        let suspect =
            r#"{"state": "verified", "suspect": ["it has 3 rows, the last seven had 900 and more"]}"#;
        let young = "shop-20261122T000000Z.sql.gz is 23h old, 1.0 MiB";
        check(
            plain,
            &[("22T00", verified), ("21T00", written)],
            Found::Ok,
            &format!("{young}, verified; asked for: newer than 1d2h, verified"),
        );
        check(
            plain,
            &[("22T00", written), ("21T00", verified)],
            Found::Failing,
            &format!("{young}, written; asked for: newer than 1d2h, verified"),
        );
        check(
            loose,
            &[("22T00", written)],
            Found::Ok,
            &format!("{young}, written; asked for: newer than 1d2h"),
        );
        check(
            loose,
            &[("22T00", damaged)],
            Found::Failing,
            &format!("{young}, damaged; asked for: newer than 1d2h"),
        );
        check(
            plain,
            &[("22T00", suspect)],
            Found::Failing,
            &format!(
                "{young}, verified; asked for: newer than 1d2h, verified; suspect: it has 3 rows, the last seven had \
                 900 and more"
            ),
        );
        check(
            plain,
            &[("21T00", verified)],
            Found::Failing,
            "shop-20261121T000000Z.sql.gz is 1d23h old, 1.0 MiB, verified; asked for: newer than 1d2h, verified",
        );
        // A clock that was wrong has dated one in the future: it would be young for years.
        check(
            plain,
            &[("29T00", verified), ("21T00", verified)],
            Found::Failing,
            "shop-20261121T000000Z.sql.gz is 1d23h old, 1.0 MiB, verified; asked for: newer than 1d2h, verified",
        );
        check(plain, &[], Found::Failing, "none");
    }
}
