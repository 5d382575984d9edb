-- All that an application could miss of the database of fill.sql, as lines of text that are the same where the databases
-- are: asked of the server, not taken from a dump. For psql -X -q -A -t.
\set ON_ERROR_STOP on
SET standard_conforming_strings = on;
SET DateStyle = ISO;
SET IntervalStyle = postgres;
SET extra_float_digits = 1;
SET bytea_output = hex;
SET TimeZone = UTC;
SET statement_timeout = 0;
SET default_transaction_isolation = 'read committed';
SET search_path = '';
SET enable_indexscan = off;
SET enable_bitmapscan = off;

-- Each table by itself: its rows, and a sum over the hash of each, whatever their order.
SELECT format('SELECT ''table '' || %L, count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0) FROM ONLY %s t', c.oid::regclass, c.oid::regclass)
FROM pg_class c WHERE c.relkind IN ('r', 'm') AND c.relispopulated AND c.relpersistence <> 't' AND c.relnamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema')
  AND c.relnamespace::regnamespace::text NOT LIKE 'pg\_toast%'
ORDER BY c.oid::regclass::text COLLATE "C" \gexec
SELECT 'large object', m.oid, lomowner::regrole, lomacl, length(lo_get(m.oid)), md5(lo_get(m.oid)), obj_description(m.oid, 'pg_largeobject') FROM pg_largeobject_metadata m ORDER BY m.oid;
SELECT format('SELECT ''sequence '' || %L, last_value, is_called, %L FROM %s', c.oid::regclass, row(s.seqtypid::regtype, seqstart, seqincrement, seqmax, seqmin, seqcache, seqcycle), c.oid::regclass)
FROM pg_class c JOIN pg_sequence s ON s.seqrelid = c.oid ORDER BY c.oid::regclass::text COLLATE "C" \gexec
SELECT 'relation', c.oid::regclass, relkind, relpersistence, relowner::regrole, relacl, relrowsecurity, relforcerowsecurity, relispopulated, relreplident, reloptions,
  pg_get_expr(relpartbound, c.oid), pg_get_partkeydef(c.oid), obj_description(c.oid, 'pg_class'), CASE WHEN relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END
FROM pg_class c WHERE relkind NOT IN ('i', 'I', 't') AND c.oid >= 16384 AND relnamespace::regnamespace::text NOT LIKE 'pg\_%' ORDER BY c.oid::regclass::text COLLATE "C";
SELECT 'column', attrelid::regclass, attname, format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated, attstorage, attcompression, attcollation::regcollation, attacl, nullif(to_jsonb(a) ->> 'attstattarget', '-1'),
  pg_get_expr(adbin, adrelid), col_description(attrelid, attnum)
FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid LEFT JOIN pg_attrdef d ON (adrelid, adnum) = (attrelid, attnum)
WHERE attnum > 0 AND NOT attisdropped AND relkind IN ('r', 'p', 'v', 'm', 'f') AND c.oid >= 16384 AND relnamespace::regnamespace::text NOT LIKE 'pg\_%' ORDER BY attrelid::regclass::text COLLATE "C", attname COLLATE "C";
SELECT 'index', indexrelid::regclass, pg_get_indexdef(indexrelid), indisvalid, indisclustered, indisreplident FROM pg_index JOIN pg_class c ON c.oid = indrelid WHERE indexrelid >= 16384 AND c.relkind <> 't' ORDER BY indexrelid::regclass::text COLLATE "C";
SELECT 'constraint', conrelid::regclass, contypid::regtype, conname, pg_get_constraintdef(oid), convalidated FROM pg_constraint WHERE oid >= 16384 ORDER BY conrelid::regclass::text COLLATE "C", conname COLLATE "C", 4;
SELECT 'trigger', pg_get_triggerdef(oid), tgenabled FROM pg_trigger WHERE NOT tgisinternal ORDER BY 2;
SELECT 'event trigger', evtname, evtevent, evtowner::regrole, evtfoid::regproc, evtenabled, evttags FROM pg_event_trigger ORDER BY 2;
SELECT 'rule', pg_get_ruledef(oid) FROM pg_rewrite WHERE rulename <> '_RETURN' AND oid >= 16384 ORDER BY 2;
-- What a type of ranges brings with it has no rights of its own in a dump.
SELECT 'function', oid::regprocedure, proowner::regrole, proacl, prokind, md5(CASE WHEN prokind IN ('f', 'p') THEN pg_get_functiondef(oid) END), obj_description(oid, 'pg_proc') FROM pg_proc p WHERE oid >= 16384 AND pronamespace::regnamespace::text NOT LIKE 'pg\_%'
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'i') ORDER BY oid::regprocedure::text COLLATE "C";
SELECT 'policy', polrelid::regclass, polname, polcmd, polpermissive, (SELECT array_agg(r::regrole::text ORDER BY r::regrole::text) FROM unnest(polroles) r), pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid) FROM pg_policy ORDER BY polrelid::regclass::text COLLATE "C", polname;
SELECT 'type', oid::regtype, typtype, typowner::regrole, typacl, (SELECT array_agg(enumlabel ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = t.oid), typdefault FROM pg_type t WHERE oid >= 16384 AND typtype IN ('e', 'd', 'r', 'c') AND typnamespace::regnamespace::text NOT LIKE 'pg\_%' ORDER BY oid::regtype::text COLLATE "C";
SELECT 'schema', nspname, nspowner::regrole, nspacl, obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname NOT LIKE 'pg\_%' ORDER BY nspname COLLATE "C";
SELECT 'extension', extname, extversion, extnamespace::regnamespace FROM pg_extension ORDER BY 2;
SELECT 'default privileges', defaclrole::regrole, defaclnamespace::regnamespace, defaclobjtype, defaclacl FROM pg_default_acl ORDER BY 2, 3, 4;
SELECT 'statistics', stxname, pg_get_statisticsobjdef(oid) FROM pg_statistic_ext ORDER BY 2;
SELECT 'publication', pubname, puballtables, pubinsert, pubdelete, (SELECT array_agg(prrelid::regclass::text ORDER BY prrelid::regclass::text) FROM pg_publication_rel WHERE prpubid = p.oid) FROM pg_publication p ORDER BY 2;
SELECT 'subscription', subname, subowner::regrole, subenabled, subslotname, subpublications FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 2;
SELECT 'foreign', srvname, srvoptions, (SELECT array_agg(option ORDER BY option) FROM pg_user_mappings u, unnest(u.umoptions) option WHERE u.srvid = s.oid) FROM pg_foreign_server s ORDER BY 2;
SELECT 'collation', collname, collowner::regrole FROM pg_collation WHERE oid >= 16384;
SELECT 'database', datdba::regrole, datacl, datconnlimit, datallowconn, datistemplate, pg_encoding_to_char(encoding), datcollate, datctype, dattablespace, to_jsonb(d) ->> 'datlocprovider', coalesce(to_jsonb(d) ->> 'daticulocale', to_jsonb(d) ->> 'datlocale'), shobj_description(oid, 'pg_database'),
  (SELECT array_agg((setrole::regrole::text, setconfig) ORDER BY setrole) FROM pg_db_role_setting WHERE setdatabase = d.oid)
FROM pg_database d WHERE datname = current_database();
SELECT 'role', rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolconnlimit, rolvaliduntil, rolbypassrls, md5(rolpassword), shobj_description(oid, 'pg_authid'), (SELECT setconfig FROM pg_db_role_setting WHERE setrole = a.oid AND setdatabase = 0),
  (SELECT array_agg((roleid::regrole, admin_option) ORDER BY roleid::regrole::text) FROM pg_auth_members WHERE member = a.oid)
FROM pg_authid a WHERE oid >= 16384 ORDER BY 2;

-- What the extensions made works.
SELECT to_regprocedure('extensions.similarity(text,text)') IS NOT NULL AS extensions \gset
\if :extensions
SELECT 'alike', id, similarity FROM public.alike ORDER BY 2;
SELECT 'encrypted', count(*) FROM public.searched WHERE password = public.crypt('of ' || id, password) AND hash = public.digest(id::text, 'sha256');
\else
SELECT 'no extensions';
\endif
SELECT 'functions', public.twice(21), (SELECT public.product(n) FROM unnest('{2,3,7}'::float8[]) n), 1 OPERATOR(public.#+#) 2, 'sad'::public.mood;
