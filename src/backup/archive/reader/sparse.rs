//! Where a sparse file has content: in GNU's own headers, or in PAX as GNU tar writes it today (form 1.0), where the map
//! stands before the content.

use std::io::BufRead;

use tar::Header;

use super::{Reader, TarError};
use crate::backup::archive::format::BLOCK;

/// Pieces of a sparse file: as many as `pack` makes, and some more.
const PIECES: usize = 1 << 20;

/// Offset and length of what is no hole.
pub(super) type Pieces = Vec<(u64, u64)>;

impl<R: BufRead> Reader<R> {
    /// The size of the file and where it has content.
    pub(super) fn sparse(&mut self, header: &Header) -> Result<(u64, Pieces), TarError> {
        let Some(gnu) = header.as_gnu() else { return Err(wrong(self.at, "has no header of GNU's")) };
        let size = gnu.real_size().map_err(|_| wrong(self.at, "names no size"))?;
        let mut map = Pieces::new();
        let mut take = |slots: &[tar::GnuSparseHeader], after: u64| {
            for slot in slots.iter().filter(|slot| !slot.is_empty()) {
                let piece = slot.offset().ok().zip(slot.length().ok());
                map.push(piece.ok_or_else(|| wrong(after, "can't be read"))?);
            }
            if map.len() > PIECES { Err(wrong(after, "has no end")) } else { Ok(()) }
        };
        take(&gnu.sparse, self.at)?;
        let mut more = gnu.is_extended();
        while more {
            let mut block = tar::GnuExtSparseHeader::new();
            self.exact(block.as_mut_bytes(), "it ends within a map of holes")?;
            take(block.sparse(), self.at)?;
            more = block.is_extended();
        }
        Ok((size, self.fitting(map, size)?))
    }

    /// The map at the beginning of the content, of a file of this size: how many pieces there are, then the offset and the
    /// length of each, a decimal number a line, filled up to a whole block.
    pub(super) fn sparse_in_content(&mut self, size: u64) -> Result<Pieces, TarError> {
        let mut numbers: Vec<u64> = Vec::new();
        let mut number: Option<u64> = None;
        let whole = |numbers: &[u64]| {
            numbers.split_first().is_some_and(|(count, rest)| rest.len() as u64 == 2 * count)
        };
        while !whole(&numbers) {
            let mut block = [0; BLOCK as usize];
            self.left = self.left.checked_sub(BLOCK).ok_or_else(|| wrong(self.at, "has no end"))?;
            self.exact(&mut block, "it ends within a map of holes")?;
            for byte in block {
                let unreadable = || wrong(self.at, "can't be read");
                match byte {
                    b'0'..=b'9' => {
                        let more = number.unwrap_or(0).checked_mul(10);
                        number = more.and_then(|more| more.checked_add(u64::from(byte - b'0')));
                        number.ok_or_else(unreadable)?;
                    }
                    b'\n' => numbers.push(number.take().ok_or_else(unreadable)?),
                    _ => return Err(unreadable()),
                }
                if numbers.first().is_some_and(|count| *count > PIECES as u64) {
                    return Err(wrong(self.at, "has no end"));
                }
                if whole(&numbers) {
                    break;
                }
            }
        }
        let pairs = numbers[1..].chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
        self.fitting(pairs, size)
    }

    /// In order, within the file, and of as many bytes as follow.
    fn fitting(&self, mut map: Pieces, size: u64) -> Result<Pieces, TarError> {
        let mut end = 0;
        let mut sum: u64 = 0;
        for (offset, length) in &map {
            let next = offset.checked_add(*length).filter(|next| *offset >= end && *next <= size);
            end = next.ok_or_else(|| wrong(self.at, "leads outside of its file"))?;
            sum = sum.saturating_add(*length);
        }
        if sum != self.left {
            return Err(wrong(self.at, "names more or fewer bytes than follow"));
        }
        map.retain(|(_, length)| *length > 0);
        Ok(map)
    }
}

fn wrong(after: u64, why: &str) -> TarError {
    TarError::Broken { after, why: format!("a map of holes {why}") }
}
