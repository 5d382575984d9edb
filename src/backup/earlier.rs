//! What the backups before this one were like: their manifests, and what the next one will take.

use jiff::Timestamp;
use serde::Deserialize;

use super::codec::Compression;
use super::manifest::{Manifest, Proof, State};
use super::names::{self, MANIFEST_SUFFIX};
use super::publish::Directory;
use super::suspect::LOOKED_AT;

/// The last manifests of this database that began before `time`, the newest first; without those that are known to be
/// damaged, and those that can't be read.
pub fn of(directory: &Directory, database: &str, time: Timestamp) -> Vec<Manifest> {
    newest_first(directory, database, |text| Manifest::parse(text).ok())
        .filter(|earlier| earlier.database == database && earlier.started_at < time)
        .filter(|earlier| earlier.proof.state != State::Damaged)
        .take(LOOKED_AT)
        .collect()
}

/// What a new archive is compared with.
#[derive(Clone, Debug, Deserialize)]
pub struct Archived {
    name: String,
    started_at: Timestamp,
    compression: Compression,
    bytes: u64,
    pub uncompressed_bytes: u64,
    pub files: u64,
    proof: Proof,
}

/// As [`of`], of the archives of this name.
pub fn archives(directory: &Directory, name: &str, time: Timestamp) -> Vec<Archived> {
    let parse = |text: &[u8]| serde_json::from_slice::<Archived>(text).ok();
    newest_first(directory, name, parse)
        .filter(|earlier| earlier.name == name && earlier.started_at < time)
        .filter(|earlier| earlier.proof.state != State::Damaged)
        .take(LOOKED_AT)
        .collect()
}

fn newest_first<T>(
    directory: &Directory,
    of: &str,
    parse: impl Fn(&[u8]) -> Option<T>,
) -> impl Iterator<Item = T> {
    let begin = format!("{}-", names::file_safe(of));
    let mut found: Vec<String> = directory.names().unwrap_or_default();
    found.retain(|name| name.starts_with(&begin) && name.ends_with(MANIFEST_SUFFIX));
    found.sort_by_cached_key(|name| std::cmp::Reverse(names::time_in(name)));
    found.into_iter().filter_map(move |name| parse(&directory.read(&name).ok()?))
}

/// How many bytes the next dump and its roles will take: as many as the largest of the last, or, where they grow, as
/// the newest and its usual growth. `None`: nothing says.
///
/// `manifests`: the newest first. Those of another format or compression say little of one like this, and count only
/// where there are no others.
pub fn predicted(manifests: &[Manifest], format: &str, compression: Compression) -> Option<u64> {
    let sizes = manifests.iter().map(|one| Taken {
        alike: one.format == format && one.compression == compression,
        bytes: one.roles.as_ref().map_or(0, |roles| roles.bytes).saturating_add(one.bytes),
        uncompressed_bytes: one.uncompressed_bytes,
    });
    predict(sizes.collect(), compression)
}

/// The same of the next archive.
pub fn predicted_archive(archives: &[Archived], compression: Compression) -> Option<u64> {
    let sizes = archives.iter().map(|one| Taken {
        alike: one.compression == compression,
        bytes: one.bytes,
        uncompressed_bytes: one.uncompressed_bytes,
    });
    predict(sizes.collect(), compression)
}

/// What an earlier backup took.
struct Taken {
    /// Made as the next one will be.
    alike: bool,
    bytes: u64,
    uncompressed_bytes: u64,
}

fn predict(taken: Vec<Taken>, compression: Compression) -> Option<u64> {
    let mut sizes: Vec<u64> = taken.iter().filter(|one| one.alike).map(|one| one.bytes).collect();
    if sizes.is_empty() {
        let whole = compression == Compression::None;
        let of = |one: &Taken| if whole { one.bytes.max(one.uncompressed_bytes) } else { one.bytes };
        sizes = taken.iter().map(of).collect();
    }
    let (newest, oldest) = (*sizes.first()?, *sizes.last()?);
    let steps = (sizes.len() as u64 - 1).max(1);
    let growing = newest.saturating_add(newest.saturating_sub(oldest) / steps);
    sizes.into_iter().max().map(|largest| largest.max(growing))
}

#[cfg(test)]
mod tests {
    use super::super::manifest::sample;
    use super::*;

    fn manifest(format: &str, compression: &str, bytes: u64, roles: Option<u64>) -> Manifest {
        let roles = roles.map(|bytes| {
            serde_json::json!({"file": "shop.roles.sql.gz", "bytes": bytes, "sha256": "", "passwords": true})
        });
        sample(serde_json::json!({
            "format": format, "compression": compression, "bytes": bytes, "uncompressed_bytes": 10 * bytes,
            "roles": roles,
        }))
    }

    #[test]
    fn the_next_dump_is_as_large_as_the_largest_or_grows_as_they_did() {
        let check = |sizes: &[u64], expected: Option<u64>| {
            let manifests: Vec<_> =
                sizes.iter().map(|bytes| manifest("plain", "gzip", *bytes, None)).collect();
            assert_eq!(predicted(&manifests, "plain", Compression::Gzip), expected, "{sizes:?}");
        };
        check(&[], None);
        check(&[100], Some(100));
        check(&[100, 300, 90], Some(300));
        check(&[130, 120, 110, 100], Some(140));
        check(&[100, 110, 120], Some(120));
    }

    #[test]
    fn roles_count_and_dumps_of_another_kind_only_where_there_are_no_others() {
        let gzip = manifest("plain", "gzip", 100, Some(7));
        let all = [gzip.clone(), manifest("plain", "none", 1000, None)];
        assert_eq!(predicted(&all, "plain", Compression::Gzip), Some(107));
        assert_eq!(predicted(&all, "plain", Compression::None), Some(1000));
        assert_eq!(predicted(std::slice::from_ref(&gzip), "plain", Compression::None), Some(1000));
        assert_eq!(predicted(&[gzip], "custom", Compression::Gzip), Some(107));
    }
}
