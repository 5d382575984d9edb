//! Daemons die; their programs, the output and the exits go to the next one.

use super::*;

const DAEMON: &str = "PUNK_ECO_TEST_DAEMON";

/// Not a test by itself: the daemon that the tests below kill.
#[tokio::test(flavor = "multi_thread")]
async fn another_daemon() {
    let Some(folder) = std::env::var_os(DAEMON).map(PathBuf::from) else { return };
    let launched = Spawner::launch(settings(&folder)).unwrap();
    let spawner = Spawner::connect(launched, Arc::new(SystemClock)).await.unwrap();
    let mut log = Log::new(&folder.join("log"));
    if let Ok(fatal) = std::fs::read_to_string(folder.join("fatal")) {
        Arc::get_mut(&mut log).unwrap().fatal = fatal.parse().ok();
    }
    let programs = spawner.programs(context(log, "kept"));
    let script = std::fs::read_to_string(folder.join("script")).unwrap();
    let mut one = shell(&script);
    one.cwd = Some(folder.clone());
    one.keep = (!folder.join("unkept").exists())
        .then(|| Keep { success_codes: vec![9], deadline: Some(Timestamp::UNIX_EPOCH) });
    std::fs::write(folder.join("spawner"), spawner.pid().await.to_string()).unwrap();
    let mut running = programs.start(one).await.unwrap();
    if folder.join("stops").exists() {
        // As a daemon that is stopped between the end of a run and its record.
        running.wait().await;
        programs.end_all(GRACE).await;
        drop((programs, running));
        spawner.flush().await;
        std::fs::write(folder.join("stopped"), "").unwrap();
    }
    std::future::pending::<()>().await;
}

#[expect(clippy::disallowed_methods, reason = "a daemon to kill")]
fn start_daemon(folder: &Path) -> std::process::Child {
    std::process::Command::new(std::env::current_exe().unwrap())
        .args(["spawner::adoption::another_daemon", "--exact", "--nocapture"])
        .env(DAEMON, folder)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap()
}

const COUNTING: &str = "i=0; while [ ! -e stop ]; do i=$((i+1)); echo line $i; echo $i > count; sleep 0.001; done; \
                        echo $i > last; echo problem >&2; printf unended; exit 9";

/// What the daemon's program has counted to; the daemon is gone when this returns.
async fn kill_daemon_after(folder: &Path, lines: usize) -> i32 {
    let mut daemon = start_daemon(folder);
    let logged = || std::fs::read_to_string(folder.join("log/Stdout")).unwrap_or_default().lines().count();
    until("the daemon logs", || folder.join("spawner").exists() && logged() >= lines).await;
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    std::fs::read_to_string(folder.join("spawner")).unwrap().parse().unwrap()
}

fn count(folder: &Path) -> u64 {
    std::fs::read_to_string(folder.join("count")).unwrap_or_default().trim().parse().unwrap_or(0)
}

/// The one program that an earlier daemon left.
async fn adopted(host: &Host) -> AdoptedProgram {
    let start = Instant::now();
    loop {
        let adoption = host.spawner.adopt_all(&[]).await;
        assert_eq!(adoption.problems, [""; 0]);
        // Empty while the spawner still believes in the daemon before.
        let mut programs = adoption.programs;
        if let Some(one) = programs.pop() {
            assert!(programs.is_empty());
            return one;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "nothing to adopt");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_daemon_adopts_what_runs_and_no_line_is_lost_or_doubled() {
    for stops_alone in [false, true] {
        let host = Host::new().await;
        let folder = host.folder.path();
        std::fs::write(folder.join("script"), COUNTING).unwrap();
        std::fs::write(folder.join("fatal"), "50").unwrap();
        let old = kill_daemon_after(folder, 50).await;
        let at_death = count(folder);
        until("it goes on alone", || count(folder) > at_death + 20).await;
        if stops_alone {
            std::fs::write(folder.join("stop"), "").unwrap();
            until("it has ended alone", || folder.join("last").exists()).await;
        }
        let log = Log::new(&folder.join("log"));
        if !stops_alone {
            // A daemon that adopts it and dies as well.
            let second = adopted(&host).await.attach(context(log.clone(), "kept"));
            let at_adoption = log.lines_logged(Stream::Stdout);
            until("its log goes on", || log.lines_logged(Stream::Stdout) > at_adoption + 50).await;
            drop(second);
        }
        let adopted = adopted(&host).await;
        assert_eq!((adopted.run, adopted.attempt, adopted.job.as_str()), (RunId(7), 1, "kept"));
        assert_eq!(adopted.keep, Keep { success_codes: vec![9], deadline: Some(Timestamp::UNIX_EPOCH) });
        let log = Log::new(&folder.join("log"));
        let (programs, mut running) = adopted.attach(context(log.clone(), "kept"));
        std::fs::write(folder.join("stop"), "").unwrap();
        let exit = running.wait().await;
        assert_eq!((exit.status, text(&exit.stderr)), (Status::Code(9), "problem\n".into()));
        let last: u64 = std::fs::read_to_string(folder.join("last")).unwrap().trim().parse().unwrap();
        let expected: String = (1..=last).map(|number| format!("line {number}\n")).collect();
        assert_eq!(log.text("Stdout"), expected + "unended");
        assert_eq!(log.text("Stderr"), "problem\n");
        assert_eq!(programs.end_all(GRACE).await, Default::default());
        programs.forget();
        until("the old spawner ends", || procfs::stat(old).is_none_or(|stat| stat.is_zombie())).await;
        let socket = folder.join(format!("spawner-{old}.sock"));
        until("its socket is removed", || !socket.exists()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exit_that_was_not_put_on_record_is_told_to_the_next_daemon_too() {
    let host = Host::new().await;
    let folder = host.folder.path();
    std::fs::write(folder.join("script"), "echo only; exit 9").unwrap();
    kill_daemon_after(folder, 1).await;
    let log = Log::new(&folder.join("log"));
    let (_programs, mut running) = adopted(&host).await.attach(context(log.clone(), "kept"));
    assert_eq!(running.wait().await.status, Status::Code(9));
    assert_eq!(log.text("Stdout"), "only\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exit_is_kept_until_it_is_on_record_whatever_was_swept_and_dropped() {
    let host = Host::new().await;
    let folder = host.folder.path();
    std::fs::write(folder.join("script"), "echo only; exit 9").unwrap();
    std::fs::write(folder.join("stops"), "").unwrap();
    let mut daemon = start_daemon(folder);
    until("it has stopped", || folder.join("stopped").exists()).await;
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    let log = Log::new(&folder.join("log"));
    let (_programs, mut running) = adopted(&host).await.attach(context(log, "kept"));
    assert_eq!(running.wait().await.status, Status::Code(9));
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_end_and_left_alone_it_waits_for_what_runs_and_holds_no_exit() {
    use rustix::process::{Pid, Signal, kill_process};

    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("script"), COUNTING).unwrap();
    let old = kill_daemon_after(folder, 1).await;
    kill_process(Pid::from_raw(old).unwrap(), Signal::TERM).unwrap();
    let before = count(folder);
    until("what runs goes on", || count(folder) > before + 20).await;
    assert!(procfs::stat(old).is_some_and(|stat| !stat.is_zombie()));
    std::fs::write(folder.join("stop"), "").unwrap();
    until("the spawner has ended", || procfs::stat(old).is_none_or(|stat| stat.is_zombie())).await;
    assert!(folder.join("last").exists());

    // Not where a daemon has come since: it asks for the exit.
    let host = Host::new().await;
    let folder = host.folder.path();
    std::fs::write(folder.join("script"), "echo here; until [ -e stop ]; do sleep 0.01; done; exit 9")
        .unwrap();
    let old = kill_daemon_after(folder, 1).await;
    kill_process(Pid::from_raw(old).unwrap(), Signal::TERM).unwrap();
    drop(adopted(&host).await);
    std::fs::write(folder.join("stop"), "").unwrap();
    let ended = adopted_when_ended(&host).await;
    let (_programs, mut running) = ended.attach(context(Log::new(&folder.join("log")), "kept"));
    assert_eq!(running.wait().await.status, Status::Code(9));
}

async fn adopted_when_ended(host: &Host) -> AdoptedProgram {
    let start = Instant::now();
    loop {
        let one = adopted(host).await;
        if one.ended {
            return one;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "it does not end");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_outlive_its_daemon_ends_with_it_and_the_spawner_too() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("script"), "echo here; sleep 1000 & wait").unwrap();
    std::fs::write(folder.join("unkept"), "").unwrap();
    let old = kill_daemon_after(folder, 1).await;
    until("the spawner has ended", || procfs::stat(old).is_none_or(|stat| stat.is_zombie())).await;
    assert_eq!(
        std::fs::read_dir(folder)
            .unwrap()
            .flatten()
            .filter(|one| { one.file_name().to_string_lossy().contains("spawner-") })
            .count(),
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn spawners_of_other_instances_and_dead_ones_are_not_adopted() {
    let host = Host::new().await;
    let folder = host.folder.path();
    let mut elsewhere = settings(folder);
    // Takes no socket, as a full disk doesn't: that spawner listens beside the control socket.
    elsewhere.state = "/proc".into();
    let other = Spawner::connect(Spawner::launch(elsewhere).unwrap(), Arc::new(SystemClock)).await.unwrap();
    let stale = ["spawner-999999999.sock", "control.sock.spawner-999999999"].map(|name| folder.join(name));
    for socket in &stale {
        drop(std::os::unix::net::UnixListener::bind(socket).unwrap());
    }
    let adoption = host.spawner.adopt_all(&[]).await;
    assert!(adoption.programs.is_empty());
    assert_eq!(adoption.problems, [""; 0]);
    assert!(stale.iter().all(|socket| !socket.exists()));
    assert!(folder.join(format!("control.sock.spawner-{}", other.pid().await)).exists());
}

/// It was stopped, or its host's memory is full: the next daemon's jobs are due nevertheless.
#[tokio::test(flavor = "multi_thread")]
async fn a_spawner_that_does_not_answer_is_not_waited_for_without_end() {
    use rustix::process::{Pid, Signal, kill_process};

    let host = Host::new().await;
    let folder = host.folder.path();
    std::fs::write(folder.join("script"), COUNTING).unwrap();
    let old = kill_daemon_after(folder, 1).await;
    let old_pid = Pid::from_raw(old).unwrap();
    kill_process(old_pid, Signal::STOP).unwrap();
    let adoption = tokio::time::timeout(Duration::from_secs(60), host.spawner.adopt_all(&[])).await;
    kill_process(old_pid, Signal::CONT).unwrap();
    let adoption = adoption.expect("the daemon waits for it");
    let socket = folder.join(format!("spawner-{old}.sock"));
    let expected = format!(
        "spawner {old}: it doesn't answer within 10s at {}: what it may run goes on without being heard",
        socket.display()
    );
    assert_eq!(adoption.problems, [expected]);
    assert!(socket.exists(), "the next daemon may find it");
    let (_programs, mut running) =
        adopted(&host).await.attach(context(Log::new(&folder.join("log")), "kept"));
    std::fs::write(folder.join("stop"), "").unwrap();
    assert_eq!(running.wait().await.status, Status::Code(9));
}

/// Anybody of the same user can connect; the next daemon waits for its turn, and not for ever.
#[tokio::test(flavor = "multi_thread")]
async fn who_connects_to_a_left_spawner_and_says_nothing_keeps_no_daemon_out() {
    let host = Host::new().await;
    let folder = host.folder.path();
    std::fs::write(folder.join("script"), COUNTING).unwrap();
    let old = kill_daemon_after(folder, 1).await;
    let socket = folder.join(format!("spawner-{old}.sock"));
    let silent = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    let mut nonsense = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    nonsense.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let adoption = host.spawner.adopt_all(&[]).await;
    assert_eq!(adoption.problems, [""; 0]);
    let [adopted] = <[AdoptedProgram; 1]>::try_from(adoption.programs).ok().expect("one program");
    let (_programs, mut running) = adopted.attach(context(Log::new(&folder.join("log")), "kept"));
    std::fs::write(folder.join("stop"), "").unwrap();
    assert_eq!(running.wait().await.status, Status::Code(9));
    drop((silent, nonsense));
}
