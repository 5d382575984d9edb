//! A server of a test's own, stopped by its pid, also when the test is killed.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::daemon::wait_until;

pub(crate) struct Server(Child);

impl Server {
    /// Runs in the folder; what it says is in `log` there. Ready when it takes connections on the port.
    pub(crate) fn start(folder: &Path, argv: &[&str], env: &[(&str, &str)], port: u16) -> Self {
        let log = std::fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
        // setpriv(1) execs: the pid is the server's, which dies with the thread that started it.
        let mut command = program("setpriv");
        command.arg("--pdeathsig=TERM").args(argv).envs(env.iter().copied()).current_dir(folder);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut server = Self(command.spawn().unwrap());
        wait_until(&format!("{} takes connections", argv[0]), || {
            let ended = server.0.try_wait().unwrap();
            let said = || std::fs::read_to_string(folder.join("log")).unwrap_or_default();
            assert!(ended.is_none(), "{argv:?} ended: {}", said());
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw);
        let _ = pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::TERM));
        let _ = self.0.wait();
    }
}

/// Free now; nobody else's tests look for ports in that moment as a rule.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// With the folders of administrators in the PATH.
#[expect(clippy::disallowed_methods, reason = "a test's own server is no job's program")]
pub(crate) fn program(name: &str) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(name);
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command
}
