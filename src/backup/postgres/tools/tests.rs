use super::*;
use crate::host::postgres::DatabaseFacts;

#[test]
fn a_server_newer_than_pg_dump_is_refused_with_both_versions() {
    let (version, major) = version_of("pg_dump (PostgreSQL) 13.5 (Debian 13.5-1)").unwrap();
    let tools = Tools { pg_dump: "/usr/bin/pg_dump".into(), version, major, inside: None };
    let facts = ServerFacts {
        version: "15.8".into(),
        major: 15,
        superuser: true,
        database_bytes: 1,
        database: DatabaseFacts::default(),
        data_directory: None,
    };
    assert_eq!(
        tools.fit(&facts, "db:5432").unwrap_err(),
        "PostgreSQL at db:5432 is version 15.8, and /usr/bin/pg_dump is 13.5 (Debian 13.5-1), which can't dump a \
         newer server: install the package postgresql-client-15"
    );
    assert!(tools.fit(&ServerFacts { major: 13, ..facts }, "db:5432").is_ok());
}
