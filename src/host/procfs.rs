//! What /proc says of processes: who is whose child, in which group and session, with which marker.
//!
//! Reads only. Everything is a snapshot: a process may be gone, or its number reused, by the time the answer
//! is looked at; `start` tells one user of a number from the next.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;

use jiff::Timestamp;

/// One line of /proc/PID/stat, as far as it is needed (proc_pid_stat(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessStat {
    pub pid: i32,
    pub name: String,
    pub state: char,
    pub parent: i32,
    pub group: i32,
    pub session: i32,
    /// When it started, in clock ticks since boot.
    pub start: u64,
}

impl ProcessStat {
    /// Ended, and waiting for its parent to notice.
    pub fn is_zombie(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

/// When this machine booted, as the kernel derives it from the present wall clock (`btime` of proc_stat(5)).
pub fn boot_time() -> Option<Timestamp> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let seconds = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    Timestamp::from_second(seconds.trim().parse().ok()?).ok()
}

/// Changes with each boot (random(4)); empty where /proc doesn't say.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// The name of this host, as the ledger keeps it.
pub fn host_name() -> String {
    nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

pub fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

/// `None` where there is no such process.
pub fn stat(pid: i32) -> Option<ProcessStat> {
    parse_stat(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// Every process that can be seen.
pub fn all() -> Vec<ProcessStat> {
    let Ok(entries) = fs::read_dir("/proc") else { return vec![] };
    entries.flatten().filter_map(|entry| stat(entry.file_name().to_str()?.parse().ok()?)).collect()
}

/// The children of this process, which has one thread; zombies are among them.
pub fn own_children() -> Vec<i32> {
    let own = own_pid();
    match fs::read_to_string(format!("/proc/self/task/{own}/children")) {
        Ok(list) => list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect(),
        // A kernel without CONFIG_PROC_CHILDREN.
        Err(_) => all().into_iter().filter(|one| one.parent == own).map(|one| one.pid).collect(),
    }
}

/// Of `processes`: the `roots` and all that descends from them, without zombies.
pub fn family<'a>(processes: &'a [ProcessStat], roots: &[i32]) -> Vec<&'a ProcessStat> {
    let mut children: HashMap<i32, Vec<&ProcessStat>> = HashMap::new();
    let mut found = vec![];
    let mut seen: HashSet<i32> = HashSet::new();
    for one in processes {
        if roots.contains(&one.pid) {
            seen.insert(one.pid);
            found.push(one);
        }
        children.entry(one.parent).or_default().push(one);
    }
    let mut next = 0;
    while let Some(parent) = found.get(next) {
        for child in children.get(&parent.pid).into_iter().flatten() {
            if seen.insert(child.pid) {
                found.push(child);
            }
        }
        next += 1;
    }
    found.retain(|one| !one.is_zombie());
    found
}

/// The value of each of `names` in the environment that the process was started with; `None` where that can't
/// be read.
pub fn environment<const N: usize>(pid: i32, names: [&str; N]) -> Option<[Option<String>; N]> {
    let block = fs::read(format!("/proc/{pid}/environ")).ok()?;
    Some(names.map(|name| {
        block.split(|byte| *byte == 0).find_map(|entry| {
            let value = entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            Some(String::from_utf8_lossy(value).into_owned())
        })
    }))
}

/// Whether what that process calls a pid is what this one does: the processes of containers are seen as well.
pub fn shares_our_pid_namespace(pid: i32) -> bool {
    let namespace = |of: String| fs::read_link(format!("/proc/{of}/ns/pid")).ok();
    namespace(pid.to_string()).is_some_and(|theirs| namespace("self".to_owned()) == Some(theirs))
}

/// The inodes of the pipes that a process has as standard input, output and error.
pub fn standard_pipes(pid: i32) -> Vec<u64> {
    let pipe = |number: i32| {
        let target = fs::read_link(format!("/proc/{pid}/fd/{number}")).ok()?;
        target.to_str()?.strip_prefix("pipe:[")?.strip_suffix(']')?.parse().ok()
    };
    (0..3).filter_map(pipe).collect()
}

/// The resident memory of a process in bytes.
///
/// # Errors
/// Where there is no such process.
pub fn resident(pid: i32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next());
    Ok(kilobytes.and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) * 1024)
}

fn parse_stat(line: &[u8]) -> Option<ProcessStat> {
    let line = String::from_utf8_lossy(line);
    // The name is in parentheses and may itself hold spaces and parentheses.
    let (open, close) = (line.find('(')?, line.rfind(')')?);
    let mut rest = line.get(close + 1..)?.split_ascii_whitespace();
    Some(ProcessStat {
        pid: line.get(..open)?.trim().parse().ok()?,
        name: line.get(open + 1..close)?.to_owned(),
        state: rest.next()?.chars().next()?,
        parent: rest.next()?.parse().ok()?,
        group: rest.next()?.parse().ok()?,
        session: rest.next()?.parse().ok()?,
        start: rest.nth(15)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let line = b"4242 (a) b (c) S 1 4240 4200 0 -1 4194304 85 0 0 0 0 0 0 0 20 0 1 0 98765 2363392 116";
        let expected = ProcessStat {
            pid: 4242,
            name: "a) b (c".into(),
            state: 'S',
            parent: 1,
            group: 4240,
            session: 4200,
            start: 98765,
        };
        assert_eq!(parse_stat(line), Some(expected));
        assert_eq!(parse_stat(b"12 (cut"), None);
    }

    #[test]
    fn a_family_is_the_roots_and_their_descendants_without_zombies() {
        let one = |pid, parent, state| ProcessStat {
            pid,
            name: String::new(),
            state,
            parent,
            group: 0,
            session: 0,
            start: 0,
        };
        let all = [
            one(12, 11, 'S'),
            one(10, 1, 'S'),
            one(11, 10, 'Z'),
            one(13, 10, 'S'),
            one(20, 1, 'S'),
            one(21, 20, 'S'),
        ];
        let pids: Vec<i32> = family(&all, &[10]).iter().map(|one| one.pid).collect();
        assert_eq!(pids, [10, 13, 12]);
    }

    #[test]
    fn this_process_is_seen() {
        let own = own_pid();
        let seen = stat(own).unwrap();
        assert_eq!(seen.parent, rustix::process::getppid().unwrap().as_raw_nonzero().get());
        assert!(all().iter().any(|one| one.pid == own && one.start == seen.start));
        let [path, absent] = environment(own, ["PATH", "PATH_"]).unwrap();
        assert!(path.is_some());
        assert_eq!(absent, None);
    }
}
