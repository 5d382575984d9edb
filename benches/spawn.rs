//! What a second process as the parent of all programs costs: starts `/bin/true` N times through the spawner, from
//! this process itself, and in a bare loop, in turn, and prints the table of ARCHITECTURE.md.
//!
//! `cargo bench --bench spawn [-- N ROUNDS]`

#![expect(clippy::disallowed_methods, reason = "the peers of the spawner start programs directly")]
#![expect(clippy::print_stdout, reason = "a bench prints its table")]
#![expect(clippy::unwrap_used, reason = "a bench that can't go on has failed")]

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use punk_eco_sched::clock::SystemClock;
use punk_eco_sched::host::process::{Keep, Output, Program, ProgramContext};
use punk_eco_sched::logs::RunLog;
use punk_eco_sched::model::{JobName, RunId};
use punk_eco_sched::spawner::{Settings, Spawner};

/// Memory that a daemon of some size would have: what fork(2) would have to copy the tables of.
const BALLAST: usize = 16 << 20;

/// The last start, and until everything had ended.
type Taken = (Duration, Duration);

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse::<i64>().ok());
    let count = numbers.next().unwrap_or(1000);
    let rounds = numbers.next().unwrap_or(5);
    let folder = std::env::temp_dir().join(format!("punk-eco-sched-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut settings = Settings::new(folder.join("control.sock"), folder.clone());
    settings.executable = env!("CARGO_BIN_EXE_punk-eco-sched").into();
    let launched = Spawner::launch(settings).unwrap();
    let ballast = vec![1_u8; BALLAST];
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let spawner = runtime.block_on(Spawner::connect(launched, Arc::new(SystemClock))).unwrap();
    let mut taken: [Vec<Taken>; 3] = Default::default();
    for round in 0..rounds {
        taken[0].push(bare(count));
        taken[1].push(runtime.block_on(direct(count)));
        taken[2].push(runtime.block_on(spawned(&spawner, count, round)));
    }
    println!("| {count} × `/bin/true`, median of {rounds} | last start | all ended | last start, × bare |");
    println!("| --- | --- | --- | --- |");
    let floor = median(&taken[0], |one| one.0);
    for (what, taken) in
        ["bare loop", "from this process, output piped", "through the spawner"].iter().zip(&taken)
    {
        let (last, ended) = (median(taken, |one| one.0), median(taken, |one| one.1));
        println!("| {what} | {:.1} ms | {:.1} ms | {:.2} |", last * 1e3, ended * 1e3, last / floor);
    }
    drop(ballast);
    drop(runtime);
    let _ = std::fs::remove_dir_all(&folder);
}

fn median(taken: &[Taken], which: impl Fn(&Taken) -> Duration) -> f64 {
    let mut seconds: Vec<f64> = taken.iter().map(|one| which(one).as_secs_f64()).collect();
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn program(output: impl Fn() -> Stdio) -> Child {
    let mut command = Command::new("/bin/true");
    command
        .env_clear()
        .stdin(Stdio::null())
        .stdout(output())
        .stderr(output())
        .process_group(0)
        .spawn()
        .unwrap()
}

fn bare(count: i64) -> Taken {
    let start = Instant::now();
    let mut children: Vec<Child> = (0..count).map(|_| program(Stdio::null)).collect();
    let last = start.elapsed();
    children.iter_mut().for_each(|child| drop(child.wait()));
    (last, start.elapsed())
}

async fn direct(count: i64) -> Taken {
    let start = Instant::now();
    let one = || {
        tokio::spawn(async move {
            let child = program(Stdio::piped);
            let at = start.elapsed();
            tokio::task::spawn_blocking(move || drain(child)).await.unwrap();
            at
        })
    };
    finish(start, (0..count).map(|_| one()).collect()).await
}

async fn spawned(spawner: &Spawner, count: i64, round: i64) -> Taken {
    let start = Instant::now();
    let one = |number: i64| {
        let programs = spawner.programs(ProgramContext {
            job: JobName::new(&format!("job-{number}")).unwrap(),
            run: RunId(round * count + number),
            attempt: 1,
            slot: None,
            account: None,
            origin: None,
            env: vec![],
            nice: 0,
            io: None,
            log: Arc::new(RunLog::memory()),
        });
        tokio::spawn(async move {
            let (env, _) = programs.login_environment();
            let program = Program {
                argv: vec!["/bin/true".into()],
                env,
                stdout: Output::Log { tail: 4096 },
                stderr: Output::Log { tail: 4096 },
                keep: Some(Keep { success_codes: vec![0], deadline: None }),
                ..Program::default()
            };
            let mut running = programs.start(program).await.unwrap();
            let at = start.elapsed();
            running.wait().await;
            programs.end_all(Duration::from_secs(1)).await;
            at
        })
    };
    finish(start, (0..count).map(one).collect()).await
}

async fn finish(start: Instant, tasks: Vec<tokio::task::JoinHandle<Duration>>) -> Taken {
    let mut last = Duration::ZERO;
    for task in tasks {
        last = last.max(task.await.unwrap());
    }
    (last, start.elapsed())
}

/// Reads what it says to the end, then waits: what a daemon has to do.
fn drain(mut child: Child) {
    let mut said = vec![];
    let _ = child.stdout.take().map(|mut pipe| pipe.read_to_end(&mut said));
    let _ = child.stderr.take().map(|mut pipe| pipe.read_to_end(&mut said));
    child.wait().unwrap();
}
