//! A real ACME server (pebble), and a real certbot with all its folders in one of the test's.

use std::path::{Path, PathBuf};

use super::openssl;
use super::server::{Server, free_port, program};

/// Who answers challenges.
pub(crate) enum Challenges {
    /// Nobody is asked.
    Passed,
    /// The HTTP server on this port of the loopback, whatever the name.
    AnsweredOn(u16),
}

pub(crate) struct Pebble {
    folder: tempfile::TempDir,
    port: u16,
    /// The resolver that knows every name as the loopback's.
    _names: Option<Server>,
    server: Option<Server>,
}

impl Pebble {
    pub(crate) fn start(challenges: &Challenges) -> Self {
        let folder = tempfile::Builder::new().prefix("pebble").tempdir().unwrap();
        openssl::make(folder.path(), "localhost", &["localhost", "127.0.0.1"], 30);
        let (port, management) = (free_port(), free_port());
        let http = if let Challenges::AnsweredOn(port) = challenges { *port } else { 80 };
        let config = serde_json::json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{port}"), "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": folder.path().join("cert.pem"), "privateKey": folder.path().join("privkey.pem"),
            "httpPort": http, "tlsPort": 443,
        } });
        let file = folder.path().join("pebble.json");
        std::fs::write(&file, config.to_string()).unwrap();
        let mut argv = vec!["pebble".to_owned(), "-config".into(), file.display().to_string()];
        // Each challenge is put anew.
        let mut env =
            vec![("PEBBLE_VA_NOSLEEP", "1"), ("PEBBLE_WFE_NONCEREJECT", "0"), ("PEBBLE_AUTHZREUSE", "0")];
        let names = match challenges {
            Challenges::Passed => {
                env.push(("PEBBLE_VA_ALWAYS_VALID", "1"));
                None
            }
            Challenges::AnsweredOn(_) => {
                let (names, address) = names(folder.path());
                argv.extend(["-dnsserver".into(), address]);
                Some(names)
            }
        };
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        let server = Server::start(folder.path(), &argv, &env, port);
        Self { port, _names: names, server: Some(server), folder }
    }

    pub(crate) fn stop(&mut self) {
        self.server = None;
    }

    /// What REQUESTS_CA_BUNDLE must say.
    pub(crate) fn authority(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    /// Has certbot ask for the first certificate of a name, its challenges answered from the folder `web`.
    pub(crate) fn issue(&self, certbot: &Certbot, name: &str, web: &Path) {
        let server = format!("https://localhost:{}/dir", self.port);
        let mut command = program("certbot");
        command.args(["certonly", "--webroot", "-w"]).arg(web).args(["-d", name, "--server", &server]);
        command.args(["--register-unsafely-without-email", "--agree-tos", "-n"]).args(certbot.args());
        let output = command.env("REQUESTS_CA_BUNDLE", self.authority()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

fn names(folder: &Path) -> (Server, String) {
    let (port, management) = (free_port(), free_port());
    let (dns, control) = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{management}"));
    let argv = [
        "pebble-challtestsrv",
        "-dns01",
        &dns,
        "-management",
        &control,
        "-http01",
        "",
        "-https01",
        "",
        "-tlsalpn01",
        "",
        "-defaultIPv4",
        "127.0.0.1",
        "-defaultIPv6",
        "",
    ];
    (Server::start(folder, &argv, &[], port), dns)
}

/// certbot's folders.
pub(crate) struct Certbot {
    folder: PathBuf,
}

impl Certbot {
    pub(crate) fn new(folder: PathBuf) -> Self {
        std::fs::create_dir_all(folder.join("config/live")).unwrap();
        Self { folder }
    }

    pub(crate) fn args(&self) -> Vec<String> {
        let dir = |name: &str| format!("--{name}-dir={}", self.folder.join(name).display());
        ["config", "work", "logs"].map(dir).to_vec()
    }

    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn live(&self, name: &str) -> PathBuf {
        self.folder.join("config/live").join(name)
    }

    /// A certificate as if certbot had made it.
    pub(crate) fn pretend(&self, name: &str, names: &[&str], days: u32) {
        openssl::make(&self.live(name), names[0], names, i64::from(days));
    }

    /// Of the newest one on disk.
    pub(crate) fn serial(&self, name: &str) -> String {
        openssl::serial(&self.live(name).join("fullchain.pem"))
    }
}
