/** The base copy of a move: one snapshot of the source, and from its very position the change stream. */
import { setTimeout as sleep } from "node:timers/promises";
import { CleaveError } from "../../../../protocol/errors.ts";
import type { Duty } from "../../../../protocol/ports/store.ts";
import type { PeerPostgres } from "../config.ts";
import { connect, type Database, discard } from "../connection.ts";
import type { PostgresStoreOptions } from "../context.ts";
import { type ApplySession, copyRows, createSlot, removeRows } from "../logical/copy.ts";
import { createOrigin, originPosition } from "../logical/follow.ts";
import type { Moving } from "../logical/moved-tables.ts";
import { dropSlots, slotName } from "../slots.ts";
import type { StatusBoard } from "../status-board.ts";
import { hasPublication } from "./publication.ts";

const CONCURRENCY = 4;
const LOOK_EVERY_MS = 100;

export interface MoveSeed {
  readonly options: PostgresStoreOptions;
  readonly source: PeerPostgres;
  readonly board: StatusBoard;
  readonly session: ApplySession;
}

/**
 * Copies what is not copied yet. The origin is made when the copy is complete, so its being there says that it is; a
 * copy that was cut off is removed and made anew from another snapshot. Idempotent.
 */
export async function ensureCopied(
  seed: MoveSeed,
  duty: Duty,
  moving: Moving,
  own: Database,
  signal: AbortSignal,
): Promise<void> {
  const { options, source, board, session } = seed;
  const slot = slotName(duty.migrationId, duty.podId);
  if ((await originPosition(own, slot)) !== null) return;
  const db = await connect(source, { applicationName: "cleave-seed" });
  const cut = () => discard(db);
  signal.addEventListener("abort", cut, { once: true });
  try {
    // A stream looks its publication up as it was at each change, so the slot comes after it.
    while (!(await hasPublication(db, slot))) await sleep(LOOK_EVERY_MS, undefined, { signal });
    await dropSlots(db, [slot], options.clock, signal);
    signal.throwIfAborted();
    await removeRows(options.config, moving, session);
    const total = moving.tables.length;
    let done = 0;
    board.set({ progress: { done, total, unit: "tables" } });
    const snapshot = await createSlot(source, slot);
    try {
      await copyRows({
        source,
        target: options.config,
        moving,
        snapshot,
        session,
        concurrency: CONCURRENCY,
        signal,
        onTable: () => {
          done += 1;
          board.set({ progress: { done, total, unit: "tables" } });
        },
      });
      signal.throwIfAborted();
      await createOrigin(own, slot, snapshot.consistentLsn);
    } finally {
      snapshot.release();
    }
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener("abort", cut);
    cut();
  }
}

/** Removes the organizations' rows and the origin: for a move that was aborted. */
export async function removeMoved(
  seed: Pick<MoveSeed, "options" | "session">,
  duty: Duty,
  moving: Moving,
  own: Database,
): Promise<void> {
  const slot = slotName(duty.migrationId, duty.podId);
  await removeRows(seed.options.config, moving, seed.session);
  await dropOrigin(own, slot);
}

/** @throws CleaveError COMMAND_NOT_POSSIBLE while a stream still uses it. */
export async function dropOrigin(own: Database, name: string): Promise<void> {
  try {
    if ((await originPosition(own, name)) !== null)
      await own.query("SELECT pg_catalog.pg_replication_origin_drop($1)", [name]);
  } catch (error) {
    throw new CleaveError(
      "COMMAND_NOT_POSSIBLE",
      `the replication origin ${name}: ${(error as Error).message}`,
      {
        cause: error,
      },
    );
  }
}
