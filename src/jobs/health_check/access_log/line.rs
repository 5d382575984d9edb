//! A line of nginx's combined format, with `$request_time` behind it. Pure.
//!
//! `log_format combined '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer"
//! "$http_user_agent"'` (ngx_http_log_module; `"` within a value is written as `\x22`).

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;

const MONTHS: [&[u8]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// What is of interest in one line.
#[derive(Debug, PartialEq)]
pub(super) struct Request {
    pub(super) status: u16,
    pub(super) took: Option<Duration>,
}

/// When the line was written, to the second.
pub(super) fn time(line: &[u8]) -> Option<Timestamp> {
    let begin = line.iter().position(|byte| *byte == b'[')? + 1;
    moment(line.get(begin..)?.split(|byte| *byte == b']').next()?)
}

/// `22/Nov/2026:23:00:00 +0100`
fn moment(text: &[u8]) -> Option<Timestamp> {
    let number = |range: std::ops::Range<usize>| -> Option<i16> {
        let digits = text.get(range)?;
        digits
            .iter()
            .try_fold(0, |sum: i16, byte| byte.is_ascii_digit().then(|| sum * 10 + i16::from(byte - b'0')))
    };
    let small = |range| number(range).and_then(|number| i8::try_from(number).ok());
    let month = MONTHS.iter().position(|month| Some(*month) == text.get(3..6))?;
    let month = i8::try_from(month + 1).ok()?;
    let local =
        DateTime::new(number(7..11)?, month, small(0..2)?, small(12..14)?, small(15..17)?, small(18..20)?, 0)
            .ok()?;
    let east = i64::from(number(22..24)?) * 3600 + i64::from(number(24..26)?) * 60;
    let east = match text.get(21)? {
        b'+' => east,
        b'-' => -east,
        _ => return None,
    };
    let utc = jiff::tz::TimeZone::UTC.to_timestamp(local).ok()?;
    utc.checked_sub(jiff::SignedDuration::from_secs(east)).ok()
}

/// `None`: the line has another format.
pub(super) fn request(line: &[u8]) -> Option<Request> {
    let begin = line.iter().position(|byte| *byte == b'[')?;
    let rest = &line[begin..];
    let rest = rest.get(rest.iter().position(|byte| *byte == b']')? + 1..)?;
    let rest = after_quoted(rest)?;
    let mut words = rest.splitn(4, |byte| *byte == b' ');
    let (_, status, _bytes, rest) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let status = std::str::from_utf8(status).ok().filter(|text| text.len() == 3)?.parse().ok()?;
    let behind = after_quoted(rest).and_then(after_quoted)?;
    Some(Request { status, took: behind.split(|byte| *byte == b' ').find_map(took) })
}

/// `0.123`, or `rt=0.123` as many write it.
fn took(word: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(word).ok()?.trim_matches(|c| c == '"' || c == '\r');
    let number = match text.split_once('=') {
        Some(("rt" | "request_time", number)) => number,
        Some(_) => return None,
        None => text,
    };
    let (seconds, part) = number.split_once('.')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(seconds) || !is_number(part) {
        return None;
    }
    Duration::try_from_secs_f64(number.parse().ok()?).ok()
}

/// What stands behind the next value in quotes.
fn after_quoted(text: &[u8]) -> Option<&[u8]> {
    let begin = text.iter().position(|byte| *byte == b'"')? + 1;
    let mut escaped = false;
    for (index, byte) in text[begin..].iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return text.get(begin + index + 1..),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = r#"203.0.113.7 - - [22/Nov/2026:23:00:05 +0100] "GET /p?x=1 HTTP/1.1" 200 612 "-" "Mozilla/5.0 (X11)""#;

    fn check(line: &str, expected: Option<(u16, Option<u64>)>) {
        let found = request(line.as_bytes());
        let found =
            found.map(|one| (one.status, one.took.map(|took| u64::try_from(took.as_millis()).unwrap())));
        assert_eq!(found, expected, "{line}");
    }

    #[test]
    fn status_and_time_are_read_from_the_combined_format() {
        check(HEAD, Some((200, None)));
        check(&format!("{HEAD} 0.123"), Some((200, Some(123))));
        check(&format!("{HEAD} 12.000\r"), Some((200, Some(12_000))));
        check(&format!("{HEAD} \"203.0.113.8\" rt=0.042 uct=0.001"), Some((200, Some(42))));
        check(&format!("{HEAD} \"0.007\""), Some((200, Some(7))));
        // A request that was cut off has neither a line of its own nor a protocol.
        check(r#"::1 - bob [22/Nov/2026:23:00:05 +0000] "" 400 0 "-" "-" 0.000"#, Some((400, Some(0))));
        check(
            r#"::1 - - [22/Nov/2026:23:00:05 +0000] "GET /\x22 \" 500 HTTP/1.1" 503 1 "a\"b" "-" 1.5"#,
            Some((503, Some(1500))),
        );
        check("", None);
        check("2026/11/22 23:00:05 [error] 7#7: *1 connect() failed", None);
        check(r#"{"status":200}"#, None);
        check(&HEAD[..60], None);
        check(&HEAD.replace(" 200 ", " 20x "), None);
    }

    #[test]
    fn the_time_of_a_line_is_an_instant() {
        let at = |text: &str| time(format!("x [{text}] y").as_bytes()).map(|at| at.to_string());
        assert_eq!(at("22/Nov/2026:23:00:05 +0100").as_deref(), Some("2026-11-22T22:00:05Z"));
        assert_eq!(at("01/Jan/2027:00:30:00 -0330").as_deref(), Some("2027-01-01T04:00:00Z"));
        for wrong in ["22/Nom/2026:23:00:05 +0100", "31/Feb/2026:23:00:05 +0100", "22/Nov/2026:23:00:05", ""]
        {
            assert_eq!(at(wrong), None, "{wrong}");
        }
        assert_eq!(time(b"no brackets"), None);
    }
}
