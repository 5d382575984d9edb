//! The names of a backup's files: `<database>-<UTC time>.sql.gz` and what lies beside it.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::codec::Compression;
use super::crypt;

pub const MANIFEST_SUFFIX: &str = ".manifest.json";
/// Of a roles file that is not encrypted.
pub const ROLES_SUFFIX: &str = ".roles.sql.gz";

/// The endings of a dump's or an archive's own file, the longer first.
const DUMP_SUFFIXES: [&str; 7] = [".sql.gz", ".sql.zst", ".sql", ".dump", ".tar.gz", ".tar.zst", ".tar"];

/// What the names of one backup begin with: `<database>-<YYYYMMDDTHHMMSSZ>`; `number` tells backups of the same
/// second apart.
pub fn stem(database: &str, at: Timestamp, number: u32) -> String {
    let time = at.to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ");
    let number = if number > 1 { format!("-{number}") } else { String::new() };
    format!("{}-{time}{number}", file_safe(database))
}

/// What a dump's name ends with.
pub fn dump_suffix(custom: bool, compression: Compression, encrypted: bool) -> String {
    let content = match (custom, compression) {
        (true, _) => ".dump",
        (false, Compression::Gzip) => ".sql.gz",
        (false, Compression::Zstd) => ".sql.zst",
        (false, Compression::None) => ".sql",
    };
    encrypted_suffix(content, encrypted)
}

/// What a roles file's name ends with.
pub fn roles_suffix(encrypted: bool) -> String {
    encrypted_suffix(ROLES_SUFFIX, encrypted)
}

fn encrypted_suffix(content: &str, encrypted: bool) -> String {
    format!("{content}{}", if encrypted { crypt::SUFFIX } else { "" })
}

/// Whether the name is a roles file's.
pub fn is_roles(file: &str) -> bool {
    file.strip_suffix(crypt::SUFFIX).unwrap_or(file).ends_with(ROLES_SUFFIX)
}

/// What an archive's name ends with.
pub fn archive_suffix(compression: Compression, encrypted: bool) -> String {
    let content = match compression {
        Compression::Gzip => ".tar.gz",
        Compression::Zstd => ".tar.zst",
        Compression::None => ".tar",
    };
    encrypted_suffix(content, encrypted)
}

/// Whether the name is an archive's.
pub fn is_archive(file: &str) -> bool {
    let content = file.strip_suffix(crypt::SUFFIX).unwrap_or(file);
    [".tar.gz", ".tar.zst", ".tar"].iter().any(|suffix| content.ends_with(suffix))
}

/// The stem of a dump's, a roles file's or a manifest's name.
pub fn stem_of(file: &str) -> &str {
    let file = file.strip_suffix(MANIFEST_SUFFIX).unwrap_or(file);
    let content = file.strip_suffix(crypt::SUFFIX).unwrap_or(file);
    if let Some(stem) = content.strip_suffix(ROLES_SUFFIX) {
        return stem;
    }
    DUMP_SUFFIXES.iter().find_map(|suffix| content.strip_suffix(suffix)).unwrap_or(file)
}

/// The manifest of a dump lies beside it, under the stem of its name.
pub fn manifest_of(dump: &str) -> String {
    format!("{}{MANIFEST_SUFFIX}", stem_of(dump))
}

/// A database's name as part of a file's name: letters and digits of any script, `_`, `-`, `+`, `=`, `@` and
/// inner dots stay; anything else, which a shell or a pattern may take for something of its own, becomes `_`.
pub fn file_safe(database: &str) -> String {
    let safe = |(at, letter): (usize, char)| match letter {
        '_' | '+' | '=' | '@' => letter,
        '.' | '-' if at > 0 => letter,
        _ if letter.is_alphanumeric() => letter,
        _ => '_',
    };
    database.char_indices().map(safe).collect()
}

/// The time that a name carries: the last `-YYYYMMDDTHHMMSSZ` in it that is one.
pub fn time_in(file: &str) -> Option<Timestamp> {
    const LENGTH: usize = "-YYYYMMDDTHHMMSSZ".len();
    let bytes = file.as_bytes();
    (0..=bytes.len().checked_sub(LENGTH)?).rev().find_map(|at| time_at(&bytes[at..at + LENGTH]))
}

fn time_at(text: &[u8]) -> Option<Timestamp> {
    if text[0] != b'-' || text[9] != b'T' || text[16] != b'Z' {
        return None;
    }
    let number = |from: usize, to: usize| {
        text[from..to].iter().try_fold(0_i16, |number, byte| {
            byte.is_ascii_digit().then(|| number * 10 + i16::from(byte - b'0'))
        })
    };
    let short = |from: usize| i8::try_from(number(from, from + 2)?).ok();
    let civil =
        DateTime::new(number(1, 5)?, short(5)?, short(7)?, short(10)?, short(12)?, short(14)?, 0).ok()?;
    TimeZone::UTC.to_timestamp(civil).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_the_database_and_the_time() {
        let at = "2026-11-22T23:00:00.9Z".parse().unwrap();
        assert_eq!(stem("punk_eco", at, 1), "punk_eco-20261122T230000Z");
        assert_eq!(stem("punk_eco", at, 2), "punk_eco-20261122T230000Z-2");
        assert_eq!(dump_suffix(false, Compression::Zstd, false), ".sql.zst");
        assert_eq!(dump_suffix(true, Compression::Gzip, false), ".dump");
        assert_eq!(dump_suffix(false, Compression::Gzip, true), ".sql.gz.age");
        assert_eq!(roles_suffix(true), ".roles.sql.gz.age");
        assert_eq!(manifest_of("a-20261122T230000Z.sql.gz"), "a-20261122T230000Z.manifest.json");
        for file in ["a-1.sql", "a-1.sql.gz", "a-1.roles.sql.gz", "a-1.manifest.json", "a-1.dump", "a-1"] {
            assert_eq!(stem_of(file), "a-1", "{file}");
        }
        for compression in [Compression::Gzip, Compression::Zstd, Compression::None] {
            for encrypted in [false, true] {
                assert_eq!(stem_of(&format!("a-1{}", archive_suffix(compression, encrypted))), "a-1");
            }
        }
        for file in ["a-1.sql.age", "a-1.sql.zst.age", "a-1.roles.sql.gz.age", "a-1.dump.age"] {
            assert_eq!(stem_of(file), "a-1", "{file}");
        }
        assert_eq!(stem_of("letter.age"), "letter.age");
        assert!(
            is_roles("a-1.roles.sql.gz") && is_roles("a-1.roles.sql.gz.age") && !is_roles("a-1.sql.gz.age")
        );
    }

    #[test]
    fn odd_characters_of_a_database_don_t_reach_the_file_system() {
        let check = |database: &str, expected: &str| assert_eq!(file_safe(database), expected);
        check("punk_eco", "punk_eco");
        check("../etc/passwd", "_._etc_passwd");
        check("-rf", "_rf");
        check("Boutique Éco*\n\0", "Boutique_Éco___");
        check("a.b-c@d", "a.b-c@d");
    }

    #[test]
    fn the_time_in_a_name_is_found() {
        let check = |file: &str, expected: Option<&str>| {
            assert_eq!(time_in(file).map(|at| at.to_string()).as_deref(), expected, "{file}");
        };
        check("punk_eco-20261122T230000Z.sql.gz", Some("2026-11-22T23:00:00Z"));
        check("punk_eco-20261122T230000Z-2.roles.sql.gz", Some("2026-11-22T23:00:00Z"));
        check("a-20250101T000000Z-20261122T230000Z.sql.gz", Some("2026-11-22T23:00:00Z"));
        check("a-20261322T230000Z.sql.gz", None);
        check("a-20260230T230000Z.sql.gz", None);
        check("a-2026112xT230000Z.sql.gz", None);
        check("a_20261122T230000Z.sql.gz", None);
        check("été.sql.gz", None);
        check("", None);
    }
}
