/** Looks at a following standby again and again: running, of the source's lineage, and how far behind. */
import { CleaveError } from "../../../../protocol/errors.ts";
import type { Lsn, MigrationId } from "../../../../protocol/ids.ts";
import type { Clock } from "../../../../protocol/ports/clock.ts";
import type { Logger } from "../../../../protocol/ports/logger.ts";
import { tally } from "../../../../protocol/telemetry/tally.ts";
import { spaceIn } from "../../machine/space.ts";
import { Background } from "../background.ts";
import type { PostgresConfig } from "../config.ts";
import { type Database, toPostgresError, type WarmConnection } from "../server/connection.ts";
import type { StatusBoard } from "../status-board.ts";
import type { CopyRecord } from "./copy-record.ts";
import { lagBytes, lineageProblem, readPosition } from "./lineage.ts";
import { rehearseActivation } from "./rehearsal.ts";
import type { StandbyServer } from "./standby-server.ts";

const EVERY_MS = 250;
/** Below this a standby cannot store the next WAL segments (16 MB each by default). */
const SCARCE_BYTES = 64 * 1024 * 1024;

export const PAUSED =
  "replay is paused on the standby, so it never has what the source writes: SELECT pg_wal_replay_resume() there";

export interface StandbyWatchOptions {
  readonly clock: Clock;
  readonly log: Logger;
  readonly config: PostgresConfig;
  readonly server: StandbyServer;
  readonly source: WarmConnection;
  readonly board: StatusBoard;
}

export class StandbyWatch {
  readonly #options: StandbyWatchOptions;
  readonly #background: Background;
  #streaming = false;
  #problem: CleaveError | null = null;
  #record: CopyRecord | null = null;
  #rehearsed: Database | null = null;
  #warm: MigrationId | null = null;
  /** The furthest that was seen. */
  #replayed: Lsn | null = null;

  constructor(options: StandbyWatchOptions) {
    this.#options = options;
    this.#background = new Background(options.clock, EVERY_MS, (signal) => this.#turn(signal));
  }

  start(record: CopyRecord): void {
    this.#record = record;
    this.#background.start();
  }

  async stop(): Promise<void> {
    await this.#background.stop();
    this.#streaming = false;
  }

  /** Keeps the connection for the match open and its plans made, until a match uses it. */
  keepWarm(migrationId: MigrationId | null): void {
    this.#warm = migrationId;
  }

  /** @throws CleaveError what keeps it from streaming, as soon as that is known. */
  async untilStreaming(signal: AbortSignal): Promise<void> {
    while (!this.#streaming) {
      if (this.#problem?.code === "POSTGRES_LINEAGE") throw this.#problem;
      await this.#options.clock.sleep(EVERY_MS / 10, signal);
    }
  }

  async #rehearse(db: Database, migrationId: MigrationId): Promise<void> {
    if (this.#rehearsed === db) await db.query("SELECT 1");
    else await rehearseActivation(db, migrationId);
    this.#rehearsed = db;
  }

  async #whyPaused(signal: AbortSignal): Promise<string> {
    const { server, source } = this.#options;
    const raised = await server.keepUpWith(source, signal);
    return raised.length > 0
      ? `replay on the standby paused, because ${raised.join(" and ")}; it is started again with the source's`
      : PAUSED;
  }

  async #turn(signal: AbortSignal): Promise<void> {
    const { board, log } = this.#options;
    try {
      await this.#look(signal);
    } catch (error) {
      if (signal.aborted) return;
      const problem = toPostgresError(error, "the standby or its source");
      if (this.#problem?.message !== problem.message)
        log.warn({ code: problem.code, err: error }, problem.message);
      this.#problem = problem;
      this.#streaming = false;
      board.set({ verified: false, lag: { amount: null, unit: "bytes" } });
      board.say("watch", problem);
    }
  }

  async #look(signal: AbortSignal): Promise<void> {
    const { board, server, source, config } = this.#options;
    if (this.#record !== null && !(await server.isRunning())) {
      board.set({ verified: false, lag: { amount: null, unit: "bytes" } });
      board.say(
        "watch",
        new CleaveError("POSTGRES_UNREACHABLE", "the standby is not running; it is being started again"),
      );
      // A source that does not answer now may answer at the next look.
      await server.keepUpWith(source, signal).catch(() => []);
      await server.ensureRunning(this.#record, signal);
    }
    // In this order: what the source wrote in between makes the lag too large, never too small.
    const own = await readPosition((text) => server.watch.query(text));
    const other = await readPosition((text) => source.query(text));
    if (other.inRecovery)
      throw new CleaveError("POSTGRES_LINEAGE", "the source's server is itself a standby now");
    const wrong = lineageProblem(own, other);
    if (wrong !== null) throw new CleaveError("POSTGRES_LINEAGE", wrong);
    if (this.#warm !== null) {
      const migrationId = this.#warm;
      // Whatever it answers: only that the connection is open and warm counts.
      await server.fast.use((db) => this.#rehearse(db, migrationId)).catch(() => undefined);
    }
    const { freeBytes } = await spaceIn(config.dataDirectory, { writable: false });
    const scarce = freeBytes < SCARCE_BYTES;
    if (signal.aborted) return;
    const problem = scarce
      ? new CleaveError("DISK_FULL", `less than ${SCARCE_BYTES} bytes are free for ${config.dataDirectory}`)
      : own.paused
        ? new CleaveError("POSTGRES_SETTING", await this.#whyPaused(signal))
        : own.streaming
          ? null
          : await server.notStreaming();
    this.#problem = problem;
    this.#streaming = own.streaming;
    // A standby that was started again replays what it had replayed: only what is new has come from the source.
    if (own.lsn !== null) {
      const newBytes = this.#replayed === null ? null : lagBytes(this.#replayed, own.lsn);
      tally("postgres", "bytes", newBytes ?? 0);
      if (newBytes !== 0) this.#replayed = own.lsn;
    }
    const amount = own.lsn === null || other.lsn === null ? null : lagBytes(own.lsn, other.lsn);
    board.set({
      lag: { amount, unit: "bytes" },
      verified: own.streaming && !own.paused,
    });
    board.say("watch", problem);
  }
}
