//! A real PostgreSQL of this test's own: a temporary folder, a free port of the loopback, stopped by its pid.

use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use punk_eco_sched::host::postgres::{Connection, Tls};
use punk_eco_sched::host::secret::SecretText;

use super::openssl::sign_itself;

/// The superuser of every test server, and its password where one is asked for.
pub(crate) const USER: &str = "postgres";
pub(crate) const PASSWORD: &str = "s3cret of the test";

pub(crate) struct Postgres {
    folder: tempfile::TempDir,
    server: Child,
    pub(crate) port: u16,
}

impl Postgres {
    /// Lets everybody in.
    pub(crate) fn start() -> Self {
        Self::start_with("trust")
    }

    /// `method` of pg_hba.conf: `trust`, `scram-sha-256`.
    pub(crate) fn start_with(method: &str) -> Self {
        Self::start_as(&std::env::temp_dir(), method, None)
    }

    /// With its data on the file system of this folder.
    pub(crate) fn start_in(folder: &Path) -> Self {
        Self::start_as(folder, "trust", None)
    }

    /// With a certificate that it signed itself. `record` begins the line of pg_hba.conf that lets the loopback in:
    /// `hostssl` (with TLS alone) or `hostnossl` (without it alone).
    pub(crate) fn start_with_tls(record: &str) -> Self {
        Self::start_as(&std::env::temp_dir(), "trust", Some(record))
    }

    fn start_as(place: &Path, method: &str, tls: Option<&str>) -> Self {
        let folder = tempfile::Builder::new().prefix("pg").tempdir_in(place).unwrap();
        let data = folder.path().join("data");
        if let Some((uid, gid)) = account() {
            chown(folder.path(), Some(uid), Some(gid)).unwrap();
        }
        let password = folder.path().join("password");
        std::fs::write(&password, PASSWORD).unwrap();
        std::fs::set_permissions(&password, std::fs::Permissions::from_mode(0o644)).unwrap();
        let mut initdb = as_server("initdb");
        initdb.args(["--no-sync", "--no-instructions", "--encoding=UTF8", "--locale=C.UTF-8"]);
        initdb.args(["--username", USER, "--auth", method, "--pwfile"]).arg(&password).arg(&data);
        done(initdb.output().unwrap());

        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut postgres = as_server("postgres");
        postgres.arg("-D").arg(&data).arg("-k").arg(folder.path()).args(["-p", &port.to_string()]);
        postgres.args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "full_page_writes=off"]);
        postgres.args(["-c", "synchronous_commit=off", "-c", "autovacuum=off", "-c", "max_wal_size=4GB"]);
        if let Some(record) = tls {
            certify(&data);
            let rules = format!("local all all trust\n{record} all all 127.0.0.1/32 trust\n");
            std::fs::write(data.join("pg_hba.conf"), rules).unwrap();
            postgres.args(["-c", "ssl=on"]);
        }
        postgres.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let server = postgres.spawn().unwrap();
        let mut started = Self { folder, server, port };
        started.wait_until_ready();
        started
    }

    /// As pg_ctl does: the eighth line of postmaster.pid says when connections are taken.
    fn wait_until_ready(&mut self) {
        let file = self.folder.path().join("data/postmaster.pid");
        let start = Instant::now();
        loop {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            if text.lines().nth(7).is_some_and(|line| line.trim() == "ready") {
                return;
            }
            let log = || std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(self.server.try_wait().unwrap().is_none(), "PostgreSQL ended: {}", log());
            assert!(start.elapsed() < Duration::from_secs(60), "PostgreSQL doesn't start: {}", log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn connection(&self, database: &str) -> Connection {
        Connection {
            host: "127.0.0.1".into(),
            port: self.port,
            database: database.into(),
            user: USER.into(),
            password: Some(SecretText::parse(PASSWORD).unwrap()),
            container: None,
            tls: Tls::Prefer,
        }
    }

    pub(crate) fn socket_directory(&self) -> &Path {
        self.folder.path()
    }

    /// One of PostgreSQL's programs, connected to this database.
    pub(crate) fn program(&self, name: &str, database: &str) -> Command {
        let mut command = command(&bin().join(name));
        command.env("PGHOST", self.folder.path()).env("PGPORT", self.port.to_string());
        command.env("PGUSER", USER).env("PGPASSWORD", PASSWORD).env("PGDATABASE", database);
        command
    }

    pub(crate) fn sql(&self, database: &str, sql: &str) -> String {
        ask(self.program("psql", database), sql)
    }

    /// The whole plain dump, without the tokens that differ each time.
    pub(crate) fn dump(&self, database: &str) -> String {
        let text = String::from_utf8(done(self.program("pg_dump", database).output().unwrap())).unwrap();
        let token = |line: &&str| !line.starts_with("\\restrict ") && !line.starts_with("\\unrestrict ");
        text.lines().filter(token).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Immediate shutdown: nothing here is worth a checkpoint.
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.server.id()).unwrap()).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::QUIT);
        let _ = self.server.wait();
    }
}

/// Puts the files that `ssl = on` looks for in the data directory: valid for 127.0.0.1, signed by nobody else.
fn certify(data: &Path) {
    let (certificate, key) = (data.join("server.crt"), data.join("server.key"));
    sign_itself(&key, &certificate, &[]);
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    if let Some((uid, gid)) = account() {
        chown(&key, Some(uid), Some(gid)).unwrap();
    }
}

/// Runs SQL through psql, stopping at the first error; what it prints.
pub(crate) fn ask(mut psql: Command, sql: &str) -> String {
    psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]);
    feed(psql, sql.as_bytes()).trim_end().to_owned()
}

/// Gives a program its whole input and takes its output; it must end well.
pub(crate) fn feed(mut command: Command, input: &[u8]) -> String {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || {
            let _ = stdin.write_all(input);
        });
        child.wait_with_output().unwrap()
    });
    String::from_utf8(done(output)).unwrap()
}

pub(crate) fn done(output: Output) -> Vec<u8> {
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The newest installed version's programs.
pub(crate) fn bin() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .expect("PostgreSQL is installed: apt-get install postgresql");
    let newest = versions.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok()).max();
    PathBuf::from(format!("/usr/lib/postgresql/{}/bin", newest.expect("a version of PostgreSQL")))
}

/// PostgreSQL refuses to run as root: then it runs as its own user.
pub(crate) fn account() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let user = nix::unistd::User::from_name(USER).unwrap().expect("the user postgres");
    Some((user.uid.as_raw(), user.gid.as_raw()))
}

/// setpriv(1) execs, so that the pid is the server's, which dies with the thread that started it even when the
/// test is killed.
fn as_server(name: &str) -> Command {
    let mut command = command(Path::new("/usr/bin/setpriv"));
    command.arg("--pdeathsig=QUIT");
    if let Some((uid, gid)) = account() {
        command.arg(format!("--reuid={uid}")).arg(format!("--regid={gid}")).arg("--clear-groups");
    }
    command.arg(bin().join(name)).current_dir("/");
    command
}

#[expect(clippy::disallowed_methods, reason = "a test's own server is no job's program")]
fn command(program: &Path) -> Command {
    Command::new(program)
}
