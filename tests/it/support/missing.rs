//! What a test does without a component: it says so and is skipped; where CI=true, it fails.

use std::io::Write;

/// Whether this machine lacks a program of the PATH; then it is said.
pub(crate) fn lacks(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = format!("{path}:/usr/sbin:/sbin");
    let found = folders.split(':').any(|folder| std::path::Path::new(folder).join(program).is_file());
    !found && skipped(&format!("{program} is not installed"))
}

/// Whether this isn't root; then it is said.
pub(crate) fn lacks_root() -> bool {
    !rustix::process::geteuid().is_root() && skipped("it is not run by root")
}

/// Says why the test that runs is skipped. Always true.
pub(crate) fn skipped(why: &str) -> bool {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "CI=true, and {why}");
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(std::io::stderr(), "skipped {name}: {why}");
    true
}
