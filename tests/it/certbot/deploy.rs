//! What is served against what is on disk, with a certbot that has nothing to do.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::json;

use super::{Site, served_by};
use crate::support::daemon::wait_until;
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
    assert_eq!(row["facts"]["deployed"], json!([]));
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
    assert_eq!(row["facts"]["deployed"], json!(["blog"]));
    // Waited for, and not left to a retry.
    assert_eq!(row["attempts"].as_array().unwrap().len(), 1, "{row:#}");
    assert_eq!((served(at, SHOP), served(at, BLOG)), (shops, newest));
    assert_eq!(site.succeeds()["facts"]["deployed"], json!([]));
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
    let text = format!(
        "#!/bin/sh\necho renewing\ncp {}/*.pem {}\n",
        new.display(),
        site.certbot.live("shop").display()
    );
    script(&program, &text);
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
    let asked = || site.host.log("renew").matches("renewing\n").count();
    assert_eq!(asked(), 1);
    // More than a day later certbot may have its turn again, in both attempts.
    let record = site.host.path("state/certbot_renew-renew.json");
    let mut kept: serde_json::Value = serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
    kept["renewed_at"] = json!("2026-01-01T00:00:00Z");
    std::fs::write(&record, kept.to_string()).unwrap();
    site.errors();
    assert_eq!(asked(), 3);

    site.table("\"true\"", &[], &reload);
    let row = site.succeeds();
    assert_eq!((&row["facts"]["renewed"], &row["facts"]["deployed"]), (&json!([]), &json!(["shop"])));
    assert!(done.exists());
    std::fs::remove_file(&done).unwrap();
    site.succeeds();
    assert!(!done.exists(), "it was deployed already");

    // Who has lost the memory deploys once more rather than never.
    std::fs::write(&record, "{").unwrap();
    let row = site.succeeds();
    assert!(done.exists());
    let finding = row["findings"][0]["message"].as_str().unwrap();
    let begin = format!("{} can't be read: ", record.display());
    assert!(finding.starts_with(&begin) && finding.ends_with("so that all of it is now"), "{finding}");
    assert_eq!(site.succeeds()["findings"], json!([]));
}

/// A certbot that puts a new certificate in the place of this site's `shop`, and then does this.
fn renews(site: &Site, then: &str) -> String {
    let (program, new) = (site.host.path("renews"), site.host.path("new"));
    openssl::make(&new, SHOP, &[SHOP], 60);
    let live = site.certbot.live("shop");
    script(
        &program,
        &format!("#!/bin/sh\necho renewing\ncp {}/*.pem {}\n{then}\n", new.display(), live.display()),
    );
    program.display().to_string()
}

#[test]
fn a_certbot_that_renews_one_and_fails_with_another_is_asked_again() {
    let site = Site::new();
    site.certbot.pretend("shop", &[SHOP], 30);
    let program = renews(&site, "exit 1");
    site.table(&program, &[], "reload: { run: [\"false\"] }");
    assert_eq!(site.errors().len(), 2);
    assert_eq!(site.host.log("renew").matches("renewing\n").count(), 2);
}

#[test]
fn what_was_renewed_when_the_run_was_killed_is_deployed_by_the_next() {
    let site = Site::new();
    site.certbot.pretend("shop", &[SHOP], 30);
    let begun = site.host.path("begun");
    let program = renews(&site, &format!("touch {}; sleep 600", begun.display()));
    site.table(&program, &[], "reload: { run: [\"true\"] }");
    let mut killed = site.host.command(&["run-now", "renew"]);
    let mut killed = killed.stdout(std::process::Stdio::null()).spawn().unwrap();
    wait_until("certbot has renewed", || begun.exists());
    killed.kill().unwrap();
    killed.wait().unwrap();
    site.table("\"true\"", &[], "reload: { run: [\"true\"] }");
    wait_until("another run is possible", || site.host.cli(&["run-now", "renew"]).status.success());
    let rows = site.host.history("renew");
    let deployed: Vec<_> = rows.iter().map(|row| &row["facts"]["deployed"]).collect();
    assert!(deployed.contains(&&json!(["shop"])), "{rows:#?}");
}

#[test]
fn a_run_that_is_cancelled_deploys_nothing() {
    let site = Site::new();
    site.certbot.pretend("shop", &[SHOP], 30);
    let (begun, done) = (site.host.path("begun"), site.host.path("reloaded"));
    let program = renews(&site, &format!("touch {}; sleep 600", begun.display()));
    site.table(&program, &[], &format!("reload: {{ run: [touch, {}] }}", done.display()));
    let daemon = site.host.daemon();
    assert!(site.host.cli(&["run-now", "renew", "--detach"]).status.success());
    wait_until("certbot has renewed", || begun.exists());
    assert!(site.host.cli(&["cancel", "1"]).status.success());
    site.host.wait_for_outcome("renew", "cancelled");
    assert!(daemon.stop().success());
    assert!(!done.exists());
}

#[test]
fn a_certificate_that_has_expired_is_a_finding() {
    let site = Site::new();
    openssl::make(&site.certbot.live("shop"), SHOP, &[SHOP], -1);
    site.table("\"true\"", &[], "reload: { run: [\"true\"] }");
    let row = site.succeeds();
    let finding = row["findings"][0]["message"].as_str().unwrap();
    assert!(finding.starts_with("shop has expired on "), "{finding}");
    assert!(finding.ends_with(", and certbot did not renew it"), "{finding}");
}

#[test]
fn the_word_nginx_stands_for_its_test_and_its_reload() {
    if lacks("nginx") {
        return;
    }
    let site = Site::new();
    site.certbot.pretend("shop", &[SHOP], 30);
    let nginx = Nginx::serving(&[(SHOP, &site.certbot.live("shop"))]);
    site.certbot.pretend("shop", &[SHOP], 60);
    // This test's nginx, and no other, is the one in the PATH; on a host with systemd, so is its systemctl.
    let (programs, called) = (site.host.path("bin"), site.host.path("called"));
    std::fs::create_dir(&programs).unwrap();
    let real =
        ["/usr/sbin/nginx", "/usr/bin/nginx"].into_iter().find(|path| Path::new(path).exists()).unwrap();
    let here = format!("{real} -c {} -p {}", nginx.conf().display(), nginx.prefix().display());
    let note = format!("#!/bin/sh\necho \"${{0##*/}} $*\" >> {}\n", called.display());
    script(&programs.join("nginx"), &format!("{note}exec {here} \"$@\"\n"));
    script(
        &programs.join("systemctl"),
        &format!("{note}[ \"$1\" = reload ] && exec {here} -s reload; exit 3\n"),
    );
    site.table("\"true\"", &[], &format!("served_at: [\"127.0.0.1:{}\"]", nginx.https));
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let output = site.host.command(&["run-now", "renew"]).env("PATH", path).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(served(nginx.https, SHOP), site.certbot.serial("shop"));
    let expected = if Path::new("/run/systemd/system").is_dir() {
        "systemctl is-active certbot.timer\nnginx -t\nsystemctl reload nginx\n"
    } else {
        "nginx -t\nnginx -s reload\n"
    };
    assert_eq!(std::fs::read_to_string(called).unwrap(), expected);
}

fn script(file: &Path, text: &str) {
    std::fs::write(file, text).unwrap();
    std::fs::set_permissions(file, PermissionsExt::from_mode(0o755)).unwrap();
}
