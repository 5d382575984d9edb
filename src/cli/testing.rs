//! What the tests of several verbs share: a table of jobs that do nothing, and parsed command lines.

use std::path::Path;

use async_trait::async_trait;
use clap::Parser;

use super::args::{Cli, Verb};
use crate::clock::SystemClock;
use crate::config::{self, Environment, JobTable};
use crate::jobs::{Job, JobContext, JobError, Kind, KindOptions, kind};
use crate::model::Report;

#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
struct Nothing {}

#[async_trait]
impl Job for Nothing {
    async fn run(&self, _ctx: &JobContext) -> Result<Report, JobError> {
        Ok(Report::new("nothing done"))
    }
}

impl KindOptions for Nothing {
    const NAME: &'static str = "nothing";
    const SUMMARY: &'static str = "does nothing";
}

const KINDS: &[Kind] = &[kind::<Nothing>()];

pub(super) fn table(text: &str) -> JobTable {
    let environment = Environment::of_process(&SystemClock);
    config::read_with(text, Path::new("jobs.yaml"), &environment, KINDS).unwrap().0
}

pub(super) fn verb(arguments: &str) -> Verb {
    Cli::try_parse_from(format!("punk-eco-sched {arguments}").split(' ')).unwrap().verb
}
