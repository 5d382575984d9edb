//! `tcp` and `postgres`, against what listens, what doesn't, and what keeps silent.

use super::{check, host, looked, said};
use crate::support::postgres::{PASSWORD, Postgres, USER};
use crate::support::web::{Dead, Server, free_port, until_closed};

#[test]
fn a_port_takes_connections_or_it_is_said_why_not() {
    let server = Server::silent();
    check(server.port, "tcp: { address: '127.0.0.1:PORT' }", "ok: connected in N ms (within 3s)");
    check(server.port, "tcp: { address: 'localhost:PORT' }", "ok: connected in N ms (within 3s)");
    check(
        free_port(),
        "tcp: { address: '127.0.0.1:PORT' }",
        "failing: 127.0.0.1:PORT refuses the connection: nothing listens there",
    );
    check(
        80,
        "tcp: { address: 'no-such.invalid:80' }",
        "failing: the name no-such.invalid can't be resolved: Name or service not known",
    );
    let dead = Dead::new();
    let begun = std::time::Instant::now();
    check(
        dead.port,
        "tcp: { address: '127.0.0.1:PORT', timeout: 300ms }",
        "failing: 127.0.0.1:PORT didn't answer within 300ms: no connection was made",
    );
    assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", begun.elapsed());
}

fn connection(port: u16, database: &str, password: &str) -> String {
    format!(
        "postgres:\n  app: {{ host: 127.0.0.1, port: {port}, database: {database}, user: {USER}, password: '{password}' }}"
    )
}

fn postgres(top: &str, port: u16) -> String {
    let host = host(top, &["postgres: { connection: app }".to_owned()]);
    let results = looked(&host, |_| {});
    assert!(!host.log("watch").contains(PASSWORD) && !host.log("watch").contains("hunter2"));
    said(&results[0], port)
}

#[test]
fn a_database_answers_or_says_why_it_does_not() {
    let server = Postgres::start_with("scram-sha-256");
    let port = server.port;
    assert_eq!(
        postgres(&connection(port, "postgres", PASSWORD), port),
        "ok: database postgres at 127.0.0.1:PORT answers in N ms"
    );
    assert_eq!(
        postgres(&connection(port, "postgres", "hunter2"), port),
        "failing: PostgreSQL at 127.0.0.1:PORT refuses database postgres for user postgres: password authentication failed \
         for user \"postgres\" (28P01)"
    );
    assert_eq!(
        postgres(&connection(port, "nowhere", PASSWORD), port),
        "failing: PostgreSQL at 127.0.0.1:PORT refuses database nowhere for user postgres: database \"nowhere\" does not \
         exist (3D000)"
    );
    drop(server);
    assert_eq!(
        postgres(&connection(port, "postgres", PASSWORD), port),
        "failing: PostgreSQL at 127.0.0.1:PORT can't be reached: error connecting to server: Connection refused (os error \
         111)"
    );
}

#[test]
fn a_database_that_keeps_silent_holds_nobody_up() {
    let silent = Server::silent();
    // Lets everybody in, and has no answer to a query: as a server that was stopped with SIGSTOP.
    let frozen = Server::start(|mut connection| {
        let mut startup = [0; 1024];
        assert!(std::io::Read::read(&mut connection, &mut startup).unwrap() > 8);
        std::io::Write::write_all(&mut connection, b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I").unwrap();
        until_closed(&mut connection);
    });
    let top = format!(
        "postgres:\n  silent: {{ host: 127.0.0.1, port: {}, database: shop, user: shop }}\n  \
         frozen: {{ host: 127.0.0.1, port: {}, database: shop, user: shop, tls: disable }}",
        silent.port, frozen.port
    );
    let host = host(&top, &["silent", "frozen"].map(|name| format!("postgres: {{ connection: {name} }}")));
    let results = looked(&host, |_| {});
    let expected = "failing: PostgreSQL at 127.0.0.1:PORT doesn't answer within 15 s";
    assert_eq!([said(&results[0], silent.port), said(&results[1], frozen.port)], [expected; 2]);
}
