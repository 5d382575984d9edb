//! Databases of a server: how one is made, told what another was told, dropped, and put in another's place.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Deserialize;

use super::server::{Server, ident, literal};
use crate::backup::manifest::Properties;
use crate::backup::work::Trouble;

/// Of the name of a database; the server cuts what is longer.
pub(super) const LONGEST_NAME: usize = 63;

/// A database that is there.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Live {
    pub(super) owner: String,
    pub(super) encoding: String,
    pub(super) collate: String,
    pub(super) ctype: String,
    pub(super) icu_locale: Option<String>,
    pub(super) tablespace: String,
    pub(super) bytes: u64,
    pub(super) sessions: u64,
}

/// `<database><what><time>`, as short as a server takes it; the first that is not among `taken`.
pub(super) fn name_at(database: &str, what: &str, at: Timestamp, taken: &[String]) -> String {
    let first = numbered(database, what, at, 1);
    if !taken.contains(&first) {
        return first;
    }
    let others = (2..).map(|number| numbered(database, what, at, number));
    others.into_iter().find(|name| !taken.contains(name)).unwrap_or(first)
}

fn numbered(database: &str, what: &str, at: Timestamp, number: u32) -> String {
    let time = at.to_zoned(TimeZone::UTC).strftime("%Y%m%dt%H%M%Sz");
    let number = if number > 1 { format!("_{number}") } else { String::new() };
    let end = format!("{what}{time}{number}");
    let mut room = LONGEST_NAME.saturating_sub(end.len()).min(database.len());
    while !database.is_char_boundary(room) {
        room -= 1;
    }
    format!("{}{end}", &database[..room])
}

/// Makes an empty database.
///
/// # Errors
/// What the server said: a locale that it doesn't know, a name that is taken.
pub(super) async fn create(
    server: &Server<'_>,
    name: &str,
    like: Option<&Properties>,
    tablespace: Option<&str>,
    major: u32,
) -> Result<(), Trouble> {
    server.tell(&server.entry.database, &creating(name, like, tablespace, major)).await
}

fn creating(name: &str, like: Option<&Properties>, tablespace: Option<&str>, major: u32) -> String {
    let mut sql = format!("CREATE DATABASE {} TEMPLATE template0", ident(name));
    if let Some(like) = like {
        sql.push_str(&format!(
            " ENCODING {} LC_COLLATE {} LC_CTYPE {}",
            literal(&like.encoding),
            literal(&like.collate),
            literal(&like.ctype)
        ));
        match &like.icu_locale {
            Some(locale) => {
                sql.push_str(&format!(" LOCALE_PROVIDER icu ICU_LOCALE {}", literal(locale)));
            }
            // The cluster's own may be ICU.
            None if major >= 15 => sql.push_str(" LOCALE_PROVIDER libc"),
            None => {}
        }
    }
    if let Some(tablespace) = tablespace {
        sql.push_str(&format!(" TABLESPACE {}", ident(tablespace)));
    }
    sql.push(';');
    sql
}

/// Ends its sessions too; no error where there is no such database.
///
/// # Errors
/// What the server said.
pub(super) async fn drop(server: &Server<'_>, name: &str) -> Result<(), Trouble> {
    forget_subscriptions(server, name).await;
    let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE);", ident(name));
    server.tell(&server.entry.database, &sql).await
}

/// A server keeps a database that has a subscription. The slot at its publisher is that of the database that was dumped,
/// which goes on with it: a subscription is dropped without its slot. What fails here, the drop tells.
async fn forget_subscriptions(server: &Server<'_>, name: &str) {
    let of = format!(
        "SELECT to_jsonb(subname) FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = {});",
        literal(name)
    );
    let subscriptions: Vec<String> = server.ask(&server.entry.database, &of).await.unwrap_or_default();
    for subscription in subscriptions {
        let told = server.tell(name, &forgetting(&subscription)).await;
        if let Err(error) = told {
            server.work.note(&format!("the subscription {subscription} of {name} can't be dropped: {error}"));
        }
    }
}

fn forgetting(subscription: &str) -> String {
    let subscription = ident(subscription);
    format!(
        "ALTER SUBSCRIPTION {subscription} DISABLE;\nALTER SUBSCRIPTION {subscription} SET (slot_name = NONE);\nDROP \
         SUBSCRIPTION {subscription};"
    )
}

/// # Errors
/// What the server said.
pub(super) async fn comment(server: &Server<'_>, name: &str, text: &str) -> Result<(), Trouble> {
    let sql = format!("COMMENT ON DATABASE {} IS {};", ident(name), literal(text));
    server.tell(&server.entry.database, &sql).await
}

/// # Errors
/// What the server said.
pub(super) async fn give_to(server: &Server<'_>, name: &str, owner: &str) -> Result<(), Trouble> {
    let sql = format!("ALTER DATABASE {} OWNER TO {};", ident(name), ident(owner));
    server.tell(&server.entry.database, &sql).await
}

/// Tells `to` all that `from` was told and that is no part of a dump: its owner, who may enter it, its settings, those of
/// roles in it, its limit of connections, its comment.
///
/// # Errors
/// What the server said; nothing is changed then.
pub(super) async fn carry(server: &Server<'_>, from: &str, to: &str) -> Result<(), Trouble> {
    server.tell(&server.entry.database, &carrying(from, to)).await
}

/// Each query of it writes statements, which psql's `\gexec` then tells. A setting whose value is a list is written as
/// it is: quoted as one text it would be one name.
fn carrying(from: &str, to: &str) -> String {
    let (from, name, to) = (literal(from), literal(to), ident(to));
    format!(
        r#"BEGIN;
SELECT format('ALTER DATABASE %I OWNER TO %I', {name}, pg_get_userbyid(datdba)) FROM pg_database WHERE datname = {from} \gexec
SELECT unnest(ARRAY[format('REVOKE ALL ON DATABASE %I FROM PUBLIC', {name}),
  format('REVOKE ALL ON DATABASE %I FROM %I', {name}, pg_get_userbyid(datdba))])
  FROM pg_database WHERE datname = {from} AND datacl IS NOT NULL \gexec
SELECT format('GRANT %s ON DATABASE %I TO %s%s', acl.privilege_type, {name},
  CASE acl.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(acl.grantee)) END,
  CASE WHEN acl.is_grantable AND acl.grantee NOT IN (0, datdba) THEN ' WITH GRANT OPTION' ELSE '' END)
  FROM pg_database, aclexplode(datacl) acl WHERE datname = {from} ORDER BY acl.grantee <> datdba, 1 \gexec
SELECT format('ALTER %s SET %s TO %s',
  CASE s.setrole WHEN 0 THEN format('DATABASE %I', {name})
    ELSE format('ROLE %I IN DATABASE %I', pg_get_userbyid(s.setrole), {name}) END,
  quote_ident(split_part(one, '=', 1)),
  CASE WHEN lower(split_part(one, '=', 1)) IN ('search_path', 'temp_tablespaces', 'session_preload_libraries',
      'local_preload_libraries', 'shared_preload_libraries') AND substr(one, strpos(one, '=') + 1) <> ''
    THEN substr(one, strpos(one, '=') + 1) ELSE quote_literal(substr(one, strpos(one, '=') + 1)) END)
  FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) one
  WHERE d.datname = {from} \gexec
SELECT format('ALTER DATABASE %I CONNECTION LIMIT %s', {name}, datconnlimit)
  FROM pg_database WHERE datname = {from} AND datconnlimit >= 0 \gexec
COMMENT ON DATABASE {to} IS NULL;
SELECT format('COMMENT ON DATABASE %I IS %L', {name}, shobj_description(oid, 'pg_database'))
  FROM pg_database WHERE datname = {from} AND shobj_description(oid, 'pg_database') IS NOT NULL \gexec
COMMIT;"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_it_is_and_when_and_is_never_too_long() {
        let at = "2026-11-22T23:00:05.9Z".parse().unwrap();
        let first = "punk_eco_restored_20261122t230005z".to_owned();
        assert_eq!(name_at("punk_eco", "_restored_", at, &[]), first);
        assert_eq!(name_at("punk_eco", "_restored_", at, std::slice::from_ref(&first)), format!("{first}_2"));
        let long = name_at(&"é".repeat(31), "_before_", at, &[]);
        assert_eq!(long, format!("{}_before_20261122t230005z", "é".repeat(19)));
        assert!(long.len() <= LONGEST_NAME, "{}", long.len());
    }

    #[test]
    fn a_database_is_made_as_the_dumped_one_was() {
        let mut like = Properties {
            encoding: "UTF8".into(),
            collate: "fr_FR.UTF-8".into(),
            ctype: "C".into(),
            icu_locale: None,
            owner: "app".into(),
        };
        assert_eq!(creating("a\"b", None, None, 15), r#"CREATE DATABASE "a""b" TEMPLATE template0;"#);
        assert_eq!(
            creating("a", Some(&like), Some("fast"), 14),
            "CREATE DATABASE \"a\" TEMPLATE template0 ENCODING E'UTF8' LC_COLLATE E'fr_FR.UTF-8' LC_CTYPE E'C' TABLESPACE \
             \"fast\";"
        );
        assert!(creating("a", Some(&like), None, 15).ends_with(" LOCALE_PROVIDER libc;"));
        like.icu_locale = Some("fr".into());
        assert!(creating("a", Some(&like), None, 15).ends_with(" LOCALE_PROVIDER icu ICU_LOCALE E'fr';"));
    }
}
