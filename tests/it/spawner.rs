//! Programs under the spawner: output, exits, and that nothing outlives its run.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use punk_eco_sched::clock::SystemClock;
use punk_eco_sched::host::process::{
    Account, Keep, Output, OutputLog, Program, ProgramContext, Programs, StartError, Status, Stdin,
};
use punk_eco_sched::host::{accounts, procfs};
use punk_eco_sched::logs::Stream;
use punk_eco_sched::model::{JobName, RunId};
use punk_eco_sched::spawner::{Settings, Spawner};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const GRACE: Duration = Duration::from_millis(300);

/// A log that is a file a stream, so that another process can go on with it.
struct Log {
    folder: PathBuf,
    partial: Mutex<BTreeMap<String, Vec<u8>>>,
}

impl Log {
    fn new(folder: &Path) -> Arc<Self> {
        std::fs::create_dir_all(folder).unwrap();
        Arc::new(Self { folder: folder.to_owned(), partial: Mutex::default() })
    }

    fn append(&self, stream: &str, bytes: &[u8]) {
        let mut file =
            std::fs::File::options().create(true).append(true).open(self.folder.join(stream)).unwrap();
        file.write_all(bytes).unwrap();
    }

    fn text(&self, stream: &str) -> String {
        std::fs::read_to_string(self.folder.join(stream)).unwrap_or_default()
    }
}

impl OutputLog for Log {
    fn output(&self, stream: Stream, _: Timestamp, bytes: &[u8]) {
        let name = format!("{stream:?}");
        let mut partial = self.partial.lock().unwrap();
        let waiting = partial.entry(name.clone()).or_default();
        waiting.extend_from_slice(bytes);
        if let Some(end) = waiting.iter().rposition(|byte| *byte == b'\n') {
            let lines: Vec<u8> = waiting.drain(..=end).collect();
            self.append(&name, &lines);
        }
    }

    fn end_output(&self, stream: Stream, _: Timestamp) {
        let name = format!("{stream:?}");
        if let Some(rest) = self.partial.lock().unwrap().remove(&name) {
            self.append(&name, &rest);
        }
    }

    fn note(&self, _: Timestamp, text: &str) {
        self.append("Note", format!("{text}\n").as_bytes());
    }

    fn lines_logged(&self, stream: Stream) -> u64 {
        self.text(&format!("{stream:?}")).lines().count() as u64
    }
}

struct Host {
    folder: tempfile::TempDir,
    spawner: Spawner,
    pid: i32,
}

fn settings(folder: &Path) -> Settings {
    let mut settings = Settings::new(folder.join("control.sock"), folder.to_owned());
    settings.executable = env!("CARGO_BIN_EXE_punk-eco-sched").into();
    settings
}

impl Host {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let launched = Spawner::launch(settings(folder.path())).unwrap();
        let spawner = Spawner::connect(launched, Arc::new(SystemClock)).await.unwrap();
        let pid = spawner.pid().await;
        Self { folder, spawner, pid }
    }

    fn log(&self, job: &str) -> Arc<Log> {
        Log::new(&self.folder.path().join(job))
    }

    fn programs(&self, job: &str) -> Programs {
        self.spawner.programs(self.context(job))
    }

    fn context(&self, job: &str) -> ProgramContext {
        context(self.log(job), job)
    }

    /// What descends from the spawner.
    fn descendants(&self) -> Vec<String> {
        let all = procfs::all();
        let family = procfs::family(&all, &[self.pid]);
        family.iter().filter(|one| one.pid != self.pid).map(|one| one.name.clone()).collect()
    }
}

fn context(log: Arc<Log>, job: &str) -> ProgramContext {
    ProgramContext {
        job: JobName::new(job).unwrap(),
        run: RunId(7),
        attempt: 1,
        slot: None,
        account: None,
        env: vec![],
        nice: 0,
        io: None,
        log,
    }
}

fn shell(script: &str) -> Program {
    program(&["sh", "-c", script])
}

fn program(argv: &[&str]) -> Program {
    Program {
        argv: argv.iter().map(|one| (*one).to_owned()).collect(),
        env: vec![("PATH".into(), PATH.into())],
        stdout: Output::Log { tail: 4096 },
        stderr: Output::Log { tail: 4096 },
        ..Program::default()
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(30), "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn output_is_logged_by_stream_and_the_exit_is_the_programs_own() {
    let host = Host::new().await;
    let programs = host.programs("one");
    let check = async |script: &str, status: Status, stdout: &str, stderr: &str| {
        let exit = programs.start(shell(script)).await.unwrap().wait().await;
        assert_eq!(
            (exit.status, text(&exit.stdout), text(&exit.stderr)),
            (status, stdout.into(), stderr.into())
        );
    };
    check("echo out; echo err >&2; printf rest", Status::Code(0), "out\nrest", "err\n").await;
    check("exit 42", Status::Code(42), "", "").await;
    check("kill -9 $$", Status::Signal(9), "", "").await;
    check("kill -TERM $$", Status::Signal(15), "", "").await;
    assert_eq!(host.log("one").text("Stdout"), "out\nrest");
    assert_eq!(host.log("one").text("Stderr"), "err\n");
    assert_eq!(programs.end_all(GRACE).await, Default::default());
    assert_eq!(host.descendants(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_finds_its_marks_and_nothing_of_the_daemon() {
    let host = Host::new().await;
    let mut program = program(&[
        "sh",
        "-c",
        "env | sort; pwd; umask; ls /proc/self/fd | tr '\\n' ' '; cut -d' ' -f5,6 /proc/$$/stat; ulimit -n",
    ]);
    program.cwd = Some("/usr".into());
    let exit = host.programs("one").start(program).await.unwrap().wait().await;
    let stdout = text(&exit.stdout);
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(
        lines[..5],
        [format!("PATH={PATH}").as_str(), "PUNK_ECO_JOB=one", "PUNK_ECO_RUN=7", "PUNK_ECO_SLOT=", "PWD=/usr"]
    );
    assert_eq!(lines[5..7], ["/usr", "0022"]);
    // The fourth is the folder that ls itself reads.
    assert!(lines[7].starts_with("0 1 2 3 "), "{stdout}");
    assert!(lines[7].trim_start_matches("0 1 2 3 ").split(' ').count() == 2, "{stdout}");
    let usual = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    assert_eq!(lines[8].parse().ok(), usual, "{stdout}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_captured_stream_keeps_its_head_and_a_piped_one_is_the_jobs_own() {
    let host = Host::new().await;
    let mut captured = shell("echo 0123456789; echo problem >&2");
    captured.stdout = Output::Capture { limit: 4 };
    let exit = host.programs("one").start(captured).await.unwrap().wait().await;
    assert_eq!((text(&exit.stdout), exit.dropped, exit.written), ("0123".into(), 7, 19));
    assert_eq!(host.log("one").text("Stdout"), "");

    let mut piped = program(&["cat"]);
    piped.stdin = Stdin::Bytes(b"through".to_vec());
    piped.stdout = Output::Pipe;
    let mut running = host.programs("one").start(piped).await.unwrap();
    let mut read = String::new();
    let mut pipe = std::fs::File::from(running.stdout.take().unwrap());
    std::io::Read::read_to_string(&mut pipe, &mut read).unwrap();
    assert_eq!((read.as_str(), running.wait().await.status), ("through", Status::Code(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_never_reads_its_input_holds_nobody_up() {
    let host = Host::new().await;
    let mut one = program(&["true"]);
    one.stdin = Stdin::Bytes(vec![b'x'; 64 << 20]);
    assert_eq!(host.programs("one").start(one).await.unwrap().wait().await.status, Status::Code(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_output_is_capped_in_the_log_and_bounded_in_memory() {
    const MEGABYTES: u64 = 1000;
    let host = Host::new().await;
    let mut flood =
        shell(&format!("head -c {MEGABYTES}M /dev/zero | tr '\\0' 'a' | fold -w 99; echo the end >&2"));
    flood.max_output = Some(1 << 20);
    let mut running = host.programs("one").start(flood).await.unwrap();
    let most = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let watcher = {
        let (most, pid) = (most.clone(), host.pid);
        tokio::spawn(async move {
            loop {
                most.fetch_max(procfs::resident(pid).unwrap(), std::sync::atomic::Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
    };
    let exit = running.wait().await;
    watcher.abort();
    assert_eq!((exit.status, text(&exit.stderr)), (Status::Code(0), "the end\n".into()));
    assert!(exit.written > MEGABYTES << 20, "{}", exit.written);
    let logged = host.log("one").text("Stdout").len() as u64;
    assert_eq!(logged, 1 << 20);
    assert_eq!(exit.dropped, exit.written - logged);
    assert_eq!(
        host.log("one").text("Note"),
        format!("{} bytes of output were dropped: more than `max_output` allows\n", exit.dropped)
    );
    let most = most.load(std::sync::atomic::Ordering::Relaxed);
    assert!(most < 16 << 20, "the spawner took {most} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_program_leaves_behind_ends_with_it_and_does_not_hold_up_its_end() {
    let host = Host::new().await;
    let programs = host.programs("one");
    // Holds both pipes open, and would for a long time.
    let exit = programs.start(shell("sleep 1000 & echo done")).await.unwrap().wait().await;
    assert_eq!((exit.status, text(&exit.stdout)), (Status::Code(0), "done\n".into()));
    let swept = programs.end_all(GRACE).await;
    let names: Vec<&str> = swept.ended.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["sleep"]);
    assert_eq!(swept.survivors, []);
    // Holds nothing.
    programs.start(shell("sleep 1000 >/dev/null 2>&1 &")).await.unwrap().wait().await;
    let swept = programs.end_all(GRACE).await;
    assert_eq!(swept.findings()[0].message, format!("left behind and ended: sleep ({})", swept.ended[0].pid));
    assert_eq!(host.descendants(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_tree_ends_whatever_it_does_and_another_run_goes_on() {
    let host = Host::new().await;
    // Another run of another job here, and the same run of the same job of another daemon.
    let stranger = Host::new().await;
    let other = host.programs("other");
    let mut bystander = other.start(program(&["sleep", "1001"])).await.unwrap();
    let their = stranger.programs("one");
    let mut same_name = their.start(program(&["sleep", "1002"])).await.unwrap();

    let stubborn = r#"trap "" TERM; : > ready; while :; do sleep 1000; done"#;
    let scripts = [
        stubborn.to_owned(),
        format!("setsid sh -c '{stubborn}' & trap '' TERM; wait"),
        format!("(setsid sh -c '{stubborn}' &) & trap '' TERM; wait"),
        format!(
            "setsid sh -c 'setsid sh -c \"sleep 1003\" & {stubborn}' & while [ ! -e ready ]; do sleep 0.01; done"
        ),
        // Without the marks, in a group of its own.
        format!("env -i /bin/bash -c 'set -m; {stubborn} & disown' & trap '' TERM; wait; sleep 1000"),
        // Forks while it is being killed.
        "trap '' TERM; while :; do sleep 1000 & : > ready; sleep 0.001; done".to_owned(),
    ];
    for script in scripts {
        let programs = host.programs("one");
        let ready = host.folder.path().join("ready");
        let mut one = shell(&script);
        one.cwd = Some(host.folder.path().to_owned());
        let mut running = programs.start(one).await.unwrap();
        until(&format!("the tree has grown: {script}"), || ready.exists()).await;
        std::fs::remove_file(&ready).unwrap();
        let swept = programs.end_all(GRACE).await;
        assert_eq!(swept.survivors, [], "{script}");
        assert!(!swept.ended.is_empty(), "{script}");
        running.wait().await;
        assert_eq!(host.descendants(), ["sleep"], "{script}");
    }
    assert_eq!(stranger.descendants(), ["sleep"]);
    other.end_all(GRACE).await;
    their.end_all(GRACE).await;
    assert_eq!(bystander.wait().await.status, Status::Signal(15));
    assert_eq!(same_name.wait().await.status, Status::Signal(15));
    assert_eq!(host.descendants(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hides_every_mark_ends_with_the_only_run_that_can_have_started_it() {
    let host = Host::new().await;
    let programs = host.programs("one");
    // Not older than what is hidden, so that it is out of question.
    let later = host.programs("later");
    let hidden = "env -i setsid sh -c 'setsid sleep 1000 & exit 0' >/dev/null 2>&1; sleep 0.05";
    programs.start(shell(hidden)).await.unwrap().wait().await;
    later.start(program(&["sleep", "1000"])).await.unwrap();
    programs.end_all(GRACE).await;
    assert_eq!(host.descendants(), ["sleep"]);
    later.end_all(GRACE).await;
    assert_eq!(host.descendants(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_can_not_start_says_why() {
    let host = Host::new().await;
    let folder = host.folder.path().to_str().unwrap().to_owned();
    let script = |name: &str, text: &str| {
        let path = format!("{folder}/{name}");
        std::fs::write(&path, text).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&path, mode).unwrap();
        path
    };
    let shapeless = script("shapeless", "echo no first line, $1");
    let dangling = script("dangling", "#!/no/such/interpreter\n");
    for nice in [0, 5] {
        let mut context = host.context("one");
        context.nice = nice;
        let programs = host.spawner.programs(context);
        let check = async |argv: &[&str], cwd: Option<&str>, expected: &str| {
            let mut one = program(argv);
            one.cwd = cwd.map(PathBuf::from);
            match programs.start(one).await {
                Err(error @ StartError::Program { .. }) => assert_eq!(error.to_string(), expected),
                Err(error) => panic!("not permanent: {error}"),
                Ok(_) => panic!("{argv:?} was started"),
            }
        };
        check(&["no-such"], None, &format!("no-such: no such program in PATH ({PATH})")).await;
        check(&["/etc/passwd"], None, "/etc/passwd: it is not executable: is `chmod +x` missing?").await;
        check(
            &["true"],
            Some("/no/such"),
            "true: working folder /no/such: No such file or directory (os error 2)",
        )
        .await;
        check(
            &[&shapeless],
            None,
            &format!("{shapeless}: not in a format that can be executed: a script needs a first line such as #!/bin/sh"),
        )
        .await;
        check(
            &[&dangling],
            None,
            &format!("{dangling}: no such file (or the interpreter in its first line is missing)"),
        )
        .await;
        check(&["true", &"x".repeat(200_000)], None, "true: its arguments and environment are too long")
            .await;
        assert_eq!(programs.end_all(GRACE).await, Default::default());
    }
    assert_eq!(host.descendants(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_runs_as_its_user_with_all_groups_and_its_niceness() {
    if !rustix::process::geteuid().is_root() {
        // Only root can change users.
        return;
    }
    let host = Host::new().await;
    let nobody = accounts::by_name("nobody").unwrap();
    let account = Account { groups: vec![nobody.gid, 4, 24], ..nobody.clone() };
    let mut context = host.context("one");
    context.nice = 7;
    context.io = Some(punk_eco_sched::policy::IoClass::Idle);
    let programs = host.spawner.programs(context);
    let mut one = shell(
        "id -u; id -g; id -G | tr ' ' '\\n' | sort -n | tr '\\n' ' '; nice; ionice; ls /proc/self/fd | tr '\\n' ' '",
    );
    one.account = Some(account);
    let exit = programs.start(one).await.unwrap().wait().await;
    let (uid, gid) = (nobody.uid, nobody.gid);
    assert_eq!(
        (text(&exit.stdout), text(&exit.stderr)),
        (format!("{uid}\n{gid}\n4 24 {gid} 7\nidle\n0 1 2 3 "), String::new())
    );
    let folder = host.folder.path().join("closed");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let mut one = program(&["true"]);
    one.account = Some(nobody);
    one.cwd = Some(folder.clone());
    let error = programs.start(one).await.err().unwrap().to_string();
    assert_eq!(error, format!("true: working folder {}: Permission denied (os error 13)", folder.display()));
}

const DAEMON: &str = "PUNK_ECO_TEST_DAEMON";

/// Not a test by itself: the daemon that the tests below kill.
#[tokio::test(flavor = "multi_thread")]
async fn another_daemon() {
    let Some(folder) = std::env::var_os(DAEMON).map(PathBuf::from) else { return };
    let launched = Spawner::launch(settings(&folder)).unwrap();
    let spawner = Spawner::connect(launched, Arc::new(SystemClock)).await.unwrap();
    let programs = spawner.programs(context(Log::new(&folder.join("log")), "kept"));
    let script = std::fs::read_to_string(folder.join("script")).unwrap();
    let mut one = shell(&script);
    one.cwd = Some(folder.clone());
    one.keep = (!folder.join("unkept").exists())
        .then(|| Keep { success_codes: vec![9], deadline: Some(Timestamp::UNIX_EPOCH) });
    programs.start(one).await.unwrap();
    std::fs::write(folder.join("spawner"), spawner.pid().await.to_string()).unwrap();
    std::future::pending::<()>().await;
}

#[expect(clippy::disallowed_methods, reason = "a daemon to kill")]
fn start_daemon(folder: &Path) -> std::process::Child {
    std::process::Command::new(std::env::current_exe().unwrap())
        .args(["spawner::another_daemon", "--exact", "--nocapture"])
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

#[tokio::test(flavor = "multi_thread")]
async fn the_next_daemon_adopts_what_runs_and_no_line_is_lost_or_doubled() {
    for stops_alone in [false, true] {
        let host = Host::new().await;
        let folder = host.folder.path();
        std::fs::write(folder.join("script"), COUNTING).unwrap();
        let old = kill_daemon_after(folder, 50).await;
        // A second death: adopted, and lost again.
        let at_death = count(folder);
        until("it goes on alone", || count(folder) > at_death + 20).await;
        if stops_alone {
            std::fs::write(folder.join("stop"), "").unwrap();
            until("it has ended alone", || folder.join("last").exists()).await;
        }
        let adoption = host.spawner.adopt_all().await;
        assert_eq!(adoption.problems, [""; 0]);
        let mut adopted = adoption.programs;
        assert_eq!(adopted.len(), 1);
        let adopted = adopted.remove(0);
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
        drop((programs, running));
        until("the old spawner ends", || procfs::stat(old).is_none_or(|stat| stat.is_zombie())).await;
        let socket = folder.join(format!("control.sock.spawner-{old}"));
        until("its socket is removed", || !socket.exists()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exit_that_was_not_put_on_record_is_told_to_the_next_daemon_too() {
    let host = Host::new().await;
    let folder = host.folder.path();
    std::fs::write(folder.join("script"), "echo only; exit 9").unwrap();
    kill_daemon_after(folder, 1).await;
    let mut adopted = host.spawner.adopt_all().await.programs;
    let log = Log::new(&folder.join("log"));
    let (_programs, mut running) = adopted.remove(0).attach(context(log.clone(), "kept"));
    assert_eq!(running.wait().await.status, Status::Code(9));
    assert_eq!(log.text("Stdout"), "only\n");
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
    elsewhere.state = "/".into();
    let other = Spawner::connect(Spawner::launch(elsewhere).unwrap(), Arc::new(SystemClock)).await.unwrap();
    let stale = folder.join("control.sock.spawner-999999999");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    let adoption = host.spawner.adopt_all().await;
    assert!(adoption.programs.is_empty());
    assert_eq!(adoption.problems, [""; 0]);
    assert!(!stale.exists());
    assert!(folder.join(format!("control.sock.spawner-{}", other.pid().await)).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_spawner_is_replaced_and_its_programs_are_ended() {
    let host = Host::new().await;
    let programs = host.programs("one");
    let mut running = programs.start(shell("sleep 1000 & wait")).await.unwrap();
    let pid = i32::try_from(running.pid).unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(host.pid).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    assert_eq!(running.wait().await.status, Status::Unknown);
    let swept = programs.end_all(GRACE).await;
    assert!(swept.ended.iter().any(|one| one.pid == running.pid), "{swept:?}");
    assert!(procfs::stat(pid).is_none_or(|stat| stat.is_zombie()));
    let exit = programs.start(shell("exit 3")).await.unwrap().wait().await;
    assert_eq!(exit.status, Status::Code(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_programs_at_once_all_run_and_nothing_is_left() {
    let host = Host::new().await;
    let all: Vec<_> = (0..1000)
        .map(|number| {
            let programs = host.programs(&format!("job-{number}"));
            tokio::spawn(async move {
                let exit = programs.start(program(&["true"])).await.unwrap().wait().await;
                assert_eq!(exit.status, Status::Code(0));
                assert_eq!(programs.end_all(GRACE).await, Default::default());
            })
        })
        .collect();
    for one in all {
        one.await.unwrap();
    }
    let children = procfs::all().into_iter().filter(|one| one.parent == host.pid).count();
    assert_eq!(children, 0);
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", host.pid)).unwrap().count();
    assert!(descriptors < 10, "the spawner holds {descriptors} descriptors");
    let resident = procfs::resident(host.pid).unwrap();
    println!("the spawner takes {} KiB after a thousand programs", resident / 1024);
}
