/**
 * Installs and removes the write guard. The schema and functions come first, in one transaction; then the triggers,
 * one table at a time. A table's trigger is created under a lock that conflicts with writers (SHARE ROW EXCLUSIVE), so
 * every transaction that wrote to it before has ended by then, and every later one is seen by the guard. That is all
 * that is needed per table, and holding forty such locks at once would stop the application for no gain.
 */
import type { ClientBase } from "pg";
import { CleaveError } from "../../../../protocol/errors.ts";
import type { MigrationId, PodId } from "../../../../protocol/ids.ts";
import type { Ownership } from "../../../../protocol/ownership.ts";
import { onOneConnection, type Queryable, quoteIdentifier, sqlStateOf } from "../server/queryable.ts";
import { absentNames } from "./absent-names.ts";
import { readCatalog, readKeys } from "./catalog.ts";
import { createFunction, guardFunctions } from "./guard-functions.ts";
import {
  APPLY_ROLE,
  CREATE_SCHEMA,
  EVENT_TRIGGERS,
  INSTALL_KEYS,
  ROW_TRIGGER,
  TRUNCATE_TRIGGER,
} from "./names.ts";
import { ambiguousOwners } from "./owner-types.ts";
import { type Patience, patiently } from "./patience.ts";
import { rememberNames } from "./remember-names.ts";
import { expectedTriggers, findTriggerFaults, repairOf } from "./triggers.ts";
import { verifyGuard } from "./verify.ts";

export { verifyGuard };

export interface InstallOptions {
  readonly ownership: Ownership;
  readonly defaultPodId: PodId;
  /** Shown to the operator in pg_stat_activity while locks are held. */
  readonly migrationId: MigrationId;
  readonly signal?: AbortSignal;
  /** Told what is waited for, and for whom, whenever that changes. */
  readonly onWaiting?: Patience["onWaiting"];
}

/** Serialises installations and removals of several agents or of one that was restarted. Released with the transaction. */
const INSTALL_LOCK = `SELECT pg_catalog.pg_advisory_xact_lock(${INSTALL_KEYS})`;

/** dependent_objects_still_exist, object_in_use */
const DEPENDENT_OBJECTS = "2BP01";
const OBJECT_IN_USE = "55006";

async function requireOwnSchema(client: ClientBase): Promise<void> {
  const { rows } = await client.query<{ owner: string; super: boolean }>(
    "SELECT r.rolname AS owner, r.rolsuper AS super FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles r ON r.oid = n.nspowner WHERE n.nspname = 'cleave'",
  );
  const schema = rows[0];
  if (schema && !schema.super)
    throw new CleaveError(
      "POSTGRES_UNFENCEABLE",
      `the schema cleave belongs to ${schema.owner}, who is no superuser, so whatever is in it cannot be trusted`,
    );
}

async function createBase(client: ClientBase, options: InstallOptions): Promise<void> {
  await client.query(INSTALL_LOCK);
  await requireOwnSchema(client);
  const wrong = [
    ...(await absentNames(client, options.ownership)),
    ...(await ambiguousOwners(client, options.ownership)),
  ];
  if (wrong.length > 0) throw new CleaveError("OWNERSHIP_RULE_INVALID", wrong.slice(0, 5).join("; "));
  await client.query(CREATE_SCHEMA);
  await client.query("INSERT INTO cleave.pod (default_pod_id) VALUES ($1) ON CONFLICT DO NOTHING", [
    options.defaultPodId,
  ]);
  await client.query("INSERT INTO cleave.member (pod_id) VALUES ($1) ON CONFLICT DO NOTHING", [
    options.defaultPodId,
  ]);
  const { rows } = await client.query<{ default_pod_id: string }>("SELECT default_pod_id FROM cleave.pod");
  if (rows[0]?.default_pod_id !== options.defaultPodId)
    throw new CleaveError(
      "POSTGRES_IDENTITY",
      `this database was guarded with ${rows[0]?.default_pod_id} as the default Pod, not ${options.defaultPodId}`,
    );
  const keys = await readKeys(client);
  const functions = guardFunctions(options.ownership, options.defaultPodId, keys);
  await client.query(functions.map(createFunction).join("\n"));
  await rememberNames(client, options.ownership, keys);
}

/**
 * After the triggers of tables: a Pod that serves nothing yet lets nobody alter anything, not even its own agent.
 */
async function createEventTriggers(client: ClientBase): Promise<void> {
  for (const { name, event, procedure } of EVENT_TRIGGERS) {
    const { rowCount } = await client.query(
      "SELECT FROM pg_catalog.pg_event_trigger WHERE evtname = $1 AND evtenabled = 'A'",
      [name],
    );
    if (rowCount === 1) continue;
    await client.query(`DROP EVENT TRIGGER IF EXISTS ${quoteIdentifier(name)};
      CREATE EVENT TRIGGER ${quoteIdentifier(name)} ON ${event} EXECUTE FUNCTION cleave.${procedure}();
      ALTER EVENT TRIGGER ${quoteIdentifier(name)} ENABLE ALWAYS`);
  }
}

/**
 * Brings the guard to what the rules ask for: idempotent, touching only what is not yet right, and waiting for no
 * table's lock longer than 50 ms at a time.
 * @returns whether something was not right.
 * @throws CleaveError OWNERSHIP_RULE_INVALID, POSTGRES_IDENTITY, POSTGRES_UNFENCEABLE, or POSTGRES_GUARD_MISSING when a
 * table stays locked by others.
 */
export async function installGuard(db: Queryable, options: InstallOptions): Promise<boolean> {
  const { ownership } = options;
  return await onOneConnection(db, async (client) => {
    // A whole guard is left alone: making it again would be DDL, which is refused while anything is fenced.
    if (await isWhole(client, options)) return false;
    const schema = { ...options, what: "the schema" };
    await patiently(client, schema, () => createBase(client, options));
    const catalog = await readCatalog(client, ownership);
    // Parents before partitions: a partition's row trigger comes with its parent's.
    const order = (name: { relation: { isPartition: boolean } }) => (name.relation.isPartition ? 1 : 0);
    const expected = [...expectedTriggers(ownership, catalog)].sort((a, b) => order(a) - order(b));
    const found = await findTriggerFaults(client, expected);
    const names = new Set(found.map(({ trigger }) => trigger.relation.name));
    const faults = new Set(
      found.filter(({ fault }) => fault !== "missing").map(({ trigger }) => trigger.relation.name),
    );
    for (const name of names) {
      const ofTable = expected.filter((trigger) => trigger.relation.name === name);
      const repair = async () => {
        for (const fault of await findTriggerFaults(client, ofTable)) await client.query(repairOf(fault));
      };
      const table = ofTable[0]?.relation.quoted ?? name;
      // What is to be made again is dropped first, which keeps readers out too.
      const mode = faults.has(name) ? "ACCESS EXCLUSIVE" : "SHARE ROW EXCLUSIVE";
      await patiently(client, { ...options, what: name, table, mode }, repair);
    }
    await patiently(client, schema, createEventTriggers);
    return true;
  });
}

/** Is there a guard, whole or not? */
export async function isGuarded(db: Queryable): Promise<boolean> {
  const { rows } = await db.query<{ present: boolean }>(
    "SELECT pg_catalog.to_regclass('cleave.share') IS NOT NULL AS present",
  );
  return rows[0]?.present === true;
}

async function isWhole(client: ClientBase, { ownership, defaultPodId }: InstallOptions): Promise<boolean> {
  if ((await verifyGuard(client, ownership)).length > 0) return false;
  const { rowCount } = await client.query("SELECT FROM cleave.pod WHERE default_pod_id = $1", [defaultPodId]);
  return rowCount === 1;
}

/**
 * Removes everything that Cleave made in the database.
 * @throws CleaveError COMMAND_NOT_POSSIBLE while the guard still keeps organizations apart: without it this Pod would
 * accept writes of organizations that live elsewhere.
 */
export async function removeGuard(
  db: Queryable,
  options: Pick<InstallOptions, "signal" | "onWaiting"> = {},
): Promise<void> {
  const patience = { ...options, migrationId: "removal" };
  await onOneConnection(db, async (client) => {
    if (await isGuarded(client)) await requireNothingProtected(client);
    for (const { name } of EVENT_TRIGGERS)
      await client.query(`DROP EVENT TRIGGER IF EXISTS ${quoteIdentifier(name)}`);
    const { rows: tables } = await client.query<{ schema: string; name: string; trigger: string }>(
      `SELECT n.nspname AS schema, c.relname AS name, t.tgname AS trigger FROM pg_catalog.pg_trigger t
         JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
       WHERE t.tgname = ANY($1::name[]) AND t.tgparentid = 0`,
      [[ROW_TRIGGER, TRUNCATE_TRIGGER]],
    );
    for (const { schema, name, trigger } of tables) {
      const quoted = `${quoteIdentifier(schema)}.${quoteIdentifier(name)}`;
      const drop = `DROP TRIGGER IF EXISTS ${quoteIdentifier(trigger)} ON ${quoted}`;
      const waiting = {
        ...patience,
        what: `${schema}.${name}`,
        table: quoted,
        mode: "ACCESS EXCLUSIVE",
      } as const;
      await patiently(client, waiting, async () => void (await client.query(drop)));
    }
    const dropRest = async () => {
      await client.query(INSTALL_LOCK);
      await client.query("DROP SCHEMA IF EXISTS cleave CASCADE");
      await client.query("SAVEPOINT role");
      try {
        await client.query(`DROP ROLE IF EXISTS ${APPLY_ROLE}`);
      } catch (error) {
        // Another database of this server has given it rights: it needs it still.
        if (sqlStateOf(error) !== DEPENDENT_OBJECTS && sqlStateOf(error) !== OBJECT_IN_USE) throw error;
        await client.query("ROLLBACK TO SAVEPOINT role");
      }
    };
    await patiently(client, { ...patience, what: "the schema" }, dropRest);
  });
}

async function requireNothingProtected(client: ClientBase): Promise<void> {
  const { rows } = await client.query<{ what: string }>(
    `SELECT format('migration %s: the share of %s is %s', migration_id, target_pod_id, phase) AS what FROM cleave.share WHERE phase <> 'source'
     UNION ALL SELECT format('organization %s lives on %s', organization_id, pod_id) FROM cleave.route, cleave.pod WHERE migration_id IS NULL AND pod_id <> default_pod_id
     LIMIT 1`,
  );
  if (rows[0])
    throw new CleaveError("COMMAND_NOT_POSSIBLE", `the write guard is still needed: ${rows[0].what}`);
}
