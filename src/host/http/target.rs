//! An address of http or https, and how it may be shown.

use std::fmt;

use reqwest::Url;

/// Where a request goes. `Display` and `Debug` never show a password, nor anything of a secret address but its host.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    url: Url,
    /// Instead of the address.
    shown: Option<String>,
    secret: bool,
    /// A server has sent us there: what it puts behind the question mark may be a ticket.
    given: bool,
}

impl Target {
    /// # Errors
    /// What is wrong with it, without the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| match error {
            url_error if !text.contains("://") => format!("{url_error}: it begins with http:// or https://"),
            url_error => url_error.to_string(),
        })?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("{}: is neither http nor https", url.scheme()));
        }
        if url.port() == Some(0) {
            return Err("nobody can listen at port 0".to_owned());
        }
        Ok(Self { url, shown: None, secret: false, given: false })
    }

    /// As [`Self::parse`], for an address that is a secret itself, as those of webhooks are: only its host is shown.
    ///
    /// # Errors
    /// What is wrong with it, without the text.
    pub fn secret(text: &str) -> Result<Self, String> {
        Ok(Self { secret: true, ..Self::parse(text)? })
    }

    /// Shown as this: what refers to a secret is shown as it was written.
    #[must_use]
    pub fn shown_as(self, text: impl Into<String>) -> Self {
        Self { shown: Some(text.into()), ..self }
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    pub(super) fn is_tls(&self) -> bool {
        self.url.scheme() == "https"
    }

    pub(crate) fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    pub(crate) fn path(&self) -> &str {
        self.url.path()
    }

    /// The server's root, and the one step that the path has below it.
    pub(crate) fn parent(&self) -> Option<(Self, String)> {
        let step = self.url.path().trim_matches('/').to_owned();
        if step.is_empty() || step.contains('/') {
            return None;
        }
        let mut parent = self.clone();
        parent.url.set_path("/");
        Some((parent, step))
    }

    /// `web1.example:443`
    pub(super) fn authority(&self) -> String {
        format!("{}:{}", self.host(), self.url.port_or_known_default().unwrap_or_default())
    }

    /// Where a `Location` leads; `None` where that is no HTTP address. A server may not hand out credentials, nor take
    /// those of another server.
    pub(super) fn redirected(&self, location: &[u8]) -> Option<Self> {
        let mut url = self.url.join(std::str::from_utf8(location).ok()?).ok()?;
        if !matches!(url.scheme(), "http" | "https") {
            return None;
        }
        url.set_fragment(None);
        if url.origin() != self.url.origin() {
            url.set_username("").ok()?;
            url.set_password(None).ok()?;
        }
        // An address that was given as a reference may come back whole.
        Some(Self { url, shown: None, secret: self.secret || self.shown.is_some(), given: true })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(shown) = &self.shown {
            return f.write_str(shown);
        }
        write!(f, "{}://{}", self.url.scheme(), self.host())?;
        if let Some(port) = self.url.port() {
            write!(f, ":{port}")?;
        }
        if self.secret {
            return f.write_str("/…");
        }
        f.write_str(self.url.path())?;
        match self.url.query() {
            Some(query) if !self.given => write!(f, "?{query}"),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
