/** Routes and shares: staged while following, flipped in one small transaction, settled when the migration is over. */
import type { ClientBase } from "pg";
import type { Assignments } from "../../../../protocol/assignments.ts";
import { isBehind, type SharePhase } from "../../../../protocol/cluster.ts";
import { CleaveError, invariant } from "../../../../protocol/errors.ts";
import type { Epoch, MigrationId, PodId } from "../../../../protocol/ids.ts";
import { inTransaction, isLockTimeout, type Queryable } from "../server/queryable.ts";
import { isGuarded } from "./install.ts";
import { flipLockKeys, lockKeys } from "./names.ts";
import { type WaitOptions, waitForOlderTransactions } from "./older-transactions.ts";
import { forgetSchemaChanges } from "./schema-journal.ts";

export interface Staging {
  readonly migrationId: MigrationId;
  readonly sourcePodId: PodId;
  readonly defaultPodId: PodId;
  readonly targetPodIds: readonly PodId[];
  readonly assignments: Assignments;
  /** A move: writers note the rows that they change. */
  readonly logical?: boolean;
  /** Targets whose writers note what they change once they are open, because it flows back. */
  readonly reverseReplication?: readonly PodId[];
  /** A rollback: the migration that brought the organizations to the source, whose routes it takes over. */
  readonly of?: MigrationId | null;
}

const BATCH = 20_000;

const STAGE_BATCH = `
INSERT INTO cleave.route AS known (organization_id, pod_id, migration_id, target_pod_id)
SELECT organization, $3, $4, target FROM unnest($1::text[], $2::text[]) AS assignment (organization, target)
ON CONFLICT (organization_id) DO UPDATE SET migration_id = EXCLUDED.migration_id, target_pod_id = EXCLUDED.target_pod_id
WHERE (known.migration_id, known.target_pod_id) IS DISTINCT FROM (EXCLUDED.migration_id, EXCLUDED.target_pod_id)`;

/**
 * Stages which organization goes where; nothing changes for writers yet, except that they take the migration's lock.
 * Resolves when every transaction that was in flight at that moment has ended, for such a one may have looked for a
 * route before there was one (see older-transactions.ts): until then no fence may be raised. Idempotent.
 * A rollback takes over what its `of` brought to its source, and nothing else; `returnRoutes` gives it back.
 * @throws CleaveError ORGANIZATION_CLAIMED when an organization is staged for another migration.
 */
export async function stageRoutes(db: Queryable, staging: Staging, options: WaitOptions = {}): Promise<void> {
  await stageAtOnce(db, staging, options);
  await waitForOlderTransactions(db, options);
}

/** For who need not wait, or must not: see there. */
export async function stageAtOnce(
  db: Queryable,
  staging: Staging,
  options: Pick<WaitOptions, "signal"> = {},
): Promise<void> {
  const { migrationId, sourcePodId, defaultPodId, targetPodIds, assignments } = staging;
  await inTransaction(db, async (client) => {
    await client.query(
      "INSERT INTO cleave.member (pod_id) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING",
      [[defaultPodId, sourcePodId, ...targetPodIds]],
    );
    await client.query(
      "INSERT INTO cleave.share (migration_id, target_pod_id, source_pod_id, phase, logical, back, rollback_of) SELECT $1, target, $3, 'source', $4, target = ANY ($5::text[]), $6 FROM unnest($2::text[]) AS target ON CONFLICT DO NOTHING",
      [
        migrationId,
        targetPodIds,
        sourcePodId,
        staging.logical ?? false,
        staging.reverseReplication ?? [],
        staging.of ?? null,
      ],
    );
    const organizations = [...assignments.keys()];
    for (let from = 0; from < organizations.length; from += BATCH) {
      options.signal?.throwIfAborted();
      const batch = organizations.slice(from, from + BATCH);
      const targets = batch.map((organization) => assignments.get(organization));
      await requireUnclaimed(client, staging, batch);
      await client.query(STAGE_BATCH, [batch, targets, defaultPodId, migrationId]);
    }
  });
}

async function requireUnclaimed(
  client: ClientBase,
  { migrationId, sourcePodId, of = null }: Staging,
  batch: readonly string[],
): Promise<void> {
  const { rows } = await client.query<{ organization_id: string; migration_id: string }>(
    `SELECT organization_id, migration_id FROM cleave.route WHERE organization_id = ANY($1::text[]) AND migration_id <> $2
       AND NOT ($3::text IS NOT NULL AND migration_id = $3 AND target_pod_id = $4 AND EXISTS (SELECT FROM cleave.share
         WHERE share.migration_id = $3 AND share.target_pod_id = $4 AND share.phase = 'opened')) LIMIT 1`,
    [batch, migrationId, of, sourcePodId],
  );
  if (rows[0])
    throw new CleaveError(
      "ORGANIZATION_CLAIMED",
      `organization ${rows[0].organization_id} is staged for the migration ${rows[0].migration_id}`,
    );
}

/**
 * Flips shares within the caller's transaction and counts the flip, so that older snapshots are recognised.
 * The sequence is set, not advanced: `nextval` logs ahead, and a promoted copy would not agree with the row.
 */
export async function flipShares(
  client: ClientBase,
  migrationId: MigrationId,
  shares: Readonly<Record<PodId, SharePhase>>,
  epoch: Epoch | null,
): Promise<void> {
  const targets = Object.keys(shares) as PodId[];
  await client.query("SET LOCAL synchronous_commit = on");
  await client.query("UPDATE cleave.pod SET generation = pg_catalog.setval('cleave.flip', generation + 1)");
  const { rowCount } = await client.query(
    `UPDATE cleave.share SET phase = wanted.phase, epoch = COALESCE($4, share.epoch)
     FROM unnest($2::text[], $3::text[]) AS wanted (pod_id, phase)
     WHERE share.migration_id = $1 AND share.target_pod_id = wanted.pod_id`,
    [migrationId, targets, targets.map((target) => shares[target]), epoch],
  );
  invariant(
    rowCount === targets.length,
    `of ${targets.length} shares of ${migrationId}, ${rowCount ?? 0} are staged in this database`,
  );
}

/**
 * Enforces the shares of one migration; costs the same for any number of organizations. A change that takes away what
 * writers may have here is no business of this function but of `raiseFence`, which waits for them: should one be asked
 * for all the same (a lost step), it is made only if no writer is in flight, or has ended within `waitMs`: where the
 * copy of a move is the only one, its connection may be closed and its backend not gone yet. A rollback's target has one
 * that counts as a writer of the migration before, so that one is `awaited` too.
 * @throws CleaveError DRAIN_INCOMPLETE in that case, with nothing changed; AGENT_BEHIND when the database knows better.
 */
export async function setShares(
  db: Queryable,
  migrationId: MigrationId,
  shares: Readonly<Record<PodId, SharePhase>>,
  epoch: Epoch | null,
  waitMs = 0,
  awaited: readonly MigrationId[] = [migrationId],
): Promise<void> {
  await inTransaction(db, async (client) => {
    // Before the other lock, in which order everybody takes them.
    if (waitMs > 0) for (const one of awaited) await awaitWriters(client, one, waitMs);
    await client.query(`SELECT pg_catalog.pg_advisory_xact_lock(${flipLockKeys("$1::text")})`, [migrationId]);
    const { rows } = await client.query<{ target_pod_id: PodId; phase: SharePhase; epoch: string | null }>(
      "SELECT target_pod_id, phase, epoch FROM cleave.share WHERE migration_id = $1",
      [migrationId],
    );
    const staged = new Map(rows.map((row) => [row.target_pod_id, row]));
    const missing = (Object.keys(shares) as PodId[]).filter((podId) => !staged.has(podId));
    invariant(
      missing.length === 0,
      `no share of ${missing.join(", ")} in ${migrationId} is staged in this database`,
    );
    for (const [podId, phase] of Object.entries(shares)) {
      const held = staged.get(podId as PodId);
      const heldEpoch = Number(held?.epoch ?? 0);
      // The word of a later fence is a newer one, whatever it says.
      const isLater = epoch !== null && epoch > heldEpoch;
      const isOlder = epoch !== null && epoch < heldEpoch;
      if (held !== undefined && (isOlder || (!isLater && isBehind(held.phase, phase))))
        throw new CleaveError(
          "AGENT_BEHIND",
          `the share of ${podId} in ${migrationId} is ${held.phase} by fence ${held.epoch ?? "none"} in this database, ` +
            `and ${phase}${epoch === null ? "" : ` by fence ${epoch}`} was asked for`,
        );
    }
    // A row that stays as it is stays unlocked too: a writer of an older snapshot may be holding it.
    const changes = Object.entries(shares).filter(([podId, phase]) => {
      const row = staged.get(podId as PodId);
      return row?.phase !== phase || (epoch !== null && Number(row.epoch) !== epoch);
    });
    if (changes.length === 0) return;
    const closes = changes.some(([podId, phase]) => {
      const before = staged.get(podId as PodId)?.phase;
      return before !== phase && (before === "source" || before === "opened");
    });
    if (closes) await requireNoWriters(client, migrationId);
    await flipShares(client, migrationId, Object.fromEntries(changes), epoch);
  });
}

async function awaitWriters(client: ClientBase, migrationId: MigrationId, waitMs: number): Promise<void> {
  await client.query(`SET LOCAL lock_timeout = ${waitMs}`);
  try {
    await client.query(`SELECT pg_catalog.pg_advisory_xact_lock(${lockKeys("$1::text")})`, [migrationId]);
  } catch (error) {
    if (isLockTimeout(error)) throw inFlight(migrationId);
    throw error;
  }
}

async function requireNoWriters(client: ClientBase, migrationId: MigrationId): Promise<void> {
  const { rows } = await client.query<{ free: boolean }>(
    `SELECT pg_catalog.pg_try_advisory_xact_lock(${lockKeys("$1::text")}) AS free`,
    [migrationId],
  );
  if (!rows[0]?.free) throw inFlight(migrationId);
}

function inFlight(migrationId: MigrationId): CleaveError {
  return new CleaveError("DRAIN_INCOMPLETE", `writers of ${migrationId} are in flight; it is tried again`);
}

/**
 * The migration is over: routes of opened shares become their organizations' base routes, those of shares that stayed
 * with (or went back to) the source are forgotten. Opened shares stay as a record that organizations live elsewhere.
 * Grows with the number of organizations, so it has no place in the read-only window. Idempotent.
 * @returns whether the guard still keeps organizations apart and has to stay.
 * @throws CleaveError COMMAND_NOT_POSSIBLE while a share is fenced or transferred.
 */
export async function releaseRoutes(
  db: Queryable,
  migrationId: MigrationId,
): Promise<{ readonly guardNeeded: boolean }> {
  return inTransaction(db, async (client) => {
    // An abort may cut off a staging whose commit is on its way: waited for, since nothing would remove it later.
    await client.query("LOCK TABLE cleave.share, cleave.route IN SHARE ROW EXCLUSIVE MODE");
    const { rows } = await client.query<{ target_pod_id: PodId; phase: SharePhase }>(
      "SELECT target_pod_id, phase FROM cleave.share WHERE migration_id = $1 FOR UPDATE",
      [migrationId],
    );
    const open = rows.find(({ phase }) => phase === "fenced" || phase === "transferred");
    if (open)
      throw new CleaveError(
        "COMMAND_NOT_POSSIBLE",
        `the share of ${open.target_pod_id} in ${migrationId} is ${open.phase}, so the migration is not over`,
      );
    const opened = rows.filter(({ phase }) => phase === "opened").map(({ target_pod_id }) => target_pod_id);
    await client.query(
      "UPDATE cleave.route SET pod_id = target_pod_id, migration_id = NULL, target_pod_id = NULL WHERE migration_id = $1 AND target_pod_id = ANY($2::text[])",
      [migrationId, opened],
    );
    await client.query(
      "DELETE FROM cleave.route USING cleave.pod WHERE migration_id = $1 AND route.pod_id = pod.default_pod_id",
      [migrationId],
    );
    await client.query(
      "UPDATE cleave.route SET migration_id = NULL, target_pod_id = NULL WHERE migration_id = $1",
      [migrationId],
    );
    await client.query("DELETE FROM cleave.share WHERE migration_id = $1 AND phase = 'source'", [
      migrationId,
    ]);
    await client.query("DELETE FROM cleave.moved WHERE migration_id = $1", [migrationId]);
    await client.query("DELETE FROM cleave.touched WHERE migration_id = $1", [migrationId]);
    await client.query("DELETE FROM cleave.verified WHERE migration_id = $1", [migrationId]);
    await client.query("DELETE FROM cleave.compared WHERE migration_id = $1", [migrationId]);
    await client.query("DELETE FROM cleave.marker WHERE migration_id = $1", [migrationId]);
    await client.query("DELETE FROM cleave.numbering WHERE migration_id = $1", [migrationId]);
    await forgetSchemaChanges(client);
    const { rows: needed } = await client.query<{ needed: boolean }>(
      "SELECT EXISTS (SELECT FROM cleave.share) OR EXISTS (SELECT FROM cleave.route) AS needed",
    );
    return { guardNeeded: needed[0]?.needed ?? true };
  });
}

/** Is any share of the migration here? */
export async function isStaged(db: Queryable, migrationId: MigrationId): Promise<boolean> {
  if (!(await isGuarded(db))) return false;
  const { rowCount } = await db.query("SELECT FROM cleave.share WHERE migration_id = $1", [migrationId]);
  return (rowCount ?? 0) > 0;
}

/**
 * A rollback came to nothing: its organizations are again as the migration `of` had them, and nothing of it is left here.
 * Idempotent.
 * @throws CleaveError COMMAND_NOT_POSSIBLE unless its share is the source's.
 */
export async function returnRoutes(db: Queryable, migrationId: MigrationId, of: MigrationId): Promise<void> {
  await inTransaction(db, async (client) => {
    // As in `releaseRoutes`.
    await client.query("LOCK TABLE cleave.share, cleave.route IN SHARE ROW EXCLUSIVE MODE");
    const { rows } = await client.query<{ phase: SharePhase }>(
      "SELECT phase FROM cleave.share WHERE migration_id = $1 AND phase <> 'source'",
      [migrationId],
    );
    if (rows[0])
      throw new CleaveError("COMMAND_NOT_POSSIBLE", `the share in ${migrationId} is ${rows[0].phase}`);
    await client.query(
      `UPDATE cleave.route SET migration_id = $2, target_pod_id = share.source_pod_id FROM cleave.share
        WHERE route.migration_id = $1 AND share.migration_id = $1 AND share.target_pod_id = route.target_pod_id`,
      [migrationId, of],
    );
    for (const table of ["share", "moved", "touched", "verified", "compared", "marker"])
      await client.query(`DELETE FROM cleave.${table} WHERE migration_id = $1`, [migrationId]);
  });
}
