//! What programs write and how they end, as the job sees it.

use super::*;

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
    let mut flood = shell(&format!("yes {} | head -c {MEGABYTES}M; echo the end >&2", "a".repeat(99)));
    flood.max_output = Some(1 << 20);
    let mut running = host.programs("one").start(flood).await.unwrap();
    let before = procfs::resident(host.pid).unwrap();
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
    assert!(exit.written >= MEGABYTES << 20, "{}", exit.written);
    let logged = host.log("one").text("Stdout").len() as u64;
    assert_eq!(logged, 1 << 20);
    assert_eq!(exit.dropped, exit.written - logged);
    assert_eq!(
        host.log("one").text("Note"),
        format!("{} bytes of output were dropped: more than `max_output` allows\n", exit.dropped)
    );
    let most = most.load(std::sync::atomic::Ordering::Relaxed);
    assert!(most < before + (8 << 20), "the spawner grew from {before} to {most} bytes");
}
