//! One field of an expression: its values, names, ranges and steps, and what is said where one is wrong.

use super::ScheduleError;

const MONTHS: &[&str] = &["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const WEEKDAYS: &[&str] = &["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

/// In the order of six fields; five have no seconds.
pub(super) const FIELDS: [Field; 6] = [
    Field { name: "second", low: 0, high: 59, names: &[] },
    Field { name: "minute", low: 0, high: 59, names: &[] },
    Field { name: "hour", low: 0, high: 23, names: &[] },
    Field { name: "day-of-month", low: 1, high: 31, names: &[] },
    Field { name: "month", low: 1, high: 12, names: MONTHS },
    Field { name: "day-of-week", low: 0, high: 7, names: WEEKDAYS },
];

/// A piece of the expression and where it begins in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'a> {
    pub(super) text: &'a str,
    pub(super) start: usize,
}

pub(super) struct Field {
    name: &'static str,
    low: u32,
    high: u32,
    /// Names of the values from `low` on.
    names: &'static [&'static str],
}

impl Field {
    pub(super) fn set(&self, part: Part<'_>, seed: &str) -> Result<u64, ScheduleError> {
        let mut set = 0;
        for item in part.split(|c| c == ',') {
            set |= self.item(item, seed)?;
        }
        Ok(set)
    }

    /// One item of a list: `*`, `?`, `a`, `a-b`, `a~b`, the first four also with `/step`.
    pub(super) fn item(&self, item: Part<'_>, seed: &str) -> Result<u64, ScheduleError> {
        if item.text.is_empty() {
            return Err(item.error(
                format!("an empty item in the {} field: {} are allowed", self.name, self.allowed()),
                Some("remove the comma that has nothing beside it".into()),
            ));
        }
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(self.step(item, step)?)),
            None => (item, None),
        };
        if range.text == "*" || range.text == "?" {
            return Ok(stepped(self.low, self.high, step.unwrap_or(1)));
        }
        if let Some((low, high)) = range.split_once('~') {
            let (low, high) = (self.value(low, item)?, self.value(high, item)?);
            if step.is_some() || low > high {
                let hint = if low > high {
                    format!("write `{high}~{low}`")
                } else {
                    format!("write `{}`", range.text)
                };
                let why = if low > high {
                    "the range runs backwards"
                } else {
                    "`~` picks one value, so it takes no step"
                };
                return Err(
                    item.error(format!("`{}` in the {} field: {why}", item.text, self.name), Some(hint))
                );
            }
            return Ok(1 << (low + (self.pick(seed) % u64::from(high - low + 1)) as u32));
        }
        if let Some((low, high)) = range.split_once('-') {
            let (low, high) = (self.value(low, item)?, self.value(high, item)?);
            if low > high {
                return Err(self.reversed(item, low, high, step));
            }
            return Ok(stepped(low, high, step.unwrap_or(1)));
        }
        let value = self.value(range, item)?;
        Ok(match step {
            Some(step) => stepped(value, self.high, step),
            None => 1 << value,
        })
    }

    fn step(&self, item: Part<'_>, step: Part<'_>) -> Result<u32, ScheduleError> {
        digits(step.text).filter(|step| *step > 0).ok_or_else(|| {
            let message = format!(
                "`{}` in the {} field: after `/` stands a step, a whole number from 1",
                item.text, self.name
            );
            item.error(message, None)
        })
    }

    /// The value that `part` of `item` stands for.
    pub(super) fn value(&self, part: Part<'_>, item: Part<'_>) -> Result<u32, ScheduleError> {
        if let Some(number) = digits(part.text) {
            return self.within(part, number);
        }
        if let Some(at) = self.names.iter().position(|name| name.eq_ignore_ascii_case(part.text)) {
            return Ok(self.low + at as u32);
        }
        let text = part.text;
        if text.is_empty() {
            let message = format!(
                "`{}` in the {} field lacks a value: {} are allowed",
                item.text,
                self.name,
                self.allowed()
            );
            return Err(item.error(message, None));
        }
        let message =
            format!("`{text}` in the {} field is not a value: {} are allowed", self.name, self.allowed());
        let hint = self.nearest(text).map(|name| format!("did you mean `{name}`?"));
        Err(part.error(message, hint.or_else(|| self.meant(text))))
    }

    /// `number`, read from `part`, if it lies in the field's range.
    pub(super) fn within(&self, part: Part<'_>, number: u32) -> Result<u32, ScheduleError> {
        if (self.low..=self.high).contains(&number) {
            return Ok(number);
        }
        let message = format!(
            "`{}` in the {} field is out of range: {} are allowed",
            part.text,
            self.name,
            self.allowed()
        );
        let hint = match (self.name, number) {
            ("hour", 24) => Some("midnight is hour 0".to_owned()),
            ("minute" | "second", 60) => Some(format!("the last {} is 59, the next is 0", self.name)),
            _ => None,
        };
        Err(part.error(message, hint))
    }

    fn allowed(&self) -> String {
        let range = format!("{} to {}", self.low, self.high);
        match self.names {
            [first, .., last] => format!("{range} and {first} to {last}"),
            _ => range,
        }
    }

    fn nearest(&self, text: &str) -> Option<&'static str> {
        let text = text.to_ascii_lowercase();
        let begins = |name: &&&str| text.starts_with(&name.to_ascii_lowercase());
        let close = |name: &&&str| strsim::damerau_levenshtein(&text, &name.to_ascii_lowercase()) == 1;
        self.names.iter().find(begins).or_else(|| self.names.iter().find(close)).copied()
    }

    /// What is written in another way, or belongs in another field.
    fn meant(&self, text: &str) -> Option<String> {
        let upper = text.to_ascii_uppercase();
        if let Some(step) = upper.strip_prefix('*').filter(|step| digits(step).is_some()) {
            return Some(format!("did you mean `*/{step}`?"));
        }
        if let Some(weekday) = upper.strip_prefix('L').filter(|_| self.name == "day-of-week")
            && digits(weekday).is_some()
        {
            return Some(format!("did you mean `{weekday}L`?"));
        }
        let named = |field: &&Field| field.names.iter().any(|name| name.eq_ignore_ascii_case(text));
        let home = if let Some(field) = FIELDS.iter().find(named) {
            field.name
        } else if text.contains('#') {
            "day-of-week"
        } else if upper == "L" || upper == "LW" || upper.strip_suffix('W').and_then(digits).is_some() {
            "day-of-month"
        } else {
            return None;
        };
        (home != self.name).then(|| format!("that belongs in the {home} field"))
    }

    fn reversed(&self, item: Part<'_>, low: u32, high: u32, step: Option<u32>) -> ScheduleError {
        // Sunday is written as 0 here, so that the week ends on Saturday.
        let top = if self.names.len() == 7 { 6 } else { self.high };
        let low = if low > top { self.low } else { low };
        let named = item.text.contains(|c: char| c.is_ascii_alphabetic());
        let word = |value: u32| match self.names.get((value - self.low) as usize) {
            Some(name) if named => (*name).to_owned(),
            _ => value.to_string(),
        };
        let range = |low, high| if low == high { word(low) } else { format!("{}-{}", word(low), word(high)) };
        let instead = match step {
            None if low <= high => range(low, high),
            Some(step) if low <= high => format!("{}/{step}", range(low, high)),
            None => format!("{},{}", range(low, top), range(self.low, high)),
            Some(step) => {
                let size = top - self.low + 1;
                let ahead = (0..=high + size - low).step_by(step as usize);
                let values = ahead.map(|ahead| word(self.low + (low - self.low + ahead) % size));
                values.collect::<Vec<_>>().join(",")
            }
        };
        let message = format!("`{}` in the {} field runs backwards", item.text, self.name);
        item.error(message, Some(format!("write `{instead}`")))
    }

    /// A number fixed by the job's name and the field: FNV-1a, then the finish of splitmix64 to spread it.
    /// Never change it: a job's slots would move.
    fn pick(&self, seed: &str) -> u64 {
        let text = seed.bytes().chain([0]).chain(self.name.bytes());
        let hash = text.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        hash ^ (hash >> 31)
    }
}

impl<'a> Part<'a> {
    pub(super) fn error(self, message: String, hint: Option<String>) -> ScheduleError {
        ScheduleError { message, hint, at: Some(self.start..self.start + self.text.len()), index: 0 }
    }

    /// As Debian's cron tells an unrestricted field; `?` counts as `*`.
    pub(super) fn begins_with_star(self) -> bool {
        self.text.starts_with(['*', '?'])
    }

    pub(super) fn split(self, at: impl Fn(char) -> bool) -> impl Iterator<Item = Self> {
        let base = self.text.as_ptr() as usize;
        self.text
            .split(at)
            .map(move |text| Part { text, start: self.start + (text.as_ptr() as usize - base) })
    }

    pub(super) fn split_once(self, at: char) -> Option<(Self, Self)> {
        let (before, after) = self.text.split_once(at)?;
        let start = self.start + self.text.len() - after.len();
        Some((Part { text: before, ..self }, Part { text: after, start }))
    }
}

/// A whole number in ASCII digits; one too large for its type is still out of every range.
pub(super) fn digits(text: &str) -> Option<u32> {
    let all = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    all.then(|| text.parse().unwrap_or(u32::MAX))
}

fn stepped(low: u32, high: u32, step: u32) -> u64 {
    (low..=high).step_by(step as usize).fold(0, |set, value| set | 1 << value)
}
