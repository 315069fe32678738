-- The roles that Cleave uses in a Pod's PostgreSQL. Run it as a superuser, in the Pod's database, as often as you like:
--   psql -d app -v ON_ERROR_STOP=1 -f roles.sql
-- It sets no passwords: \password cleave, \password cleave_reader.
--
-- `cleave` is the agent's role, and has to be a superuser. What needs it:
--   * event triggers, which cover DDL at the fence, can be made by superusers alone;
--   * the guard's functions belong to a superuser, so that no owner of a table can replace them, and its triggers are
--     ENABLE ALWAYS, so that they hold for sessions with session_replication_role = replica;
--   * stragglers are terminated at the fence whoever they are, superusers included;
--   * replication origins and applying changes with session_replication_role, for moves and the way back;
--   * pg_promote(), reading settings, and base backups and slots of the source, for other Pods' agents.
-- What keeps it small instead: few connections, and pg_hba.conf lines that let it in from the agents alone, with TLS:
--   hostssl app         cleave  10.0.0.0/24  scram-sha-256
--   hostssl replication cleave  10.0.0.0/24  scram-sha-256
--   host    all         cleave  all          reject
--
-- `cleave_reader` is for people and checks that only look: `cleave analyze`, `cleave measure`, an operator's own queries.

DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'cleave') THEN
    CREATE ROLE cleave;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'cleave_reader') THEN
    CREATE ROLE cleave_reader;
  END IF;
END
$$;

ALTER ROLE cleave WITH LOGIN SUPERUSER REPLICATION NOCREATEDB NOCREATEROLE CONNECTION LIMIT 64;

ALTER ROLE cleave_reader WITH LOGIN NOSUPERUSER NOREPLICATION NOCREATEDB NOCREATEROLE NOBYPASSRLS CONNECTION LIMIT 8;
ALTER ROLE cleave_reader SET default_transaction_read_only = on;
ALTER ROLE cleave_reader SET statement_timeout = '10min';
GRANT pg_read_all_data, pg_monitor TO cleave_reader;
