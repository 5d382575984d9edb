//! X.509 certificates: what a file or a handshake holds, read and put into words.
//!
//! Knows nothing of trust: that is the handshake's (see `tls`).

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use jiff::Timestamp;
use rustix::fs::OFlags;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, X509Certificate};

/// No chain of certificates is larger.
const MOST: u64 = 1 << 20;

/// What is to be known of one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// In hexadecimal, upper case, without colons: as `openssl x509 -noout -serial` prints it.
    pub serial: String,
    /// The DNS names and addresses it is for; the subject's common name only where there are none of these.
    pub names: Vec<String>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// As `CN=R11, O=Let's Encrypt`.
    pub issuer: String,
    /// It names itself as its issuer.
    pub self_signed: bool,
}

impl Certificate {
    /// # Errors
    /// Why the bytes are no certificate.
    pub fn from_der(der: &[u8]) -> Result<Self, String> {
        let (rest, found) = X509Certificate::from_der(der).map_err(|error| match error {
            x509_parser::nom::Err::Incomplete(_) => "it breaks off".to_owned(),
            x509_parser::nom::Err::Error(error) | x509_parser::nom::Err::Failure(error) => error.to_string(),
        })?;
        if !rest.is_empty() {
            return Err(format!("{} bytes follow its end", rest.len()));
        }
        let time = |time: x509_parser::time::ASN1Time| {
            Timestamp::from_second(time.timestamp()).map_err(|error| format!("its validity: {error}"))
        };
        Ok(Self {
            serial: serial_of(found.raw_serial()),
            names: names_of(&found),
            not_before: time(found.validity().not_before)?,
            not_after: time(found.validity().not_after)?,
            issuer: found.issuer().to_string(),
            self_signed: found.issuer().as_raw() == found.subject().as_raw(),
        })
    }

    /// Whether it is for this DNS name or address (RFC 6125: a `*` stands for the whole leftmost label alone).
    pub fn covers(&self, name: &str) -> bool {
        if let Ok(address) = name.parse::<IpAddr>() {
            return self.names.iter().any(|known| known.parse() == Ok(address));
        }
        let name = name.trim_end_matches('.');
        self.names.iter().any(|known| {
            if known.eq_ignore_ascii_case(name) {
                return true;
            }
            let (Some(parent), Some((label, rest))) = (known.strip_prefix("*."), name.split_once('.')) else {
                return false;
            };
            !label.is_empty() && parent.eq_ignore_ascii_case(rest)
        })
    }
}

/// The certificates of a PEM or DER file, in its order: a server's own comes first.
///
/// # Errors
/// What the file is instead, as a predicate: `is empty`, `holds a private key and no certificate`.
pub fn read_file(path: &Path) -> Result<Vec<Certificate>, String> {
    let cant = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => "doesn't exist".to_owned(),
        _ => format!("can't be read: {error}"),
    };
    // A pipe without a writer must not hold us up.
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::CLOEXEC).bits()).unwrap_or_default();
    let file = File::options().read(true).custom_flags(flags).open(path).map_err(cant)?;
    let data = file.metadata().map_err(cant)?;
    if data.is_dir() {
        return Err("is a folder".to_owned());
    }
    if !data.is_file() {
        return Err("is not an ordinary file".to_owned());
    }
    let mut content = vec![];
    file.take(MOST + 1).read_to_end(&mut content).map_err(cant)?;
    if content.len() as u64 > MOST {
        return Err("holds more than 1 MiB, which no certificate does".to_owned());
    }
    parse(&content)
}

/// # Errors
/// As [`read_file`].
pub fn parse(content: &[u8]) -> Result<Vec<Certificate>, String> {
    if content.iter().all(u8::is_ascii_whitespace) {
        return Err("is empty".to_owned());
    }
    if !content.windows(BEGIN.len()).any(|window| window == BEGIN) {
        return Certificate::from_der(content)
            .map(|one| vec![one])
            .map_err(|_| "is not a certificate, neither as PEM nor as DER".to_owned());
    }
    let mut found = vec![];
    let mut labels = vec![];
    for block in Pem::iter_from_buffer(content) {
        let block = block.map_err(|error| format!("is not a certificate: its PEM is damaged: {error}"))?;
        if block.label == "CERTIFICATE" || block.label == "TRUSTED CERTIFICATE" {
            let number = found.len() + 1;
            let wrong = |why| format!("is not a certificate: block {number} of its PEM: {why}");
            found.push(Certificate::from_der(&block.contents).map_err(wrong)?);
        } else {
            labels.push(block.label);
        }
    }
    match (found.is_empty(), labels.first()) {
        (false, _) => Ok(found),
        (true, Some(label)) => Err(format!("holds a {} and no certificate", label.to_ascii_lowercase())),
        (true, None) => Err("is not a certificate: its PEM is damaged".to_owned()),
    }
}

const BEGIN: &[u8] = b"-----BEGIN ";

/// The sign's zero byte, which DER puts before a number whose first bit is set, is not of the number.
fn serial_of(raw: &[u8]) -> String {
    let digits = match raw {
        [0, rest @ ..] if !rest.is_empty() => rest,
        all => all,
    };
    digits.iter().map(|byte| format!("{byte:02X}")).collect()
}

fn names_of(certificate: &X509Certificate<'_>) -> Vec<String> {
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let names: Vec<String> = alternative
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => address_of(bytes).map(|address| address.to_string()),
            _ => None,
        })
        .collect();
    if !names.is_empty() {
        return names;
    }
    let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    common.map(str::to_owned).collect()
}

fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(four.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

#[cfg(test)]
mod tests;
