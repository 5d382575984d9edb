//! What is refused and how it is said; what is warned of; what an expression is called in words.

use super::*;

fn refusal(text: &str) -> ScheduleError {
    let paris = TimeZone::get("Europe/Paris").unwrap();
    let errors = Schedule::parse(&[text.to_owned()], &paris, "db-backup").expect_err(text);
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors[0].clone()
}

/// `place` is the offending part of the text; `hint` is empty for none.
fn refused(text: &str, place: &str, message: &str, hint: &str) {
    let error = refusal(text);
    assert_eq!(error.message, message, "{text}");
    assert_eq!(error.hint.as_deref().unwrap_or(""), hint, "{text}");
    assert_eq!(&text[error.at.unwrap()], place, "{text}");
}

#[test]
fn the_wrong_number_of_fields() {
    let needed = "needed are five (minute hour day-of-month month day-of-week), or six with seconds first";
    refused("", "", "the expression is empty", "write one such as `0 3 * * *`");
    refused("* * * *", "* * * *", &format!("`* * * *` has 4 fields: {needed}"), "");
    refused(
        " * * * * * 2026 * ",
        "* * * * * 2026 *",
        &format!("`* * * * * 2026 *` has 7 fields: {needed}"),
        "there is no field for the year",
    );
    refused("5m", "5m", &format!("`5m` has 1 field: {needed}"), "write `@every 5m`");
    refused("every 5m", "every 5m", &format!("`every 5m` has 2 fields: {needed}"), "write `@every 5m`");
    refused("daily", "daily", &format!("`daily` has 1 field: {needed}"), "did you mean `@daily`?");
}

#[test]
fn values_out_of_range() {
    let out = |text: &str, place: &str, field: &str, allowed: &str, hint: &str| {
        let message = format!("`{place}` in the {field} field is out of range: {allowed} are allowed");
        refused(text, place, &message, hint);
    };
    out("60 * * * *", "60", "minute", "0 to 59", "the last minute is 59, the next is 0");
    out("61 0 0 1 1 *", "61", "second", "0 to 59", "");
    out("0 24 * * *", "24", "hour", "0 to 23", "midnight is hour 0");
    out("0 1-30 * * *", "30", "hour", "0 to 23", "");
    out("0 0 0 * *", "0", "day-of-month", "1 to 31", "");
    out("0 0 1,32 * *", "32", "day-of-month", "1 to 31", "");
    out("0 0 32W * *", "32W", "day-of-month", "1 to 31", "");
    out("0 0 L-31 * *", "L-31", "day-of-month", "`L-1` to `L-30`", "");
    out("0 0 * 13 *", "13", "month", "1 to 12 and Jan to Dec", "");
    out("0 0 * * 8", "8", "day-of-week", "0 to 7 and Sun to Sat", "");
    out("0 0 * * 8L", "8", "day-of-week", "0 to 7 and Sun to Sat", "");
    out("1~60 * * * *", "60", "minute", "0 to 59", "the last minute is 59, the next is 0");
    out("99999999999999999999 * * * *", "99999999999999999999", "minute", "0 to 59", "");
}

#[test]
fn what_is_no_value() {
    let no_value = |text: &str, place: &str, field: &str, allowed: &str, hint: &str| {
        let message = format!("`{place}` in the {field} field is not a value: {allowed} are allowed");
        refused(text, place, &message, hint);
    };
    let (days, months) = ("0 to 7 and Sun to Sat", "1 to 12 and Jan to Dec");
    no_value("0 0 * * Mondy", "Mondy", "day-of-week", days, "did you mean `Mon`?");
    no_value("0 0 * * mon-friday", "friday", "day-of-week", days, "did you mean `Fri`?");
    no_value("0 0 * * Tu", "Tu", "day-of-week", days, "did you mean `Tue`?");
    no_value("0 0 * Sept *", "Sept", "month", months, "did you mean `Sep`?");
    no_value("0 0 * Fri *", "Fri", "month", months, "that belongs in the day-of-week field");
    no_value("0 0 * * Jul", "Jul", "day-of-week", days, "that belongs in the month field");
    no_value("0 0 * * L5", "L5", "day-of-week", days, "did you mean `5L`?");
    no_value("0 0 * * 15W", "15W", "day-of-week", days, "that belongs in the day-of-month field");
    no_value("0 0 5#3 * *", "5#3", "day-of-month", "1 to 31", "that belongs in the day-of-week field");
    no_value("0 L * * *", "L", "hour", "0 to 23", "that belongs in the day-of-month field");
    no_value("*5 * * * *", "*5", "minute", "0 to 59", "did you mean `*/5`?");
    no_value("0 1.5 * * *", "1.5", "hour", "0 to 23", "");
    no_value("+5 * * * *", "+5", "minute", "0 to 59", "");
    no_value("é * * * *", "é", "minute", "0 to 59", "");
    no_value("0 1-2-3 * * *", "2-3", "hour", "0 to 23", "");
}

#[test]
fn items_with_a_piece_missing_or_wrong() {
    refused("-5 * * * *", "-5", "`-5` in the minute field lacks a value: 0 to 59 are allowed", "");
    refused("0 1- * * *", "1-", "`1-` in the hour field lacks a value: 0 to 23 are allowed", "");
    refused(
        "1,,2 * * * *",
        "",
        "an empty item in the minute field: 0 to 59 are allowed",
        "remove the comma that has nothing beside it",
    );
    for step in ["*/0", "*/x", "*/", "*/-1", "1-9/1.5"] {
        let message = format!("`{step}` in the minute field: after `/` stands a step, a whole number from 1");
        refused(&format!("{step} * * * *"), step, &message, "");
    }
    for nth in ["5#6", "5#0", "5#", "fri#x"] {
        let message =
            format!("`{nth}` in the day-of-week field: after `#` stands 1 to 5, the week of the month");
        refused(&format!("0 0 * * {nth}"), nth, &message, "write `5#3` for the third Friday");
    }
    for letters in ["L-3W", "L5", "W", "L-"] {
        let message =
            format!("`{letters}` in the day-of-month field is not known: `L`, `L-3`, `LW` and `15W` are");
        refused(&format!("0 0 {letters} * *"), letters, &message, "");
    }
    refused(
        "0 0 5L * *",
        "5L",
        "`5L` in the day-of-month field is not known: `L`, `L-3`, `LW` and `15W` are",
        "`5L` belongs in the day-of-week field, `L-5` here",
    );
    refused(
        "0 0 * * L",
        "L",
        "`L` in the day-of-week field names no day",
        "write `6L` for the last Saturday of the month",
    );
    refused(
        "1~5/2 * * * *",
        "1~5/2",
        "`1~5/2` in the minute field: `~` picks one value, so it takes no step",
        "write `1~5`",
    );
}

#[test]
fn ranges_that_run_backwards() {
    let check = |text: &str, range: &str, field: &str, instead: &str| {
        let message = format!("`{range}` in the {field} field runs backwards");
        refused(text, range, &message, &format!("write `{instead}`"));
        // The advice is good.
        schedule(&text.replace(range, instead), "UTC");
    };
    check("0 22-2 * * *", "22-2", "hour", "22-23,0-2");
    check("0 23-0 * * *", "23-0", "hour", "23,0");
    check("0 5,22-2/2 * * *", "22-2/2", "hour", "22,0,2");
    check("50-10 * * * *", "50-10", "minute", "50-59,0-10");
    check("0 0 25-5 * *", "25-5", "day-of-month", "25-31,1-5");
    check("0 0 * nov-feb *", "nov-feb", "month", "Nov-Dec,Jan-Feb");
    check("0 0 * 11-2/3 *", "11-2/3", "month", "11,2");
    check("0 0 * * 5-1", "5-1", "day-of-week", "5-6,0-1");
    check("0 0 * * Sat-Sun", "Sat-Sun", "day-of-week", "Sat,Sun");
    check("0 0 * * 7-2", "7-2", "day-of-week", "0-2");
    check("0 0 * * 7-4/2", "7-4/2", "day-of-week", "0-4/2");
    refused("0 5~1 * * *", "5~1", "`5~1` in the hour field: the range runs backwards", "write `1~5`");
}

#[test]
fn words_after_an_at_sign() {
    let known = "@hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually, @reboot, @every DURATION";
    refused(
        "@dayly",
        "@dayly",
        &format!("`@dayly` is not known; allowed are {known}"),
        "did you mean `@daily`?",
    );
    refused("@noon", "@noon", &format!("`@noon` is not known; allowed are {known}"), "");
    refused("@daily 5", "5", "`5` after `@daily`: nothing may follow it", "write `@daily` alone");
    let how = "write it like `@every 90s` or `@every 2h30m`";
    refused("@every", "@every", "`@every` names no duration", how);
    refused("@every 5m 3s", "@every 5m 3s", "`@every` takes one duration", how);
    refused("@every 5", "5", "`5` has no unit: write 5s, 5m, 5h or 5d", "");
    refused("@every 0s", "0s", "`@every 0s` is too often: the least is one second", "write `@every 1s`");
    refused("@every 99999d", "99999d", "`@every 99999d` has no slot within 50 years", "");
}

#[test]
fn schedules_that_never_come_due() {
    let check = |text: &str, place: &str, hint: &str| {
        refused(text, place, &format!("`{text}` has no slot within 50 years: no date matches"), hint);
    };
    check("0 0 30 2 *", "30 2", "February has 28 or 29 days");
    check("0 0 0 30 2 *", "30 2", "February has 28 or 29 days");
    check("0 0 31 2,4,6 *", "31 2,4,6", "April, June, September and November have 30 days");
    check("0 0 31W 9 *", "31W 9", "April, June, September and November have 30 days");
    check("0 0 30 2 */2", "30 2", "February has 28 or 29 days");
    // The first and the thirty-first are never a fifth Wednesday of April.
    check("0 0 */31 4 3#5", "*/31 4", "");
    // In March, the last Sunday has no two o'clock.
    refused(
        "*/30 2 * 3 7L",
        "*/30 2",
        "`*/30 2 * 3 7L` has no slot within 50 years: clocks in Europe/Paris jump over it each time",
        "choose another time of day",
    );
    schedule("0 0 30 2 1", "Europe/Paris");
    schedule("*/30 2 * 3 7L", "UTC");
    schedule("30 2 * 3 7L", "Europe/Paris");
}

#[test]
fn each_expression_of_a_list_has_its_error() {
    let texts = ["0 0 * * *", "x", "0 0 30 2 *"].map(str::to_owned);
    let errors = Schedule::parse(&texts, &TimeZone::UTC, "job").unwrap_err();
    assert_eq!(errors.iter().map(|error| error.index).collect::<Vec<_>>(), [1, 2]);
    let errors = Schedule::parse(&[], &TimeZone::UTC, "job").unwrap_err();
    assert_eq!(errors[0].message, "the schedule is an empty list");
}

/// A job's slots must never move: these values are for good.
#[test]
fn a_tilde_picks_by_the_name_of_the_job() {
    let check = |expression: &str, seed: &str, expected: &str| {
        let schedule = Schedule::parse(&[expression.to_owned()], &TimeZone::UTC, seed).unwrap();
        assert_eq!(
            schedule.next_after(at("2026-01-01T00:00:00Z")),
            Some(at(expected)),
            "{expression} {seed}"
        );
    };
    check("0~59 3 * * *", "db-backup", "2026-01-01T03:23:00Z");
    check("0~59 3 * * *", "db-backup-2", "2026-01-01T03:31:00Z");
    check("0~59 0~23 * * *", "db-backup", "2026-01-01T01:23:00Z");
    check("0 0 1~28 * *", "db-backup", "2026-01-11T00:00:00Z");
    check("5~5 0 * * *", "db-backup", "2026-01-01T00:05:00Z");
    let minutes = (0..200).map(|job| {
        let schedule = Schedule::parse(&["20~39 * * * *".to_owned()], &TimeZone::UTC, &format!("job-{job}"));
        let slot = schedule.unwrap().next_after(at("2026-01-01T00:00:00Z")).unwrap();
        (slot.as_second() - at("2026-01-01T00:00:00Z").as_second()) / 60
    });
    let minutes: std::collections::BTreeSet<i64> = minutes.collect();
    assert_eq!(minutes.into_iter().collect::<Vec<_>>(), (20..=39).collect::<Vec<_>>());
}

#[test]
fn in_words() {
    let check = |expression: &str, expected: &str| {
        assert_eq!(schedule(expression, "UTC").explain(), expected, "{expression}");
    };
    check("* * * * *", "every minute");
    check("*/5 * * * *", "every 5 minutes");
    check("0 0 * * *", "at 00:00");
    check("0 1 * * 0", "at 01:00 on Sunday");
    check("0 12,23 * * *", "at 12:00 and 23:00");
    check("@hourly", "every hour");
    check("@yearly", "at 00:00 on day 1 of the month in January");
    check("@reboot", "once after each boot");
    check("@every 90s", "every 1m30s");
    check("0 */2 * * *", "every 2 hours");
    check("17 * * * *", "at minute 17 of every hour");
    check("*/25 * * * *", "at minutes 0, 25 and 50 of every hour");
    check("*/10 9-17 * * mon-fri", "every 10 minutes from 09:00 to 17:59 on Monday to Friday");
    check("* 2 * * *", "every minute from 02:00 to 02:59");
    check("15 1,3-6,8,10,12 * * *", "at minute 15 of hours 1, 3 to 6, 8, 10 and 12");
    check("*/20 * * * * *", "every 20 seconds");
    check("0,30 */5 * * * *", "every 30 seconds of every 5th minute");
    check("15 30 2 * * *", "at 02:30:15");
    check("0 0 1,15 1-3,7 *", "at 00:00 on days 1 and 15 of the month in January to March and July");
    check("0 0 L * *", "at 00:00 on the last day of the month");
    check("0 0 L-3 * *", "at 00:00 on the day 3 days before the last of the month");
    check("0 0 LW * *", "at 00:00 on the last day of the month from Monday to Friday");
    check("0 0 15W * *", "at 00:00 on the day from Monday to Friday nearest to day 15 of the month");
    check("0 0 * * 5L", "at 00:00 on the last Friday of the month");
    check("0 0 * * 5#3,1", "at 00:00 on Monday and the third Friday of the month");
    check("0 0 13 * 5", "at 00:00 on day 13 of the month or on Friday");
    check("0 0 *,13 * 5", "at 00:00 on Friday");
    check("0 0 */15 * 5", "at 00:00 on Friday, but only on days 1, 16 and 31 of the month");
    check("0 0 1-31 * 5", "at 00:00");
    let two = ["0 9 * * 1-5", "0 11 * * 6,0"].map(str::to_owned);
    let two = Schedule::parse(&two, &TimeZone::UTC, "job").unwrap();
    assert_eq!(two.explain(), "at 09:00 on Monday to Friday; at 11:00 on Sunday and Saturday");
}

#[test]
fn warnings() {
    let check = |expression: &str, expected: &[(&str, &str)]| {
        let lints = schedule(expression, "Europe/Paris").lint(at("2026-01-01T00:00:00Z"));
        let lints: Vec<_> =
            lints.iter().map(|lint| (&*lint.message, lint.hint.as_deref().unwrap_or(""))).collect();
        assert_eq!(lints, expected, "{expression}");
    };
    for fine in [
        "*/5 * * * *",
        "0 0 * * *",
        "0 3 * * 0",
        "*/10 9-17 * * mon-fri",
        "@reboot",
        "@every 7m",
        "@monthly",
        "*/30 2 * * *",
        "0 0 L * *",
        "0 0 31 12 *",
        "0 0 30,L * *",
    ] {
        check(fine, &[]);
    }
    check(
        "30 2 * * *",
        &[
            (
                "`30 2 * * *`: clocks in Europe/Paris go from 02:00 to 03:00 on 2026-03-29, so that 02:30 is jumped over: it runs at 03:00",
                "a time from 03:00 on is not affected",
            ),
            (
                "`30 2 * * *`: clocks in Europe/Paris go from 03:00 to 02:00 on 2026-10-25, so that 02:30 comes twice: it runs the first time only",
                "a time from 03:00 on is not affected",
            ),
        ],
    );
    // Not on these days.
    check("30 2 * * 1-6", &[]);
    check(
        "0 0 13 * 5",
        &[(
            "`0 0 13 * 5` is due on every day that matches day-of-month `13` and on every day that matches day-of-week `5`: either is enough",
            "write `*` in one of them, or `1#1` in day-of-week for the first Monday of a month",
        )],
    );
    check(
        "* 3 * * *",
        &[(
            "minute `*` with hour `3` runs 60 times a day, in every minute of the hour",
            "for once, write `0 3` as minute and hour",
        )],
    );
    check(
        "* 5 4 * * *",
        &[("second `*` with minute `5` runs 60 times in that minute", "for once, write 0 as the second")],
    );
    check(
        "*/7 */5 * * *",
        &[
            (
                "`*/7` in the minute field starts again each hour: the last distance is 4, not 7",
                "write `@every 7m` to keep the distance",
            ),
            (
                "`*/5` in the hour field starts again each day: the last distance is 4, not 5",
                "write `@every 5h` to keep the distance",
            ),
        ],
    );
    check(
        "*/90 * * * *",
        &[(
            "`*/90` in the minute field gives one value only, once each hour",
            "write `@every 90m` to keep the distance",
        )],
    );
    check("0 0 */2 * *", &[("`*/2` in the day-of-month field starts again on the 1st of each month", "")]);
    check(
        "0 0 31 * *",
        &[("months without a day 31 have no slot", "write `L` for the last day of the month")],
    );
    check(
        "0 0 30 * *",
        &[("months without a day 30 have no slot", "write `L` for the last day of the month")],
    );
    check(
        "0 0 29 2 *",
        &[("29 February comes in leap years only", "write `L` for the last day of the month")],
    );
    let twice = ["0 0 * * *", "@daily"].map(str::to_owned);
    let lints = Schedule::parse(&twice, &TimeZone::UTC, "job").unwrap().lint(at("2026-01-01T00:00:00Z"));
    assert_eq!(lints.len(), 1);
    assert_eq!((lints[0].message.as_str(), lints[0].index), ("`@daily` is given twice", 1));
}
