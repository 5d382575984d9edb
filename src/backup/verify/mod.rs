//! Whether a backup is still what was written: reads all of it and compares it with the manifest beside it.
//!
//! Says every reason against it, not the first alone, and writes into the manifest what was found: `read_back`, or
//! `damaged` with the reasons. Never restores anything and never changes a dump; a file of which it can't tell what
//! should be in it is refused and left as it is.

mod compare;
mod custom;
mod record;
mod walk;

pub use record::{add, look_again};

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use rustix::fs::{Mode, OFlags};
use sha2::{Digest, Sha256};

use super::crypt::Identities;
use super::manifest::Manifest;
use super::names;
use super::postgres::{Format, Readers};
use super::read::{Examined, Progress, ReadError, Reading};
use super::stream::hex;
use super::work::{Trouble, Work};
use crate::units::Size;

/// A backup that is what was written.
pub struct Checked {
    /// With the event of this check, where it could be written.
    pub manifest: Manifest,
    /// Of a custom dump, the content is what pg_restore made of it.
    pub examined: Examined,
}

/// What was found, good or not.
pub struct Verdict {
    /// The file's own name.
    pub file: String,
    pub bytes: u64,
    pub manifest: Option<Manifest>,
    /// `None`: it could not be read to its end.
    pub examined: Option<Examined>,
    /// How it differs from what was written.
    pub damage: Vec<String>,
    /// Why it can't be told whether it is good: without a manifest, without the key.
    pub hindrance: Option<String>,
}

/// Reads the whole backup, its roles too, and compares everything with its manifest. A custom dump is read by the
/// pg_restore that `readers` find.
///
/// # Errors
/// [`Trouble::Lasting`] with every reason against it; [`Trouble::Passing`] where it could not be read this time.
pub async fn check(
    work: &Work,
    file: &Path,
    keys: Option<&Identities>,
    readers: &Readers,
    progress: Progress,
) -> Result<Checked, Trouble> {
    let verdict = judge(work, file, keys, readers, progress).await?;
    if let (Verdict { manifest: Some(manifest), examined: Some(examined), .. }, true) =
        (&verdict, verdict.good())
    {
        return Ok(Checked { manifest: manifest.clone(), examined: examined.clone() });
    }
    let what = if verdict.damage.is_empty() { "can't be checked" } else { "is damaged" };
    Err(Trouble::Lasting(anyhow!("{} {what}: {}", file.display(), verdict.reasons().join("; "))))
}

/// As [`check`], for whoever tells the reasons one by one.
///
/// # Errors
/// Where it can't be read, or was not read to its end for a reason that lies elsewhere.
pub async fn judge(
    work: &Work,
    file: &Path,
    keys: Option<&Identities>,
    readers: &Readers,
    progress: Progress,
) -> Result<Verdict, Trouble> {
    let since = work.clock.since_boot();
    let place = Place::of(file)?;
    let bytes = open(file)?.metadata().map_err(|error| unreadable(file, &error))?.len();
    let mut verdict = Verdict {
        file: place.name.clone(),
        bytes,
        manifest: None,
        examined: None,
        damage: vec![],
        hindrance: None,
    };
    let manifest = match place.manifest() {
        Ok(manifest) => manifest,
        Err(why) => {
            verdict.hindrance = Some(why);
            return Ok(verdict);
        }
    };
    verdict.damage.extend(compare::of_names(&manifest, &place.name));
    verdict.damage.extend(compare::of_manifest(&manifest));
    let read = read_dump(work, file, keys, readers, progress, &manifest).await?;
    verdict.bytes = read.bytes.0;
    verdict.damage.extend(compare::of_bytes(
        "it",
        (read.bytes.0, &read.bytes.1),
        (manifest.bytes, &manifest.sha256),
    ));
    verdict.damage.extend(read.damage);
    verdict.hindrance = read.hindrance;
    verdict.examined = read.examined;
    verdict.damage.extend(check_roles(work, &place, keys, &manifest).await?);
    verdict.manifest = Some(manifest);
    let seconds = work.clock.since_boot().saturating_sub(since).as_secs_f64();
    record::record(work, &place, &mut verdict, read.version, seconds);
    Ok(verdict)
}

/// What [`check`] would do, a line for each step.
///
/// # Errors
/// Why it would be refused at once.
pub fn plan(file: &Path) -> Result<Vec<String>, Trouble> {
    let place = Place::of(file)?;
    let bytes = open(file)?.metadata().map_err(|error| unreadable(file, &error))?.len();
    let refused = |why: String| Trouble::Lasting(anyhow!("{} can't be checked: {why}", file.display()));
    let manifest = place.manifest().map_err(refused)?;
    let through = if manifest.format == Format::Custom.word() { ", through pg_restore," } else { "" };
    let mut steps = vec![format!(
        "would read {} ({}){through} to its end and compare it with {}: {} bytes, SHA-256 {}, {} rows in {} tables, the \
         closing comment",
        file.display(),
        Size(bytes),
        place.manifest_name(),
        manifest.bytes,
        manifest.sha256,
        manifest.rows,
        manifest.tables.len(),
    )];
    if let Some(roles) = &manifest.roles {
        steps.push(format!("would do the same with the roles in {}", roles.file));
    }
    steps.push(format!("would record in {} what was found", place.manifest_name()));
    Ok(steps)
}

impl Verdict {
    pub fn good(&self) -> bool {
        self.damage.is_empty() && self.hindrance.is_none()
    }

    /// All of them.
    pub fn reasons(&self) -> Vec<&str> {
        self.damage.iter().chain(&self.hindrance).map(String::as_str).collect()
    }
}

/// Where a backup lies.
struct Place {
    directory: PathBuf,
    name: String,
}

impl Place {
    fn of(file: &Path) -> Result<Self, Trouble> {
        let Some(name) = file.file_name().and_then(|name| name.to_str()) else {
            return Err(Trouble::Lasting(anyhow!("{} is no name of a backup's file", file.display())));
        };
        let directory = file.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Ok(Self { directory: directory.to_owned(), name: name.to_owned() })
    }

    fn manifest_name(&self) -> String {
        names::manifest_of(&self.name)
    }

    /// Or why there is none to compare with.
    fn manifest(&self) -> Result<Manifest, String> {
        let name = self.manifest_name();
        let text = std::fs::read(self.directory.join(&name)).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => format!(
                "there is no manifest {name} beside it: nothing says what should be in it. `punk-eco-sched restore db` \
                 takes a dump without a manifest and shows what is in it"
            ),
            _ => format!("its manifest {name} can't be read: {error}"),
        })?;
        let unusable = |why: String| {
            format!(
                "its manifest {name} can't be used: {why}. `punk-eco-sched restore db` takes the dump without it"
            )
        };
        let kind: Kind = serde_json::from_slice(&text).map_err(|error| unusable(error.to_string()))?;
        // Each kind of backup has a manifest of its own; a database's has no word for it.
        match kind.kind.as_deref() {
            None => Manifest::parse(&text).map_err(unusable),
            Some(kind) => {
                Err(format!("its manifest {name} is that of a backup of the kind {kind:?}, unknown here"))
            }
        }
    }
}

#[derive(serde::Deserialize)]
struct Kind {
    kind: Option<String>,
}

/// What reading the dump's own file has shown.
struct Read {
    /// And their SHA-256.
    bytes: (u64, String),
    examined: Option<Examined>,
    damage: Vec<String>,
    hindrance: Option<String>,
    /// Of pg_restore, where it took part.
    version: Option<String>,
}

async fn read_dump(
    work: &Work,
    file: &Path,
    keys: Option<&Identities>,
    readers: &Readers,
    progress: Progress,
    manifest: &Manifest,
) -> Result<Read, Trouble> {
    let mut version = None;
    let mut damage = Vec::new();
    let mut refused = false;
    let examined = match open_reading(file, keys, progress.clone()).await? {
        Ok(reading) if reading.form().format == Format::Custom => {
            let restored = custom::restored(work, reading, readers).await?;
            version = Some(restored.version);
            if restored.examined.is_ok() {
                refused = restored.refused.is_some();
                let said =
                    restored.refused.map(|said| format!("pg_restore can't read it to its end: {said}"));
                damage.extend(said.into_iter().chain(restored.walk.wrong()));
                damage.extend(compare::of_database(manifest, restored.walk.database()));
            }
            restored.examined
        }
        Ok(reading) => {
            let cancel = work.cancel.clone();
            blocking(move || reading.examine(&cancel, |_| Ok(()))).await
        }
        Err(error) => Err(error),
    };
    match examined {
        Ok(examined) => {
            let same_reader = version.as_ref().is_none_or(|version| *version == manifest.client_version);
            // Of what can't be read to its end, nothing else can be told.
            if !refused {
                damage.extend(compare::of_content(manifest, &examined, same_reader));
            }
            let bytes = (examined.bytes, examined.sha256.clone());
            Ok(Read { bytes, examined: Some(examined), damage, hindrance: None, version })
        }
        Err(ReadError::Stopped) => Err(Trouble::Passing(anyhow!("stopped"))),
        Err(error @ (ReadError::Read(_) | ReadError::Sink(_))) => {
            Err(Trouble::Passing(anyhow!("{} {error}", file.display())))
        }
        // What it holds can't be told; what it is can.
        Err(error) => {
            let hindrance = match error {
                ReadError::NoKey => Some(format!("it {error}: --identity KEYFILE gives one")),
                ReadError::Decrypt(why) => Some(why),
                broken => {
                    damage.push(format!("it {broken}"));
                    None
                }
            };
            let bytes = hash(work, file, progress).await?;
            Ok(Read { bytes, examined: None, damage, hindrance, version })
        }
    }
}

/// The roles are a backup's own: without them its tables have no owners.
async fn check_roles(
    work: &Work,
    place: &Place,
    keys: Option<&Identities>,
    manifest: &Manifest,
) -> Result<Vec<String>, Trouble> {
    let Some(roles) = &manifest.roles else { return Ok(vec![]) };
    let what = format!("its roles file {}", roles.file);
    if Path::new(&roles.file).file_name() != Some(roles.file.as_ref()) {
        return Ok(vec![format!("{what}, as its manifest calls it, is no name of a file beside it")]);
    }
    let file = place.directory.join(&roles.file);
    if !file.exists() {
        return Ok(vec![format!("{what} is missing")]);
    }
    let expected = (roles.bytes, roles.sha256.as_str());
    let reading = match open_reading(&file, keys, Progress::default()).await? {
        Ok(reading) => {
            let cancel = work.cancel.clone();
            blocking(move || reading.examine(&cancel, |_| Ok(()))).await
        }
        Err(error) => Err(error),
    };
    match reading {
        Ok(found) => {
            let mut wrong = compare::of_bytes(&what, (found.bytes, &found.sha256), expected);
            wrong.extend(compare::of_text(&what, &found.counted));
            Ok(wrong)
        }
        Err(ReadError::Stopped) => Err(Trouble::Passing(anyhow!("stopped"))),
        Err(error @ (ReadError::Read(_) | ReadError::Sink(_))) => {
            Err(Trouble::Passing(anyhow!("{} {error}", file.display())))
        }
        Err(error) => {
            let (bytes, sha256) = hash(work, &file, Progress::default()).await?;
            let mut wrong = compare::of_bytes(&what, (bytes, &sha256), expected);
            // Of the dump, which is encrypted for the same keys, it is said already.
            if !matches!(error, ReadError::NoKey | ReadError::Decrypt(_)) {
                wrong.push(format!("{what} {error}"));
            }
            Ok(wrong)
        }
    }
}

async fn open_reading(
    file: &Path,
    keys: Option<&Identities>,
    progress: Progress,
) -> Result<Result<Reading, ReadError>, Trouble> {
    let opened = open(file)?;
    let keys = keys.cloned();
    Ok(blocking(move || Reading::open(opened, keys.as_ref(), progress)).await)
}

/// The size and the hash of a file whose content could not be read.
async fn hash(work: &Work, file: &Path, progress: Progress) -> Result<(u64, String), Trouble> {
    let mut opened = open(file)?;
    let cancel = work.cancel.clone();
    let hashed = blocking(move || {
        let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; 256 << 10]);
        while !cancel.is_cancelled() {
            match std::io::Read::read(&mut opened, &mut buffer)? {
                0 => return Ok((bytes, hex(&hash.finalize()))),
                count => {
                    hash.update(&buffer[..count]);
                    bytes += count as u64;
                    progress.store(bytes, std::sync::atomic::Ordering::Relaxed);
                }
            }
        }
        Err(std::io::Error::other("stopped"))
    });
    hashed.await.map_err(|error| unreadable(file, &error))
}

/// A regular file: a pipe's other end may never come.
fn open(file: &Path) -> Result<File, Trouble> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened: File =
        rustix::fs::open(file, flags, Mode::empty()).map_err(|error| unreadable(file, &error.into()))?.into();
    let metadata = opened.metadata().map_err(|error| unreadable(file, &error))?;
    if metadata.is_file() {
        return Ok(opened);
    }
    Err(Trouble::Lasting(anyhow!("{} is not a regular file", file.display())))
}

fn unreadable(file: &Path, error: &std::io::Error) -> Trouble {
    let why = anyhow!("{} can't be read: {error}", file.display());
    match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied => Trouble::Lasting(why),
        _ => Trouble::Passing(why),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let worked = tokio::task::spawn_blocking(work).await;
    worked.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}
