/** Names of what the guard makes in the database. */
import { createHash } from "node:crypto";
import { IDENTITY_TRIGGERS } from "../replication/replica-identity.ts";
import { quoteIdentifier, quoteLiteral } from "../server/queryable.ts";
import { NAMES_TABLES, NAMES_TRIGGERS } from "./marks.ts";
import { JOURNAL_TABLES, JOURNAL_TRIGGERS } from "./schema-journal.ts";

/** First key of every advisory lock of Cleave; the second is the hash of the migration's id. */
export const LOCK_CLASS = 1_129_072_961;

/** SQL for the two keys of the lock under which the guard is installed, changed and removed. */
export const INSTALL_KEYS = `${LOCK_CLASS}, 0`;

/** SQL for the two keys of a migration's lock. `migration` is SQL too. */
export function lockKeys(migration: string): string {
  return `${LOCK_CLASS}, pg_catalog.hashtext(${migration})`;
}

/**
 * SQL for the two keys of the lock that every change of a migration's shares takes before it looks at them. The server goes
 * on with a commit whose agent died or gave up waiting, so whoever comes next could compare with shares that are about to
 * be others. Taken behind the migration's lock, where both are needed; nobody waits for that one while holding this.
 */
export function flipLockKeys(migration: string): string {
  return `${LOCK_CLASS + 1}, pg_catalog.hashtext(${migration})`;
}

/**
 * BEFORE triggers fire in the order of their names, and this one has to see the row as the others leave it:
 * `~` sorts behind every ASCII letter (the catalog check looks for names that sort behind it).
 */
export const ROW_TRIGGER = "~cleave_guard";
export const TRUNCATE_TRIGGER = "~cleave_guard_truncate";
export const TRIGGER = { row: quoteIdentifier(ROW_TRIGGER), truncate: quoteIdentifier(TRUNCATE_TRIGGER) };

/**
 * DDL is judged when it is done, for only then it is known whether it was about temporary objects alone. What could
 * take the judge away before that is judged when it begins.
 */
export const EVENT_TRIGGERS = [
  {
    name: "cleave_guard_start",
    event: `ddl_command_start WHEN TAG IN ('CREATE FUNCTION', 'ALTER FUNCTION', 'ALTER ROUTINE', 'DROP FUNCTION', 'DROP ROUTINE', 'ALTER SCHEMA', 'DROP SCHEMA', 'DROP OWNED')`,
    procedure: "guard_start",
  },
  { name: "cleave_guard_ddl", event: "ddl_command_end", procedure: "guard_ddl" },
  { name: "cleave_guard_drop", event: "sql_drop", procedure: "guard_drop" },
  ...IDENTITY_TRIGGERS,
  ...JOURNAL_TRIGGERS,
  ...NAMES_TRIGGERS,
] as const;

/**
 * The role under which a move's rows are written to the Pod that they go to, where the guard refuses them to everybody
 * else until it opens. Nobody logs in as it: a superuser's session takes it on.
 */
export const APPLY_ROLE = "cleave_apply";

/** The owner of a row that says itself that it belongs to no organization. It has no route, so such rows are the default Pod's. */
export const NOBODY = "";

/** Name of a table's own guard function: free of whatever the table's name may contain. */
export function guardFunctionName(table: string): string {
  return `guard_${createHash("sha256").update(table).digest("hex").slice(0, 24)}`;
}

/** Where a move's target remembers how far its copy is; made with the guard, which lets nobody alter a Pod that does not serve yet. */
export const COPY_TABLES = `
CREATE TABLE IF NOT EXISTS cleave.copying (migration text PRIMARY KEY, snapshot text NOT NULL, lsn text NOT NULL);
CREATE TABLE IF NOT EXISTS cleave.copied (
  migration text, "table" text, range text,
  upto text, done boolean NOT NULL DEFAULT false, rows int8 NOT NULL DEFAULT 0, bytes int8 NOT NULL DEFAULT 0,
  estimated_rows int8 NOT NULL, estimated_bytes int8 NOT NULL,
  PRIMARY KEY (migration, "table", range));
`;

/** For a schema of an earlier version. Where the columns are there, no lock is asked for, which writers would queue behind. */
function addColumns(table: string, columns: Readonly<Record<string, string>>): string {
  const each = Object.entries(columns).map(
    ([name, type]) =>
      `IF NOT EXISTS (SELECT FROM pg_catalog.pg_attribute WHERE attrelid = 'cleave.${table}'::pg_catalog.regclass AND attname = '${name}') THEN ALTER TABLE cleave.${table} ADD COLUMN ${name} ${type}; END IF;`,
  );
  return `DO LANGUAGE plpgsql $add$ BEGIN ${each.join(" ")} END $add$;`;
}

/** As above: only where it is not so yet. */
function replicaIdentityFull(table: string): string {
  return `DO LANGUAGE plpgsql $full$ BEGIN IF (SELECT relreplident FROM pg_catalog.pg_class WHERE oid = 'cleave.${table}'::pg_catalog.regclass) <> 'f' THEN ALTER TABLE cleave.${table} REPLICA IDENTITY FULL; END IF; END $full$;`;
}

export const CREATE_SCHEMA = `
CREATE SCHEMA IF NOT EXISTS cleave;
REVOKE ALL ON SCHEMA cleave FROM PUBLIC;
CREATE TABLE IF NOT EXISTS cleave.pod (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  default_pod_id text NOT NULL,
  -- Grows with every flip of a share; together with the sequence below it tells an old snapshot from a current one.
  generation bigint NOT NULL DEFAULT 0,
  -- Changes of the schema that are no rows of the journal any more.
  forgotten_changes bigint NOT NULL DEFAULT 0
);
${addColumns("pod", { forgotten_changes: "bigint NOT NULL DEFAULT 0" })}
CREATE SEQUENCE IF NOT EXISTS cleave.flip MINVALUE 0 START 0;
CREATE TABLE IF NOT EXISTS cleave.member (pod_id text PRIMARY KEY);
CREATE TABLE IF NOT EXISTS cleave.route (
  organization_id text COLLATE "C" PRIMARY KEY,
  pod_id text NOT NULL,
  migration_id text,
  target_pod_id text,
  CHECK ((migration_id IS NULL) = (target_pod_id IS NULL))
);
CREATE INDEX IF NOT EXISTS route_by_migration ON cleave.route (migration_id) WHERE migration_id IS NOT NULL;
CREATE TABLE IF NOT EXISTS cleave.share (
  migration_id text NOT NULL,
  target_pod_id text NOT NULL,
  source_pod_id text NOT NULL,
  epoch bigint,
  phase text NOT NULL CHECK (phase IN ('source', 'fenced', 'transferred', 'opened')),
  -- A move: rows are compared one by one, so writers note which they change.
  logical boolean NOT NULL DEFAULT false,
  -- The same for what flows back, once the target has opened.
  back boolean NOT NULL DEFAULT false,
  -- Of a rollback: the migration whose way back it is.
  rollback_of text,
  PRIMARY KEY (migration_id, target_pod_id)
);
${addColumns("share", { back: "boolean NOT NULL DEFAULT false", rollback_of: "text" })}
CREATE TABLE IF NOT EXISTS cleave.marker (
  migration_id text NOT NULL,
  epoch bigint NOT NULL,
  token text NOT NULL,
  -- Of a move: up to where the target had compared touched rows when the fence went up.
  verified text,
  -- The schema's generation at that moment: see schema-journal.ts.
  schema_generation bigint,
  PRIMARY KEY (migration_id, epoch)
);
${addColumns("marker", { schema_generation: "bigint" })}
CREATE TABLE IF NOT EXISTS cleave.departed (
  parent_table text COLLATE "C" NOT NULL,
  key text[] COLLATE "C" NOT NULL,
  organization_id text NOT NULL,
  departed_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (parent_table, key)
);
CREATE TABLE IF NOT EXISTS cleave.moved (migration_id text NOT NULL);
-- Rows of organizations that are being moved, as writers changed them, to be compared with the target's.
CREATE TABLE IF NOT EXISTS cleave.touched (
  migration_id text NOT NULL,
  "table" text NOT NULL,
  key text[] NOT NULL,
  xid xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id()
);
-- Under a publication of all tables a row without a key could not be deleted.
${replicaIdentityFull("moved")}
${replicaIdentityFull("touched")}
-- Of a split: which keys each Pod's sequences give out.
CREATE TABLE IF NOT EXISTS cleave.numbering (
  migration_id text NOT NULL,
  sequence text NOT NULL,
  pod_id text NOT NULL,
  first bigint NOT NULL,
  last bigint NOT NULL,
  PRIMARY KEY (migration_id, sequence, pod_id)
);
-- The snapshot whose touched rows were equal on both Pods. Frozen by the fence, like everything else.
CREATE TABLE IF NOT EXISTS cleave.verified (migration_id text PRIMARY KEY, snapshot text NOT NULL);
-- On a Pod that rows come to: its own snapshot whose changes of its schema were looked at, when rows were last found equal.
CREATE TABLE IF NOT EXISTS cleave.compared (migration_id text PRIMARY KEY, snapshot text NOT NULL);
${COPY_TABLES}
${JOURNAL_TABLES}
${NAMES_TABLES}
${addColumns("guard_name", { type: "oid" })}
REVOKE ALL ON ALL TABLES IN SCHEMA cleave FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA cleave FROM PUBLIC;
`;

/** Text constant in SQL from anything. */
export const literal = quoteLiteral;
