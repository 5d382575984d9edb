//! What holds whatever happens: random tables, policies, clocks, ends, reloads, pauses, restarts.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::policy::PUNCTUAL;

#[derive(Clone, Debug)]
enum Step {
    /// Seconds pass and the alarm rings.
    Pass(u32),
    /// Seconds pass in which the daemon sleeps.
    Jump(u32),
    /// The clock is set back.
    Back(u32),
    End(Index, bool),
    Cancel(Index),
    Manual(Index),
    Pause(Option<Index>, Option<u32>),
    Resume(Option<Index>),
    Reload(Index),
    /// The daemon is killed, and begins again so many seconds later with this table.
    Restart(Index, u32),
    /// The same, and somebody sets the clock back by so many seconds meanwhile.
    RestartBack(Index, u32),
}

/// Time by one table, within one stretch that no step of the clock cuts.
struct Piece {
    table: Arc<JobTable>,
    from: Timestamp,
    until: Timestamp,
}

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
const SCHEDULES: [&str; 8] = [
    "",
    "* * * * *",
    "*/5 * * * *",
    "@every 70s",
    "3,9,30 10-12 * * *",
    "7 10 * * * + */10 * * * *",
    "*/40 * * * * *",
    "15 10 * * * + 15 11 * * *",
];

fn spec(name: &'static str, jitter: bool) -> impl Strategy<Value = JobSpec> {
    let overlap =
        prop_oneof![Just(Overlap::Skip), Just(Overlap::Queue), Just(Overlap::Replace), Just(Overlap::Allow)];
    let missed =
        prop_oneof![Just(MissedPolicy::RunOnce), Just(MissedPolicy::RunAll), Just(MissedPolicy::Skip)];
    let within = prop::option::of(1_u64..400);
    let group = prop::option::of(prop_oneof![Just("g"), Just("h")]);
    let jitter = if jitter { prop_oneof![2 => Just(0), 1 => 1_u64..400].boxed() } else { Just(0).boxed() };
    let after = prop::option::of(0..NAMES.len());
    (
        prop::sample::select(&SCHEDULES[..]),
        overlap,
        missed,
        within,
        group,
        jitter,
        after,
        prop::bool::weighted(0.9),
    )
        .prop_map(move |(schedule, overlap, missed, within, group, jitter, after, enabled)| {
            let mut spec = job(name, schedule).overlap(overlap).missed(missed).jitter(jitter);
            spec.missed.within = within.map(Duration::from_secs);
            spec.group = group.map(str::to_owned);
            spec.enabled = enabled;
            // Only jobs of an earlier name, as a table has no cycles.
            spec.after.extend(
                after.map(|of| NAMES[of]).filter(|of| *of < name).map(|of| JobName::new(of).unwrap()),
            );
            spec
        })
}

fn tables(jitter: bool) -> impl Strategy<Value = Vec<Arc<JobTable>>> {
    let jobs = NAMES.map(|name| prop::option::weighted(0.8, spec(name, jitter)));
    let one = (1_usize..4, jobs).prop_map(|(max, jobs)| {
        let mut jobs: Vec<JobSpec> = jobs.into_iter().flatten().collect();
        let names: BTreeSet<JobName> = jobs.iter().map(|job| job.name.clone()).collect();
        jobs.iter_mut().for_each(|job| job.after.retain(|of| names.contains(of)));
        table(max, jobs)
    });
    prop::collection::vec(one, 1..4)
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<Index>;
    prop_oneof![
        6 => (1_u32..600).prop_map(Step::Pass),
        2 => (1_u32..2000).prop_map(Step::Jump),
        8 => (index(), prop::bool::weighted(0.7)).prop_map(|(run, well)| Step::End(run, well)),
        1 => index().prop_map(Step::Cancel),
        2 => index().prop_map(Step::Manual),
        1 => (prop::option::of(index()), prop::option::of(1_u32..900)).prop_map(|(job, until)| Step::Pause(job, until)),
        1 => prop::option::of(index()).prop_map(Step::Resume),
    ]
}

fn step_of_tables() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => step(),
        1 => any::<Index>().prop_map(Step::Reload),
        1 => (any::<Index>(), 1_u32..2000).prop_map(|(table, seconds)| Step::Restart(table, seconds)),
    ]
}

fn step_of_clocks() -> impl Strategy<Value = Step> {
    prop_oneof![12 => step(), 2 => back()]
}

/// Small ones, which add up, among larger ones.
fn back() -> impl Strategy<Value = Step> {
    prop_oneof![1_u32..15, 10_u32..900].prop_map(Step::Back)
}

fn step_of_all() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => step(),
        3 => back(),
        1 => any::<Index>().prop_map(Step::Reload),
        1 => (any::<Index>(), 1_u32..2000).prop_map(|(table, seconds)| Step::Restart(table, seconds)),
        1 => (any::<Index>(), 1_u32..2000).prop_map(|(table, seconds)| Step::RestartBack(table, seconds)),
    ]
}

impl World {
    /// `since`: when the table in force came.
    fn step(&mut self, step: &Step, since: Timestamp) {
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        let name = |index: &Index| JobName::new(NAMES[index.index(NAMES.len())]).unwrap();
        let started: Vec<RunId> =
            self.runs.iter().filter(|(_, playing)| playing.started).map(|(run, _)| *run).collect();
        match step {
            Step::Pass(by) => {
                let end = self.now + seconds(*by);
                self.pass_until(end);
            }
            Step::Jump(by) => {
                self.now += seconds(*by);
                self.handle(Event::Tick);
                let wake = self.plan.next_wake();
                assert!(wake.is_none_or(|wake| wake > self.now), "wakes at {wake:?}, now {}", self.now);
            }
            Step::Back(by) => {
                self.now -= seconds(*by);
                self.handle(Event::ClockStepped { back: Some(seconds(*by)) });
                let wake = self.plan.next_wake();
                assert!(wake.is_none_or(|wake| wake > self.now), "wakes at {wake:?}, now {}", self.now);
            }
            Step::End(run, well) if !started.is_empty() => {
                self.end(
                    started[run.index(started.len())],
                    if *well { Outcome::Succeeded } else { Outcome::Failed },
                );
            }
            Step::Cancel(run) if !self.runs.is_empty() => {
                let run = *self.runs.keys().nth(run.index(self.runs.len())).unwrap();
                self.handle(Event::Cancel { run });
            }
            Step::End(..) | Step::Cancel(..) => {}
            Step::Manual(job) => {
                self.handle(Event::Manual { job: name(job), request: 1, by: String::new(), dry_run: false });
            }
            Step::Pause(job, until) => {
                let (job, until) = (job.as_ref().map(name), until.map(|until| self.now + seconds(until)));
                let named = job.as_ref().map(ToString::to_string);
                let record = PauseRecord { job: named, since: self.now, until, by: String::new() };
                self.pauses.insert(job.clone(), record);
                self.handle(Event::Pause { job, until });
            }
            Step::Resume(job) => {
                let job = job.as_ref().map(name);
                self.pauses.remove(&job);
                self.handle(Event::Resume { job });
            }
            Step::Reload(to) => {
                let to = self.tables[to.index(self.tables.len())].clone();
                self.handle(Event::Reload(to));
            }
            Step::Restart(to, offline) => {
                let to = self.tables[to.index(self.tables.len())].clone();
                self.now += seconds(*offline);
                self.restart(&to, since);
            }
            Step::RestartBack(to, by) => {
                let to = self.tables[to.index(self.tables.len())].clone();
                self.now -= seconds(*by);
                self.restart(&to, since);
            }
        }
        let waiting = self.runs.values().any(|playing| !playing.started);
        let running = self.runs.values().any(|playing| playing.started);
        assert!(running || !waiting, "runs wait for nobody");
    }

    fn restart(&mut self, to: &Arc<JobTable>, since: Timestamp) {
        // Whose program died with its daemon.
        let again = |(run, playing): (&RunId, &Playing)| {
            let known = to.job(playing.job.as_str()).is_some();
            (run.0 % 3 == 0 && playing.started && !playing.ending && known).then_some(*run)
        };
        let again: BTreeSet<RunId> = self.runs.iter().filter_map(again).collect();
        let open = |(run, playing): (&RunId, &Playing)| OpenRun {
            run: *run,
            job: playing.job.clone(),
            slot: playing.slot,
            epoch: playing.epoch,
            queued: !playing.started,
            again: again.contains(run),
            dry_run: false,
            ended_at: None,
            ended: None,
        };
        let past = recovered(
            &self.accounted.unwrap().to_string().replace("2026-01-", "").replace('Z', ""),
            self.plan.table(),
        );
        let recovered = Recovered {
            past_since: Some(since),
            open: self.runs.iter().map(open).collect(),
            pauses: self.pauses.values().cloned().collect(),
            slots: self.newest.clone().into_iter().collect(),
            epochs: self.epochs.clone().into_iter().collect(),
            ..past
        };
        let ledger = &self.ledger;
        let (plan, decisions) =
            Plan::new(to.clone(), recovered, self.now, "host", &|row| super::refuses(ledger, row));
        self.plan = plan;
        // The plan can't know any more how they came about, but for the policy of today, nor the groups of jobs
        // that are gone.
        self.runs.values_mut().for_each(|playing| playing.group = None);
        let runs_all: Vec<RunId> = self
            .runs
            .iter()
            .filter(|(_, playing)| self.runs_all(&playing.job))
            .map(|(run, _)| *run)
            .collect();
        self.runs.iter_mut().for_each(|(run, playing)| {
            playing.serial &= runs_all.contains(run);
            playing.started &= !again.contains(run);
        });
        self.regroup();
        self.carry_out(decisions);
    }

    /// Ends whatever runs until nothing is left.
    fn finish(&mut self) {
        for _ in 0..100_000 {
            let Some(run) = self.runs.iter().find(|(_, playing)| playing.started).map(|(run, _)| *run) else {
                break;
            };
            self.end(run, Outcome::Failed);
        }
        assert!(self.runs.is_empty(), "forgotten: {:?}", self.runs);
    }

    /// How many rows stand for each slot.
    fn rows_by_slot(&self) -> HashMap<(JobName, Timestamp), usize> {
        let mut counts = HashMap::new();
        for row in &self.rows {
            let Some(first) = row.slot else { continue };
            let spec = self.tables.iter().filter_map(|table| table.job(row.job.as_str()));
            let last = row.slot_last.unwrap_or(first);
            let mut slots = BTreeSet::from([first]);
            if row.slots > 1 {
                slots = spec
                    .map(|spec| slots_between(spec, first, last).collect())
                    .find(|slots: &BTreeSet<_>| {
                        slots.len() as u64 == row.slots
                            && slots.first() == Some(&first)
                            && slots.last() == Some(&last)
                    })
                    .unwrap();
            }
            slots.into_iter().for_each(|slot| *counts.entry((row.job.clone(), slot)).or_default() += 1);
        }
        counts
    }
}

fn slots_between(spec: &JobSpec, from: Timestamp, until: Timestamp) -> impl Iterator<Item = Timestamp> {
    let schedule = spec.schedule.clone().filter(|_| spec.enabled);
    let next = move |after: Timestamp| schedule.as_ref()?.next_after(after);
    let first = next(from - Duration::from_nanos(1));
    std::iter::successors(first, move |slot| next(*slot)).take_while(move |slot| *slot <= until)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Each slot has one row by the table of its time, through reloads, restarts, sleep, pauses and jitter.
    #[test]
    fn every_slot_of_every_table_has_one_row(
        tables in tables(true),
        steps in prop::collection::vec(step_of_tables(), 1..40),
    ) {
        let mut world = World::new(tables, Recovered::default(), at("10:00:00.5"));
        let mut eras = vec![(world.now, world.plan.table().clone())];
        for step in &steps {
            // A daemon that is killed has the old table in force until the next one begins.
            world.step(step, eras[eras.len() - 1].0);
            if !Arc::ptr_eq(&eras[eras.len() - 1].1, world.plan.table()) {
                eras.push((world.now, world.plan.table().clone()));
            }
        }
        world.finish();
        world.now += Duration::from_secs(3600);
        world.handle(Event::Stop);
        let end = world.accounted.unwrap();
        let mut expected = BTreeSet::new();
        for (era, (from, table)) in eras.iter().enumerate() {
            let until = eras.get(era + 1).map_or(end, |(next, _)| end.min(*next));
            for spec in &table.jobs {
                expected.extend(slots_between(spec, *from, until).map(|slot| (spec.name.clone(), slot)));
            }
        }
        let rows = world.rows_by_slot();
        for (job, slot) in &expected {
            prop_assert_eq!(rows.get(&(job.clone(), *slot)), Some(&1), "{} {}\n{}", job, show(*slot), world.transcript);
        }
        // A job's first slots after it got jitter may be judged by the table before, if the daemon dies then.
        let jitters = |job: &JobName| {
            eras.iter().any(|(_, table)| table.job(job.as_str()).is_some_and(|spec| !spec.jitter.is_zero()))
        };
        for row in world.rows.iter().filter(|row| row.slot.is_some_and(|slot| slot <= end)) {
            let known = expected.contains(&(row.job.clone(), row.slot.unwrap()));
            prop_assert!(known || jitters(&row.job), "{row:?}\n{}", world.transcript);
        }
    }

    /// Each interval slot has one row for each time that the clock came by it; each fixed-time slot has one at least,
    /// and runs once at most. By jitter too, which lets slots wait while the clock goes back.
    #[test]
    fn every_slot_has_one_row_each_time_the_clock_passes_it(
        tables in tables(true),
        steps in prop::collection::vec(step_of_clocks(), 1..40),
    ) {
        check_pieces(tables, &steps, 1)?;
    }

    /// The same through reloads and restarts, and with clocks that are set while no daemon looks.
    #[test]
    fn every_slot_of_every_stretch_of_time_has_its_rows(
        tables in tables(false),
        steps in prop::collection::vec(step_of_all(), 1..40),
    ) {
        check_pieces(tables, &steps, usize::MAX)?;
    }
}

fn check_pieces(mut tables: Vec<Arc<JobTable>>, steps: &[Step], most: usize) -> Result<(), TestCaseError> {
    tables.truncate(most);
    let start = at("10:00:00.5");
    let mut world = World::new(tables, Recovered::default(), start);
    let table = world.plan.table().clone();
    let mut pieces = vec![Piece { table, from: start, until: start }];
    // As far as the plan has seen the clock.
    let mut latest = start;
    for step in steps {
        let last = pieces.len() - 1;
        if !matches!(step, Step::Restart(..) | Step::RestartBack(..)) {
            latest = latest.max(world.now);
        } else {
            // A daemon knows what its ledger tells.
            latest = world.accounted.unwrap();
        }
        world.step(step, pieces[last].from);
        let now = world.now;
        // Measured by itself, or added up.
        let cut = matches!(step, Step::Back(11..)) || latest > now + PUNCTUAL;
        pieces[last].until = if cut { latest } else { latest.max(now) };
        latest = if cut { now } else { latest.max(now) };
        let table = world.plan.table().clone();
        if cut || !Arc::ptr_eq(&pieces[last].table, &table) {
            let from = latest;
            pieces.push(Piece { table, from, until: from });
        }
    }
    world.finish();
    world.now = world.now.max(pieces[pieces.len() - 1].until) + Duration::from_secs(3600);
    world.handle(Event::Stop);
    if let Some(last) = pieces.last_mut() {
        last.until = world.accounted.unwrap();
    }

    let mut expected: BTreeMap<(JobName, Timestamp), (usize, usize)> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut end = None;
    for piece in &pieces {
        if end.replace(piece.until) != Some(piece.from) {
            seen.clear();
        }
        for spec in &piece.table.jobs {
            for slot in slots_between(spec, piece.from, piece.until) {
                // Where a table came at the very instant of a slot, several tables have it, and it comes once.
                if !seen.insert((&spec.name, slot)) {
                    continue;
                }
                let interval =
                    spec.schedule.as_ref().is_some_and(|schedule| slots::is_interval(schedule, slot));
                let (intervals, all) = expected.entry((spec.name.clone(), slot)).or_default();
                *intervals += usize::from(interval);
                *all += 1;
            }
        }
    }
    let rows = world.rows_by_slot();
    let stretches: Vec<_> = pieces.iter().map(|piece| (show(piece.from), show(piece.until))).collect();
    for ((job, slot), (intervals, all)) in &expected {
        let rows = rows.get(&(job.clone(), *slot)).copied().unwrap_or_default();
        let fits = ((*intervals).max(1)..=*all).contains(&rows);
        prop_assert!(fits, "{job} {} has {rows} rows\n{stretches:?}\n{}", show(*slot), world.transcript);
        let runs = |row: &&NewRow| {
            row.job == *job && row.slot == Some(*slot) && !matches!(row.state, NewState::Skipped(_))
        };
        let runs = world.rows.iter().filter(runs).count();
        prop_assert!(
            // One that was an interval's by another table runs for itself.
            runs <= if *intervals == 0 { 1 } else { *all },
            "{job} {} runs {runs} times\n{}",
            show(*slot),
            world.transcript
        );
    }
    for row in &world.rows {
        let known = row.slot.is_none_or(|slot| {
            slot > pieces[pieces.len() - 1].until || expected.contains_key(&(row.job.clone(), slot))
        });
        prop_assert!(known, "a row without a slot: {row:?}\n{stretches:?}\n{}", world.transcript);
    }
    Ok(())
}
