-- What a bad day does to the database of fill.sql: tables dropped, rows deleted and changed, an extension gone, large
-- objects unlinked, a sequence set back, a stranger's table. What is there after is no longer what was dumped.
\set ON_ERROR_STOP on
SET client_min_messages = error;
SET standard_conforming_strings = on;
DROP PUBLICATION everything;
DROP EXTENSION IF EXISTS pg_trgm CASCADE;
DROP TABLE guests, hens, eggs CASCADE;
DROP TABLE ordinary_1;
DROP SCHEMA "Boutique ""é""" CASCADE;
DELETE FROM awkward WHERE id % 2 = 0;
UPDATE typed SET place = NULL, jsonb = '{}';
UPDATE secrets SET body = 'overwritten';
TRUNCATE events CASCADE;
SELECT lo_unlink(oid) FROM pg_largeobject_metadata WHERE oid >= 10000 \g /dev/null
SELECT setval('"N°"', 1 + 7000) \g /dev/null
DROP EVENT TRIGGER commanded;
CREATE TABLE wreck AS SELECT 'damaged' AS body;
