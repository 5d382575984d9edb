//! What a webhook's address and token must be like for any message to be taken. Sends nothing.

use super::{Form, Webhook};
use crate::host::http::Target;

impl Form {
    /// By the address, where jobs.yaml doesn't say: each of these has one form of its own.
    pub(crate) fn of(target: &Target) -> Self {
        let host = target.host();
        let is_or_below = |domain: &str| {
            host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        let of_discord = is_or_below("discord.com") || is_or_below("discordapp.com");
        let path = target.path();
        match () {
            () if host == "hooks.slack.com" => Self::Slack,
            // Discord takes Slack's form where it is asked to.
            () if of_discord && path.trim_end_matches('/').ends_with("/slack") => Self::Slack,
            () if of_discord && path.starts_with("/api/webhooks/") => Self::Discord,
            () if host == "ntfy.sh" => Self::Ntfy,
            () => Self::Json,
        }
    }
}

impl Webhook {
    /// The form that is posted to this address.
    ///
    /// # Errors
    /// What is wrong with it, without the text.
    pub fn check_url(url: &str, form: Option<Form>) -> Result<Form, String> {
        let url = url.trim();
        if !(url.starts_with("https://") || url.starts_with("http://")) {
            return Err("a webhook begins with https:// or http://".to_owned());
        }
        let target = Target::secret(url).map_err(|reason| format!("not the URL of a webhook: {reason}"))?;
        let form = form.unwrap_or_else(|| Form::of(&target));
        if form == Form::Ntfy && target.parent().is_none() {
            return Err(
                "ntfy's address has one topic: it is https://ntfy.sh/TOPIC, or that of a server of one's \
                        own"
                .to_owned(),
            );
        }
        Ok(form)
    }

    /// `form`: where it is known.
    ///
    /// # Errors
    /// What is wrong with it, without the text.
    pub fn check_token(token: Option<&str>, form: Option<Form>) -> Result<(), String> {
        if let Some(form @ (Form::Slack | Form::Discord)) = form {
            return Err(format!("{form} takes no token: its address is the secret"));
        }
        match token {
            Some(token) if token.trim().chars().any(char::is_control) => {
                Err("a token has no control characters and one line".to_owned())
            }
            _ => Ok(()),
        }
    }
}
