//! A zone as it was known on the day on which a table came into force.
//!
//! A table is kept with the offsets of its zones, so that a slot of the past is judged by what the tz database said
//! then, whatever an upgrade has made of it since. Before the first of these offsets and beyond the last of them the
//! named zone of today serves.

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};
use std::time::Duration;

use super::offsets;

/// How far ahead the offsets of a zone are kept: a table is seldom in force for longer.
pub const RECORDED_AHEAD: Duration = Duration::from_secs(2 * 366 * 86_400);

/// How far back from the record the seams of the named zone are taken: a schedule looks at those of the last days.
const BEFORE: Duration = Duration::from_secs(400 * 86_400);

/// How far beyond the record they are: as far as a schedule looks for a slot.
const BEYOND: Duration = Duration::from_secs(51 * 366 * 86_400);

/// The zone of this name, with these offsets (as [`offsets`] tells them) in their time. Where today's tz database
/// says the same, it is today's zone. `None` where nothing was recorded and no zone has that name.
pub fn recorded(name: &str, offsets_then: &[(Timestamp, i32)]) -> Option<TimeZone> {
    let named = TimeZone::get(name).ok();
    let (Some((from, first)), Some((last, _))) = (offsets_then.first(), offsets_then.last()) else {
        return named;
    };
    let full = offsets_then.len() == super::occurrence::MOST_OFFSETS;
    let horizon = if full { *last } else { from.checked_add(RECORDED_AHEAD).unwrap_or(Timestamp::MAX) };
    let Some(named) = named else { return tzif(name, *first, offsets_then) };
    // The end is exclusive; the last that was recorded of a full list counts.
    let until = horizon.checked_add(Duration::from_nanos(u64::from(full))).unwrap_or(Timestamp::MAX);
    if offsets(&named, *from, until) == offsets_then {
        return Some(named);
    }
    let oldest = from.checked_sub(BEFORE).unwrap_or(Timestamp::MIN);
    let newest = horizon.checked_add(BEYOND).unwrap_or(Timestamp::MAX);
    let mut seams: Vec<(Timestamp, i32)> = named
        .preceding(*from)
        .take_while(|seam| seam.timestamp() > oldest)
        .map(|seam| (seam.timestamp(), seam.offset().seconds()))
        .collect();
    seams.reverse();
    seams.extend_from_slice(offsets_then);
    // From here on today's rules hold, whatever was recorded last.
    seams.push((horizon, named.to_offset(horizon).seconds()));
    seams.extend(
        named
            .following(horizon)
            .take_while(|seam| seam.timestamp() < newest)
            .map(|seam| (seam.timestamp(), seam.offset().seconds())),
    );
    tzif(name, named.to_offset(oldest).seconds(), &seams)
}

/// The zone as the bytes of a tz file (RFC 9636) of version 2: an offset, and where it changes. A seam that changes
/// nothing is left out. `None` beyond what such a file can say.
fn tzif(name: &str, initial: i32, seams: &[(Timestamp, i32)]) -> Option<TimeZone> {
    let mut kinds = vec![initial];
    let mut changes: Vec<(i64, u8)> = vec![];
    let mut current = initial;
    for (at, offset) in seams {
        if *offset == current {
            continue;
        }
        current = *offset;
        let kind = match kinds.iter().position(|kind| kind == offset) {
            Some(kind) => kind,
            None => {
                kinds.push(*offset);
                kinds.len() - 1
            }
        };
        changes.push((at.as_second(), u8::try_from(kind).ok()?));
    }
    if kinds.iter().any(|kind| Offset::from_seconds(*kind).is_err()) {
        return None;
    }
    // Readers of version 2 skip the first block; it must be there.
    let mut bytes = header(0, 1);
    bytes.extend_from_slice(&[0, 0, 0, 0, 0, 0]);
    bytes.extend_from_slice(ABBREVIATION);
    bytes.extend(header(u32::try_from(changes.len()).ok()?, u32::try_from(kinds.len()).ok()?));
    bytes.extend(changes.iter().flat_map(|(at, _)| at.to_be_bytes()));
    bytes.extend(changes.iter().map(|(_, kind)| *kind));
    for kind in &kinds {
        bytes.extend_from_slice(&kind.to_be_bytes());
        bytes.extend_from_slice(&[0, 0]);
    }
    bytes.extend_from_slice(ABBREVIATION);
    bytes.extend_from_slice(b"\n\n");
    TimeZone::tzif(name, &bytes).ok()
}

/// What the offsets are called; nobody is shown it.
const ABBREVIATION: &[u8] = b"-00\0";

fn header(changes: u32, kinds: u32) -> Vec<u8> {
    let mut bytes = b"TZif2".to_vec();
    bytes.extend_from_slice(&[0; 15]);
    let characters = u32::try_from(ABBREVIATION.len()).unwrap_or(0);
    for count in [0, 0, 0, changes, kinds, characters] {
        bytes.extend_from_slice(&count.to_be_bytes());
    }
    bytes
}
