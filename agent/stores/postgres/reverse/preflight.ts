/** What a way back needs of servers, configurations and tables. Changes nothing. */
import type { Finding } from "../../../../protocol/evidence.ts";
import type { OrganizationId } from "../../../../protocol/ids.ts";
import type { Duty } from "../../../../protocol/ports/store.ts";
import { type PostgresStoreOptions, peerOf } from "../context.ts";
import { verifyGuard } from "../fence/install.ts";
import { finding, guarded, withDatabase } from "../findings.ts";
import { readSchema } from "../inventory/schema.ts";
import { findCrossings } from "../move/collisions.ts";
import { publishedTables } from "../move/publication.ts";
import { planMove } from "../replication/moved-tables.ts";
import { describeIdentityFaults, findIdentityFaults } from "../replication/replica-identity.ts";
import type { Database } from "../server/connection.ts";
import { readPosition } from "../split/lineage.ts";
import { ofMigration } from "./decided.ts";
import { requireArmed } from "./slot.ts";

/** Whoever cannot have it can do without it. */
const ELSE = "or plan without reverse replication (settings.retention.reverseReplication: none)";

interface Limits {
  readonly level: string;
  readonly slots: number;
  readonly slots_used: number;
  readonly origins_used: number;
  readonly senders: number;
}

async function readLimits(db: Database): Promise<Limits> {
  const { rows } = await db.query<Limits>(
    `SELECT current_setting('wal_level') AS level, current_setting('max_replication_slots')::int AS slots,
      current_setting('max_wal_senders')::int AS senders,
      (SELECT count(*)::int FROM pg_replication_slots) AS slots_used, (SELECT count(*)::int FROM pg_replication_origin) AS origins_used`,
  );
  return rows[0] as Limits;
}

const setting = (message: string): Finding => finding("error", "POSTGRES_SETTING", `${message}, ${ELSE}`);

/** Of the source, to which it flows: peers, origins, and of a split what its clones will have from it. */
export async function checkReverseReplicationHere(
  db: Database,
  options: PostgresStoreOptions,
  duty: Duty,
): Promise<Finding[]> {
  const { reverseReplication, kind, assignments } = duty;
  if (reverseReplication.length === 0) return [];
  const findings = reverseReplication
    .filter((podId) => options.peers[podId] === undefined)
    .map((podId) =>
      finding(
        "error",
        "CONFIG_INVALID",
        `peers.${podId}.postgres is not configured, and what ${podId} changes is to flow back from there: name it, ${ELSE}`,
      ),
    );
  const { level, slots, origins_used: used } = await readLimits(db);
  // An origin takes one of these, too.
  if (slots - used < reverseReplication.length)
    findings.push(
      setting(
        `max_replication_slots is ${slots} and ${used} origins are in use; reverse replication needs ${reverseReplication.length} more: raise it`,
      ),
    );
  if (kind !== "split") return findings;
  if (level !== "logical")
    findings.push(
      setting(`wal_level is ${level}, and the new Pods inherit it: reverse replication needs logical`),
    );
  const tables = await guarded(async () => {
    const schema = await readSchema(db);
    planMove(schema, schema, options.ownership, [...assignments.keys()] as OrganizationId[]);
    return [];
  });
  return [...findings, ...tables.map((one) => ({ ...one, message: `${one.message}: change it, ${ELSE}` }))];
}

/** Of a target, from which it will flow. */
export async function checkReverseReplicationThere(
  db: Database,
  { ownership }: Pick<PostgresStoreOptions, "ownership">,
  { reverseReplication, podId }: Duty,
): Promise<Finding[]> {
  if (!reverseReplication.includes(podId)) return [];
  const { level, slots, slots_used: used, senders } = await readLimits(db);
  const findings: Finding[] = [];
  if (level !== "logical") findings.push(setting(`wal_level is ${level}: reverse replication needs logical`));
  if (slots - used < 1)
    findings.push(setting(`max_replication_slots is ${slots}, all in use: reverse replication needs one`));
  if (senders < 1) findings.push(setting("max_wal_senders is 0: reverse replication needs one"));
  // Of all tables, neighbours' rows too: they are published from the beginning.
  const tables = publishedTables(await readSchema(db), ownership).map(({ quoted }) => quoted);
  const missing = describeIdentityFaults(await findIdentityFaults(db, tables));
  return [
    ...findings,
    ...missing.map((one) => finding("error", "REPLICA_IDENTITY_MISSING", `${one} (on ${podId}), ${ELSE}`)),
  ];
}

/** Of a rollback's source. */
export function checkRollbackSource(options: PostgresStoreOptions, duty: Duty): Promise<Finding[]> {
  return withDatabase(options.config, async (db) => [
    ...(await checkIdentity(db, options)),
    ...(await verifyGuard(db, options.ownership)),
    ...(await guarded(async () => {
      await requireArmed(db, ofMigration(duty), duty.podId);
      return [];
    })),
  ]);
}

/**
 * Of a rollback's target. Rows that refer to another organization's lead to its copies here, as they did before the
 * migration: that is no reason to refuse the way back, but those copies cannot be removed while they are referred to.
 */
export function checkRollbackTargetStart(options: PostgresStoreOptions, duty: Duty): Promise<Finding[]> {
  return withDatabase(options.config, async (own) => [
    ...(await checkIdentity(own, options)),
    ...(await verifyGuard(own, options.ownership)),
    ...(await guarded(async () =>
      withDatabase(peerOf(options, duty), async (source) => {
        const theirs = await readSchema(source);
        const moving = planMove(theirs, await readSchema(own), options.ownership, [
          ...duty.assignments.keys(),
        ]);
        const found = await findCrossings(source, moving, theirs);
        return found.length === 0
          ? []
          : [finding("warning", "CROSS_ORGANIZATION_ROWS", found.slice(0, 5).join("; "))];
      }),
    )),
  ]);
}

async function checkIdentity(db: Database, { podId }: PostgresStoreOptions): Promise<Finding[]> {
  const { clusterName, inRecovery } = await readPosition(async (text) => (await db.query(text)).rows);
  if (clusterName === podId && !inRecovery) return [];
  return [
    finding("error", "POSTGRES_IDENTITY", `the server is ${clusterName}${inRecovery ? ", a standby" : ""}`),
  ];
}
