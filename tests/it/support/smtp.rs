//! A real mail server of this test's own: Python's aiosmtpd on a free port of the loopback, stopped by its pid.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::daemon::wait_until;
use super::missing::skipped;
use super::openssl::sign_itself;

/// What the test says of its server, as JSON: `refuse` (reply by recipient), `data` (reply to each mail), `login` (user and password), `tls`
/// (`starttls` or `tls`), `silent` (takes connections and never says a word).
const SERVER: &str = r#"
import asyncio, email, email.policy, json, ssl, sys
from aiosmtpd.smtp import SMTP, AuthResult

port, folder, wish = int(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])

class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address in wish["refuse"]:
            return wish["refuse"][address]
        envelope.rcpt_tos.append(address)
        return "250 taken"

    async def handle_DATA(self, server, session, envelope):
        if wish["data"]:
            return wish["data"]
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        headers = {name: str(value) for name, value in mail.items()}
        with open(folder + "/mails", "a") as mails:
            mails.write(json.dumps({
                "from": envelope.mail_from, "to": envelope.rcpt_tos, "headers": headers,
                "text": mail.get_content().replace("\r\n", "\n"), "raw": envelope.content.decode("ascii"),
                "tls": session.ssl is not None, "login": session.authenticated,
            }) + "\n")
        return "250 kept"

def authenticate(server, session, envelope, mechanism, data):
    fine = [data.login.decode(), data.password.decode()] == wish["login"]
    return AuthResult(success=fine, handled=False)

def context():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder + "/certificate.pem", folder + "/key.pem")
    return context

class Silent(asyncio.Protocol):
    pass

def make():
    if wish["silent"]:
        return Silent()
    login = wish["login"] is not None
    return SMTP(Handler(), hostname="mail.test", loop=loop,
        tls_context=context() if wish["tls"] == "starttls" else None, require_starttls=wish["tls"] == "starttls",
        authenticator=authenticate if login else None, auth_required=login, auth_require_tls=not login)

loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
loop.run_until_complete(loop.create_server(make, "127.0.0.1", port, ssl=context() if wish["tls"] == "tls" else None))
open(folder + "/ready", "w").close()
loop.run_forever()
"#;

/// Whether this machine lacks what [`Smtp`] is made of; then it is said.
pub(crate) fn missing() -> bool {
    let here = Path::new("/usr/lib/python3/dist-packages/aiosmtpd").is_dir();
    !here && skipped("python3-aiosmtpd is not installed")
}

pub(crate) struct Smtp {
    folder: tempfile::TempDir,
    server: Option<Child>,
    pub(crate) port: u16,
    wish: Value,
}

impl Smtp {
    /// Takes every mail.
    pub(crate) fn start() -> Self {
        Self::start_with(json!({}))
    }

    pub(crate) fn start_with(wish: Value) -> Self {
        let mut smtp = Self::stopped(wish);
        smtp.resume();
        smtp
    }

    /// A port at which nobody answers yet.
    pub(crate) fn stopped(wish: Value) -> Self {
        let folder = tempfile::Builder::new().prefix("smtp").tempdir().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut all = json!({ "refuse": {}, "data": null, "login": null, "tls": null, "silent": false });
        all.as_object_mut().unwrap().extend(wish.as_object().unwrap().clone());
        if !all["tls"].is_null() {
            let (key, certificate) = (folder.path().join("key.pem"), folder.path().join("certificate.pem"));
            sign_itself(&key, &certificate, &["-addext", "basicConstraints=critical,CA:FALSE"]);
        }
        Self { folder, server: None, port, wish: all }
    }

    pub(crate) fn resume(&mut self) {
        let ready = self.folder.path().join("ready");
        let _ = std::fs::remove_file(&ready);
        let log = std::fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut python = command("/usr/bin/setpriv");
        python.args(["--pdeathsig=KILL", "/usr/bin/python3", "-c", SERVER, &self.port.to_string()]);
        python.arg(self.folder.path()).arg(self.wish.to_string());
        python.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.server = Some(python.spawn().unwrap());
        let server = self.server.as_mut().unwrap();
        wait_until("the mail server listens", || {
            assert!(
                server.try_wait().unwrap().is_none(),
                "the mail server ended: {}",
                log_of(self.folder.path())
            );
            ready.exists()
        });
    }

    pub(crate) fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    /// What stands under `alerts: { smtp: { … } }`, but for the login.
    pub(crate) fn section(&self) -> String {
        let tls = self.wish["tls"].as_str().unwrap_or("none");
        format!("host: 127.0.0.1, port: {}, from: sched@web.test, tls: {tls}", self.port)
    }

    /// Who trusts this trusts the server.
    pub(crate) fn certificate(&self) -> std::path::PathBuf {
        self.path("certificate.pem")
    }

    pub(crate) fn mails(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path("mails")).unwrap_or_default();
        // One that is being written has no end of line yet.
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        whole.map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// `recipient: subject` of each mail, in the order in which they came.
    pub(crate) fn subjects(&self) -> Vec<String> {
        let line = |mail: Value| {
            let to = mail["to"][0].as_str().unwrap().to_owned();
            format!("{to}: {}", mail["headers"]["Subject"].as_str().unwrap())
        };
        self.mails().into_iter().map(line).collect()
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Smtp {
    fn drop(&mut self) {
        self.stop();
    }
}

fn log_of(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("log")).unwrap_or_default()
}

#[expect(clippy::disallowed_methods, reason = "a test's own server is no job's program")]
fn command(program: &str) -> Command {
    Command::new(program)
}
