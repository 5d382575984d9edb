//! One try to bring one notice to one contact, by mail or webhook, bounded by a timeout. Never tries again: the lane
//! does, as the failure allows.

use std::time::Duration;

use super::Lane;
use crate::alert::tail::tail;
use crate::alert::{Message, Story};
use crate::config::{JobTable, Smtp};
use crate::host::http::{Answer, Request, Target};
use crate::host::mail::{self, Mail, Server};
use crate::host::secret::{ExposeSecret, SecretError};
use crate::ledger::Notice;
use crate::model::Channel;

/// For all of a mail, and for all of a webhook's answer.
const MAIL_PATIENCE: Duration = Duration::from_secs(30);
const WEBHOOK_PATIENCE: Duration = Duration::from_secs(10);

/// Why a notice was not delivered.
pub(in crate::alert) enum Failure {
    /// Another time it may be.
    ForNow(String),
    ForGood(String),
}

pub(super) async fn send(lane: &Lane, table: &JobTable, notice: &Notice) -> Result<(), Failure> {
    let story: Story = serde_json::from_value(notice.story.clone())
        .map_err(|error| Failure::ForGood(format!("what the ledger says of it can't be read: {error}")))?;
    let Some(contact) = table.contacts.get(&lane.0) else {
        return Err(Failure::ForGood("jobs.yaml has no such contact any more".to_owned()));
    };
    let log = tail(table.paths.logs.clone(), notice.job.clone(), notice.run).await;
    let message = Message { notice, story: &story, log: &log, zone: &table.timezone };
    match lane.1 {
        Channel::Email => {
            let smtp = table.alerts.as_ref().and_then(|alerts| alerts.smtp.as_ref());
            let (Some(to), Some(smtp)) = (&contact.email, smtp) else {
                return Err(Failure::ForGood("jobs.yaml has no address or no mail server for it".into()));
            };
            send_mail(smtp, to, &message).await
        }
        Channel::Webhook => {
            let Some(webhook) = &contact.webhook else {
                return Err(Failure::ForGood("jobs.yaml has no webhook for it any more".into()));
            };
            let address = webhook.resolve().map_err(|error| Failure::ForNow(error.to_string()))?;
            post(address.expose_secret(), &message).await
        }
    }
}

/// With its password fetched anew: one that was mended is used at the next try.
///
/// # Errors
/// Where the password can't be read.
pub fn mail_server(smtp: &Smtp) -> Result<Server, SecretError> {
    let password = smtp.password.as_ref().map(|password| password.resolve()).transpose()?;
    Ok(Server {
        host: smtp.host.clone(),
        port: smtp.port,
        tls: smtp.tls,
        login: smtp.user.clone().map(|user| (user, password.unwrap_or_default())),
        patience: MAIL_PATIENCE,
    })
}

async fn send_mail(smtp: &Smtp, to: &str, message: &Message<'_>) -> Result<(), Failure> {
    let server = mail_server(smtp).map_err(|error| Failure::ForNow(error.to_string()))?;
    let mail = Mail {
        id: message.notice.id.clone(),
        at: message.notice.at,
        from: smtp.from.clone(),
        to: to.to_owned(),
        subject: message.subject(),
        text: message.text(),
    };
    mail::send(&server, &mail).await.map_err(|error| match error.is_final() {
        true => Failure::ForGood(error.to_string()),
        false => Failure::ForNow(error.to_string()),
    })
}

async fn post(address: &str, message: &Message<'_>) -> Result<(), Failure> {
    let target = Target::secret(address.trim())
        .map_err(|reason| Failure::ForNow(format!("the webhook's address is wrong: {reason}")))?;
    let mut request = Request::post(target, "application/json", message.json().to_string());
    request.timeout = WEBHOOK_PATIENCE;
    // A status says that it was taken; a body that breaks off must not have it sent again and again.
    request.read = 0;
    // A receiver that is asked twice can tell by it.
    request.headers.push(("Idempotency-Key".to_owned(), message.notice.id.clone()));
    let answer = request.send().await.map_err(|error| Failure::ForNow(error.to_string()))?;
    judge(&answer)
}

/// By the status alone.
pub(in crate::alert) fn judge(answer: &Answer) -> Result<(), Failure> {
    let refused = || format!("{} answers {}", answer.url, answer.status);
    match answer.status {
        200..=299 => Ok(()),
        // Too slow, too many: RFC 9110 and RFC 6585 say that it may be asked again.
        408 | 429 => Err(Failure::ForNow(refused())),
        400..=499 => Err(Failure::ForGood(refused())),
        _ => Err(Failure::ForNow(refused())),
    }
}
