//! One attempt: renew, compare, deploy, look again, report.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::anyhow;
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::live::{self, Live};
use super::options::CertbotRenew;
use super::record::{self, Record};
use super::targets::{self, Seen, State};
use super::{certbot, deploy};
use crate::host::tls::Endpoint;
use crate::jobs::{JobContext, JobError};
use crate::model::{Finding, Report};

/// So long certbot is left alone while what it renewed waits for its deploy: a retry must not ask the authority for
/// another certificate (Let's Encrypt gives five of the same in a week).
const OWED: SignedDuration = SignedDuration::from_hours(24);

/// When certbot begins to renew, unless its configuration of the certificate says otherwise (renew_before_expiry).
const BEFORE_EXPIRY: SignedDuration = SignedDuration::from_hours(30 * 24);

pub(super) struct Renewal<'a> {
    options: &'a CertbotRenew,
    ctx: &'a JobContext,
    config_dir: PathBuf,
    endpoints: Vec<Endpoint>,
    record: PathBuf,
}

/// What went wrong so far. Each stands for itself, so that nothing hides behind the first.
#[derive(Default)]
struct Trouble {
    told: Vec<String>,
    /// Another attempt may mend some of it.
    retryable: bool,
    findings: Vec<Finding>,
}

impl Trouble {
    fn lasting(&mut self, what: impl Into<String>) {
        self.told.push(what.into());
    }

    fn passing(&mut self, what: impl Into<String>) {
        self.retryable = true;
        self.told.push(what.into());
    }

    fn finding(&mut self, what: impl Into<String>) {
        self.findings.push(Finding::warning(what));
    }
}

impl<'a> Renewal<'a> {
    pub(super) fn new(options: &'a CertbotRenew, ctx: &'a JobContext) -> Self {
        let record = record::path(&ctx.state, &ctx.job);
        let (config_dir, endpoints) = (options.config_dir(), options.endpoints());
        Self { options, ctx, config_dir, endpoints, record }
    }

    pub(super) async fn run(self) -> Result<Report, JobError> {
        let mut trouble = Trouble::default();
        let before = self.live().await?;
        let mut record = self.recall(&before, &mut trouble);
        if deploy::timer_is_active(&self.ctx.programs).await {
            trouble.finding(
                "certbot.timer is active: it renews beside this job, and nobody deploys what it renews; \
                 systemctl disable --now certbot.timer",
            );
        }
        let certbot_was_fine = self.renew(&record, &mut trouble).await;
        let live = self.live().await?;
        let renewed: Vec<&String> = live
            .certificates
            .iter()
            .filter(|(name, one)| before.certificates.get(*name).is_none_or(|old| old.serial != one.serial))
            .map(|(name, _)| name)
            .collect();
        // What certbot could not renew it must be asked for again, whatever becomes of the rest.
        if !renewed.is_empty() && certbot_was_fine {
            record.renewed_at = Some(self.ctx.clock.now());
            self.remember(&record, &mut trouble);
        }
        for broken in &live.broken {
            trouble.lasting(broken.clone());
        }
        self.warn(&live, &mut trouble);

        let (seen, deployed) = self.deploy(&live, &mut record, &mut trouble).await;
        let report = Report::new(String::new())
            .fact("renewed", json!(renewed))
            .fact("deployed", deployed.keys().cloned().collect::<Vec<String>>())
            .fact("certificates", facts(&before, &live))
            .fact("served", seen.iter().map(Seen::fact).collect::<Vec<Value>>());
        self.conclude(report, trouble, &live, &renewed, &deployed)
    }

    /// Where something waits for it, or is served too old. What is served in the end, and what was deployed.
    async fn deploy(
        &self,
        live: &Live,
        record: &mut Record,
        trouble: &mut Trouble,
    ) -> (Vec<Seen>, BTreeMap<String, String>) {
        let mut seen = targets::look(&self.endpoints, live).await;
        self.log_seen(&seen);
        let mut owed = owed(live, record, &seen);
        let mut after = "";
        if !owed.is_empty() {
            match deploy::deploy(&self.ctx.programs, &self.options.reload).await {
                Ok(()) => {
                    seen = targets::wait(&self.endpoints, live, seen).await;
                    self.log_seen(&seen);
                    after = ", also after the reload";
                }
                Err(why) => {
                    trouble.passing(format!(
                        "{} is on disk and not deployed: {why}; once that is mended, the next run deploys it without \
                         renewing it again",
                        listed(&owed)
                    ));
                    owed.clear();
                }
            }
        }
        let refused = owed.is_empty();
        for one in seen.iter().filter(|one| !one.is_fine()) {
            match &one.state {
                State::Homeless { .. } => trouble.lasting(one.to_string()),
                // Said with the reason.
                State::Older { .. } if refused => {}
                State::Older { .. } => trouble.passing(format!("{one}{after}")),
                State::Away(_) | State::Newest { .. } => trouble.passing(one.to_string()),
            }
        }
        if !owed.is_empty() && seen.iter().all(Seen::is_fine) {
            record.deployed = live.serials();
            record.renewed_at = None;
            self.remember(record, trouble);
        }
        (seen, owed)
    }

    /// What a run would find and do.
    pub(super) async fn say(self) -> Result<Report, JobError> {
        let live = self.live().await?;
        let note = |text: &str| self.ctx.log.note(self.ctx.clock.now(), text);
        for (name, one) in &live.certificates {
            let due = one.not_after.checked_sub(BEFORE_EXPIRY).unwrap_or(one.not_after);
            let names = one.names.join(", ");
            note(&format!(
                "{name}: serial {}, for {names}, until {}; certbot renews it from {due} on, unless its \
                 renew_before_expiry says otherwise",
                one.serial, one.not_after
            ));
        }
        live.broken.iter().for_each(|broken| note(broken));
        let seen = targets::look(&self.endpoints, &live).await;
        self.log_seen(&seen);
        let mut trouble = Trouble::default();
        self.warn(&live, &mut trouble);
        let record = match record::read(&self.record, &self.config_dir) {
            Ok(Some(record)) => record,
            Ok(None) => self.first_record(&live),
            Err(_) => Record::default(),
        };
        let then = if owed(&live, &record, &seen).is_empty() { "" } else { ", then deploy what is on disk" };
        let summary = format!("would have certbot renew what is due{then}: {}", self.overview(&live));
        let mut report = Report::new(summary)
            .fact("certificates", facts(&live, &live))
            .fact("served", seen.iter().map(Seen::fact).collect::<Vec<Value>>());
        let bad = seen.iter().filter(|one| !one.is_fine()).map(Seen::to_string);
        report.findings = live.broken.iter().cloned().chain(bad).map(Finding::warning).collect();
        report.findings.extend(trouble.findings);
        Ok(report)
    }

    async fn live(&self) -> Result<Live, JobError> {
        live::read(&self.config_dir).await.map_err(|why| JobError::permanent(anyhow!(why)))
    }

    /// What was deployed last.
    fn recall(&self, live: &Live, trouble: &mut Trouble) -> Record {
        match record::read(&self.record, &self.config_dir) {
            Ok(Some(record)) => return record,
            Ok(None) => {}
            Err(why) => {
                trouble.finding(format!(
                    "{why}: it is not known what was deployed last, so that all of it is now"
                ));
                return Record { config_dir: self.config_dir.clone(), ..Record::default() };
            }
        }
        // Written before certbot has done anything: whoever is killed on the way knows what was there.
        let record = self.first_record(live);
        self.remember(&record, trouble);
        record
    }

    /// What is there at first is taken for deployed: only what certbot renews from then on is owed.
    fn first_record(&self, live: &Live) -> Record {
        Record { config_dir: self.config_dir.clone(), deployed: live.serials(), renewed_at: None }
    }

    fn remember(&self, record: &Record, trouble: &mut Trouble) {
        if let Err(why) = record::write(&self.record, record) {
            trouble.finding(format!("{why}; where a deploy fails, the next run may not know of it"));
        }
    }

    /// Where certbot fails, what is on disk is deployed all the same.
    async fn renew(&self, record: &Record, trouble: &mut Trouble) -> bool {
        let now = self.ctx.clock.now();
        if let Some(at) = record.renewed_at.filter(|at| at.duration_until(now).abs() < OWED) {
            let text = format!(
                "certbot renewed at {at}, and that is not deployed: deploying it before any more is renewed"
            );
            self.ctx.log.note(now, &text);
            return true;
        }
        match certbot::renew(&self.ctx.programs, self.options).await {
            Ok(()) => return true,
            Err(JobError::Permanent(why)) => trouble.lasting(format!("{why:#}")),
            Err(other) => trouble.passing(other.to_string()),
        }
        false
    }

    fn warn(&self, live: &Live, trouble: &mut Trouble) {
        let at = self.config_dir.display();
        if live.certificates.is_empty() && live.broken.is_empty() {
            trouble.finding(format!(
                "there is no certificate under {at}: the first one is asked for by hand (certbot certonly)"
            ));
        }
        let now = self.ctx.clock.now();
        for (name, one) in live.certificates.iter().filter(|(_, one)| one.not_after <= now) {
            trouble.finding(format!("{name} has expired on {}, and certbot did not renew it", one.not_after));
        }
    }

    fn log_seen(&self, seen: &[Seen]) {
        for one in seen {
            self.ctx.log.note(self.ctx.clock.now(), &one.to_string());
        }
    }

    fn overview(&self, live: &Live) -> String {
        let first = live.certificates.iter().min_by_key(|(_, one)| one.not_after);
        match (live.certificates.len(), first) {
            (1, Some((name, one))) => format!("{name} is valid until {}", one.not_after),
            (count, Some((name, one))) => {
                format!("{count} certificates, of which {name} ends first, on {}", one.not_after)
            }
            (_, None) => format!("there is no certificate under {}", self.config_dir.display()),
        }
    }

    fn conclude(
        &self,
        mut report: Report,
        trouble: Trouble,
        live: &Live,
        renewed: &[&String],
        deployed: &BTreeMap<String, String>,
    ) -> Result<Report, JobError> {
        report.findings = trouble.findings;
        let renewals: Vec<String> = renewed
            .iter()
            .filter_map(|name| live.certificates.get(*name).map(|one| (name, one)))
            .map(|(name, one)| format!("{name} (serial {}, until {})", one.serial, one.not_after))
            .collect();
        let mut parts = vec![];
        if !renewals.is_empty() {
            parts.push(format!("renewed {}", renewals.join(", ")));
        }
        if trouble.told.is_empty() {
            if renewals.is_empty() {
                parts.push(format!("nothing was renewed: {}", self.overview(live)));
            }
            if !deployed.is_empty() {
                parts.push(format!("deployed {}", listed(deployed)));
            }
            let places: Vec<&str> = self.endpoints.iter().map(|one| one.address.as_str()).collect();
            if !places.is_empty() {
                parts.push(format!("{} as on disk", served_at(&places)));
            }
            report.summary = parts.join("; ");
            return Ok(report);
        }
        parts.extend(trouble.told);
        report.summary = parts.join("; ");
        if trouble.retryable {
            return Err(JobError::Found(Box::new(report)));
        }
        Err(JobError::permanent(anyhow!(report.summary)))
    }
}

fn served_at(places: &[&str]) -> String {
    format!("served at {}", places.join(", "))
}

/// What is on disk, and what was there before certbot was asked.
fn facts(before: &Live, live: &Live) -> Vec<Value> {
    let fact = |(name, one): (&String, &crate::host::certificates::Certificate)| {
        json!({
            "name": name, "serial": one.serial,
            "serial_before": before.certificates.get(name).map(|before| &before.serial),
            "not_after": one.not_after.to_string(), "names": one.names,
        })
    };
    live.certificates.iter().map(fact).collect()
}

/// The serials of the certificates that the server has not been made to read, or does not serve.
fn owed(live: &Live, record: &Record, seen: &[Seen]) -> BTreeMap<String, String> {
    let mut owed = live.serials();
    owed.retain(|name, serial| record.deployed.get(name) != Some(serial));
    for one in seen {
        if let State::Older { lineage, newest, .. } = &one.state {
            owed.insert(lineage.clone(), newest.clone());
        }
    }
    owed
}

/// `punk-eco.ma (serial 0A), shop (serial 0B)`
fn listed(certificates: &BTreeMap<String, String>) -> String {
    let listed: Vec<String> =
        certificates.iter().map(|(name, serial)| format!("{name} (serial {serial})")).collect();
    listed.join(", ")
}
