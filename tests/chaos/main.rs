//! Faults by seed: a whole daemon of real processes is killed, frozen, reloaded and deceived by its clock, and a
//! checker that knows nothing of its code compares what it wrote with what its jobs did and what was due.
//!
//! `scripts/chaos` runs as many seeds as asked. In the manual mode every process of the host is this binary, so that it
//! can be given a clock that is bent; in the real mode the product's own.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test, though it has a harness of its own"
)]

mod checker;
mod driver;
mod evidence;
mod host;
mod random;
mod table;
mod timeline;
mod warp;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use punk_eco_sched::config::Environment;
use punk_eco_sched::{daemon, host as product_host, spawner};

/// What a plain `cargo test` runs.
const MANUAL: u64 = 5;
const REAL: u64 = 1;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match arguments.first().and_then(|verb| verb.to_str()) {
        Some(spawner::server::VERB) => {
            let host = arguments.get(2).and_then(|state| Path::new(state).parent()).unwrap_or(Path::new("/"));
            spawner::server::main_with(&arguments[1..], Box::new(warp::WarpClock::of(host)))
        }
        Some(product_host::exec::VERB) => product_host::exec::main(&arguments[1..]),
        Some(product_host::docker::client::VERB) => product_host::docker::client::main(&arguments[1..]),
        Some(evidence::VERB) => {
            let words: Vec<String> =
                arguments[1..].iter().map(|word| word.to_string_lossy().into_owned()).collect();
            evidence::main(&words)
        }
        Some("run-now") if arguments.len() == 3 => {
            run_alone(Path::new(&arguments[1]), &arguments[2].to_string_lossy())
        }
        Some("check") if arguments.len() == 2 => check_again(Path::new(&arguments[1])),
        Some("daemon") if arguments.len() == 2 => run_daemon(PathBuf::from(&arguments[1])),
        _ => run_seeds(),
    }
}

fn run_daemon(config: PathBuf) -> ExitCode {
    let clock = warp::WarpClock::of(config.parent().unwrap_or(Path::new("/")));
    let options = daemon::Options { config: config.clone(), grace: Duration::from_millis(200) };
    match daemon::run(&options, Arc::new(clock)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// As the command line does it where no daemon answers, with a clock that is bent.
fn run_alone(config: &Path, job: &str) -> ExitCode {
    let clock = Arc::new(warp::WarpClock::of(config.parent().unwrap_or(Path::new("/"))));
    let environment = Environment::of_process(&*clock);
    let text = std::fs::read_to_string(config).unwrap();
    let Ok((table, _)) = punk_eco_sched::config::read(&text, config, &environment) else {
        return ExitCode::FAILURE;
    };
    let own = match daemon::standalone(config, environment, table, clock) {
        Ok(own) => own,
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::FAILURE;
        }
    };
    let control = own.control();
    own.runtime().block_on(async {
        match control.run_now(job, false, "chaos").await {
            Ok(mut started) => {
                own.claimed();
                while started.events.recv().await.is_some() {}
            }
            Err(refused) => eprintln!("{refused}"),
        }
    });
    own.close();
    ExitCode::SUCCESS
}

/// The checker alone, over what was kept of a seed.
fn check_again(kept: &Path) -> ExitCode {
    let read = |name: &str| std::fs::read_to_string(kept.join(name)).unwrap();
    let timeline: Vec<timeline::Entry> =
        read("schedule").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told = checker::check(&checker::Found {
        ledger: &kept.join("ledger/ledger.db"),
        evidence: &read("evidence"),
        timeline: &timeline,
    });
    for problem in &told {
        println!("{problem}");
    }
    ExitCode::from(u8::from(!told.is_empty()))
}

/// `CHAOS_MANUAL` and `CHAOS_REAL` say how many seeds, `CHAOS_FROM` the first, `CHAOS_KEEP` where failing ones are kept.
fn run_seeds() -> ExitCode {
    let from = number("CHAOS_FROM").unwrap_or(1);
    let mut trials = vec![];
    for (real, count) in [(false, number("CHAOS_MANUAL")), (true, number("CHAOS_REAL"))] {
        let (mode, usual) = if real { ("real", REAL) } else { ("manual", MANUAL) };
        for seed in from..from + count.unwrap_or(usual) {
            trials.push(Trial::test(format!("{mode}::seed_{seed}"), move || run_seed(seed, real)));
        }
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn run_seed(seed: u64, real: bool) -> Result<(), Failed> {
    let mode = if real { "real" } else { "manual" };
    let memory = Path::new("/dev/shm");
    let folder = tempfile::Builder::new()
        .prefix(&format!("chaos-{mode}-{seed}-"))
        .tempdir_in(if memory.is_dir() { memory } else { Path::new("/tmp") })?;
    // As everywhere in these tests: a missing component is a failure in CI, and is said elsewhere.
    if !rustix::process::geteuid().is_root() {
        if std::env::var("CI").is_ok_and(|ci| ci == "true") {
            return Err("CI=true, and a full disk needs root".into());
        }
        eprintln!("not root: no disk gets full");
    }
    let told = driver::play(folder.path(), seed, real).unwrap_or_else(|problem| vec![problem]);
    if told.is_empty() {
        return Ok(());
    }
    let kept = keep(folder.path(), mode, seed);
    Err(format!(
        "seed {seed} ({mode}): {} problems; replay: scripts/chaos {mode} --seed {seed}; kept in {}\n{}",
        told.len(),
        kept.display(),
        told.iter().take(30).cloned().collect::<Vec<_>>().join("\n")
    )
    .into())
}

/// Copies what a person needs to understand a failure out of the folder, which goes.
fn keep(folder: &Path, mode: &str, seed: u64) -> PathBuf {
    let target = std::env::var_os("CHAOS_KEEP").map_or_else(|| PathBuf::from("target/chaos"), PathBuf::from);
    let kept = target.join(format!("{mode}-{seed}"));
    let _ = std::fs::remove_dir_all(&kept);
    for entry in walkdir::WalkDir::new(folder).into_iter().flatten() {
        let to = kept.join(entry.path().strip_prefix(folder).unwrap());
        if entry.file_type().is_dir() {
            let _ = std::fs::create_dir_all(to);
        } else if entry.file_type().is_file() {
            let _ = std::fs::copy(entry.path(), to);
        }
    }
    kept
}
