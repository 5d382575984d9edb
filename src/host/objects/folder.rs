//! A folder that copies go to, such as a mounted share. It is never made: where a share isn't mounted, its empty
//! mount point must not be filled instead.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Access, Advice, AtFlags, Dir, FileType, FlockOperation, Mode, OFlags};
use sha2::{Digest, Sha256};

use super::place::Place;
use super::s3::to_hex;
use super::{Content, Listed, ObjectError};
use crate::host::files;

pub(super) struct Folder {
    place: Place,
    fd: Arc<OwnedFd>,
}

/// Of a file that is not whole yet: `.<name>.copying`.
const COPYING: &str = ".copying";
const BUFFER: usize = 1 << 20;

impl Folder {
    pub(super) async fn open(place: &Place, path: &Path) -> Result<Self, ObjectError> {
        let (url, path) = (place.url.clone(), path.to_owned());
        let opened = brief(&place.url, move || {
            let failed = |error| ObjectError::file(format!("{url} can't be opened: is it mounted?"), error);
            files::open_directory(&path).map_err(failed)
        });
        Ok(Self { place: place.clone(), fd: Arc::new(opened.await?) })
    }

    pub(super) async fn probe(&self) -> Result<(), ObjectError> {
        let (fd, url) = (self.fd.clone(), self.place.url.clone());
        brief(&self.place.url, move || {
            let access = Access::WRITE_OK | Access::EXEC_OK;
            rustix::fs::accessat(&*fd, ".", access, AtFlags::EACCESS)
                .map_err(|error| ObjectError::writing(&url, error.into()))
        })
        .await
    }

    pub(super) async fn put(&self, name: &str, file: File, content: &Content) -> Result<(), ObjectError> {
        let (fd, url, name, content) =
            (self.fd.clone(), self.place.url_of(name), name.to_owned(), content.clone());
        blocking(move || {
            let mut partial = Partial::make(&fd, &name, &url)?;
            let read = |error| ObjectError::file("the file to copy can't be read", error);
            let sent = carry(&file, |piece| partial.file.write_all(piece), read, &url)?;
            if sent != content {
                return Err(ObjectError::Changed { expected: text(&content), found: text(&sent) });
            }
            partial.settle(&url)?;
            // The disk is to answer, or the server of the share, and not what this host remembers.
            let _ = rustix::fs::fadvise(&partial.file, 0, None, Advice::DontNeed);
            let back = open(&fd, &partial.hidden).map_err(|error| ObjectError::file(url.clone(), error))?;
            let failed = |error| ObjectError::file(format!("{url} can't be read back"), error);
            let found = carry(&back, |_| Ok(()), failed, &url)?;
            if found != content {
                return Err(ObjectError::Differs { url, expected: text(&content), found: text(&found) });
            }
            partial.publish(&name, &url)
        })
        .await
    }

    pub(super) async fn put_small(&self, name: &str, bytes: Vec<u8>) -> Result<(), ObjectError> {
        let (fd, url, name) = (self.fd.clone(), self.place.url_of(name), name.to_owned());
        brief(&self.place.url, move || {
            let mut partial = Partial::make(&fd, &name, &url)?;
            partial.file.write_all(&bytes).map_err(|error| ObjectError::writing(&url, error))?;
            partial.settle(&url)?;
            partial.publish(&name, &url)
        })
        .await
    }

    pub(super) async fn has(&self, name: &str, content: &Content) -> Result<bool, ObjectError> {
        let (fd, url, file) = (self.fd.clone(), self.place.url_of(name), name.to_owned());
        let stat = brief(&self.place.url, move || {
            let stat = rustix::fs::statat(&*fd, file, AtFlags::SYMLINK_NOFOLLOW);
            stat.map_err(|error| absent(&url, error.into()))
        });
        let stat = stat.await?;
        if u64::try_from(stat.st_size).ok() != Some(content.bytes) {
            return Ok(false);
        }
        Ok(self.get(name, |_| Ok(())).await? == *content)
    }

    pub(super) async fn get(
        &self,
        name: &str,
        mut each: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<Content, ObjectError> {
        let url = self.place.url_of(name);
        let (fd, name, of) = (self.fd.clone(), name.to_owned(), url.clone());
        let opened = brief(&self.place.url, move || open(&fd, &name).map_err(|error| absent(&of, error)));
        let file = opened.await?;
        let (pieces, mut read) = tokio::sync::mpsc::channel::<Vec<u8>>(2);
        let of = url.clone();
        let reading = blocking(move || {
            let failed = |error| ObjectError::file(format!("{of} can't be read"), error);
            // Whoever takes no more has its own reason.
            let each = |piece: &[u8]| pieces.blocking_send(piece.to_vec()).map_err(io::Error::other);
            carry(&file, each, failed, &of)
        });
        let taking = async {
            while let Some(piece) = read.recv().await {
                let stored = each(&piece);
                stored.map_err(|error| ObjectError::file(format!("{url} can't be stored here"), error))?;
            }
            drop(read);
            Ok(())
        };
        let (read, taken) = tokio::join!(reading, taking);
        taken?;
        read
    }

    pub(super) async fn list(&self) -> Result<Vec<Listed>, ObjectError> {
        let (fd, url) = (self.fd.clone(), self.place.url.clone());
        brief(&self.place.url, move || listed(&fd, &url)).await
    }

    pub(super) async fn delete(&self, name: &str) -> Result<(), ObjectError> {
        let (fd, url, name) = (self.fd.clone(), self.place.url_of(name), name.to_owned());
        brief(&self.place.url, move || {
            let failed = |error| ObjectError::file(format!("{url} can't be deleted"), error);
            files::remove_file(&*fd, name).map(|_| ()).map_err(failed)
        })
        .await
    }

    /// Removes what a process that is gone left half-done: nobody holds its lock.
    pub(super) async fn clear(&self) -> Result<Vec<String>, ObjectError> {
        let (fd, place) = (self.fd.clone(), self.place.clone());
        brief(&self.place.url, move || cleared(&fd, &place)).await
    }
}

fn listed(fd: &OwnedFd, url: &str) -> Result<Vec<Listed>, ObjectError> {
    let failed = |error: io::Error| ObjectError::file(format!("{url} can't be read"), error);
    let mut found = Vec::new();
    for entry in Dir::read_from(fd).map_err(|error| failed(error.into()))? {
        let entry = entry.map_err(|error| failed(error.into()))?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        let Ok(stat) = rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && !name.starts_with('.') {
            found.push(Listed { name: name.to_owned(), bytes: u64::try_from(stat.st_size).unwrap_or(0) });
        }
    }
    Ok(found)
}

fn cleared(fd: &OwnedFd, place: &Place) -> Result<Vec<String>, ObjectError> {
    let failed = |error: io::Error| ObjectError::file(format!("{} can't be read", place.url), error);
    let mut said = Vec::new();
    for entry in Dir::read_from(fd).map_err(|error| failed(error.into()))? {
        let entry = entry.map_err(|error| failed(error.into()))?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if !(name.starts_with('.') && name.ends_with(COPYING)) {
            continue;
        }
        let Ok(file) = open(fd, name) else { continue };
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
            && files::remove_file(fd, name).map_err(failed)?
        {
            said.push(format!("removed {}, which was left half-done", place.url_of(name)));
        }
    }
    Ok(said)
}

/// A file under its hidden name, removed when dropped before it is published.
struct Partial {
    fd: Arc<OwnedFd>,
    file: File,
    hidden: String,
    published: bool,
}

impl Partial {
    fn make(fd: &Arc<OwnedFd>, name: &str, url: &str) -> Result<Self, ObjectError> {
        let hidden = format!(".{name}{COPYING}");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(&**fd, &hidden, flags, Mode::RUSR | Mode::WUSR);
        let file = File::from(made.map_err(|error| ObjectError::writing(url, error.into()))?);
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(ObjectError::Busy { url: url.to_owned() });
        }
        let partial = Self { fd: fd.clone(), file, hidden, published: false };
        partial.file.set_len(0).map_err(|error| ObjectError::writing(url, error))?;
        Ok(partial)
    }

    fn settle(&self, url: &str) -> Result<(), ObjectError> {
        self.file.sync_all().map_err(|error| ObjectError::writing(url, error))
    }

    fn publish(mut self, name: &str, url: &str) -> Result<(), ObjectError> {
        let renamed = rustix::fs::renameat(&*self.fd, &self.hidden, &*self.fd, name);
        renamed.map_err(|error| ObjectError::writing(url, error.into()))?;
        self.published = true;
        // Some shares can't do it for a folder; the files themselves are there.
        let _ = rustix::fs::fsync(&*self.fd);
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.published {
            let _ = files::remove_file(&*self.fd, &self.hidden);
        }
    }
}

/// For what takes moments: a share whose server is gone would hold it for ever.
async fn brief<T: Send + 'static>(
    url: &str,
    work: impl FnOnce() -> Result<T, ObjectError> + Send + 'static,
) -> Result<T, ObjectError> {
    const MOMENTS: Duration = Duration::from_secs(60);
    let done = tokio::time::timeout(MOMENTS, blocking(work)).await;
    done.unwrap_or_else(|_| Err(ObjectError::Silent { url: url.to_owned(), after: MOMENTS }))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ObjectError> + Send + 'static,
) -> Result<T, ObjectError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

fn carry(
    mut from: &File,
    mut to: impl FnMut(&[u8]) -> io::Result<()>,
    unread: impl Fn(io::Error) -> ObjectError,
    url: &str,
) -> Result<Content, ObjectError> {
    let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; BUFFER]);
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(Content { bytes, sha256: to_hex(&hash.finalize()) }),
            Ok(count) => {
                to(&buffer[..count]).map_err(|error| ObjectError::writing(url, error))?;
                hash.update(&buffer[..count]);
                bytes += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(unread(error)),
        }
    }
}

fn open(fd: &OwnedFd, name: &str) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(fd, name, flags, Mode::empty())?.into())
}

fn absent(url: &str, error: io::Error) -> ObjectError {
    if error.kind() == io::ErrorKind::NotFound {
        return ObjectError::Absent { url: url.to_owned() };
    }
    ObjectError::file(url, error)
}

fn text(content: &Content) -> String {
    format!("{} bytes with SHA-256 {}", content.bytes, content.sha256)
}
