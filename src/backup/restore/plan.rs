//! What a restore is going to do, found out beforehand and told before anything is done.

use std::collections::BTreeSet;
use std::path::Path;

use jiff::Timestamp;
use serde::Deserialize;

use super::OLDEST;
use super::databases::{LONGEST_NAME, Live, name_at};
use super::server::{Server, literal};
use super::subject::Subject;
use crate::backup::manifest::{Manifest, Properties, State};
use crate::backup::postgres::Format;
use crate::backup::work::Trouble;
use crate::host::files::{self, Space};
use crate::host::postgres::{Connection, ServerFacts};
use crate::units::Size;

/// What is wanted.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// The name of the new database.
    pub into: Option<String>,
    /// Put it in the place of the connection's database.
    pub swap: bool,
}

pub struct Plan {
    /// The new database.
    pub name: String,
    pub swap: bool,
    /// What the database in use is called after the swap.
    pub before: Option<String>,
    /// The connection's database, where it is there.
    pub(super) live: Option<Live>,
    /// How the new one is made.
    pub like: Option<Properties>,
    pub missing_roles: BTreeSet<String>,
    /// What the operator is told, line by line.
    pub lines: Vec<String>,
    /// Why it can't be done.
    pub refusals: Vec<String>,
    pub warnings: Vec<String>,
}

/// What a server says of itself, in one answer.
#[derive(Deserialize)]
struct Seen {
    may_create: bool,
    databases: Vec<String>,
    roles: Vec<String>,
    data: Option<String>,
    live: Option<Live>,
}

pub(super) async fn plan(
    server: &Server<'_>,
    target: &Connection,
    facts: &ServerFacts,
    subject: &Subject,
    order: &Order,
) -> Result<Plan, Trouble> {
    let seen = look(server, &target.database).await?;
    let now = server.work.now();
    let name = match &order.into {
        Some(name) => name.clone(),
        None => name_at(&target.database, "_restored_", now, &seen.databases),
    };
    let before = seen.live.as_ref().map(|_| name_at(&target.database, "_before_", now, &seen.databases));
    let like = subject.manifest.as_ref().and_then(|manifest| manifest.properties.clone());
    let like = like.or_else(|| seen.live.as_ref().map(properties));
    let missing_roles =
        subject.roles.as_ref().map(|(_, roles)| roles.missing(&seen.roles)).unwrap_or_default();
    let mut plan = Plan {
        name,
        swap: order.swap,
        before,
        live: seen.live,
        like,
        missing_roles,
        lines: vec![],
        refusals: vec![],
        warnings: vec![],
    };
    plan.tell_of_backup(subject, now);
    plan.tell_of_server(server, target, facts, subject);
    plan.tell_of_names(server, target, order, &seen.databases);
    plan.tell_of_space(target, subject, seen.data.as_deref());
    if !seen.may_create {
        plan.refusals.push(format!(
            "user {} may not create databases at {}: ALTER ROLE {} CREATEDB, or name a connection whose user may",
            target.user,
            target.address(),
            target.user
        ));
    }
    Ok(plan)
}

async fn look(server: &Server<'_>, database: &str) -> Result<Seen, Trouble> {
    let sql = format!(
        "SELECT jsonb_build_object('may_create', rolcreatedb OR rolsuper,
 'databases', (SELECT jsonb_agg(datname) FROM pg_database), 'roles', (SELECT jsonb_agg(rolname) FROM pg_roles),
 'data', CASE WHEN pg_has_role('pg_read_all_settings', 'MEMBER') THEN current_setting('data_directory') END,
 'live', (SELECT jsonb_build_object('owner', pg_get_userbyid(datdba), 'encoding', pg_encoding_to_char(encoding),
   'collate', datcollate, 'ctype', datctype, 'icu_locale', CASE to_jsonb(d) ->> 'datlocprovider' WHEN 'i' THEN
     coalesce(to_jsonb(d) ->> 'daticulocale', to_jsonb(d) ->> 'datlocale') END,
   'tablespace', (SELECT spcname FROM pg_tablespace t WHERE t.oid = d.dattablespace),
   'bytes', pg_database_size(d.oid), 'sessions', (SELECT count(*) FROM pg_stat_activity a WHERE a.datid = d.oid))
   FROM pg_database d WHERE datname = {}))
FROM pg_roles WHERE rolname = current_user;",
        literal(database)
    );
    let mut rows: Vec<Seen> = server.ask(&server.entry.database, &sql).await?;
    rows.pop().ok_or_else(|| {
        Trouble::Passing(anyhow::anyhow!(
            "the server at {} doesn't say what it holds",
            server.entry.address()
        ))
    })
}

fn properties(live: &Live) -> Properties {
    Properties {
        encoding: live.encoding.clone(),
        collate: live.collate.clone(),
        ctype: live.ctype.clone(),
        icu_locale: live.icu_locale.clone(),
        owner: live.owner.clone(),
    }
}

impl Plan {
    fn tell_of_backup(&mut self, subject: &Subject, now: Timestamp) {
        let age = super::age(subject.at, now);
        let form = subject.form;
        let mut what = vec![format!("{} dump", form.format.word()), form.compression.word().to_owned()];
        if form.encrypted {
            what.push("encrypted".to_owned());
        }
        self.lines.push(format!(
            "backup     {} ({}, {}), {age} old, of {}",
            subject.path.display(),
            Size(subject.bytes),
            what.join(", "),
            subject.at.strftime("%Y-%m-%d %H:%M:%S UTC"),
        ));
        let Some(manifest) = &subject.manifest else {
            self.warnings.push(format!(
                "there is no manifest beside {}: nothing says what it should hold, so that what is restored can't be \
                 compared with anything. Restore only what you trust: a dump is a program that psql runs",
                subject.name()
            ));
            return;
        };
        self.lines.push(format!("           {}", proven(manifest, now)));
        self.lines.push(format!(
            "holds      database {} of {}, PostgreSQL {}: {}",
            manifest.database,
            manifest.server.host,
            manifest.server.version,
            super::amount(manifest.tables.len(), manifest.rows)
        ));
        self.warnings
            .extend(manifest.proof.suspect.iter().map(|why| format!("the backup is suspect: {why}")));
        if manifest.proof.state == State::Damaged {
            self.warnings.push("the backup is recorded as damaged".to_owned());
        }
    }

    fn tell_of_server(
        &mut self,
        server: &Server<'_>,
        target: &Connection,
        facts: &ServerFacts,
        subject: &Subject,
    ) {
        self.lines.push(format!(
            "server     PostgreSQL {} at {}, as {}",
            facts.version,
            target.address(),
            target.user
        ));
        if facts.major < OLDEST {
            self.refusals.push(format!(
                "PostgreSQL {} is too old: databases are restored into version {OLDEST} and newer",
                facts.version
            ));
        }
        let Some(manifest) = &subject.manifest else { return };
        let dumped =
            manifest.server.version.split(['.', ' ']).next().and_then(|major| major.parse::<u32>().ok());
        if dumped.is_some_and(|dumped| dumped > facts.major) {
            self.warnings.push(format!(
                "the dump is of PostgreSQL {}, newer than this server: what {} doesn't know stops it",
                manifest.server.version, facts.major
            ));
        }
        if manifest.database != target.database {
            self.warnings.push(format!(
                "the dump is of the database {}, and the connection's is {}",
                manifest.database, target.database
            ));
        }
        if subject.form.format == Format::Custom && server.tools.major < dumped.unwrap_or(0) {
            self.warnings.push(format!("pg_restore here is {}, older than the dump", server.tools.version));
        }
    }

    fn tell_of_names(&mut self, server: &Server<'_>, target: &Connection, order: &Order, taken: &[String]) {
        let owner = self.owner();
        let owner = owner.map_or(String::new(), |owner| format!(", which will belong to {owner}"));
        self.lines.push(format!("into       new database {}{owner}", self.name));
        if self.name.is_empty() || self.name.len() > LONGEST_NAME {
            self.refusals.push(format!(
                "`{}` is no name for a database: it must have 1 to {LONGEST_NAME} bytes",
                self.name
            ));
        }
        if taken.contains(&self.name) {
            self.refusals.push(format!(
                "there is a database {} at {} already: name another with --into, or leave it out",
                self.name,
                target.address()
            ));
        }
        if !self.missing_roles.is_empty() {
            let names: Vec<&str> = self.missing_roles.iter().map(String::as_str).collect();
            self.lines.push(format!("roles      missing there, and made first: {}", names.join(", ")));
        }
        if !order.swap {
            self.lines.push(format!("swap       no: {} stays as it is", target.database));
            return;
        }
        if server.entry.database == target.database {
            self.refusals.push(format!(
                "neither the database postgres nor template1 can be entered at {} by {}: a name can't be changed from \
                 within",
                target.address(),
                target.user
            ));
        }
        self.lines.push(match (&self.before, &self.live) {
            (Some(before), Some(live)) => format!(
                "swap       {} becomes {before} and stays ({}); {} becomes {}; {} sessions in {} now will be ended",
                target.database,
                Size(live.bytes),
                self.name,
                target.database,
                live.sessions,
                target.database
            ),
            _ => format!(
                "swap       there is no database {} now: {} becomes it",
                target.database, self.name
            ),
        });
    }

    /// Whose the new database will be.
    pub(super) fn owner(&self) -> Option<&str> {
        let live = self.live.as_ref().map(|live| live.owner.as_str());
        live.or_else(|| self.like.as_ref().map(|like| like.owner.as_str()))
    }

    fn tell_of_space(&mut self, target: &Connection, subject: &Subject, data: Option<&str>) {
        let Some(text) = subject.manifest.as_ref().map(|manifest| manifest.uncompressed_bytes) else {
            return;
        };
        let here = target.container.is_none()
            && (target.host.starts_with('/')
                || ["127.0.0.1", "localhost", "::1"].contains(&target.host.as_str()));
        let space = data.filter(|_| here).and_then(|data| space_of(Path::new(data)));
        let Some(space) = space else {
            self.lines
                .push(format!("space      about {} are needed; what is free there isn't known", Size(text)));
            return;
        };
        self.lines.push(format!("space      about {} are needed, {} are free", Size(text), Size(space.free)));
        // What compresses well within the server takes less than its text; the database in use tells.
        let least = self.live.as_ref().map_or(text, |live| live.bytes.min(text));
        if space.free < least {
            self.refusals.push(format!(
                "the server's disk has {} free, and the database takes {} at least: make room, a full disk stops \
                 PostgreSQL",
                Size(space.free),
                Size(least)
            ));
        } else if space.free < text {
            self.warnings.push(format!("{} free may not be enough for {}", Size(space.free), Size(text)));
        }
    }
}

fn space_of(data: &Path) -> Option<Space> {
    files::open_directory(data).and_then(Space::of).ok()
}

/// What is known of a backup, in a line.
fn proven(manifest: &Manifest, now: Timestamp) -> String {
    let proof = &manifest.proof;
    let last = proof.events.iter().rev().find(|event| event.state == proof.state);
    let Some(last) = last else { return format!("proof: {}", proof.state.word()) };
    let took = last.seconds.map_or(String::new(), |seconds| format!(", which took {seconds:.1} s"));
    format!("proof: {}, {} ago{took}", proof.state.word(), super::age(last.at, now))
}
