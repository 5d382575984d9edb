//! Accounts of the system: who a user is, with all its groups. Never caches: `/etc/passwd` may change.

use std::ffi::CString;

use nix::unistd::{User, geteuid, getgrouplist};

use super::process::Account;

/// # Errors
/// A sentence that names the user: unknown, or the user database can't be read.
pub fn by_name(name: &str) -> Result<Account, String> {
    let found = User::from_name(name).map_err(|error| format!("user {name} can't be looked up: {error}"))?;
    from_user(found.ok_or_else(|| format!("there is no user {name} on this host"))?)
}

/// The account that this process runs as.
///
/// # Errors
/// Where the user database has no entry for it.
pub fn own() -> Result<Account, String> {
    let uid = geteuid();
    let found = User::from_uid(uid).map_err(|error| format!("user {uid} can't be looked up: {error}"))?;
    from_user(found.ok_or_else(|| format!("user {uid} has no entry in the user database"))?)
}

fn from_user(user: User) -> Result<Account, String> {
    let name =
        CString::new(user.name.as_str()).map_err(|_| format!("user name {:?} holds a NUL", user.name))?;
    let groups = getgrouplist(&name, user.gid)
        .map_err(|error| format!("the groups of user {} can't be looked up: {error}", user.name))?;
    Ok(Account {
        name: user.name,
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
        groups: groups.into_iter().map(nix::unistd::Gid::as_raw).collect(),
        home: user.dir,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_known_and_nobody_else_by_that_name() {
        let root = by_name("root").unwrap();
        assert_eq!((root.uid, root.gid, root.home.as_os_str()), (0, 0, "/root".as_ref()));
        assert!(root.groups.contains(&0));
        assert_eq!(
            by_name("no-such-user-here").unwrap_err(),
            "there is no user no-such-user-here on this host"
        );
    }

    #[test]
    fn the_own_account_is_found() {
        assert_eq!(own().unwrap().uid, geteuid().as_raw());
    }
}
