use std::process::ExitCode;

fn main() -> ExitCode {
    // INTEGRATION: `__spawner` and `__exec` as the first argument come before everything else, while there is no
    // thread: punk_eco_sched::spawner::server::main, punk_eco_sched::host::exec::main.
    punk_eco_sched::cli::main()
}
