//! What people ask of a daemon: a new table, a bad one, pauses, runs by hand, cancels. Each is told to the timeline as
//! it was answered; none of them kills anything.

use punk_eco_sched::model::RunId;

use super::Driver;
use crate::timeline::What;

impl Driver {
    pub(super) fn change_table(&mut self) {
        for _ in 0..self.random.between(1, 3) {
            let said = self.table.change(&mut self.random, self.real);
            self.host.note(said);
        }
        self.write_table();
    }

    pub(super) fn reload(&mut self) -> Result<(), String> {
        self.change_table();
        let wall = self.host.now();
        self.host.client()?.reload().map_err(|error| format!("the reload: {error}"))?;
        let (jobs, until) = (self.table.jobs.clone(), self.host.now());
        self.host.record(wall, What::Reloaded { jobs, until });
        self.host.sync()
    }

    pub(super) fn reload_badly(&mut self) -> Result<(), String> {
        let bad = *self.random.pick(&["jobs: {}\n", "jobs:\n  a: { schedule: '61 * * * *' }\n", "\u{0}", ""]);
        std::fs::write(self.host.dir.join("jobs.yaml"), bad).unwrap();
        let answer = self.host.client()?.reload();
        self.write_table();
        if answer.is_ok() {
            return Err(format!("a bad file was taken: {bad:?}"));
        }
        self.host.record(self.host.now(), What::BadReload);
        self.host.sync()
    }

    pub(super) fn pause_or_resume(&mut self) -> Result<(), String> {
        if !self.paused.is_empty() && self.random.percent(70) {
            return self.resume();
        }
        let job = (!self.random.percent(25)).then(|| self.random.pick(&self.table.jobs).name.clone());
        self.pause(job.clone())?;
        if !self.paused.contains(&job) {
            self.paused.push(job);
        }
        Ok(())
    }

    pub(super) fn pause(&mut self, job: Option<String>) -> Result<(), String> {
        let (wall, after) = (self.host.now(), self.host.last_row());
        self.host.client()?.pause(job.as_deref(), None).map_err(|error| format!("the pause: {error}"))?;
        let by = self.host.last_row();
        self.host.record(wall, What::Paused { job, after, by });
        Ok(())
    }

    pub(super) fn resume(&mut self) -> Result<(), String> {
        let Some(job) = self.paused.pop() else { return Ok(()) };
        let (wall, after) = (self.host.now(), self.host.last_row());
        let answer = self.host.client()?.resume(job.as_deref());
        // Its job may be gone from the table.
        let known = job.as_ref().is_none_or(|job| self.table.jobs.iter().any(|one| one.name == *job));
        if let Err(error) = answer
            && known
        {
            return Err(format!("the resume: {error}"));
        }
        let by = self.host.last_row();
        self.host.record(wall, What::Resumed { job, after, by });
        Ok(())
    }

    pub(super) fn run_now(&mut self) -> Result<(), String> {
        let job = self.random.pick(&self.table.jobs).name.clone();
        let wall = self.host.now();
        // It may run already.
        if let Ok(RunId(run)) = self.host.client()?.run_now(&job, false, false) {
            self.host.record(wall, What::Manual { job, run });
        }
        Ok(())
    }

    pub(super) fn cancel(&mut self) -> Result<(), String> {
        let status = self.host.client()?.status().map_err(|error| error.to_string())?;
        if status.running.is_empty() {
            return self.run_now();
        }
        let run = self.random.pick(&status.running).run;
        let wall = self.host.now();
        // It may have ended meanwhile.
        if self.host.client()?.cancel(run).is_ok() {
            self.host.record(wall, What::Cancelled { run: run.0 });
        }
        Ok(())
    }
}
