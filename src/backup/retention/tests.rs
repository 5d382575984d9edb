use proptest::prelude::*;

use super::*;

const DAY: i64 = 86_400;

fn now() -> Timestamp {
    "2026-11-22T23:00:00Z".parse().unwrap()
}

fn aged(database: &str, seconds: i64, standing: Standing) -> Candidate {
    let time = now() - SignedDuration::from_secs(seconds);
    Candidate { name: format!("{database}-{}", time.strftime("%m%d")).into(), ..at(database, time, standing) }
}

fn at(database: &str, time: Timestamp, standing: Standing) -> Candidate {
    Candidate {
        name: format!("{database}-{time}").into(),
        database: database.into(),
        time: Ok(time),
        standing,
    }
}

fn policy(keep_at_least: u32, require_newer_verified: bool, max_deletions: f64) -> Policy {
    Policy {
        older_than: Duration::from_secs(30 * 86_400),
        keep_at_least,
        keep: Keep::default(),
        zone: TimeZone::UTC,
        require_newer_verified,
        max_deletions: Percent(max_deletions),
    }
}

fn told(plan: &Plan) -> Vec<String> {
    let told = |reason: &Reason| format!("{} {reason}", if reason.deletes() { "delete:" } else { "keep:" });
    plan.reasons.iter().map(told).collect()
}

/// Each backup with what becomes of it.
fn check(policy: &Policy, expected: &[(Candidate, &str)]) {
    assert!(!judge(policy, expected).too_many);
}

fn judge(policy: &Policy, expected: &[(Candidate, &str)]) -> Plan {
    let candidates: Vec<Candidate> = expected.iter().map(|(candidate, _)| candidate.clone()).collect();
    let plan = plan(&candidates, policy, now());
    assert_eq!(told(&plan), expected.iter().map(|(_, told)| *told).collect::<Vec<_>>());
    plan
}

use Standing::{Doubtful, Fragment, Unproven, Verified};

#[test]
fn only_what_is_strictly_older_goes() {
    check(
        &policy(0, false, 100.0),
        &[
            (aged("a", 30 * DAY, Unproven), "keep: only 30d old"),
            (aged("a", 30 * DAY + 1, Unproven), "delete: 30d old"),
            (aged("a", 45 * DAY + 3601, Unproven), "delete: 45d old"),
        ],
    );
}

#[test]
fn so_many_of_each_database_stay() {
    check(
        &policy(2, false, 100.0),
        &[
            (aged("a", 40 * DAY, Unproven), "keep: number 2 of the 2 newest that are always kept"),
            (aged("b", 50 * DAY, Unproven), "keep: number 1 of the 2 newest that are always kept"),
            (aged("a", 41 * DAY, Unproven), "delete: 41d old"),
            (aged("a", 60, Unproven), "keep: only 1m old"),
        ],
    );
}

#[test]
fn what_can_t_be_judged_stays_and_takes_no_place() {
    let unknown = Candidate { time: Err("its manifest is torn".into()), ..aged("a", 0, Unproven) };
    check(
        &policy(1, false, 100.0),
        &[
            (
                aged("a", -3600, Verified),
                "keep: dated in the future, 2026-11-23T00:00:00Z: is the clock wrong, or was it?",
            ),
            (unknown, "keep: its manifest is torn"),
            (aged("a", 35 * DAY, Fragment), "delete: 35d old"),
            (aged("a", 40 * DAY, Unproven), "keep: number 1 of the 1 newest that are always kept"),
            (aged("a", 41 * DAY, Unproven), "delete: 41d old"),
        ],
    );
}

#[test]
fn doubtful_backups_push_out_no_sound_one() {
    check(
        &policy(2, false, 100.0),
        &[
            (aged("a", 31 * DAY, Doubtful), "keep: number 1 of the 2 newest that are always kept"),
            (aged("a", 32 * DAY, Doubtful), "keep: number 2 of the 2 newest that are always kept"),
            (aged("a", 33 * DAY, Unproven), "keep: number 1 of the 2 newest that are always kept"),
            (aged("a", 34 * DAY, Doubtful), "delete: 34d old"),
            (aged("a", 35 * DAY, Unproven), "keep: number 2 of the 2 newest that are always kept"),
            (aged("a", 36 * DAY, Unproven), "delete: 36d old"),
        ],
    );
}

#[test]
fn a_deletion_names_the_newer_verified_backup_that_allows_it() {
    check(
        &policy(0, true, 100.0),
        &[
            (aged("a", DAY, Doubtful), "keep: only 1d old"),
            (aged("a", 2 * DAY, Verified), "keep: only 2d old"),
            (aged("a", 3 * DAY, Verified), "keep: only 3d old"),
            (
                aged("a", 31 * DAY, Unproven),
                "keep: 31d old, but only 29d older than a-1120 of 2026-11-20T23:00:00Z, the newest verified one, from which \
                 age counts (require_newer_verified)",
            ),
            (
                aged("a", 40 * DAY, Verified),
                "delete: 40d old, and a-1120 of 2026-11-20T23:00:00Z is newer and verified",
            ),
            (
                aged("b", 60 * DAY, Unproven),
                "keep: no newer backup has been verified (require_newer_verified)",
            ),
            (
                aged("b", -60, Verified),
                "keep: dated in the future, 2026-11-22T23:01:00Z: is the clock wrong, or was it?",
            ),
            (
                aged("c", 50 * DAY, Unproven),
                "keep: no newer backup has been verified (require_newer_verified)",
            ),
            (
                aged("c", 40 * DAY, Doubtful),
                "keep: no newer backup has been verified (require_newer_verified)",
            ),
        ],
    );
}

#[test]
fn the_newest_of_each_period_stays_by_the_calendar_of_the_zone() {
    let of = |time: &str, standing| at("a", time.parse().unwrap(), standing);
    let keep = Keep { daily: 0, weekly: 2, monthly: 3, yearly: 2 };
    let zone = TimeZone::get("Africa/Lagos").unwrap();
    check(
        &Policy { keep, zone, older_than: Duration::from_secs(86_400), ..policy(0, false, 100.0) },
        &[
            (
                of("2026-11-20T23:00:00Z", Unproven),
                "keep: the newest of week 2026-W47, month 2026-11, year 2026",
            ),
            // The first of November there, where it is an hour later, and a Sunday.
            (of("2026-10-31T23:30:00Z", Doubtful), "keep: the newest of week 2026-W44"),
            (of("2026-10-31T22:30:00Z", Unproven), "keep: the newest of week 2026-W44, month 2026-10"),
            (of("2026-10-15T23:00:00Z", Unproven), "delete: 38d old"),
            (of("2026-09-30T20:00:00Z", Doubtful), "keep: the newest of month 2026-09"),
            (of("2026-09-29T20:00:00Z", Doubtful), "delete: 54d old"),
            (of("2026-09-28T20:00:00Z", Unproven), "keep: the newest of month 2026-09"),
            (of("2026-08-31T20:00:00Z", Unproven), "delete: 83d old"),
            (of("2025-12-31T23:30:00Z", Unproven), "delete: 325d old"),
            (of("2025-12-31T22:30:00Z", Unproven), "keep: the newest of year 2025"),
            (of("2024-12-31T20:00:00Z", Unproven), "delete: 691d old"),
        ],
    );
}

#[test]
fn more_than_the_share_is_too_many_and_the_share_itself_is_not() {
    let old = |days: i64, told: &'static str| (aged("a", days * DAY, Unproven), told);
    check(&policy(0, false, 50.0), &[old(40, "delete: 40d old"), old(1, "keep: only 1d old")]);
    let three = [old(40, "delete: 40d old"), old(41, "delete: 41d old"), old(2, "keep: only 2d old")];
    assert!(judge(&policy(0, false, 66.6), &three).too_many);
    check(&policy(0, false, 0.0), &[]);
}

/// What one night brings.
#[derive(Clone, Copy, Debug)]
enum Night {
    Dump(Standing),
    /// Nothing appears.
    Failed,
    /// The dump's clock was ahead by so many days.
    Ahead(u8),
}

fn nights() -> impl Strategy<Value = Vec<Night>> {
    let night = prop_oneof![
        4 => Just(Night::Dump(Verified)),
        3 => Just(Night::Dump(Unproven)),
        2 => Just(Night::Dump(Doubtful)),
        1 => Just(Night::Dump(Fragment)),
        3 => Just(Night::Failed),
        1 => (1..200_u8).prop_map(Night::Ahead),
    ];
    proptest::collection::vec(night, 0..120)
}

/// Deletes by the plan; each deletion is checked against what a person would want of it.
fn prune(kept: &mut Vec<Candidate>, policy: &Policy, now: Timestamp) -> Result<usize, TestCaseError> {
    let plan = plan(kept, policy, now);
    let newest_verified = |all: &[Candidate], database: &str| {
        let times = all.iter().filter(|one| one.standing == Verified && &*one.database == database);
        times.filter_map(|one| one.time.clone().ok()).filter(|time| *time <= now).max()
    };
    let left: Vec<Candidate> = kept
        .iter()
        .zip(&plan.reasons)
        .filter(|(_, why)| !why.deletes())
        .map(|(one, _)| one.clone())
        .collect();
    for (gone, why) in kept.iter().zip(&plan.reasons).filter(|(_, why)| why.deletes()) {
        let time = *gone.time.as_ref().expect("what has no time is kept");
        prop_assert!(exceeds(now.duration_since(time), policy.older_than), "{gone:?} is young");
        let newest = newest_verified(kept, &gone.database);
        prop_assert!(
            newest.is_none() || newest_verified(&left, &gone.database) == newest,
            "{gone:?} of {kept:?}"
        );
        if policy.require_newer_verified {
            let Reason::Old { verified: Some(Proven { name, time: newer }), .. } = why else {
                return Err(TestCaseError::fail(format!("{gone:?} names no verified one")));
            };
            prop_assert!(left.iter().any(|one| one.name == *name && one.standing == Verified));
            prop_assert!(*newer > time && Some(*newer) == newest);
        }
        let sound =
            |one: &&Candidate| one.database == gone.database && matches!(one.standing, Verified | Unproven);
        let newer = left
            .iter()
            .filter(sound)
            .filter(|one| one.time.as_ref().is_ok_and(|at| *at <= now && *at >= time));
        if matches!(gone.standing, Verified | Unproven) {
            prop_assert!(newer.count() >= policy.keep_at_least as usize, "{gone:?} of {kept:?}");
        }
    }
    let gone = kept.len() - left.len();
    *kept = left;
    Ok(gone)
}

fn older_by(time: Timestamp, days: i64) -> Timestamp {
    time + SignedDuration::from_secs(days * DAY)
}

proptest! {
    /// Nights of two databases, a prune every so many of them, each by a clock that may be wrong.
    #[test]
    fn over_any_history_the_newest_verified_backup_stays_and_nothing_young_goes(
        shop in nights(),
        blog in nights(),
        clocks in proptest::collection::vec(prop_oneof![3 => Just(0_i64), 1 => -400..400_i64], 1..12),
        every in 1..10_usize,
        keep_at_least in 0..10_u32,
        older in 0..40_u64,
        kept_of in (0..4_u32, 0..4_u32, 0..4_u32, 0..3_u32),
    ) {
        let (daily, weekly, monthly, yearly) = kept_of;
        let policy = Policy {
            older_than: Duration::from_secs(older * 86_400),
            keep: Keep { daily, weekly, monthly, yearly },
            ..policy(keep_at_least, true, 100.0)
        };
        let mut kept: Vec<Candidate> = vec![];
        for night in 0..shop.len().max(blog.len()) {
            let today = older_by(now(), i64::try_from(night).unwrap());
            for (database, night) in [("shop", shop.get(night)), ("blog", blog.get(night))] {
                match night {
                    Some(Night::Dump(standing)) => kept.push(at(database, today, *standing)),
                    Some(Night::Ahead(days)) => kept.push(at(database, older_by(today, i64::from(*days)), Verified)),
                    Some(Night::Failed) | None => {}
                }
            }
            if night % every == 0 {
                let clock = older_by(today, clocks[night / every % clocks.len()]);
                let before = kept.clone();
                prune(&mut kept, &policy, clock)?;
                for database in ["shop", "blog"] {
                    let newest = |all: &[Candidate]| {
                        let verified = all.iter().filter(|one| &*one.database == database && one.standing == Verified);
                        verified.filter_map(|one| one.time.clone().ok()).filter(|time| *time <= clock).max()
                    };
                    prop_assert_eq!(newest(&before), newest(&kept));
                }
            }
        }
    }

    #[test]
    fn forty_days_on_which_every_dump_fails_delete_nothing(
        before in nights(),
        failing in proptest::collection::vec(
            prop_oneof![Just(Night::Failed), Just(Night::Dump(Doubtful)), Just(Night::Dump(Fragment))],
            40,
        ),
        nothing_at_all in any::<bool>(),
        keep_at_least in 0..10_u32,
        older in 0..40_u64,
        clock in -400..400_i64,
    ) {
        let policy =
            Policy { older_than: Duration::from_secs(older * 86_400), ..policy(keep_at_least, true, 100.0) };
        let mut kept: Vec<Candidate> = vec![];
        for (night, what) in before.iter().enumerate() {
            let today = older_by(now(), i64::try_from(night).unwrap());
            if let Night::Dump(standing) = what {
                kept.push(at("shop", today, *standing));
            }
            prune(&mut kept, &policy, today)?;
        }
        // What a bad night leaves behind may go; whatever is of any use stays.
        let useful = |kept: &[Candidate]| {
            kept.iter().filter(|one| nothing_at_all || matches!(one.standing, Verified | Unproven)).count()
        };
        let good = useful(&kept);
        for (night, what) in failing.iter().enumerate() {
            let today = older_by(now(), i64::try_from(before.len() + night).unwrap());
            if let (Night::Dump(standing), false) = (what, nothing_at_all) {
                kept.push(at("shop", today, *standing));
            }
            prune(&mut kept, &policy, today)?;
            prop_assert_eq!(useful(&kept), good);
        }
        // Neither does a clock that has gone mad then.
        let mad = older_by(now(), i64::try_from(before.len()).unwrap() + 40 + clock.max(-39));
        prune(&mut kept, &policy, mad)?;
        prop_assert_eq!(useful(&kept), good);
    }
}
