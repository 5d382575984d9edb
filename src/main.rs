use std::ffi::OsString;
use std::process::ExitCode;

use punk_eco_sched::{host, spawner};

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    match args.get(1).and_then(|verb| verb.to_str()) {
        Some(spawner::server::VERB) => spawner::server::main(&args[2..]),
        Some(host::exec::VERB) => host::exec::main(&args[2..]),
        _ => ExitCode::from(2),
    }
}
