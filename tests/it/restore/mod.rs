//! What the product dumps is restored by it: `restore db` and `verify_backup` against a real PostgreSQL.

mod bare;
mod encodings;
mod everything;
mod forms;
mod inside;
mod proof;
mod swap;
mod trouble;

use std::path::PathBuf;
use std::process::Output;

use punk_eco_sched::backup::manifest::Manifest;

use crate::support::daemon::text;
use crate::support::postgres::Postgres;
use crate::support::shop::{self, Server};

pub(super) type Shop = shop::Shop<Postgres>;

/// What makes a restore hard, beside what [`crate::pg_dump::SHOP`] has; `shop.slow` holds a restore up for so many seconds.
const AWKWARD: &str = r#"
CREATE EXTENSION pg_trgm;
CREATE EXTENSION pgcrypto;
CREATE SEQUENCE "N°" START 7000 INCREMENT 7;
SELECT nextval('"N°"');
CREATE TABLE stock (id serial PRIMARY KEY, sku text UNIQUE CHECK (sku <> ''), sale int REFERENCES sellers);
CREATE INDEX ON stock USING gin (sku gin_trgm_ops);
CREATE TABLE changes (at timestamptz DEFAULT now(), what text);
CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO changes (what) VALUES ('COPY public.x (a) FROM stdin;'); RETURN NEW; END $$;
CREATE TRIGGER noted AFTER INSERT ON stock FOR EACH ROW EXECUTE FUNCTION noted();
INSERT INTO stock (sku, sale) SELECT 'é''"\' || n || E'\t\n', 1 FROM generate_series(1, 300) n;
CREATE FUNCTION pause() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
  PERFORM pg_sleep(coalesce(nullif(current_setting('shop.slow', true), ''), '0')::float8); RETURN 1; END $$;
CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS n, public.pause() AS paused FROM stock;
"#;

pub(super) trait Restoring {
    fn dumped(&self) -> PathBuf;
    fn restore(&self, more: &[&str]) -> Output;
    fn restore_well(&self, more: &[&str]) -> String;
    fn restore_badly(&self, code: i32, more: &[&str]) -> String;
    fn databases(&self) -> Vec<String>;
    fn fill(&self);
    fn table_with(&self, dump: &str, verify: &str);
}

impl<S: Server> Restoring for shop::Shop<S> {
    /// The job's dump: its file.
    fn dumped(&self) -> PathBuf {
        let row = self.run();
        assert_eq!(row["outcome"], "succeeded", "{row:#}");
        self.directory().join(row["facts"]["file"].as_str().unwrap())
    }

    /// `restore db` to the job's connection.
    fn restore(&self, more: &[&str]) -> Output {
        self.host.cli(&[&["restore", "db", "--connection", "app"], more].concat())
    }

    /// What it prints.
    fn restore_well(&self, more: &[&str]) -> String {
        let output = self.restore(more);
        assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    /// What it says is wrong.
    fn restore_badly(&self, code: i32, more: &[&str]) -> String {
        let output = self.restore(more);
        assert_eq!(output.status.code(), Some(code), "{}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stderr)
    }

    /// Beside those of every server.
    fn databases(&self) -> Vec<String> {
        let query = "SELECT datname FROM pg_database WHERE datname NOT IN ('postgres', 'template0', 'template1') ORDER BY 1";
        self.server.sql("postgres", query).lines().map(str::to_owned).collect()
    }

    fn fill(&self) {
        let shop = crate::pg_dump::SHOP.replace("generate_series(1, 1000000)", "generate_series(1, 2000)");
        self.server.sql("shop", &shop);
        self.server.sql("shop", "CREATE TABLE sellers (id int PRIMARY KEY); INSERT INTO sellers VALUES (1)");
        self.server.sql("shop", AWKWARD);
    }

    /// As [`shop::Shop::table`], with a job `db-verify` beside the dump.
    fn table_with(&self, dump: &str, verify: &str) {
        self.table("", dump, "");
        let table = std::fs::read_to_string(self.host.config()).unwrap();
        let verify = format!("  db-verify:\n    verify_backup: {{ of: db-backup{verify} }}\n");
        std::fs::write(self.host.config(), table.trim_end().to_owned() + "\n" + &verify).unwrap();
    }
}

fn manifest(dump: &std::path::Path) -> Manifest {
    let name = punk_eco_sched::backup::names::manifest_of(dump.file_name().unwrap().to_str().unwrap());
    Manifest::parse(&std::fs::read(dump.with_file_name(name)).unwrap()).unwrap()
}

/// The one that begins so.
fn beginning<'a>(names: &'a [String], begin: &str) -> &'a str {
    let mut found = names.iter().filter(|name| name.starts_with(begin));
    let (Some(one), None) = (found.next(), found.next()) else { panic!("one {begin}…: {names:?}") };
    one
}
