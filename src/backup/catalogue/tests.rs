use super::*;

fn check(files: &[(&str, &str)], pattern: &str, expected: &[(&[&str], &str, Option<&str>)]) {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    let root = files::open_directory(folder.path()).unwrap();
    let found = search(&root, &Pattern::new(pattern).unwrap(), &CancellationToken::new()).unwrap();
    let mut got: Vec<(Vec<String>, String, Option<String>)> = found
        .folders
        .iter()
        .flat_map(|folder| &folder.backups)
        .map(|backup| {
            let files = backup.files.iter().map(|name| String::from_utf8(name.to_vec()).unwrap()).collect();
            let time = backup.candidate.time.as_ref().ok().map(ToString::to_string);
            (files, backup.candidate.database.to_string(), time)
        })
        .collect();
    got.sort();
    let expected: Vec<(Vec<String>, String, Option<String>)> = expected
        .iter()
        .map(|(files, database, time)| {
            let files = files.iter().map(|name| (*name).to_owned()).collect();
            (files, (*database).to_owned(), time.map(str::to_owned))
        })
        .collect();
    assert_eq!(got, expected);
}

fn manifest(file: &str) -> String {
    format!(
        r#"{{"format_version": 1, "database": "my shop", "started_at": "2026-01-02T03:04:05Z", "file": "{file}"}}"#
    )
}

#[test]
fn a_dump_its_manifest_and_its_roles_are_one_backup() {
    check(
        &[
            ("shop-20261122T230000Z.sql.gz", ""),
            ("shop-20261122T230000Z.roles.sql.gz", ""),
            ("shop-20261122T230000Z.manifest.json", &manifest("shop-20261122T230000Z.sql.gz")),
            ("shop-20261123T230000Z-2.sql.gz", ""),
            ("my-db-20261124T230000Z.roles.sql.gz", ""),
            (".shop-20261122T230000Z.sql.gz.partial-1-1", ""),
            ("readme.txt", ""),
        ],
        "*.sql.gz",
        &[
            (&["my-db-20261124T230000Z.roles.sql.gz"], "my-db", Some("2026-11-24T23:00:00Z")),
            (
                &[
                    "shop-20261122T230000Z.manifest.json",
                    "shop-20261122T230000Z.roles.sql.gz",
                    "shop-20261122T230000Z.sql.gz",
                ],
                "my shop",
                Some("2026-01-02T03:04:05Z"),
            ),
            (&["shop-20261123T230000Z-2.sql.gz"], "shop", Some("2026-11-23T23:00:00Z")),
        ],
    );
}

#[test]
fn what_lies_beside_a_dump_that_the_pattern_leaves_out_stays_with_it() {
    check(&[("a-20261122T230000Z.dump", ""), ("a-20261122T230000Z.roles.sql.gz", "")], "*.sql.gz", &[]);
    check(
        &[("a.sql", ""), ("a.sql.gz", ""), ("a.manifest.json", &manifest("a.sql.gz"))],
        "*.sql.gz",
        &[(&["a.sql.gz"], "my shop", Some("2026-01-02T03:04:05Z"))],
    );
}

#[test]
fn a_manifest_that_says_nothing_or_something_else_leaves_the_backup_unjudged() {
    for content in ["{", "", "{}", &manifest("b.sql.gz")] {
        check(
            &[("a-20200101T000000Z.sql.gz", ""), ("a-20200101T000000Z.manifest.json", content)],
            "*.sql.gz",
            &[(&["a-20200101T000000Z.manifest.json", "a-20200101T000000Z.sql.gz"], "a", None)],
        );
    }
}

#[test]
fn a_folder_that_was_swapped_since_is_not_entered() {
    let folder = tempfile::tempdir().unwrap();
    let below = folder.path().join("below");
    std::fs::create_dir(&below).unwrap();
    std::fs::write(below.join("a.sql.gz"), "").unwrap();
    let root = files::open_directory(folder.path()).unwrap();
    let found = search(&root, &Pattern::new("*").unwrap(), &CancellationToken::new()).unwrap();
    let found = found.folders.iter().find(|found| found.path == Path::new("below")).unwrap();
    assert!(reopen(&root, found).is_ok());
    std::fs::rename(&below, folder.path().join("moved")).unwrap();
    std::os::unix::fs::symlink("moved", &below).unwrap();
    assert!(reopen(&root, found).is_err());
    std::fs::remove_file(&below).unwrap();
    std::fs::create_dir(&below).unwrap();
    let error = reopen(&root, found).unwrap_err().to_string();
    assert_eq!(error, "the folder was replaced while it was looked at");
}

#[test]
fn an_encrypted_dump_and_what_lies_beside_it_are_one_backup_and_match_as_what_they_are_inside() {
    check(
        &[
            ("a-20261122T230000Z.sql.gz.age", ""),
            ("a-20261122T230000Z.roles.sql.gz.age", ""),
            ("a-20261122T230000Z.manifest.json", &manifest("a-20261122T230000Z.sql.gz.age")),
            ("letter.age", ""),
        ],
        "*.sql.gz",
        &[(
            &[
                "a-20261122T230000Z.manifest.json",
                "a-20261122T230000Z.roles.sql.gz.age",
                "a-20261122T230000Z.sql.gz.age",
            ],
            "my shop",
            Some("2026-01-02T03:04:05Z"),
        )],
    );
}

#[test]
fn what_a_backup_is_good_for_is_read_from_its_manifest() {
    let standing = |more: &str| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.sql"), "1234").unwrap();
        let text = manifest("a.sql").replace('}', &format!("{more}}}"));
        std::fs::write(folder.path().join("a.manifest.json"), text).unwrap();
        let root = files::open_directory(folder.path()).unwrap();
        let found = search(&root, &Pattern::new("*.sql").unwrap(), &CancellationToken::new()).unwrap();
        let candidate = found.folders[0].backups[0].candidate.clone();
        candidate.time.map(|_| candidate.standing).map_err(String::from)
    };
    let proof = |state: &str, more: &str| format!(r#", "proof": {{"state": "{state}"{more}}}"#);
    assert_eq!(standing(""), Ok(Standing::Unproven));
    for (state, expected) in [
        ("written", Standing::Unproven),
        ("read_back", Standing::Unproven),
        ("verified", Standing::Verified),
        ("damaged", Standing::Doubtful),
        ("of a later version", Standing::Unproven),
    ] {
        assert_eq!(standing(&proof(state, "")), Ok(expected), "{state}");
        assert_eq!(
            standing(&proof(state, r#", "suspect": ["its rows fell"]"#)),
            Ok(Standing::Doubtful),
            "{state}"
        );
    }
    // However it was verified: the file is not what it was then.
    let cut = standing(&format!(r#", "bytes": 5{}"#, proof("verified", "")));
    assert_eq!(
        cut,
        Err("its manifest a.manifest.json says 5 bytes of a.sql, which has 4: look at it, or delete the backup by hand"
            .to_owned())
    );
    assert_eq!(standing(&format!(r#", "bytes": 4{}"#, proof("verified", ""))), Ok(Standing::Verified));
}
