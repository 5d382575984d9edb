//! `edit`, with editors that are a line of shell.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::{Ended, Place, ended};

fn edit(place: &Place, editor: &str) -> Ended {
    let mut command = place.command(&["--config", "jobs.yaml", "edit"]);
    command.env("EDITOR", editor);
    place.ended(command)
}

fn names(place: &Place) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(place.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn an_edited_file_takes_the_place_of_the_old_with_its_mode_and_through_links() {
    let place = Place::new().with_table();
    std::fs::rename(place.path().join("jobs.yaml"), place.path().join("real.yaml")).unwrap();
    symlink("real.yaml", place.path().join("jobs.yaml")).unwrap();
    let real = place.path().join("real.yaml");
    std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o640)).unwrap();
    let before = std::fs::metadata(&real).unwrap();
    // `sed -i` writes a new file in the place of the one it was given, as some editors do.
    let result = edit(&place, "sed -i 's/Says hello/Says good day/'");
    assert_eq!(result, ended(0, "", "jobs.yaml: replaced\nno daemon runs: nothing to reload\n"));
    assert!(place.read("real.yaml").contains("Says good day"));
    let after = std::fs::metadata(&real).unwrap();
    assert_eq!((after.mode(), after.uid(), after.gid()), (before.mode(), before.uid(), before.gid()));
    assert!(place.path().join("jobs.yaml").is_symlink());
    assert_eq!(names(&place), ["jobs.yaml", "real.yaml"]);
}

#[test]
fn nothing_is_replaced_where_nothing_changed_or_the_editor_failed() {
    let place = Place::new().with_table();
    let before = std::fs::metadata(place.path().join("jobs.yaml")).unwrap().ino();
    let check = |editor: &str, code: i32, stderr: &str| {
        assert_eq!(edit(&place, editor), ended(code, "", stderr));
        assert_eq!(std::fs::metadata(place.path().join("jobs.yaml")).unwrap().ino(), before);
        assert_eq!(names(&place), ["jobs.yaml"]);
    };
    check("true", 0, "jobs.yaml: not changed\n");
    check("false", 1, "error: the editor ended with exit status: 1: nothing was changed\n");
}

#[test]
fn a_wrong_file_is_shown_and_not_put_in_place() {
    let place = Place::new().with_table();
    let before = place.read("jobs.yaml");
    let result = edit(&place, "sed -i 's/description/descripton/'");
    assert_eq!((result.code, result.stdout.as_str()), (2, ""));
    assert!(result.stderr.contains("jobs.yaml:8:5"), "{}", result.stderr);
    assert!(result.stderr.contains("descripton"), "{}", result.stderr);
    assert!(result.stderr.ends_with("error: jobs.yaml: left as it was\n"), "{}", result.stderr);
    assert_eq!(place.read("jobs.yaml"), before);
    assert_eq!(names(&place), ["jobs.yaml"]);
}

#[test]
fn a_file_that_somebody_else_changed_meanwhile_is_not_overwritten() {
    let place = Place::new().with_table();
    let result = edit(&place, "echo '# theirs' >>jobs.yaml; sed -i '1i # ours'");
    assert_eq!(
        result,
        ended(
            1,
            "",
            "error: HERE/jobs.yaml: somebody else changed it meanwhile: nothing was replaced, edit it again\n"
        )
    );
    assert!(place.read("jobs.yaml").ends_with("# theirs\n"));
    assert_eq!(names(&place), ["jobs.yaml"]);
}
