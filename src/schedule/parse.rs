//! Text to expression: five fields as in Debian's cron (crontab(5)), six with seconds first, `@` words.
//!
//! Owns the grammar and what is said about a slip in it. Every error names the field, the text, the values
//! allowed and where possible what to write instead.

use super::ScheduleError;
use super::expression::{Calendar, Days, Expression, Weekdays};
use crate::units::HumanDuration;

/// The `@` words that stand for five fields.
pub(super) const WORDS: &[(&str, &str)] = &[
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

const MONTHS: &[&str] = &["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const WEEKDAYS: &[&str] = &["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

const FIELDS: [Field; 6] = [
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

struct Field {
    name: &'static str,
    low: u32,
    high: u32,
    /// Names of the values from `low` on.
    names: &'static [&'static str],
}

/// # Errors
/// The first problem; its `index` is 0.
pub(super) fn expression(text: &str, seed: &str) -> Result<Expression, ScheduleError> {
    let parts = words(text);
    match parts.first() {
        Some(first) if first.text.starts_with('@') => at_word(*first, &parts[1..], text, seed),
        _ => fields(&parts, text, seed).map(Expression::Calendar),
    }
}

pub(super) fn words(text: &str) -> Vec<Part<'_>> {
    let whole = Part { text, start: 0 };
    whole.split(|c| c.is_ascii_whitespace()).filter(|part| !part.text.is_empty()).collect()
}

fn at_word(word: Part<'_>, rest: &[Part<'_>], text: &str, seed: &str) -> Result<Expression, ScheduleError> {
    let name = word.text.to_ascii_lowercase();
    if name == "@every" {
        return every(word, rest, text);
    }
    if let Some(extra) = rest.first() {
        return Err(extra.error(
            format!("`{}` after `{}`: nothing may follow it", extra.text, word.text),
            Some(format!("write `{}` alone", word.text)),
        ));
    }
    if name == "@reboot" {
        return Ok(Expression::Reboot);
    }
    if let Some((_, meaning)) = WORDS.iter().find(|(known, _)| *known == name) {
        return fields(&words(meaning), meaning, seed).map(Expression::Calendar);
    }
    let known = || WORDS.iter().map(|(known, _)| *known).chain(["@reboot", "@every"]);
    let list: Vec<&str> = known().collect();
    let message = format!("`{}` is not known; allowed are {} DURATION", word.text, list.join(", "));
    let nearest = known()
        .map(|known| (strsim::damerau_levenshtein(&name, known), known))
        .filter(|(distance, _)| *distance <= 3)
        .min();
    Err(word.error(message, nearest.map(|(_, known)| format!("did you mean `{known}`?"))))
}

fn every(word: Part<'_>, rest: &[Part<'_>], text: &str) -> Result<Expression, ScheduleError> {
    const MOST: i64 = 50 * 365 * 86_400_000;
    let [duration] = rest else {
        let what = if rest.is_empty() { "names no duration" } else { "takes one duration" };
        let at = Part { text: &text[word.start..], start: word.start };
        return Err(
            at.error(format!("`@every` {what}"), Some("write it like `@every 90s` or `@every 2h30m`".into()))
        );
    };
    let parsed: HumanDuration = duration.text.parse().map_err(|message| duration.error(message, None))?;
    match i64::try_from(parsed.0.as_millis()) {
        Ok(milliseconds @ 1000..=MOST) => Ok(Expression::Every { milliseconds }),
        Ok(..1000) => Err(duration.error(
            format!("`@every {}` is too often: the least is one second", duration.text),
            Some("write `@every 1s`".into()),
        )),
        _ => Err(duration.error(format!("`@every {}` has no slot within 50 years", duration.text), None)),
    }
}

fn fields(parts: &[Part<'_>], text: &str, seed: &str) -> Result<Calendar, ScheduleError> {
    let (second, parts) = match parts {
        [second, rest @ ..] if rest.len() == 5 => (Some(*second), rest),
        _ => (None, parts),
    };
    let &[minute, hour, day, month, weekday] = parts else {
        return Err(wrong_count(parts, text));
    };
    let [second_field, minute_field, hour_field, day_field, month_field, weekday_field] = &FIELDS;
    Ok(Calendar {
        seconds: second.map_or(Ok(1), |second| second_field.set(second, seed))?,
        minutes: minute_field.set(minute, seed)?,
        hours: hour_field.set(hour, seed)? as u32,
        days: days(day_field, day, seed)?,
        months: month_field.set(month, seed)? as u16,
        weekdays: weekdays(weekday_field, weekday, seed)?,
        interval: minute.begins_with_star() || hour.begins_with_star(),
    })
}

fn wrong_count(parts: &[Part<'_>], text: &str) -> ScheduleError {
    let whole = Part { text: text.trim(), start: text.len() - text.trim_start().len() };
    if parts.is_empty() {
        return whole.error("the expression is empty".into(), Some("write one such as `0 3 * * *`".into()));
    }
    let fields = if parts.len() == 1 { "field" } else { "fields" };
    let message = format!(
        "`{}` has {} {fields}: needed are five (minute hour day-of-month month day-of-week), or six with seconds first",
        whole.text,
        parts.len(),
    );
    let last = parts[parts.len() - 1].text;
    let hint = if last.parse::<HumanDuration>().is_ok() && parts.len() <= 2 {
        Some(format!("write `@every {last}`"))
    } else if let Some((word, _)) = WORDS.iter().find(|(word, _)| word[1..].eq_ignore_ascii_case(whole.text))
    {
        Some(format!("did you mean `{word}`?"))
    } else if parts.len() > 6 {
        Some("there is no field for the year".into())
    } else {
        None
    };
    whole.error(message, hint)
}

fn days(field: &Field, part: Part<'_>, seed: &str) -> Result<Days, ScheduleError> {
    let mut days = Days { unrestricted: part.begins_with_star(), ..Days::default() };
    for item in part.split(|c| c == ',') {
        let upper = item.text.to_ascii_uppercase();
        if upper == "L" {
            days.before_last |= 1;
        } else if upper == "LW" {
            days.nearest_weekday |= 1;
        } else if let Some(before) = upper.strip_prefix("L-").and_then(digits) {
            if !(1..=30).contains(&before) {
                return Err(item.error(
                    format!(
                        "`{}` in the day-of-month field is out of range: `L-1` to `L-30` are allowed",
                        item.text
                    ),
                    None,
                ));
            }
            days.before_last |= 1 << before;
        } else if let Some(day) = upper.strip_suffix('W').and_then(digits) {
            days.nearest_weekday |= 1 << field.within(item, day)?;
        } else if upper.starts_with('L') || upper == "W" {
            return Err(item.error(
                format!(
                    "`{}` in the day-of-month field is not known: `L`, `L-3`, `LW` and `15W` are",
                    item.text
                ),
                None,
            ));
        } else if let Some(weekday) = upper.strip_suffix('L').filter(|weekday| digits(weekday).is_some()) {
            return Err(item.error(
                format!(
                    "`{}` in the day-of-month field is not known: `L`, `L-3`, `LW` and `15W` are",
                    item.text
                ),
                Some(format!("`{weekday}L` belongs in the day-of-week field, `L-{weekday}` here")),
            ));
        } else {
            days.plain |= field.item(item, seed)? as u32;
        }
    }
    Ok(days)
}

fn weekdays(field: &Field, part: Part<'_>, seed: &str) -> Result<Weekdays, ScheduleError> {
    let mut weekdays = Weekdays { unrestricted: part.begins_with_star(), ..Weekdays::default() };
    for item in part.split(|c| c == ',') {
        if let Some((weekday, nth)) = item.split_once('#') {
            let weekday = field.value(weekday, item)? % 7;
            match digits(nth.text) {
                Some(nth @ 1..=5) => weekdays.nth[nth as usize - 1] |= 1 << weekday,
                _ => {
                    let message = format!(
                        "`{}` in the day-of-week field: after `#` stands 1 to 5, the week of the month",
                        item.text
                    );
                    return Err(item.error(message, Some("write `5#3` for the third Friday".into())));
                }
            }
        } else if item.text.eq_ignore_ascii_case("L") {
            return Err(item.error(
                "`L` in the day-of-week field names no day".into(),
                Some("write `6L` for the last Saturday of the month".into()),
            ));
        } else if let Some(weekday) = item.text.strip_suffix(['L', 'l']).filter(|day| day.len() != 2) {
            // Two letters before it are those of `Jul`; no day is written so.
            weekdays.last |= 1 << (field.value(Part { text: weekday, ..item }, item)? % 7);
        } else {
            // Sunday as 7 is Sunday as 0.
            let set = field.item(item, seed)?;
            weekdays.plain |= (set | (set >> 7)) as u8 & 0x7f;
        }
    }
    Ok(weekdays)
}

impl Field {
    fn set(&self, part: Part<'_>, seed: &str) -> Result<u64, ScheduleError> {
        let mut set = 0;
        for item in part.split(|c| c == ',') {
            set |= self.item(item, seed)?;
        }
        Ok(set)
    }

    /// One item of a list: `*`, `?`, `a`, `a-b`, `a~b`, the first four also with `/step`.
    fn item(&self, item: Part<'_>, seed: &str) -> Result<u64, ScheduleError> {
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
    fn value(&self, part: Part<'_>, item: Part<'_>) -> Result<u32, ScheduleError> {
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
    fn within(&self, part: Part<'_>, number: u32) -> Result<u32, ScheduleError> {
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
        let named = item.text.contains(|c: char| c.is_ascii_alphabetic());
        let word = |value: u32| match self.names.get((value - self.low) as usize) {
            Some(name) if named => (*name).to_owned(),
            _ => value.to_string(),
        };
        let range = |low, high| if low == high { word(low) } else { format!("{}-{}", word(low), word(high)) };
        let instead = match step {
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
fn digits(text: &str) -> Option<u32> {
    let all = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    all.then(|| text.parse().unwrap_or(u32::MAX))
}

fn stepped(low: u32, high: u32, step: u32) -> u64 {
    (low..=high).step_by(step as usize).fold(0, |set, value| set | 1 << value)
}
