//! Web servers of a test's own: ones that misbehave on purpose, and real ones that are stopped by their pid.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::daemon::wait_until;

/// A port of the loopback that nobody listens on.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Takes connections and does with each what the test says, in a thread of its own.
pub(crate) struct Server {
    pub(crate) port: u16,
    pub(crate) taken: Arc<AtomicUsize>,
    stopped: Arc<AtomicBool>,
}

impl Server {
    pub(crate) fn start(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (taken, stopped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let serve = Arc::new(serve);
        let (count, stop) = (taken.clone(), stopped.clone());
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                count.fetch_add(1, Ordering::SeqCst);
                let serve = serve.clone();
                let thread = std::thread::Builder::new().stack_size(128 * 1024);
                thread.spawn(move || serve(connection)).unwrap();
            }
        });
        Self { port, taken, stopped }
    }

    /// Reads each request and answers it, whatever it asks.
    pub(crate) fn answering(answer: &'static str) -> Self {
        Self::start(move |mut connection| {
            request(&mut connection);
            let _ = connection.write_all(answer.as_bytes());
        })
    }

    /// Takes connections and never says a word.
    pub(crate) fn silent() -> Self {
        Self::start(|mut connection| until_closed(&mut connection))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// An address from which nothing ever comes back.
pub(crate) struct Dead {
    pub(crate) port: u16,
    _full: TcpListener,
    _waiting: TcpStream,
}

impl Dead {
    pub(crate) fn new() -> Self {
        use rustix::net::{AddressFamily, SocketType};
        let listener = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        let any = std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 0);
        rustix::net::bind(&listener, &any).unwrap();
        // A queue of one, which is full: the kernel answers no further connection.
        rustix::net::listen(&listener, 0).unwrap();
        let full = TcpListener::from(listener);
        let address = full.local_addr().unwrap();
        Self { port: address.port(), _full: full, _waiting: TcpStream::connect(address).unwrap() }
    }
}

/// The head of a request; empty where the other side says nothing more.
pub(crate) fn request(connection: &mut TcpStream) -> String {
    let mut head = vec![];
    let mut piece = [0; 1024];
    while !head.ends_with(b"\r\n\r\n") {
        match connection.read(&mut piece) {
            Ok(0) | Err(_) => break,
            Ok(bytes) => head.extend_from_slice(&piece[..bytes]),
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

pub(crate) fn until_closed(connection: &mut TcpStream) {
    let mut piece = [0; 1024];
    while connection.read(&mut piece).is_ok_and(|bytes| bytes > 0) {}
}

/// A real server: a program that listens on `port`, ended with the test.
pub(crate) struct Program {
    child: Child,
    pub(crate) port: u16,
}

impl Program {
    pub(crate) fn start(port: u16, words: &[&str]) -> Self {
        // setpriv(1) execs: the pid is the server's, which dies with the test even where that is killed.
        let mut program = command("/usr/bin/setpriv");
        program.arg("--pdeathsig=KILL").args(words);
        program.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = program.spawn().unwrap();
        wait_until(&format!("{} listens on {port}", words[0]), || {
            assert!(child.try_wait().unwrap().is_none(), "{words:?} ended");
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Self { child, port }
    }

    /// nginx with what stands in its `server` block, plain or with `ssl` behind the port of `listen`.
    pub(crate) fn nginx(folder: &Path, tls: &str, server: &str) -> Self {
        let port = free_port();
        let config = folder.join("nginx.conf");
        let text = format!(
            "daemon off; master_process off; pid {0}/nginx.pid; error_log {0}/error.log;\n\
             events {{ worker_connections 4096; }}\n\
             http {{ access_log off; client_body_temp_path {0}/b; proxy_temp_path {0}/p; fastcgi_temp_path {0}/f;\n\
             uwsgi_temp_path {0}/u; scgi_temp_path {0}/s;\n\
             server {{ listen 127.0.0.1:{port} {tls}; {server} }} }}\n",
            folder.display()
        );
        std::fs::write(&config, text).unwrap();
        let (folder, config) = (folder.to_str().unwrap(), config.to_str().unwrap());
        Self::start(port, &["nginx", "-p", folder, "-e", "error.log", "-c", config])
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A certificate authority of the test's own, and what it signs.
pub(crate) struct Authority(tempfile::TempDir);

impl Authority {
    pub(crate) fn new() -> Self {
        let authority = Self(tempfile::tempdir().unwrap());
        let words = ["-subj", "/CN=the test's authority", "-days", "30"];
        authority
            .openssl(&[&NEW_KEY[..], &["-x509", "-keyout", "ca.key", "-out", "ca.pem"], &words].concat());
        authority
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// `NAME.pem` and `NAME.key`, for the names in the form of OpenSSL (`DNS:localhost`), valid for 30 days.
    pub(crate) fn sign(&self, name: &str, names: &str) {
        self.sign_with(&["/usr/bin/openssl"], name, names);
    }

    /// As [`Self::sign`], 40 days ago.
    pub(crate) fn sign_expired(&self, name: &str, names: &str) {
        self.sign_with(&["/usr/bin/faketime", "-f", "-40d", "/usr/bin/openssl"], name, names);
    }

    fn sign_with(&self, openssl: &[&str], name: &str, names: &str) {
        let (key, asked, signed) = (format!("{name}.key"), format!("{name}.csr"), format!("{name}.pem"));
        self.openssl(&[&NEW_KEY[..], &["-subj", "/CN=web", "-keyout", &key, "-out", &asked]].concat());
        std::fs::write(self.path("extensions"), format!("subjectAltName={names}\n")).unwrap();
        let by = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "extensions"];
        let words = ["x509", "-req", "-in", &asked, "-out", &signed, "-days", "30"];
        self.run(&[openssl, &words, &by].concat());
    }

    /// When `NAME.pem` ends, in RFC 3339.
    pub(crate) fn expiry(&self, name: &str) -> String {
        let file = format!("{name}.pem");
        let words = ["x509", "-noout", "-enddate", "-dateopt", "iso_8601", "-in", &file];
        let output = command("/usr/bin/openssl").args(words).current_dir(self.0.path()).output().unwrap();
        done(&output);
        String::from_utf8(output.stdout).unwrap().trim().replace("notAfter=", "").replace(' ', "T")
    }

    fn openssl(&self, words: &[&str]) {
        self.run(&[&["/usr/bin/openssl"], words].concat());
    }

    fn run(&self, words: &[&str]) {
        done(&command(words[0]).args(&words[1..]).current_dir(self.0.path()).output().unwrap());
    }
}

const NEW_KEY: [&str; 6] = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];

fn done(output: &Output) {
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
}

#[expect(clippy::disallowed_methods, reason = "a test's own server is no job's program")]
fn command(program: &str) -> Command {
    Command::new(program)
}
