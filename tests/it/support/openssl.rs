//! Certificates made and read by openssl, so that the product's own reading is held against another.

use std::net::IpAddr;
use std::path::Path;
use std::process::Stdio;

use super::daemon::text;
use super::server::program;

/// A self-signed certificate that begins now and ends in so many days (before now, where negative): fullchain.pem,
/// cert.pem and privkey.pem in the folder, replaced where they are there.
pub(crate) fn make(folder: &Path, subject: &str, names: &[&str], days: i64) {
    std::fs::create_dir_all(folder).unwrap();
    let names: Vec<String> = names
        .iter()
        .map(|name| if name.parse::<IpAddr>().is_ok() { format!("IP:{name}") } else { format!("DNS:{name}") })
        .collect();
    let extensions = format!("subjectAltName={}\nbasicConstraints=critical,CA:FALSE\n", names.join(","));
    std::fs::write(folder.join("extensions"), extensions).unwrap();
    let run = |arguments: &str| {
        let mut openssl = program("openssl");
        openssl.args(arguments.split(' ')).current_dir(folder);
        let output = openssl.output().unwrap();
        assert!(output.status.success(), "openssl {arguments}: {}", text(&output.stderr));
    };
    run(&format!(
        "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout privkey.pem -out request.pem -subj /CN={subject}"
    ));
    run(&format!(
        "x509 -req -in request.pem -signkey privkey.pem -days {days} -extfile extensions -out cert.pem"
    ));
    std::fs::copy(folder.join("cert.pem"), folder.join("fullchain.pem")).unwrap();
    for name in ["extensions", "request.pem"] {
        std::fs::remove_file(folder.join(name)).unwrap();
    }
}

/// A certificate for 127.0.0.1 that only signs itself, with what `more` says of it beside that.
pub(crate) fn sign_itself(key: &Path, certificate: &Path, more: &[&str]) {
    let mut openssl = program("openssl");
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]);
    openssl.args(["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]).args(more);
    let output = openssl.arg("-keyout").arg(key).arg("-out").arg(certificate).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
}

pub(crate) fn serial(certificate: &Path) -> String {
    let mut openssl = program("openssl");
    let output = openssl.args(["x509", "-noout", "-serial", "-in"]).arg(certificate).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    text(&output.stdout).trim().strip_prefix("serial=").unwrap().to_owned()
}

/// The serial of what is served on this port of the loopback to those who ask for `name`.
pub(crate) fn served(port: u16, name: &str) -> String {
    let mut client = program("openssl");
    let output = client
        .args(["s_client", "-connect", &format!("127.0.0.1:{port}"), "-servername", name])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("served.pem");
    std::fs::write(&file, output.stdout).unwrap();
    serial(&file)
}
