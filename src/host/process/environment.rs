//! The environment of a job's programs: nothing of the daemon's, all that a login would give.

use std::fs;

use jiff::Timestamp;

use super::Account;

/// The marks by which the processes of a run are known.
pub const MARKER_RUN: &str = "PUNK_ECO_RUN";
pub const MARKER_JOB: &str = "PUNK_ECO_JOB";
pub const MARKER_SLOT: &str = "PUNK_ECO_SLOT";

const LOCALE: &str = "/etc/default/locale";

/// PATH as login(1) sets it on Debian (`ENV_SUPATH` and `ENV_PATH` of /etc/login.defs).
pub fn login_path(uid: u32) -> &'static str {
    if uid == 0 {
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    } else {
        "/usr/local/bin:/usr/bin:/bin"
    }
}

pub(super) fn login(account: &Account) -> Vec<(String, String)> {
    let locale = fs::read_to_string(LOCALE).unwrap_or_default();
    let lang = lang_of(&locale).unwrap_or("C.UTF-8");
    let pairs = [
        ("HOME", account.home.to_str().unwrap_or("/")),
        ("LOGNAME", &account.name),
        ("USER", &account.name),
        ("SHELL", "/bin/sh"),
        ("PATH", login_path(account.uid)),
        ("LANG", lang),
    ];
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
}

/// Empty for a run without a slot.
pub(super) fn slot(slot: Option<Timestamp>) -> String {
    slot.map(|slot| slot.to_string()).unwrap_or_default()
}

/// Later values replace earlier ones of the same name.
pub(super) fn put(env: &mut Vec<(String, String)>, name: &str, value: String) {
    match env.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => *old = value,
        None => env.push((name.to_owned(), value)),
    }
}

fn lang_of(locale: &str) -> Option<&str> {
    let value = locale.lines().find_map(|line| line.trim().strip_prefix("LANG="))?;
    Some(value.trim_matches(['"', '\''])).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_is_the_hosts() {
        assert_eq!(lang_of("#LANG=x\nLC_TIME=fr_MA\nLANG=\"fr_MA.UTF-8\"\n"), Some("fr_MA.UTF-8"));
        assert_eq!(lang_of("LANG=\n"), None);
        assert_eq!(lang_of(""), None);
    }

    #[test]
    fn a_login_has_what_cron_users_rely_on() {
        let account =
            Account { name: "shop".into(), uid: 1000, gid: 1000, groups: vec![], home: "/home/shop".into() };
        let env = login(&account);
        let value = |name: &str| env.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        assert_eq!(value("HOME"), Some("/home/shop"));
        assert_eq!(value("USER"), Some("shop"));
        assert_eq!(value("SHELL"), Some("/bin/sh"));
        assert_eq!(value("PATH"), Some("/usr/local/bin:/usr/bin:/bin"));
    }
}
