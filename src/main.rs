use std::process::ExitCode;

use punk_eco_sched::{cli, host, spawner};

fn main() -> ExitCode {
    // The program is its own spawner, its own shim before a program and its own client of a container's; they come
    // before any thread.
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    match arguments.first().and_then(|verb| verb.to_str()) {
        Some(spawner::server::VERB) => spawner::server::main(&arguments[1..]),
        Some(host::exec::VERB) => host::exec::main(&arguments[1..]),
        Some(host::docker::client::VERB) => host::docker::client::main(&arguments[1..]),
        _ => cli::main(),
    }
}
