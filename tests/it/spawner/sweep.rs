//! Nothing outlives its run, whatever it does.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_program_leaves_behind_ends_with_it_and_does_not_hold_up_its_end() {
    let host = Host::new().await;
    let programs = host.programs("one");
    // Holds both pipes open, and would for a long time. Ends first when the other is what it is to be.
    let holds = r#"sleep 1000 & while [ "$(cat /proc/$!/comm)" != sleep ]; do :; done; echo done"#;
    let exit = programs.start(shell(holds)).await.unwrap().wait().await;
    assert_eq!((exit.status, text(&exit.stdout)), (Status::Code(0), "done\n".into()));
    let swept = programs.end_all(GRACE).await;
    let names: Vec<&str> = swept.ended.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["sleep"]);
    assert_eq!(swept.survivors, []);
    // Holds nothing.
    let holds = r#"sleep 1000 >/dev/null 2>&1 & while [ "$(cat /proc/$!/comm)" != sleep ]; do :; done"#;
    programs.start(shell(holds)).await.unwrap().wait().await;
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
        // Ends before what it leaves behind has looked around, which is then told to end at once.
        format!("trap '' TERM; (setsid sh -c '{stubborn}' &) & wait"),
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
    let hidden = "env -i setsid prlimit --rttime=unlimited sh -c 'setsid sleep 1000 & exit 0' >/dev/null 2>&1; sleep 0.05";
    programs.start(shell(hidden)).await.unwrap().wait().await;
    later.start(program(&["sleep", "1000"])).await.unwrap();
    programs.end_all(GRACE).await;
    assert_eq!(host.descendants(), ["sleep"]);
    later.end_all(GRACE).await;
    assert_eq!(host.descendants(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_left_its_session_its_environment_and_its_output_is_known_beside_an_older_run() {
    let host = Host::new().await;
    let older = host.programs("older");
    older.start(program(&["sleep", "1000"])).await.unwrap();
    let programs = host.programs("one");
    let hidden = "env -i setsid sh -c 'setsid sleep 1001 & exit 0' >/dev/null 2>&1; sleep 0.05";
    programs.start(shell(hidden)).await.unwrap().wait().await;
    let swept = programs.end_all(GRACE).await;
    assert_eq!((swept.ended.len(), swept.survivors.len()), (1, 0), "{swept:?}");
    assert_eq!(host.descendants(), ["sleep"]);
    older.end_all(GRACE).await;
    assert_eq!(host.descendants(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_spawner_is_replaced_and_what_can_not_outlive_it_is_ended() {
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
    // One more where a cgroup is delegated.
    assert!(descriptors <= 10, "the spawner holds {descriptors} descriptors");
    let resident = procfs::resident(host.pid).unwrap();
    println!("the spawner takes {} KiB after a thousand programs", resident / 1024);
}
