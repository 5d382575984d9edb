//! How programs are started, and what is said where they can't be.

use super::*;

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
    // Only root can change users.
    if crate::support::missing::lacks_root() {
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
