//! A server with TLS, as seen by our own connection and by pg_dump, which must both get through.

use super::Shop;
use crate::support::postgres::Postgres;

fn check(shop: &Shop, tls: &str, expected: Result<(), &str>) {
    shop.table("", "", &format!(", tls: {tls}"));
    assert!(shop.host.cli(&["reload"]).status.success());
    match expected {
        Ok(()) => {
            let row = shop.run();
            assert_eq!(row["outcome"], "succeeded", "{tls}: {row:#}");
        }
        Err(expected) => assert_eq!(shop.error(), expected, "{tls}"),
    }
}

#[test]
fn a_server_that_wants_tls_gets_it_and_its_own_signature_is_no_proof() {
    let shop = Shop::on(Postgres::start_with_tls("hostssl"));
    let daemon = shop.host.daemon();
    check(&shop, "require", Ok(()));
    check(&shop, "prefer", Ok(()));
    check(
        &shop,
        "disable",
        Err(
            "PostgreSQL at 127.0.0.1:PORT refuses database shop for user postgres: no pg_hba.conf entry for host \
             \"127.0.0.1\", user \"postgres\", database \"shop\", no encryption (28000)",
        ),
    );
    check(
        &shop,
        "verify-full",
        Err(
            "PostgreSQL at 127.0.0.1:PORT has a certificate that proves nothing: it has signed itself. Have it signed by \
             an authority that this host trusts (/usr/local/share/ca-certificates), or write tls: require, which encrypts \
             without asking who is there",
        ),
    );
    assert!(daemon.stop().success());
}

#[test]
fn a_server_that_wants_no_tls_is_dumped_without_where_tls_is_only_preferred() {
    let shop = Shop::on(Postgres::start_with_tls("hostnossl"));
    let daemon = shop.host.daemon();
    check(&shop, "prefer", Ok(()));
    check(&shop, "disable", Ok(()));
    check(
        &shop,
        "require",
        Err(
            "PostgreSQL at 127.0.0.1:PORT refuses database shop for user postgres: no pg_hba.conf entry for host \
             \"127.0.0.1\", user \"postgres\", database \"shop\", SSL encryption (28000)",
        ),
    );
    assert!(daemon.stop().success());
}
