//! `health_check`: looks at the host and at what runs on it, and says of each what was measured against what was
//! asked for.
//!
//! A check is one file here: a struct of options and [`Check::look`]. This file owns their list, their running side by
//! side, and the verdict.

mod access_log;
mod backup;
mod causes;
mod certificate;
mod check;
mod command;
mod containers;
mod cpu;
mod disk;
mod entry;
mod http;
mod kept;
mod load;
mod memory;
mod network;
mod postgres;
mod recent;
mod samples;
mod service;
mod tcp;
mod verdict;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::{FutureExt, join_all};
use futures_util::stream::{self, StreamExt};
use schemars::JsonSchema;
use serde::Deserialize;

use self::causes::Node;
use self::check::Measured;
use self::entry::{CheckSeverity, Entry, NAMES};
use self::recent::Recent;
use self::verdict::{Judged, Look, Standing, judge, verdict};
use super::{HostContext, Job, JobContext, JobError, Kept, KindOptions, Lack};
use crate::document::{Invalid, JobRef};
use crate::model::{CheckState, Report};

/// Looks that are under way at once, so that no number of checks is too many; sockets have a bound of their own.
const AT_ONCE: usize = 1000;

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// What is looked at, side by side.
    #[schemars(length(min = 1))]
    checks: Vec<Entry>,
}

impl KindOptions for HealthCheck {
    const NAME: &'static str = "health_check";
    const SUMMARY: &'static str = "looks at the host, its services, sites and certificates";

    fn invalid(&self) -> Vec<Invalid> {
        if self.checks.is_empty() {
            let hint = Some(format!("one of: {}", NAMES.join(", ")));
            return vec![Invalid { key: "checks".into(), message: "there is no check".into(), hint }];
        }
        let mut found: Vec<Invalid> =
            self.checks.iter().enumerate().flat_map(|(at, entry)| entry.invalid(at)).collect();
        let mut names = HashSet::new();
        let named = self.checks.iter().enumerate().filter_map(|(at, entry)| Some((at, entry.given_name()?)));
        for (at, name) in named {
            if !names.insert(name) {
                let message = format!("two checks are called `{name}`");
                let hint =
                    Some("give one of them another `name`, so that their results can be told apart".into());
                found.push(Invalid { key: format!("checks.{at}"), message, hint });
            }
        }
        found.extend(self.wrong_causes());
        found
    }
}

impl HealthCheck {
    fn wrong_causes(&self) -> Vec<Invalid> {
        let names = self.names();
        let mut found = vec![];
        for (at, entry) in self.checks.iter().enumerate() {
            for (place, name) in entry.because_of.iter().flatten().enumerate() {
                if !names.contains(name) {
                    let message = format!("there is no check called `{name}`");
                    let hint = Some(format!("the checks are: {}", names.join(", ")));
                    found.push(Invalid { key: format!("checks.{at}.because_of.{place}"), message, hint });
                }
            }
        }
        let circle = if found.is_empty() { causes::circle(&self.nodes(&names, |_| true)) } else { None };
        found.extend(circle.map(|at| {
            let message = format!("`{}` would be explained by itself in the end", names[at]);
            let hint = Some("nobody would be told of it: leave one of the names out".to_owned());
            Invalid { key: format!("checks.{at}.because_of"), message, hint }
        }));
        found
    }

    fn nodes<'a>(&'a self, names: &'a [String], fails: impl Fn(usize) -> bool) -> Vec<Node<'a>> {
        let node = |(at, (entry, name)): (usize, (&'a Entry, &'a String))| Node {
            name,
            kind: entry.one().map_or("", |(kind, _)| kind),
            fails: fails(at),
            because_of: entry.because_of.as_deref(),
        };
        std::iter::zip(&self.checks, names).enumerate().map(node).collect()
    }

    /// What each is called. The same thing may be looked at twice, say with a threshold to warn at and one to fail at:
    /// the second is then `disk / (2)`.
    fn names(&self) -> Vec<String> {
        let mut taken: HashSet<String> = self.checks.iter().filter_map(Entry::given_name).cloned().collect();
        let mut seen: HashMap<String, usize> = HashMap::new();
        let mut name = |entry: &Entry| {
            let plain = entry.name();
            if entry.given_name().is_some() {
                return plain;
            }
            let count = seen.entry(plain.clone()).or_default();
            loop {
                *count += 1;
                let name = if *count == 1 { plain.clone() } else { format!("{plain} ({count})") };
                if taken.insert(name.clone()) {
                    return name;
                }
            }
        };
        self.checks.iter().map(&mut name).collect()
    }
}

/// One check and what came of it.
struct Looked<'a> {
    entry: &'a Entry,
    kind: &'static str,
    name: String,
    measured: Measured,
}

#[async_trait]
impl Job for HealthCheck {
    async fn run(&self, ctx: &JobContext) -> Result<Report, JobError> {
        let mut looked: Vec<Option<Looked<'_>>> = self.checks.iter().map(|_| None).collect();
        let names = self.names();
        let looks: Vec<_> = std::iter::zip(&self.checks, &names)
            .enumerate()
            .filter_map(|(at, (entry, name))| entry.look(at, name.clone(), ctx))
            .collect();
        let mut looks = stream::iter(looks).buffer_unordered(AT_ONCE);
        let stopped = loop {
            tokio::select! {
                one = looks.next() => match one {
                    Some((at, one)) => looked[at] = Some(one),
                    None => break false,
                },
                () = ctx.cancel.cancelled() => break true,
            }
        };
        if stopped {
            let line = |one: &Looked<'_>| {
                format!("{:<8}{}: {}", one.measured.state.word(), one.name, one.measured.text)
            };
            let lines: Vec<String> = looked.iter().flatten().map(line).collect();
            ctx.log.note(ctx.clock.now(), &lines.join("\n"));
            let missing = names.iter().zip(&looked).filter(|(_, one)| one.is_none());
            let missing: Vec<&str> = missing.map(|(name, _)| name.as_str()).collect();
            let text = format!("stopped before these had a result: {}", missing.join(", "));
            // Whoever ended the run has a reason of its own, and doesn't show this one.
            ctx.log.note(ctx.clock.now(), &text);
            return Err(JobError::Retryable(anyhow::Error::msg(text)));
        }
        let looked: Vec<Looked<'_>> = looked.into_iter().flatten().collect();
        let (states, problem) = self.remember(&looked, ctx).await;
        let nodes =
            self.nodes(&names, |at| states.get(at).is_some_and(|state| state.is(CheckState::Failing)));
        let judged = judge(looked, states, &causes::explain(&nodes));
        // In one write: a hundred of them cost as much as a few checks.
        let lines: Vec<String> = judged.iter().map(Judged::line).chain(problem).collect();
        ctx.log.note(ctx.clock.now(), &lines.join("\n"));
        verdict(&judged)
    }

    async fn preflight(&self, ctx: &HostContext) -> Vec<Lack> {
        let lacks = self.checks.iter().filter_map(Entry::one).map(|(_, check)| check.preflight(ctx));
        join_all(lacks).await.into_iter().flatten().collect()
    }

    /// Looking changes nothing.
    fn can_dry_run(&self) -> bool {
        true
    }

    fn works_on(&self) -> Vec<(String, &JobRef)> {
        let mut found = vec![];
        for (at, entry) in self.checks.iter().enumerate() {
            if let Some((kind, check)) = entry.one()
                && let Some(of) = check.works_on()
            {
                found.push((format!("checks.{at}.{kind}.of"), of));
            }
        }
        found
    }

    fn handed(&self, kept: &BTreeMap<String, Kept>) -> Option<Arc<dyn Job>> {
        let mut told = self.clone();
        let mut is_any = false;
        for check in told.checks.iter_mut().flat_map(Entry::all_mut) {
            if let Some(kept) = check.works_on().and_then(|of| kept.get(&**of)) {
                is_any = true;
                check.hand(kept.clone());
            }
        }
        is_any.then(|| Arc::new(told) as Arc<dyn Job>)
    }
}

impl HealthCheck {
    /// What each look makes of its check, with those before it; and why they could not be remembered.
    async fn remember(&self, looked: &[Looked<'_>], ctx: &JobContext) -> (Vec<Standing>, Option<String>) {
        let look = |one: &Looked<'_>| Look {
            name: one.name.clone(),
            tolerance: one.entry.tolerance(),
            state: one.measured.state,
        };
        let looks: Vec<Look> = looked.iter().map(look).collect();
        if looks.iter().all(|look| look.tolerance.is_one()) {
            return (looks.iter().map(Standing::at_once).collect(), None);
        }
        let (path, dry_run) = (Recent::path(&ctx.state, &ctx.job), ctx.dry_run);
        let remembered = tokio::task::spawn_blocking({
            let looks = looks.clone();
            move || verdict::remember(path, &looks, dry_run)
        });
        remembered.await.unwrap_or_else(|error| {
            (
                looks.iter().map(Standing::at_once).collect(),
                Some(format!("earlier looks are not counted: {error}")),
            )
        })
    }
}

/// A check with a bug in it must not take the others' results along.
async fn caught(look: impl Future<Output = Measured> + Send) -> Measured {
    AssertUnwindSafe(look).catch_unwind().await.unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<&str>().map(|words| (*words).to_owned());
        let words = words.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Measured::of(false, format!("a bug: the check panicked: {words}"))
    })
}
