//! What an expression means on a calendar without zones, as small bit sets.
//!
//! Owns which local dates and times match. Never sees an instant: `occurrence` puts these on a time line.

/// One expression, parsed. Small on purpose: a table may hold ten thousand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expression {
    Calendar(Calendar),
    /// Multiples of so many milliseconds since the Unix epoch; at least one second.
    Every {
        milliseconds: i64,
    },
    Reboot,
}

/// The fields of a cron expression; bit `n` of a set stands for the value `n`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Calendar {
    pub(super) seconds: u64,
    pub(super) minutes: u64,
    pub(super) hours: u32,
    pub(super) months: u16,
    pub(super) days: Days,
    pub(super) weekdays: Weekdays,
    /// The minute or the hour begins with `*`.
    pub(super) interval: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Days {
    pub(super) plain: u32,
    /// Bit `n` for `L-n`, bit 0 for `L`.
    pub(super) before_last: u32,
    /// Bit `n` for `nW`, bit 0 for `LW`.
    pub(super) nearest_weekday: u32,
    /// The field begins with `*`.
    pub(super) unrestricted: bool,
}

/// Sunday is 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Weekdays {
    pub(super) plain: u8,
    /// `5L`: the last one of the month.
    pub(super) last: u8,
    /// `5#3`: bit 5 of the third entry.
    pub(super) nth: [u8; 5],
    /// The field begins with `*`.
    pub(super) unrestricted: bool,
}

pub(super) const DAY: i64 = 86_400;

impl Expression {
    pub(super) fn is_interval(&self) -> bool {
        match self {
            Self::Calendar(calendar) => calendar.interval,
            Self::Every { .. } => true,
            Self::Reboot => false,
        }
    }
}

impl Calendar {
    /// The first matching local time in `from..until`, all in local seconds: the seconds since 1970-01-01
    /// that a clock would count which always showed this local time.
    pub(super) fn next_local(&self, from: i64, until: i64) -> Option<i64> {
        let first_day = from.div_euclid(DAY);
        let mut date = Date::of_day(first_day);
        while date.first_of_month() * DAY < until {
            let month_begins = date.first_of_month();
            let mut days = self.days_of(date) & (u32::MAX << date.day);
            while days != 0 {
                let day = month_begins + i64::from(days.trailing_zeros()) - 1;
                let not_before = if day == first_day { from.rem_euclid(DAY) } else { 0 };
                if let Some(time) = self.time_from(not_before) {
                    let found = day * DAY + time;
                    return (found < until).then_some(found);
                }
                days &= days - 1;
            }
            date = self.following_month(date);
        }
        None
    }

    /// The matching days of the month of `date`, bit `n` for day `n`.
    fn days_of(&self, date: Date) -> u32 {
        if self.months & (1 << date.month) == 0 {
            return 0;
        }
        let length = date.month_length();
        let first_weekday = weekday(date.first_of_month());
        let days = self.days.in_month(length, first_weekday);
        let weekdays = self.weekdays.in_month(length, first_weekday);
        if self.days.unrestricted || self.weekdays.unrestricted { days & weekdays } else { days | weekdays }
    }

    /// The first matching second of the day at or after `from`.
    fn time_from(&self, from: i64) -> Option<i64> {
        let hour = from / 3600;
        if u64::from(self.hours) & (1 << hour) != 0
            && let Some(time) = self.time_in_hour_from(from % 3600)
        {
            return Some(hour * 3600 + time);
        }
        let hour = at_or_after(u64::from(self.hours), hour + 1)?;
        Some(hour * 3600 + self.time_in_hour_from(0)?)
    }

    fn time_in_hour_from(&self, from: i64) -> Option<i64> {
        let minute = from / 60;
        if self.minutes & (1 << minute) != 0
            && let Some(second) = at_or_after(self.seconds, from % 60)
        {
            return Some(minute * 60 + second);
        }
        let minute = at_or_after(self.minutes, minute + 1)?;
        Some(minute * 60 + at_or_after(self.seconds, 0)?)
    }

    /// The first day of the next month that the month field allows.
    fn following_month(&self, date: Date) -> Date {
        match at_or_after(u64::from(self.months), i64::from(date.month) + 1) {
            Some(month) => Date { year: date.year, month: month as u32, day: 1 },
            None => Date { year: date.year + 1, month: self.months.trailing_zeros(), day: 1 },
        }
    }
}

impl Days {
    fn in_month(&self, length: u32, first_weekday: u32) -> u32 {
        let all = ((1_u64 << (length + 1)) - 2) as u32;
        let mut days = self.plain & all;
        for before in bits(u64::from(self.before_last)) {
            if before < length {
                days |= 1 << (length - before);
            }
        }
        for day in bits(u64::from(self.nearest_weekday)) {
            let day = if day == 0 { length } else { day };
            if day <= length {
                days |= 1 << nearest_weekday(day, length, first_weekday);
            }
        }
        days
    }
}

impl Weekdays {
    fn in_month(&self, length: u32, first_weekday: u32) -> u32 {
        if self.plain == 0x7f {
            return ((1_u64 << (length + 1)) - 2) as u32;
        }
        let mut days = 0;
        for weekday in 0..7 {
            let first = 1 + (weekday + 7 - first_weekday) % 7;
            for week in 0..5 {
                let day = first + 7 * week;
                if day > length {
                    break;
                }
                let last = day + 7 > length;
                let wanted = self.plain | self.nth[week as usize] | if last { self.last } else { 0 };
                if wanted & (1 << weekday) != 0 {
                    days |= 1 << day;
                }
            }
        }
        days
    }
}

/// The day from Monday to Friday nearest to `day`, without leaving the month (as in Quartz).
fn nearest_weekday(day: u32, length: u32, first_weekday: u32) -> u32 {
    match (first_weekday + day - 1) % 7 {
        6 if day > 1 => day - 1,
        6 => day + 2,
        0 if day < length => day + 1,
        0 => day - 2,
        _ => day,
    }
}

/// A date of the proleptic Gregorian calendar. Our own, in wide integers, so that no date near the ends of
/// the range of instants can overflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Date {
    pub(super) year: i64,
    pub(super) month: u32,
    pub(super) day: u32,
}

impl Date {
    /// By days since 1970-01-01. After Howard Hinnant's `civil_from_days`: years that begin in March put the
    /// leap day at their end.
    pub(super) fn of_day(day: i64) -> Self {
        let day = day + 719_468;
        let era = day.div_euclid(146_097);
        let of_era = day.rem_euclid(146_097);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * march_month + 2) / 5 + 1;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        Self { year, month: month as u32, day: day as u32 }
    }

    /// Days from 1970-01-01 to the first of the month.
    fn first_of_month(self) -> i64 {
        let year = if self.month <= 2 { self.year - 1 } else { self.year };
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let march_month = i64::from((self.month + 9) % 12);
        let of_year = (153 * march_month + 2) / 5;
        let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
        era * 146_097 + of_era - 719_468
    }

    fn month_length(self) -> u32 {
        match self.month {
            2 if self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0) => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        }
    }
}

/// Of a day counted from 1970-01-01, a Thursday.
fn weekday(day: i64) -> u32 {
    (day + 4).rem_euclid(7) as u32
}

fn at_or_after(set: u64, from: i64) -> Option<i64> {
    let rest = if from < 64 { set & (u64::MAX << from) } else { 0 };
    (rest != 0).then(|| i64::from(rest.trailing_zeros()))
}

/// The values in a set, ascending.
pub(super) fn bits(mut set: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let bit = (set != 0).then(|| set.trailing_zeros())?;
        set &= set - 1;
        Some(bit)
    })
}
