//! `verify`: a backup that `pg_dump` made of a real PostgreSQL passes, and every way to damage it is refused with the
//! reason, also where whoever damaged it has put the new size and hash into the manifest.

mod by_hand;
mod custom;
mod encrypted;
mod plain;

use std::path::{Path, PathBuf};

use punk_eco_sched::backup::crypt::Identities;
use punk_eco_sched::backup::manifest::{Manifest, State};
use punk_eco_sched::backup::names;
use punk_eco_sched::backup::postgres::Readers;
use punk_eco_sched::backup::read::Progress;
use punk_eco_sched::backup::verify::{self, Verdict};
use sha2::{Digest, Sha256};

use crate::pg_dump::{manifest, options};
use crate::support::job::Bench;
use crate::support::postgres::Postgres;

const SHOP: &str = r#"
CREATE TABLE orders (id int PRIMARY KEY, what text);
INSERT INTO orders VALUES (1, 'tea'), (2, E'a\tb'), (3, 'COPY public.x (a) FROM stdin;');
CREATE TABLE "Clients é" (name text);
INSERT INTO "Clients é" VALUES ('Ada'), ('Alan');
CREATE TABLE nothing (id int);
CREATE FUNCTION tricky() RETURNS text LANGUAGE sql AS $$ SELECT E'\\.' $$;
SELECT lo_from_bytea(4242, decode(repeat('5c2e0a', 500), 'hex'));
"#;

fn shop() -> Postgres {
    let postgres = Postgres::start();
    postgres.sql("postgres", "CREATE DATABASE shop");
    postgres.sql("shop", SHOP);
    postgres
}

/// A backup as the job made it, to be damaged again and again.
struct Kept {
    bench: Bench,
    directory: PathBuf,
    manifest: Manifest,
    bytes: Vec<u8>,
}

impl Kept {
    async fn of(postgres: &Postgres, database: &str, more: &str) -> Self {
        let mut bench = Bench::new().await;
        bench.connections.insert("app".into(), postgres.connection(database));
        let directory = bench.path("dumps");
        bench.run(&options(&directory, more)).await.unwrap();
        let manifest = manifest(&directory);
        let bytes = std::fs::read(directory.join(&manifest.file)).unwrap();
        Self { bench, directory, manifest, bytes }
    }

    fn file(&self) -> PathBuf {
        self.directory.join(&self.manifest.file)
    }

    fn manifest_file(&self) -> PathBuf {
        self.directory.join(names::manifest_of(&self.manifest.file))
    }

    fn put(&self, bytes: &[u8], manifest: &Manifest) {
        std::fs::write(self.file(), bytes).unwrap();
        std::fs::write(self.manifest_file(), manifest.to_json()).unwrap();
    }

    /// Says what the bytes are, and of `text`, which they hold, how long it is.
    fn recomputed(&self, bytes: &[u8], text: usize) -> Manifest {
        Manifest {
            bytes: bytes.len() as u64,
            sha256: sha256(bytes),
            uncompressed_bytes: text as u64,
            ..self.manifest.clone()
        }
    }

    async fn judge_file(&self, file: &Path, keys: Option<&Identities>) -> Verdict {
        verify::judge(&self.bench.context().work(), file, keys, &Readers::default(), Progress::default())
            .await
            .unwrap()
    }

    /// Of these bytes, which must be refused.
    async fn reasons(&self, bytes: &[u8], manifest: &Manifest) -> Vec<String> {
        self.put(bytes, manifest);
        let verdict = self.judge_file(&self.file(), None).await;
        assert!(!verdict.good(), "{} bytes are taken for good", bytes.len());
        verdict.reasons().into_iter().map(str::to_owned).collect()
    }

    fn recorded(&self) -> (State, Vec<String>) {
        let manifest = Manifest::parse(&std::fs::read(self.manifest_file()).unwrap()).unwrap();
        let events = manifest.proof.events.iter().skip(1);
        (manifest.proof.state, events.map(|event| event.how.clone()).collect())
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
