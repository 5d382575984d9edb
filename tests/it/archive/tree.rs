//! A folder with everything in it that a file system can hold, and how it is looked at again.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};

/// All that is to survive of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) path: PathBuf,
    pub(super) mode: u32,
    pub(super) owner: (u32, u32),
    pub(super) modified: (i64, i64),
    pub(super) links: u64,
    /// A link's target, a file's content or the hash of a long one.
    pub(super) content: Vec<u8>,
    pub(super) device: u64,
    pub(super) has_holes: bool,
    pub(super) attribute: Option<Vec<u8>>,
}

pub(super) fn make_tree(root: &Path) {
    let root_user = rustix::process::geteuid().is_root();
    std::fs::write(root.join("plain"), "content").unwrap();
    std::fs::write(root.join("empty"), "").unwrap();
    std::fs::write(root.join("with space\nand line"), "x").unwrap();
    std::fs::write(root.join(OsStr::from_bytes(b"caf\xe9 \\x41")), "latin").unwrap();
    std::fs::write(root.join("é"), "utf-8").unwrap();
    let deep = root.join("d".repeat(200)).join("e".repeat(100));
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::write(deep.join("f".repeat(255)), "deep").unwrap();
    std::os::unix::fs::symlink("plain", root.join("link")).unwrap();
    std::os::unix::fs::symlink("/nowhere/".to_owned() + &"g".repeat(150), root.join("dangling")).unwrap();
    std::fs::hard_link(root.join("plain"), root.join("second name")).unwrap();
    std::fs::hard_link(deep.join("f".repeat(255)), deep.join("h")).unwrap();
    let sparse = std::fs::File::create(root.join("sparse")).unwrap();
    sparse.write_all_at(b"middle", 5 << 20).unwrap();
    sparse.set_len(9 << 20).unwrap();
    std::fs::write(
        root.join("binary"),
        (0..200_000_u32).map(|n| (n.wrapping_mul(n) >> 8) as u8).collect::<Vec<_>>(),
    )
    .unwrap();
    std::fs::create_dir(root.join("closed")).unwrap();
    std::fs::write(root.join("closed/inside"), "i").unwrap();
    std::fs::write(root.join("program"), "#!/bin/sh").unwrap();
    std::fs::set_permissions(root.join("program"), PermissionsExt::from_mode(0o4755)).unwrap();
    std::fs::set_permissions(root.join("closed"), PermissionsExt::from_mode(0o1500)).unwrap();
    rustix::fs::mknodat(CWD, root.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    // Where the file system has none, none is to survive.
    let _ = rustix::fs::setxattr(root.join("plain"), "user.note", b"a\nb=c\xff", XattrFlags::empty());
    if root_user {
        let device = rustix::fs::makedev(1, 3);
        rustix::fs::mknodat(
            CWD,
            root.join("null"),
            FileType::CharacterDevice,
            Mode::from_raw_mode(0o666),
            device,
        )
        .unwrap();
        std::os::unix::fs::chown(root.join("binary"), Some(1234), Some(5678)).unwrap();
        std::os::unix::fs::chown(root.join("closed"), Some(3_000_000), Some(33)).unwrap();
        std::os::unix::fs::lchown(root.join("link"), Some(1234), Some(5678)).unwrap();
    }
    let at = |seconds, nanoseconds| {
        let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        Timestamps { last_access: time, last_modification: time }
    };
    let set = |name: &str, times: Timestamps| {
        rustix::fs::utimensat(CWD, root.join(name), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    };
    set("plain", at(1_700_000_000, 123_456_789));
    set("empty", at(-86_400, 0));
    set("link", at(1_600_000_000, 5));
    set("closed", at(1_500_000_000, 7));
    set("", at(1_400_000_000, 9));
}

/// The folder itself and everything below, sorted.
pub(super) fn look(root: &Path) -> Vec<Seen> {
    let entries = walkdir::WalkDir::new(root).sort_by_file_name();
    let seen = |entry: walkdir::DirEntry| {
        let path = entry.path();
        let about = path.symlink_metadata().unwrap();
        let content = if about.is_symlink() {
            std::fs::read_link(path).unwrap().into_os_string().into_encoded_bytes()
        } else if about.is_file() {
            use sha2::Digest as _;
            let content = std::fs::read(path).unwrap();
            if content.len() > 64 { sha2::Sha256::digest(content).to_vec() } else { content }
        } else {
            vec![]
        };
        let mut value = [0; 64];
        let attribute = rustix::fs::lgetxattr(path, "user.note", &mut value[..]).ok();
        Seen {
            path: path.strip_prefix(root).unwrap().to_owned(),
            mode: about.mode(),
            owner: (about.uid(), about.gid()),
            modified: (about.mtime(), about.mtime_nsec()),
            links: if about.is_dir() { 0 } else { about.nlink() },
            content,
            device: about.rdev(),
            has_holes: about.is_file() && about.blocks() * 512 + 4096 < about.size(),
            attribute: attribute.map(|length| value[..length].to_vec()),
        }
    };
    entries.into_iter().map(|entry| seen(entry.unwrap())).collect()
}

/// What GNU tar prints; it must have nothing to say against it.
pub(super) fn gnu_tar(arguments: &[&str]) -> String {
    let output =
        assert_cmd::Command::new("tar").arg("--warning=no-timestamp").args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "tar {arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
