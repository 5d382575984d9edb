//! Random tables of jobs, and their text as jobs.yaml.

use std::fmt::Write as _;
use std::path::Path;

use crate::random::Random;
use crate::timeline::Job;

const ZONES: &[&str] = &[
    "UTC",
    "Europe/Paris",
    "Africa/Casablanca",
    "Australia/Lord_Howe",
    "America/New_York",
    "America/St_Johns",
    "Asia/Kolkata",
];

const OFTEN: &[&str] = &[
    "*/5 * * * *",
    "*/15 * * * *",
    "@every 7m",
    "@every 90s",
    "* * * * *",
    "7-59/10 * * * *",
    "30 */4 * * * *",
    "*/20 8-20 * * *",
    // Fixed times, however often: they never run twice.
    "0-59/10 0-23 * * *",
    "1-59/4 0-23 * * *",
    "3,33 0-23 * * *",
];

const SELDOM: &[&str] = &[
    "0 * * * *",
    "@hourly",
    "@daily",
    "30 2 * * *",
    "0 2 * * *",
    "15,45 1-3 * * *",
    "59 1 * * *",
    "0 3 * * 0",
    "0 12 1 * *",
    "10 */3 * * *",
    "0 30 2 * * *",
    "@every 26h",
    "*/30 2 * * *",
    "5 4 * * 1-5",
];

/// Where a seed begins: shortly before a change of some zone's clocks.
pub(crate) const BEGINNINGS: &[&str] = &[
    "2026-03-29T00:40:00Z", // Paris, forward
    "2026-10-25T00:30:00Z", // Paris, back
    "2026-02-15T01:40:00Z", // Casablanca, back for Ramadan
    "2026-03-22T01:40:00Z", // Casablanca, forward after it
    "2026-10-03T15:00:00Z", // Lord Howe, forward by half an hour
    "2026-04-04T14:30:00Z", // Lord Howe, back
    "2026-03-08T06:30:00Z", // New York, forward
    "2026-11-01T05:30:00Z", // New York, back
    "2028-02-28T23:30:00Z", // a leap day
    "2026-12-31T23:30:00Z",
];

/// What every table begins with, so that each rule meets a job that it is about, whatever the seed.
struct Core {
    schedule: &'static str,
    overlap: &'static str,
    interrupted: &'static str,
    behaviour: &'static str,
    number: i64,
}

const CORE: &[Core] = &[
    // Fixed times that come often, of runs that are soon over: what a clock that was set back must not run again.
    Core { schedule: "1-59/4 0-23 * * *", overlap: "skip", interrupted: "leave", behaviour: "ok", number: 0 },
    Core {
        schedule: "0-59/3 0-23 * * *",
        overlap: "allow",
        interrupted: "rerun",
        behaviour: "sleep",
        number: 15,
    },
    // Runs that last longer than the time between two slots.
    Core { schedule: "* * * * *", overlap: "queue", interrupted: "rerun", behaviour: "long", number: 90 },
    Core {
        schedule: "2-59/5 0-23 * * *",
        overlap: "skip",
        interrupted: "leave",
        behaviour: "long",
        number: 400,
    },
];

impl Core {
    fn shape(&self, job: &mut Job) {
        job.schedule = vec![self.schedule.to_owned()];
        job.timezone = "UTC".to_owned();
        job.enabled = true;
        job.overlap = self.overlap.to_owned();
        job.missed = "run_once".to_owned();
        job.within = None;
        job.interrupted = self.interrupted.to_owned();
        job.attempts = 1;
        job.timeout = 3_600_000;
        job.jitter = 0;
        job.group = None;
        job.after = None;
        job.behaviour = self.behaviour.to_owned();
        job.number = self.number;
    }
}

pub(crate) struct Table {
    pub(crate) jobs: Vec<Job>,
    max_running: i64,
    serial: usize,
}

impl Table {
    pub(crate) fn random(random: &mut Random, real: bool) -> Self {
        let mut table = Self { jobs: vec![], max_running: *random.pick(&[3, 5, 64]), serial: 0 };
        if !real {
            for core in CORE {
                table.add(random, real);
                core.shape(table.jobs.last_mut().unwrap());
            }
        }
        for _ in 0..random.between(10, if real { 14 } else { 18 }) {
            table.add(random, real);
        }
        table
    }

    /// A new name each time; what runs how often is drawn so that a seed stays short.
    pub(crate) fn add(&mut self, random: &mut Random, real: bool) {
        let serial = self.serial;
        self.serial += 1;
        let mut job = Job {
            name: format!("j{serial:02}"),
            schedule: vec![],
            timezone: (*random.pick(ZONES)).to_owned(),
            enabled: !random.percent(4),
            overlap: (*random.pick(&["skip", "skip", "queue", "replace", "allow"])).to_owned(),
            missed: (*random.pick(&["run_once", "run_once", "skip", "run_all"])).to_owned(),
            within: random.percent(20).then(|| *random.pick(&[30, 600, 7200])),
            interrupted: (*random.pick(&["leave", "rerun"])).to_owned(),
            attempts: if random.percent(25) { 2 } else { 1 },
            timeout: 3_600_000,
            jitter: if random.percent(10) { random.between(1, 8) } else { 0 },
            group: (serial % 5 == 4).then(|| "shared".to_owned()),
            after: None,
            behaviour: "ok".to_owned(),
            number: 0,
        };
        self.schedule(&mut job, random, real);
        behave(&mut job, random, real);
        if random.percent(12) && !self.jobs.is_empty() {
            let of = random.pick(&self.jobs).clone();
            if of.after.is_none() {
                job.after = Some(of.name);
                job.schedule.clear();
            }
        }
        self.jobs.push(job);
    }

    pub(crate) fn schedule(&self, job: &mut Job, random: &mut Random, real: bool) {
        if real {
            let every = [
                "*/2 * * * * *",
                "*/3 * * * * *",
                "@every 5s",
                "1-59/7 * * * * *",
                "*/10 * * * * *",
                "* * * * *",
            ];
            job.schedule = vec![(*random.pick(&every)).to_owned()];
            job.jitter = job.jitter.min(1);
            return;
        }
        let often = random.percent(40) && job.missed != "run_all";
        let from = if often { OFTEN } else { SELDOM };
        job.schedule = vec![(*random.pick(from)).to_owned()];
        if random.percent(15) {
            let further = (*random.pick(SELDOM)).to_owned();
            if further != job.schedule[0] {
                job.schedule.push(further);
            }
        }
    }

    pub(crate) fn change(&mut self, random: &mut Random, real: bool) -> String {
        let index = usize::try_from(random.between(0, i64::try_from(self.jobs.len()).unwrap() - 1)).unwrap();
        let followed = self.jobs.iter().any(|job| job.after.as_ref() == Some(&self.jobs[index].name));
        let mut job = self.jobs[index].clone();
        let what = match random.between(0, 6) {
            0 if job.after.is_none() => {
                self.schedule(&mut job, random, real);
                "schedule"
            }
            1 => {
                job.timezone = (*random.pick(ZONES)).to_owned();
                "zone"
            }
            2 => {
                job.overlap = (*random.pick(&["skip", "queue", "replace", "allow"])).to_owned();
                "overlap"
            }
            3 if !followed => {
                self.jobs.remove(index);
                return format!("removed {}", job.name);
            }
            4 => {
                self.add(random, real);
                return "added".to_owned();
            }
            5 if !followed => {
                let old = std::mem::replace(&mut job.name, format!("r{:02}", self.serial));
                self.serial += 1;
                job.group = None;
                self.jobs[index] = job;
                return format!("renamed {old}");
            }
            _ => {
                job.enabled = !job.enabled;
                "enabled"
            }
        };
        let said = format!("{what} of {}", job.name);
        self.jobs[index] = job;
        said
    }

    pub(crate) fn text(&self, host: &Path, program: &Path) -> String {
        let dir = host.display();
        let mut text = format!(
            "timezone: UTC\npaths: {{ state: {dir}/state, logs: {dir}/logs, socket: {dir}/control.sock }}\n\
             logs: {{ keep_history: 36500d }}\nlimits: {{ max_running: {} }}\njobs:\n",
            self.max_running
        );
        for job in &self.jobs {
            write(&mut text, job, host, program);
        }
        text
    }
}

fn behave(job: &mut Job, random: &mut Random, real: bool) {
    let long = if real { random.between(1, 8) } else { *random.pick(&[20, 90, 400, 4000]) };
    let (behaviour, number) = match random.between(0, 19) {
        0..=6 => ("ok", 0),
        7..=9 => ("fail", random.between(1, 9)),
        10..=12 => ("sleep", random.between(5, 150)),
        13..=16 => ("long", long),
        17 => ("child", 100_000),
        18 => ("crash", 0),
        _ => {
            // Its timeout is one of real time.
            job.timeout = random.between(300, 900);
            job.attempts = 1;
            ("long", 100_000)
        }
    };
    job.behaviour = behaviour.to_owned();
    job.number = number;
    if behaviour == "long" && job.timeout > 1_000_000 && random.percent(8) {
        job.behaviour = "stubborn".to_owned();
    }
    // It would wait for each in turn.
    if job.missed == "run_all" && ["long", "stubborn"].contains(&job.behaviour.as_str()) {
        job.missed = "run_once".to_owned();
    }
}

fn write(text: &mut String, job: &Job, host: &Path, program: &Path) {
    writeln!(text, "  {}:", job.name).unwrap();
    if !job.schedule.is_empty() {
        writeln!(text, "    schedule: {:?}", job.schedule).unwrap();
        writeln!(text, "    timezone: {}", job.timezone).unwrap();
        match job.within {
            Some(within) => {
                writeln!(text, "    missed: {{ policy: {}, within: {within}s }}", job.missed).unwrap();
            }
            None => writeln!(text, "    missed: {}", job.missed).unwrap(),
        }
        if job.jitter > 0 {
            writeln!(text, "    jitter: {}s", job.jitter).unwrap();
        }
    }
    if let Some(after) = &job.after {
        writeln!(text, "    after: [{after}]").unwrap();
    }
    if let Some(group) = &job.group {
        writeln!(text, "    group: {group}").unwrap();
    }
    if !job.enabled {
        writeln!(text, "    enabled: false").unwrap();
    }
    writeln!(text, "    overlap: {}\n    interrupted: {}", job.overlap, job.interrupted).unwrap();
    writeln!(
        text,
        "    retries: {{ attempts: {}, backoff: 50ms, max_backoff: 100ms }}\n    timeout: {}ms",
        job.attempts, job.timeout
    )
    .unwrap();
    let mut locks = vec![];
    if job.overlap != "allow" {
        locks.push(format!("job-{}", job.name));
    }
    locks.extend(job.group.iter().map(|group| format!("group-{group}")));
    let locks = if locks.is_empty() { "-".to_owned() } else { locks.join(",") };
    let arguments = [
        program.to_str().unwrap(),
        crate::evidence::VERB,
        host.to_str().unwrap(),
        &job.name,
        &locks,
        &job.behaviour,
        &job.number.to_string(),
    ];
    writeln!(text, "    command: {{ run: {arguments:?} }}").unwrap();
}
