//! What the dumps before this one were like: their manifests, and what the next one will take.

use jiff::Timestamp;

use super::codec::Compression;
use super::manifest::{Manifest, State};
use super::names::{self, MANIFEST_SUFFIX};
use super::publish::Directory;
use super::suspect::LOOKED_AT;

/// The last manifests of this database that began before `time`, the newest first; without those that are known to be
/// damaged, and those that can't be read.
pub fn of(directory: &Directory, database: &str, time: Timestamp) -> Vec<Manifest> {
    let begin = format!("{}-", names::file_safe(database));
    let mut found: Vec<String> = directory.names().unwrap_or_default();
    found.retain(|name| name.starts_with(&begin) && name.ends_with(MANIFEST_SUFFIX));
    found.sort_by_cached_key(|name| std::cmp::Reverse(names::time_in(name)));
    let manifests = found.iter().filter_map(|name| Manifest::parse(&directory.read(name).ok()?).ok());
    manifests
        .filter(|earlier| earlier.database == database && earlier.started_at < time)
        .filter(|earlier| earlier.proof.state != State::Damaged)
        .take(LOOKED_AT)
        .collect()
}

/// How many bytes the next dump and its roles will take: as many as the largest of the last, or, where they grow, as
/// the newest and its usual growth. `None`: nothing says.
///
/// `manifests`: the newest first. Those of another format or compression say little of one like this, and count only
/// where there are no others.
pub fn predicted(manifests: &[Manifest], format: &str, compression: Compression) -> Option<u64> {
    let alike = |one: &&Manifest| one.format == format && one.compression == compression;
    let of = |one: &Manifest| one.roles.as_ref().map_or(0, |roles| roles.bytes).saturating_add(one.bytes);
    let mut sizes: Vec<u64> = manifests.iter().filter(alike).map(of).collect();
    if sizes.is_empty() {
        let whole = compression == Compression::None;
        let of = |one: &Manifest| if whole { of(one).max(one.uncompressed_bytes) } else { of(one) };
        sizes = manifests.iter().map(of).collect();
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
