-- A database with everything that a dump and a restore can stumble over, and as many ordinary tables and rows as asked:
-- for scripts/cycle, and for the tests in a small size. For psql, as superuser, in an empty database:
--
--     psql -v tables=200 -v megabytes=2000 -v row_megabytes=30 -v objects=500 -f fill.sql
--
-- tables: ordinary tables beside the odd ones; megabytes: what they hold together; row_megabytes: one row as long as that;
-- objects: small large objects beside the odd ones.
\set ON_ERROR_STOP on
SELECT current_database() AS database \gset
SET client_min_messages = error;

-- Roles, and what they may.
CREATE ROLE cycle_owner LOGIN PASSWORD 'p4ss of the owner';
CREATE ROLE "Vendeur ""é"" 100%" LOGIN PASSWORD 'p4ss of a seller' VALID UNTIL '2040-01-01' CONNECTION LIMIT 5;
CREATE ROLE cycle_readers NOLOGIN;
COMMENT ON ROLE cycle_readers IS E'they read; \\ ''nothing''\n-- more';
GRANT cycle_readers TO "Vendeur ""é"" 100%" WITH ADMIN OPTION;
ALTER ROLE cycle_readers SET work_mem = '9MB';

-- The database itself: what a dump of it doesn't hold.
ALTER DATABASE :"database" OWNER TO cycle_owner;
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
GRANT CONNECT, TEMP ON DATABASE :"database" TO cycle_readers WITH GRANT OPTION;
ALTER DATABASE :"database" SET search_path TO "$user", public, "Boutique ""é""";
ALTER DATABASE :"database" SET "cycle.greeting" TO 'it''s \ an "é" = %';
ALTER DATABASE :"database" SET DateStyle TO 'German, DMY';
ALTER DATABASE :"database" SET IntervalStyle TO 'iso_8601';
ALTER DATABASE :"database" SET TimeZone TO 'Africa/Casablanca';
ALTER DATABASE :"database" SET bytea_output TO 'escape';
ALTER DATABASE :"database" SET extra_float_digits TO -5;
ALTER DATABASE :"database" SET standard_conforming_strings TO off;
ALTER DATABASE :"database" SET default_transaction_isolation TO 'serializable';
ALTER DATABASE :"database" SET statement_timeout TO '20min';
ALTER ROLE cycle_readers IN DATABASE :"database" SET statement_timeout TO '9s';
ALTER DATABASE :"database" CONNECTION LIMIT 40;
COMMENT ON DATABASE :"database" IS 'the shop''s \ own';
ALTER DEFAULT PRIVILEGES FOR ROLE cycle_owner GRANT SELECT ON TABLES TO cycle_readers;
ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO cycle_owner;

-- Schemas and names that need quotes.
CREATE SCHEMA "Boutique ""é""" AUTHORIZATION cycle_owner;
CREATE SCHEMA "select" AUTHORIZATION cycle_owner;
CREATE SCHEMA "a.b; 100% \ $$";
CREATE SCHEMA extensions;
COMMENT ON SCHEMA "select" IS 'COPY public.ghost (a) FROM stdin;';
GRANT USAGE ON SCHEMA "Boutique ""é""", extensions TO cycle_readers;
ALTER DEFAULT PRIVILEGES IN SCHEMA "Boutique ""é""" GRANT INSERT ON TABLES TO cycle_readers;
CREATE TABLE "Boutique ""é"""."Commandes; FROM stdin" (id int PRIMARY KEY, "prix (€)" numeric, U&"no\0009e" text);
INSERT INTO "Boutique ""é"""."Commandes; FROM stdin" VALUES
    (1, 9.99, E'\\.'), (2, NULL, E'a\nb\t\\.\n'), (3, 'NaN', 'COPY public.x (a) FROM stdin;'), (4, 0, ''), (5, 0, NULL), (6, 0, '\N');
ALTER TABLE "Boutique ""é"""."Commandes; FROM stdin" OWNER TO "Vendeur ""é"" 100%";
CREATE TABLE "select"."from" ("where" int, "a""b" text, "100%" text, "tab	" text, "new
line" text);
INSERT INTO "select"."from" SELECT n, n, n, n, n FROM generate_series(1, 17) n;
CREATE TABLE "a.b; 100% \ $$"."it's, (a ""table"") \ of
two lines; $x$ -- /*" (id int, "FROM stdin;" text);
INSERT INTO "a.b; 100% \ $$"."it's, (a ""table"") \ of
two lines; $x$ -- /*" SELECT n, E'\\.' FROM generate_series(1, 23) n;

-- Extensions, where the server has them: their own objects aren't in a dump, what uses them is.
SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_trgm') AND EXISTS (SELECT FROM pg_available_extensions
    WHERE name = 'pgcrypto') AS extensions \gset
\if :extensions
CREATE EXTENSION pg_trgm SCHEMA extensions;
CREATE EXTENSION pgcrypto;
CREATE TABLE searched (id int PRIMARY KEY, name text, hash bytea DEFAULT digest('', 'sha256'),
    password text CHECK (password = crypt('of ' || id, password)));
INSERT INTO searched SELECT n, 'name of ' || md5(n::text), digest(n::text, 'sha256'), crypt('of ' || n, gen_salt('des')) FROM generate_series(1, 200) n;
CREATE INDEX searched_name ON searched USING gin (name extensions.gin_trgm_ops);
CREATE VIEW alike AS SELECT a.id, extensions.similarity(a.name, 'name of 1') FROM searched a WHERE a.name OPERATOR(extensions.%) 'name of 1';
\endif

-- Types.
CREATE TYPE mood AS ENUM ('sad', 'it''s \ "ok"', 'é, 😀');
CREATE DOMAIN positive AS int CHECK (VALUE > 0) DEFAULT 1;
CREATE TYPE place AS (street text, "house ""n°""" positive);
CREATE TYPE span AS RANGE (subtype = float8, subtype_diff = float8mi);
SELECT EXISTS (SELECT FROM pg_collation WHERE collname = 'fr-x-icu') AS icu \gset
\if :icu
CREATE COLLATION numbered (provider = icu, locale = 'fr-u-kn-true');
\else
CREATE COLLATION numbered FROM "C";
\endif
CREATE TABLE typed (
    id bigint GENERATED ALWAYS AS IDENTITY (START 100 INCREMENT 10), mood mood, place place, places place[], span span, positive positive,
    at timestamptz, day date, lasting interval, price numeric(12, 3), any_number numeric, real float4, double float8, money money,
    uuid uuid, json json, jsonb jsonb, words tsvector, address inet, bits varbit, point point, path path, xml xml, raw bytea, numbers int[][],
    "N°" text COLLATE numbered, kept text GENERATED ALWAYS AS (upper("N°")) STORED);
INSERT INTO typed (mood, place, places, span, positive, at, day, lasting, price, any_number, real, double, money, uuid, json, jsonb, words, address, bits, point, path, raw, numbers, "N°")
SELECT (enum_range(NULL::mood))[n % 3 + 1], ROW(E'rue "de" l''\\é, (x)\n', n)::place, ARRAY[ROW(NULL, 1)::place, NULL], span(n, n + 0.1), n,
    CASE n % 4 WHEN 0 THEN 'infinity' WHEN 1 THEN '-infinity' ELSE '2026-03-29 01:30:00+00'::timestamptz + n * interval '1 microsecond' END,
    CASE n % 3 WHEN 0 THEN 'infinity'::date WHEN 1 THEN '4713-01-01 BC'::date ELSE '5874897-12-31'::date END,
    make_interval(-n, n, 0, -n, n, 0, n * 1.000001), n / 7.0, CASE n % 3 WHEN 0 THEN 'NaN' ELSE power(n::numeric, 40) END,
    CASE n % 5 WHEN 0 THEN 'NaN' WHEN 1 THEN '-Infinity' ELSE n / 3.0::float4 END, CASE n % 5 WHEN 0 THEN '-0' ELSE n / 3.0::float8 END, n::money,
    md5(n::text)::uuid, '{"b": "\u0041", "a" :1.0}', '{"b": "\\.\n", "a": 1.00}', to_tsvector('french', 'les chats mangent n°' || n), '10.0.0.0/8'::inet + n, n::bit(12),
    point(n, -n / 3.0), '((0,0),(1,1))', decode(md5(n::text), 'hex'), ARRAY[[n, NULL], [2, 3]], 'N° ' || n
FROM generate_series(1, 300) n;

-- Every character that a text takes, every byte of bytea, and rows that look like the end of the data.
CREATE TABLE awkward (id serial PRIMARY KEY, body text, raw bytea);
INSERT INTO awkward (body, raw) SELECT chr(n), set_byte('\x00', 0, n % 256) FROM generate_series(1, 1024) n;
INSERT INTO awkward (body, raw) SELECT string_agg(chr(n), '' ORDER BY n), NULL FROM generate_series(1, 65533) n WHERE n NOT BETWEEN 55296 AND 57343;
INSERT INTO awkward (body) VALUES (E'\\.'), (E'\\N'), (''), (NULL), (E'\r'), (E'\r\n'), (E'\n\\.\n'), (E'\t\t'), (E'\\'), (E'\\\\.\\'), ('"'), (''''), ('$$'), (chr(65279)),
    (chr(1114111)), ('e' || chr(769)), (E'\\restrict x'), (E'\\connect postgres'), ('-- PostgreSQL database dump complete'), (E'\n--\n-- PostgreSQL database dump complete\n--\n');
INSERT INTO awkward (body) SELECT repeat(E'é\\\t\n', :row_megabytes * 200000) WHERE :row_megabytes > 0;
CREATE TABLE columnless ();
INSERT INTO columnless SELECT FROM generate_series(1, 5);
CREATE TABLE nothing (id int);
COMMENT ON TABLE nothing IS E'COPY public.ghost (a) FROM stdin;\n1\n\\.\n';
CREATE TABLE dropped (gone text, stays int, gone_too int);
INSERT INTO dropped SELECT 'x', n, n FROM generate_series(1, 40) n;
ALTER TABLE dropped DROP gone, DROP gone_too, ADD later text NOT NULL DEFAULT 'added \ later';
SELECT format('CREATE TABLE wide (%s)', string_agg(format('%I text', 'column ' || n), ', ')) FROM generate_series(1, 900) n \gexec
INSERT INTO wide ("column 1", "column 900") SELECT n, n FROM generate_series(1, 60) n;

-- Sequences.
CREATE SEQUENCE "N°" START 7000 INCREMENT 7;
SELECT nextval('"N°"') FROM generate_series(1, 3) \g /dev/null
CREATE SEQUENCE backwards AS smallint INCREMENT -3 MAXVALUE 100 MINVALUE -100 START 100 CACHE 5 CYCLE OWNED BY awkward.id;
SELECT nextval('backwards') \g /dev/null
CREATE SEQUENCE untouched START 42;
CREATE UNLOGGED TABLE unlogged (id smallint GENERATED BY DEFAULT AS IDENTITY, body text);
INSERT INTO unlogged (body) SELECT 'u' || n FROM generate_series(1, 70) n;

-- Partitions of partitions, in other schemas, by range, list and hash; inheritance.
CREATE TABLE events (id bigint NOT NULL, at date NOT NULL, place text NOT NULL, what text, PRIMARY KEY (id, at, place)) PARTITION BY RANGE (at);
CREATE TABLE events_2025 PARTITION OF events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01') PARTITION BY LIST (place);
CREATE TABLE events_2025_here PARTITION OF events_2025 FOR VALUES IN ('here', 'là');
CREATE TABLE "Boutique ""é""".events_2025_else PARTITION OF events_2025 DEFAULT;
CREATE TABLE events_2026 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01') PARTITION BY HASH (id);
CREATE TABLE events_2026_0 PARTITION OF events_2026 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE events_2026_1 PARTITION OF events_2026 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE events_else PARTITION OF events DEFAULT;
CREATE INDEX events_what ON events (what);
INSERT INTO events SELECT n, '2024-10-01'::date + n, (ARRAY['here', 'là', 'there'])[n % 3 + 1], 'e' || n FROM generate_series(1, 1000) n;
CREATE TABLE guests (event bigint, at date, place text, name text, FOREIGN KEY (event, at, place) REFERENCES events ON DELETE CASCADE);
INSERT INTO guests SELECT id, at, place, 'guest' FROM events WHERE id % 2 = 0;
CREATE TABLE parent (id int, body text);
CREATE TABLE child (more int) INHERITS (parent);
INSERT INTO parent SELECT n, 'p' FROM generate_series(1, 11) n;
INSERT INTO child SELECT n, 'c', n FROM generate_series(1, 13) n;

-- What refers to each other, and constraints.
CREATE TABLE hens (id int PRIMARY KEY, egg int);
CREATE TABLE eggs (id int PRIMARY KEY, hen int REFERENCES hens DEFERRABLE INITIALLY DEFERRED);
INSERT INTO hens SELECT n, n FROM generate_series(1, 20) n;
INSERT INTO eggs SELECT n, n FROM generate_series(1, 20) n;
ALTER TABLE hens ADD FOREIGN KEY (egg) REFERENCES eggs;
CREATE TABLE booked (during tsrange, note text, EXCLUDE USING gist (during WITH &&));
INSERT INTO booked SELECT tsrange('2026-01-01'::timestamp + n * interval '1 hour', '2026-01-01'::timestamp + (n + 1) * interval '1 hour') FROM generate_series(1, 50) n;
INSERT INTO booked (note) VALUES ('short');
ALTER TABLE booked ADD CONSTRAINT long CHECK (length(note) > 10) NOT VALID;
CREATE INDEX booked_partial ON booked (upper(note) DESC NULLS LAST) INCLUDE (during) WHERE note IS NOT NULL;
CREATE STATISTICS typed_statistics (dependencies, mcv) ON mood, positive FROM typed;
ALTER TABLE typed ALTER jsonb SET STORAGE EXTERNAL, ALTER json SET COMPRESSION pglz, ALTER id SET STATISTICS 500, SET (fillfactor = 70, autovacuum_enabled = off);
ALTER TABLE awkward REPLICA IDENTITY FULL;
ALTER TABLE hens CLUSTER ON hens_pkey;

-- Functions, triggers, rules.
CREATE TABLE changes (at timestamptz DEFAULT now(), what text);
CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $_$ BEGIN
  INSERT INTO changes (what) VALUES ($$
COPY public.ghost (a) FROM stdin;
1
\.
$$ || TG_NAME); RETURN NEW; END $_$;
CREATE TRIGGER noted AFTER INSERT OR UPDATE ON hens FOR EACH ROW EXECUTE FUNCTION noted();
CREATE TRIGGER "noted ""too""" AFTER INSERT ON eggs FOR EACH STATEMENT EXECUTE FUNCTION noted();
CREATE CONSTRAINT TRIGGER noted_late AFTER INSERT ON eggs DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.id > 0) EXECUTE FUNCTION noted();
CREATE TRIGGER noted_on_partitions AFTER INSERT ON events FOR EACH ROW EXECUTE FUNCTION noted();
ALTER TABLE hens ENABLE ALWAYS TRIGGER noted;
ALTER TABLE eggs DISABLE TRIGGER "noted ""too""";
CREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE BEGIN ATOMIC SELECT n * 2; END;
CREATE PROCEDURE clear_changes() LANGUAGE sql AS 'DELETE FROM changes';
CREATE AGGREGATE product (float8) (SFUNC = float8mul, STYPE = float8, INITCOND = '1');
CREATE OPERATOR #+# (LEFTARG = int, RIGHTARG = int, FUNCTION = int4pl);
CREATE CAST (mood AS int) WITH INOUT;
CREATE TEXT SEARCH CONFIGURATION shop (COPY = french);
CREATE INDEX hens_twice ON hens (twice(id));
CREATE VIEW hens_and_eggs WITH (security_barrier) AS SELECT h.id, e.id AS egg, twice(h.id) FROM hens h JOIN eggs e ON e.hen = h.id WHERE h.id < 10;
CREATE VIEW updatable AS SELECT id, egg FROM hens WHERE id > 5 WITH CASCADED CHECK OPTION;
CREATE RULE kept AS ON DELETE TO parent WHERE OLD.id = 1 DO INSTEAD NOTHING;
CREATE MATERIALIZED VIEW counted AS SELECT place, count(*) AS n FROM events GROUP BY place;
CREATE UNIQUE INDEX counted_place ON counted (place);
CREATE MATERIALIZED VIEW counted_again AS SELECT sum(n) AS n FROM counted;
CREATE MATERIALIZED VIEW never AS SELECT * FROM counted WITH NO DATA;
COMMENT ON COLUMN hens.egg IS E'-- \\. ;\n';
COMMENT ON FUNCTION twice IS $$'; DROP TABLE hens; --$$;

-- Who sees what.
CREATE TABLE secrets (id int, owner name DEFAULT current_user, body text);
INSERT INTO secrets SELECT n, CASE n % 2 WHEN 0 THEN 'cycle_owner' ELSE 'nobody' END, 's' || n FROM generate_series(1, 90) n;
ALTER TABLE secrets OWNER TO cycle_owner;
ALTER TABLE secrets ENABLE ROW LEVEL SECURITY;
ALTER TABLE secrets FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON secrets TO cycle_owner, cycle_readers USING (owner = current_user) WITH CHECK (id > 0);
CREATE POLICY "nobody's" ON secrets AS RESTRICTIVE FOR DELETE USING (false);
GRANT SELECT (id, body), UPDATE (body) ON secrets TO cycle_readers WITH GRANT OPTION;
REVOKE ALL ON FUNCTION twice FROM PUBLIC;
GRANT USAGE ON SEQUENCE "N°" TO "Vendeur ""é"" 100%";

-- What reaches beyond the database.
CREATE FOREIGN DATA WRAPPER elsewhere OPTIONS (debug 'true');
CREATE SERVER there FOREIGN DATA WRAPPER elsewhere OPTIONS (host 'it''s', port '1');
CREATE USER MAPPING FOR cycle_owner SERVER there OPTIONS ("user" 'x', password 'p4ss of elsewhere');
CREATE FOREIGN TABLE foreign_one (id int, body text) SERVER there OPTIONS (table_name 'x');
CREATE PUBLICATION everything FOR ALL TABLES;
CREATE PUBLICATION "some" FOR TABLE hens, eggs WITH (publish = 'insert');
CREATE SUBSCRIPTION from_elsewhere CONNECTION 'host=127.0.0.1 port=1 dbname=none password=''p4ss of elsewhere''' PUBLICATION them WITH (connect = false);

-- Large objects.
SELECT lo_from_bytea(4242, decode(repeat('5c2e0a', 70000), 'hex')), lo_from_bytea(4243, ''), lo_from_bytea(4244, '\x00') \g /dev/null
SELECT lo_from_bytea(10000 + n, decode(repeat(md5(n::text), 1 + n % 200), 'hex')) FROM generate_series(1, :objects) n \g /dev/null
SELECT lo_put(4245, 5000000, '\xff') FROM lo_create(4245) \g /dev/null
ALTER LARGE OBJECT 4242 OWNER TO cycle_owner;
GRANT SELECT ON LARGE OBJECT 4242 TO cycle_readers;
COMMENT ON LARGE OBJECT 4243 IS 'an empty \ one';

-- The ordinary tables: text of as many different words as a shop has, numbers, times; the first holds a quarter of it all.
CREATE TEMPORARY TABLE lines AS
SELECT n AS id, (SELECT string_agg(substr(md5((n * 31 + w * w)::text || (('x' || substr(md5((n * 37 + w)::text), 1, 6))::bit(24)::int % 3000)), 1, 2 + w % 7), ' ') FROM generate_series(1, 25) w) AS body
FROM generate_series(1, 20000) n;
CREATE INDEX ON lines (id);
ANALYZE lines;
SELECT format('CREATE TABLE ordinary_%s (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer int NOT NULL, at timestamptz DEFAULT now(), price numeric(10, 2), body text)', n)
FROM generate_series(1, :tables) n \gexec
SELECT format($$INSERT INTO ordinary_%s (customer, at, price, body)
  SELECT n * 7919 %% 400000, '2026-01-01'::timestamptz + n * interval '61 seconds', (n * 7907 %% 999999) / 100.0, a.body || ' ' || b.body || ' ' || n
  FROM generate_series(1::bigint, %s) n JOIN lines a ON a.id = n * 7901 %% 20000 + 1 JOIN lines b ON b.id = (n + %s) * 7817 %% 20000 + 1$$,
  n, :megabytes * 1000000::bigint / 340 / (CASE n WHEN 1 THEN 4 ELSE greatest(:tables - 1, 1) / 0.75 END)::numeric::int, n)
FROM generate_series(1, :tables) n WHERE :megabytes > 0 \gexec
DROP TABLE lines;

-- The last: it fires for whatever comes after.
CREATE TABLE commands (tag text);
CREATE FUNCTION commanded() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.commands VALUES (tg_tag); END $$;
CREATE EVENT TRIGGER commanded ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'DROP TABLE') EXECUTE FUNCTION commanded();
