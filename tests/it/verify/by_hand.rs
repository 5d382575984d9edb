//! `punk-eco-sched verify FILE` as an operator types it.

use std::path::Path;

use assert_cmd::Command;
use punk_eco_sched::backup::manifest::State;

use super::{Kept, shop};
use crate::support::job::{SmallDisk, names};

const EVERY_FORMAT: [&str; 4] =
    ["", r#", "compression": "zstd""#, r#", "compression": "none""#, r#", "format": "custom""#];

/// Exit code, standard output and standard error; the folder's name as `HERE`.
fn verify(kept: &Kept, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("punk-eco-sched"));
    command.arg("verify").args(arguments).current_dir("/").env_clear();
    command.env("PATH", "/usr/bin:/bin").env("TMPDIR", kept.bench.path("tmp"));
    std::fs::create_dir_all(kept.bench.path("tmp")).unwrap();
    let output = command.timeout(std::time::Duration::from_secs(60)).output().unwrap();
    let here = kept.directory.display().to_string();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(&here, "HERE");
    assert_eq!(names(&kept.bench.path("tmp")), [""; 0], "scratch files are left");
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_backup_of_every_format_passes_and_its_manifest_tells_of_it() {
    let postgres = shop();
    for way in EVERY_FORMAT {
        let kept = Kept::of(&postgres, "shop", way).await;
        let (file, name) = (text(&kept.file()), &kept.manifest.file);
        let before = names(&kept.directory);
        let (code, out, err) = verify(&kept, &["--plan", &file]);
        assert_eq!((code, err.as_str()), (0, ""), "{way}");
        assert!(out.starts_with(&format!("would read HERE/{name} (")), "{out}");
        assert!(
            out.contains(&format!(": {} bytes, SHA-256 {}, ", kept.manifest.bytes, kept.manifest.sha256))
        );
        assert_eq!(out.lines().count(), 3, "{out}");
        assert_eq!(kept.recorded().0, State::Written);

        let size = punk_eco_sched::units::Size(kept.manifest.bytes);
        let (code, out, err) = verify(&kept, &[&file]);
        assert_eq!((code, err.as_str()), (0, ""), "{way}");
        assert_eq!(out, format!("HERE/{name}: good: {size} with 5 rows in 3 tables are what was written\n"));
        assert_eq!(kept.recorded().0, State::ReadBack);
        assert_eq!(names(&kept.directory), before);

        let (code, out, err) = verify(&kept, &["--json", &file]);
        assert_eq!((code, err.as_str()), (0, ""), "{way}");
        let document: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(
            document,
            serde_json::json!({"file": format!("HERE/{name}"), "ok": true, "reasons": [], "bytes": kept.manifest.bytes,
                "tables": 3, "rows": 5, "proof": "read_back"})
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_exit_code_1_with_every_reason_and_what_is_no_backup_is_2() {
    let postgres = shop();
    let kept = Kept::of(&postgres, "shop", r#", "compression": "none""#).await;
    let (file, name) = (text(&kept.file()), &kept.manifest.file);
    let damaged = String::from_utf8(kept.bytes.clone()).unwrap().replace("1\ttea\n", "").into_bytes();
    kept.put(&damaged, &kept.manifest);
    let (code, out, err) = verify(&kept, &[&file]);
    assert_eq!((code, out.as_str()), (1, ""));
    let (bytes, less) = (kept.bytes.len(), damaged.len());
    let reasons = [
        format!("it has {less} bytes where {bytes} were written"),
        format!(
            "it is not what was written: its SHA-256 is {}, not {}",
            super::sha256(&damaged),
            kept.manifest.sha256
        ),
        format!("its content has {less} bytes where {bytes} were dumped"),
        "table public.orders has 2 rows where 3 were dumped".to_owned(),
    ];
    assert_eq!(err, format!("error: HERE/{name} is damaged:\n  {}\n", reasons.join("\n  ")));
    let (code, out, err) = verify(&kept, &["--json", &file]);
    assert_eq!((code, err.as_str()), (1, ""));
    let document: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        document,
        serde_json::json!({"file": format!("HERE/{name}"), "ok": false, "reasons": reasons, "bytes": less,
            "tables": 3, "rows": 4, "proof": "damaged"})
    );

    let check = |arguments: &[&str], code: i32, begins: &str| {
        let (found, out, err) = verify(&kept, arguments);
        assert_eq!((found, out.as_str()), (code, ""), "{err}");
        assert!(err.starts_with(begins), "{err}");
    };
    let here = |name: &str| text(&kept.directory.join(name));
    check(&[&here("x.sql")], 2, "error: HERE/x.sql can't be read: No such file or directory");
    check(&[&here("")], 2, "error: HERE/ is not a file\n");
    let manifest = text(&kept.manifest_file());
    check(
        &[&manifest],
        2,
        &format!("error: {} is a manifest\nhint: name the dump", manifest.replace(&here(""), "HERE/")),
    );
    let roles = kept.manifest.roles.as_ref().unwrap().file.clone();
    check(&[&here(&roles)], 2, &format!("error: HERE/{roles} is a roles file\n"));
    check(&[], 2, "error: the following required arguments were not provided");
    check(&["--identity", &here("key"), &file], 2, "error: --identity HERE/key: No such file");
    check(&["--identity", &file, &file], 2, &format!("error: --identity HERE/{name}: line 1 is no age key"));
    std::fs::remove_file(kept.manifest_file()).unwrap();
    for arguments in [&[file.as_str()][..], &["--plan", &file]] {
        let (code, _, err) = verify(&kept, arguments);
        assert_eq!(code, 1);
        assert!(err.contains(": there is no manifest "), "{err}");
        assert!(err.ends_with("takes a dump without a manifest and shows what is in it\n"), "{err}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_manifest_can_t_be_written_that_is_said_and_the_backup_is_good() {
    let postgres = shop();
    let mut kept = Kept::of(&postgres, "shop", "").await;
    let elsewhere = kept.bench.path("disk");
    let Some(_disk) = SmallDisk::mount(&elsewhere, "4M") else { return };
    for name in names(&kept.directory) {
        std::fs::copy(kept.directory.join(&name), elsewhere.join(&name)).unwrap();
    }
    kept.directory = elsewhere.clone();
    rustix::mount::mount_remount(&elsewhere, rustix::mount::MountFlags::RDONLY, "").unwrap();
    let (code, out, err) = verify(&kept, &[&text(&kept.file())]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains(": good: "), "{out}");
    let manifest = text(&kept.manifest_file()).replace(elsewhere.to_str().unwrap(), "HERE");
    assert_eq!(
        err,
        format!(
            "{manifest} can't be told that the backup is read_back: Read-only file system (os error 30)\n"
        )
    );
    assert_eq!(kept.recorded().0, State::Written);
}
