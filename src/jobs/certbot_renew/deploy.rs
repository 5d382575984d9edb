//! Making the server read its certificates again: its configuration tested first, its own words where it refuses.

use std::path::Path;
use std::time::Duration;

use super::certbot::{ending, find, run};
use super::options::{Commands, Server};
use crate::document::WordOr;
use crate::host::process::{Output, Program, Programs, Status};

/// Of the test, and again of the reload.
const LIMIT: Duration = Duration::from_secs(60);

const SYSTEMD: &str = "/run/systemd/system";

/// Tests, then reloads.
///
/// # Errors
/// Which of the two failed, and what it said.
pub(super) async fn deploy(programs: &Programs, reload: &WordOr<Server, Commands>) -> Result<(), String> {
    for argv in commands(reload) {
        let line = argv.join(" ");
        let exit = match tokio::time::timeout(LIMIT, run(programs, argv)).await {
            Ok(Ok(exit)) => exit,
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err(format!("{line} did not end within {} s", LIMIT.as_secs())),
        };
        if exit.status != Status::Code(0) {
            let said = if exit.stderr.trim_ascii().is_empty() { exit.stdout } else { exit.stderr };
            let said = String::from_utf8_lossy(&said);
            let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
            let last = lines[lines.len().saturating_sub(4)..].join("; ");
            let last = if last.is_empty() { "it said nothing" } else { &last };
            return Err(format!("{line} {}: {last}", ending(exit.status)));
        }
    }
    Ok(())
}

/// Which programs are missing, and why they can't be run.
pub(super) fn lacking(reload: &WordOr<Server, Commands>) -> Vec<(String, String)> {
    let mut names: Vec<String> =
        commands(reload).into_iter().filter_map(|argv| argv.into_iter().next()).collect();
    names.dedup();
    names.into_iter().filter_map(|name| find(&name).err().map(|reason| (name, reason))).collect()
}

/// Whether systemd renews too, by certbot's own timer. Debian's /etc/cron.d/certbot does nothing under systemd.
pub(super) async fn timer_is_active(programs: &Programs) -> bool {
    if !systemd_runs() {
        return false;
    }
    let argv = ["systemctl", "is-active", "certbot.timer"].map(str::to_owned).to_vec();
    let env = vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())];
    let quiet = Program { argv, env, stdout: Output::Null, stderr: Output::Null, ..Program::default() };
    let asked = async { Some(programs.start(quiet).await.ok()?.wait().await.status) };
    matches!(tokio::time::timeout(LIMIT, asked).await, Ok(Some(Status::Code(0))))
}

fn commands(reload: &WordOr<Server, Commands>) -> Vec<Vec<String>> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    match reload {
        WordOr::Whole(commands) => commands.test.iter().chain([&commands.run]).cloned().collect(),
        WordOr::Word(Server::Nginx) if systemd_runs() => {
            vec![words(&["nginx", "-t"]), words(&["systemctl", "reload", "nginx"])]
        }
        WordOr::Word(Server::Nginx) => vec![words(&["nginx", "-t"]), words(&["nginx", "-s", "reload"])],
    }
}

/// As sd_booted(3) tells it.
fn systemd_runs() -> bool {
    Path::new(SYSTEMD).is_dir()
}
