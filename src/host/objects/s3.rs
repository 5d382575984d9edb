//! A part of a bucket, through `object_store`: requests are signed and tried again there; what goes over the network
//! is this program's own client, with the authorities, the resolver and the bounds that it has everywhere.

use std::fs::File;
use std::path::Path as FilePath;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use object_store::aws::{AmazonS3, AmazonS3Builder, Checksum};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::signer::{SignedUrlOptions, Signer};
use object_store::{
    BackoffConfig, HeaderMap, HeaderValue, ObjectStore, ObjectStoreExt, PutPayload, RetryConfig,
};
use reqwest::{Client, Method};
use sha2::{Digest, Sha256};

use super::client::{Own, client};
use super::error::explain;
use super::place::{Keys, Place};
use super::uploads::{Part, Pieces, Upload, part_size};
use super::{Content, Listed, ObjectError};
use crate::host::secret::{ExposeSecret, SecretString};

pub(super) struct Bucket {
    place: Place,
    prefix: String,
    store: AmazonS3,
    client: Client,
    secrets: [SecretString; 2],
}

/// How long a store may take, and how often it is asked again.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    silence: Duration,
    retries: usize,
}

/// A network that is cut for some seconds is waited for.
pub(super) const PATIENT: Patience = Patience { silence: Duration::from_secs(300), retries: 4 };
pub(super) const HASTY: Patience = Patience { silence: Duration::from_secs(15), retries: 0 };

/// For the next bytes of an answer that has begun.
const STALL: Duration = Duration::from_secs(120);
/// Parts under way at once: each is held in memory.
const AT_ONCE: usize = 2;

impl Bucket {
    pub(super) fn open(place: &Place, keys: &Keys, patience: Patience) -> Result<Self, ObjectError> {
        let secret = |text: &crate::host::secret::SecretText| {
            text.resolve().map_err(|error| ObjectError::Secret { url: place.url.clone(), error })
        };
        let secrets = [secret(&keys.access_key)?, secret(&keys.secret_key)?];
        let made = |reason: String| ObjectError::Client { url: place.url.clone(), reason };
        let client = client(patience.silence).map_err(|error| made(error.to_string()))?;
        let retry = RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(500),
                max_backoff: Duration::from_secs(10),
                base: 2.0,
            },
            max_retries: patience.retries,
            retry_timeout: Duration::from_secs(180),
        };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&keys.bucket)
            .with_region(&keys.region)
            .with_access_key_id(secrets[0].expose_secret())
            .with_secret_access_key(secrets[1].expose_secret())
            .with_checksum_algorithm(Checksum::SHA256)
            .with_virtual_hosted_style_request(false)
            .with_allow_http(true)
            // One object at a time is deleted here, which what speaks like S3 takes more often.
            .with_disable_bulk_delete(true)
            .with_retry(retry)
            .with_http_connector(Own(client.clone()));
        if let Some(endpoint) = &keys.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        let store = builder.build().map_err(|error| explain(&error, &place.url, &[]))?;
        Ok(Self { place: place.clone(), prefix: keys.prefix.clone(), store, client, secrets })
    }

    pub(super) async fn probe(&self) -> Result<(), ObjectError> {
        let prefix = self.folder()?;
        let first = self.store.list(prefix.as_ref()).next().await;
        first.map_or(Ok(()), |one| one.map(|_| ()).map_err(|error| self.failed(&error, &self.place.url)))
    }

    pub(super) async fn put(
        &self,
        name: &str,
        file: File,
        content: &Content,
        uploads: &FilePath,
    ) -> Result<(), ObjectError> {
        let url = self.place.url_of(name);
        let size = part_size(content.bytes);
        let mut pieces = Pieces::new(file, size);
        let digests = if content.bytes <= size {
            let bytes = pieces.next().await?.map_or_else(Vec::new, |piece| piece.bytes);
            pieces.finish(content)?;
            let put = self.store.put(&self.path(name)?, PutPayload::from(bytes)).await;
            put.map_err(|error| self.failed(&error, &url))?;
            vec![]
        } else {
            self.put_parts(name, pieces, content, uploads).await?
        };
        self.compare(name, content, &digests).await
    }

    /// The hash of each part.
    async fn put_parts(
        &self,
        name: &str,
        mut pieces: Pieces,
        content: &Content,
        uploads: &FilePath,
    ) -> Result<Vec<[u8; 32]>, ObjectError> {
        let (url, path) = (self.place.url_of(name), self.path(name)?);
        let mut upload = match Upload::read(uploads, &url) {
            Some(upload) if upload.continues(content, pieces.size) => upload,
            left => {
                if let Some(left) = left {
                    self.abort(&left, uploads).await?;
                }
                let id = self.store.create_multipart(&path).await;
                let id = id.map_err(|error| self.failed(&error, &url))?;
                let upload = Upload::new(url.clone(), id, content, pieces.size);
                upload.write(uploads)?;
                upload
            }
        };
        let mut digests = Vec::new();
        let (id, sent) = (upload.id.clone(), std::mem::take(&mut upload.parts));
        let mut sending = FuturesOrdered::new();
        let mut number = 0;
        let mut ended = false;
        while !ended || !sending.is_empty() {
            while !ended && sending.len() < AT_ONCE {
                let Some(piece) = pieces.next().await? else {
                    ended = true;
                    // Before it is made an object: what is on this disk may have changed since it was dumped.
                    if let Err(error) = pieces.finish(content) {
                        let _ = self.abort(&upload, uploads).await;
                        return Err(error);
                    }
                    break;
                };
                digests.push(piece.digest);
                let known: Option<Part> = sent.get(number).filter(|part| part.is(&piece.digest)).cloned();
                let (store, path, id) = (&self.store, &path, &id);
                sending.push_back(async move {
                    if let Some(part) = known {
                        return Ok(part);
                    }
                    let put = store.put_part(path, id, number, PutPayload::from(piece.bytes)).await;
                    put.map(|part| Part::new(&piece.digest, part.content_id))
                });
                number += 1;
            }
            match sending.next().await {
                None => {}
                Some(Ok(part)) => {
                    upload.parts.push(part);
                    // What was known before is not forgotten while it is gone through again.
                    if upload.parts.len() > sent.len() {
                        upload.write(uploads)?;
                    }
                }
                Some(Err(error)) => {
                    // An upload that the store has forgotten is begun anew by the next try.
                    if matches!(error, object_store::Error::NotFound { .. }) {
                        upload.forget(uploads);
                        let reason = "it has forgotten the upload, which is begun anew".to_owned();
                        return Err(ObjectError::Failed { url, reason });
                    }
                    return Err(self.failed(&error, &url));
                }
            }
        }
        let parts = upload.parts.iter().map(|part| PartId { content_id: part.id.clone() }).collect();
        let completed = self.store.complete_multipart(&path, &id, parts).await;
        if let Err(error) = completed {
            // Its answer may have been lost on the way.
            if !self.has(name, content).await.unwrap_or(false) {
                if matches!(error, object_store::Error::NotFound { .. }) {
                    upload.forget(uploads);
                }
                return Err(self.failed(&error, &url));
            }
        }
        upload.forget(uploads);
        Ok(digests)
    }

    pub(super) async fn put_small(&self, name: &str, bytes: Vec<u8>) -> Result<(), ObjectError> {
        let put = self.store.put(&self.path(name)?, PutPayload::from(bytes)).await;
        put.map(|_| ()).map_err(|error| self.failed(&error, &self.place.url_of(name)))
    }

    pub(super) async fn has(&self, name: &str, content: &Content) -> Result<bool, ObjectError> {
        let found = self.store.head(&self.path(name)?).await;
        let found = found.map_err(|error| self.failed(&error, &self.place.url_of(name)))?;
        if found.size != content.bytes {
            return Ok(false);
        }
        if self.told(name, content.bytes).await.is_some_and(|told| told == base64(&from_hex(&content.sha256)))
        {
            return Ok(true);
        }
        Ok(self.get(name, |_| Ok(())).await? == *content)
    }

    /// By the checksum that the store tells; where it tells none, or one that says something else, by reading all.
    async fn compare(&self, name: &str, content: &Content, parts: &[[u8; 32]]) -> Result<(), ObjectError> {
        let url = self.place.url_of(name);
        if let Some(told) = self.told(name, content.bytes).await
            && (told == base64(&from_hex(&content.sha256)) || told == composite(parts))
        {
            return Ok(());
        }
        let found = self.get(name, |_| Ok(())).await?;
        if found == *content {
            return Ok(());
        }
        // That it differs is what matters, wherever this ends.
        let _ = self.delete(name).await;
        let text = |content: &Content| format!("{} bytes with SHA-256 {}", content.bytes, content.sha256);
        Err(ObjectError::Differs { url, expected: text(content), found: text(&found) })
    }

    async fn told(&self, name: &str, bytes: u64) -> Option<String> {
        const VALID: Duration = Duration::from_secs(60);
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-checksum-mode", HeaderValue::from_static("ENABLED"));
        let mut options = SignedUrlOptions::new();
        options.signed_headers = headers.clone();
        let path = self.path(name).ok()?;
        let signed = self.store.signed_url_opts(Method::HEAD, &path, VALID, &options);
        let asked = self.client.head(signed.await.ok()?).headers(headers).timeout(VALID).send();
        let answer = asked.await.ok()?;
        let header = |name: &str| answer.headers().get(name)?.to_str().ok().map(str::to_owned);
        let whole = answer.status().is_success() && header("content-length")? == bytes.to_string();
        header("x-amz-checksum-sha256").filter(|_| whole)
    }

    pub(super) async fn get(
        &self,
        name: &str,
        mut each: impl FnMut(&[u8]) -> std::io::Result<()>,
    ) -> Result<Content, ObjectError> {
        let url = self.place.url_of(name);
        let got = self.store.get(&self.path(name)?).await.map_err(|error| self.failed(&error, &url))?;
        let mut stream = got.into_stream();
        let (mut hash, mut bytes) = (Sha256::new(), 0);
        loop {
            let next = tokio::time::timeout(STALL, stream.next()).await;
            let next = next.map_err(|_| ObjectError::Silent { url: url.clone(), after: STALL })?;
            let Some(piece) = next else { break };
            let piece = piece.map_err(|error| self.failed(&error, &url))?;
            hash.update(&piece);
            bytes += piece.len() as u64;
            each(&piece).map_err(|error| ObjectError::file(format!("{url} can't be stored here"), error))?;
        }
        Ok(Content { bytes, sha256: to_hex(&hash.finalize()) })
    }

    pub(super) async fn list(&self) -> Result<Vec<Listed>, ObjectError> {
        let failed = |error: &object_store::Error| self.failed(error, &self.place.url);
        let folder = self.folder()?;
        let found = self.store.list_with_delimiter(folder.as_ref()).await.map_err(|error| failed(&error))?;
        let named = |object: &object_store::ObjectMeta| {
            Some(Listed { name: object.location.filename()?.to_owned(), bytes: object.size })
        };
        Ok(found.objects.iter().filter_map(named).collect())
    }

    pub(super) async fn delete(&self, name: &str) -> Result<(), ObjectError> {
        let url = self.place.url_of(name);
        match self.store.delete(&self.path(name)?).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed(&error, &url)),
        }
    }

    pub(super) async fn clear(
        &self,
        wanted: &[String],
        uploads: &FilePath,
    ) -> Result<Vec<String>, ObjectError> {
        let mut said = Vec::new();
        for left in Upload::all(uploads) {
            let Some(name) = self.place.name_of(&left.url) else { continue };
            if !wanted.iter().any(|wanted| wanted == name) {
                self.abort(&left, uploads).await?;
                said.push(format!("ended the upload of {}, which was left half-done", left.url));
            }
        }
        Ok(said)
    }

    async fn abort(&self, upload: &Upload, uploads: &FilePath) -> Result<(), ObjectError> {
        let Some(name) = self.place.name_of(&upload.url) else { return Ok(()) };
        match self.store.abort_multipart(&self.path(name)?, &upload.id).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {
                upload.forget(uploads);
                Ok(())
            }
            Err(error) => Err(self.failed(&error, &upload.url)),
        }
    }

    fn path(&self, name: &str) -> Result<Path, ObjectError> {
        let whole = if self.prefix.is_empty() { name.to_owned() } else { format!("{}/{name}", self.prefix) };
        Path::parse(whole)
            .map_err(|error| ObjectError::Client { url: self.place.url_of(name), reason: error.to_string() })
    }

    fn folder(&self) -> Result<Option<Path>, ObjectError> {
        if self.prefix.is_empty() {
            return Ok(None);
        }
        let parsed = Path::parse(&self.prefix);
        parsed
            .map(Some)
            .map_err(|error| ObjectError::Client { url: self.place.url.clone(), reason: error.to_string() })
    }

    fn failed(&self, error: &object_store::Error, url: &str) -> ObjectError {
        let [access, secret] = &self.secrets;
        explain(error, url, &[access.expose_secret(), secret.expose_secret()])
    }
}

/// Of an object of several parts: the hash of their hashes, and how many they are.
fn composite(parts: &[[u8; 32]]) -> String {
    format!("{}-{}", base64(&Sha256::digest(parts.concat())), parts.len())
}

pub(super) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2).filter_map(|pair| std::str::from_utf8(pair).ok());
    pairs.filter_map(|pair| u8::from_str_radix(pair, 16).ok()).collect()
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let index = (bits >> (18 - 6 * at) & 0x3f) as usize;
            text.push(if at <= three.len() { LETTERS[index] as char } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (plain, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
            ("~~?", "fn4/"),
        ] {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
        assert_eq!(from_hex("00ff1a"), [0, 255, 26]);
    }
}
