//! The manifest of an archive: the head as a dump's has it, and one line for each entry.
//!
//! Names of files are bytes. Where they are no UTF-8, `escaped` is true beside them and they are written with `\xNN`
//! for each byte that is none, and `\\` for a backslash.
//!
//! The keys of the head are written out here as they are for a dump: what serde would take from a struct of both
//! (`flatten`) it would first hold in memory whole, a million entries too.

use std::io::{self, Write};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::backup::codec::Compression;
use crate::backup::manifest::{Copied, FORMAT_VERSION, Proof};

/// What tells an archive's manifest from a dump's.
pub const KIND: &str = "archive";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub format_version: u32,
    /// [`KIND`]
    pub kind: String,
    pub name: String,
    pub host: String,
    pub job: String,
    pub run: i64,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    /// As they are in jobs.yaml; an entry's path is that of its source without the slash at its beginning.
    pub sources: Vec<String>,
    pub exclude: Vec<String>,
    pub compression: Compression,
    pub level: u32,
    pub file: String,
    pub bytes: u64,
    pub uncompressed_bytes: u64,
    pub sha256: String,
    /// Regular files among the entries; further links to one are not counted.
    pub files: u64,
    /// Files that were written to while they were read: what the archive holds of them may be half old, half new.
    pub changed: Vec<Noted>,
    /// What was there when its folder was read, and no longer when its turn came.
    pub vanished: Vec<Noted>,
    /// What is missing from the archive, wholly or in part, because it could not be read.
    pub unreadable: Vec<Noted>,
    /// What is never archived: sockets, file systems of the kernel's, the folder of the archives itself.
    pub left_out: Vec<Noted>,
    /// The age recipients of the file; empty: it is not encrypted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub encrypted_to: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub copies: Vec<Copied>,
    pub proof: Proof,
    /// In the order in which they are in the file. [`Manifest::write_to`] writes them.
    #[serde(skip_serializing)]
    pub entries: Vec<Entry>,
}

/// A file, and what there is to say of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "NotedText", try_from = "NotedText")]
pub struct Noted {
    pub path: Vec<u8>,
    pub why: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub path: Box<[u8]>,
    pub kind: EntryKind,
    /// What a reader of the file sees, holes included.
    pub size: u64,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub owner: Option<Arc<str>>,
    pub group: Option<Arc<str>>,
    pub modified: Option<Timestamp>,
    /// Of a regular file's content.
    pub sha256: Option<Digest>,
    /// Bytes of the file that are in the archive, where holes make them fewer than its size.
    pub stored: Option<u64>,
    /// Of a symbolic link, as it is; of a hard link the path of the entry that has the content.
    pub target: Option<Box<[u8]>>,
    /// Major and minor number.
    pub device: Option<(u32, u32)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    File,
    Directory,
    Symlink,
    HardLink,
    Fifo,
    CharacterDevice,
    BlockDevice,
}

impl EntryKind {
    pub fn word(self) -> &'static str {
        match self {
            Self::File => "a file",
            Self::Directory => "a folder",
            Self::Symlink => "a symbolic link",
            Self::HardLink => "a hard link",
            Self::Fifo => "a fifo",
            Self::CharacterDevice => "a character device",
            Self::BlockDevice => "a block device",
        }
    }
}

/// SHA-256, 32 bytes instead of the 64 letters that the file has: there may be a million of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(pub [u8; 32]);

impl Entry {
    /// Seconds and nanoseconds, as a timespec has them: the latter always forward.
    pub fn modified_parts(&self) -> Option<(i64, u32)> {
        let at = self.modified?;
        let (seconds, nanoseconds) = (at.as_second(), at.subsec_nanosecond());
        Some(match u32::try_from(nanoseconds) {
            Ok(nanoseconds) => (seconds, nanoseconds),
            Err(_) => (seconds - 1, u32::try_from(1_000_000_000 + nanoseconds).unwrap_or(0)),
        })
    }
}

impl Manifest {
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let manifest: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if manifest.kind != KIND {
            return Err(format!("its kind is {}, not {KIND}", manifest.kind));
        }
        if manifest.format_version > FORMAT_VERSION {
            return Err(format!(
                "format_version {} is newer than {FORMAT_VERSION}, the newest that this program knows",
                manifest.format_version
            ));
        }
        Ok(manifest)
    }

    /// The head as people read it, then an entry a line.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn write_to(&self, mut out: impl Write) -> io::Result<()> {
        let head = serde_json::to_string_pretty(self)?;
        let head = head.strip_suffix("\n}").unwrap_or(&head);
        write!(out, "{head},\n  \"entries\": [")?;
        for (at, entry) in self.entries.iter().enumerate() {
            out.write_all(if at == 0 { b"\n    " } else { b",\n    " })?;
            serde_json::to_writer(&mut out, entry)?;
        }
        out.write_all(if self.entries.is_empty() { b"]\n}\n" } else { b"\n  ]\n}\n" })
    }

    pub fn to_json(&self) -> Vec<u8> {
        let mut text = Vec::new();
        // A vector takes everything.
        let _ = self.write_to(&mut text);
        text
    }
}

/// A path as text that leads back to the same bytes; true: it had to be escaped.
pub fn text_of(path: &[u8]) -> (String, bool) {
    if let Ok(text) = std::str::from_utf8(path) {
        return (text.to_owned(), false);
    }
    let mut text = String::new();
    for chunk in path.utf8_chunks() {
        text.push_str(&chunk.valid().replace('\\', "\\\\"));
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    (text, true)
}

/// For people: what a terminal takes for an order of its own is written out.
pub fn shown(path: &[u8]) -> String {
    text_of(path).0.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}

fn bytes_of(text: &str, escaped: bool) -> Result<Vec<u8>, String> {
    if !escaped {
        return Ok(text.as_bytes().to_vec());
    }
    let wrong = || format!("`{text}` is not escaped as it should be");
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let (&kind, after) = rest.split_first().ok_or_else(wrong)?;
        rest = after;
        if kind == b'\\' {
            bytes.push(b'\\');
            continue;
        }
        let digits = rest.get(..2).filter(|_| kind == b'x').ok_or_else(wrong)?;
        let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| wrong())?);
        rest = &rest[2..];
    }
    Ok(bytes)
}

#[derive(Serialize, Deserialize)]
struct NotedText {
    path: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    escaped: bool,
    why: String,
}

impl From<Noted> for NotedText {
    fn from(noted: Noted) -> Self {
        let (path, escaped) = text_of(&noted.path);
        Self { path, escaped, why: noted.why }
    }
}

impl TryFrom<NotedText> for Noted {
    type Error = String;

    fn try_from(text: NotedText) -> Result<Self, String> {
        Ok(Self { path: bytes_of(&text.path, text.escaped)?, why: text.why })
    }
}

/// An entry as the file has it.
#[derive(Serialize, Deserialize)]
struct EntryText {
    path: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    escaped: bool,
    #[serde(rename = "type")]
    kind: EntryKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    /// Octal.
    mode: String,
    uid: u32,
    gid: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mtime: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stored_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    target_escaped: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device: Option<(u32, u32)>,
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (path, escaped) = text_of(&self.path);
        let (target, target_escaped) = match self.target.as_deref().map(text_of) {
            Some((text, escaped)) => (Some(text), escaped),
            None => (None, false),
        };
        EntryText {
            path,
            escaped,
            kind: self.kind,
            size: (self.kind == EntryKind::File).then_some(self.size),
            mode: format!("{:04o}", self.mode),
            uid: self.uid,
            gid: self.gid,
            owner: self.owner.as_deref().map(str::to_owned),
            group: self.group.as_deref().map(str::to_owned),
            mtime: self.modified,
            sha256: self.sha256,
            stored_bytes: self.stored,
            target,
            target_escaped,
            device: self.device,
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = EntryText::deserialize(deserializer)?;
        let wrong = serde::de::Error::custom::<String>;
        let target = text.target.map(|target| bytes_of(&target, text.target_escaped)).transpose();
        Ok(Self {
            path: bytes_of(&text.path, text.escaped).map_err(wrong)?.into(),
            kind: text.kind,
            size: text.size.unwrap_or(0),
            mode: u32::from_str_radix(&text.mode, 8)
                .map_err(|_| wrong(format!("mode `{}` is not octal", text.mode)))?,
            uid: text.uid,
            gid: text.gid,
            owner: text.owner.map(Into::into),
            group: text.group.map(Into::into),
            modified: text.mtime,
            sha256: text.sha256,
            stored: text.stored_bytes,
            target: target.map_err(wrong)?.map(Into::into),
            device: text.device,
        })
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&crate::backup::stream::hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let wrong = || serde::de::Error::custom(format!("`{text}` is no SHA-256"));
        let mut digest = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err(wrong());
        }
        for (at, byte) in digest.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Self(digest))
    }
}
