//! Which programs run, in a file: for a daemon that finds them when this process was killed.
//!
//! A program may hide every mark by which it would be known. Nothing is synced: what would lose these lines ends the
//! programs as well. Where they can't be written (the disk is full), the marks have to do.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use super::Server;
use super::program::Program;
use crate::host::process::Recorded;
use crate::host::procfs;

/// Lines of ended programs that are kept before the file is written anew.
const ENDED: usize = 1000;

#[derive(Default)]
pub(super) struct Record {
    path: Option<PathBuf>,
    file: Option<File>,
    lines: usize,
    boot: String,
}

impl Record {
    pub(super) fn new(path: PathBuf) -> Self {
        // Of a former process with our number.
        let _ = std::fs::remove_file(&path);
        Self { path: Some(path), boot: procfs::boot_id(), ..Self::default() }
    }

    /// Best effort: nothing here may keep a program from being started.
    fn add(&mut self, programs: &[&Program]) {
        let mut text = vec![];
        for program in programs {
            let Some(keep) = &program.keep else { continue };
            let Some(start) = procfs::stat(program.pid).map(|stat| stat.start) else { continue };
            let recorded = Recorded {
                run: program.run.run,
                job: program.run.job.clone(),
                attempt: program.attempt,
                pid: program.pid,
                start,
                deadline: keep.deadline,
                boot: self.boot.clone(),
            };
            // The line before may have been cut.
            text.push(b'\n');
            // Serialising plain data into memory can't fail.
            let _ = serde_json::to_writer(&mut text, &recorded);
            self.lines += 1;
        }
        if let Some(file) = self.file() {
            let _ = file.write_all(&text);
        }
    }

    fn file(&mut self) -> Option<&mut File> {
        if self.file.is_none() {
            let path = self.path.as_ref()?;
            self.file = OpenOptions::new().append(true).create(true).mode(0o600).open(path).ok();
        }
        self.file.as_mut()
    }

    fn empty(&mut self) {
        self.lines = 0;
        if let Some(file) = &self.file {
            let _ = file.set_len(0);
        }
    }

    pub(super) fn remove(&mut self) {
        if let Some(path) = self.path.take() {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Server {
    pub(super) fn write_down(&mut self, id: u64) {
        let Some(program) = self.programs.get(&id) else { return };
        if program.keep.is_none() {
            return;
        }
        if self.record.lines < 2 * self.programs.len() + ENDED {
            return self.record.add(&[program]);
        }
        self.record.empty();
        let all: Vec<&Program> = self.programs.values().filter(|one| one.is_live()).collect();
        self.record.add(&all);
    }
}
