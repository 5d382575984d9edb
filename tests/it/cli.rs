//! The command line: help, exit codes, JSON shapes, and what is said where.

mod backups;
mod edit;
mod offline;
mod with_daemon;

use std::path::{Path, PathBuf};

use assert_cmd::Command;

/// An empty folder that a test's program runs in, with nothing inherited that would change what it does.
struct Place {
    directory: tempfile::TempDir,
}

/// How the program ended.
#[derive(Debug, PartialEq, Eq)]
struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Place {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn socket(&self) -> PathBuf {
        self.path().join("control.sock")
    }

    /// A table with one job of the kind `command`, whose socket, state and logs are here.
    fn with_table(self) -> Self {
        let here = self.path().display();
        self.write(
            "jobs.yaml",
            &format!(
                "\
timezone: Africa/Casablanca
paths:
  state: {here}/state
  logs: {here}/logs
  socket: {here}/control.sock
jobs:
  hello:
    description: Says hello
    schedule: \"0 3 * * *\"
    command: {{ run: [\"/bin/true\"] }}
  quiet:
    enabled: false
    schedule: [\"@every 90s\", \"30 4 * * 0\"]
    command: {{ run: [\"/bin/true\"] }}
  by-hand:
    command: {{ run: [\"/bin/true\"] }}
"
            ),
        );
        self
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("punk-eco-sched"));
        command.current_dir(self.path()).args(arguments).env_clear();
        command.env("PATH", "/usr/bin:/bin").env("TZ", "UTC");
        command
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        self.ended(self.command(arguments))
    }

    /// What the program said, with this folder's name taken out.
    fn ended(&self, mut command: Command) -> Ended {
        let output = command.timeout(std::time::Duration::from_secs(60)).output().unwrap();
        let text = |bytes: Vec<u8>| {
            String::from_utf8(bytes).unwrap().replace(&self.path().display().to_string(), "HERE")
        };
        Ended {
            code: output.status.code().unwrap_or(-1),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

fn ended(code: i32, stdout: &str, stderr: &str) -> Ended {
    Ended { code, stdout: stdout.into(), stderr: stderr.into() }
}
