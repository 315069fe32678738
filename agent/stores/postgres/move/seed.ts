/** The base copy of a move: one snapshot of the source, and from its very position the change stream. */
import { setTimeout as sleep } from "node:timers/promises";
import { CleaveError } from "../../../../protocol/errors.ts";
import type { Duty } from "../../../../protocol/ports/store.ts";
import type { PeerPostgres } from "../config.ts";
import type { PostgresStoreOptions } from "../context.ts";
import { BaseCopy } from "../replication/base-copy.ts";
import { type ApplySession, removeRows } from "../replication/copy.ts";
import { begunCopy } from "../replication/copy-journal.ts";
import { createOrigin, originPosition } from "../replication/follow.ts";
import type { Moving } from "../replication/moved-tables.ts";
import { connect, type Database, discard } from "../server/connection.ts";
import { slotName } from "../split/slots.ts";
import type { StatusBoard } from "../status-board.ts";
import { findRows } from "./collisions.ts";
import { hasPublication } from "./publication.ts";

const CONCURRENCY = 4;
const LOOK_EVERY_MS = 100;

export interface MoveSeed {
  readonly options: PostgresStoreOptions;
  readonly source: PeerPostgres;
  readonly board: StatusBoard;
  readonly session: ApplySession;
}

/** Made once for each start of the agent: it holds the snapshot while the copy is tried again. */
export class Seeding {
  readonly #seed: MoveSeed;
  readonly #slot: string;
  readonly #moving: Moving;
  readonly #copy: BaseCopy;

  constructor(seed: MoveSeed, duty: Duty, moving: Moving) {
    const { options, source, board, session } = seed;
    this.#seed = seed;
    this.#moving = moving;
    this.#slot = slotName(duty.migrationId, duty.podId);
    this.#copy = new BaseCopy({
      source,
      target: options.config,
      moving,
      session,
      slot: this.#slot,
      concurrency: CONCURRENCY,
      clock: options.clock,
      bytesPerSecond: duty.settings.rateLimits.baseBackupBytesPerSecond,
      onProgress: ({ bytes, estimatedBytes }) =>
        board.set({ progress: { done: bytes, total: Math.max(bytes, estimatedBytes), unit: "bytes" } }),
      onRestart: (reason) => options.log.warn({ migrationId: duty.migrationId }, reason),
    });
  }

  /** Copies what is not copied yet. The origin is made when the copy is complete, so its being there says that it is. */
  async run(own: Database, signal: AbortSignal): Promise<void> {
    if ((await originPosition(own, this.#slot)) !== null) return;
    await this.#requireNothing(own);
    await this.#publication(signal);
    const consistentLsn = await this.#copy.run(signal).catch((error: unknown) => {
      const refused = refusedValue(error);
      // Whoever corrects the row corrects it for the next snapshot.
      if (refused !== null) this.#copy.close();
      throw refused ?? error;
    });
    await createOrigin(own, this.#slot, consistentLsn);
  }

  close(): void {
    this.#copy.close();
  }

  /** Rule 9, again: only what this migration is known to have copied is ever removed to begin anew. */
  async #requireNothing(own: Database): Promise<void> {
    if ((await begunCopy(own, this.#slot)) !== null) return;
    const found = await findRows(own, this.#moving);
    if (found.length > 0) throw new CleaveError("TARGET_HOLDS_ORGANIZATION", found.join("; "));
  }

  /** A stream looks its publication up as it was at each change, so the slot comes after it. */
  async #publication(signal: AbortSignal): Promise<void> {
    const db = await connect(this.#seed.source, { applicationName: "cleave-seed" });
    try {
      while (!(await hasPublication(db, this.#slot))) await sleep(LOOK_EVERY_MS, undefined, { signal });
    } finally {
      discard(db);
    }
  }
}

/** What the target itself refuses (constraints, values, types) stays refused, however often it is tried. */
function refusedValue(error: unknown): CleaveError | null {
  const cause = (error as { cause?: unknown }).cause ?? error;
  const { code, schema, table, message } = cause as Record<string, string | undefined>;
  if (code === undefined || !/^(22|23|42)/.test(code)) return null;
  const where = table === undefined ? "" : ` ${schema ?? "public"}.${table}`;
  return new CleaveError("CHANGE_NOT_APPLICABLE", `copying${where}: ${message}`, { cause: error });
}

/** Removes the organizations' rows and the origin: for a move that was aborted. */
export async function removeMoved(
  seed: Pick<MoveSeed, "options" | "session">,
  duty: Duty,
  moving: Moving,
  own: Database,
): Promise<void> {
  const slot = slotName(duty.migrationId, duty.podId);
  const copied = (await originPosition(own, slot)) !== null || (await begunCopy(own, slot)) !== null;
  // Without a copy of this migration whatever is here is somebody's (I7).
  if (copied) await removeRows(seed.options.config, moving, seed.session, slot);
  await dropOrigin(own, slot);
}

/** How long a stream's session may take to end once its connection was closed. */
const SESSION_ENDS_WITHIN_MS = 5_000;
const DROP_AGAIN_MS = 50;
const OBJECT_IN_USE = "55006";

/** @throws CleaveError COMMAND_NOT_POSSIBLE when a stream goes on using it. */
export async function dropOrigin(own: Database, name: string): Promise<void> {
  const until = performance.now() + SESSION_ENDS_WITHIN_MS;
  for (;;) {
    try {
      if ((await originPosition(own, name)) !== null)
        await own.query("SELECT pg_catalog.pg_replication_origin_drop($1)", [name]);
      return;
    } catch (error) {
      const { code, message } = error as { code?: string; message: string };
      // The server notices after us that its client is gone.
      if (code !== OBJECT_IN_USE || performance.now() > until)
        throw new CleaveError("COMMAND_NOT_POSSIBLE", `the replication origin ${name}: ${message}`, {
          cause: error,
        });
    }
    await sleep(DROP_AGAIN_MS);
  }
}
