//! Docker Engine as the tests use it: the one of `DOCKER_HOST` or of this host, started by scripts/test where there is
//! none. Containers are made of the host's own programs (docs of the design: no registry is reachable), carry a label,
//! and are removed by their guards.

use std::cell::RefCell;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use punk_eco_sched::host::postgres::{Connection, Container, Tls};
use punk_eco_sched::host::secret::SecretText;

use super::daemon::{text, wait_until};
use super::missing::{lacks, skipped};
use super::postgres::{PASSWORD, USER, account, ask, bin, done};

/// On every container that a test makes.
pub(crate) const LABEL: &str = "punk-eco-sched.test";

/// Empty folders, to which the host's /usr and /etc are bound.
pub(crate) const IMAGE: &str = "punk-eco-sched-test:1";
const FOLDERS: &[&str] = &["usr", "etc", "tmp", "run", "data", "proc", "sys", "dev", "var", "root", "script"];

/// Whether no engine answers; then the test is to be left.
pub(crate) fn no_engine() -> bool {
    static ANSWERS: OnceLock<bool> = OnceLock::new();
    if lacks("docker") || lacks("dockerd") {
        return true;
    }
    let answers =
        ANSWERS.get_or_init(|| docker(&["info"]).output().is_ok_and(|output| output.status.success()));
    if !answers {
        return skipped("no Docker Engine answers: scripts/test starts one, or set DOCKER_HOST");
    }
    make_image();
    false
}

pub(crate) fn docker(arguments: &[&str]) -> Command {
    let mut command = command("docker");
    command.args(arguments).stdin(Stdio::null());
    command
}

thread_local! {
    /// The engine of this thread's commands, where it isn't the usual one.
    pub(crate) static USED: RefCell<Option<String>> = const { RefCell::new(None) };
}

#[expect(clippy::disallowed_methods, reason = "a test's own container is no job's program")]
pub(crate) fn command(name: &str) -> Command {
    let mut command = Command::new(name);
    if let Some(url) = USED.with_borrow(Clone::clone) {
        command.env("DOCKER_HOST", url);
    }
    command
}

/// Runs `docker` with these arguments, which must succeed; what it prints.
pub(crate) fn docker_says(arguments: &[&str]) -> String {
    text(&done(docker(arguments).output().unwrap())).trim_end().to_owned()
}

/// Many test processes may want it at once: one makes it.
pub(crate) fn make_image() {
    let lock = std::fs::File::create(std::env::temp_dir().join("punk-eco-sched-test-image.lock")).unwrap();
    lock.lock().unwrap();
    if docker(&["image", "inspect", IMAGE]).output().unwrap().status.success() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for name in FOLDERS {
        let made = folder.path().join(name);
        std::fs::create_dir(&made).unwrap();
        // Docker gives a tmpfs the mode that the image's folder has.
        std::fs::set_permissions(&made, std::fs::Permissions::from_mode(0o1777)).unwrap();
    }
    for name in ["bin", "sbin", "lib", "lib64"] {
        std::os::unix::fs::symlink(format!("usr/{name}"), folder.path().join(name)).unwrap();
    }
    std::os::unix::fs::symlink("/run", folder.path().join("var/run")).unwrap();
    let mut tar = command("tar");
    let mut tar = tar.arg("-C").arg(folder.path()).args(["-c", "."]).stdout(Stdio::piped()).spawn().unwrap();
    let mut import = command("docker");
    import.args(["import", "-", IMAGE]).stdin(tar.stdout.take().unwrap());
    done(import.output().unwrap());
    assert!(tar.wait().unwrap().success());
}

/// A container that is removed with its guard, whatever became of it.
pub(crate) struct Box {
    pub(crate) name: String,
    pub(crate) folder: tempfile::TempDir,
}

impl Box {
    /// The host's own programs in a container of their own; `/data` is a folder that outlives its restarts. `options`
    /// come before the image.
    pub(crate) fn run(options: &[&str], script: &str) -> Self {
        let made = Self::new();
        made.start(&[&["--network", "none"], options].concat(), script);
        made
    }

    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("box").tempdir().unwrap();
        std::fs::create_dir(folder.path().join("data")).unwrap();
        let (uid, gid) = ids();
        std::os::unix::fs::chown(folder.path().join("data"), Some(uid), Some(gid)).unwrap();
        let id = folder.path().file_name().unwrap().to_str().unwrap().trim_start_matches('.').to_lowercase();
        Self { name: format!("pes-{id}"), folder }
    }

    pub(crate) fn start(&self, options: &[&str], script: &str) {
        let (uid, gid) = ids();
        let label = format!("{LABEL}={}", std::process::id());
        let (user, data) = (format!("{uid}:{gid}"), format!("{}:/data", self.data().display()));
        let mut all = vec!["run", "-d", "--name", &self.name, "--label", &label, "-u", &user, "-v", &data];
        all.extend(["-v", "/usr:/usr:ro", "-v", "/etc:/etc:ro", "--tmpfs", "/tmp"]);
        all.extend(["--tmpfs", "/run", "--stop-timeout", "1"]);
        all.extend(options);
        all.extend([IMAGE, "/bin/sh", "-c", script]);
        docker_says(&all);
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) fn state(&self) -> String {
        docker_says(&["inspect", "-f", "{{.State.Status}}", &self.name])
    }

    pub(crate) fn address(&self) -> String {
        docker_says(&[
            "inspect",
            "-f",
            "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}",
            &self.name,
        ])
    }
}

impl Drop for Box {
    fn drop(&mut self) {
        let _ = docker(&["rm", "-f", "-v", &self.name]).output();
    }
}

fn ids() -> (u32, u32) {
    account().unwrap_or((nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()))
}

/// PostgreSQL in a container. Without a network it can be reached there alone, through its socket.
pub(crate) struct Inside {
    pub(crate) container: Box,
}

/// Makes a cluster in /data, where there is none, and becomes its server.
pub(crate) fn server_script(listen: &str) -> String {
    format!(
        "set -e; mkdir -p /run/postgresql; umask 077; if ! [ -e /data/done ]; then printf %s '{PASSWORD}' >/tmp/pw; \
         initdb --no-sync --no-instructions -E UTF8 --locale=C.UTF-8 -U {USER} -A scram-sha-256 --pwfile=/tmp/pw \
         /data/db >/data/initdb.log 2>&1; echo 'host all all all scram-sha-256' >>/data/db/pg_hba.conf; touch \
         /data/done; fi; exec postgres -D /data/db -k /run/postgresql -c listen_addresses='{listen}' -c fsync=off \
         -c full_page_writes=off -c synchronous_commit=off -c autovacuum=off -c max_wal_size=4GB -c log_connections=on \
         >>/data/log 2>&1"
    )
}

/// PostgreSQL's own programs come first, as in its official image.
pub(crate) fn path_variable() -> String {
    format!("PATH={}:/usr/bin:/bin", bin().display())
}

impl Inside {
    pub(crate) fn start() -> Self {
        Self::start_with(&["--network", "none"], "")
    }

    /// Also answers at the container's address.
    pub(crate) fn start_with_address() -> Self {
        Self::start_with(&[], "*")
    }

    fn start_with(options: &[&str], listen: &str) -> Self {
        let container = Box::new();
        let path = path_variable();
        container.start(&[&["-e", &path], options].concat(), &server_script(listen));
        let inside = Self { container };
        inside.wait_until_ready();
        inside
    }

    pub(crate) fn wait_until_ready(&self) {
        wait_until("PostgreSQL in the container takes connections", || {
            let state = self.container.state();
            let log = || std::fs::read_to_string(self.container.data().join("log")).unwrap_or_default();
            assert_eq!(state, "running", "{}", log());
            docker(&["exec", &self.container.name, "pg_isready", "-q"]).status().unwrap().success()
        });
    }

    pub(crate) fn connection(&self, database: &str) -> Connection {
        Self::connection_in(&self.container.name, database)
    }

    /// To the server of any container that was made by [`server_script`].
    pub(crate) fn connection_in(container: &str, database: &str) -> Connection {
        Connection {
            host: String::new(),
            port: 5432,
            database: database.into(),
            user: USER.into(),
            password: Some(SecretText::parse(PASSWORD).unwrap()),
            container: Some(Container::Name(container.to_owned())),
            tls: Tls::Prefer,
        }
    }

    /// One of PostgreSQL's programs inside, connected to this database.
    pub(crate) fn program(&self, name: &str, database: &str) -> Command {
        let mut command = command("docker");
        command.args(["exec", "-i", "-e", "PGPASSWORD", "-e", "PGUSER", "-e", "PGDATABASE"]);
        command.args([&self.container.name, name]);
        command.env("PGUSER", USER).env("PGPASSWORD", PASSWORD).env("PGDATABASE", database);
        command
    }

    pub(crate) fn sql(&self, database: &str, sql: &str) -> String {
        ask(self.program("psql", database), sql)
    }
}

/// The processes of the container whose name is this, by their numbers on this host.
pub(crate) fn processes_in(container: &str, name: &str) -> Vec<i32> {
    let listed = docker(&["top", container, "-eo", "pid,comm"]).output().unwrap();
    let lines = text(&listed.stdout);
    let found = lines.lines().skip(1).filter_map(|line| {
        let (pid, command) = line.trim().split_once(' ')?;
        (command.trim() == name).then(|| pid.parse().unwrap())
    });
    found.collect()
}

/// A folder for a Compose project of its own; taken down with its guard.
pub(crate) struct Project {
    pub(crate) name: String,
    folder: tempfile::TempDir,
}

impl Project {
    /// `services` is what stands under `services:`, indented by two spaces.
    pub(crate) fn up(services: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("compose").tempdir().unwrap();
        let name = folder.path().file_name().unwrap().to_str().unwrap().to_lowercase();
        std::fs::write(
            folder.path().join("docker-compose.yml"),
            format!("version: \"3.7\"\nservices:\n{services}"),
        )
        .unwrap();
        let project = Self { name, folder };
        project.compose(&["up", "-d"]);
        project
    }

    pub(crate) fn compose(&self, arguments: &[&str]) -> String {
        let mut compose = command("docker-compose");
        compose.current_dir(self.folder.path()).args(["-p", &self.name]).args(arguments);
        text(&done(compose.stdin(Stdio::null()).output().unwrap()))
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        let mut compose = command("docker-compose");
        compose.current_dir(self.folder.path()).args(["-p", &self.name, "down", "-v", "-t", "0"]);
        let _ = compose.stdin(Stdio::null()).output();
    }
}
