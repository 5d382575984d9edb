//! With certbot and an ACME server.

use serde_json::json;

use super::{Site, served_by};
use crate::support::acme::{Challenges, Pebble};
use crate::support::missing::lacks;
use crate::support::nginx::Nginx;
use crate::support::openssl::served;

const NAME: &str = "punk.localhost";

fn lacking() -> bool {
    ["certbot", "pebble", "pebble-challtestsrv", "nginx", "openssl"].into_iter().any(lacks)
}

#[test]
fn what_is_renewed_is_served_and_a_deploy_that_failed_is_mended_without_renewing_again() {
    if lacking() {
        return;
    }
    let mut site = Site::new();
    let mut nginx = Nginx::start();
    let pebble = Pebble::start(&Challenges::AnsweredOn(nginx.http));
    site.authority = Some(pebble.authority());
    pebble.issue(&site.certbot, NAME, &nginx.web());
    let live = site.certbot.live(NAME);
    nginx.configure(&[(NAME, &live)]);
    nginx.restart();
    let issued = site.certbot.serial(NAME);
    assert_eq!(served(nginx.https, NAME), issued);

    // Nothing is due: nothing is done.
    site.table("certbot", &[], &served_by(&nginx, NAME));
    let row = site.succeeds();
    assert_eq!(row["facts"]["renewed"], json!([]));
    assert_eq!(row["facts"]["deployed"], false);
    assert_eq!(row["facts"]["certificates"][0]["serial"], issued);
    assert_eq!(row["facts"]["certificates"][0]["names"], json!([NAME]));
    assert!(
        site.host.log("renew").contains("Certificate not yet due for renewal"),
        "{}",
        site.host.log("renew")
    );

    site.table("certbot", &["--force-renewal"], &served_by(&nginx, NAME));
    let row = site.succeeds();
    let first = site.certbot.serial(NAME);
    assert_ne!(first, issued);
    assert_eq!(served(nginx.https, NAME), first);
    assert_eq!(row["facts"]["renewed"], json!([NAME]));
    assert_eq!(row["facts"]["deployed"], true);
    assert_eq!(row["facts"]["served"][0]["serial"], first);
    let summary = row["summary"].as_str().unwrap();
    assert!(summary.starts_with(&format!("renewed {NAME} (serial {first}, until ")), "{summary}");
    assert!(
        summary.ends_with(&format!("; deployed; served at 127.0.0.1:{} as on disk", nginx.https)),
        "{summary}"
    );

    let good = std::fs::read_to_string(nginx.conf()).unwrap();
    std::fs::write(nginx.conf(), format!("bogus on;\n{good}")).unwrap();
    let errors = site.errors();
    let second = site.certbot.serial(NAME);
    assert_ne!(second, first);
    assert_eq!(served(nginx.https, NAME), first);
    // The second attempt tries the deploy, and asks for no other certificate.
    assert_eq!(errors.len(), 2);
    for error in &errors {
        let conf = nginx.conf().display().to_string();
        let words =
            format!("unknown directive \"bogus\" in {conf}:1; nginx: configuration file {conf} test failed");
        assert!(error.contains(&words), "{error}");
        assert!(
            error.contains(&format!("{NAME} (serial {second}) is on disk and not deployed: nginx -t ")),
            "{error}"
        );
        assert!(error.ends_with("the next run deploys it without renewing it again"), "{error}");
    }

    std::fs::write(nginx.conf(), good).unwrap();
    let row = site.succeeds();
    assert_eq!(row["facts"]["renewed"], json!([]));
    assert_eq!(row["facts"]["deployed"], true);
    assert_eq!(site.certbot.serial(NAME), second);
    assert_eq!(served(nginx.https, NAME), second);
}

#[test]
fn an_authority_that_refuses_is_quoted_and_what_is_on_disk_is_deployed_all_the_same() {
    if lacking() {
        return;
    }
    let mut site = Site::new();
    let mut nginx = Nginx::start();
    let mut pebble = Pebble::start(&Challenges::AnsweredOn(nginx.http));
    site.authority = Some(pebble.authority());
    pebble.issue(&site.certbot, NAME, &nginx.web());
    // What nginx has is older than what is on disk.
    let old = site.host.path("old");
    crate::support::openssl::make(&old, NAME, &[NAME], 30);
    nginx.configure(&[(NAME, &old)]);
    nginx.restart();
    nginx.configure(&[(NAME, &site.certbot.live(NAME))]);
    let issued = site.certbot.serial(NAME);
    assert_ne!(served(nginx.https, NAME), issued);

    // certbot puts the answer to the challenge where nobody serves it.
    let elsewhere = site.host.path("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let renewal = site.certbot.folder("config/renewal").join(format!("{NAME}.conf"));
    let text = std::fs::read_to_string(&renewal).unwrap();
    let text = text.replace(nginx.web().to_str().unwrap(), elsewhere.to_str().unwrap());
    std::fs::write(&renewal, text).unwrap();
    site.table("certbot", &["--force-renewal"], &served_by(&nginx, NAME));
    let errors = site.errors();
    assert_eq!(errors.len(), 2);
    for error in &errors {
        let begin = format!("certbot ended with code 1: Failed to renew certificate {NAME} with error: ");
        assert!(error.starts_with(&begin), "{error}");
        assert!(error.contains("; Domain: punk.localhost; "), "{error}");
        assert!(error.contains("Detail: ") && error.contains("404"), "{error}");
    }
    assert_eq!(site.certbot.serial(NAME), issued);
    assert_eq!(served(nginx.https, NAME), issued);

    pebble.stop();
    let errors = site.errors();
    assert!(errors[1].ends_with("Connection refused"), "{}", errors[1]);
    assert_eq!(errors.len(), 2);
}
