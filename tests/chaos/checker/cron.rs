//! Slots by walking every minute of the wall clock. Slow and plain on purpose: nothing here is shared with the product.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use jiff::tz::TimeZone;

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60;
/// No two offsets of a zone are further apart than this: local times shown longer ago are behind the present one.
const BEFORE: i64 = 27 * 3600;

/// Slots of schedules over one stretch of time, each walked once.
pub(super) struct Almanac {
    /// Seconds since 1970, whole minutes.
    from: i64,
    until: i64,
    offsets: HashMap<String, Vec<i64>>,
    slots: HashMap<(Vec<String>, String), Slots>,
}

/// By their instant in microseconds: whether an interval expression gives the slot.
pub(super) type Slots = BTreeMap<i64, bool>;

impl Almanac {
    /// Microseconds.
    pub(super) fn new(from: i64, until: i64) -> Self {
        let minutes = |at: i64| at.div_euclid(SECOND * MINUTE) * MINUTE;
        Self {
            from: minutes(from) - BEFORE,
            until: minutes(until) + 2 * MINUTE,
            offsets: HashMap::new(),
            slots: HashMap::new(),
        }
    }

    pub(super) fn slots(&mut self, schedule: &[String], zone: &str) -> &Slots {
        let key = (schedule.to_vec(), zone.to_owned());
        if !self.slots.contains_key(&key) {
            let mut slots = Slots::new();
            for text in schedule {
                self.walk(text, zone, &mut slots);
            }
            self.slots.insert(key.clone(), slots);
        }
        &self.slots[&key]
    }

    fn walk(&mut self, text: &str, zone: &str, slots: &mut Slots) {
        if let Some(period) = text.strip_prefix("@every ") {
            let period = seconds_of(period);
            let mut at = self.from.div_euclid(period) * period;
            while at <= self.until {
                slots.insert(at * SECOND, true);
                at += period;
            }
            return;
        }
        let cron = Cron::read(text);
        let (from, until) = (self.from, self.until);
        let offsets = self.offsets.entry(zone.to_owned()).or_insert_with(|| offsets(zone, from, until));
        let mut reached = i64::MIN;
        for (index, offset) in offsets.iter().enumerate() {
            let at = from + i64::try_from(index).unwrap() * MINUTE;
            let local = at + offset;
            if cron.interval {
                for second in cron.seconds(local) {
                    slots.insert((at + second) * SECOND, true);
                }
            } else if reached > i64::MIN {
                let mut skipped = reached + MINUTE;
                // A gap: what it held is due at its end.
                while skipped < local {
                    if cron.seconds(skipped).next().is_some() {
                        slots.entry(at * SECOND).or_insert(false);
                    }
                    skipped += MINUTE;
                }
                if local > reached {
                    for second in cron.seconds(local) {
                        slots.entry((at + second) * SECOND).or_insert(false);
                    }
                }
            }
            reached = reached.max(local);
        }
    }
}

fn offsets(zone: &str, from: i64, until: i64) -> Vec<i64> {
    let zone = TimeZone::get(zone).unwrap();
    let minutes = (until - from) / MINUTE;
    let at = |minute| Timestamp::from_second(from + minute * MINUTE).unwrap();
    (0..=minutes).map(|minute| i64::from(zone.to_offset(at(minute)).seconds())).collect()
}

fn seconds_of(text: &str) -> i64 {
    let (number, unit) = text.split_at(text.len() - 1);
    let number: i64 = number.parse().unwrap();
    number
        * match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            other => panic!("no unit of this suite: {other}"),
        }
}

struct Cron {
    interval: bool,
    second: Vec<i64>,
    minute: Vec<i64>,
    hour: Vec<i64>,
    day: Vec<i64>,
    month: Vec<i64>,
    weekday: Vec<i64>,
    /// A day field that begins with `*` is no restriction beside the other.
    any_day: bool,
    any_weekday: bool,
}

impl Cron {
    fn read(text: &str) -> Self {
        let text = match text {
            "@hourly" => "0 * * * *",
            "@daily" => "0 0 * * *",
            other => other,
        };
        let mut fields: Vec<&str> = text.split_whitespace().collect();
        if fields.len() == 5 {
            fields.insert(0, "0");
        }
        let [second, minute, hour, day, month, weekday] = fields[..] else { panic!("{text}") };
        let mut weekdays = values(weekday, 0, 7);
        if weekdays.contains(&7) {
            weekdays.push(0);
        }
        Self {
            interval: minute.starts_with('*') || hour.starts_with('*'),
            second: values(second, 0, 59),
            minute: values(minute, 0, 59),
            hour: values(hour, 0, 23),
            day: values(day, 1, 31),
            month: values(month, 1, 12),
            weekday: weekdays,
            any_day: day.starts_with('*'),
            any_weekday: weekday.starts_with('*'),
        }
    }

    /// The seconds of a local minute that match.
    fn seconds(&self, local: i64) -> impl Iterator<Item = i64> {
        let (days, second_of_day) = (local.div_euclid(86_400), local.rem_euclid(86_400));
        let fits = self.minute.contains(&(second_of_day / 60 % 60))
            && self.hour.contains(&(second_of_day / 3600))
            && self.fits_date(days);
        let seconds = if fits { &self.second[..] } else { &[] };
        seconds.iter().copied()
    }

    fn fits_date(&self, days: i64) -> bool {
        let (month, day) = month_and_day(days);
        // 1970-01-01 was a Thursday.
        let by_weekday = self.weekday.contains(&(days + 4).rem_euclid(7));
        let by_day = self.day.contains(&day);
        let fits = if self.any_day || self.any_weekday { by_day && by_weekday } else { by_day || by_weekday };
        fits && self.month.contains(&month)
    }
}

fn values(field: &str, low: i64, high: i64) -> Vec<i64> {
    let mut found = vec![];
    for item in field.split(',') {
        let (range, step) = item.split_once('/').unwrap_or((item, ""));
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (low, high),
            Some((first, last)) => (first.parse().unwrap(), last.parse().unwrap()),
            None if step.is_empty() => (range.parse().unwrap(), range.parse().unwrap()),
            None => (range.parse().unwrap(), high),
        };
        let step = if step.is_empty() { 1 } else { step.parse().unwrap() };
        let mut value = first;
        while value <= last {
            found.push(value);
            value += step;
        }
    }
    found
}

/// Of a day since 1970, counted through years and months.
fn month_and_day(days: i64) -> (i64, i64) {
    let leap = |year: i64| (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let (mut year, mut left) = (1970, days);
    loop {
        let length = if leap(year) { 366 } else { 365 };
        if left < length {
            break;
        }
        left -= length;
        year += 1;
    }
    let lengths = [31, if leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    for (month, length) in (1..).zip(lengths) {
        if left < length {
            return (month, left + 1);
        }
        left -= length;
    }
    unreachable!("a year has twelve months")
}
