//! Every clock change of every zone from 1970 to 2100, against a walk of the wall clock minute by minute.
//!
//! The walk knows the contract and nothing of our code: what an expression means stands beside it as two plain
//! conditions, and the clock shows what it shows. Zones that change alike on the same days share one walk. The suite
//! takes a share of the walks, spread over all zones and years; `PUNK_ECO_SCHED_ZONES=all` (or
//! `scripts/zones`) takes all of them.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::ToSpan;
use jiff::civil::Date;

use super::*;

/// One of so many walks is taken by the suite.
const SHARE: u64 = 16;

const MINUTE: i64 = 60;
const DAY: i64 = 86_400;
/// On either side of the clock change.
const AROUND: i64 = 2 * DAY;
/// As far where slots come each few seconds: an hour that is shown twice is compared both times.
const NEAR: i64 = 90 * MINUTE;
/// As far where they come each second.
const AT: i64 = MINUTE;
/// The one slot of a minute that was jumped over, and of a second where the walk goes by seconds.
const AT_ONCE: [i64; 1] = [0];
/// Walked before anything is compared, so that the walk knows which local times were shown: more than any step.
const RUN_UP: i64 = 2 * DAY;

/// A local day.
struct Day {
    month: i8,
    day: i8,
    length: i8,
    /// Sunday is 0.
    weekday: i8,
}

/// An expression and what it means.
struct Awkward {
    text: &'static str,
    /// Slots repeat when the clock shows the same time again.
    interval: bool,
    second: fn(i64) -> bool,
    /// How far on either side of the clock change slots are compared.
    around: i64,
    on: fn(&Day) -> bool,
    /// Hour and minute.
    at: fn(i64, i64) -> bool,
}

const fn fixed(text: &'static str, on: fn(&Day) -> bool, at: fn(i64, i64) -> bool) -> Awkward {
    Awkward { text, interval: false, second: |second| second == 0, around: AROUND, on, at }
}

const fn interval(text: &'static str, on: fn(&Day) -> bool, at: fn(i64, i64) -> bool) -> Awkward {
    Awkward { interval: true, ..fixed(text, on, at) }
}

const AWKWARD: &[Awkward] = &[
    fixed("30 2 * * *", |_| true, |hour, minute| (hour, minute) == (2, 30)),
    fixed("0 0 * * *", |_| true, |hour, minute| (hour, minute) == (0, 0)),
    fixed("59 23 31 12 *", |on| (on.month, on.day) == (12, 31), |hour, minute| (hour, minute) == (23, 59)),
    fixed("30 1,2 * * 0", |on| on.weekday == 0, |hour, minute| (1..=2).contains(&hour) && minute == 30),
    fixed("0 0 29 2 *", |on| (on.month, on.day) == (2, 29), |hour, minute| (hour, minute) == (0, 0)),
    fixed("15 2 L * *", |on| on.day == on.length, |hour, minute| (hour, minute) == (2, 15)),
    fixed("0 3 * * 1#1", |on| on.weekday == 1 && on.day <= 7, |hour, minute| (hour, minute) == (3, 0)),
    fixed("0-59/7 0-4 * * *", |_| true, |hour, minute| hour <= 4 && minute % 7 == 0),
    fixed("0 2 1-7 * 0", |on| on.weekday == 0 || on.day <= 7, |hour, minute| (hour, minute) == (2, 0)),
    fixed("45 1 */2 * 0", |on| on.weekday == 0 && on.day % 2 == 1, |hour, minute| (hour, minute) == (1, 45)),
    fixed(
        "0 1-23/2 L-2 * 6L",
        |on| on.day == on.length - 2 || (on.weekday == 6 && on.day + 7 > on.length),
        |hour, minute| hour % 2 == 1 && minute == 0,
    ),
    Awkward {
        second: |second| second == 15,
        ..fixed("15 30 2 * * *", |_| true, |hour, minute| (hour, minute) == (2, 30))
    },
    Awkward {
        second: |second| second == 59,
        ..fixed("59 59 23 * * *", |_| true, |hour, minute| (hour, minute) == (23, 59))
    },
    Awkward {
        second: |second| second % 20 == 0,
        ..fixed("*/20 30 2 * * *", |_| true, |hour, minute| (hour, minute) == (2, 30))
    },
    Awkward {
        second: |second| (10..=40).contains(&second) && (second - 10) % 15 == 0,
        ..fixed(
            "10-40/15 0,59 0-3 * * *",
            |_| true,
            |hour, minute| hour <= 3 && (minute == 0 || minute == 59),
        )
    },
    interval("*/5 * * * *", |_| true, |_, minute| minute % 5 == 0),
    interval("*/7 1-3 * * *", |_| true, |hour, minute| (1..=3).contains(&hour) && minute % 7 == 0),
    interval("0 */2 * * *", |_| true, |hour, minute| hour % 2 == 0 && minute == 0),
    interval("59 * * * 0", |on| on.weekday == 0, |_, minute| minute == 59),
    interval("30 */24 1 * *", |on| on.day == 1, |hour, minute| (hour, minute) == (0, 30)),
    interval("* 2 * * *", |_| true, |hour, _| hour == 2),
    Awkward { second: |second| second == 30, ..interval("30 * 0 * * *", |_| true, |hour, _| hour == 0) },
    Awkward {
        second: |second| second >= 5 && second % 25 == 5,
        ..interval(
            "5/25 */20 1-3 * * *",
            |_| true,
            |hour, minute| (1..=3).contains(&hour) && minute % 20 == 0,
        )
    },
    Awkward {
        second: |second| second % 20 == 0,
        around: NEAR,
        ..interval("*/20 * * * * *", |_| true, |_, _| true)
    },
    Awkward { second: |_| true, around: AT, ..interval("* * * * * *", |_| true, |_, _| true) },
];

/// Intervals of the time that passes, which no clock on a wall touches: period in seconds, and how far on either side of
/// the clock change they are compared.
const EVERY: &[(&str, i64, i64)] = &[
    ("@every 1s", 1, AT),
    ("@every 90s", 90, NEAR),
    ("@every 7m", 420, NEAR),
    ("@every 25h", 25 * 3600, AROUND),
    ("@every 1d", DAY, AROUND),
];

/// A clock change with all that the walk around it sees: the offset at its beginning, and every change in it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Window {
    change: i64,
    offset: i64,
    changes: Vec<(i64, i64)>,
}

#[derive(Default)]
struct Counted {
    zones: usize,
    transitions: usize,
    windows: usize,
    walks: AtomicUsize,
    slots: AtomicUsize,
}

#[test]
fn the_slots_around_every_clock_change_are_those_of_the_wall_clock() {
    let all = std::env::var("PUNK_ECO_SCHED_ZONES").is_ok_and(|share| share == "all");
    let mut counted = Counted::default();
    let mut windows: HashMap<Window, String> = HashMap::new();
    let mut names: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
    names.sort_unstable();
    for name in names {
        let Ok(zone) = TimeZone::get(&name) else { continue };
        counted.zones += 1;
        for window in windows_of(&zone) {
            counted.transitions += 1;
            windows.entry(window).or_insert_with(|| name.clone());
        }
    }
    counted.windows = windows.len();
    // The database of the system is whole: some 600 names, and those who change their clocks do so 260 times.
    assert!(
        counted.zones > 400 && counted.windows > 5000,
        "{} zones, {} windows",
        counted.zones,
        counted.windows
    );

    let mut by_zone: BTreeMap<String, Vec<Window>> = BTreeMap::new();
    for (window, name) in windows {
        if all || hash(&window).is_multiple_of(SHARE) {
            by_zone.entry(name).or_default().push(window);
        }
    }
    let times: Vec<u32> =
        (0..DAY / MINUTE).map(|minute| bits(|one| (one.at)(minute / 60, minute % 60))).collect();
    let zones: Vec<_> = by_zone.iter().collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some((name, windows)) = zones.get(next.fetch_add(1, Ordering::Relaxed)) {
                    check_zone(name, windows, &times, &counted);
                }
            });
        }
    });
    println!(
        "{} zones, {} clock changes, {} of them different, {} walked, {} slots compared",
        counted.zones,
        counted.transitions,
        counted.windows,
        counted.walks.into_inner(),
        counted.slots.into_inner(),
    );
}

fn windows_of(zone: &TimeZone) -> Vec<Window> {
    let (from, until) = (at("1970-01-01T00:00:00Z"), at("2100-01-01T00:00:00Z"));
    let offset = |second: i64| i64::from(zone.to_offset(Timestamp::from_second(second).unwrap()).seconds());
    let mut changes = vec![];
    // A little more on both sides, for the neighbours.
    for seam in zone.following(from - 240.hours()) {
        let second = seam.timestamp().as_second();
        if seam.timestamp() > until + 240.hours() {
            break;
        }
        // Some change the name alone.
        if offset(second - 1) != offset(second) {
            changes.push((second, offset(second)));
        }
    }
    let of_interest =
        changes.iter().filter(|(change, _)| (from.as_second()..until.as_second()).contains(change));
    of_interest
        .map(|(change, _)| {
            let (begins, ends) = (change - AROUND - RUN_UP, change + AROUND);
            let near = changes.iter().filter(|(other, _)| (begins..ends).contains(other)).copied().collect();
            Window { change: *change, offset: offset(begins), changes: near }
        })
        .collect()
}

/// FNV-1a, as the share must be the same everywhere.
fn hash(window: &Window) -> u64 {
    let numbers = window.changes.iter().flat_map(|(change, offset)| [*change, *offset]);
    let bytes = numbers.chain([window.change, window.offset]).flat_map(i64::to_le_bytes);
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash >> 32
}

fn check_zone(name: &str, windows: &[Window], times: &[u32], counted: &Counted) {
    let schedules: Vec<Schedule> = AWKWARD.iter().map(|one| schedule(one.text, name)).collect();
    let every: Vec<Schedule> = EVERY.iter().map(|(text, ..)| schedule(text, name)).collect();
    let zone = TimeZone::get(name).unwrap();
    for window in windows {
        let (from, until) = window.around(AROUND);
        let expected = walk(window, times);
        // The walk's clock is the zone's.
        for second in (from..until).step_by(3600).chain([window.change - 1, window.change]) {
            let offset = zone.to_offset(Timestamp::from_second(second).unwrap());
            assert_eq!(i64::from(offset.seconds()), window.offset_at(second), "{name} at {second}");
        }
        for ((one, schedule), expected) in AWKWARD.iter().zip(&schedules).zip(expected) {
            let place = || {
                format!("{} in {name} around {}", one.text, Timestamp::from_second(window.change).unwrap())
            };
            let (from, until) = window.around(one.around);
            let (from, until) =
                (Timestamp::from_second(from).unwrap(), Timestamp::from_second(until).unwrap());
            let ours: Vec<i64> =
                slots_between(schedule, from, until).iter().map(|slot| slot.as_second()).collect();
            assert_eq!(ours, expected, "{}", place());
            // Asked from between the slots, too, and close to the change.
            for near in [-1_000_000_000, -1, 0, 1, 1_000_000_000] {
                let near =
                    Timestamp::from_nanosecond(i128::from(window.change) * 1_000_000_000 + near).unwrap();
                let next = schedule.next_after(near).unwrap();
                let coming = expected
                    .iter()
                    .map(|slot| Timestamp::from_second(*slot).unwrap())
                    .find(|slot| *slot > near);
                match coming {
                    Some(slot) => assert_eq!(next, slot, "{} from {near}", place()),
                    None => assert!(next >= until, "{} from {near}: {next}", place()),
                }
            }
            counted.slots.fetch_add(expected.len(), Ordering::Relaxed);
        }
        for ((text, period, around), schedule) in EVERY.iter().zip(&every) {
            let (from, until) = window.around(*around);
            let expected: Vec<i64> = (from + 1..until).filter(|second| second % period == 0).collect();
            let (from, until) =
                (Timestamp::from_second(from).unwrap(), Timestamp::from_second(until).unwrap());
            let ours: Vec<i64> =
                slots_between(schedule, from, until).iter().map(|slot| slot.as_second()).collect();
            assert_eq!(ours, expected, "{text} in {name} between {from} and {until}");
            counted.slots.fetch_add(expected.len(), Ordering::Relaxed);
        }
        counted.walks.fetch_add(1, Ordering::Relaxed);
    }
}

impl Window {
    /// The instants so far before and after the change.
    fn around(&self, seconds: i64) -> (i64, i64) {
        (self.change - seconds, self.change + seconds)
    }

    fn offset_at(&self, second: i64) -> i64 {
        self.changes
            .iter()
            .take_while(|(change, _)| *change <= second)
            .last()
            .map_or(self.offset, |(_, offset)| *offset)
    }
}

/// The slots of every expression after the first and before the last instant of the window, by what the contract
/// says of the clock on the wall.
fn walk(window: &Window, times: &[u32]) -> Vec<Vec<i64>> {
    let (from, until) = window.around(AROUND);
    // Before 1972 Monrovia's clocks were half a minute beside everybody's.
    let whole = |seconds: &i64| seconds % MINUTE == 0;
    let minutes =
        whole(&window.offset) && window.changes.iter().all(|(change, offset)| whole(change) && whole(offset));
    let step = if minutes { MINUTE } else { 1 };

    let shown: Vec<Vec<i64>> =
        AWKWARD.iter().map(|one| (0..MINUTE).filter(|second| (one.second)(*second)).collect()).collect();
    let mut found = vec![vec![]; AWKWARD.len()];
    let mut add = |mut set: u32, gap: bool, at: i64| {
        while set != 0 {
            let index = set.trailing_zeros() as usize;
            set &= set - 1;
            let (from, until) = window.around(AWKWARD[index].around);
            let within = if gap || !minutes { &AT_ONCE } else { shown[index].as_slice() };
            if at + MINUTE <= from || at >= until {
                continue;
            }
            for slot in within.iter().map(|second| at + second) {
                if slot > from && slot < until && found[index].last() != Some(&slot) {
                    found[index].push(slot);
                }
            }
        }
    };
    let intervals = bits(|one| one.interval);
    let first_day = (from - RUN_UP + window.offset).div_euclid(DAY) - 3;
    let days: Vec<u32> = (first_day..first_day + 16).map(days_matched).collect();
    let seconds: Vec<u32> = (0..MINUTE).map(|second| bits(|one| minutes || (one.second)(second))).collect();
    // Of this second of the clock, or of the minute that begins with it.
    let matched = |local: i64| {
        days[(local.div_euclid(DAY) - first_day) as usize]
            & times[(local.rem_euclid(DAY) / MINUTE) as usize]
            & seconds[local.rem_euclid(MINUTE) as usize]
    };
    // Local times up to here were shown or jumped over.
    let mut reached = i64::MIN;
    let mut changes = window.changes.iter().peekable();
    let mut offset = window.offset;
    let mut now = (from - RUN_UP).div_euclid(step) * step;
    while now < until {
        while let Some((_, next)) = changes.next_if(|(change, _)| *change <= now) {
            offset = *next;
        }
        let shown = now + offset;
        if reached > i64::MIN && shown > reached + step {
            // A gap: what it holds comes at the first instant after it, all of it together.
            let jumped =
                (reached + step..shown).step_by(step as usize).fold(0, |set, local| set | matched(local));
            add(jumped & !intervals, true, now);
        }
        let set = matched(shown);
        // Shown before: only intervals come again.
        add(if shown <= reached { set & intervals } else { set }, false, now);
        reached = reached.max(shown);
        now += step;
    }
    found
}

fn days_matched(day: i64) -> u32 {
    let date: Date = Date::constant(1970, 1, 1) + day.days();
    let day = Day {
        month: date.month(),
        day: date.day(),
        length: date.days_in_month(),
        weekday: date.weekday().to_sunday_zero_offset(),
    };
    bits(|one| (one.on)(&day))
}

/// Bit `n`: it is so of the expression `n`.
fn bits(is: impl Fn(&Awkward) -> bool) -> u32 {
    AWKWARD.iter().enumerate().fold(0, |set, (index, one)| set | u32::from(is(one)) << index)
}
