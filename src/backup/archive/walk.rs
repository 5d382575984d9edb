//! Goes through the sources of an archive, in the order of names' bytes, a folder before what is in it.
//!
//! Works relative to open folders and follows no symbolic link but a source that is one itself. Other file systems
//! are entered, since media are often on one of their own; those of the kernel (proc, sysfs, …) never are.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

use super::exclude::Exclude;

/// Something to archive.
pub(super) struct Found<'a> {
    /// In the archive: the path without the slash at its beginning.
    pub(super) path: &'a [u8],
    pub(super) folder: BorrowedFd<'a>,
    pub(super) name: &'a CStr,
    pub(super) stat: &'a Stat,
    /// Of a folder that could be opened.
    pub(super) opened: Option<BorrowedFd<'a>>,
    /// A source itself: a symbolic link in its place is followed.
    pub(super) follow: bool,
}

/// Why going through ends early.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stop {
    #[error("stopped")]
    Cancelled,
    /// Nobody takes what is written any more; whoever did knows why.
    #[error("can't be written: {0}")]
    Write(#[from] io::Error),
}

pub(super) trait Visit {
    fn found(&mut self, found: &Found<'_>) -> Result<(), Stop>;
    fn left_out(&mut self, path: &[u8], why: &str);
    fn vanished(&mut self, path: &[u8], why: &str);
    fn unreadable(&mut self, path: &[u8], why: String);
}

pub(super) struct Walk<'a> {
    pub(super) exclude: &'a [Exclude],
    /// The folder of the archives: an archive never holds itself.
    pub(super) own: Option<(u64, u64)>,
    pub(super) cancel: &'a CancellationToken,
}

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

impl Walk<'_> {
    pub(super) fn source(&self, source: &Path, visit: &mut dyn Visit) -> Result<(), Stop> {
        let path = path_in_archive(source);
        let Ok(name) = CString::new(source.as_os_str().as_bytes()) else { return Ok(()) };
        let stat = match rustix::fs::statat(CWD, &name, AtFlags::empty()) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => {
                visit.unreadable(&path, "this source is not there".to_owned());
                return Ok(());
            }
            Err(error) => {
                visit.unreadable(&path, error.to_string());
                return Ok(());
            }
        };
        let whole = source.as_os_str().as_bytes();
        let root = Root { whole: whole.strip_suffix(b"/").unwrap_or(whole), length: path.len() };
        self.one(&root, CWD, &name, &path, &stat, None, visit)
    }

    #[expect(clippy::too_many_arguments, reason = "each belongs to the one thing that is looked at")]
    fn one(
        &self,
        root: &Root<'_>,
        folder: BorrowedFd<'_>,
        name: &CStr,
        path: &[u8],
        stat: &Stat,
        above: Option<u64>,
        visit: &mut dyn Visit,
    ) -> Result<(), Stop> {
        if self.cancel.is_cancelled() {
            return Err(Stop::Cancelled);
        }
        let follow = path.len() == root.length;
        let mut found = Found { path, folder, name, stat, opened: None, follow };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {}
            FileType::Socket => {
                visit.left_out(path, "a socket, which only the program that listens on it can make");
                return Ok(());
            }
            _ => return visit.found(&found),
        }
        if self.own == Some((stat.st_dev, stat.st_ino)) {
            visit.left_out(path, "the folder of the archives themselves");
            return Ok(());
        }
        let flags = if follow { FOLDER } else { FOLDER | OFlags::NOFOLLOW };
        let fd = match rustix::fs::openat(folder, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => {
                visit.vanished(path, "was removed before it was read");
                return Ok(());
            }
            Err(error) => {
                visit.unreadable(path, format!("this folder can't be opened: {error}"));
                return visit.found(&found);
            }
        };
        if above != Some(stat.st_dev) && is_the_kernels(&fd) {
            visit.left_out(path, "a file system of the kernel's, not files");
            return Ok(());
        }
        found.opened = Some(fd.as_fd());
        visit.found(&found)?;
        let names = match names(&fd) {
            Ok(names) => names,
            Err(error) => {
                visit.unreadable(path, format!("this folder can't be read: {error}"));
                return Ok(());
            }
        };
        for name in names {
            let path = join(path, name.to_bytes());
            let below = root.below(&path);
            if self.exclude.iter().any(|one| one.matches(&[root.whole, b"/", below].concat(), below)) {
                continue;
            }
            match rustix::fs::statat(&fd, &*name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(below) => self.one(root, fd.as_fd(), &name, &path, &below, Some(stat.st_dev), visit)?,
                Err(Errno::NOENT) => visit.vanished(&path, "was removed before it was read"),
                Err(error) => visit.unreadable(&path, error.to_string()),
            }
        }
        Ok(())
    }
}

struct Root<'a> {
    whole: &'a [u8],
    /// Of its path in the archive.
    length: usize,
}

impl Root<'_> {
    fn below<'p>(&self, path: &'p [u8]) -> &'p [u8] {
        let below = &path[self.length..];
        below.strip_prefix(b"/").unwrap_or(below)
    }
}

fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() }
}

/// tar has no absolute names.
pub(super) fn path_in_archive(source: &Path) -> Vec<u8> {
    let normal: PathBuf = source.components().collect();
    let bytes = normal.as_os_str().as_bytes();
    bytes.strip_prefix(b"/").unwrap_or(bytes).to_vec()
}

fn names(folder: &OwnedFd) -> io::Result<Vec<Box<CStr>>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(folder)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().into());
        }
    }
    names.sort();
    Ok(names)
}

/// Magic numbers of statfs(2): file systems that show what the kernel knows and hold no files.
fn is_the_kernels(folder: &OwnedFd) -> bool {
    const THEIRS: [i64; 16] = [
        0x9fa0,      // proc
        0x6265_6572, // sysfs
        0x0027_e0eb, // cgroup
        0x6367_7270, // cgroup2
        0x1cd1,      // devpts
        0x6462_6720, // debugfs
        0x7472_6163, // tracefs
        0x7363_6673, // securityfs
        0xcafe_4a11, // bpf
        0x6265_6570, // configfs
        0x6573_5543, // fusectl
        0x1980_0202, // mqueue
        0x6165_676c, // pstore
        0xde5e_81e4, // efivarfs
        0x4249_4e4d, // binfmt_misc
        0xf97c_ff8c, // selinuxfs
    ];
    rustix::fs::fstatfs(folder).is_ok_and(|stat| THEIRS.contains(&stat.f_type))
}
