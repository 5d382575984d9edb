//! Walks over a custom dump's parts, as far as they can be told without reading what is in them.
//!
//! pg_restore stops reading where the last table ends, so that it doesn't see what follows: a second dump, or another's
//! rest. And it never says of which database a dump is. Written by pg_backup_archiver.c (ReadHead, ReadToc) and
//! pg_backup_custom.c; of versions of the format that this program doesn't know, nothing is said.

/// Of the format: 1.12 is PostgreSQL 9.0's, 1.16 that of PostgreSQL 17 and 18.
const KNOWN: std::ops::RangeInclusive<u8> = 12..=16;

/// An entry of the table of contents holds at most one function's or view's text; a longer one is damage that
/// pg_restore has words for.
const LONGEST_PART: usize = 64 << 20;

#[derive(Default)]
pub(super) struct Walk {
    /// Bytes of a part that is not whole yet.
    rest: Vec<u8>,
    head: Option<Head>,
    stage: Stage,
}

struct Head {
    /// The minor version of the format.
    minor: u8,
    int: usize,
    offset: usize,
    database: Option<String>,
}

#[derive(Default)]
enum Stage {
    #[default]
    Head,
    /// Of the table of contents, so many are still to come.
    Entries(u64),
    /// Before a part of the data, or at the end.
    Block,
    /// Before a large object, or the end of their list.
    LargeObject,
    /// Before a chunk, or the end of a table or a large object.
    Chunk { large: bool },
    /// Within a chunk that has so many bytes left.
    Bytes { left: u64, large: bool },
    /// Nothing is known of what comes.
    Unknown,
    /// What comes is no part of this dump.
    Strange,
}

impl Walk {
    pub(super) fn feed(&mut self, piece: &[u8]) {
        if let Stage::Unknown | Stage::Strange = self.stage {
            return;
        }
        let mut joined = std::mem::take(&mut self.rest);
        let mut piece = if joined.is_empty() {
            piece
        } else {
            joined.extend_from_slice(piece);
            &joined
        };
        while !piece.is_empty() {
            let mut part = Part { bytes: piece, int: 0 };
            let Some(next) = self.step(&mut part) else {
                self.rest = piece.to_vec();
                if self.rest.len() > LONGEST_PART {
                    self.stage = Stage::Unknown;
                }
                return;
            };
            piece = part.bytes;
            self.stage = next;
            if let Stage::Unknown | Stage::Strange = self.stage {
                return;
            }
        }
    }

    /// What is wrong with it, once all of it has been fed.
    pub(super) fn wrong(&self) -> Option<String> {
        let wrong = match self.stage {
            Stage::Unknown => return None,
            Stage::Block if self.rest.is_empty() => return None,
            Stage::Strange => "something follows the last of its data: is it two dumps in one file?",
            _ => "it ends in the middle of its data",
        };
        Some(wrong.to_owned())
    }

    /// That it says it is of.
    pub(super) fn database(&self) -> Option<&str> {
        self.head.as_ref()?.database.as_deref()
    }

    /// Over one part; `None`: it is not whole yet.
    fn step(&mut self, part: &mut Part) -> Option<Stage> {
        let Some(head) = &self.head else {
            let (head, entries) = match head(part)? {
                Some(known) => known,
                None => return Some(Stage::Unknown),
            };
            self.head = Some(head);
            return Some(after_entries(entries));
        };
        part.int = head.int;
        Some(match self.stage {
            Stage::Entries(left) => {
                entry(part, head)?;
                after_entries(left - 1)
            }
            Stage::Block => match part.byte()? {
                1 => {
                    part.int()?;
                    Stage::Chunk { large: false }
                }
                3 => {
                    part.int()?;
                    Stage::LargeObject
                }
                _ => Stage::Strange,
            },
            Stage::LargeObject => match part.int()? {
                0 => Stage::Block,
                _ => Stage::Chunk { large: true },
            },
            Stage::Chunk { large } => match (part.int()?, large) {
                (0, true) => Stage::LargeObject,
                (0, false) => Stage::Block,
                (bytes, _) => match u64::try_from(bytes) {
                    Ok(left) => Stage::Bytes { left, large },
                    Err(_) => Stage::Strange,
                },
            },
            Stage::Bytes { left, large } => {
                let here = usize::try_from(left).unwrap_or(usize::MAX).min(part.bytes.len());
                part.skip(here)?;
                match left - here as u64 {
                    0 => Stage::Chunk { large },
                    left => Stage::Bytes { left, large },
                }
            }
            Stage::Head | Stage::Unknown | Stage::Strange => Stage::Unknown,
        })
    }
}

fn after_entries(left: u64) -> Stage {
    if left == 0 { Stage::Block } else { Stage::Entries(left) }
}

/// And the number of entries in the table of contents; inside `None`: of a version that is not known.
fn head(part: &mut Part) -> Option<Option<(Head, u64)>> {
    part.skip("PGDMP".len())?;
    let (major, minor, _revision) = (part.byte()?, part.byte()?, part.byte()?);
    let (int, offset, format) = (part.byte()?.into(), part.byte()?.into(), part.byte()?);
    // 1: custom.
    if major != 1 || !KNOWN.contains(&minor) || !(1..=8).contains(&int) || format != 1 {
        return Some(None);
    }
    part.int = int;
    // How it is compressed.
    if minor >= 15 {
        part.byte()?;
    } else {
        part.int()?;
    }
    // When it was made.
    for _ in 0..7 {
        part.int()?;
    }
    let database = part.text()?.map(|name| String::from_utf8_lossy(name).into_owned());
    // The versions of the server and of pg_dump.
    part.text()?;
    part.text()?;
    let entries = u64::try_from(part.int()?).ok();
    Some(entries.map(|entries| (Head { minor, int, offset, database }, entries)))
}

fn entry(part: &mut Part, head: &Head) -> Option<()> {
    // Its number, and whether it has data; its two oids, name and kind; its section.
    (0..2).try_for_each(|_| part.int().map(drop))?;
    (0..4).try_for_each(|_| part.text().map(drop))?;
    part.int()?;
    // To make, drop and copy it; its schema and its tablespace.
    (0..5).try_for_each(|_| part.text().map(drop))?;
    if head.minor >= 14 {
        part.text()?;
    }
    if head.minor >= 16 {
        part.int()?;
    }
    // Its owner, and whether it has oids; then what it depends on.
    (0..2).try_for_each(|_| part.text().map(drop))?;
    while part.text()?.is_some() {}
    part.skip(1 + head.offset)
}

/// What is left of the bytes at hand.
struct Part<'a> {
    bytes: &'a [u8],
    /// Bytes of a number, its sign aside.
    int: usize,
}

impl<'a> Part<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count)?;
        self.bytes = rest;
        Some(taken)
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.take(count).map(drop)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|byte| byte[0])
    }

    /// A sign, then the lowest byte first.
    fn int(&mut self) -> Option<i64> {
        let negative = self.byte()? != 0;
        let bytes = self.take(self.int)?;
        let number = bytes.iter().rev().fold(0_i64, |number, byte| (number << 8) | i64::from(*byte));
        Some(if negative { number.wrapping_neg() } else { number })
    }

    /// A length and so many bytes; a negative length: there is none.
    fn text(&mut self) -> Option<Option<&'a [u8]>> {
        match usize::try_from(self.int()?) {
            Ok(length) => self.take(length).map(Some),
            Err(_) => Some(None),
        }
    }
}
