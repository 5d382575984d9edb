//! What packs and what unpacks, without a job around them.

use std::cell::RefCell;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use tokio_util::sync::CancellationToken;

use super::manifest::{Digest, Entry, EntryKind, KIND, Manifest, Noted};
use super::pack::{Packed, Packer};
use super::reader::{Member, Reader, TarError};
use super::unpack::Unpacker;
use super::walk::Walk;
use crate::backup::codec::Compression;
use crate::backup::manifest::{FORMAT_VERSION, Proof};

/// Takes tar, and does something to the sources once the first byte of a content has come.
struct Hook {
    bytes: Rc<RefCell<Vec<u8>>>,
    /// After so many bytes.
    at: usize,
    act: Option<Box<dyn FnOnce()>>,
}

impl Write for Hook {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.bytes.borrow_mut().extend_from_slice(bytes);
        if self.bytes.borrow().len() >= self.at
            && let Some(act) = self.act.take()
        {
            act();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn pack(source: &Path, at: usize, act: impl FnOnce() + 'static) -> (Vec<u8>, Packed) {
    let bytes = Rc::new(RefCell::new(Vec::new()));
    let hook = Hook { bytes: bytes.clone(), at, act: Some(Box::new(act)) };
    let cancel = CancellationToken::new();
    let mut packer = Packer::new(hook, &cancel);
    Walk { exclude: &[], own: None, cancel: &cancel }.source(source, &mut packer).unwrap();
    let packed = packer.finish().unwrap();
    let bytes = bytes.take();
    (bytes, packed)
}

/// An entry, its content and the hash of that.
type Whole = (Member, Vec<u8>, Option<Digest>);

fn read(tar: &[u8]) -> Result<Vec<Whole>, TarError> {
    let mut reader = Reader::new(tar);
    let mut all = Vec::new();
    while let Some(member) = reader.next()? {
        let mut content = Vec::new();
        let digest = if member.kind == Some(EntryKind::File) {
            Some(reader.content(&member, |offset, bytes| {
                content.resize(usize::try_from(offset).unwrap(), 0);
                content.extend_from_slice(bytes);
                Ok(())
            })?)
        } else {
            None
        };
        content.resize(usize::try_from(member.size).unwrap(), 0);
        all.push((member, content, digest));
    }
    reader.finish()?;
    Ok(all)
}

fn notes(of: &[Noted]) -> Vec<String> {
    let name = |noted: &Noted| {
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(&noted.path));
        format!("{}: {}", path.file_name().unwrap().display(), noted.why)
    };
    of.iter().map(name).collect()
}

const LARGE: usize = 1 << 20;

#[test]
fn a_file_that_changes_while_it_is_read_is_told_and_leaves_the_archive_whole() {
    let check = |act: fn(&Path), told: &str, expected: &dyn Fn(usize) -> u8| {
        let folder = tempfile::tempdir().unwrap();
        let large = folder.path().join("large");
        std::fs::write(&large, vec![b'a'; LARGE]).unwrap();
        std::fs::write(folder.path().join("next"), "next").unwrap();
        let (tar, packed) = pack(folder.path(), LARGE / 2, move || act(&large));
        assert_eq!(notes(&packed.changed), [told]);
        let all = read(&tar).unwrap();
        assert_eq!(all.len(), 3);
        let content = &all[1].1;
        assert!(content.iter().enumerate().all(|(at, byte)| *byte == expected(at)), "{told}");
        assert_eq!((content.len(), all[2].1.as_slice()), (LARGE, &b"next"[..]));
        // What the manifest says of it is what the archive holds.
        for (entry, (_, _, digest)) in packed.entries.iter().zip(&all) {
            assert_eq!(entry.sha256, *digest);
        }
    };
    check(
        |file| std::fs::OpenOptions::new().append(true).open(file).unwrap().write_all(b"more").unwrap(),
        "large: grew from 1048576 to 1048580 bytes while it was read; what was added is not in the archive",
        &|_| b'a',
    );
    check(
        |file| std::fs::OpenOptions::new().write(true).open(file).unwrap().set_len(786_432).unwrap(),
        "large: shrank from 1048576 to 786432 bytes while it was read; zeros stand in the place of what was gone",
        &|at| if at < 786_432 { b'a' } else { 0 },
    );
    check(
        |file| {
            let file = std::fs::OpenOptions::new().write(true).open(file).unwrap();
            file.write_all_at(b"b", LARGE as u64 - 1).unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
        },
        "large: was written to while it was read",
        &|at| if at == LARGE - 1 { b'b' } else { b'a' },
    );
}

#[test]
fn what_vanishes_before_its_turn_is_told() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a"), vec![b'a'; LARGE]).unwrap();
    std::fs::create_dir(folder.path().join("b")).unwrap();
    std::fs::write(folder.path().join("c"), "c").unwrap();
    std::fs::write(folder.path().join("d"), "d").unwrap();
    let at = folder.path().to_owned();
    let (tar, packed) = pack(folder.path(), LARGE / 2, move || {
        std::fs::remove_dir(at.join("b")).unwrap();
        std::fs::remove_file(at.join("c")).unwrap();
    });
    assert_eq!(
        notes(&packed.vanished),
        ["b: was removed before it was read", "c: was removed before it was read"]
    );
    assert!(packed.unreadable.is_empty() && packed.changed.is_empty());
    let names: Vec<_> = read(&tar).unwrap().iter().map(|(member, _, _)| member.path.clone()).collect();
    assert_eq!(names.len(), 3);
    assert!(names[1].ends_with(b"/a") && names[2].ends_with(b"/d"));
}

#[test]
fn a_sparse_file_of_many_pieces_is_read_again_by_us_and_by_the_tar_crate() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sparse");
    let file = std::fs::File::create(&path).unwrap();
    // More than a header and two blocks of map hold; a hole at either end.
    for piece in 1..60_u64 {
        file.write_all_at(&[u8::try_from(piece).unwrap(); 4096], piece * 65_536).unwrap();
    }
    file.set_len(60 * 65_536).unwrap();
    let expected = std::fs::read(&path).unwrap();
    let (tar, packed) = pack(&path, usize::MAX, || {});
    let entry = &packed.entries[0];
    assert_eq!((entry.size, entry.stored), (60 * 65_536, Some(59 * 4096)));
    assert_eq!(crate::backup::stream::hex(&entry.sha256.unwrap().0), {
        use sha2::Digest as _;
        crate::backup::stream::hex(&sha2::Sha256::digest(&expected))
    });
    let all = read(&tar).unwrap();
    assert!(all[0].1 == expected && all[0].2 == entry.sha256);
    let mut archive = tar::Archive::new(&tar[..]);
    let mut theirs = archive.entries().unwrap().next().unwrap().unwrap();
    let mut content = Vec::new();
    std::io::Read::read_to_end(&mut theirs, &mut content).unwrap();
    assert!(content == expected);
}

#[test]
fn a_file_that_is_all_hole_takes_no_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("huge");
    std::fs::File::create(&path).unwrap().set_len(1 << 42).unwrap();
    let (tar, packed) = pack(&path, usize::MAX, || {});
    assert_eq!((packed.entries[0].size, packed.entries[0].stored), (1 << 42, Some(0)));
    assert!(tar.len() < 4096);
    let mut reader = Reader::new(&tar[..]);
    let member = reader.next().unwrap().unwrap();
    let digest = reader.content(&member, |_, _| Ok(())).unwrap();
    assert_eq!((member.size, Some(digest)), (1 << 42, packed.entries[0].sha256));
}

#[test]
fn a_damaged_or_foreign_stream_is_refused_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a"), "content").unwrap();
    let (tar, _) = pack(folder.path(), usize::MAX, || {});
    assert_eq!(read(&tar).unwrap().len(), 2);
    let check = |tar: &[u8], expected: &str| assert_eq!(read(tar).unwrap_err().to_string(), expected);
    let cut = "its end mark is missing: the file was cut, or is no tar archive";
    check(&[], &format!("breaks after 0 bytes of its content: {cut}"));
    check(&tar[..tar.len() - 1024], &format!("breaks after 1536 bytes of its content: {cut}"));
    check(&tar[..1027], "breaks after 1027 bytes of its content: it ends in the middle: the file was cut");
    let wrong_sum = "the checksum of a header is wrong: this is no tar archive, or it is damaged";
    let mut changed = tar.clone();
    changed[512] ^= 1;
    check(&changed, &format!("breaks after 1024 bytes of its content: {wrong_sum}"));
    check(&[b'x'; 2048], &format!("breaks after 512 bytes of its content: {wrong_sum}"));
    let twice = [&tar[..], &tar[..]].concat();
    let follows = "something follows its end: another archive was written behind it, or it is damaged";
    check(&twice, &format!("breaks after 2048 bytes of its content: {follows}"));
}

#[test]
fn lengths_that_lie_ask_for_no_memory() {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_size(1 << 60);
    header.set_cksum();
    let error = read(header.as_bytes()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "breaks after 512 bytes of its content: a header says more than names and attributes can be long"
    );
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNUSparse);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.set_real_size(512);
    gnu.sparse[0].set_offset(1 << 40);
    gnu.sparse[0].set_length(512);
    header.set_size(512);
    header.set_cksum();
    let error = read(&[header.as_bytes(), &[0; 512][..]].concat()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "breaks after 512 bytes of its content: a map of holes leads outside of its file"
    );
}

/// A tar whose entries the crate itself would refuse to write: names are put into headers as they are.
struct Evil(tar::Builder<Vec<u8>>);

impl Evil {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn entry(mut self, name: &str, kind: tar::EntryType, target: &str, content: &[u8]) -> Self {
        let mut header = tar::Header::new_gnu();
        let gnu = header.as_gnu_mut().unwrap();
        gnu.name[..name.len()].copy_from_slice(name.as_bytes());
        gnu.linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    fn file(self, name: &str, content: &str) -> Self {
        self.entry(name, tar::EntryType::Regular, "", content.as_bytes())
    }

    fn link(self, name: &str, target: &str) -> Self {
        self.entry(name, tar::EntryType::Symlink, target, b"")
    }

    fn hard(self, name: &str, target: &str) -> Self {
        self.entry(name, tar::EntryType::Link, target, b"")
    }

    fn folder(self, name: &str) -> Self {
        self.entry(name, tar::EntryType::Directory, "", b"")
    }

    fn unpack(self, into: &Path) -> Result<(), String> {
        let tar = self.0.into_inner().unwrap();
        let root = crate::host::files::open_directory(into).unwrap();
        let mut unpacker = Unpacker::new(root, b"");
        let mut reader = Reader::new(&tar[..]);
        let unpacked = (|| {
            while let Some(member) = reader.next()? {
                unpacker.unpack(&mut reader, &member, None, &|| Ok(()))?;
            }
            Ok::<_, TarError>(())
        })();
        unpacked.and_then(|()| unpacker.finish().map(|_| ())).map_err(|error| error.to_string())
    }
}

#[test]
fn no_entry_leaves_the_folder() {
    let check = |evil: Evil, expected: &str| {
        let around = tempfile::tempdir().unwrap();
        let into = around.path().join("into");
        std::fs::create_dir(&into).unwrap();
        std::fs::write(around.path().join("secret"), "secret").unwrap();
        assert_eq!(evil.unpack(&into).unwrap_err(), expected);
        let names: Vec<_> =
            std::fs::read_dir(around.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
        assert_eq!(std::fs::read_to_string(around.path().join("secret")).unwrap(), "secret");
    };
    check(Evil::new().file("../out", "x"), "../out: leads out of the folder with `..`");
    check(Evil::new().file("a/../../out", "x"), "a/../../out: leads out of the folder with `..`");
    check(Evil::new().file("/out", "x"), "/out: is an absolute name, which would leave the folder");
    let through = |name: &str| format!("{name}: leads through link, which is a link or a file and no folder");
    check(Evil::new().link("link", "..").file("link/out", "x"), &through("link/out"));
    check(Evil::new().link("link", "/tmp").file("link/out", "x"), &through("link/out"));
    check(Evil::new().link("link", "..").folder("link/"), &through("link/"));
    check(Evil::new().link("link", "..").hard("mine", "link/secret"), &through("mine"));
    check(Evil::new().hard("mine", "../secret"), "mine: leads out of the folder with `..`");
    check(Evil::new().hard("mine", "/etc/passwd"), "mine: is an absolute name, which would leave the folder");
    check(
        Evil::new().hard("mine", "nothing"),
        "mine: can't be linked to nothing: No such file or directory (os error 2)",
    );
    check(Evil::new().file("", "x"), ": stands where the folder itself belongs");
    check(Evil::new().folder("a/").file("a", "x"), "a: is a folder by an earlier entry");
}

#[test]
fn a_link_is_replaced_by_a_file_of_its_name_and_never_followed() {
    let around = tempfile::tempdir().unwrap();
    let into = around.path().join("into");
    std::fs::create_dir(&into).unwrap();
    std::fs::write(around.path().join("secret"), "secret").unwrap();
    Evil::new()
        .link("a", "../secret")
        .file("a", "mine")
        .link("b", "../secret")
        .hard("c", "b")
        .unpack(&into)
        .unwrap();
    assert_eq!(std::fs::read_to_string(into.join("a")).unwrap(), "mine");
    assert_eq!(std::fs::read_to_string(around.path().join("secret")).unwrap(), "secret");
    // A hard link to a symbolic link is another name of that link.
    assert_eq!(std::fs::read_link(into.join("c")).unwrap(), Path::new("../secret"));
}

#[test]
fn a_manifest_is_read_as_it_was_written() {
    let at = "2026-11-22T23:00:00.123456789Z".parse().unwrap();
    let entry = Entry {
        path: b"srv/caf\xe9\\x".as_slice().into(),
        kind: EntryKind::File,
        size: 3,
        mode: 0o4755,
        uid: 1000,
        gid: 33,
        owner: Some("me".into()),
        group: None,
        modified: Some(at),
        sha256: Some(Digest([0xab; 32])),
        stored: None,
        target: None,
        device: None,
    };
    let link = Entry {
        path: b"srv/\xc3\xa9\\".as_slice().into(),
        kind: EntryKind::Symlink,
        size: 0,
        sha256: None,
        target: Some(b"\xff".as_slice().into()),
        ..entry.clone()
    };
    let manifest = Manifest {
        format_version: FORMAT_VERSION,
        kind: KIND.into(),
        name: "media".into(),
        host: "web1".into(),
        job: "media".into(),
        run: 1,
        started_at: at,
        finished_at: at,
        sources: vec!["/srv".into()],
        exclude: vec![],
        compression: Compression::Gzip,
        level: 6,
        file: "media-20261122T230000Z.tar.gz".into(),
        bytes: 1,
        uncompressed_bytes: 2,
        sha256: "00".into(),
        files: 1,
        changed: vec![Noted { path: b"srv/\xe9".to_vec(), why: "grew".into() }],
        vanished: vec![],
        unreadable: vec![],
        left_out: vec![],
        encrypted_to: vec![],
        copies: vec![],
        proof: Proof::written(at, "read back"),
        entries: vec![entry, link],
    };
    let text = String::from_utf8(manifest.to_json()).unwrap();
    assert_eq!(Manifest::parse(text.as_bytes()).unwrap(), manifest);
    let line = format!(
        r#"    {{"path":"srv/caf\\xe9\\\\x","escaped":true,"type":"file","size":3,"mode":"4755","uid":1000,"gid":33,"owner":"me","mtime":"2026-11-22T23:00:00.123456789Z","sha256":"{}"}},"#,
        "ab".repeat(32)
    );
    assert!(text.lines().any(|found| found == line), "{text}");
    assert!(text.contains(r#""path":"srv/é\\","type":"symlink""#), "{text}");
    assert!(text.ends_with("}\n  ]\n}\n"), "{text}");
    let none = Manifest { entries: vec![], ..manifest };
    assert_eq!(Manifest::parse(&none.to_json()).unwrap(), none);
}

#[test]
fn the_root_of_the_file_system_can_be_a_source() {
    let cancel = CancellationToken::new();
    let mut tar = Vec::new();
    let mut packer = Packer::new(&mut tar, &cancel);
    let exclude = [super::Exclude::new("/?*").unwrap()];
    Walk { exclude: &exclude, own: None, cancel: &cancel }.source(Path::new("/"), &mut packer).unwrap();
    let packed = packer.finish().unwrap();
    let paths: Vec<_> = packed.entries.iter().map(|entry| &*entry.path).collect();
    assert_eq!(paths, [b"."]);
    let into = tempfile::tempdir().unwrap();
    let mut unpacker = Unpacker::new(crate::host::files::open_directory(into.path()).unwrap(), b"");
    let mut reader = Reader::new(&tar[..]);
    let member = reader.next().unwrap().unwrap();
    assert_eq!(member.path, b"./");
    unpacker.unpack(&mut reader, &member, None, &|| Ok(())).unwrap();
    assert!(unpacker.names_root());
}
