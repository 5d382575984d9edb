//! A host on which PostgreSQL is in a container alone: it has no pg_restore, and reads custom dumps with the container's.

use std::process::{Command, Output};

use punk_eco_sched::backup::manifest::State;

use super::{Restoring, manifest};
use crate::support::daemon::{PROGRAM, text};
use crate::support::docker::{Inside, docker_says, no_engine, processes_in};
use crate::support::missing::{lacks, lacks_root};
use crate::support::shop;

type Shop = shop::Shop<Inside>;

/// The command line on a host without PostgreSQL: in a mount namespace of its own where nothing is installed, with a PATH
/// that leads nowhere.
fn bare(shop: &Shop, arguments: &[&str]) -> Output {
    #[expect(clippy::disallowed_methods, reason = "the program under test")]
    let mut command = Command::new("unshare");
    let hide = "mount -t tmpfs none /usr/lib/postgresql && PATH=/nowhere exec \"$0\" \"$@\"";
    command.args(["--mount", "sh", "-c", hide, PROGRAM, "--config"]).arg(shop.host.config()).args(arguments);
    command.stdin(std::process::Stdio::null()).output().unwrap()
}

fn well(shop: &Shop, arguments: &[&str]) -> String {
    let output = bare(shop, arguments);
    assert!(output.status.success(), "{arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

fn badly(shop: &Shop, arguments: &[&str]) -> String {
    let output = bare(shop, arguments);
    assert_eq!(output.status.code(), Some(1), "{}{}", text(&output.stdout), text(&output.stderr));
    shop::Server::neutral(&shop.server, &text(&output.stderr))
}

#[test]
fn custom_dumps_are_made_read_proven_and_restored_by_the_container_s_own_programs() {
    if no_engine() || lacks("unshare") || lacks_root() {
        return;
    }
    let shop = Shop::new();
    shop.table_with(", format: custom", "");
    well(&shop, &["run-now", "db-backup"]);
    let file = shop.directory().join(shop.host.history("db-backup")[0]["facts"]["file"].as_str().unwrap());
    let name = file.to_str().unwrap();

    let said = well(&shop, &["verify", name]);
    assert!(said.contains(": good: ") && said.contains("with 10 rows in 1 tables"), "{said}");
    assert_eq!(manifest(&file).proof.state, State::ReadBack);
    well(&shop, &["run-now", "db-verify"]);
    assert!(manifest(&file).proof.is_verified());

    shop.server.sql("shop", "DELETE FROM sales");
    well(&shop, &["restore", "db", name, "--connection", "app", "--swap"]);
    assert_eq!(shop.server.sql("shop", "SELECT count(*) FROM sales"), "10");
    assert_eq!(processes_in(&shop.server.container.name, "pg_restore"), [0; 0]);

    // A damaged one is still told from a good one, through the same way.
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let said = badly(&shop, &["verify", name]);
    assert!(said.contains("is damaged:") && said.contains("pg_restore can't read it to its end: "), "{said}");
    std::fs::write(&file, &whole).unwrap();

    docker_says(&["stop", "-t", "1", &shop.server.container.name]);
    let said = badly(&shop, &["verify", name]);
    assert!(
        said.contains(
            "pg_restore, which alone reads a custom dump, is neither in the PATH nor under /usr/lib/postgresql of this \
             host, and no container lends its own (container DB "
        ) && said.contains("start the container, or install the package postgresql-client"),
        "{said}"
    );
    assert_eq!(
        manifest(&file).proof.state,
        State::Damaged,
        "nothing new is recorded of what nobody could read"
    );
    // What this host has of its own does as well, and the reason is said.
    let output = shop.host.cli(&["verify", name]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = shop::Server::neutral(&shop.server, &text(&output.stderr));
    assert!(said.contains("reading it with this host's pg_restore: container DB "), "{said}");

    // No connection is in a container.
    shop.host.write_table("", "  nothing:\n    command: { run: [\"true\"] }\n");
    let said = badly(&shop, &["verify", name]);
    assert!(said.contains("and no connection names a container that has it: install"), "{said}");
}
