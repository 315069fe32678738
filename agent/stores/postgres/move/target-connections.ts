/** The connections of a target whose rows are compared: of a move's, and of its rollback's. */
import { CleaveError } from "../../../../protocol/errors.ts";
import type { Duty } from "../../../../protocol/ports/store.ts";
import { type PostgresStoreOptions, peerOf } from "../context.ts";
import { type Database, WarmConnection } from "../server/connection.ts";
import { readPosition } from "../split/lineage.ts";

const HANGS_AFTER_MS = 5_000;

export class TargetConnections {
  readonly #options: PostgresStoreOptions;
  readonly own: WarmConnection;
  /** For comparing and for positions. */
  readonly reading: WarmConnection;
  #source: WarmConnection | null = null;

  constructor(options: PostgresStoreOptions) {
    this.#options = options;
    const { config } = options;
    this.own = new WarmConnection(config, { applicationName: "cleave" }, (db) => greetOwn(options, db));
    this.reading = new WarmConnection(config, { applicationName: "cleave-match" });
  }

  /** To the source's server; made by the first call. @throws CleaveError CONFIG_INVALID */
  source(duty: Duty): WarmConnection {
    this.#source ??= new WarmConnection(peerOf(this.#options, duty), {
      applicationName: `cleave-${this.#options.podId}`,
      queryTimeoutMs: HANGS_AFTER_MS,
    });
    return this.#source;
  }

  /** Keeps those to this Pod's server open, for the match and the opening. */
  async keepWarm(): Promise<void> {
    await Promise.all([this.own.query("SELECT 1"), this.reading.query("SELECT 1")]);
  }

  /** Ends what waits for a server that does not answer. */
  cut(): void {
    for (const connection of [this.own, this.reading, this.#source]) connection?.reset();
  }

  close(): void {
    for (const connection of [this.own, this.reading, this.#source]) connection?.close();
  }
}

/** @throws CleaveError POSTGRES_IDENTITY when the server is not the Pod's primary. */
async function greetOwn({ podId, config }: PostgresStoreOptions, db: Database): Promise<void> {
  const position = await readPosition(async (text) => (await db.query(text)).rows);
  if (position.clusterName !== podId || position.inRecovery)
    throw new CleaveError(
      "POSTGRES_IDENTITY",
      `the server on ${config.host}:${config.port} is ${position.clusterName || "nameless"}${position.inRecovery ? ", a standby" : ""}, and has to be the primary of ${podId}`,
    );
}
