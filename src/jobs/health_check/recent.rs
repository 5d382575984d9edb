//! How often a check must be bad to fail: what its last looks found, kept from run to run in one small file a job.
//!
//! Pure but for reading and writing that file. A result that is lost, as on a full disk, makes a check that fails do so
//! later; it never makes one fail that does not.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

use super::kept::{Held, lock, read, replace};
use crate::model::{CheckState, JobName};

/// Beyond this nobody sees any more what a check is about.
const MOST: usize = 100;

/// `3/5`: fails when three of the last five looks were bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tolerance {
    bad: usize,
    of: usize,
}

impl Default for Tolerance {
    fn default() -> Self {
        Self { bad: 1, of: 1 }
    }
}

impl FromStr for Tolerance {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not like 3/5: fails when 3 of the last 5 looks were bad");
        let (bad, of) = text.split_once('/').ok_or_else(wrong)?;
        let number = |text: &str| text.trim().parse::<usize>().map_err(|_| wrong());
        let (bad, of) = (number(bad)?, number(of)?);
        if bad == 0 || bad > of {
            return Err(format!("`{text}`: from 1 to {of} of the last {of} looks can be bad"));
        }
        if of > MOST {
            return Err(format!("`{text}`: at most {MOST} looks are kept"));
        }
        Ok(Self { bad, of })
    }
}

impl fmt::Display for Tolerance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.bad, self.of)
    }
}

impl<'de> Deserialize<'de> for Tolerance {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Tolerance {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Tolerance".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]+/[0-9]+$", "examples": ["3/5"] })
    }
}

impl Tolerance {
    /// Nothing need be remembered for it.
    pub(super) fn is_one(self) -> bool {
        self.of == 1
    }

    /// The state after these looks, oldest first; true: bad. The last one is that of now.
    pub(super) fn judge(self, looks: &[bool]) -> CheckState {
        let last = &looks[looks.len().saturating_sub(self.of)..];
        let bad = last.iter().filter(|bad| **bad).count();
        match last.last() {
            None => CheckState::Unknown,
            Some(_) if bad >= self.bad => CheckState::Failing,
            Some(true) => CheckState::Pending,
            Some(false) => CheckState::Ok,
        }
    }

    /// `2 of the last 5 looks were bad, 3 make it fail`
    pub(super) fn tell(self, looks: &[bool]) -> String {
        let last = &looks[looks.len().saturating_sub(self.of)..];
        let bad = last.iter().filter(|bad| **bad).count();
        let were = if bad == 1 { "was" } else { "were" };
        let make = if self.bad == 1 { "makes" } else { "make" };
        format!("{bad} of the last {} looks {were} bad, {} {make} it fail", self.of, self.bad)
    }
}

/// The last looks of a job's checks, by their names.
pub(super) struct Recent {
    path: PathBuf,
    looks: BTreeMap<String, Vec<bool>>,
    /// None: they can't be kept.
    held: Option<Held>,
    pub(super) problem: Option<String>,
}

/// As it is written: `0` good, `1` bad, oldest first.
#[derive(Serialize, Deserialize)]
struct Written {
    looks: BTreeMap<String, String>,
}

impl Recent {
    pub(super) fn path(state: &Path, job: &JobName) -> PathBuf {
        state.join(super::kept::FOLDER).join(format!("{job}.looks.json"))
    }

    /// Those of before, with the file locked until [`Recent::keep`]. Blocks for a moment.
    pub(super) fn begin(path: PathBuf) -> Self {
        let (held, mut problem) = match lock(path.parent().unwrap_or(&path)) {
            Ok(held) => (Some(held), None),
            Err(error) => (None, Some(format!("{}: {error}: this look is not remembered", path.display()))),
        };
        let looks = match read::<Written>(&path) {
            Ok(written) => written.map(|written| written.looks).unwrap_or_default(),
            Err(error) => {
                problem.get_or_insert(format!("{}: {error}: begun anew", path.display()));
                BTreeMap::new()
            }
        };
        let bits = |text: String| text.bytes().map(|byte| byte == b'1').collect();
        let looks = looks.into_iter().map(|(name, text)| (name, bits(text))).collect();
        Self { path, looks, held, problem }
    }

    /// With one more look of this check; none where there was too little to judge by.
    pub(super) fn look(&mut self, name: &str, tolerance: Tolerance, bad: Option<bool>) -> &[bool] {
        let looks = self.looks.entry(name.to_owned()).or_default();
        looks.extend(bad);
        looks.drain(..looks.len().saturating_sub(tolerance.of));
        looks
    }

    /// Writes those of these checks and forgets the others.
    pub(super) fn keep(mut self, names: &[&str]) -> Option<String> {
        self.looks.retain(|name, _| names.contains(&name.as_str()));
        let Some(held) = &self.held else { return self.problem };
        let text = |looks: &Vec<bool>| looks.iter().map(|bad| if *bad { '1' } else { '0' }).collect();
        let looks = self.looks.iter().map(|(name, looks)| (name.clone(), text(looks))).collect();
        let failed = replace(&self.path, &Written { looks }, held).err();
        failed
            .map(|error| format!("{}: {error}: this look is not remembered", self.path.display()))
            .or(self.problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `1` bad, `0` good, `-` too little to judge by; the state after each: `F`ailing, `p`ending, `.` ok, `?` unknown.
    fn check(tolerance: &str, looks: &str, expected: &str) {
        let tolerance: Tolerance = tolerance.parse().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = Recent::path(folder.path(), &JobName::new("monitoring").unwrap());
        let state = |look: char| {
            let mut recent = Recent::begin(path.clone());
            let bad = (look != '-').then_some(look == '1');
            let state = tolerance.judge(recent.look("page", tolerance, bad));
            assert_eq!(recent.keep(&["page"]), None);
            match (state, bad) {
                (CheckState::Failing, _) => 'F',
                (CheckState::Pending, _) => 'p',
                (CheckState::Ok, _) => '.',
                (CheckState::Unknown, _) => '?',
            }
        };
        assert_eq!(looks.chars().map(state).collect::<String>(), expected, "{tolerance} {looks}");
    }

    #[test]
    fn a_check_fails_when_so_many_of_the_last_looks_were_bad() {
        check("1/1", "0110", ".FF.");
        check("3/5", "111", "ppF");
        check("3/5", "10101", "p.p.F");
        // Bad and good by turns: three of five, two of five.
        check("3/5", "1010101010", "p.p.F.F.F.");
        check("3/5", "1100011", "pp...pp");
        check("3/5", "110001110", "pp...ppFF");
        check("3/5", "1111100000", "ppFFFFF...");
        check("2/2", "101101", "p.pF.p");
        check("1/3", "10001", "FFF.F");
        check("3/3", "1101110", "pp.ppF.");
        // Too little to judge by changes nothing.
        check("3/5", "-11-1-", "?pppFF");
        check("1/1", "-1-0-", "?FF..");
    }

    #[test]
    fn what_is_no_tolerance_says_how_one_is_written() {
        let check = |text: &str, expected: &str| {
            assert_eq!(text.parse::<Tolerance>().unwrap_err(), expected);
        };
        check("3", "`3` is not like 3/5: fails when 3 of the last 5 looks were bad");
        check("a/b", "`a/b` is not like 3/5: fails when 3 of the last 5 looks were bad");
        check("0/5", "`0/5`: from 1 to 5 of the last 5 looks can be bad");
        check("6/5", "`6/5`: from 1 to 5 of the last 5 looks can be bad");
        check("1/1000", "`1/1000`: at most 100 looks are kept");
        assert_eq!(" 3 / 5".parse::<Tolerance>().unwrap().to_string(), "3/5");
    }

    #[test]
    fn looks_of_checks_that_are_gone_are_forgotten_and_damaged_ones_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = Recent::path(folder.path(), &JobName::new("monitoring").unwrap());
        let tolerance: Tolerance = "2/3".parse().unwrap();
        let mut recent = Recent::begin(path.clone());
        recent.look("page", tolerance, Some(true));
        recent.look("disk", tolerance, Some(true));
        assert_eq!(recent.keep(&["disk"]), None);
        let mut recent = Recent::begin(path.clone());
        assert_eq!(recent.look("page", tolerance, Some(true)), [true]);
        assert_eq!(recent.look("disk", tolerance, Some(false)), [true, false]);
        assert_eq!(
            tolerance.tell(recent.look("disk", tolerance, None)),
            "1 of the last 3 looks was bad, 2 make it fail"
        );
        drop(recent);
        std::fs::write(&path, "[").unwrap();
        let recent = Recent::begin(path.clone());
        assert!(recent.problem.as_ref().unwrap().ends_with(": begun anew"), "{:?}", recent.problem);
        drop(recent);
        // Somebody else has it: nobody waits for long, and nobody's looks are lost.
        let held = Recent::begin(path.clone());
        let second = Recent::begin(path);
        let problem = second.keep(&[]).unwrap();
        assert!(problem.ends_with("this look is not remembered"), "{problem}");
        drop(held);
    }
}
