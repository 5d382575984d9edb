//! How busy the whole machine is: processor time, memory and load, as the kernel counts them.
//!
//! Reads /proc and nothing else; keeps nothing between two readings. A control group's limits play no part.

use std::fs;
use std::io;

/// Processor time of all cores together since boot, in clock ticks (`cpu` of proc_stat(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuTimes {
    /// All but idle and iowait. Stolen time counts: the host had work and the hypervisor let it wait.
    pub busy: u64,
    pub total: u64,
}

impl CpuTimes {
    /// # Errors
    /// Where /proc/stat can't be read or makes no sense.
    pub fn now() -> io::Result<Self> {
        let text = fs::read_to_string("/proc/stat")?;
        Self::parse(&text).ok_or_else(|| nonsense("/proc/stat"))
    }

    /// The busy share of the time since `earlier`, 0 to 1; `None` where no tick has passed, or the counters ran
    /// backwards.
    pub fn busy_since(self, earlier: Self) -> Option<f64> {
        let total = self.total.checked_sub(earlier.total).filter(|total| *total > 0)?;
        let busy = self.busy.checked_sub(earlier.busy)?;
        Some((busy as f64 / total as f64).min(1.0))
    }

    fn parse(stat: &str) -> Option<Self> {
        let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let ticks: Vec<u64> = line.split_ascii_whitespace().map_while(|field| field.parse().ok()).collect();
        // user nice system idle iowait irq softirq steal; the time of guests is within user and nice.
        let [user, nice, system, idle, rest @ ..] = ticks.as_slice() else { return None };
        let waiting = rest.first().copied().unwrap_or(0);
        let busy = user + nice + system + rest.iter().skip(1).take(3).sum::<u64>();
        Some(Self { busy, total: busy + idle + waiting })
    }
}

/// The memory of the machine in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    pub total: u64,
    /// What programs can still get without swapping: free memory and the caches that can be dropped.
    pub available: u64,
}

impl Memory {
    /// # Errors
    /// Where /proc/meminfo can't be read or doesn't say.
    pub fn now() -> io::Result<Self> {
        let text = fs::read_to_string("/proc/meminfo")?;
        Self::parse(&text).ok_or_else(|| nonsense("/proc/meminfo"))
    }

    fn parse(meminfo: &str) -> Option<Self> {
        let bytes = |name: &str| {
            let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
        };
        let (total, available) = (bytes("MemTotal")?, bytes("MemAvailable")?);
        (total > 0).then_some(Self { total, available: available.min(total) })
    }
}

/// The average number of processes that ran, wanted to run or waited for a disk (`/proc/loadavg`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoadAverage {
    /// Over the last five minutes, as the kernel damps it.
    pub five_minutes: f64,
    /// Cores that are switched on, whoever may use them.
    pub cores: u32,
}

impl LoadAverage {
    /// # Errors
    /// Where /proc/loadavg or /proc/stat can't be read or makes no sense.
    pub fn now() -> io::Result<Self> {
        let text = fs::read_to_string("/proc/loadavg")?;
        let five_minutes = text.split_ascii_whitespace().nth(1).and_then(|field| field.parse().ok());
        let five_minutes = five_minutes.ok_or_else(|| nonsense("/proc/loadavg"))?;
        let cores = cores(&fs::read_to_string("/proc/stat")?);
        if cores == 0 {
            return Err(nonsense("/proc/stat"));
        }
        Ok(Self { five_minutes, cores })
    }
}

/// /proc/stat has a line for each core that is switched on.
fn cores(stat: &str) -> u32 {
    let is_core = |line: &&str| {
        line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|digit: char| digit.is_ascii_digit()))
    };
    u32::try_from(stat.lines().filter(is_core).count()).unwrap_or(u32::MAX)
}

fn nonsense(file: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{file} doesn't say it in the way of proc(5)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine with two cores, as proc_stat(5) lays it out.
    const STAT: &str = "cpu  4705 356 584 3699 23 7 9 40 5 1\n\
                        cpu0 2000 100 284 1699 13 7 4 20 5 1\n\
                        cpu1 2705 256 300 2000 10 0 5 20 0 0\n\
                        intr 114930548 113199788 3\nctxt 1990473\nbtime 1062191376\n";

    #[test]
    fn stolen_time_is_busy_and_waiting_for_a_disk_is_not() {
        let times = CpuTimes::parse(STAT).unwrap();
        assert_eq!(times, CpuTimes { busy: 4705 + 356 + 584 + 7 + 9 + 40, total: 5701 + 3699 + 23 });
        assert_eq!(CpuTimes::parse("cpu  1 2 3 4"), Some(CpuTimes { busy: 6, total: 10 }));
        assert_eq!(CpuTimes::parse("cpu  1 2"), None);
        assert_eq!(CpuTimes::parse("cpu0 1 2 3 4"), None);
        assert_eq!(cores(STAT), 2);
    }

    #[test]
    fn the_busy_share_is_of_the_time_between() {
        let earlier = CpuTimes { busy: 100, total: 1000 };
        let check = |busy, total, expected| {
            assert_eq!(CpuTimes { busy, total }.busy_since(earlier), expected);
        };
        check(150, 1200, Some(0.25));
        check(100, 1200, Some(0.0));
        check(300, 1200, Some(1.0));
        check(100, 1000, None);
        // A container that moved to another host.
        check(10, 2000, None);
        check(200, 500, None);
    }

    #[test]
    fn memory_is_what_the_kernel_calls_available() {
        let text = "MemTotal:       16314084 kB\nMemFree:          345672 kB\nMemAvailable:    9876543 kB\n";
        let expected = Memory { total: 16_314_084 << 10, available: 9_876_543 << 10 };
        assert_eq!(Memory::parse(text), Some(expected));
        // Before Linux 3.14.
        assert_eq!(Memory::parse("MemTotal: 1 kB\nMemFree: 1 kB\n"), None);
    }
}
