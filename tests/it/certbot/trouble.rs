//! certbot absent or locked out, and files that are no certificates.

use std::fs::File;

use rustix::fs::{FlockOperation, fcntl_lock};
use serde_json::Value;

use super::Site;
use crate::support::missing::lacks;

#[test]
fn the_lock_of_another_certbot_is_said_and_tried_again() {
    if lacks("certbot") {
        return;
    }
    let site = Site::new();
    site.table("certbot", &[], "");
    let text = std::fs::read_to_string(site.host.config()).unwrap();
    let text = text.replace("attempts: 2, backoff: 10ms", "attempts: 100, backoff: 10ms, max_backoff: 10ms");
    std::fs::write(site.host.config(), text).unwrap();
    // As certbot takes it.
    let lock = File::create(site.certbot.folder("config").join(".certbot.lock")).unwrap();
    fcntl_lock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
    let daemon = site.host.daemon();
    assert!(site.host.cli(&["run-now", "renew", "--detach"]).status.success());
    let ended = |row: &Value| row["attempts"].as_array().is_some_and(|all| all[0]["outcome"] != "running");
    site.host.wait_for("renew", "its first attempt ended", ended);
    drop(lock);
    let row = site.host.wait_for_outcome("renew", "succeeded");
    let error = row["attempts"][0]["error"].as_str().unwrap();
    assert_eq!(
        error,
        "another certbot is at work (\"Another instance of Certbot is already running.\"); is a certbot.timer or a \
         person renewing too?"
    );
    let config = site.certbot.folder("config").display().to_string();
    assert_eq!(
        row["findings"][0]["message"],
        format!(
            "there is no certificate under {config}: the first one is asked for by hand (certbot certonly)"
        )
    );
    assert!(daemon.stop().success());
}

#[test]
fn a_missing_certbot_is_no_reason_to_try_again() {
    let site = Site::new();
    site.table("/no/such/certbot", &[], "");
    assert_eq!(
        site.errors(),
        [
            "certbot can't be run: /no/such/certbot: no such file; install the package certbot, or say where it is \
          (certbot:)"
        ]
    );
    let checked = site.host.cli(&["check"]);
    assert!(!checked.status.success());
    let said = crate::support::daemon::text(&[checked.stdout, checked.stderr].concat());
    assert!(said.contains("/no/such/certbot: no such file"), "{said}");
}

#[test]
fn a_file_that_is_no_certificate_is_named() {
    let site = Site::new();
    site.certbot.pretend("punk.localhost", &["punk.localhost"], 30);
    site.table("\"true\"", &[], "reload: { run: [\"true\"] }");
    let check = |file: &str, content: &[u8], expected: &str| {
        let file = site.certbot.live("punk.localhost").join(file);
        let good = std::fs::read(&file).unwrap();
        std::fs::write(&file, content).unwrap();
        assert_eq!(site.errors(), [format!("{} {expected}", file.display())]);
        std::fs::write(&file, good).unwrap();
    };
    let key = std::fs::read(site.certbot.live("punk.localhost").join("privkey.pem")).unwrap();
    check("fullchain.pem", b"hello", "is not a certificate, neither as PEM nor as DER");
    check("cert.pem", b"", "is empty");
    check("fullchain.pem", &key, "holds a private key and no certificate");
    let whole = std::fs::read(site.certbot.live("punk.localhost").join("cert.pem")).unwrap();
    let mut broken = whole.clone();
    broken.truncate(whole.len() / 2);
    check("cert.pem", &broken, "is not a certificate: its PEM is damaged: incomplete PEM");
    site.succeeds();

    std::fs::remove_file(site.certbot.live("punk.localhost").join("cert.pem")).unwrap();
    let file = site.certbot.live("punk.localhost").join("cert.pem");
    assert_eq!(site.errors(), [format!("{} doesn't exist", file.display())]);
}
