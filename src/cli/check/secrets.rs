//! Every secret that the file refers to: whether it can be read here, and whether what it holds can be used. Shows none.

use std::collections::HashSet;

use futures_util::future::ready;
use futures_util::stream::{self, StreamExt};

use crate::api::http::token_of;
use crate::config::{Heartbeat, JobTable, Webhook};
use crate::document::{Problem, ProblemSeverity};
use crate::host::secret::{self, ExposeSecret, SecretError, SecretText};

/// Files that are read at once: each takes a thread.
const READ_AT_ONCE: usize = 64;
const TOKEN: &str = "dashboard.token";

/// Every secret is read once, and forgotten. Side by side: many may be on one server that does not answer.
pub(super) async fn all(table: &JobTable) -> Vec<Problem> {
    let mut written = Vec::new();
    let mut look = |path: String, secret: &SecretText, used: bool| written.push((path, secret.clone(), used));
    for (name, connection) in table.connections.iter() {
        if let Some(password) = &connection.password {
            look(format!("postgres.{name}.password"), password, true);
        }
        if let Ok(host) = SecretText::parse(&connection.host) {
            look(format!("postgres.{name}.host"), &host, true);
        }
    }
    for job in &table.jobs {
        for (variable, value) in &job.env {
            look(format!("jobs.{}.env.{variable}", job.name), value, true);
        }
    }
    let smtp = table.alerts.as_ref().and_then(|alerts| alerts.smtp.as_ref());
    if let Some(password) = smtp.and_then(|smtp| smtp.password.as_ref()) {
        look("alerts.smtp.password".into(), password, true);
    }
    if let Some(token) = table.dashboard.as_ref().and_then(|dashboard| dashboard.token.as_ref()) {
        look(TOKEN.into(), token, true);
    }
    let read = async |(path, secret, used): (String, SecretText, bool)| {
        let (severity, message) = match secret.resolve_within(secret::PATIENCE).await {
            Err(error) => (severity_of(&error, used), error.to_string()),
            Ok(token) if path == TOKEN => {
                (ProblemSeverity::Error, format!("what it refers to: {}", token_of(&token).err()?))
            }
            Ok(_) => return None,
        };
        Some(Problem::placeless(severity, path, message))
    };
    let read = stream::iter(written).map(read).buffered(READ_AT_ONCE);
    let heartbeats = table.jobs.iter().filter_map(|job| Some((job, job.heartbeat.as_ref()?)));
    let asked = heartbeats.map(async |(job, heartbeat)| (job, heartbeat.url(&job.name).await));
    let urls = stream::iter(asked).buffered(READ_AT_ONCE).collect::<Vec<_>>();
    let contacts =
        table.contacts.iter().filter_map(|(name, contact)| Some((name, contact.webhook.as_ref()?)));
    let webhooks = contacts.map(|(name, webhook)| {
        let named = table.jobs.iter().any(|job| job.alert.contains(name));
        resolved(name, webhook, named)
    });
    let webhooks = stream::iter(webhooks).buffered(READ_AT_ONCE).collect::<Vec<_>>();
    let (mut found, urls, webhooks) =
        tokio::join!(read.filter_map(ready).collect::<Vec<Problem>>(), urls, webhooks);
    found.extend(webhooks.into_iter().flatten());
    // One that stands under `defaults` is wrong once, and not for each job.
    let mut told = HashSet::new();
    for (job, url) in urls {
        let (severity, message) = match url {
            Err(error) => (severity_of(&error, true), error.to_string()),
            Ok(url) => {
                let Err(reason) = Heartbeat::check(url.expose_secret()) else { continue };
                let message = format!("what it refers to is not the URL of a heartbeat: {reason}");
                (ProblemSeverity::Error, message)
            }
        };
        if told.insert(message.clone()) {
            found.push(Problem::placeless(severity, format!("jobs.{}.heartbeat", job.name), message));
        }
    }
    found
}

/// What is wrong with a webhook's secrets. `named`: by a job.
async fn resolved(contact: &str, webhook: &Webhook, named: bool) -> Vec<Problem> {
    let mut found = vec![];
    let mut say = |key: &str, severity, message: String| {
        found.push(Problem::placeless(severity, format!("contacts.{contact}.{key}"), message));
    };
    let unfit = |message: String| (ProblemSeverity::Error, format!("what it refers to: {message}"));
    let unread = |error: &SecretError| (severity_of(error, named), error.to_string());
    let token = async {
        match &webhook.token {
            Some(token) => Some(token.resolve_within(secret::PATIENCE).await),
            None => None,
        }
    };
    let (url, token) = tokio::join!(webhook.url.resolve_within(secret::PATIENCE), token);
    let checked = url
        .map_err(|error| unread(&error))
        .and_then(|url| Webhook::check_url(url.expose_secret(), webhook.form).map_err(unfit));
    let form = match checked {
        Ok(form) => Some(form),
        Err((severity, message)) => {
            say("webhook", severity, message);
            webhook.form
        }
    };
    let checked = match token {
        None => Ok(()),
        Some(Err(error)) => Err(unread(&error)),
        Some(Ok(token)) => Webhook::check_token(Some(token.expose_secret()), form).map_err(unfit),
    };
    if let Err((severity, message)) = checked {
        say("webhook.token", severity, message);
    }
    found
}

fn severity_of(error: &SecretError, used: bool) -> ProblemSeverity {
    match error {
        // systemd gives credentials to the service alone: here nobody can tell.
        SecretError::NoCredentials { .. } => ProblemSeverity::Warning,
        _ if used => ProblemSeverity::Error,
        _ => ProblemSeverity::Warning,
    }
}
