//! One try to bring one message to one contact, by mail or webhook, bounded by a timeout. Never tries again: the lane
//! does, as the failure allows.

use std::time::Duration;

use jiff::Timestamp;

use super::Lane;
use crate::alert::digest::Digest;
use crate::alert::forms;
use crate::alert::said::Said;
use crate::alert::tail::tail;
use crate::alert::{Message, Story};
use crate::config::{Contact, Form, JobTable, Language, Smtp, Webhook};
use crate::host::http::{Answer, Request, Target};
use crate::host::mail::{self, Mail, Server};
use crate::host::secret::{self, ExposeSecret, SecretError, SecretString};
use crate::ledger::Notice;
use crate::model::Channel;

/// For all of a mail, and for all of a webhook's answer.
const MAIL_PATIENCE: Duration = Duration::from_secs(30);
const WEBHOOK_PATIENCE: Duration = Duration::from_secs(10);

/// Why a message was not delivered.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Another time it may be; not before the server's own wish.
    ForNow(String, Option<Duration>),
    ForGood(String),
}

impl Failure {
    pub(crate) fn reason(self) -> String {
        match self {
            Self::ForNow(reason, _) | Self::ForGood(reason) => reason,
        }
    }

    pub(in crate::alert) fn for_now(reason: impl ToString) -> Self {
        Self::ForNow(reason.to_string(), None)
    }
}

/// Where a message was taken, fit to be shown.
pub(crate) struct Sent(pub(crate) String);

/// Several notices are one message.
pub(super) async fn send(
    lane: &Lane,
    table: &JobTable,
    notices: &[&Notice],
    host: &str,
    now: Timestamp,
) -> Result<(), Failure> {
    let Some(contact) = table.contacts.get(&lane.0) else {
        return Err(Failure::ForGood("jobs.yaml has no such contact any more".to_owned()));
    };
    let language = table.alerts.as_ref().map_or(Language::default(), |alerts| alerts.language);
    let zone = &table.timezone;
    let said = match notices {
        [notice] => {
            let story: Story = serde_json::from_value(notice.story.clone()).map_err(|error| {
                Failure::ForGood(format!("what the ledger says of it can't be read: {error}"))
            })?;
            let log = tail(table.paths.logs.clone(), notice.job.clone(), notice.run).await;
            Message { notice, story: &story, log: &log, zone, language }.said()
        }
        notices => Digest { notices, host, now, zone, language }.said(),
    };
    deliver(table, contact, lane.1, &said, now).await.map(drop)
}

/// By this channel of this contact.
pub(crate) async fn deliver(
    table: &JobTable,
    contact: &Contact,
    channel: Channel,
    said: &Said,
    now: Timestamp,
) -> Result<Sent, Failure> {
    match channel {
        Channel::Email => {
            let smtp = table.alerts.as_ref().and_then(|alerts| alerts.smtp.as_ref());
            let (Some(to), Some(smtp)) = (&contact.email, smtp) else {
                return Err(Failure::ForGood("jobs.yaml has no address or no mail server for it".into()));
            };
            send_mail(smtp, to, said).await
        }
        Channel::Webhook => match &contact.webhook {
            Some(webhook) => post(webhook, said, now).await,
            None => Err(Failure::ForGood("jobs.yaml has no webhook for it any more".into())),
        },
    }
}

/// With its password fetched anew: one that was mended is used at the next try.
///
/// # Errors
/// Where the password can't be read.
pub async fn mail_server(smtp: &Smtp) -> Result<Server, SecretError> {
    let password = match &smtp.password {
        Some(password) => password.resolve_within(secret::PATIENCE).await?,
        None => SecretString::default(),
    };
    Ok(Server {
        host: smtp.host.clone(),
        port: smtp.port,
        tls: smtp.tls,
        login: smtp.user.clone().map(|user| (user, password)),
        patience: MAIL_PATIENCE,
    })
}

async fn send_mail(smtp: &Smtp, to: &str, said: &Said) -> Result<Sent, Failure> {
    let server = mail_server(smtp).await.map_err(Failure::for_now)?;
    let mail = Mail {
        id: said.id.clone(),
        at: said.at,
        sender: said.sender.clone(),
        from: smtp.from.clone(),
        to: to.to_owned(),
        subject: said.subject.clone(),
        text: said.text.clone(),
    };
    match mail::send(&server, &mail).await {
        Ok(()) => Ok(Sent(format!("{to}, through SMTP at {}", server.name()))),
        Err(error) if error.is_final() => Err(Failure::ForGood(error.to_string())),
        Err(error) => Err(Failure::for_now(error)),
    }
}

async fn post(webhook: &Webhook, said: &Said, now: Timestamp) -> Result<Sent, Failure> {
    let address = webhook.url.resolve_within(secret::PATIENCE).await.map_err(Failure::for_now)?;
    let target = Target::secret(address.expose_secret().trim())
        .map_err(|reason| Failure::for_now(format!("the webhook's address is wrong: {reason}")))?;
    let form = webhook.form.unwrap_or_else(|| forms::form_of(&target));
    let post = forms::post(form, target, said).map_err(Failure::for_now)?;
    let mut request = Request::post(post.target, "application/json", post.body.to_string());
    request.timeout = WEBHOOK_PATIENCE;
    // A status says that it was taken; a body that breaks off must not have it sent again and again.
    request.read = 0;
    // A receiver that is asked twice can tell by it.
    request.headers.push(("Idempotency-Key".to_owned(), said.id.clone()));
    if let (Some(token), Form::Json | Form::Ntfy) = (&webhook.token, form) {
        let token = token.resolve_within(secret::PATIENCE).await.map_err(Failure::for_now)?;
        request
            .headers
            .push(("Authorization".to_owned(), format!("Bearer {}", token.expose_secret().trim())));
    }
    let answer = request.send().await.map_err(Failure::for_now)?;
    judge(&answer, now)?;
    Ok(Sent(format!("{} in the form `{form}`, which answers {}", answer.url, answer.status)))
}

/// Whether a message was taken, by the status alone.
pub(in crate::alert) fn judge(answer: &Answer, now: Timestamp) -> Result<(), Failure> {
    let refused = || format!("{} answers {}", answer.url, answer.status);
    match answer.status {
        200..=299 => Ok(()),
        // Too slow, too many: RFC 9110 and RFC 6585 say that it may be asked again.
        408 | 429 => Err(Failure::ForNow(refused(), wish(answer, now))),
        400..=499 => Err(Failure::ForGood(refused())),
        _ => Err(Failure::ForNow(refused(), wish(answer, now))),
    }
}

/// When the server wants to be asked again: seconds or a date (RFC 9110, 10.2.3).
fn wish(answer: &Answer, now: Timestamp) -> Option<Duration> {
    let wish = answer.retry_after.as_deref()?.trim();
    if let Ok(seconds) = wish.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let at = jiff::fmt::rfc2822::parse(wish).ok()?.timestamp();
    Duration::try_from(at.duration_since(now)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_may_say_when_it_wants_to_be_asked_again() {
        let now: Timestamp = "1994-11-06T08:49:00Z".parse().unwrap();
        let check = |wished: Option<&str>, expected: Option<f64>| {
            let answer = Answer {
                status: 429,
                body: vec![],
                truncated: false,
                found: true,
                took: Duration::ZERO,
                redirects: 0,
                url: String::new(),
                retry_after: wished.map(str::to_owned),
            };
            assert_eq!(wish(&answer, now).map(|wish| wish.as_secs_f64()), expected, "{wished:?}");
        };
        check(None, None);
        check(Some("120"), Some(120.0));
        check(Some("0.65"), Some(0.65));
        check(Some("Sun, 06 Nov 1994 08:49:37 GMT"), Some(37.0));
        // In the past, and what nobody can mean.
        check(Some("Sun, 06 Nov 1994 08:48:37 GMT"), None);
        check(Some("-5"), None);
        check(Some("soon"), None);
        check(Some("1e300"), None);
        check(Some("NaN"), None);
    }
}
