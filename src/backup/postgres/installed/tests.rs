use std::os::unix::fs::PermissionsExt;

use super::*;

fn program(path: &Path) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn the_program_of_the_server_s_version_is_chosen_and_one_that_the_path_names_goes_before() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    for version in ["13", "15", "17"] {
        program(&at(&format!("lib/{version}/bin/pg_dump")));
    }
    std::fs::create_dir(at("lib/18")).unwrap();
    program(&at("share/pg_wrapper"));
    std::fs::create_dir(at("bin")).unwrap();
    std::os::unix::fs::symlink("../share/pg_wrapper", at("bin/pg_dump")).unwrap();
    program(&at("own/pg_dump"));
    let check = |path: Option<&str>, server: u32, expected: &str| {
        let path = path.map(|folder| format!("relative::{}", at(folder).display()));
        assert_eq!(choose(path.as_deref(), &at("lib"), server), Some(at(expected)), "{path:?} {server}");
    };
    check(None, 15, "lib/15/bin/pg_dump");
    check(None, 14, "lib/15/bin/pg_dump");
    check(None, 9, "lib/13/bin/pg_dump");
    check(None, 18, "lib/17/bin/pg_dump");
    check(Some("bin"), 15, "lib/15/bin/pg_dump");
    check(Some("own"), 15, "own/pg_dump");
    assert_eq!(choose(None, &at("nowhere"), 15), None);
}

#[test]
fn a_beta_has_a_version_too_and_other_words_have_none() {
    assert_eq!(version_of("pg_dump (PostgreSQL) 18beta1").unwrap().1, 18);
    assert_eq!(version_of("something else"), None);
}
