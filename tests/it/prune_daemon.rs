//! `prune_backups` as an operator meets it: a look with --dry-run, then the deed, and the log of both.

use punk_eco_sched::clock::{Clock, SystemClock};

use crate::support::daemon::{Host, text};
use crate::support::job::{SmallDisk, names};

/// So many days before now, as names of backups have it.
fn name(days_ago: i64) -> String {
    let time = SystemClock.now() - jiff::SignedDuration::from_hours(24 * days_ago);
    format!("shop-{}.sql.gz", time.strftime("%Y%m%dT%H%M%SZ"))
}

fn host(options: &str) -> Host {
    let host = Host::new("");
    std::fs::create_dir_all(host.path("dumps")).unwrap();
    table(&host, options);
    host
}

fn table(host: &Host, options: &str) {
    host.write_jobs(&format!(
        "  retention:\n    prune_backups: {{ directory: {}, require_newer_verified: false{options} }}\n",
        host.path("dumps").display()
    ));
}

/// What the run-now said, of these verbs, in order of the names.
fn said(output: &std::process::Output) -> Vec<String> {
    let all = text(&output.stdout) + &text(&output.stderr);
    let verbs =
        ["kept ", "would delete ", "deleted shop", "could not delete ", "not deleted, though ", "kept: "];
    let mut found: Vec<String> = all
        .lines()
        .filter_map(|line| {
            let at = verbs.iter().filter_map(|verb| line.find(verb)).min()?;
            line.contains(".sql.gz").then(|| line[at..].to_owned())
        })
        .collect();
    found.sort();
    found
}

#[test]
fn a_dry_run_and_the_deed_name_each_file_with_its_reason() {
    let host = host(", older_than: 30d, keep_at_least: 2, max_deletions: 60%");
    let days = [40, 50, 60, 5, 1];
    let files = days.map(name);
    for file in &files {
        std::fs::write(host.path("dumps").join(file), "1234").unwrap();
    }
    let [forty, fifty, sixty, five, one] = &files;
    let daemon = host.daemon();
    let before = names(&host.path("dumps"));
    let kept = [format!("kept {five}: only 5d old"), format!("kept {one}: only 1d old")];
    let expected = |verb: &str| {
        let mut lines = kept.to_vec();
        lines.extend(
            [(forty, 40), (fifty, 50), (sixty, 60)].map(|(file, days)| format!("{verb} {file}: {days}d old")),
        );
        lines.sort();
        lines
    };
    let dry = host.cli(&["run-now", "retention", "--dry-run"]);
    assert_eq!(dry.status.code(), Some(0));
    assert_eq!(said(&dry), expected("would delete"));
    assert_eq!(names(&host.path("dumps")), before);

    table(&host, ", older_than: 30d, keep_at_least: 2, max_deletions: 59%");
    assert!(host.cli(&["reload"]).status.success());
    let refused = host.cli(&["run-now", "retention"]);
    assert_eq!(refused.status.code(), Some(1));
    let row = &host.history("retention")[0];
    let error = row["attempts"][0]["error"].as_str().unwrap();
    assert!(error.starts_with("nothing was deleted: 3 of 5 backups in "), "{error}");
    assert!(error.contains("are due to go (60%), and max_deletions is 59%"), "{error}");
    assert_eq!(names(&host.path("dumps")), before);

    // The newest are kept whatever their age.
    table(&host, ", older_than: 12h, keep_at_least: 4, max_deletions: 60%");
    assert!(host.cli(&["reload"]).status.success());
    let dry = said(&host.cli(&["run-now", "retention", "--dry-run"]));
    assert!(
        dry.contains(&format!("kept {fifty}: number 4 of the 4 newest that are always kept")),
        "{dry:#?}"
    );

    table(&host, ", older_than: 30d, keep_at_least: 2, max_deletions: 60%");
    assert!(host.cli(&["reload"]).status.success());
    let done = host.cli(&["run-now", "retention"]);
    assert_eq!(done.status.code(), Some(0));
    assert_eq!(said(&done), expected("deleted"));
    assert_eq!(names(&host.path("dumps")).len(), 2);
    assert_eq!(host.history("retention")[0]["facts"]["deleted"], 3);
    assert!(daemon.stop().success());
}

#[test]
fn links_and_other_file_systems_are_passed_over_and_a_file_that_stays_fails_the_run() {
    let host = host(", older_than: 30d, keep_at_least: 0, max_deletions: 100%");
    let dumps = host.path("dumps");
    let outside = host.path("outside");
    std::fs::create_dir(&outside).unwrap();
    let [old, stays, linked, mounted] = [40, 50, 60, 70].map(name);
    for file in [dumps.join(&old), dumps.join(&stays), outside.join(&linked)] {
        std::fs::write(file, "1234").unwrap();
    }
    std::os::unix::fs::symlink(outside.join(&linked), dumps.join(&linked)).unwrap();
    std::os::unix::fs::symlink(&outside, dumps.join("link")).unwrap();
    let Some(_disk) = SmallDisk::mount(&dumps.join("disk"), "1m") else { return };
    std::fs::write(dumps.join("disk").join(&mounted), "1234").unwrap();
    // Nobody can remove what something is mounted on.
    let busy = dumps.join(&stays);
    rustix::mount::mount_bind(&busy, &busy).unwrap();
    let daemon = host.daemon();
    let run = host.cli(&["run-now", "retention"]);
    let log = host.log("retention");
    rustix::mount::unmount(&busy, rustix::mount::UnmountFlags::DETACH).unwrap();

    assert_eq!(run.status.code(), Some(1));
    let row = &host.history("retention")[0];
    assert_eq!(
        row["attempts"][0]["error"],
        format!(
            "deleted 1 backups, but 1 could not be deleted: {stays}: Device or resource busy (os error 16)"
        )
    );
    for line in [
        format!("deleted {old}: 40d old"),
        format!("could not delete {stays}: Device or resource busy (os error 16)"),
        format!("{linked} passed over: a symbolic link, which is never followed"),
        "disk passed over: another file system, which is never entered".to_owned(),
    ] {
        assert!(log.contains(&line), "{line}: {log}");
    }
    assert_eq!(names(&dumps), {
        let mut left = vec!["disk".to_owned(), "link".to_owned(), stays, linked.clone()];
        left.sort();
        left
    });
    assert_eq!(names(&outside), [linked]);
    assert_eq!(names(&dumps.join("disk")), [mounted]);
    assert!(daemon.stop().success());
}
