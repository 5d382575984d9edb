//! `certbot_renew`: has certbot renew what is due, and sees to it that the newest certificates are the ones served.
//!
//! What is served is compared with the disk on each run, renewed or not, so that a deploy that failed yesterday is
//! mended today. certbot's own work (accounts, challenges, its files) is certbot's alone.

mod certbot;
mod deploy;
mod live;
mod options;
mod record;
mod renewal;
mod targets;

use async_trait::async_trait;

pub use options::CertbotRenew;

use super::{HostContext, Job, JobContext, JobError, KindOptions, Lack};
use crate::document::Invalid;
use crate::model::Report;
use crate::policy::Retries;

impl KindOptions for CertbotRenew {
    const NAME: &'static str = "certbot_renew";
    const SUMMARY: &'static str = "renew certificates with certbot, deploy them, and see them served";
    const RETRIES: Retries = Retries::THRICE;

    fn invalid(&self) -> Vec<Invalid> {
        self.problems()
    }
}

#[async_trait]
impl Job for CertbotRenew {
    async fn run(&self, ctx: &JobContext) -> Result<Report, JobError> {
        let work = renewal::Renewal::new(self, ctx);
        let stopped = || JobError::Retryable(anyhow::anyhow!("stopped before its end"));
        tokio::select! {
            done = async { if ctx.dry_run { work.say().await } else { work.run().await } } => done,
            () = ctx.cancel.cancelled() => Err(stopped()),
        }
    }

    async fn preflight(&self, _ctx: &HostContext) -> Vec<Lack> {
        let fatal = |message: String, hint: Option<String>| Lack { fatal: true, message, hint };
        let mut lacks: Vec<Lack> = vec![];
        if let Err(reason) = certbot::find(&self.certbot) {
            let hint = "apt-get install certbot, or say where it is: certbot: PATH";
            lacks.push(fatal(format!("{}: {reason}", self.certbot), Some(hint.into())));
        }
        for (program, reason) in deploy::lacking(&self.reload) {
            lacks.push(fatal(format!("{program}: {reason}"), None));
        }
        let config_dir = self.config_dir();
        match live::read(&config_dir).await {
            Ok(live) => {
                let broken = live.broken.iter().map(|message| fatal(message.clone(), None));
                lacks.extend(broken);
                if live.certificates.is_empty() {
                    let message = format!("there is no certificate yet under {}", config_dir.display());
                    let hint = "the first one is asked for by hand: certbot certonly";
                    lacks.push(Lack { fatal: false, message, hint: Some(hint.into()) });
                }
            }
            Err(message) => lacks.push(fatal(message, None)),
        }
        for endpoint in self.endpoints() {
            if let Err(error) = tokio::net::lookup_host(&endpoint.address).await {
                let message = format!("served_at {}: {error}", endpoint.address);
                lacks.push(Lack { fatal: false, message, hint: None });
            }
        }
        lacks
    }

    fn can_dry_run(&self) -> bool {
        true
    }
}
