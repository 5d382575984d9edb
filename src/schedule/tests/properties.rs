//! Random expressions, zones and instants against walks that know nothing of bit sets and stretches.

use std::collections::BTreeSet;
use std::fmt::{self, Display};

use jiff::ToSpan;
use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, Offset};
use proptest::prelude::*;

use super::*;

/// One item of a field, as it is written and as people would check it by hand.
#[derive(Clone, Debug)]
enum Item {
    Star { step: i16 },
    From { value: i16, step: i16 },
    Value(i16),
    Range { from: i16, to: i16, step: i16 },
    BeforeLast(i16),
    LastWorkday,
    NearestWorkday(i16),
    LastOfMonth(i16),
    Nth { weekday: i16, nth: i16 },
}

#[derive(Clone, Debug)]
struct Written {
    seconds: Option<Vec<Item>>,
    minutes: Vec<Item>,
    hours: Vec<Item>,
    days: Vec<Item>,
    months: Vec<Item>,
    weekdays: Vec<Item>,
}

impl Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Star { step: 1 } => write!(f, "*"),
            Self::Star { step } => write!(f, "*/{step}"),
            Self::From { value, step } => write!(f, "{value}/{step}"),
            Self::Value(value) => write!(f, "{value}"),
            Self::Range { from, to, step: 1 } => write!(f, "{from}-{to}"),
            Self::Range { from, to, step } => write!(f, "{from}-{to}/{step}"),
            Self::BeforeLast(0) => write!(f, "L"),
            Self::BeforeLast(before) => write!(f, "L-{before}"),
            Self::LastWorkday => write!(f, "LW"),
            Self::NearestWorkday(day) => write!(f, "{day}W"),
            Self::LastOfMonth(weekday) => write!(f, "{weekday}L"),
            Self::Nth { weekday, nth } => write!(f, "{weekday}#{nth}"),
        }
    }
}

impl Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = [&self.minutes, &self.hours, &self.days, &self.months, &self.weekdays];
        let fields = self.seconds.iter().chain(fields).map(|field| {
            let items: Vec<String> = field.iter().map(Item::to_string).collect();
            items.join(",")
        });
        f.write_str(&fields.collect::<Vec<_>>().join(" "))
    }
}

impl Item {
    fn has(&self, value: i16, low: i16) -> bool {
        match *self {
            Self::Star { step } => (value - low) % step == 0,
            Self::From { value: from, step } => value >= from && (value - from) % step == 0,
            Self::Value(only) => value == only,
            Self::Range { from, to, step } => value >= from && value <= to && (value - from) % step == 0,
            _ => false,
        }
    }

    fn has_day(&self, date: Date) -> bool {
        let (day, length) = (i16::from(date.day()), i16::from(date.days_in_month()));
        let weekday =
            |day: i16| date.with().day(day as i8).build().unwrap().weekday().to_sunday_zero_offset();
        let mut workdays = (1..=length).filter(|day| (1..=5).contains(&weekday(*day)));
        match *self {
            Self::BeforeLast(before) => day == length - before,
            Self::LastWorkday => workdays.next_back() == Some(day),
            Self::NearestWorkday(near) if near > length => false,
            // Saturday has Friday before it, Sunday has Monday after it: no two are equally near.
            Self::NearestWorkday(near) => workdays.min_by_key(|day| (day - near).abs()) == Some(day),
            _ => self.has(day, 1),
        }
    }

    fn has_weekday(&self, date: Date) -> bool {
        let (day, length) = (i16::from(date.day()), i16::from(date.days_in_month()));
        let weekday = i16::from(date.weekday().to_sunday_zero_offset());
        match *self {
            Self::LastOfMonth(last) => last % 7 == weekday && day + 7 > length,
            Self::Nth { weekday: wanted, nth } => wanted % 7 == weekday && (day + 6) / 7 == nth,
            _ => self.has(weekday, 0) || (weekday == 0 && self.has(7, 0)),
        }
    }
}

impl Written {
    fn is_interval(&self) -> bool {
        begins_with_star(&self.minutes) || begins_with_star(&self.hours)
    }

    fn matches(&self, local: DateTime) -> bool {
        let any =
            |field: &[Item], value: i8, low: i16| field.iter().any(|item| item.has(i16::from(value), low));
        let second = match &self.seconds {
            Some(seconds) => any(seconds, local.second(), 0),
            None => local.second() == 0,
        };
        second
            && any(&self.minutes, local.minute(), 0)
            && any(&self.hours, local.hour(), 0)
            && any(&self.months, local.month(), 1)
            && {
                let day = self.days.iter().any(|item| item.has_day(local.date()));
                let weekday = self.weekdays.iter().any(|item| item.has_weekday(local.date()));
                match begins_with_star(&self.days) || begins_with_star(&self.weekdays) {
                    true => day && weekday,
                    false => day || weekday,
                }
            }
    }
}

fn begins_with_star(field: &[Item]) -> bool {
    matches!(field[0], Item::Star { .. })
}

fn numbers(low: i16, high: i16) -> BoxedStrategy<Item> {
    let step = || 1..=(high - low + 3);
    prop_oneof![
        step().prop_map(|step| Item::Star { step }),
        (low..=high, step()).prop_map(|(value, step)| Item::From { value, step }),
        (low..=high).prop_map(Item::Value),
        (low..=high, low..=high, step()).prop_map(|(a, b, step)| Item::Range {
            from: a.min(b),
            to: a.max(b),
            step
        }),
    ]
    .boxed()
}

fn list(item: BoxedStrategy<Item>) -> BoxedStrategy<Vec<Item>> {
    proptest::collection::vec(item, 1..4).boxed()
}

/// Mostly `*`, so that a window of a few days holds something.
fn mostly_all(item: BoxedStrategy<Item>) -> BoxedStrategy<Vec<Item>> {
    prop_oneof![3 => Just(vec![Item::Star { step: 1 }]), 1 => list(item)].boxed()
}

fn written(seconds: BoxedStrategy<Option<Vec<Item>>>) -> impl Strategy<Value = Written> {
    let day = prop_oneof![
        3 => numbers(1, 31),
        1 => (0..=30_i16).prop_map(Item::BeforeLast),
        1 => Just(Item::LastWorkday),
        1 => (1..=31_i16).prop_map(Item::NearestWorkday),
    ];
    let weekday = prop_oneof![
        3 => numbers(0, 7),
        1 => (0..=7_i16).prop_map(Item::LastOfMonth),
        1 => (0..=7_i16, 1..=5_i16).prop_map(|(weekday, nth)| Item::Nth { weekday, nth }),
    ];
    let fields = (
        seconds,
        list(numbers(0, 59)),
        // The early hours are those that clock changes hit.
        prop_oneof![list(numbers(0, 23)), list((0..=4_i16).prop_map(Item::Value).boxed())],
        mostly_all(day.boxed()),
        mostly_all(numbers(1, 12)),
        mostly_all(weekday.boxed()),
    );
    fields.prop_map(|(seconds, minutes, hours, days, months, weekdays)| Written {
        seconds,
        minutes,
        hours,
        days,
        months,
        weekdays,
    })
}

fn five_fields() -> impl Strategy<Value = Written> {
    written(Just(None).boxed())
}

fn five_or_six_fields() -> impl Strategy<Value = Written> {
    written(proptest::option::of(list(numbers(0, 59))).boxed())
}

/// Any zone of the database; half the time one that is known to be hard.
fn any_zone() -> impl Strategy<Value = TimeZone> {
    const HARD: &[&str] = &[
        "Europe/Paris",
        "Europe/Dublin",
        "Africa/Casablanca",
        "Africa/El_Aaiun",
        "Africa/Monrovia",
        "America/Santiago",
        "America/St_Johns",
        "America/Scoresbysund",
        "America/Juneau",
        "Antarctica/Troll",
        "Antarctica/Casey",
        "Asia/Gaza",
        "Asia/Manila",
        "Asia/Tehran",
        "Australia/Lord_Howe",
        "Pacific/Apia",
        "Pacific/Kwajalein",
        "Pacific/Kiritimati",
    ];
    let all: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
    prop_oneof![
        proptest::sample::select(HARD).prop_map(|name| TimeZone::get(name).unwrap()),
        proptest::sample::select(all).prop_filter_map("a zone", |name| TimeZone::get(&name).ok()),
    ]
}

/// A zone and an instant in it; mostly the first clock change after a random instant.
fn zone_and_instant(years: std::ops::Range<i64>) -> impl Strategy<Value = (TimeZone, Timestamp)> {
    const YEAR: i64 = 31_556_952;
    let second = (years.start - 1970) * YEAR..(years.end - 1970) * YEAR;
    (any_zone(), second, 0..4_u8).prop_map(|(zone, second, plain)| {
        let instant = Timestamp::from_second(second).unwrap();
        let change = zone.following(instant).next().map(|seam| seam.timestamp());
        let instant = if plain == 0 { instant } else { change.unwrap_or(instant) };
        (zone, instant)
    })
}

/// Every slot of `from..until` by looking at each instant (interval) or each local time (fixed).
fn by_walking(
    written: &Written,
    zone: &TimeZone,
    from: Timestamp,
    until: Timestamp,
    step: i64,
) -> Vec<Timestamp> {
    let mut found = BTreeSet::new();
    // Local times of two more days on either side: one that was jumped over may be far from its slot.
    let (walk_from, walk_until) = match written.is_interval() {
        true => (from.as_second(), until.as_second()),
        false => (from.as_second() - 172_800, until.as_second() + 172_800),
    };
    for second in (walk_from.div_euclid(step) * step..walk_until).step_by(step as usize) {
        let instant = Timestamp::from_second(second).unwrap();
        if written.is_interval() {
            if written.matches(zone.to_datetime(instant)) {
                found.insert(instant);
            }
            continue;
        }
        let local = Offset::UTC.to_datetime(instant);
        if written.matches(local) {
            found.insert(match zone.to_ambiguous_timestamp(local).offset() {
                AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(local).unwrap(),
                AmbiguousOffset::Fold { before, .. } => before.to_timestamp(local).unwrap(),
                AmbiguousOffset::Gap { before, .. } => {
                    let beyond = before.to_timestamp(local).unwrap() + 1.second();
                    zone.preceding(beyond).next().unwrap().timestamp()
                }
            });
        }
    }
    found.into_iter().filter(|slot| *slot > from && *slot < until).collect()
}

fn agrees(
    written: &Written,
    zone: &TimeZone,
    around: Timestamp,
    hours: i64,
    step: i64,
) -> Result<(), TestCaseError> {
    let text = written.to_string();
    let Ok(schedule) = Schedule::parse(&[text], zone, "job") else { return Ok(()) };
    let (from, until) = (around - hours.hours(), around + hours.hours());
    let expected = by_walking(written, zone, from, until, step);
    prop_assert_eq!(slots_between(&schedule, from, until), expected, "{} in {:?}", written, zone.iana_name());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Offsets have been whole minutes since 1972 (Africa/Monrovia was last), so slots are too.
    #[test]
    fn slots_are_those_found_by_walking_minute_by_minute(written in five_fields(), (zone, around) in zone_and_instant(1973..2090)) {
        agrees(&written, &zone, around, 26, 60)?;
    }

    #[test]
    fn next_is_strictly_increasing_and_skips_nothing(
        written in five_or_six_fields(),
        zone in any_zone(),
        nanosecond in Timestamp::MIN.as_nanosecond()..=Timestamp::MAX.as_nanosecond(),
        share in 0.0..1.0_f64,
    ) {
        let text = written.to_string();
        let Ok(schedule) = Schedule::parse(std::slice::from_ref(&text), &zone, "job") else { return Ok(()) };
        let mut after = Timestamp::from_nanosecond(nanosecond).unwrap();
        for _ in 0..20 {
            let Some(slot) = schedule.next_after(after) else { return Ok(()) };
            prop_assert!(slot > after, "{} in {:?}: {} after {}", text, zone.iana_name(), slot, after);
            // From anywhere in between, the same slot comes next.
            let between = after.as_nanosecond() + ((slot.as_nanosecond() - after.as_nanosecond()) as f64 * share) as i128;
            let between = Timestamp::from_nanosecond(between).unwrap();
            if between < slot {
                prop_assert_eq!(schedule.next_after(between), Some(slot), "{} in {:?} after {}", text, zone.iana_name(), between);
            }
            after = slot;
        }
    }

    #[test]
    fn any_text_is_parsed_or_refused_with_a_place_in_it(text in "\\PC{0,20}|[-*/,0-9LW#~?@ a-z]{0,30}") {
        if let Err(errors) = Schedule::parse(std::slice::from_ref(&text), &TimeZone::UTC, "job") {
            prop_assert_eq!(errors.len(), 1);
            let at = errors[0].at.clone().unwrap();
            prop_assert!(text.get(at).is_some(), "{:?}", errors);
        }
    }

    /// croner counts a field as unrestricted only where it is `*` alone, and knows `5/15` on request.
    #[test]
    fn croner_agrees_where_its_rules_are_the_same(written in five_or_six_fields(), second in 0..4_000_000_000_i64) {
        // croner reads `L` and `LW`, each of the whole field, as one.
        let lasts = written.days.iter().filter(|item| matches!(item, Item::BeforeLast(_) | Item::LastWorkday));
        prop_assume!(lasts.count() <= 1 && !written.days.iter().any(|item| matches!(item, Item::BeforeLast(1..))));
        // What begins with `*` but isn't `*` alone demands both days.
        let both = begins_with_star(&written.days) || begins_with_star(&written.weekdays);
        // It refuses `*` in a list, though not `*/1`.
        let text = written.to_string().replace("*,", "*/1,").replace(",* ", ",*/1 ");
        let text = text.strip_suffix(",*").map(|text| format!("{text},*/1")).unwrap_or(text);
        let zone = TimeZone::get("Asia/Tokyo").unwrap();
        let Ok(schedule) = Schedule::parse(std::slice::from_ref(&text), &zone, "job") else { return Ok(()) };
        let peer = croner::parser::CronParser::builder().dom_and_dow(both).sloppy_ranges(true).build().parse(&text);
        let peer = peer.map_err(|error| TestCaseError::fail(format!("{text}: {error}")))?;
        let mut after = Timestamp::from_second(second).unwrap();
        for _ in 0..10 {
            let theirs = peer.find_next_occurrence(&after.to_zoned(zone.clone()), false).ok().map(|next| next.timestamp());
            prop_assert_eq!(schedule.next_after(after), theirs, "{} after {}", text, after);
            let Some(slot) = theirs else { break };
            after = slot;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Before 1972, and with seconds: shorter walks, as each is sixty times as long.
    #[test]
    fn slots_are_those_found_by_walking_second_by_second(written in five_or_six_fields(), (zone, around) in zone_and_instant(1840..2090)) {
        agrees(&written, &zone, around, 2, 1)?;
    }
}
