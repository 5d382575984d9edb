//! A real S3 server of a test's own (moto), and a network to it that can be cut.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::missing::skipped;
use super::server::{Server, free_port};

/// What opens the store; the test greps for the second.
pub(crate) const ACCESS_KEY: &str = "AKIATESTACCESSKEY";
pub(crate) const SECRET_KEY: &str = "hunter2-secret-of-the-store";
pub(crate) const BUCKET: &str = "backups";

fn installed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-s3/bin/moto_server")
}

/// Whether this machine lacks what [`S3`] is made of; then it is said.
pub(crate) fn missing() -> bool {
    !installed().is_file() && skipped("there is no target/test-s3: scripts/test makes it")
}

pub(crate) struct S3 {
    _folder: tempfile::TempDir,
    _server: Server,
    pub(crate) port: u16,
}

impl S3 {
    /// With an empty bucket.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// Whoever asks after the bucket was made needs a key that it knows, and it knows none.
    pub(crate) fn that_knows_nobody() -> Self {
        Self::start_with(&[("INITIAL_NO_AUTH_ACTION_COUNT", "1")])
    }

    fn start_with(env: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let program = installed();
        let argv = [program.to_str().unwrap(), "-H", "127.0.0.1", "-p", &port.to_string()];
        let server = Server::start(folder.path(), &argv, env, port);
        let s3 = Self { _folder: folder, _server: server, port };
        assert!(s3.ask("PUT", &format!("/{BUCKET}")).0 == 200, "no bucket was made");
        s3
    }

    /// A request as everybody may send it to this server: its status and its body.
    pub(crate) fn ask(&self, method: &str, path: &str) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let key = format!("AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/20260101/us-east-1/s3/aws4_request");
        let head = format!(
            "{method} {path} HTTP/1.0\r\nhost: 127.0.0.1\r\nauthorization: {key}, SignedHeaders=host, \
             Signature=0\r\ncontent-length: 0\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let status = String::from_utf8_lossy(&answer[9..12]).parse().unwrap();
        (status, answer[end + 4..].to_vec())
    }

    pub(crate) fn object(&self, key: &str) -> Option<Vec<u8>> {
        let (status, body) = self.ask("GET", &format!("/{BUCKET}/{key}"));
        (status == 200).then_some(body)
    }

    /// The keys in the bucket, sorted.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.elements("/backups?list-type=2", "Key")
    }

    /// The uploads that were begun and neither completed nor aborted.
    pub(crate) fn uploads(&self) -> Vec<String> {
        self.elements("/backups?uploads", "UploadId")
    }

    fn elements(&self, path: &str, name: &str) -> Vec<String> {
        let (status, body) = self.ask("GET", path);
        let text = String::from_utf8(body).unwrap();
        assert_eq!(status, 200, "{text}");
        let element = format!("<{name}>");
        let after = text.split(&element).skip(1);
        let mut found: Vec<String> = after
            .map(|rest| rest.split('<').next().unwrap().to_owned())
            .filter(|one| !one.is_empty())
            .collect();
        found.sort();
        found
    }

    /// An entry of `copy_to` for the prefix, through the port.
    pub(crate) fn entry(prefix: &str, port: u16, more: &str) -> String {
        format!(
            r#"{{"url": "s3://{BUCKET}/{prefix}", "endpoint": "http://127.0.0.1:{port}", "access_key": "{ACCESS_KEY}", "secret_key": "{SECRET_KEY}"{more}}}"#
        )
    }
}

/// A network to a server: cut after so many bytes towards it, until it is mended.
pub(crate) struct Network {
    pub(crate) port: u16,
    /// What may still pass.
    left: Arc<AtomicU64>,
    /// The same, on the way back.
    back: Arc<AtomicU64>,
    passed: Arc<AtomicU64>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Network {
    pub(crate) fn to(port: u16, bytes: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let network = Self {
            port: listener.local_addr().unwrap().port(),
            left: Arc::new(AtomicU64::new(bytes)),
            back: Arc::new(AtomicU64::new(u64::MAX)),
            passed: Arc::default(),
            open: Arc::default(),
        };
        let (left, passed, open) = (network.left.clone(), network.passed.clone(), network.open.clone());
        let back = network.back.clone();
        // Ends with the process of the test.
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                if left.load(Ordering::SeqCst) == 0 {
                    continue;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                open.lock().unwrap().extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let (left, passed, back) = (left.clone(), passed.clone(), back.clone());
                std::thread::spawn(move || carry(from, to, &left, &passed));
                std::thread::spawn(move || carry(server, client, &back, &AtomicU64::new(0)));
            }
        });
        network
    }

    pub(crate) fn mend(&self) {
        self.left.store(u64::MAX, Ordering::SeqCst);
    }

    /// After so many more bytes, nothing comes back.
    pub(crate) fn answers_with(&self, bytes: u64) {
        self.back.store(bytes, Ordering::SeqCst);
    }

    pub(crate) fn cut(&self) {
        self.left.store(0, Ordering::SeqCst);
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.left.load(Ordering::SeqCst) == 0
    }

    /// Bytes towards the server.
    pub(crate) fn passed(&self) -> u64 {
        self.passed.load(Ordering::SeqCst)
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, left: &AtomicU64, passed: &AtomicU64) {
    let _ = from.set_read_timeout(Some(Duration::from_secs(60)));
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let mut allowed = count as u64;
        let _ = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
            allowed = left.min(count as u64);
            Some(left - allowed)
        });
        passed.fetch_add(allowed, Ordering::SeqCst);
        if to.write_all(&buffer[..usize::try_from(allowed).unwrap()]).is_err() || allowed < count as u64 {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
