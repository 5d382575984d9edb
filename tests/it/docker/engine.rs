//! The engine dies or hangs under a dump, while the container lives on: no program of ours may.

use rustix::process::Signal;

use super::{Shop, last_error, outcomes};
use crate::support::daemon::{Daemon, wait_until};
use crate::support::docker::docker_says;
use crate::support::engine::Engine;
use crate::support::postgres::PASSWORD;

/// A lock that doesn't need the engine to be held.
fn lock(shop: &Shop) {
    let name = &shop.server.container.name;
    let password = format!("PGPASSWORD={PASSWORD}");
    let user = format!("PGUSER={}", crate::support::postgres::USER);
    let hold = "BEGIN; LOCK TABLE sales; SELECT pg_sleep(600)";
    docker_says(&["exec", "-d", "-e", &password, "-e", &user, name, "psql", "-X", "-d", "shop", "-c", hold]);
    wait_until("the table is locked", || {
        shop.count("SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted") > 0
    });
}

fn unlock(shop: &Shop) {
    shop.count(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)'",
    );
}

fn lives(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "pg_dump\n")
}

fn spawn_daemon<'a>(shop: &'a Shop, engine: &Engine) -> Daemon<'a> {
    shop.host.spawn_daemon_with(|daemon| {
        daemon.env("DOCKER_HOST", engine.url());
    })
}

/// A daemon whose dump waits for a lock in the container, and that dump's pid.
fn begin_a_dump<'a>(shop: &'a Shop, engine: &Engine) -> (Daemon<'a>, i32) {
    let daemon = spawn_daemon(shop, engine);
    wait_until("the daemon answers", || shop.host.cli(&["status"]).status.success());
    lock(shop);
    shop.begin();
    shop.wait_until_it_waits();
    let [left] = shop.dumping()[..] else { panic!("one pg_dump: {:?}", shop.dumping()) };
    (daemon, left)
}

#[test]
fn an_engine_that_is_killed_under_a_dump_leaves_no_pg_dump_behind() {
    let Some(mut engine) = Engine::start() else { return };
    let shop = Shop::new();
    let (daemon, left) = begin_a_dump(&shop, &engine);
    engine.kill();
    let row = shop.host.wait_for_outcome("db-backup", "failed");
    assert!(!lives(left), "pg_dump {left} goes on, though its run has failed");
    let name = &shop.server.container.name;
    let error =
        last_error(&row).replace(name, "DB").replace(&engine.socket().display().to_string(), "SOCKET");
    assert_eq!(
        error,
        "pg_dump of shop at container DB failed: Docker's socket SOCKET is there, but nobody answers on it: is Docker running? (systemctl status docker)"
    );
    engine.restart();
    unlock(&shop);
    assert_eq!(shop.run()["outcome"], "succeeded");
    shop.check_nothing_is_left();
    assert!(daemon.stop().success());
    drop(shop);
}

#[test]
fn an_engine_that_hangs_under_a_dump_doesn_t_keep_it_alive() {
    let Some(engine) = Engine::start() else { return };
    let shop = Shop::new();
    shop.table("", ", stall: 10s", "");
    let (daemon, left) = begin_a_dump(&shop, &engine);
    engine.signal(Signal::STOP);
    let row = shop.host.wait_for_outcome("db-backup", "failed");
    assert!(last_error(&row).contains("no byte came for 10s"), "{row:#}");
    let gone = !lives(left);
    engine.signal(Signal::CONT);
    assert!(gone, "pg_dump {left} goes on, though its run has failed");
    unlock(&shop);
    shop.check_nothing_is_left();
    assert!(daemon.stop().success());
    drop(shop);
}

/// A restarted engine knows no exec of before: what nobody listens to is found by its mark alone.
#[test]
fn what_a_killed_client_left_is_ended_also_when_the_engine_has_forgotten_it() {
    let Some(mut engine) = Engine::start() else { return };
    let shop = Shop::new();
    // It would give up by itself.
    shop.table("", ", lock_wait: 10m", "");
    let (first, left) = begin_a_dump(&shop, &engine);
    // A host whose processes fall all at once: nobody has the time to end anything.
    engine.signal(Signal::STOP);
    first.signal(Signal::STOP);
    for pid in shop.clients() {
        let _ = rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), Signal::KILL);
    }
    first.kill();
    engine.kill();
    assert!(lives(left));
    engine.restart();
    assert!(lives(left));
    let second = spawn_daemon(&shop, &engine);
    wait_until("what was left is ended", || !lives(left));
    unlock(&shop);
    let row = shop.host.wait_for_outcome("db-backup", "succeeded");
    assert_eq!(outcomes(&row), ["interrupted", "succeeded"], "{row:#}");
    shop.check_nothing_is_left();
    assert!(second.stop().success());
    drop(shop);
}
