//! What is served against what is on disk, with a certbot that has nothing to do.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::{Site, served_by};
use crate::support::missing::lacks;
use crate::support::nginx::Nginx;
use crate::support::openssl::{self, served};
use crate::support::server::free_port;

const SHOP: &str = "shop.localhost";
const BLOG: &str = "blog.localhost";

#[test]
fn each_site_must_serve_the_newest_certificate_of_its_name() {
    if lacks("nginx") {
        return;
    }
    let site = Site::new();
    site.certbot.pretend("shop", &[SHOP], 30);
    site.certbot.pretend("blog", &[BLOG, "*.blog.localhost"], 30);
    let (shop, blog) = (site.certbot.live("shop"), site.certbot.live("blog"));
    let nginx = Nginx::serving(&[(SHOP, &shop), (BLOG, &blog)]);
    let at = nginx.https;
    let more = format!(
        "reload: {}, served_at: [{{ address: \"127.0.0.1:{at}\", name: {SHOP} }}, {{ address: \"127.0.0.1:{at}\", \
         name: {BLOG} }}]",
        nginx.reload()
    );
    site.table("\"true\"", &[], &more);
    let row = site.succeeds();
    assert_eq!(row["facts"]["deployed"], false);
    let shops = openssl::serial(&shop.join("cert.pem"));

    // Somebody renews by hand, and forgets nginx.
    site.certbot.pretend("blog", &[BLOG, "*.blog.localhost"], 60);
    let newest = site.certbot.serial("blog");
    assert_ne!(served(at, BLOG), newest);
    let dry = site.run_with(&["--dry-run"]);
    assert_eq!(dry["outcome"], "succeeded", "{dry:#}");
    let summary = dry["summary"].as_str().unwrap();
    assert!(
        summary.starts_with("would have certbot renew what is due, then deploy what is on disk: 2 "),
        "{summary}"
    );
    assert_ne!(served(at, BLOG), newest);

    let row = site.succeeds();
    assert_eq!(row["facts"]["renewed"], json!([]));
    assert_eq!(row["facts"]["deployed"], true);
    assert_eq!((served(at, SHOP), served(at, BLOG)), (shops, newest));
    assert_eq!(site.succeeds()["facts"]["deployed"], false);
}

#[test]
fn a_server_that_keeps_another_certificate_fails_the_run_with_both_serials() {
    if lacks("nginx") {
        return;
    }
    let site = Site::new();
    site.certbot.pretend("shop", &[SHOP], 30);
    let other = site.host.path("other");
    openssl::make(&other, SHOP, &[SHOP], 30);
    let nginx = Nginx::serving(&[(SHOP, &other)]);
    let at = nginx.https;
    site.table("\"true\"", &[], &format!("reload: {{ run: [\"true\"] }}, served_at: [\"127.0.0.1:{at}\"]"));
    let text = std::fs::read_to_string(site.host.config()).unwrap();
    std::fs::write(site.host.config(), text.replace("attempts: 2", "attempts: 1")).unwrap();
    let (served, newest) = (openssl::serial(&other.join("cert.pem")), site.certbot.serial("shop"));
    let row = site.run();
    assert_eq!(
        row["attempts"][0]["error"],
        format!(
            "127.0.0.1:{at} serves {served}, and the newest on disk is {newest} (shop), also after the reload"
        )
    );
    // What it saw is kept.
    assert_eq!(
        row["facts"]["served"][0],
        json!({"address": format!("127.0.0.1:{at}"), "name": null, "serial": served, "newest": false})
    );
    assert_eq!(row["facts"]["certificates"][0]["name"], "shop");
}

#[test]
fn a_place_where_nobody_answers_and_a_name_without_a_certificate_are_said() {
    if lacks("nginx") {
        return;
    }
    let site = Site::new();
    site.certbot.pretend("shop", &[SHOP], 30);
    let nobody = free_port();
    site.table(
        "\"true\"",
        &[],
        &format!("reload: {{ run: [\"true\"] }}, served_at: [\"127.0.0.1:{nobody}\"]"),
    );
    let expected = format!(
        "127.0.0.1:{nobody} takes no connection: Connection refused (os error 111), so that nobody can see what is \
         served there"
    );
    assert_eq!(site.errors(), [expected.clone(), expected]);

    let nginx = Nginx::serving(&[(SHOP, &site.certbot.live("shop"))]);
    site.table("\"true\"", &[], &served_by(&nginx, BLOG));
    // No retry makes a certificate.
    assert_eq!(
        site.errors(),
        [format!(
            "127.0.0.1:{} ({BLOG}) serves {}, but no certificate on disk is for {BLOG} (those are for {SHOP})",
            nginx.https,
            site.certbot.serial("shop")
        )]
    );
}

#[test]
fn a_deploy_that_failed_is_owed_until_it_is_done_also_where_nobody_looks_what_is_served() {
    let site = Site::new();
    site.certbot.pretend("shop", &[SHOP], 30);
    // A certbot that renews.
    let program = site.host.path("renews");
    let new = site.host.path("new");
    openssl::make(&new, SHOP, &[SHOP], 60);
    let script = format!(
        "#!/bin/sh\necho renewing\ncp {}/*.pem {}\n",
        new.display(),
        site.certbot.live("shop").display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let program = program.display().to_string();

    let done = site.host.path("reloaded");
    let reload = format!("reload: {{ run: [touch, {}] }}", done.display());
    site.table("\"true\"", &[], &reload);
    site.succeeds();
    assert!(!done.exists(), "there was nothing to deploy");

    let failing = "reload: { test: [sh, -c, \"echo the road is closed >&2; exit 3\"], run: [\"true\"] }";
    site.table(&program, &[], failing);
    let serial = openssl::serial(&new.join("cert.pem"));
    let renewed = site.errors();
    assert!(renewed[0].starts_with(&format!("renewed shop (serial {serial}, until ")), "{renewed:?}");
    assert_eq!(
        renewed[1],
        format!(
            "shop (serial {serial}) is on disk and not deployed: sh -c echo the road is closed >&2; exit 3 ended with \
             code 3: the road is closed; once that is mended, the next run deploys it without renewing it again"
        )
    );
    assert_eq!(site.host.log("renew").matches("renewing\n").count(), 1);

    site.table("\"true\"", &[], &reload);
    let row = site.succeeds();
    assert_eq!((&row["facts"]["renewed"], &row["facts"]["deployed"]), (&json!([]), &json!(true)));
    assert!(done.exists());
    std::fs::remove_file(&done).unwrap();
    site.succeeds();
    assert!(!done.exists(), "it was deployed already");
}
