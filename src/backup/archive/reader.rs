//! Reads tar: that of `format`, and that of other programs (v7, ustar, PAX, GNU).
//!
//! Believes nothing: lengths are bounded before memory is asked for, a checksum that is wrong or an end that is
//! missing is an error. What an entry's name may do is not judged here.

mod sparse;

use std::io::BufRead;

use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};

use super::format::BLOCK;
use super::manifest::{Digest, EntryKind, shown};

/// An entry, before its content.
#[derive(Debug, Default)]
pub(super) struct Member {
    pub(super) path: Vec<u8>,
    pub(super) kind: Option<EntryKind>,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) owner: Vec<u8>,
    pub(super) group: Vec<u8>,
    /// Seconds and nanoseconds.
    pub(super) modified: (i64, u32),
    /// Of the file, holes included.
    pub(super) size: u64,
    pub(super) target: Vec<u8>,
    pub(super) device: (u32, u32),
    pub(super) attributes: Vec<(Vec<u8>, Vec<u8>)>,
    /// Offset and length of what is no hole.
    pub(super) pieces: Vec<(u64, u64)>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum TarError {
    #[error("can't be read: {0}")]
    Read(std::io::Error),
    #[error("breaks after {after} bytes of its content: {why}")]
    Broken { after: u64, why: String },
    #[error("stopped")]
    Stopped,
    /// Of who took the content.
    #[error("{0:#}")]
    Taken(anyhow::Error),
}

/// What a header that belongs to another may hold at most: names and attributes, never a file.
const EXTRA: u64 = 4 << 20;
/// Holes larger than this all together are left out of a file's hash: to hash a terabyte of nothing takes an hour.
const HOLES_HASHED: u64 = 16 << 30;

pub(super) struct Reader<R> {
    from: R,
    /// Bytes read.
    pub(super) at: u64,
    /// Of the present entry's content, with what fills its last block.
    left: u64,
    fill: u64,
}

/// What PAX and GNU headers say of the entry that follows.
#[derive(Default)]
struct Extra {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    owner: Option<Vec<u8>>,
    group: Option<Vec<u8>>,
    modified: Option<(i64, u32)>,
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
    /// Of a sparse file, whose own name stands in the header no more.
    sparse_path: Option<Vec<u8>>,
    sparse_size: Option<u64>,
}

impl<R: BufRead> Reader<R> {
    pub(super) fn new(from: R) -> Self {
        Self { from, at: 0, left: 0, fill: 0 }
    }

    /// The next entry; what is left of the one before is passed over.
    pub(super) fn next(&mut self) -> Result<Option<Member>, TarError> {
        let mut extra = Extra::default();
        loop {
            self.pass_over(self.left.saturating_add(self.fill))?;
            let mut block = [0; BLOCK as usize];
            self.exact(&mut block, "its end mark is missing: the file was cut, or is no tar archive")?;
            if block.iter().all(|byte| *byte == 0) {
                return Ok(None);
            }
            let header = Header::from_byte_slice(&block);
            let sum: u32 = block
                .iter()
                .enumerate()
                .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
                .sum();
            if header.cksum().ok() != Some(sum) {
                return Err(self
                    .broken("the checksum of a header is wrong: this is no tar archive, or it is damaged"));
            }
            let size = header.entry_size().map_err(|error| self.broken(&error.to_string()))?;
            self.expect(size);
            match header.entry_type() {
                EntryType::GNULongName => extra.path = Some(self.extra(true)?),
                EntryType::GNULongLink => extra.target = Some(self.extra(true)?),
                EntryType::XHeader => {
                    let content = self.extra(false)?;
                    extra.read(&content).map_err(|why| self.broken(&why))?;
                }
                // What is said of all entries is a comment as a rule; names, sizes and owners are never in it.
                EntryType::XGlobalHeader => {}
                kind => return self.member(header, kind, extra).map(Some),
            }
        }
    }

    fn member(&mut self, header: &Header, kind: EntryType, extra: Extra) -> Result<Member, TarError> {
        let wrong = |error: std::io::Error| TarError::Broken { after: self.at, why: error.to_string() };
        let number = |found: std::io::Result<Option<u32>>| found.ok().flatten().unwrap_or(0);
        let small = |found: std::io::Result<u64>| {
            u32::try_from(found.map_err(wrong)?)
                .map_err(|_| wrong(std::io::Error::other("an owner is no number")))
        };
        let uid = extra.uid.map_or_else(|| small(header.uid()), Ok)?;
        let gid = extra.gid.map_or_else(|| small(header.gid()), Ok)?;
        let bytes = |found: Option<&[u8]>| found.unwrap_or_default().to_vec();
        let mut member = Member {
            path: extra.sparse_path.or(extra.path).unwrap_or_else(|| header.path_bytes().into_owned()),
            kind: kind_of(kind),
            mode: header.mode().map_err(wrong)? & 0o7777,
            uid,
            gid,
            owner: extra.owner.unwrap_or_else(|| bytes(header.username_bytes())),
            group: extra.group.unwrap_or_else(|| bytes(header.groupname_bytes())),
            modified: extra
                .modified
                // Before 1970, GNU tar writes a negative number in base 256.
                .unwrap_or_else(|| (header.mtime().unwrap_or(0).cast_signed(), 0)),
            size: extra.size.unwrap_or(self.left),
            target: extra.target.unwrap_or_else(|| header.link_name_bytes().unwrap_or_default().into_owned()),
            device: (number(header.device_major()), number(header.device_minor())),
            attributes: extra.attributes,
            pieces: vec![],
        };
        if let Some(size) = extra.size {
            self.expect(size);
        }
        // Before there was a type for folders, a slash at the end told them.
        if member.kind == Some(EntryKind::File) && member.path.ends_with(b"/") {
            member.kind = Some(EntryKind::Directory);
        }
        if kind == EntryType::GNUSparse {
            (member.size, member.pieces) = self.sparse(header)?;
        } else if let Some(size) = extra.sparse_size.filter(|_| member.kind == Some(EntryKind::File)) {
            (member.size, member.pieces) = (size, self.sparse_in_content(size)?);
        } else if member.kind == Some(EntryKind::File) {
            member.pieces = vec![(0, member.size)];
        } else {
            member.size = 0;
        }
        if member.kind.is_none() {
            let why = format!(
                "{} is an entry of type {:?}, which is not known",
                shown(&member.path),
                kind.as_byte() as char
            );
            return Err(self.broken(&why));
        }
        Ok(member)
    }

    fn expect(&mut self, size: u64) {
        self.left = size;
        self.fill = size.checked_next_multiple_of(BLOCK).unwrap_or(size) - size;
    }

    fn extra(&mut self, text: bool) -> Result<Vec<u8>, TarError> {
        if self.left > EXTRA {
            return Err(self.broken("a header says more than names and attributes can be long"));
        }
        let mut content = vec![0; usize::try_from(self.left).unwrap_or(0)];
        self.exact(&mut content, "it ends within a header")?;
        self.left = 0;
        if text {
            let end = content.iter().position(|byte| *byte == 0).unwrap_or(content.len());
            content.truncate(end);
        }
        Ok(content)
    }

    /// Hands on the content of a regular file with the offset of each piece, and gives its hash.
    pub(super) fn content(
        &mut self,
        member: &Member,
        mut each: impl FnMut(u64, &[u8]) -> Result<(), TarError>,
    ) -> Result<Digest, TarError> {
        let mut hash = ContentHash::new(member.size, &member.pieces);
        for (offset, length) in &member.pieces {
            let mut done = 0;
            while done < *length {
                let buffer = self.from.fill_buf().map_err(|error| unreadable(error, self.at))?;
                if buffer.is_empty() {
                    return Err(self.broken("it ends in the middle: the file was cut"));
                }
                let count = buffer.len().min(usize::try_from(length - done).unwrap_or(usize::MAX));
                hash.content(offset + done, &buffer[..count]);
                each(offset + done, &buffer[..count])?;
                self.from.consume(count);
                self.at += count as u64;
                self.left = self.left.saturating_sub(count as u64);
                done += count as u64;
            }
        }
        Ok(hash.finish())
    }

    /// After the last entry nothing but zeros may come; reads to the very end, so that all of the file was seen.
    pub(super) fn finish(&mut self) -> Result<(), TarError> {
        loop {
            let buffer = self.from.fill_buf().map_err(|error| unreadable(error, self.at))?;
            if buffer.is_empty() {
                return Ok(());
            }
            if buffer.iter().any(|byte| *byte != 0) {
                return Err(self.broken(
                    "something follows its end: another archive was written behind it, or it is damaged",
                ));
            }
            let count = buffer.len();
            self.from.consume(count);
            self.at += count as u64;
        }
    }

    fn pass_over(&mut self, mut bytes: u64) -> Result<(), TarError> {
        while bytes > 0 {
            let buffer = self.from.fill_buf().map_err(|error| unreadable(error, self.at))?;
            if buffer.is_empty() {
                return Err(self.broken("it ends in the middle: the file was cut"));
            }
            let count = buffer.len().min(usize::try_from(bytes).unwrap_or(usize::MAX));
            self.from.consume(count);
            self.at += count as u64;
            bytes -= count as u64;
        }
        (self.left, self.fill) = (0, 0);
        Ok(())
    }

    fn exact(&mut self, into: &mut [u8], cut: &str) -> Result<(), TarError> {
        match self.from.read_exact(into) {
            Ok(()) => {
                self.at += into.len() as u64;
                Ok(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Err(self.broken(cut)),
            Err(error) => Err(unreadable(error, self.at)),
        }
    }

    fn broken(&self, why: &str) -> TarError {
        TarError::Broken { after: self.at, why: why.to_owned() }
    }
}

/// A file that can't be read says so with an error of the system; one that is damaged, with the decoder's.
fn unreadable(error: std::io::Error, after: u64) -> TarError {
    if error.raw_os_error().is_some() {
        return TarError::Read(error);
    }
    TarError::Broken { after, why: error.to_string() }
}

fn kind_of(kind: EntryType) -> Option<EntryKind> {
    Some(match kind {
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => EntryKind::File,
        EntryType::Directory => EntryKind::Directory,
        EntryType::Symlink => EntryKind::Symlink,
        EntryType::Link => EntryKind::HardLink,
        EntryType::Fifo => EntryKind::Fifo,
        EntryType::Char => EntryKind::CharacterDevice,
        EntryType::Block => EntryKind::BlockDevice,
        _ => return None,
    })
}

impl Extra {
    /// `<length> <key>=<value>\n` each; the value may hold any byte.
    fn read(&mut self, mut content: &[u8]) -> Result<(), String> {
        let wrong = || "a PAX header is not as it should be".to_owned();
        while !content.is_empty() {
            let space = content.iter().take(20).position(|byte| *byte == b' ').ok_or_else(wrong)?;
            let length = std::str::from_utf8(&content[..space]).ok().and_then(|text| text.parse().ok());
            let length: usize = length.filter(|length| *length > space + 1).ok_or_else(wrong)?;
            let record = content.get(space + 1..length).and_then(|all| all.strip_suffix(b"\n"));
            let record = record.ok_or_else(wrong)?;
            content = &content[length..];
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(wrong)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            let number = || std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            let small = || number().and_then(|number| u32::try_from(number).ok()).ok_or_else(wrong);
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.target = Some(value.to_vec()),
                b"size" => self.size = Some(number().ok_or_else(wrong)?),
                b"uid" => self.uid = Some(small()?),
                b"gid" => self.gid = Some(small()?),
                b"uname" => self.owner = Some(value.to_vec()),
                b"gname" => self.group = Some(value.to_vec()),
                b"mtime" => self.modified = Some(instant(value).ok_or_else(wrong)?),
                b"GNU.sparse.major" if value == b"1" => {}
                b"GNU.sparse.minor" if value == b"0" => {}
                b"GNU.sparse.name" => self.sparse_path = Some(value.to_vec()),
                b"GNU.sparse.realsize" => self.sparse_size = Some(number().ok_or_else(wrong)?),
                _ if key.starts_with(b"GNU.sparse.") => {
                    return Err("it holds a sparse file in an old form of PAX, which only GNU tar reads: unpack it with \
                                `tar -xf`"
                        .to_owned());
                }
                _ => {
                    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                        self.attributes.push((name.to_vec(), value.to_vec()));
                    }
                }
            }
        }
        Ok(())
    }
}

/// `1234.5678`, also negative.
fn instant(text: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(text).ok()?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanoseconds: u32 = digits.parse().ok()?;
    let seconds: i64 = seconds.parse().ok()?;
    // A fraction goes away from zero, a timespec's always forward.
    match (text.starts_with('-'), nanoseconds) {
        (true, 1..) => Some((seconds - 1, 1_000_000_000 - nanoseconds)),
        _ => Some((seconds, nanoseconds)),
    }
}

/// The hash of a file's content as whoever reads the file sees it.
pub(super) struct ContentHash {
    hash: Sha256,
    at: u64,
    size: u64,
    holes: bool,
}

impl ContentHash {
    pub(super) fn new(size: u64, pieces: &[(u64, u64)]) -> Self {
        let content: u64 = pieces.iter().map(|(_, length)| length).sum();
        Self { hash: Sha256::new(), at: 0, size, holes: size.saturating_sub(content) <= HOLES_HASHED }
    }

    pub(super) fn content(&mut self, offset: u64, bytes: &[u8]) {
        self.hole_until(offset);
        self.hash.update(bytes);
        self.at = offset + bytes.len() as u64;
    }

    fn hole_until(&mut self, offset: u64) {
        const NOTHING: &[u8] = &[0; 64 << 10];
        while self.holes && self.at < offset {
            let count = usize::try_from(offset - self.at).unwrap_or(usize::MAX).min(NOTHING.len());
            self.hash.update(&NOTHING[..count]);
            self.at += count as u64;
        }
    }

    pub(super) fn finish(mut self) -> Digest {
        self.hole_until(self.size);
        Digest(self.hash.finalize().into())
    }
}
