//! The options of `pg_dump`, as jobs.yaml has them.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::backup::codec::Compression;
use crate::backup::copies::CopyTo;
use crate::backup::crypt::Recipients;
use crate::backup::postgres::{DumpOrder, Format};
use crate::document::{ConnectionName, Invalid};
use crate::host::files::Owner;
use crate::units::{HumanDuration, Percent};

#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PgDump {
    /// Which entry of `postgres:` to dump.
    pub connection: ConnectionName,
    /// Where the dump, its roles and its manifest go; made with mode 0700 where it is missing.
    pub directory: PathBuf,
    /// `plain` is SQL for psql; `custom` is for pg_restore.
    #[serde(default)]
    pub format: Format,
    /// How the dump and the roles are compressed.
    #[serde(default)]
    pub compression: Compression,
    /// 1 to 9 for gzip, default 6; 1 to 19 for zstd, default 3.
    #[serde(default)]
    pub level: Option<u32>,
    /// Who owns the files; default root, or the daemon's own user where it isn't root.
    #[serde(default)]
    pub owner: Option<String>,
    /// The mode of the files, in octal.
    #[serde(default = "mode_0600")]
    #[schemars(regex(pattern = "^0?[0-7]{3}$"))]
    pub mode: String,
    /// Whether the server's roles are dumped too.
    #[serde(default = "yes")]
    pub roles: bool,
    /// What share of the file system must be free, the coming dump taken off.
    #[serde(default = "ten_percent")]
    pub min_free: Percent,
    /// Encrypt the dump and the roles to these age recipients; nothing of them is on this disk in another form, and
    /// this host can't read them again.
    #[serde(default)]
    pub encrypt_to: Recipients,
    /// Where copies go once the dump is published: s3://bucket/prefix, file:///mnt/backups, or maps with what opens
    /// them.
    #[serde(default)]
    pub copy_to: CopyTo,
    /// How long pg_dump waits for a lock on a table before it gives up.
    #[serde(default = "a_minute")]
    pub lock_wait: HumanDuration,
    /// How long pg_dump may write nothing before it is ended.
    #[serde(default = "ten_minutes")]
    pub stall: HumanDuration,
}

fn mode_0600() -> String {
    "0600".to_owned()
}

fn yes() -> bool {
    true
}

fn ten_percent() -> Percent {
    Percent(10.0)
}

fn a_minute() -> HumanDuration {
    HumanDuration(Duration::from_secs(60))
}

fn ten_minutes() -> HumanDuration {
    HumanDuration(Duration::from_secs(600))
}

impl PgDump {
    pub(super) fn problems(&self) -> Vec<Invalid> {
        let mut problems = self.copy_to.problems("copy_to");
        let mut problem = |key: &str, message: String, hint: Option<&str>| {
            problems.push(Invalid { key: key.to_owned(), message, hint: hint.map(str::to_owned) });
        };
        if !self.directory.is_absolute() {
            let message = format!("`{}` is not an absolute path", self.directory.display());
            problem(
                "directory",
                message,
                Some("begin it with /: the daemon's own folder is no place for dumps"),
            );
        }
        if parse_mode(&self.mode).is_none() {
            let message = format!("`{}` is not a mode of a file", self.mode);
            problem("mode", message, Some("write it in octal and in quotes, like \"0600\" or \"0640\""));
        }
        match (self.level, self.compression.highest_level()) {
            (Some(level), 0) if level > 0 => {
                problem(
                    "level",
                    format!("level {level} has no meaning with compression: none"),
                    Some("leave level out"),
                );
            }
            (Some(level), highest) if highest > 0 && !(1..=highest).contains(&level) => {
                problem("level", format!("level {level} is not between 1 and {highest}"), None);
            }
            _ => {}
        }
        if self.stall.0.is_zero() {
            problem("stall", "`0s` would end every dump at once".to_owned(), Some("the default is 10m"));
        }
        problems
    }

    pub(super) fn level(&self) -> u32 {
        self.level.unwrap_or(self.compression.default_level())
    }

    pub(super) fn order(&self) -> DumpOrder {
        let lock_wait = self.lock_wait.0;
        DumpOrder { format: self.format, compression: self.compression, level: self.level(), lock_wait }
    }

    pub(super) fn mode(&self) -> u32 {
        parse_mode(&self.mode).unwrap_or(0o600)
    }

    /// Who is to own the files, where this process can see to it.
    pub(super) fn owner(&self) -> Result<Owner, String> {
        let own = Owner::own();
        let Some(name) = &self.owner else {
            // Root owns what root's daemon writes; any other daemon can only own its files itself.
            return Ok(own);
        };
        let owner = Owner::named(name).map_err(|reason| format!("owner: {reason}"))?;
        if own.uid != 0 && owner.uid != own.uid {
            return Err(format!(
                "owner: {name} can't be given files, since this daemon doesn't run as root: leave owner out, or run it as root"
            ));
        }
        Ok(owner)
    }
}

fn parse_mode(text: &str) -> Option<u32> {
    let digits = (3..=4).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    u32::from_str_radix(text, 8).ok().filter(|mode| digits && *mode <= 0o777)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<PgDump, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let options = read(r#"{"connection": "app", "directory": "/var/backups/punk_eco"}"#).unwrap();
        assert_eq!(options.problems(), []);
        assert_eq!(
            (options.format, options.compression, options.level(), options.mode(), options.roles),
            (Format::Plain, Compression::Gzip, 6, 0o600, true)
        );
        assert_eq!(
            (options.min_free.to_string(), options.lock_wait.to_string(), options.stall.to_string()),
            ("10%".into(), "1m".into(), "10m".into())
        );
    }

    #[test]
    fn what_can_t_work_is_a_problem_of_its_key() {
        let check = |more: &str, expected: &[&str]| {
            let options = read(&format!(r#"{{"connection": "app", "directory": "/d"{more}}}"#)).unwrap();
            let found: Vec<_> =
                options.problems().into_iter().map(|one| format!("{}: {}", one.key, one.message)).collect();
            assert_eq!(found, expected, "{more}");
        };
        check("", &[]);
        check(r#", "level": 9"#, &[]);
        check(r#", "level": 10"#, &["level: level 10 is not between 1 and 9"]);
        check(r#", "level": 0"#, &["level: level 0 is not between 1 and 9"]);
        check(r#", "level": 19, "compression": "zstd""#, &[]);
        check(
            r#", "level": 6, "compression": "none""#,
            &["level: level 6 has no meaning with compression: none"],
        );
        check(r#", "mode": "600""#, &[]);
        check(r#", "mode": "rw""#, &["mode: `rw` is not a mode of a file"]);
        check(r#", "mode": "4755""#, &["mode: `4755` is not a mode of a file"]);
        check(r#", "stall": "0s""#, &["stall: `0s` would end every dump at once"]);
        check(r#", "encrypt_to": []"#, &[]);
        assert!(read(r#"{"connection": "app", "directory": "/d", "encrypt_to": ["me"]}"#).is_err());
    }

    #[test]
    fn an_unknown_owner_is_named() {
        let options =
            read(r#"{"connection": "app", "directory": "/d", "owner": "nobody-by-that-name"}"#).unwrap();
        assert_eq!(options.owner().unwrap_err(), "owner: there is no user nobody-by-that-name on this host");
    }
}
