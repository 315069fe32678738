/**
 * What a copy of a whole server would do a second time, and what it brings along that nobody fences. A split copies
 * everything: all of it is named before anything begins, with what Cleave does about it and what is left to the operator.
 */
import type { Finding } from "../../../../protocol/evidence.ts";
import type { Duty } from "../../../../protocol/ports/store.ts";
import type { PostgresStoreOptions } from "../context.ts";
import { finding } from "../findings.ts";
import { connect, type Database, discard } from "../server/connection.ts";

const LISTED = 20;

/** Of PostgreSQL itself (pg_stat_activity.backend_type): what else runs was started by an extension. */
const OWN_PROCESSES =
  "^(client backend|parallel worker|autovacuum (launcher|worker)|checkpointer|background writer|walwriter|walsender|walreceiver|walsummarizer|archiver|startup|logger|stats collector|standalone backend|slotsync worker|io worker|logical replication.*)$";

/** `detail` is for people. */
interface Active {
  readonly kind: keyof typeof MEANING;
  readonly name: string;
  readonly detail: string | null;
}

const MEANING = {
  subscription:
    "stays the source's: new Pods start without logical replication workers, and after the opening their copies of it are disabled and lose the name of their slot. What it brings for organizations that leave is refused on the source: lead that to their new Pods",
  publication:
    "is copied, and so are its tables; but whoever reads it hears from the source alone: read it from the new Pods too, with a slot on each",
  "logical slot":
    "is not copied: whoever reads it hears nothing of what the new Pods write; make one on each of them after the opening",
  "replication origin": "is copied with the position that it has at the transfer",
  "foreign server":
    "is copied, with its users: what goes through it reaches the same place from every Pod, and is not fenced",
  function: "opens connections of its own (dblink): on every Pod to the same place, and not fenced",
  "scheduled job":
    "(pg_cron) would run on every new Pod as well: set cron.launch_active_jobs to off in its postgres.serverOptions, or unschedule there what only one Pod may do",
  "background worker":
    "runs in the source's server, and would in that of every new Pod: where it must not, set shared_preload_libraries in its postgres.serverOptions",
} as const;

/** Of the whole server. Cleave's own are left out. */
const OF_SERVER = `
SELECT 'subscription' AS kind, s.subname::text AS name, 'of the database ' || d.datname AS detail
  FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid
UNION ALL SELECT 'logical slot', slot_name::text, 'of the database ' || database FROM pg_catalog.pg_replication_slots
  WHERE slot_type = 'logical' AND slot_name !~ '^cleave_' AND NOT temporary
UNION ALL SELECT 'replication origin', roname, NULL FROM pg_catalog.pg_replication_origin WHERE roname !~ '^(cleave_|pg_[0-9])'
UNION ALL SELECT DISTINCT 'background worker', backend_type, NULL FROM pg_catalog.pg_stat_activity WHERE backend_type !~ '${OWN_PROCESSES}'
ORDER BY 1, 2, 3`;

const OF_DATABASE = `
SELECT 'publication' AS kind, pubname::text AS name, NULL AS detail FROM pg_catalog.pg_publication WHERE pubname !~ '^cleave_'
UNION ALL SELECT 'foreign server', srvname::text, pg_catalog.array_to_string(ARRAY(
    SELECT option FROM pg_catalog.unnest(srvoptions) AS option WHERE option ~ '^(host|port|dbname)='), ' ') FROM pg_catalog.pg_foreign_server
UNION ALL SELECT 'function', p.oid::pg_catalog.regprocedure::text, NULL FROM pg_catalog.pg_proc p
  WHERE p.prosrc ~ 'dblink' AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
    WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid AND d.deptype = 'e')
ORDER BY 1, 2, 3`;

const JOBS =
  "SELECT 'scheduled job' AS kind, job.jobid::text AS name, pg_catalog.left(job.command, 100) AS detail FROM cron.job AS job WHERE job.active ORDER BY job.jobid";

/** Tables and the like that somebody put there, in a database that every server has. */
const HOLDS_SOMETHING = `
SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'm', 'f', 'S') AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'cleave')
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
      WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e')) AS something`;

/** Checks of a split's source; `db` is connected to the Pod's own database. Changes nothing. */
export async function checkActiveObjects(
  db: Database,
  options: PostgresStoreOptions,
  duty: Duty,
): Promise<Finding[]> {
  const { rows: databases } = await db.query<{ name: string; expected: boolean; open: boolean }>(
    `SELECT datname AS name, datname = 'postgres' OR datistemplate AS expected, datallowconn AS open
       FROM pg_catalog.pg_database WHERE datname <> current_database() ORDER BY 1`,
  );
  const { rows: ofServer } = await db.query<Active>(OF_SERVER);
  const active = [...ofServer, ...(await readDatabase(db))];
  const accepted = new Set(duty.settings.acceptedDatabases ?? []);
  const findings: Finding[] = [];
  for (const { name, expected, open } of databases) {
    // Nobody can have put anything into it.
    if (expected && !open) continue;
    const seen = open ? await lookInto(options, name) : null;
    active.push(...(seen?.active ?? []));
    if (!expected || (seen?.holdsSomething ?? true)) findings.push(ofDatabase(name, accepted.has(name)));
  }
  for (const name of accepted)
    if (!databases.some((one) => one.name === name))
      findings.push(
        finding(
          "warning",
          "POSTGRES_UNFENCEABLE",
          `the plan accepts the database ${name}, which the source does not have`,
        ),
      );
  return [...bounded(findings), ...bounded(active.map(ofActive))];
}

function ofDatabase(name: string, accepted: boolean): Finding {
  return accepted
    ? finding(
        "warning",
        "POSTGRES_UNFENCEABLE",
        `the database ${name} is copied too, and each Pod writes its own from then on: the plan accepts that`,
      )
    : finding(
        "error",
        "POSTGRES_UNFENCEABLE",
        `the database ${name} would be copied too, and its writes are not fenced, so that every Pod had a writable one: put it on a server of its own, or accept that by name in the plan (settings.acceptedDatabases)`,
      );
}

function ofActive({ kind, name, detail }: Active): Finding {
  const more = detail === null || detail === "" ? "" : ` (${detail})`;
  return finding("warning", "POSTGRES_ACTS_TWICE", `the ${kind} ${name}${more} ${MEANING[kind]}`);
}

function bounded(findings: readonly Finding[]): Finding[] {
  const [first] = findings.slice(LISTED);
  if (first === undefined) return [...findings];
  const more = { ...first, message: `and ${findings.length - LISTED} more of these` };
  // An error among those that are not listed is none the less one.
  const severity = findings.slice(LISTED).some((one) => one.severity === "error") ? "error" : first.severity;
  return [...findings.slice(0, LISTED), { ...more, severity }];
}

async function readDatabase(db: Database): Promise<Active[]> {
  const { rows } = await db.query<Active>(OF_DATABASE);
  const { rows: cron } = await db.query<{ present: boolean }>(
    "SELECT pg_catalog.to_regclass('cron.job') IS NOT NULL AS present",
  );
  return cron[0]?.present ? [...rows, ...(await db.query<Active>(JOBS)).rows] : rows;
}

/** Null when nobody can look: unknown is no. */
async function lookInto(
  options: PostgresStoreOptions,
  database: string,
): Promise<{ readonly active: readonly Active[]; readonly holdsSomething: boolean } | null> {
  try {
    const db = await connect({ ...options.config, database }, { applicationName: "cleave-preflight" });
    try {
      const { rows } = await db.query<{ something: boolean }>(HOLDS_SOMETHING);
      return { active: await readDatabase(db), holdsSomething: rows[0]?.something ?? true };
    } finally {
      discard(db);
    }
  } catch (error) {
    options.log.warn({ err: error, database }, "a database of the source could not be looked into");
    return null;
  }
}
