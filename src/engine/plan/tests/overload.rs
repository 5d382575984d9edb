//! Slots that come faster than runs end, for thousands of slots: what waits stays bounded, and nothing is lost.

use super::*;

/// One slot a second, and `takes` seconds a run: what became of the slots, and the most that waited when one looked.
#[track_caller]
fn check_backlog(spec: JobSpec, slots: usize, takes: usize, most_waiting: usize, started: usize) {
    let mut world = World::new(vec![table(3, [spec])], Recovered::default(), at("10:00:00.5"));
    let (mut most, mut begun) = (0, HashMap::new());
    for second in 1..=slots {
        world.pass_until(at("10:00") + Duration::from_secs(second as u64));
        world.transcript.clear();
        let looks = second % 250 == 7;
        if looks {
            most = most.max(world.plan.queued().len());
        }
        // Ten thousand that wait are not looked through for each slot.
        if !looks && takes > slots {
            continue;
        }
        let running = world.runs.iter().filter(|(_, run)| run.started);
        for (run, ending) in running.map(|(run, playing)| (*run, playing.ending)).collect::<Vec<_>>() {
            let since = *begun.entry(run).or_insert(second);
            if second - since >= takes || ending {
                let outcome = if ending { Outcome::Cancelled } else { Outcome::Succeeded };
                world.end(run, outcome);
            }
        }
    }
    assert_eq!(world.rows.len(), slots, "each slot has its one row");
    assert_eq!((most, begun.len()), (most_waiting, started));
}

#[test]
fn skip_runs_when_there_is_room_and_nothing_waits() {
    check_backlog(job("a", "* * * * * *"), 3000, 10, 0, 273);
}

#[test]
fn queue_holds_one() {
    check_backlog(job("a", "* * * * * *").overlap(Overlap::Queue), 3000, 10, 1, 273);
}

#[test]
fn replace_never_has_more_than_one_waiting() {
    check_backlog(job("a", "* * * * * *").overlap(Overlap::Replace), 3000, 10, 1, 2999);
}

#[test]
fn allow_uses_the_places_that_there_are() {
    check_backlog(job("a", "* * * * * *").overlap(Overlap::Allow), 1100, 10, 731, 300);
}

#[test]
fn allow_piles_up_no_more_than_ten_thousand() {
    check_backlog(job("a", "* * * * * *").overlap(Overlap::Allow), 10_500, 20_000, 10_000, 3);
}

#[test]
fn a_catch_up_of_all_that_is_missed_again_and_again_piles_up_no_more_either() {
    let spec = job("a", "* * * * * *").missed(MissedPolicy::RunAll).within(100_000);
    let mut world = World::new(vec![table(64, [spec])], Recovered::default(), at("10:00:00.5"));
    for hour in 1..4 {
        world.now = at("10:00") + Duration::from_secs(hour * 7200);
        world.handle(Event::Tick);
    }
    assert_eq!(world.plan.queued().len() + world.runs.values().filter(|run| run.started).count(), 10_001);
    let slots: u64 = world.rows.iter().map(|row| row.slots).sum();
    assert_eq!(slots, 3 * 7200, "each slot is in one row");
}

#[test]
fn a_manual_run_on_top_of_ten_thousand_is_refused() {
    let spec = job("a", "* * * * * *").missed(MissedPolicy::RunAll).within(100_000).overlap(Overlap::Allow);
    let mut world = World::new(vec![table(1, [spec])], Recovered::default(), at("10:00"));
    world.now = at("15:00");
    world.handle(Event::Tick);
    world.transcript.clear();
    world.handle(Event::Manual {
        job: JobName::new("a").unwrap(),
        request: 1,
        by: "root".into(),
        dry_run: false,
    });
    assert_eq!(world.transcript, "15:00 refuse RunsAlready(RunId(1))\n");
}
