//! Text to expression: five fields as in Debian's cron (crontab(5)), six with seconds first, `@` words.
//!
//! Owns the grammar and what is said about a slip in it. Every error names the field, the text, the values
//! allowed and where possible what to write instead.

use super::ScheduleError;
use super::expression::{Calendar, Days, Expression, Weekdays};
use super::field::{FIELDS, Field, Part, digits};
use crate::units::HumanDuration;

/// The `@` words that stand for five fields.
const WORDS: &[(&str, &str)] = &[
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

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
