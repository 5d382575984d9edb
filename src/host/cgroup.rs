//! A cgroup (version 2) for the processes of each run, below the one that systemd has delegated to this service.
//!
//! Nothing leaves it by `setsid`, a second fork or a cleared environment, and it is ended in one stroke. Only a cgroup
//! that bears systemd's mark of delegation (`Delegate=yes`) is used: below any other one, systemd may move and remove
//! what it likes. Enables no controller and limits nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access, getxattr};

use super::procfs;

/// The delegated cgroup, in which this process itself is.
#[derive(Debug)]
pub(crate) struct Delegated {
    base: PathBuf,
    /// Its `cgroup.procs`, kept open: the way back must not want for descriptors.
    back: File,
}

/// The cgroup of the processes that one spawner has started for one run. May be absent.
#[derive(Clone, Debug)]
pub(crate) struct RunCgroup {
    path: PathBuf,
}

/// A cgroup of a run that is there, by its name.
#[derive(Debug)]
pub(crate) struct Found {
    /// See `process::mark`.
    pub(crate) mark: u64,
    pub(crate) spawner: i32,
    pub(crate) cgroup: RunCgroup,
}

const PROCESSES: &str = "cgroup.procs";

impl Delegated {
    /// `None` where this process's cgroup was not delegated to it.
    pub(crate) fn own() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let base = own_directory(&mounts, &own)?;
        let delegated = ["trusted.delegate", "user.delegate"].into_iter().any(|name| {
            let mut value = [0; 8];
            getxattr(&base, name, &mut value).is_ok_and(|length| value.get(..length) == Some(b"1"))
        });
        if !delegated || access(&base, Access::WRITE_OK).is_err() {
            return None;
        }
        let back = OpenOptions::new().write(true).open(base.join(PROCESSES)).ok()?;
        Some(Self { base, back })
    }

    pub(crate) fn of_run(&self, run: i64, mark: u64, spawner: i32) -> RunCgroup {
        RunCgroup { path: self.base.join(format!("run-{run}-{mark:x}-{spawner}")) }
    }

    /// From here on this process starts its children in the run's cgroup, until it has left it: so that no child is
    /// outside for a moment.
    ///
    /// # Errors
    /// Where this process stays where it was.
    pub(crate) fn enter(&self, cgroup: &RunCgroup) -> io::Result<()> {
        let enter = || {
            match fs::create_dir(&cgroup.path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            OpenOptions::new().write(true).open(cgroup.path.join(PROCESSES))?.write_all(b"0")
        };
        match enter() {
            // Another process has just removed it, empty as it was.
            Err(error) if error.kind() == io::ErrorKind::NotFound => enter(),
            done => done,
        }
    }

    /// # Errors
    /// Where this process is still in the run's cgroup, which must not be killed then.
    pub(crate) fn leave(&self) -> io::Result<()> {
        (&self.back).write_all(b"0").or_else(|_| {
            // Somebody has given controllers to cgroups below, so that no process may be here any more.
            let beside = RunCgroup { path: self.base.join("spawner") };
            self.enter(&beside)
        })
    }

    /// The cgroups of all runs of all spawners, empty ones among them.
    pub(crate) fn of_all_runs(&self) -> Vec<Found> {
        let Ok(entries) = fs::read_dir(&self.base) else { return vec![] };
        let found = entries.flatten().filter_map(|entry| {
            let (mark, spawner) = parse_name(entry.file_name().to_str()?)?;
            Some(Found { mark, spawner, cgroup: RunCgroup { path: entry.path() } })
        });
        found.collect()
    }

    /// What spawners have left that could not remove it in time.
    pub(crate) fn remove_empty(&self) {
        for found in self.of_all_runs() {
            found.cgroup.remove();
        }
    }
}

impl RunCgroup {
    /// Those of cgroups that the run has made below it are among them; zombies are not.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let mut found = vec![];
        collect(&self.path, &mut found);
        found
    }

    /// KILL to all in it, in one stroke: what forks meanwhile is killed as well. Whether the kernel has done so.
    pub(crate) fn kill(&self) -> bool {
        !self.processes().contains(&procfs::own_pid())
            && fs::write(self.path.join("cgroup.kill"), "1").is_ok()
    }

    /// Where it is empty; the kernel refuses to remove another one.
    pub(crate) fn remove(&self) {
        if fs::remove_dir(&self.path).is_err_and(|error| error.kind() != io::ErrorKind::NotFound) {
            below(&self.path).iter().for_each(|path| RunCgroup { path: path.clone() }.remove());
            let _ = fs::remove_dir(&self.path);
        }
    }
}

/// The mark of the run in whose cgroup a process is.
pub(crate) fn mark_of(pid: i32) -> Option<u64> {
    let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = cgroups.lines().find_map(|line| line.strip_prefix("0::"))?;
    path.split('/').find_map(parse_name).map(|(mark, _)| mark)
}

fn parse_name(name: &str) -> Option<(u64, i32)> {
    let mut parts = name.strip_prefix("run-")?.rsplitn(3, '-');
    let spawner = parts.next()?.parse().ok()?;
    let mark = u64::from_str_radix(parts.next()?, 16).ok()?;
    parts.next()?.parse::<i64>().ok()?;
    Some((mark, spawner))
}

fn collect(path: &Path, found: &mut Vec<i32>) {
    let list = fs::read_to_string(path.join(PROCESSES)).unwrap_or_default();
    // 0 stands for a process of another namespace.
    found.extend(list.lines().filter_map(|pid| pid.parse::<i32>().ok()).filter(|pid| *pid > 0));
    below(path).iter().for_each(|path| collect(path, found));
}

fn below(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else { return vec![] };
    let folders = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|entry| entry.path()).collect()
}

/// Where the hierarchy of version 2 is mounted, alone or beside version 1, and this process's place in it.
fn own_directory(mounts: &str, own: &str) -> Option<PathBuf> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    // A later mount lies above an earlier one.
    let mut places = mounts.lines().rev().filter_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        // A container may see a part of it.
        let rest = Path::new(path).strip_prefix(root).ok()?;
        kind.starts_with("cgroup2 ").then(|| Path::new(point).join(rest))
    });
    places.next().filter(|_| path != "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_cgroup_is_found_in_each_way_that_version_2_is_mounted() {
        let check = |mount: &str, own: &str, expected: Option<&str>| {
            let others = "21 28 0:20 / /proc rw,nosuid - proc proc rw\n\
                          30 25 0:26 / /sys/fs/cgroup/pids rw shared:11 - cgroup cgroup rw,pids\n";
            assert_eq!(own_directory(&format!("{others}{mount}"), own), expected.map(PathBuf::from));
        };
        let whole = "29 25 0:25 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let unit = "0::/system.slice/punk-eco-sched.service\n";
        check(whole, unit, Some("/sys/fs/cgroup/system.slice/punk-eco-sched.service"));
        let beside = "29 25 0:25 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let hybrid = format!("8:pids:/x\n1:name=systemd:/x\n{unit}");
        check(beside, &hybrid, Some("/sys/fs/cgroup/unified/system.slice/punk-eco-sched.service"));
        let part = "29 25 0:25 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        check(part, "0::/docker/abc/init.scope\n", Some("/sys/fs/cgroup/init.scope"));
        check(part, "0::/docker/abcdef\n", None);
        // The root of the hierarchy is nobody's.
        check(whole, "0::/\n", None);
        check("", unit, None);
        check(whole, "3:pids:/x\n", None);
    }

    #[test]
    fn names_tell_whose_they_are_and_others_are_passed_over() {
        assert_eq!(parse_name("run-7-1f00000000000001-4711"), Some((0x1f00_0000_0000_0001, 4711)));
        for other in ["run-7-4711", "run-x-1f-1", "run-7-zz-1", ".control", "init.scope", "run-1-2-3-y"] {
            assert_eq!(parse_name(other), None, "{other}");
        }
    }
}
