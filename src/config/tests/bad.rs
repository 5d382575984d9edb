//! Wrong files.

use std::os::unix::fs::PermissionsExt;

use super::*;

#[test]
fn every_mistake_of_a_file_is_told_at_once() {
    check(
        include_str!("mistakes.yaml"),
        &[
            "1:11 timezone: unknown time zone `Africa/Casablanka` (did you mean `Africa/Casablanca`?)",
            "3:51 postgres.app.tls: `prefered` is not one of `disable`, `prefer`, `require`, `verify-full` (did you \
             mean `prefer`?)",
            "6:20 jobs.db-backup.schedule: `0 0 30 2 *` has no slot within 50 years: no date matches (February has 28 or \
             29 days)",
            "7:5 jobs.db-backup.timout: unknown key `timout` (did you mean `timeout`?)",
            "8:28 jobs.db-backup.pg_dump.connection: unknown connection `ap` (did you mean `app`?)",
            "10:16 jobs.clean.schedule: `61` in the minute field is out of range: 0 to 59 are allowed",
            "11:14 jobs.clean.enabled: expected true or false, found the text `yes` (write true: yes, no, on and off \
             are texts in YAML)",
            "12:23 jobs.clean.command.shell: expected text, found the number 5 (write it in quotes: \"5\")",
            "13:3 jobs.clean: `clean` is here a second time: the first is in line 9 (remove one, or rename it)",
            "16:13 jobs.report.after.0: unknown job `db-bakup` (did you mean `db-backup`?)",
            "17:5 jobs.report.pg_dmp: unknown kind `pg_dmp`: the kinds are command, pg_dump, verify_backup (did you \
             mean `pg_dump`?)",
        ],
    );
}

#[test]
fn a_problem_is_shown_with_its_line_and_a_caret() {
    let problems = read_text("jobs:\n  \"é日\": { timout: 5m, command: { shell: ls } }\n").unwrap_err();
    assert_eq!(
        problems.to_string(),
        "jobs.yaml:2:3: error: `é日` is not a job name: use 1 to 63 of a-z, 0-9, `_` and `-`, beginning with a \
         letter or a digit\n      \"é日\": { timout: 5m, command: { shell: ls } }\n      ^\n\
         jobs.yaml:2:11: error: unknown key `timout`\n      \"é日\": { timout: 5m, command: { shell: ls } }\n\
         \x20              ^\n  hint: did you mean `timeout`?"
    );
    assert_eq!(
        problems.to_json()["problems"][1],
        serde_json::json!({"severity": "error", "line": 2, "column": 11, "path": "jobs.é日.timout",
            "message": "unknown key `timout`", "hint": "did you mean `timeout`?"})
    );
}

#[test]
fn a_file_without_jobs() {
    let hint = "(a file without jobs is refused, as an editor may have cut it short)";
    check("timezone: UTC\n", &[&format!("1:1 jobs: there is no `jobs:` {hint}")]);
    check("jobs:\n", &[&format!("1:1 jobs: `jobs:` holds no job {hint}")]);
    check("jobs: {}\n", &[&format!("1:1 jobs: `jobs:` holds no job {hint}")]);
    check("jobs: [a]\n", &["1:7 jobs: expected a map from names to jobs, found a list"]);
    check("- a\n", &["1:1 : expected a map with `jobs:`, found a list"]);
    let empty = "- : the file is empty (it must hold at least `jobs:`; was it cut short by an editor?)";
    check("", &[empty]);
    check("# only a comment\n\n", &[empty]);
}

#[test]
fn a_job_has_one_kind() {
    let kinds = "command, pg_dump, verify_backup";
    check("jobs:\n  x: {}\n", &[&format!("2:3 jobs.x: the job `x` names no kind: add one of {kinds}")]);
    check("jobs:\n  x:\n", &[&format!("2:3 jobs.x: the job `x` names no kind: add one of {kinds}")]);
    check(
        "jobs:\n  x: { comand: { shell: ls } }\n",
        &[&format!(
            "2:8 jobs.x.comand: unknown kind `comand`: the kinds are {kinds} (did you mean `command`?)"
        )],
    );
    check(
        "jobs:\n  x: { mystery: { a: 1 } }\n",
        &[&format!("2:8 jobs.x.mystery: unknown kind `mystery`: the kinds are {kinds}")],
    );
    check(
        "jobs:\n  x: { command: { shell: ls }, verify_backup: { of: x } }\n",
        &[
            "2:32 jobs.x.verify_backup: a second kind: a job is either `command` or `verify_backup` (make two jobs of it)",
        ],
    );
    check(
        "jobs:\n  x: { command: { shell: ls, run: [ls] } }\n  y: { command: }\n",
        &[
            "2:8 jobs.x.command: give either `run` or `shell`",
            "3:8 jobs.y.command: give either `run` or `shell`",
        ],
    );
    check(
        "jobs:\n  x: { pg_dump: {} }\n",
        &[
            "2:8 jobs.x.pg_dump: the key `connection` is missing",
            "2:8 jobs.x.pg_dump: the key `directory` is missing",
        ],
    );
}

#[test]
fn a_job_has_a_safe_name() {
    let check_name = |name: &str| {
        let problems = read_text(&format!("jobs:\n  {name}: {{ command: {{ shell: ls }} }}\n")).unwrap_err();
        assert_eq!((problems[0].line, problems[0].column), (Some(2), Some(3)));
        assert!(problems[0].message.contains("is not a job name"), "{problems}");
    };
    check_name("../x");
    check_name("Backup");
    check_name("a b");
    check_name("\"\"");
}

#[test]
fn policies_that_types_alone_cannot_judge() {
    let one = |lines: &str, expected: &str| {
        check(&format!("jobs:\n  x:\n    command: {{ shell: ls }}\n    {lines}\n"), &[expected]);
    };
    one("timeout: 0s", "4:14 jobs.x.timeout: a timeout of nothing lets nothing run");
    one("timeout: 30", "4:14 jobs.x.timeout: `30` has no unit: write 30s, 30m, 30h or 30d");
    one("nice: 20", "4:11 jobs.x.nice: expected a whole number from 0 to 19");
    one("nice: -1", "4:11 jobs.x.nice: expected a whole number from 0 to 255, found the number -1");
    one(
        "retries: { attempts: 0 }",
        "4:26 jobs.x.retries.attempts: at least 1 attempt is needed: the first counts",
    );
    one(
        "retries: { backoff: 2m, max_backoff: 1m }",
        "4:42 jobs.x.retries.max_backoff: it is shorter than `backoff`",
    );
    one(
        "retries: { atempts: 2 }",
        "4:16 jobs.x.retries.atempts: unknown key `atempts` (did you mean `attempts`?)",
    );
    one(
        "retries: 3",
        "4:14 jobs.x.retries: expected a map with attempts, backoff, max_backoff, found the number 3",
    );
    one(
        "missed: run_onec",
        "4:13 jobs.x.missed: `run_onec` is not one of `run_once`, `run_all`, `skip` (did you mean `run_once`?)",
    );
    one("missed: { within: 2 }", "4:23 jobs.x.missed.within: `2` has no unit: write 2s, 2m, 2h or 2d");
    one("group: ''", "4:12 jobs.x.group: a group needs a name");
    one(
        "schedule: []",
        "4:15 jobs.x.schedule: an empty list: leave `schedule` out for a job that is run by hand",
    );
    one("schedule: 5", "4:15 jobs.x.schedule: expected text, found the number 5 (write it in quotes: \"5\")");
    one("alert: me", "4:12 jobs.x.alert: expected a list, found the text `me` (write [me])");
    one("alert: [me]", "4:13 jobs.x.alert.0: unknown contact `me` (define it under `contacts:`)");
    one(
        "timezone: Mars/Olympus",
        "4:15 jobs.x.timezone: unknown time zone `Mars/Olympus` (write an IANA name such as Africa/Casablanca or Europe/Paris)",
    );
    one("env: { 'A=B': c }", "4:10 jobs.x.env: the name of a variable is empty or holds `=`");
    one(
        "env: { A: '${evn:X}' }",
        "4:15 jobs.x.env.A: `${evn:…}` is not known: write ${env:NAME}, ${file:PATH} or ${credential:NAME}",
    );
    one(
        "description: '${env:X}'",
        "4:18 jobs.x.description: `${env:X}` can't be used here: only secrets and addresses may refer (write the value itself)",
    );
}

#[test]
fn user_and_env_are_for_commands() {
    check(
        "postgres: { app: { database: d, user: u } }\njobs:\n  x:\n    user: root\n    env: { A: b }\n    \
         pg_dump: { connection: app, directory: /d }\n",
        &[
            "4:5 jobs.x.user: `user` is for `command`: a job of the kind `pg_dump` has none",
            "5:5 jobs.x.env: `env` is for `command`: a job of the kind `pg_dump` has none",
        ],
    );
}

#[test]
fn a_wrong_schedule_is_pointed_at_within_the_text() {
    check(
        "jobs:\n  x:\n    command: { shell: ls }\n    schedule: [\"0 1 * * *\", '*/5 * 32 * *', 0 25 * * *]\n",
        &[
            "4:36 jobs.x.schedule: `32` in the day-of-month field is out of range: 1 to 31 are allowed",
            "4:47 jobs.x.schedule: `25` in the hour field is out of range: 0 to 23 are allowed",
        ],
    );
    // Said once, at the place where it stands, however many jobs inherit it.
    check(
        "defaults: { schedule: 0 24 * * *, timezone: Nowhere/No }\njobs:\n  x: { command: { shell: ls } }\n  \
         y: { command: { shell: ls }, timezone: UTC }\n",
        &[
            "1:25 defaults.schedule: `24` in the hour field is out of range: 0 to 23 are allowed (midnight is hour 0)",
            "1:45 defaults.timezone: unknown time zone `Nowhere/No` (write an IANA name such as Africa/Casablanca or \
             Europe/Paris)",
        ],
    );
}

#[test]
fn jobs_that_come_after_each_other() {
    let jobs = |after: &[(&str, &str)]| {
        let one = |(name, after): &(&str, &str)| {
            format!("  {name}: {{ after: [{after}], command: {{ shell: ls }} }}\n")
        };
        format!("jobs:\n{}", after.iter().map(one).collect::<String>())
    };
    check(&jobs(&[("a", ""), ("b", "a"), ("c", "a, b")]), &[]);
    check(&jobs(&[("a", "a")]), &["2:16 jobs.a.after.0: the job `a` comes after itself"]);
    check(
        &jobs(&[("z", ""), ("a", "z, b"), ("b", "c"), ("c", "a")]),
        &["3:19 jobs.a.after.1: jobs come after each other in a circle: a -> b -> c -> a"],
    );
    check(
        &jobs(&[("a", "b"), ("b", "a"), ("c", "d"), ("d", "c"), ("e", "a")]),
        &[
            "2:16 jobs.a.after.0: jobs come after each other in a circle: a -> b -> a",
            "4:16 jobs.c.after.0: jobs come after each other in a circle: c -> d -> c",
        ],
    );
}

#[test]
fn wrong_sections() {
    let jobs = "jobs: { x: { command: { shell: ls } } }\n";
    let one = |section: &str, expected: &str| check(&format!("{section}\n{jobs}"), &[expected]);
    one("logs: { max_files: 0 }", "1:20 logs.max_files: at least 1 file is needed");
    one("logs: { max_size: 10 }", "1:19 logs.max_size: `10` has no unit: write 10B, 10kB or 10MiB");
    one("logs: { format: xml }", "1:17 logs.format: `xml` is not one of `text`, `json`");
    one("limits: { max_running: 0 }", "1:24 limits.max_running: at least 1 run at once is needed");
    one("postgres: { app: { user: u } }", "1:13 postgres.app: the key `database` is missing");
    one(
        "postgres: { app: { database: d, user: u, port: 70000 } }",
        "1:48 postgres.app.port: expected a whole number from 0 to 65535, found the number 70000",
    );
    one("contacts: {}\nlimit: 5", "2:1 limit: unknown key `limit` (did you mean `limits`?)");
    one(
        "x: 5",
        "1:1 x: unknown key `x` (allowed here: timezone, paths, logs, limits, postgres, contacts, alerts, dashboard, \
         defaults, jobs)",
    );
    let two = |section: &str, expected: &[&str]| check(&format!("{section}\n{jobs}"), expected);
    one("contacts: { me: {} }", "1:17 contacts.me: a contact needs `email` or `webhook`");
    two(
        "contacts: { me: { webhook: { form: slak, url: 'ftp://a', tokn: x } } }\nalerts: { language: de }",
        &[
            "1:36 contacts.me.webhook.form: `slak` is not one of `json`, `slack`, `discord`, `ntfy` (did you mean `slack`?)",
            "1:47 contacts.me.webhook.url: a webhook begins with https:// or http://",
            "1:58 contacts.me.webhook.tokn: unknown key `tokn` (did you mean `token`?)",
            "2:21 alerts.language: `de` is not one of `en`, `fr`",
        ],
    );
    two(
        "contacts: { me: { webhook: { form: discord, url: '${env:URL}', token: '${env:TOKEN}' } } }",
        &["1:71 contacts.me.webhook.token: discord takes no token: its address is the secret"],
    );
    two(
        "alerts: { to: [me] }\ncontacts: { you: { email: a } }",
        &[
            "1:16 alerts.to.0: unknown contact `me` (known: you)",
            "2:27 contacts.you.email: `a` is not an e-mail address",
        ],
    );
}

/// What `load` says of a file.
fn load_error(path: &Path) -> String {
    load(path, &environment()).unwrap_err().to_string().replace(&path.display().to_string(), "F")
}

#[test]
fn files_that_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.yaml");
    assert_eq!(
        load_error(&path),
        "F: error: the file can't be opened: No such file or directory (os error 2)\n  hint: name it with --config \
         PATH or $PUNK_ECO_SCHED_CONFIG"
    );
    assert_eq!(
        load_error(folder.path()),
        "F: error: this is a directory, not a file\n  hint: is it F/jobs.yaml?"
    );
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert_eq!(load_error(&path), "F: error: this is not a regular file");
    std::fs::remove_file(&path).unwrap();

    // Sparse: 100 MB that take no room, and are never read.
    std::fs::File::create(&path).unwrap().set_len(100_000_000).unwrap();
    assert_eq!(
        load_error(&path),
        "F: error: the file is too large: 100000000 bytes or more, where 8388608 is the most\n  hint: is this the right \
         file?"
    );
    std::fs::write(&path, b"jobs:\n  x: caf\xe9\n").unwrap();
    assert_eq!(
        load_error(&path),
        "F: error: the file is not UTF-8: line 2, byte 14 is 0xe9\n  hint: save it as UTF-8"
    );
    std::fs::write(&path, "").unwrap();
    assert!(load_error(&path).starts_with("F: error: the file is empty"), "{}", load_error(&path));
    // Root may read anything; everybody else hears why not.
    if environment().uid != 0 {
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o000)).unwrap();
        assert_eq!(load_error(&path), "F: error: the file can't be opened: Permission denied (os error 13)");
    }
}

#[test]
fn as_root_the_file_must_be_roots_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.yaml");
    std::fs::write(&path, "jobs: { x: { command: { shell: ls } } }\n").unwrap();
    let mut as_root = environment();
    as_root.uid = 0;
    let said = |mode: u32| {
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        match file::read(&path, &as_root) {
            Ok(_) => "fine".into(),
            Err(problems) => problems.to_string().replace(&path.display().to_string(), "F"),
        }
    };
    if environment().uid == 0 {
        assert_eq!((said(0o644), said(0o400)), ("fine".into(), "fine".into()));
        let writable = "F: error: the file is writable by others than root (mode";
        assert!(said(0o664).starts_with(&format!("{writable} 0664)")), "{}", said(0o664));
        assert!(said(0o646).starts_with(&format!("{writable} 0646)")), "{}", said(0o646));
        std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
        assert!(said(0o644).starts_with("F: error: the file belongs to user 65534"), "{}", said(0o644));
    } else {
        let own = format!("F: error: the file belongs to user {}", environment().uid);
        assert!(said(0o644).starts_with(&own), "{}", said(0o644));
    }
    // Who isn't root can run nothing that its writer couldn't.
    let mut as_user = environment();
    as_user.uid = 1000;
    assert!(file::read(&path, &as_user).is_ok());
}

#[test]
fn files_that_would_cost_time_or_memory() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let items = vec![format!("*a{}", level - 1); 9].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{items}]\n"));
    }
    let million = format!("jobs: [{}]\n", vec!["1"; 1_000_000].join(","));
    for text in [bomb, million] {
        let problems = read_text(&text).unwrap_err();
        let message = "the file holds more than 500000 values (aliases counted as what they stand for)";
        assert_eq!(problems[0].message, message);
        assert_eq!(problems.len(), 1);
    }
    let deep = format!("jobs: {}1{}\n", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(read_text(&deep).unwrap_err()[0].message, "nested more than 48 levels deep");
    // As many problems as values must not take the square of them.
    let numbers = vec!["1"; 20_000].join(",");
    let wrong = format!("jobs: {{ x: {{ command: {{ run: [{numbers}] }} }} }}\n");
    assert_eq!(read_text(&wrong).unwrap_err().len(), 100);
}

#[test]
fn what_is_no_yaml() {
    check("jobs:\n\tx: 1\n", &["2:1 : a tab is used for indentation: YAML wants spaces"]);
    check("jobs: {}\n---\njobs: {}\n", &["2:1 : a second document begins here: the file must hold one"]);
    check("jobs: [\n", &["1:7 : this is not YAML: unclosed bracket '['"]);
    check(
        "jobs:\n  x:\n    schedule: * * * * *\n",
        &[
            "3:15 : this is not YAML: while scanning an anchor or alias, did not find expected alphabetic or numeric \
            character (write it in quotes: \"* * * * *\")",
        ],
    );
    check(
        "jobs:\n  x:\n    schedule: @daily\n",
        &["3:15 : this is not YAML: unexpected character: `@' (write it in quotes: \"@daily\")"],
    );
    check(
        "jobs: *nothing\n",
        &[
            "1:7 : `*nothing` stands for nothing: no `&nothing` comes before it (write it in quotes: \"*nothing\")",
        ],
    );
    check("jobs: &a [*a]\n", &["1:11 : an alias inside of what it stands for"]);
    check(
        "x: &a { command: { shell: ls } }\njobs: { x: *a }\n",
        &[
            "1:1 x: unknown key `x` (allowed here: timezone, paths, logs, limits, postgres, contacts, alerts, dashboard, \
            defaults, jobs)",
        ],
    );
}

#[test]
fn the_nearest_zone_is_not_looked_for_without_end() {
    let jobs: String = (0..300)
        .map(|n| {
            format!("  x{n}: {{ timezone: Europe/Pari{n}, schedule: '@daily', command: {{ shell: ls }} }}\n")
        })
        .collect();
    let problems = read_text(&format!("jobs:\n{jobs}")).unwrap_err();
    assert_eq!(
        (problems.len(), problems.iter().filter(|problem| problem.hint.is_some()).count()),
        (300, 100)
    );
    // The same name again costs no second look.
    let jobs: String = (0..200)
        .map(|n| {
            format!("  x{n}: {{ timezone: Europe/Pari, schedule: '@daily', command: {{ shell: ls }} }}\n")
        })
        .collect();
    let problems = read_text(&format!("jobs:\n{jobs}")).unwrap_err();
    assert!(problems.iter().all(|problem| problem.hint.as_deref() == Some("did you mean `Europe/Paris`?")));
    assert_eq!(problems.len(), 200);
}

#[test]
fn heartbeats() {
    let check = |heartbeat: &str, expected: &[&str]| {
        check(&format!("jobs:\n  x: {{ command: {{ shell: ls }}, heartbeat: {heartbeat} }}\n"), expected);
    };
    check("'https://a.example/{job}?key=1'", &[]);
    check("'${file:/etc/url}/{job}'", &[]);
    check("none", &[]);
    check("{ url: '${env:URL}', only: success }", &[]);
    let none = "relative URL without a base: it begins with http:// or https://";
    check("a.example/x", &[&format!("2:43 jobs.x.heartbeat: not the URL of a heartbeat: {none}")]);
    check(
        "{ url: 'ftp://a.example/x' }",
        &["2:50 jobs.x.heartbeat.url: not the URL of a heartbeat: ftp: is neither http nor https"],
    );
    check(
        "{ url: 'https://a/', only: fail }",
        &["2:70 jobs.x.heartbeat.only: `fail` is not one of `success`"],
    );
    check("{ only: success }", &["2:32 jobs.x.heartbeat: the key `url` is missing"]);
    check(
        "'${flie:/x}'",
        &[
            "2:43 jobs.x.heartbeat: `${flie:…}` is not known: write ${env:NAME}, ${file:PATH} or ${credential:NAME}",
        ],
    );
}
