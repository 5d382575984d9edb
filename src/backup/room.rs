//! Whether there is room for a backup, before it begins and while it runs.
//!
//! Before: what is predicted must leave `min_free`. While it runs: when less than half of that is left, whoever has
//! used up the rest, the backup is stopped, so that its file can go before the disk is full. Where PostgreSQL has its
//! data on the same file system, some of it stays free whatever `min_free` says: a server without room for its log
//! stops, and no backup is worth that.

use std::os::fd::AsFd;
use std::path::Path;

use anyhow::anyhow;

use super::work::Trouble;
use crate::host::files::Space;
use crate::units::{Percent, Size};

/// What stays free where PostgreSQL's data is: what its log may grow by between two checkpoints (`max_wal_size`, by
/// default), and on a small disk a twentieth of it.
const FOR_POSTGRES: u64 = 1 << 30;

/// What a backup will take, as far as those before it say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// `dump` or `archive`
    pub what: &'static str,
    pub bytes: Option<u64>,
    /// So many were looked at.
    pub seen: usize,
}

/// The room for one backup.
#[derive(Clone, Debug, PartialEq)]
pub struct Room {
    pub space: Space,
    min_free: Percent,
    expected: Expected,
    with_postgres: bool,
}

impl Room {
    /// `directory`: open, of the backups or of where they will be. `data`: of the server, as this host sees it.
    ///
    /// # Errors
    /// Where the file system can't be asked.
    pub fn of(
        min_free: Percent,
        expected: Expected,
        directory: impl AsFd,
        data: Option<&Path>,
    ) -> std::io::Result<Self> {
        let space = Space::of(&directory)?;
        let device = rustix::fs::fstat(&directory)?.st_dev;
        let data = data.and_then(|data| rustix::fs::stat(data).ok());
        Ok(Self { space, min_free, expected, with_postgres: data.is_some_and(|data| data.st_dev == device) })
    }

    /// Bytes that stay free while the backup is made.
    pub fn floor(&self) -> u64 {
        self.of_total(self.min_free.0 / 2.0).max(self.for_postgres())
    }

    fn for_postgres(&self) -> u64 {
        if self.with_postgres { FOR_POSTGRES.min(self.space.total / 20) } else { 0 }
    }

    fn of_total(&self, percent: f64) -> u64 {
        (self.space.total as f64 / 100.0 * percent) as u64
    }

    /// # Errors
    /// What is free, what the backup would take, what must be left.
    pub fn enough(&self, directory: &Path) -> Result<(), Trouble> {
        let Space { free, total } = self.space;
        let Expected { what, bytes: predicted, .. } = self.expected;
        let left = free.saturating_sub(predicted.unwrap_or(0));
        let spared = left >= self.for_postgres();
        if self.share(left).0 >= self.min_free.0 && spared && (left > 0 || predicted.is_none()) {
            return Ok(());
        }
        let after = predicted.map_or(String::new(), |bytes| {
            let like = if self.expected.seen == 1 { "the last one" } else { "the last ones" };
            let article = if what.starts_with('a') { "an" } else { "a" };
            format!(", and {article} {what} like {like} ({}) would leave {}", Size(bytes), self.share(left))
        });
        let beside = if spared {
            String::new()
        } else {
            format!("PostgreSQL's data is on it too, and needs {}; ", Size(self.for_postgres()))
        };
        Err(Trouble::lasting(anyhow!(
            "not started: the file system of {} has {} free of {} ({}){after}; {beside}min_free is {}: make room, or lower \
             min_free",
            directory.display(),
            Size(free),
            Size(total),
            self.share(free),
            self.min_free
        )))
    }

    /// Of a backup that was stopped after so many bytes, when so many were free.
    pub fn stopped(&self, written: u64, free: u64, directory: &Path, needed: &str) -> Trouble {
        let why = if self.floor() > self.of_total(self.min_free.0 / 2.0) {
            "which PostgreSQL, whose data is on it too, must not lack".to_owned()
        } else {
            format!("half of min_free ({})", self.min_free)
        };
        Trouble::Passing(anyhow!(
            "stopped before the disk was full: after {written} bytes of the {} the file system of {} has {} free of {}, \
             and to write on would leave less than {}, {why}; {needed}. The unfinished file was removed: make room, and \
             the next run will do",
            self.expected.what,
            directory.display(),
            Size(free),
            Size(self.space.total),
            Size(self.floor())
        ))
    }

    /// What the backup will take, as far as earlier ones say.
    pub fn needed(&self) -> Option<String> {
        let Expected { what, bytes, seen } = self.expected;
        let bytes = bytes?;
        let like =
            if seen == 1 { format!("the last {what}") } else { format!("the largest of the last {what}s") };
        Some(format!("{like} took {bytes} bytes ({})", Size(bytes)))
    }

    fn share(&self, bytes: u64) -> Percent {
        Percent((bytes as f64 / self.space.total.max(1) as f64 * 1000.0).floor() / 10.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(free: u64, min_free: f64, predicted: Option<u64>, with_postgres: bool) -> Room {
        let space = Space { free, total: 1000 << 20 };
        let expected = Expected { what: "dump", bytes: predicted, seen: 7 };
        Room { space, min_free: Percent(min_free), expected, with_postgres }
    }

    #[test]
    fn what_a_dump_would_leave_is_at_least_min_free() {
        let check = |room: Room, expected: Option<&str>| {
            let found = room.enough(Path::new("/b")).err().map(|error| error.to_string());
            let expected = expected.map(|why| {
                format!("not started: the file system of /b has {why}: make room, or lower min_free")
            });
            assert_eq!(found, expected);
        };
        check(room(100 << 20, 10.0, None, false), None);
        check(room(99 << 20, 10.0, None, false), Some("99.0 MiB free of 1000 MiB (9.9%); min_free is 10%"));
        check(room(300 << 20, 10.0, Some(200 << 20), false), None);
        check(
            room(300 << 20, 10.0, Some(201 << 20), false),
            Some(
                "300 MiB free of 1000 MiB (30%), and a dump like the last ones (201 MiB) would leave 9.9%; \
                 min_free is 10%",
            ),
        );
        let archive = Expected { what: "archive", bytes: Some(90 << 20), seen: 1 };
        check(
            Room { expected: archive, ..room(100 << 20, 10.0, None, false) },
            Some(
                "100 MiB free of 1000 MiB (10%), and an archive like the last one (90.0 MiB) would leave 1%; min_free \
                 is 10%",
            ),
        );
        check(room(1, 0.0, None, false), None);
        check(
            room(49 << 20, 0.0, None, true),
            Some(
                "49.0 MiB free of 1000 MiB (4.9%); PostgreSQL's data is on it too, and needs 50.0 MiB; min_free is 0%",
            ),
        );
    }

    #[test]
    fn half_of_min_free_is_the_floor_and_more_beside_postgresql() {
        let check = |min_free: f64, with_postgres: bool, expected: u64| {
            assert_eq!(room(0, min_free, None, with_postgres).floor(), expected << 20);
        };
        check(10.0, false, 50);
        check(0.0, false, 0);
        check(0.0, true, 50);
        check(30.0, true, 150);
        let large = Space { free: 0, total: 1 << 40 };
        assert_eq!(Room { space: large, ..room(0, 0.0, None, true) }.floor(), 1 << 30);
    }
}
