//! When: the zone of the file, and the schedule and zone of each job.

use jiff::tz::TimeZone;

use super::jobs::{Loading, Shared};
use super::policies::Policies;
use crate::document::{Node, Place, ProblemSeverity, Value, nearest};
use crate::schedule::Schedule;

/// Unknown zones beyond which the nearest spelling is no longer looked for: it takes a look at every zone.
const HINTED: usize = 100;

impl<'a> Loading<'a> {
    pub(super) fn file_zone(&mut self, name: Option<&str>, clean: bool) -> TimeZone {
        if let Some(name) = name {
            let place = self.root.get("timezone").map_or(self.root.place, |entry| entry.node.place);
            return self.zone(name, place, "timezone").unwrap_or(TimeZone::UTC);
        }
        match &self.environment.zone {
            Ok(zone) => zone.clone(),
            Err(reason) => {
                if clean {
                    let message =
                        format!("no `timezone`, and the system's is not known: UTC is used ({reason})");
                    self.report(ProblemSeverity::Warning, self.root.place, "timezone", message, None);
                }
                TimeZone::UTC
            }
        }
    }

    pub(super) fn zone(&mut self, name: &str, place: Place, path: &str) -> Option<TimeZone> {
        let zones = &mut self.zones;
        if !zones.contains_key(name) {
            let found = TimeZone::get(name).map_err(|_| {
                let unknown = zones.values().filter(|zone| zone.is_err()).take(HINTED).count();
                (unknown < HINTED).then(|| nearest_zone(name))
            });
            zones.insert(name.to_owned(), found);
        }
        match zones.get(name)? {
            Ok(zone) => Some(zone.clone()),
            Err(hint) => {
                let hint = hint.clone();
                self.report(ProblemSeverity::Error, place, path, format!("unknown time zone `{name}`"), hint);
                None
            }
        }
    }

    /// The schedule of one job, or of the defaults, in its zone.
    pub(super) fn schedule(
        &mut self,
        policies: &Policies,
        node: &'a Node<'a>,
        seed: &str,
        path: &str,
        shared: &mut Shared<'a>,
    ) -> Option<Schedule> {
        let zone = self.zone_of(policies, node, path, shared);
        let (expressions, schedule, path) = match policies.expressions() {
            Some(own) => (own, node.get("schedule")?, path),
            None => (shared.defaults.expressions()?, shared.written?.node.get("schedule")?, "defaults"),
        };
        let path = format!("{path}.schedule");
        let zone = zone?;
        if expressions.is_empty() {
            return None;
        }
        let at = |index: usize| match &schedule.node.value {
            Value::List(items) => items.get(index).unwrap_or(&schedule.node),
            _ => &schedule.node,
        };
        match Schedule::parse(&expressions, &zone, seed) {
            Ok(parsed) => {
                self.lint(&parsed, &schedule.node, &path);
                Some(parsed)
            }
            Err(errors) => {
                for error in errors {
                    let item = at(error.index);
                    let place =
                        error.at.map_or(item.place, |range| item.place_within(self.text, range.start));
                    self.report(ProblemSeverity::Error, place, &path, error.message, error.hint);
                }
                None
            }
        }
    }

    /// What is odd about a schedule that can be read.
    pub(super) fn lint(&mut self, schedule: &Schedule, node: &Node<'_>, path: &str) {
        for lint in schedule.lint(self.environment.now) {
            self.report(ProblemSeverity::Warning, node.place, path, lint.message, lint.hint);
        }
    }

    /// `None`: the name is wrong, and that was said.
    pub(super) fn zone_of(
        &mut self,
        policies: &Policies,
        node: &Node<'_>,
        path: &str,
        shared: &mut Shared<'a>,
    ) -> Option<TimeZone> {
        let (name, key, path) = match (&policies.timezone, &shared.defaults.timezone) {
            (Some(own), _) => (own, node.get("timezone")?, path),
            (None, Some(default)) => (default, shared.written?.node.get("timezone")?, "defaults"),
            (None, None) => return Some(shared.zone.clone()),
        };
        self.zone(name, key.node.place, &format!("{path}.timezone"))
    }
}

fn nearest_zone(name: &str) -> String {
    let known: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
    nearest(name, known.iter().map(String::as_str)).map_or_else(
        || "write an IANA name such as Africa/Casablanca or Europe/Paris".to_owned(),
        |near| format!("did you mean `{near}`?"),
    )
}
