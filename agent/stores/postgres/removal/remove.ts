/** Removes what is dormant on this Pod (rule 10): checked first, group by group, child before parent, checked again. */
import { CleaveError } from "../../../../protocol/errors.ts";
import type { Duty } from "../../../../protocol/ports/store.ts";
import type { PostgresStoreOptions } from "../context.ts";
import { APPLY_ROLE } from "../fence/names.ts";
import { readSchema, type Schema } from "../inventory/schema.ts";
import { ensureApplyRole } from "../move/apply-role.ts";
import { APPLY_SETTINGS } from "../replication/session.ts";
import { connect, cutWhenAborted, type Database, discard } from "../server/connection.ts";
import { quoteIdentifier } from "../server/queryable.ts";
import { readPosition } from "../split/lineage.ts";
import type { StatusBoard } from "../status-board.ts";
import { removeFromTable } from "./batches.ts";
import { ambiguousParents, type Measured, measure, requireGone } from "./measure.ts";
import { awaitReplicas, PACE } from "./pace.ts";
import { findReferences } from "./references.ts";
import {
  findDormant,
  keepsItsOwn,
  notAllowed,
  refusedByLog,
  requireAllowed,
  requireDormant,
} from "./scope.ts";
import { type DormantTable, dormantTables, type Organizations } from "./tables.ts";

export interface RemovalContext {
  readonly options: PostgresStoreOptions;
  readonly board: StatusBoard;
}

/**
 * Resolves when nothing dormant of the migration is left here. Idempotent; what was cut off goes on where it was, since
 * what is left is found again by the rows themselves.
 * @throws CleaveError REMOVAL_NOT_ALLOWED, REMOVAL_REFERENCED, REMOVAL_DISAGREES; the signal's reason.
 */
export async function removeDormant(context: RemovalContext, duty: Duty, signal: AbortSignal): Promise<void> {
  const db = await connect(context.options.config, { applicationName: "cleave-remove" });
  const cut = () => discard(db);
  try {
    await cutWhenAborted(signal, cut, async () => {
      await takeUp(db, context.options);
      await new Removing(context, duty, db, signal).run();
    });
  } finally {
    cut();
  }
}

/** A session that the guard lets through, on the right server, whose triggers and foreign keys see nothing. */
async function takeUp(db: Database, { podId }: PostgresStoreOptions): Promise<void> {
  const { clusterName, inRecovery } = await readPosition(async (text) => (await db.query(text)).rows);
  if (clusterName !== podId || inRecovery)
    throw new CleaveError(
      "POSTGRES_IDENTITY",
      `the server is ${clusterName || "nameless"}${inRecovery ? ", a standby" : ""}, and has to be the primary of ${podId}`,
    );
  await ensureApplyRole(db);
  await db.query(
    `${APPLY_SETTINGS}; SET jit = off; SET SESSION AUTHORIZATION ${quoteIdentifier(APPLY_ROLE)}`,
  );
}

class Removing {
  readonly #context: RemovalContext;
  readonly #duty: Duty;
  readonly #db: Database;
  readonly #signal: AbortSignal;
  #done = 0;
  #total = 0;

  constructor(context: RemovalContext, duty: Duty, db: Database, signal: AbortSignal) {
    this.#context = context;
    this.#duty = duty;
    this.#db = db;
    this.#signal = signal;
  }

  async run(): Promise<void> {
    const { ownership } = this.#context.options;
    const { organizations, held } = await this.#scope();
    if (organizations.length > 0) {
      const schema = await readSchema(this.#db);
      const tables = dormantTables(schema, ownership);
      const measured = await this.#check(schema, tables, organizations);
      await this.#removeAll(tables, organizations);
      for (const table of tables) await requireGone(this.#db, table, organizations);
      this.#conclude(organizations, measured);
    }
    // The others are gone; these are tried again.
    if (held.length > 0) throw notAllowed(held);
  }

  /** A split's target goes ahead without those that may not go yet; elsewhere each of them was to go, so none does. */
  async #scope(): Promise<{ readonly organizations: Organizations; readonly held: readonly string[] }> {
    const duty = this.#duty;
    const found = await findDormant(this.#db, duty, this.#context.options.ownership);
    const refused = new Set(found.dormant.filter((id) => duty.removal?.mayRemove(id) !== true));
    const held = [...found.held, ...[...refused].map(refusedByLog)];
    if (held.length > 0 && !keepsItsOwn(duty)) throw notAllowed(held);
    return { organizations: found.dormant.filter((id) => !refused.has(id)), held };
  }

  async #check(
    schema: Schema,
    tables: readonly DormantTable[],
    organizations: Organizations,
  ): Promise<Measured[]> {
    const { ownership } = this.#context.options;
    const disputed = await ambiguousParents(this.#db, schema, ownership);
    const measured: Measured[] = [];
    for (const table of tables) {
      this.#signal.throwIfAborted();
      measured.push(await measure(this.#db, table, organizations));
    }
    disputed.push(...measured.flatMap((one) => one.disputed ?? []));
    if (disputed.length > 0) throw new CleaveError("REMOVAL_DISAGREES", disputed.join("; ").slice(0, 2_000));
    const references = await findReferences(this.#db, schema, ownership, organizations);
    if (references.length > 0)
      throw new CleaveError("REMOVAL_REFERENCED", references.join("; ").slice(0, 2_000));
    this.#total = measured.reduce((sum, { rows }) => sum + rows, 0);
    this.#tell();
    return measured;
  }

  async #removeAll(tables: readonly DormantTable[], organizations: Organizations): Promise<void> {
    const { pace = PACE, clock } = this.#context.options;
    const { board } = this.#context;
    await awaitReplicas(this.#db, pace, clock, board, this.#signal);
    for (let from = 0; from < organizations.length; from += pace.groupOrganizations) {
      const group = organizations.slice(from, from + pace.groupOrganizations);
      for (const table of tables) {
        let since = clock.monotonic();
        await removeFromTable(this.#db, table, group, pace.batchRows, {
          allow: async (db) => {
            this.#signal.throwIfAborted();
            await requireDormant(db, this.#duty, group);
            // Last, so that nothing lies between the newest fold of the log and the deletion.
            requireAllowed(this.#duty, group);
          },
          removed: async (rows) => {
            this.#done += rows;
            this.#tell();
            // As long as it took, so that whoever is served here has at least half of the server.
            await clock.sleep(clock.monotonic() - since, this.#signal);
            await awaitReplicas(this.#db, pace, clock, board, this.#signal);
            since = clock.monotonic();
          },
        });
      }
    }
  }

  #tell(): void {
    const total = Math.max(this.#total, this.#done);
    this.#context.board.set({ progress: { done: this.#done, total, unit: "rows" } });
  }

  #conclude(organizations: Organizations, measured: readonly Measured[]): void {
    const { board, options } = this.#context;
    board.set({ progress: { done: this.#done, total: this.#done, unit: "rows" } });
    const bytes = measured.reduce((sum, one) => sum + one.bytes, 0);
    options.log.info(
      {
        migrationId: this.#duty.migrationId,
        organizations: organizations.length,
        rows: this.#done,
        bytes,
      },
      "dormant rows are removed; PostgreSQL reuses their space",
    );
  }
}
