//! How a place for copies is written: `s3://bucket/prefix`, `file:///mnt/backups`, and what opens it.

use std::path::PathBuf;

use crate::host::secret::SecretText;

/// A place for copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Without what opens it, and without a `/` at its end.
    pub url: String,
    pub at: At,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    Bucket(Keys),
    Folder(PathBuf),
}

/// A part of a bucket, and what opens it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    pub bucket: String,
    /// Empty: the bucket itself.
    pub prefix: String,
    /// None: Amazon's, of the region.
    pub endpoint: Option<String>,
    pub region: String,
    pub access_key: SecretText,
    pub secret_key: SecretText,
}

/// How the place of a store is written in jobs.yaml.
#[derive(Clone, Copy, Default)]
pub struct Written<'a> {
    pub url: &'a str,
    pub endpoint: Option<&'a str>,
    pub region: Option<&'a str>,
    pub access_key: Option<&'a SecretText>,
    pub secret_key: Option<&'a SecretText>,
}

/// The key that is wrong, why, and what to write. Never repeats what may hold a password.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong {
    pub key: &'static str,
    pub message: String,
    pub hint: Option<&'static str>,
}

const FORMS: &str = "write s3://BUCKET/PREFIX or file:///FOLDER";

impl Place {
    /// # Errors
    /// [`Wrong`]
    pub fn read(written: &Written<'_>) -> Result<Self, Wrong> {
        let wrong = |key, message: &str, hint| Err(Wrong { key, message: message.to_owned(), hint });
        let url = written.url.trim_end_matches('/');
        if url.contains('@') || url.contains('?') || url.contains('#') {
            let hint = Some("what opens a store goes into access_key and secret_key");
            return wrong("url", "an address of a place for copies holds no `@`, `?` or `#`", hint);
        }
        if let Some(path) = url.strip_prefix("file://") {
            if !path.starts_with('/') || path.split('/').any(|part| part == "..") {
                return wrong("url", &format!("`{}` names no absolute folder", written.url), Some(FORMS));
            }
            let only_s3 = [
                ("endpoint", written.endpoint.is_some()),
                ("region", written.region.is_some()),
                ("access_key", written.access_key.is_some()),
                ("secret_key", written.secret_key.is_some()),
            ];
            if let Some((key, _)) = only_s3.iter().find(|(_, is_there)| *is_there) {
                return wrong(key, "has no meaning for a folder", Some("leave it out"));
            }
            return Ok(Self { url: url.to_owned(), at: At::Folder(path.into()) });
        }
        let Some(rest) = url.strip_prefix("s3://") else {
            return wrong(
                "url",
                &format!("`{}` is no address of a place for copies", written.url),
                Some(FORMS),
            );
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let fits = |letter: u8| letter.is_ascii_alphanumeric() || b".-_".contains(&letter);
        if bucket.is_empty() || !bucket.bytes().all(fits) {
            return wrong("url", &format!("`{}` names no bucket", written.url), Some(FORMS));
        }
        if !prefix.is_empty() && prefix.split('/').any(|part| matches!(part, "" | "." | "..")) {
            let message = format!("`{}` has a prefix with an empty part, `.` or `..`", written.url);
            return wrong("url", &message, Some(FORMS));
        }
        if let Some(endpoint) = written.endpoint {
            let host = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
            if endpoint.contains('@') || !host.is_some_and(is_authority) {
                let hint = Some("write https://HOST or http://HOST:PORT");
                return wrong("endpoint", "is not the address of a server", hint);
            }
        }
        let (access_key, secret_key) = match (written.access_key, written.secret_key) {
            (Some(access), Some(secret)) => (access.clone(), secret.clone()),
            (None, None) => {
                (from_environment("AWS_ACCESS_KEY_ID"), from_environment("AWS_SECRET_ACCESS_KEY"))
            }
            (Some(_), None) => return wrong("access_key", "there is no secret_key beside it", None),
            (None, Some(_)) => return wrong("secret_key", "there is no access_key beside it", None),
        };
        let keys = Keys {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            endpoint: written.endpoint.map(|endpoint| endpoint.trim_end_matches('/').to_owned()),
            region: written.region.unwrap_or("us-east-1").to_owned(),
            access_key,
            secret_key,
        };
        Ok(Self { url: url.to_owned(), at: At::Bucket(keys) })
    }

    /// Of a file there.
    pub fn url_of(&self, name: &str) -> String {
        format!("{}/{name}", self.url)
    }

    /// The name of a file of this place, by its address.
    pub fn name_of<'u>(&self, url: &'u str) -> Option<&'u str> {
        let name = url.strip_prefix(&self.url)?.strip_prefix('/')?;
        (!name.is_empty() && !name.contains('/')).then_some(name)
    }
}

fn is_authority(host: &str) -> bool {
    let host = host.strip_suffix('/').unwrap_or(host);
    !host.is_empty()
        && !host.contains(|letter: char| matches!(letter, '/' | '?' | '#') || letter.is_whitespace())
}

/// What Amazon's own programs read.
fn from_environment(name: &str) -> SecretText {
    SecretText::parse(&format!("${{env:{name}}}")).unwrap_or_else(|_| SecretText::from(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_and_what_can_t_be_one_is_refused() {
        let check = |url: &str, expected: Result<(&str, &str), &str>| {
            let read = Place::read(&Written { url, ..Written::default() });
            let found = match &read {
                Ok(Place { at: At::Bucket(keys), .. }) => Ok((keys.bucket.as_str(), keys.prefix.as_str())),
                Ok(Place { at: At::Folder(path), .. }) => Ok((path.to_str().unwrap(), "")),
                Err(wrong) => Err(wrong.message.as_str()),
            };
            assert_eq!(found, expected, "{url}");
        };
        check("s3://backups/shop/daily", Ok(("backups", "shop/daily")));
        check("s3://backups/", Ok(("backups", "")));
        check("file:///mnt/backups/", Ok(("/mnt/backups", "")));
        check("s3://", Err("`s3://` is no address of a place for copies"));
        check("s3://a b", Err("`s3://a b` names no bucket"));
        check("s3://b/x/../y", Err("`s3://b/x/../y` has a prefix with an empty part, `.` or `..`"));
        check("file://mnt", Err("`file://mnt` names no absolute folder"));
        check("/mnt", Err("`/mnt` is no address of a place for copies"));
        check("s3://key:hunter2@b", Err("an address of a place for copies holds no `@`, `?` or `#`"));
    }

    #[test]
    fn what_opens_a_store_comes_in_pairs_and_an_endpoint_is_a_server() {
        let key = SecretText::from("hunter2");
        let whole = Written { url: "s3://b", ..Written::default() };
        let of = |written: Written<'_>| Place::read(&written).map_err(|wrong| (wrong.key, wrong.message));
        assert_eq!(
            of(Written { access_key: Some(&key), ..whole }).unwrap_err(),
            ("access_key", "there is no secret_key beside it".to_owned())
        );
        let both = Written { access_key: Some(&key), secret_key: Some(&key), ..whole };
        let place = of(Written { endpoint: Some("http://127.0.0.1:9000/"), ..both }).unwrap();
        let At::Bucket(keys) = &place.at else { panic!("{place:?}") };
        assert_eq!(keys.endpoint.as_deref(), Some("http://127.0.0.1:9000"));
        assert!(!format!("{place:?}").contains("hunter2"));
        for endpoint in ["127.0.0.1:9000", "http://", "http://a/path", "http://u:hunter2@host"] {
            let wrong = of(Written { endpoint: Some(endpoint), ..both }).unwrap_err();
            assert_eq!(wrong, ("endpoint", "is not the address of a server".to_owned()), "{endpoint}");
        }
        let folder = Written { url: "file:///mnt", region: Some("x"), ..Written::default() };
        assert_eq!(of(folder).unwrap_err(), ("region", "has no meaning for a folder".to_owned()));
    }

    #[test]
    fn a_file_is_found_by_its_address() {
        let place = Place::read(&Written { url: "s3://b/p", ..Written::default() }).unwrap();
        assert_eq!(place.url_of("a.sql"), "s3://b/p/a.sql");
        assert_eq!(place.name_of("s3://b/p/a.sql"), Some("a.sql"));
        for other in ["s3://b/p", "s3://b/p/", "s3://b/pq/a.sql", "s3://b/p/q/a.sql", "s3://c/p/a.sql"] {
            assert_eq!(place.name_of(other), None, "{other}");
        }
    }
}
