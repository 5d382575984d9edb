//! Whom this host trusts: its certificate authorities, read when the first TLS connection asks for them, and again
//! when they have changed (`update-ca-certificates`), so that no daemon must be restarted for a new one.
//!
//! Reading them costs milliseconds and a good part of a megabyte: nothing else in the program may do it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::crypto::{CryptoProvider, ring};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier, client::WantsClientCert};

/// What changes when authorities do: each place with its time of change and its size.
type Stamp = Vec<(PathBuf, Option<(SystemTime, u64)>)>;

/// Where Debian and its kin keep them; SSL_CERT_FILE and SSL_CERT_DIR come before.
const USUAL: &[&str] = &["/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/certs"];

static KNOWN: Mutex<Option<(Stamp, Arc<RootCertStore>)>> = Mutex::new(None);

/// The authorities of this host. The same `Arc` as long as they are the same.
pub fn authorities() -> Arc<RootCertStore> {
    let stamp = stamp();
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((of, roots)) = &*known
        && *of == stamp
    {
        return roots.clone();
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let roots = Arc::new(roots);
    *known = Some((stamp, roots.clone()));
    roots
}

/// TLS as this program speaks it: ring, and the versions that rustls holds for safe.
pub fn tls() -> ConfigBuilder<ClientConfig, WantsVerifier> {
    ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(rustls::DEFAULT_VERSIONS)
        .unwrap_or_else(|_| ClientConfig::builder())
}

/// As [`tls`], for servers whose certificate one of `roots` has signed.
pub fn verifying(roots: Arc<RootCertStore>) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    tls().with_root_certificates(roots)
}

pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn stamp() -> Stamp {
    let named: Vec<PathBuf> = ["SSL_CERT_FILE", "SSL_CERT_DIR"]
        .iter()
        .filter_map(std::env::var_os)
        .flat_map(|paths| std::env::split_paths(&paths).collect::<Vec<_>>())
        .collect();
    let places = if named.is_empty() { USUAL.iter().map(PathBuf::from).collect() } else { named };
    let state = |path: &Path| {
        let data = std::fs::metadata(path).ok()?;
        Some((data.modified().ok()?, data.len()))
    };
    places.into_iter().map(|path| (path.clone(), state(&path))).collect()
}
