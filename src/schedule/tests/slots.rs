//! Slots as the contract states them, and in the zones and years where it is hard.

use super::*;

fn check(expression: &str, zone: &str, after: &str, expected: &[&str]) {
    let schedule = schedule(expression, zone);
    let slots = std::iter::successors(schedule.next_after(at(after)), |slot| schedule.next_after(*slot));
    let slots: Vec<String> = slots.take(expected.len()).map(|slot| slot.to_string()).collect();
    assert_eq!(slots, expected, "`{expression}` in {zone} after {after}");
}

#[test]
fn fixed_times_over_a_spring_gap() {
    let paris = "Europe/Paris";
    check("30 2 * * *", paris, "2026-03-28T22:00:00Z", &["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]);
    // 02:10, 02:40 and 03:00 are reached at one instant.
    check(
        "0,10,40 2-3 * * *",
        paris,
        "2026-03-29T00:59:59Z",
        &["2026-03-29T01:00:00Z", "2026-03-29T01:10:00Z", "2026-03-29T01:40:00Z", "2026-03-30T00:00:00Z"],
    );
    check(
        "*/10 30 2 * * *",
        paris,
        "2026-03-29T00:00:00Z",
        &["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"],
    );
    // The gap is midnight itself.
    check(
        "@daily",
        "America/Santiago",
        "2026-09-05T12:00:00Z",
        &["2026-09-06T04:00:00Z", "2026-09-07T03:00:00Z"],
    );
    check(
        "15 0 * * 0",
        "America/Santiago",
        "2026-09-05T12:00:00Z",
        &["2026-09-06T04:00:00Z", "2026-09-13T03:15:00Z"],
    );
    // Half an hour.
    check(
        "15 2 * * *",
        "Australia/Lord_Howe",
        "2026-10-03T00:00:00Z",
        &["2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"],
    );
    // Two hours.
    check(
        "30 1,2 * * *",
        "Antarctica/Troll",
        "2026-03-29T00:00:00Z",
        &["2026-03-29T01:00:00Z", "2026-03-29T23:30:00Z"],
    );
    // A whole day: 30 December 2011 never was. Its midnight and that of the 31st are one instant.
    check(
        "@daily",
        "Pacific/Apia",
        "2011-12-29T00:00:00Z",
        &["2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z"],
    );
    check(
        "0 12 30 * *",
        "Pacific/Apia",
        "2011-12-29T12:00:00Z",
        &["2011-12-30T10:00:00Z", "2012-01-29T22:00:00Z"],
    );
}

#[test]
fn fixed_times_over_an_autumn_overlap() {
    let paris = "Europe/Paris";
    let expected = &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"];
    check("30 2 * * *", paris, "2026-10-24T12:00:00Z", expected);
    // From within the first pass, and from within the second.
    check("30 2 * * *", paris, "2026-10-25T00:10:00Z", expected);
    check("30 2 * * *", paris, "2026-10-25T00:30:00Z", &expected[1..]);
    check("30 2 * * *", paris, "2026-10-25T01:10:00Z", &expected[1..]);
    check("0 3 * * *", paris, "2026-10-25T00:59:59Z", &["2026-10-25T02:00:00Z"]);
    // The hour before midnight comes twice: on Saturday, not on two days.
    check(
        "30 23 * * *",
        "America/Santiago",
        "2026-04-04T12:00:00Z",
        &["2026-04-05T02:30:00Z", "2026-04-06T03:30:00Z"],
    );
    check(
        "@daily",
        "America/Santiago",
        "2026-04-04T12:00:00Z",
        &["2026-04-05T04:00:00Z", "2026-04-06T04:00:00Z"],
    );
    // A whole day came twice when the date line moved: the noon of 19 October 1867.
    check(
        "0 12 * * *",
        "America/Juneau",
        "1867-10-18T00:00:00Z",
        &["1867-10-18T20:57:41Z", "1867-10-20T20:57:41Z"],
    );
    // Also from long after the seam, within the second pass.
    check("0 12 * * *", "America/Juneau", "1867-10-19T18:00:00Z", &["1867-10-20T20:57:41Z"]);
}

#[test]
fn intervals_over_clock_changes() {
    check(
        "*/30 * * * *",
        "Europe/Paris",
        "2026-10-24T23:30:00Z",
        &[
            "2026-10-25T00:00:00Z",
            "2026-10-25T00:30:00Z",
            "2026-10-25T01:00:00Z",
            "2026-10-25T01:30:00Z",
            "2026-10-25T02:00:00Z",
        ],
    );
    check(
        "*/30 2 * * *",
        "Europe/Paris",
        "2026-03-28T12:00:00Z",
        &["2026-03-30T00:00:00Z", "2026-03-30T00:30:00Z"],
    );
    check(
        "@hourly",
        "Europe/Paris",
        "2026-03-29T00:30:00Z",
        &["2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"],
    );
    check(
        "@hourly",
        "Europe/Paris",
        "2026-10-25T00:30:00Z",
        &["2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"],
    );
    check(
        "15 */2 * * *",
        "Australia/Lord_Howe",
        "2026-04-04T13:00:00Z",
        &["2026-04-04T13:15:00Z", "2026-04-04T15:45:00Z"],
    );
}

#[test]
fn ramadan_in_morocco() {
    // 2026: back to UTC on 15 February at 03:00, forward again on 22 March at 02:00.
    check(
        "30 2 * * *",
        "Africa/Casablanca",
        "2026-02-14T00:00:00Z",
        &["2026-02-14T01:30:00Z", "2026-02-15T01:30:00Z", "2026-02-16T02:30:00Z"],
    );
    check(
        "30 2 * * *",
        "Africa/Casablanca",
        "2026-03-21T00:00:00Z",
        &["2026-03-21T02:30:00Z", "2026-03-22T02:00:00Z", "2026-03-23T01:30:00Z"],
    );
}

#[test]
fn years_and_months() {
    let utc =
        |expression: &str, expected: &[&str]| check(expression, "UTC", "2026-01-31T12:00:00Z", expected);
    utc("0 0 29 2 *", &["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]);
    utc(
        "0 0 29 2 */8",
        &["2032-02-29T00:00:00Z", "2060-02-29T00:00:00Z", "2088-02-29T00:00:00Z", "2128-02-29T00:00:00Z"],
    );
    check("0 0 29 2 *", "UTC", "2096-03-01T00:00:00Z", &["2104-02-29T00:00:00Z"]);
    check("0 0 L 2 *", "UTC", "1999-03-01T00:00:00Z", &["2000-02-29T00:00:00Z", "2001-02-28T00:00:00Z"]);
    utc("0 0 31 * *", &["2026-03-31T00:00:00Z", "2026-05-31T00:00:00Z"]);
    utc("0 0 L * *", &["2026-02-28T00:00:00Z", "2026-03-31T00:00:00Z"]);
    utc("0 0 L-3 * *", &["2026-02-25T00:00:00Z", "2026-03-28T00:00:00Z"]);
    // 31 May 2026 is a Sunday; February ends on a Saturday.
    utc(
        "0 0 LW * *",
        &["2026-02-27T00:00:00Z", "2026-03-31T00:00:00Z", "2026-04-30T00:00:00Z", "2026-05-29T00:00:00Z"],
    );
    // 15 February is a Sunday, 15 August a Saturday.
    utc("0 0 15W 2,8 *", &["2026-02-16T00:00:00Z", "2026-08-14T00:00:00Z"]);
    // 1 February is a Sunday, 1 August a Saturday.
    utc("0 0 1W 2,8 *", &["2026-02-02T00:00:00Z", "2026-08-03T00:00:00Z"]);
    utc("0 0 31W * *", &["2026-03-31T00:00:00Z", "2026-05-29T00:00:00Z"]);
    utc("0 0 * * 5L", &["2026-02-27T00:00:00Z", "2026-03-27T00:00:00Z"]);
    utc("0 0 * * 5#3", &["2026-02-20T00:00:00Z", "2026-03-20T00:00:00Z"]);
    utc("0 0 * * sun#5", &["2026-03-29T00:00:00Z", "2026-05-31T00:00:00Z"]);
    utc("0 0 * * 7", &["2026-02-01T00:00:00Z", "2026-02-08T00:00:00Z"]);
    utc("0 0 * * 5-7", &["2026-02-01T00:00:00Z", "2026-02-06T00:00:00Z", "2026-02-07T00:00:00Z"]);
    utc("0 0 * jUL MON", &["2026-07-06T00:00:00Z"]);
    utc("@yearly", &["2027-01-01T00:00:00Z"]);
    utc("@Monthly", &["2026-02-01T00:00:00Z"]);
    utc("@weekly", &["2026-02-01T00:00:00Z"]);
    utc("59 59 23 * * *", &["2026-01-31T23:59:59Z", "2026-02-01T23:59:59Z"]);
}

#[test]
fn either_day_field_matches_unless_one_begins_with_a_star() {
    let utc =
        |expression: &str, expected: &[&str]| check(expression, "UTC", "2026-01-31T12:00:00Z", expected);
    utc("0 0 3 * 1", &["2026-02-02T00:00:00Z", "2026-02-03T00:00:00Z", "2026-02-09T00:00:00Z"]);
    utc("0 0 */2 * 1", &["2026-02-09T00:00:00Z", "2026-02-23T00:00:00Z", "2026-03-09T00:00:00Z"]);
    utc("0 0 1-31/2 * 1", &["2026-02-01T00:00:00Z", "2026-02-02T00:00:00Z", "2026-02-03T00:00:00Z"]);
    utc("0 0 2,3 * */4", &["2026-04-02T00:00:00Z", "2026-05-03T00:00:00Z"]);
    utc("0 0 ? * 1", &["2026-02-02T00:00:00Z", "2026-02-09T00:00:00Z"]);
    utc("0 0 *,3 * 1", &["2026-02-02T00:00:00Z", "2026-02-09T00:00:00Z"]);
}

#[test]
fn steps() {
    let utc =
        |expression: &str, expected: &[&str]| check(expression, "UTC", "2026-01-31T12:00:00Z", expected);
    utc(
        "5/15 * * * *",
        &["2026-01-31T12:05:00Z", "2026-01-31T12:20:00Z", "2026-01-31T12:35:00Z", "2026-01-31T12:50:00Z"],
    );
    utc(
        "10-40/10 0 * * *",
        &["2026-02-01T00:10:00Z", "2026-02-01T00:20:00Z", "2026-02-01T00:30:00Z", "2026-02-01T00:40:00Z"],
    );
    utc("*/25 * * * *", &["2026-01-31T12:25:00Z", "2026-01-31T12:50:00Z", "2026-01-31T13:00:00Z"]);
    utc(
        "0 0 * * 1/2",
        &["2026-02-01T00:00:00Z", "2026-02-02T00:00:00Z", "2026-02-04T00:00:00Z", "2026-02-06T00:00:00Z"],
    );
}

#[test]
fn every_counts_from_the_epoch() {
    check(
        "@every 90s",
        "Europe/Paris",
        "2026-03-29T01:00:00Z",
        &["2026-03-29T01:01:30Z", "2026-03-29T01:03:00Z"],
    );
    check("@every 1d", "Europe/Paris", "2026-03-29T01:00:00Z", &["2026-03-30T00:00:00Z"]);
    check("@every 1s", "UTC", "2026-03-29T01:00:00.25Z", &["2026-03-29T01:00:01Z"]);
    check("@every 7m", "UTC", "1969-12-31T23:50:00Z", &["1969-12-31T23:53:00Z", "1970-01-01T00:00:00Z"]);
}

#[test]
fn fractions_of_a_second_and_times_before_the_epoch() {
    check("* * * * * *", "UTC", "2026-01-01T00:00:00.999Z", &["2026-01-01T00:00:01Z"]);
    check("* * * * * *", "UTC", "1950-01-01T00:00:00.5Z", &["1950-01-01T00:00:01Z"]);
    check("@daily", "UTC", "1950-01-01T00:00:00Z", &["1950-01-02T00:00:00Z"]);
    // Local mean time: 9 minutes and 21 seconds ahead.
    check("0 12 * * *", "Europe/Paris", "1880-01-01T00:00:00Z", &["1880-01-01T11:50:39Z"]);
}

#[test]
fn the_ends_of_time() {
    for zone in ["UTC", "Europe/Paris", "Pacific/Kiritimati", "America/Adak", "Africa/Casablanca"] {
        for expression in ["* * * * * *", "*/5 * * * *", "@daily", "0 0 29 2 *", "@every 90s"] {
            let schedule = schedule(expression, zone);
            for near in [0, 1, 59, 3600, 100_000, 10_000_000] {
                let near = SignedDuration::from_secs(near);
                let (early, late) = (Timestamp::MIN + near, Timestamp::MAX - near);
                assert!(schedule.next_after(early).unwrap() > early, "{expression} {zone} {near:?}");
                assert!(
                    schedule.next_after(late).is_none_or(|slot| slot > late),
                    "{expression} {zone} {near:?}"
                );
            }
            assert_eq!(schedule.next_after(Timestamp::MAX), None, "{expression} {zone}");
        }
    }
    check("* * * * * *", "UTC", "9999-12-30T21:59:59Z", &["9999-12-30T22:00:00Z"]);
    check("@daily", "UTC", "-009999-01-02T01:59:59Z", &["-009999-01-03T00:00:00Z"]);
}

#[test]
fn several_expressions_give_each_instant_once() {
    let texts = ["0 12 * * *", "0 */6 * * *", "@reboot"].map(str::to_owned);
    let schedule = Schedule::parse(&texts, &TimeZone::UTC, "job").unwrap();
    let slots = slots_between(&schedule, at("2026-01-01T03:00:00Z"), at("2026-01-01T20:00:00Z"));
    assert_eq!(slots, [at("2026-01-01T06:00:00Z"), at("2026-01-01T12:00:00Z"), at("2026-01-01T18:00:00Z")]);
    assert!(schedule.at_boot());
    assert_eq!(schedule.expressions(), texts);
}

#[test]
fn only_intervals_repeat_after_the_clock_was_set_back() {
    let check = |texts: &[&str], expected: Option<&str>| {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        let schedule = Schedule::parse(&texts, &TimeZone::UTC, "job").unwrap();
        assert_eq!(schedule.next_interval_after(at("2026-01-01T00:10:00Z")), expected.map(at), "{texts:?}");
    };
    check(&["30 0 * * *"], None);
    check(&["30 0 * * *", "@hourly"], Some("2026-01-01T01:00:00Z"));
    check(&["30 0 * * *", "*/40 5 * * *"], Some("2026-01-01T05:00:00Z"));
    check(&["*/10 30 0 * * *", "@daily", "@reboot"], None);
    check(&["@every 1m"], Some("2026-01-01T00:11:00Z"));
    check(&["0-59 0-23 * * *"], None);
    check(&["0 ? * * *"], Some("2026-01-01T01:00:00Z"));
}

#[test]
fn reboot_alone_has_no_slot_of_its_own() {
    let schedule = schedule("@reboot", "UTC");
    assert!(schedule.at_boot());
    assert_eq!(schedule.next_after(at("2026-01-01T00:00:00Z")), None);
    assert!(!super::schedule("@daily", "UTC").at_boot());
}

#[test]
fn offsets_begin_with_the_one_in_force() {
    let paris = TimeZone::get("Europe/Paris").unwrap();
    let (from, until) = (at("2026-01-01T00:00:00Z"), at("2026-10-25T01:00:00Z"));
    assert_eq!(offsets(&paris, from, until), [(from, 3600), (at("2026-03-29T01:00:00Z"), 7200)]);
    let all = offsets(&paris, from, Timestamp::MAX);
    assert_eq!(all.len(), 64);
    assert_eq!(all[2], (at("2026-10-25T01:00:00Z"), 3600));
    assert_eq!(offsets(&TimeZone::UTC, from, until), [(from, 0)]);
}

/// The table of ten thousand jobs must stay small.
#[test]
fn an_expression_is_small() {
    assert!(size_of::<Expression>() <= 64, "{} bytes", size_of::<Expression>());
    assert!(size_of::<Schedule>() <= 16, "{} bytes", size_of::<Schedule>());
}

/// Where a tz file of 32 bits ends there is a seam at which no offset changes.
#[test]
fn the_last_second_of_32_bits_is_like_any_other() {
    let zone = jiff::tz::TimeZone::get("America/Santiago").unwrap();
    let schedule = Schedule::parse(&["14 0/1 * * *".to_owned()], &zone, "job").unwrap();
    for from in
        ["2038-01-19T03:13:59.5Z", "2038-01-19T03:14:00Z", "2038-01-19T03:14:06Z", "2038-01-19T03:14:07Z"]
    {
        let expected =
            if from < "2038-01-19T03:14:00Z" { "2038-01-19T03:14:00Z" } else { "2038-01-19T04:14:00Z" };
        let slot = schedule.next_after(from.parse().unwrap()).unwrap();
        assert_eq!(slot.to_string(), expected, "{from}");
    }
}
