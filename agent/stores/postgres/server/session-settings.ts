/**
 * What Cleave's own sessions rely on, whatever a database or a role has been given (ALTER DATABASE … SET, ALTER ROLE …
 * SET): how values are written as text and read again, how names are found, that nothing is cut off by a time limit
 * meant for applications, and that what was committed is durable. Given with the connection itself, where it wins over
 * both, so that not even the first statement runs without.
 */
import type { ClientBase } from "pg";

/** How values read as text: the same on every server. */
export const CANONICAL_SETTINGS = {
  datestyle: "ISO, YMD",
  intervalstyle: "postgres",
  timezone: "UTC",
  extra_float_digits: "1",
  bytea_output: "hex",
  // Of money.
  lc_monetary: "C",
  lc_numeric: "C",
  lc_time: "C",
  xmlbinary: "base64",
  // A value that is no whole document is one too.
  xmloption: "content",
  // NULL in an array's text is a NULL.
  array_nulls: "on",
  quote_all_identifiers: "off",
  standard_conforming_strings: "on",
} as const;

/** All of a session. Every one of them may be set by anybody, and exists in PostgreSQL 15 to 18. */
export const SESSION_SETTINGS = {
  ...CANONICAL_SETTINGS,
  client_encoding: "UTF8",
  // Every statement names the schema of whatever is not PostgreSQL's own, so that nobody's operator is found instead.
  search_path: "pg_catalog",
  // Rows that a policy hides are an error, and not absent.
  row_security: "off",
  // A role that sessions begin as would take the rights of the one that connects.
  role: "none",
  default_transaction_isolation: "read committed",
  default_transaction_read_only: "off",
  default_transaction_deferrable: "off",
  synchronous_commit: "on",
  // A look at the catalog takes milliseconds, and compiling it half a second.
  jit: "off",
  // A copy takes as long as it takes; what has to be quick has a limit of its own.
  statement_timeout: "0",
  lock_timeout: "0",
  idle_in_transaction_session_timeout: "0",
  idle_session_timeout: "0",
} as const;

/** `SESSION_SETTINGS` as the `options` of a connection. */
export const SESSION_OPTIONS = Object.entries(SESSION_SETTINGS)
  .map(([name, value]) => `-c ${name}=${value.replaceAll(/[\\ ]/g, "\\$&")}`)
  .join(" ");

/** What not everybody may set, or not every version knows. */
const REST = `
SELECT pg_catalog.set_config(wanted.name, wanted.value, false)
  FROM (VALUES ('session_replication_role', 'origin', true), ('transaction_timeout', '0', false)) AS wanted (name, value, privileged)
 WHERE pg_catalog.current_setting(wanted.name, true) <> wanted.value
   AND (NOT wanted.privileged OR pg_catalog.current_setting('is_superuser') = 'on')`;

/**
 * SQL, where the path is pg_catalog. Keys of types of extensions are compared by operators that are where the extension is: those schemas are looked into
 * behind pg_catalog, unless somebody who is no superuser has put something there under the name of one of PostgreSQL's own.
 */
export const searchPathSql = (reach: "session" | "transaction"): string => `
WITH used AS (
  SELECT DISTINCT o.oprnamespace AS schema FROM pg_catalog.pg_opclass k
    JOIN pg_catalog.pg_amop p ON p.amopfamily = k.opcfamily AND p.amoplefttype = k.opcintype AND p.amoprighttype = k.opcintype
    JOIN pg_catalog.pg_operator o ON o.oid = p.amopopr
  WHERE k.opcdefault AND o.oprnamespace <> 'pg_catalog'::pg_catalog.regnamespace
    AND EXISTS (SELECT FROM pg_catalog.pg_attribute a LEFT JOIN pg_catalog.pg_type d ON d.oid = a.atttypid AND d.typtype = 'd'
      WHERE COALESCE(d.typbasetype, a.atttypid) = k.opcintype AND a.attnum > 0 AND NOT a.attisdropped)
), safe AS (
  SELECT n.nspname FROM used JOIN pg_catalog.pg_namespace n ON n.oid = used.schema
  WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_roles r ON r.oid = o.oprowner
      WHERE o.oprnamespace = n.oid AND NOT r.rolsuper)
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_proc f JOIN pg_catalog.pg_roles r ON r.oid = f.proowner
      WHERE f.pronamespace = n.oid AND NOT r.rolsuper AND EXISTS (SELECT FROM pg_catalog.pg_proc own
        WHERE own.pronamespace = 'pg_catalog'::pg_catalog.regnamespace AND own.proname = f.proname))
)
SELECT pg_catalog.set_config('search_path', 'pg_catalog, ' || pg_catalog.string_agg(pg_catalog.quote_ident(safe.nspname), ', ' ORDER BY safe.nspname), ${reach === "transaction"})
  FROM safe HAVING count(*) > 0`;

/** Completes the settings of a connection that was made with `SESSION_OPTIONS`. */
export async function settleSession(client: ClientBase): Promise<void> {
  await client.query(`${REST}; ${searchPathSql("session")}`);
}
