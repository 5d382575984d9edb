//! Verbs that need no daemon, and what is said where one is missing.

use super::{Place, ended};

const VERBS: [&str; 23] = [
    "daemon",
    "check",
    "list",
    "next",
    "run-now",
    "status",
    "reload",
    "pause",
    "resume",
    "cancel",
    "alert-test",
    "edit",
    "history",
    "show",
    "logs",
    "audit",
    "why",
    "backups",
    "verify",
    "restore",
    "schema",
    "completions",
    "man",
];

#[test]
fn help() {
    let place = Place::new();
    let check = |name: &str, arguments: &[&str]| {
        let ended = place.run(arguments);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{name}");
        insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(format!("help_{name}"), ended.stdout);
        });
    };
    check("all", &["--help"]);
    for verb in VERBS {
        check(verb, &[verb, "--help"]);
    }
    check("restore_files", &["restore", "files", "--help"]);
    check("restore_db", &["restore", "db", "--help"]);
}

#[test]
fn the_version() {
    let version = format!("punk-eco-sched {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(Place::new().run(&["--version"]), ended(0, &version, ""));
}

#[test]
fn a_wrong_command_line_has_exit_code_2_and_says_what_is_wrong() {
    let place = Place::new();
    let check = |arguments: &[&str], expected: &str| {
        let ended = place.run(arguments);
        let first = ended.stderr.lines().next().unwrap_or_default();
        assert_eq!((ended.code, ended.stdout.as_str(), first), (2, "", expected), "{arguments:?}");
    };
    check(&["nxt"], "error: unrecognized subcommand 'nxt'");
    check(&["list", "--jsn"], "error: unexpected argument '--jsn' found");
    check(&["pause"], "error: the following required arguments were not provided:");
    check(&["pause", "a", "--all"], "error: the argument '[JOB]' cannot be used with '--all'");
    check(
        &["pause", "a", "--for", "5"],
        "error: invalid value '5' for '--for <DURATION>': `5` has no unit: write 5s, 5m, 5h or 5d",
    );
    check(
        &["cancel", "db"],
        "error: invalid value 'db' for '<RUN>': a run is a number, as `punk-eco-sched history` shows it",
    );
    check(&["next", "-n", "0"], "error: invalid value '0' for '-n <COUNT>': 0 is not in 1..=100000");
    check(
        &["history", "--outcome", "ok"],
        "error: invalid value 'ok' for '--outcome <OUTCOME>': use one of running, succeeded, failed, timed_out, cancelled, interrupted, skipped",
    );
    check(
        &["next", "--expr", "* * * *"],
        "error: --expr: `* * * *` has 4 fields: needed are five (minute hour day-of-month month day-of-week), or six with seconds first",
    );
    check(
        &["next", "--expr", "0 0 30 2 *"],
        "error: --expr: `0 0 30 2 *` has no slot within 50 years: no date matches",
    );
    check(
        &["next", "--expr", "-5 * * * *"],
        "error: --expr: `-5` in the minute field lacks a value: 0 to 59 are allowed",
    );
    check(
        &["next", "--expr", "@reboot"],
        "error: `@reboot` has no slot that could be foretold: @reboot is due once a boot",
    );
    check(
        &["next", "--expr", "@daily", "--from", "soon"],
        "error: --from: `soon` is not a time: write it like 2026-03-28T22:00:00Z, `2026-03-28 22:00`, 2026-03-28, 22:00, now, today, yesterday, -2h or `2h ago`",
    );
    check(
        &["next", "--expr", "@daily", "--timezone", "Europe/Pariss"],
        "error: --timezone: `Europe/Pariss` is not a zone of this system's tz database",
    );
    check(&["--config", "HERE.yaml", "status"], "error: HERE.yaml: No such file or directory (os error 2)");
}

#[test]
fn slots_of_an_expression() {
    let check = |arguments: &[&str], expected: &str| {
        let arguments = [&["next", "--expr"], arguments].concat();
        assert_eq!(Place::new().run(&arguments), ended(0, expected, ""), "{arguments:?}");
    };
    check(
        &["30 2 * * *", "--timezone", "Europe/Paris", "--from", "2026-03-28T22:00:00Z", "-n", "2", "--json"],
        r#"[
  {
    "job": null,
    "slot": "2026-03-29T01:00:00Z",
    "local": "2026-03-29T03:00:00+02:00"
  },
  {
    "job": null,
    "slot": "2026-03-30T00:30:00Z",
    "local": "2026-03-30T02:30:00+02:00"
  }
]
"#,
    );
    // The time is read in the zone of the schedule, and the slot lies after it.
    check(
        &["0 12 * * *", "--timezone", "Africa/Lagos", "--from", "2026-11-22 12:00", "-n", "1", "--json"],
        r#"[
  {
    "job": null,
    "slot": "2026-11-23T11:00:00Z",
    "local": "2026-11-23T12:00:00+01:00"
  }
]
"#,
    );
}

#[test]
fn a_hint_names_the_nearest_zone() {
    let ended = Place::new().run(&["next", "--expr", "@daily", "--timezone", "Europe/Pariss"]);
    assert_eq!(ended.stderr.lines().last(), Some("hint: did you mean Europe/Paris?"));
}

#[test]
fn without_a_daemon_the_exit_code_is_3_and_the_socket_is_named() {
    let place = Place::new().with_table();
    let check = |arguments: &[&str]| {
        assert_eq!(
            place.run(arguments),
            ended(
                3,
                "",
                "error: no daemon answers on HERE/control.sock: there is no such socket\n\
                 hint: is it running? `systemctl status punk-eco-sched`\n"
            ),
            "{arguments:?}"
        );
    };
    check(&["status"]);
    check(&["status", "--json"]);
    check(&["reload"]);
    check(&["pause", "hello"]);
    check(&["resume", "--all"]);
    check(&["cancel", "7"]);
    // No file, nothing named: the usual socket.
    let place = Place::new();
    let mut command = place.command(&["status"]);
    command.env("RUNTIME_DIRECTORY", "/nowhere/a:/nowhere/b");
    let ended = place.ended(command);
    assert_eq!(
        ended.stderr.lines().next(),
        Some("error: no daemon answers on /nowhere/a/control.sock: there is no such socket")
    );
}

#[test]
fn a_reader_that_has_had_enough_is_no_error() {
    let place = Place::new();
    let script = format!(
        "{{ '{}' next --expr '* * * * *' -n 50000 --json; echo $? >&2; }} | head -n 1",
        assert_cmd::cargo::cargo_bin!("punk-eco-sched").display()
    );
    let mut command = assert_cmd::Command::new("/bin/sh");
    command.args(["-c", &script]);
    assert_eq!(place.ended(command), ended(0, "[\n", "0\n"));
}

#[test]
fn completions_for_every_shell() {
    let place = Place::new();
    for (shell, mark) in
        [("bash", "complete -F"), ("zsh", "#compdef punk-eco-sched"), ("fish", "complete -c punk-eco-sched")]
    {
        let ended = place.run(&["completions", shell]);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
        assert!(ended.stdout.contains(mark) && ended.stdout.contains("run-now"), "{shell}");
    }
}

#[test]
fn the_manual_page_has_every_verb() {
    let ended = Place::new().run(&["man"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    assert_eq!(ended.stdout.matches("\n.TH ").count(), 1);
    for verb in VERBS {
        assert!(ended.stdout.contains(&format!("\n.SH \"{}\"\n", verb.to_uppercase())), "{verb}");
    }
    assert!(ended.stdout.contains("\n.SH \"EXIT STATUS\"\n"));
}
