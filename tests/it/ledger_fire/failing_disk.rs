//! A disk that fails while it is in use: an ext4 in a file, which the kernel makes read-only at the first error.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::missing;

pub(super) struct FailingDisk {
    at: PathBuf,
    /// Its device, as in /sys/fs/ext4.
    device: String,
}

impl FailingDisk {
    /// Where this process may mount one (root, with loop devices).
    pub(super) fn mount(image: &Path, at: &Path) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        std::fs::File::create(image).unwrap().set_len(16 << 20).unwrap();
        let (image, folder) = (image.to_str().unwrap(), at.to_str().unwrap());
        if !runs("mkfs.ext4", &["-q", "-F", image])
            || !runs("mount", &["-o", "loop,errors=remount-ro", image, folder])
        {
            missing::skipped("no ext4 can be mounted from a file");
            return None;
        }
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        let mount = mounts.lines().find(|line| line.split(' ').nth(1) == Some(folder)).unwrap();
        let device = mount.split(' ').next().unwrap().trim_start_matches("/dev/").to_owned();
        Some(Self { at: at.to_owned(), device })
    }

    pub(super) fn fail(&self) {
        std::fs::write(format!("/sys/fs/ext4/{}/trigger_fs_error", self.device), "1").unwrap();
    }
}

impl Drop for FailingDisk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.at, rustix::mount::UnmountFlags::DETACH);
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's own mount")]
fn runs(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).status().is_ok_and(|status| status.success())
}
