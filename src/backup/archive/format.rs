//! Writes tar as GNU tar does: long names as entries of type `L` and `K`, sparse files as `S`, numbers that are too
//! large for their field in base 256; extended attributes in a PAX header before their entry.

use std::io::{self, Write};

use tar::{EntryType, GnuExtSparseHeader, Header};

pub(super) const BLOCK: u64 = 512;

/// What stands before an entry's content.
pub(super) struct Head<'a> {
    pub(super) path: &'a [u8],
    pub(super) kind: EntryType,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) owner: Option<&'a str>,
    pub(super) group: Option<&'a str>,
    pub(super) modified: i64,
    /// Of the file; bytes of it follow, all of them where it has no holes.
    pub(super) size: u64,
    pub(super) target: &'a [u8],
    pub(super) device: Option<(u32, u32)>,
    pub(super) attributes: &'a [(Vec<u8>, Vec<u8>)],
    /// Offset and length of what is no hole.
    pub(super) pieces: Option<&'a [(u64, u64)]>,
}

pub(super) struct Writer<W> {
    out: W,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out }
    }

    pub(super) fn head(&mut self, head: &Head<'_>) -> io::Result<()> {
        let mut extended = Vec::new();
        for (name, value) in head.attributes {
            record(&mut extended, &[b"SCHILY.xattr.", &name[..]].concat(), value);
        }
        if head.modified < 0 {
            record(&mut extended, b"mtime", head.modified.to_string().as_bytes());
        }
        if !extended.is_empty() {
            self.extra(EntryType::XHeader, b"./PaxHeaders/attributes", &extended)?;
        }
        let mut header = Header::new_gnu();
        self.name(&mut header, head)?;
        header.set_entry_type(head.kind);
        header.set_mode(head.mode);
        header.set_uid(head.uid.into());
        header.set_gid(head.gid.into());
        // A name that doesn't fit is left out: the number is there.
        let _ = head.owner.map(|name| header.set_username(name));
        let _ = head.group.map(|name| header.set_groupname(name));
        header.set_mtime(u64::try_from(head.modified).unwrap_or(0));
        if let Some((major, minor)) = head.device {
            header.set_device_major(major)?;
            header.set_device_minor(minor)?;
        }
        header.set_size(head.size);
        let mut more = Vec::new();
        if let (Some(pieces), Some(gnu)) = (head.pieces, header.as_gnu_mut()) {
            let mut map = pieces.to_vec();
            // The end of the map is the end of the file.
            if map.last().is_none_or(|(offset, length)| offset + length < head.size) {
                map.push((head.size, 0));
            }
            gnu.set_real_size(head.size);
            for (slot, piece) in gnu.sparse.iter_mut().zip(&map) {
                slot.set_offset(piece.0);
                slot.set_length(piece.1);
            }
            let rest = map.get(gnu.sparse.len()..).unwrap_or_default();
            gnu.set_is_extended(!rest.is_empty());
            let mut blocks = rest.chunks(21).peekable();
            while let Some(chunk) = blocks.next() {
                let mut block = GnuExtSparseHeader::new();
                for (slot, piece) in block.sparse_mut().iter_mut().zip(chunk) {
                    slot.set_offset(piece.0);
                    slot.set_length(piece.1);
                }
                block.set_is_extended(blocks.peek().is_some());
                more.extend_from_slice(block.as_bytes());
            }
            header.set_size(pieces.iter().map(|(_, length)| length).sum());
        }
        header.set_cksum();
        self.out.write_all(header.as_bytes())?;
        self.out.write_all(&more)
    }

    fn name(&mut self, header: &mut Header, head: &Head<'_>) -> io::Result<()> {
        if head.target.len() > 100 {
            self.extra(EntryType::GNULongLink, b"././@LongLink", &[head.target, b"\0"].concat())?;
        }
        if head.path.len() > 100 {
            self.extra(EntryType::GNULongName, b"././@LongLink", &[head.path, b"\0"].concat())?;
        }
        let Some(gnu) = header.as_gnu_mut() else { return Ok(()) };
        put(&mut gnu.name, head.path);
        put(&mut gnu.linkname, head.target);
        Ok(())
    }

    /// An entry that says something of the one that follows.
    fn extra(&mut self, kind: EntryType, name: &[u8], content: &[u8]) -> io::Result<()> {
        let mut header = Header::new_gnu();
        if let Some(gnu) = header.as_gnu_mut() {
            put(&mut gnu.name, name);
        }
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.out.write_all(header.as_bytes())?;
        self.content(content)?;
        self.fill(content.len() as u64)
    }

    pub(super) fn content(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)
    }

    /// Fills up the last block of a content of this length.
    pub(super) fn fill(&mut self, length: u64) -> io::Result<()> {
        let rest = usize::try_from(length.next_multiple_of(BLOCK) - length).unwrap_or(0);
        self.out.write_all(&[0; BLOCK as usize][..rest])
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        self.out.write_all(&[0; 2 * BLOCK as usize])?;
        self.out.flush()
    }
}

fn put(field: &mut [u8], bytes: &[u8]) {
    let length = bytes.len().min(field.len());
    field[..length].copy_from_slice(&bytes[..length]);
}

/// `<length> <key>=<value>\n`, where the length counts itself.
fn record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}
