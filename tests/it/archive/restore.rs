//! `restore files`: by the verb, over what is there, and of other programs' archives.

use std::path::Path;

use super::{archived, bench, gnu_tar, look, make_tree};
use crate::support::job::{Bench, names};

/// Exit code, standard output, standard error.
fn restore(bench: &Bench, file: &Path, into: &str, more: &[&str]) -> (i32, String, String) {
    let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_punk-eco-sched"));
    command.args(["restore", "files"]).arg(file).arg("--into").arg(bench.path(into)).args(more);
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_folder_is_replaced_and_the_old_one_kept() {
    let bench = bench().await;
    make_tree(&bench.path("media"));
    let before = look(&bench.path("media"));
    let (file, _) = archived(&bench, "").await;
    std::fs::remove_dir_all(bench.path("media/closed")).unwrap();
    std::fs::write(bench.path("media/plain"), "overwritten").unwrap();
    let changed = look(&bench.path("media"));

    let (code, said, _) = restore(&bench, &file, "media", &["--plan"]);
    let media = bench.path("media");
    let shown = media.display();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains(&format!("into     {shown}, which becomes what {shown} was\n")), "{said}");
    assert!(said.contains(&format!("kept     what is there now, as {shown}.before-")), "{said}");
    assert_eq!(look(&bench.path("media")), changed);

    let (code, said, errors) = restore(&bench, &file, "media", &[]);
    assert_eq!((code, errors.as_str()), (0, ""), "{said}");
    assert_eq!(look(&bench.path("media")), before);
    let kept = |bench: &Bench| -> Vec<String> {
        names(bench.folder.path()).into_iter().filter(|name| name.contains(".before-")).collect()
    };
    let first = kept(&bench);
    assert_eq!(first.len(), 1);
    assert_eq!(look(&bench.path(&first[0])), changed);
    // Again, within the same second or not: nothing that was kept is lost.
    assert_eq!(restore(&bench, &file, "media", &[]).0, 0);
    assert_eq!(kept(&bench).len(), 2);
    assert_eq!(look(&bench.path(&first[0])), changed);
    assert!(!names(bench.folder.path()).iter().any(|name| name.contains("restoring")));
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_of_other_programs_are_restored_with_a_warning() {
    let bench = bench().await;
    make_tree(&bench.path("media"));
    let before = look(&bench.path("media"));
    let top = bench.folder.path().to_str().unwrap();
    for (format, more) in [("gnu", "-S"), ("posix", "-S"), ("posix", "--xattrs"), ("gnu", "-z")] {
        let file = bench.path(&format!("foreign-{format}{more}.tar"));
        gnu_tar(&["-C", top, "--format", format, more, "-cf", file.to_str().unwrap(), "media"]);
        let (code, said, errors) = restore(&bench, &file, "into", &[]);
        assert_eq!(code, 0, "{errors}");
        assert!(said.contains("beware   it has no manifest beside it"), "{said}");
        let bare = |found: Vec<super::tree::Seen>| -> Vec<_> {
            let seen = found.into_iter();
            seen.map(|seen| super::tree::Seen {
                modified: (seen.modified.0, 0),
                has_holes: false,
                attribute: None,
                ..seen
            })
            .collect()
        };
        assert_eq!(bare(look(&bench.path("into/media"))), bare(before.clone()), "{format}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sparse_files_of_other_programs_keep_their_holes_or_are_refused_with_a_way_out() {
    let bench = bench().await;
    let path = bench.path("media/sparse");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(64 << 20).unwrap();
    // As many pieces as need more than one block of the map.
    for at in 0..200_u64 {
        std::os::unix::fs::FileExt::write_all_at(&file, b"content", at * (256 << 10) + 5).unwrap();
    }
    let before = look(&bench.path("media"));
    assert!(before.iter().any(|seen| seen.has_holes), "this file system has no holes");
    let top = bench.folder.path().to_str().unwrap();
    let pack = |version: &str| {
        let file = bench.path(&format!("sparse-{version}.tar"));
        let version = format!("--sparse-version={version}");
        gnu_tar(&["-C", top, "--format=posix", "-S", &version, "-cf", file.to_str().unwrap(), "media"]);
        file
    };
    let file = pack("1.0");
    let (code, _, errors) = restore(&bench, &file, "into", &[]);
    assert_eq!(code, 0, "{errors}");
    assert_eq!(look(&bench.path("into/media")), before);
    let whole = std::fs::read(&file).unwrap();
    // The map lies: one piece is longer than what follows of it.
    let at = whole.windows(8).position(|window| window == b"\n262144\n").unwrap();
    let mut wrong = whole.clone();
    wrong[at + 1] = b'9';
    std::fs::write(&file, &wrong).unwrap();
    let (code, _, errors) = restore(&bench, &file, "wrong", &[]);
    assert!(code == 1 && errors.contains("a map of holes leads outside of its file"), "{errors}");
    assert!(!bench.path("wrong").exists());
    for version in ["0.0", "0.1"] {
        let (code, _, errors) = restore(&bench, &pack(version), "old", &[]);
        assert!(
            code == 1 && errors.contains("in an old form of PAX, which only GNU tar reads: unpack it"),
            "{errors}"
        );
        assert!(!bench.path("old").exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_t_be_replaced_is_refused_before_anything_is_done() {
    let bench = bench().await;
    std::fs::write(bench.path("media/a"), "a").unwrap();
    let (file, _) = archived(&bench, "").await;
    std::fs::write(bench.path("a file"), "").unwrap();
    let check = |into: &str, expected: &str| {
        let (code, said, errors) = restore(&bench, &file, into, &[]);
        assert_eq!((code, said.as_str()), (1, ""), "{errors}");
        assert!(errors.contains(expected), "{errors}");
    };
    check("a file", "is there, and is no folder");
    check("/", "/ can't be replaced: name a folder below it");
    check("/proc", "/proc is where a file system is mounted, and can't be renamed");
    check("x/../y", "write it without `..`");
    let (code, _, errors) = restore(&bench, &bench.path("nothing.tar"), "into", &[]);
    assert!(code == 1 && errors.contains("nothing.tar can't be read"), "{errors}");
    let (code, _, errors) = restore(&bench, &bench.path("media"), "into", &[]);
    assert!(code == 1 && errors.contains("is no file: name the archive itself"), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_restore_left_is_cleared_by_the_next() {
    let bench = bench().await;
    std::fs::write(bench.path("media/a"), "a").unwrap();
    let (file, _) = archived(&bench, "").await;
    let left = bench.path(".into.restoring-1-1/deep");
    std::fs::create_dir_all(&left).unwrap();
    std::fs::write(left.join("half"), "").unwrap();
    std::fs::set_permissions(&left, std::os::unix::fs::PermissionsExt::from_mode(0o0)).unwrap();
    // Of another folder, and not a folder: neither is ours.
    std::fs::create_dir(bench.path(".other.restoring-1-1")).unwrap();
    std::fs::write(bench.path(".into.restoring-1-2"), "").unwrap();
    let (code, _, errors) = restore(&bench, &file, "into", &[]);
    assert_eq!(code, 0, "{errors}");
    assert_eq!(errors, "removed .into.restoring-1-1, which a restore that is gone left half-done\n");
    let left: Vec<_> =
        names(bench.folder.path()).into_iter().filter(|name| name.contains("restoring")).collect();
    assert_eq!(left, [".into.restoring-1-2", ".other.restoring-1-1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_reads_an_archive_and_says_what_is_wrong() {
    let bench = bench().await;
    std::fs::write(bench.path("media/a"), "a").unwrap();
    let (file, _) = archived(&bench, "").await;
    let verify = |file: &Path| {
        let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_punk-eco-sched"));
        let output = command.arg("verify").arg(file).output().unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        )
    };
    let (code, said) = verify(&file);
    assert_eq!(code, 0, "{said}");
    assert!(said.ends_with("with 2 entries, 1 of them files, are what was written\n"), "{said}");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    let (code, said) = verify(&file);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("the file was cut") || said.contains("ends in the middle"), "{said}");
}
