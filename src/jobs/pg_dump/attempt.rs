//! One attempt at a dump: the files it makes, the programs it starts, and what it says of them.

use std::os::fd::AsFd;

use anyhow::anyhow;
use jiff::Timestamp;

use super::options::PgDump;
use crate::backup::codec::Compression;
use crate::backup::count::Counted;
use crate::backup::manifest::{FORMAT_VERSION, Manifest, Proof, Properties, RolesFile, Server};
use crate::backup::names::{self, MANIFEST_SUFFIX};
use crate::backup::postgres::{
    Call, Custom, Failure, Format, Tools, cant, end_sessions, incomplete, through, unwritable,
};
use crate::backup::publish::{self, Directory, Partial};
use crate::backup::room::{Expected, Room};
use crate::backup::stream::{self, Encoding, Stored, StreamError};
use crate::backup::work::{Trouble, Work};
use crate::backup::{earlier, suspect};
use crate::host::files::{self, Owner, Space};
use crate::host::postgres::{Connection, ServerFacts};
use crate::model::{Finding, Report};
use crate::units::Size;

/// One attempt.
pub(super) struct Dump<'a> {
    pub(super) options: &'a PgDump,
    pub(super) work: Work,
    pub(super) connection: &'a Connection,
    pub(super) facts: ServerFacts,
    pub(super) tools: Tools,
    pub(super) owner: Owner,
}

impl Dump<'_> {
    pub(super) fn say(&self) -> Result<Report, Trouble> {
        let path = &self.options.directory;
        let earlier = files::open_directory(path).ok().and_then(|_| {
            let (directory, _) = Directory::open(path, self.owner, self.options.mode()).ok()?;
            Some(self.earlier(&directory, self.work.now()))
        });
        let room = files::nearest_directory(path)
            .and_then(|(_, fd)| self.room(fd, &earlier.unwrap_or_default()))
            .map_err(|e| cant(path, "looked at", &e))?;
        room.enough(path)?;
        let name = names::stem(&self.connection.database, self.work.now(), 1);
        let (suffix, roles_suffix) = self.suffixes();
        let roles = if self.options.roles {
            format!(" and the roles to {name}{roles_suffix}")
        } else {
            String::new()
        };
        let places = self.options.copy_to.destinations();
        let copies: String = places.iter().map(|one| format!(" and copy it to {}", one.place.url)).collect();
        let report = Report::new(format!(
            "would dump {} ({} on the server) to {}{roles}{copies}, with {} {}",
            self.connection.database,
            Size(self.facts.database_bytes),
            path.join(format!("{name}{suffix}")).display(),
            self.tools.pg_dump.display(),
            self.tools.version,
        ));
        Ok(report.fact("database_bytes", self.facts.database_bytes).fact("free_bytes", room.space.free))
    }

    pub(super) async fn run(&self) -> Result<Report, Trouble> {
        let started_at = self.work.now();
        let since = self.work.clock.since_boot();
        let path = &self.options.directory;
        let (directory, made) = Directory::open(path, self.owner, self.options.mode())
            .map_err(|error| cant(path, "made or opened", &error))?;
        if made {
            self.note(&format!("made the directory {}", path.display()));
        }
        for said in directory.recover().map_err(|error| cant(path, "read", &error))? {
            self.note(&said);
        }
        // Of an attempt whose daemon was killed.
        end_sessions(&self.work, self.connection).await;
        let earlier = self.earlier(&directory, started_at);
        let room = self.room(directory.fd(), &earlier).map_err(|error| cant(path, "looked at", &error))?;
        room.enough(path)?;

        let (dump_suffix, roles_suffix) = self.suffixes();
        let mut suffixes = vec![dump_suffix.as_str(), MANIFEST_SUFFIX];
        if self.options.roles {
            suffixes.push(&roles_suffix);
        }
        let stem = |number| names::stem(&self.connection.database, started_at, number);
        let partials =
            directory.partials(stem, &suffixes).map_err(|error| cant(path, "written to", &error))?;
        let mut partials = partials.into_iter();
        let (Some(dump), Some(mut manifest)) = (partials.next(), partials.next()) else {
            return Err(Trouble::Passing(anyhow!("no file was made in {}", path.display())));
        };
        let roles = match partials.next() {
            Some(partial) => Some((self.roles(&partial, &room).await?, partial)),
            None => None,
        };
        let stored = self.dump(&dump, &room).await?;
        let finished_at = self.work.now();
        let mut content = self.manifest(
            &dump.name,
            &stored,
            roles.as_ref().map(|(about, _)| about),
            started_at,
            finished_at,
        );
        content.proof.suspect = suspect::reasons(&earlier, &content);
        manifest
            .write_all(&content.to_json())
            .map_err(|error| self.unwritable(&directory, &error, 0, &room))?;

        let manifest_name = manifest.name.clone();
        let ordered: Vec<Partial> =
            roles.into_iter().map(|(_, partial)| partial).chain([dump, manifest]).collect();
        publish::publish(ordered)
            .map_err(|error| Trouble::Passing(anyhow!("in {}: {error}", path.display())))?;
        let seconds = (self.work.clock.since_boot().saturating_sub(since)).as_secs_f64();
        Ok(report(self.options, &content, &manifest_name, seconds))
    }

    fn note(&self, text: &str) {
        self.work.note(text);
    }

    /// Of the dump and of the roles.
    fn suffixes(&self) -> (String, String) {
        let encrypted = !self.options.encrypt_to.is_empty();
        let custom = self.options.format == Format::Custom;
        (names::dump_suffix(custom, self.options.compression, encrypted), names::roles_suffix(encrypted))
    }

    fn earlier(&self, directory: &Directory, now: Timestamp) -> Vec<Manifest> {
        earlier::of(directory, &self.connection.database, now)
    }

    fn room(&self, directory: impl AsFd, earlier: &[Manifest]) -> std::io::Result<Room> {
        let data = self.tools.data_directory(self.connection, &self.facts);
        let options = self.options;
        let bytes = earlier::predicted(earlier, options.format.word(), options.compression);
        let expected = Expected { what: "dump", bytes, seen: earlier.len() };
        Room::of(options.min_free, expected, directory, data.as_deref())
    }

    async fn roles(&self, partial: &Partial, room: &Room) -> Result<RolesFile, Trouble> {
        let call = self.tools.dump_roles(self.connection, self.facts.superuser)?;
        let stored = self.store(call, partial, Compression::Gzip, 6, room).await?;
        Ok(RolesFile {
            file: partial.name.clone(),
            bytes: stored.bytes,
            sha256: stored.sha256,
            passwords: self.facts.superuser,
        })
    }

    async fn dump(&self, partial: &Partial, room: &Room) -> Result<Stored, Trouble> {
        let call = self.tools.dump(self.connection, &self.options.order())?;
        if self.options.format == Format::Plain {
            return self.store(call, partial, self.options.compression, self.options.level(), room).await;
        }
        // A custom dump tells its rows only to pg_restore; reading it to the end also shows that it can be.
        let (mut stored, (bytes, counted)) = if self.options.encrypt_to.is_empty() {
            let stored = self.store(call, partial, Compression::None, 0, room).await?;
            let call = self.tools.read_custom(Custom::File(&partial.path()))?;
            let stall = self.options.stall.0;
            (stored, through(&self.work, self.connection, call, stall, stream::count).await?)
        } else {
            self.dump_and_read(call, partial, room).await?
        };
        if !counted.complete {
            return Err(incomplete("pg_restore", &partial.name));
        }
        stored.uncompressed_bytes = bytes;
        stored.counted = counted;
        Ok(stored)
    }

    /// Once it is encrypted nothing here can read the dump: pg_restore reads it while it is made.
    async fn dump_and_read(
        &self,
        call: Call,
        partial: &Partial,
        room: &Room,
    ) -> Result<(Stored, (u64, Counted)), Trouble> {
        let (reading, tee) = std::io::pipe().map_err(|error| Trouble::Passing(error.into()))?;
        let read = self.tools.read_custom(Custom::Pipe(reading.into()))?;
        let file = partial.file.try_clone().map_err(|error| Trouble::Passing(error.into()))?;
        let recipients = self.options.encrypt_to.clone();
        let (stall, floor) = (self.options.stall.0, room.floor());
        let storing = through(&self.work, self.connection, call, stall, move |source| {
            let encoding =
                Encoding { compression: Compression::None, level: 0, recipients: &recipients, floor };
            stream::store_and_tee(source, &file, encoding, tee.into())
        });
        // What comes to pg_restore comes from pg_dump, which has the first word on who is silent.
        let reading = through(&self.work, self.connection, read, stall * 2, stream::count);
        match tokio::join!(storing, reading) {
            (Ok(stored), Ok(counted)) => Ok((stored, counted)),
            // It reads no more since it has failed: what it said is the reason.
            (Err(Failure::Stream(StreamError::Tee(_))) | Ok(_), Err(failure)) => Err(failure.into()),
            (Err(failure), _) => Err(self.unstored(failure, room)),
        }
    }

    async fn store(
        &self,
        call: Call,
        partial: &Partial,
        compression: Compression,
        level: u32,
        room: &Room,
    ) -> Result<Stored, Trouble> {
        let name = call.name.clone();
        let file = partial.file.try_clone().map_err(|error| Trouble::Passing(error.into()))?;
        let (stall, floor) = (self.options.stall.0, room.floor());
        let recipients = self.options.encrypt_to.clone();
        let stored = through(&self.work, self.connection, call, stall, move |source| {
            stream::store(source, &file, Encoding { compression, level, recipients: &recipients, floor })
        });
        let stored = stored.await.map_err(|failure| self.unstored(failure, room))?;
        // Only text has the closing comment.
        let is_custom = self.options.format == Format::Custom && !names::is_roles(&partial.name);
        if !stored.counted.complete && !is_custom {
            return Err(incomplete(&name, &partial.name));
        }
        Ok(stored)
    }

    fn unstored(&self, failure: Failure, room: &Room) -> Trouble {
        match failure {
            Failure::Stream(StreamError::Write { written, error }) => {
                self.unwritable_path(&error, written, room)
            }
            Failure::Stream(StreamError::NoRoom { written, free }) => {
                room.stopped(written, free, &self.options.directory, &self.needed(room))
            }
            other => other.into(),
        }
    }

    fn unwritable_path(&self, error: &std::io::Error, written: u64, room: &Room) -> Trouble {
        let free =
            files::open_directory(&self.options.directory).and_then(Space::of).map_or(0, |space| space.free);
        unwritable(&self.options.directory, error, written, self.needed(room), free)
    }

    fn unwritable(
        &self,
        directory: &Directory,
        error: &std::io::Error,
        written: u64,
        room: &Room,
    ) -> Trouble {
        let free = Space::of(directory.fd()).map_or(0, |space| space.free);
        unwritable(&directory.path, error, written, self.needed(room), free)
    }

    fn needed(&self, room: &Room) -> String {
        room.needed().unwrap_or_else(|| {
            format!(
                "the database has {} bytes on the server ({}), and no earlier dump says how much it takes",
                self.facts.database_bytes,
                Size(self.facts.database_bytes)
            )
        })
    }

    fn manifest(
        &self,
        file: &str,
        stored: &Stored,
        roles: Option<&RolesFile>,
        started_at: jiff::Timestamp,
        finished_at: jiff::Timestamp,
    ) -> Manifest {
        let database = self.connection.database.clone();
        let safe = names::file_safe(&database);
        let tool = self.tools.version.clone();
        Manifest {
            format_version: FORMAT_VERSION,
            database_in_file_names: (safe != database).then_some(safe),
            database,
            host: nix::unistd::gethostname()
                .map_or_else(|_| String::new(), |name| name.to_string_lossy().into_owned()),
            job: self.work.job.clone(),
            run: self.work.run.parse().unwrap_or(0),
            server: Server {
                host: self.connection.server(),
                port: self.connection.port,
                version: self.facts.version.clone(),
            },
            client_version: tool,
            started_at,
            finished_at,
            format: self.options.format.word().to_owned(),
            compression: self.options.compression,
            level: self.options.level(),
            file: file.to_owned(),
            bytes: stored.bytes,
            uncompressed_bytes: stored.uncompressed_bytes,
            sha256: stored.sha256.clone(),
            rows: stored.counted.tables.iter().map(|table| table.rows).sum(),
            tables: stored.counted.tables.clone(),
            roles: roles.cloned(),
            properties: Some(Properties {
                encoding: self.facts.database.encoding.clone(),
                collate: self.facts.database.collate.clone(),
                ctype: self.facts.database.ctype.clone(),
                icu_locale: self.facts.database.icu_locale.clone(),
                owner: self.facts.database.owner.clone(),
            }),
            encrypted_to: self.options.encrypt_to.names(),
            copies: vec![],
            proof: Proof::written(
                finished_at,
                "pg_dump ended with code 0, its closing comment was seen, and the file was read back from the disk \
                 with the same size and SHA-256",
            ),
        }
    }
}

pub(super) fn report(options: &PgDump, manifest: &Manifest, manifest_name: &str, seconds: f64) -> Report {
    let tables = manifest.tables.len();
    let plural = if tables == 1 { "" } else { "s" };
    let summary = format!(
        "dumped {}: {} in {tables} table{plural} to {}",
        manifest.database,
        Size(manifest.bytes),
        manifest.file
    );
    let roles = manifest.roles.as_ref().map(|roles| roles.file.clone());
    let mut report = Report::new(summary)
        .fact("bytes", manifest.bytes)
        .fact("uncompressed_bytes", manifest.uncompressed_bytes)
        .fact("tables", tables)
        .fact("rows", manifest.rows)
        .fact("sha256", manifest.sha256.clone())
        .fact("directory", options.directory.to_string_lossy())
        .fact("file", manifest.file.clone())
        .fact("manifest", manifest_name)
        .fact("roles", roles)
        .fact("seconds", (seconds * 1000.0).round() / 1000.0)
        .fact("server_version", manifest.server.version.clone())
        .fact("client_version", manifest.client_version.clone());
    let suspect = |why: &String| Finding::warning(format!("{} is suspect: {why}", manifest.file));
    report.findings.extend(manifest.proof.suspect.iter().map(suspect));
    report
}
