/**
 * A target's side of the way back after it opened: looked after until the way back is over, and then taken down. Tables that
 * a change of its schema brings are guarded and published, so that what is written to them flows back too.
 */
import type { Duty } from "../../../../protocol/ports/store.ts";
import { Background } from "../background.ts";
import type { PostgresStoreOptions } from "../context.ts";
import { installGuard, verifyGuard } from "../fence/install.ts";
import { readSchemaGeneration } from "../fence/schema-journal.ts";
import { connect, type Database, discard, toPostgresError, WarmConnection } from "../server/connection.ts";
import type { StatusBoard } from "../status-board.ts";
import {
  advanceReverseReplication,
  dropReverseReplication,
  prepareReverseReplication,
  publishReverseReplication,
  requireArmed,
} from "./slot.ts";

const LOOK_EVERY_MS = 500;
const HANGS_AFTER_MS = 20_000;
const ADVANCE_EVERY_MS = 5_000;

export class ReverseReplicationKeeper {
  readonly #options: PostgresStoreOptions;
  readonly #board: StatusBoard;
  readonly #own: WarmConnection;
  readonly #watch: Background;
  #duty: Duty | null = null;
  #preparing: Database | null = null;
  #advanceAt = 0;
  /** Of the schema, when everything was last known to be guarded and published. */
  #generation: number | null = null;

  constructor(options: PostgresStoreOptions, board: StatusBoard) {
    this.#options = options;
    this.#board = board;
    this.#own = new WarmConnection(options.config, {
      applicationName: "cleave-reverse-replication",
      queryTimeoutMs: HANGS_AFTER_MS,
    });
    this.#watch = new Background(options.clock, LOOK_EVERY_MS, (signal) => this.#look(signal));
  }

  /** Of a move's target while it follows; waits for transactions that are open here. */
  async prepare(duty: Duty): Promise<void> {
    const db = await connect(this.#options.config, { applicationName: "cleave-reverse-replication" });
    this.#preparing = db;
    try {
      await prepareReverseReplication(db, duty, this.#options.ownership);
    } finally {
      this.#preparing = null;
      discard(db);
    }
  }

  /** From time to time, so that no WAL is kept that nobody will need. */
  async advance({ reverseReplication, migrationId, podId }: Duty): Promise<void> {
    const now = this.#options.clock.monotonic();
    if (!reverseReplication.includes(podId) || now < this.#advanceAt) return;
    this.#advanceAt = now + ADVANCE_EVERY_MS;
    await this.#own.use((db) => advanceReverseReplication(db, migrationId, podId));
  }

  /** Costs nothing now: whatever is done for it is done afterwards. */
  keep(duty: Duty): void {
    this.#duty = duty;
    this.#watch.start();
  }

  /** For a goal that needs to know that nothing of it is left. */
  async end(duty: Duty, signal: AbortSignal): Promise<void> {
    await this.stop();
    await this.#own.use((db) => dropReverseReplication(db, duty, this.#options.clock, signal));
    this.#board.set({ keptBytes: 0 });
  }

  async stop(): Promise<void> {
    this.#duty = null;
    await this.#watch.stop();
  }

  cut(): void {
    this.#own.reset();
    if (this.#preparing !== null) discard(this.#preparing);
  }

  async close(): Promise<void> {
    this.#own.close();
    await this.stop();
  }

  async #look(signal: AbortSignal): Promise<void> {
    const duty = this.#duty;
    if (duty === null) return;
    const { migrationId, podId } = duty;
    try {
      if (duty.reverseReplication.includes(podId)) {
        const keptBytes = await this.#own.use((db) => requireArmed(db, migrationId, podId));
        this.#board.set({ keptBytes });
        await this.#own.use((db) => this.#keepPublished(db, duty, signal));
        this.#board.say("reverse replication", null);
        return;
      }
      await this.#own.use((db) => dropReverseReplication(db, duty, this.#options.clock, signal));
      this.#board.set({ keptBytes: 0 });
      this.#board.say("reverse replication", null);
      if (this.#duty === duty) void this.#watch.stop();
    } catch (error) {
      if (signal.aborted) return;
      const problem = toPostgresError(error, `reverse replication of ${podId}`);
      this.#options.log.warn({ code: problem.code, err: error }, problem.message);
      this.#board.say("reverse replication", problem);
    }
  }

  async #keepPublished(db: Database, duty: Duty, signal: AbortSignal): Promise<void> {
    const { ownership } = this.#options;
    const { migrationId, defaultPodId } = duty;
    const generation = await readSchemaGeneration(db);
    if (this.#generation === generation) return;
    // Under a fence nothing of it may be made; what is whole is left alone.
    if ((await verifyGuard(db, ownership)).length > 0)
      await installGuard(db, { ownership, defaultPodId, migrationId, signal });
    await publishReverseReplication(db, migrationId, ownership);
    this.#generation = generation;
  }
}
