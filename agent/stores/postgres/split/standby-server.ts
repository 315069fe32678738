/** A target's own server: kept running, and its warm connections. */
import { CleaveError } from "../../../../protocol/errors.ts";
import type { PostgresStoreOptions } from "../context.ts";
import type { Binaries } from "../server/binaries.ts";
import { WarmConnection } from "../server/connection.ts";
import { isOurs } from "../server/data-directory.ts";
import { logFileOf, startOwnServer } from "../server/own-start.ts";
import type { SystemUser } from "../server/run-as.ts";
import { logTail, runningServer, stopServer } from "../server/server.ts";
import type { CopyRecord } from "./copy-record.ts";
import { readInherited } from "./source-facts.ts";
import { raiseInherited } from "./standby-files.ts";

const HANGS_AFTER_MS = 2_000;

/** That the standby does not stream, with what its log said last about the source. */
export async function notStreaming(options: PostgresStoreOptions): Promise<CleaveError> {
  const said = (await logTail(logFileOf(options)))
    .split("\n")
    .findLast((line) => /FATAL:.*(primary|WAL stream|replication|timeline)/.test(line));
  const why = said === undefined ? "" : `: ${said.replace(/^.*?FATAL:\s*/, "").slice(0, 500)}`;
  return new CleaveError("POSTGRES_UNREACHABLE", `the standby does not stream from the source${why}`);
}

export class StandbyServer {
  readonly #options: PostgresStoreOptions;
  readonly #binaries: Binaries;
  readonly #runAs: SystemUser | null;
  /** For what has to be quick: nothing slow is ever queued on it. */
  readonly fast: WarmConnection;
  /** For looking at it from time to time. */
  readonly watch: WarmConnection;

  #systemIdentifier: string | null = null;

  constructor(options: PostgresStoreOptions, binaries: Binaries, runAs: SystemUser | null) {
    this.#options = options;
    this.#binaries = binaries;
    this.#runAs = runAs;
    const { config, podId } = options;
    this.fast = new WarmConnection(config, { applicationName: "cleave" }, async (client) => {
      // Whatever the source's administrators set: what Cleave commits here is durable.
      const { rows } = await client.query<{ name: string; system: string }>(
        "SELECT set_config('synchronous_commit', 'on', false), current_setting('cluster_name') AS name, (SELECT system_identifier::text FROM pg_control_system()) AS system",
      );
      if (rows[0]?.name !== podId)
        throw new CleaveError(
          "POSTGRES_IDENTITY",
          `the server on ${config.host}:${config.port} is ${rows[0]?.name || "nameless"}, not ${podId}`,
        );
      this.#systemIdentifier = rows[0].system;
    });
    this.watch = new WarmConnection(config, {
      applicationName: "cleave-watch",
      queryTimeoutMs: HANGS_AFTER_MS,
    });
  }

  /** Of the server that `fast` is connected to; it never changes while a server runs. */
  get systemIdentifier(): string | null {
    return this.#systemIdentifier;
  }

  async isRunning(): Promise<boolean> {
    return (await runningServer(this.#options.config.dataDirectory)) !== null;
  }

  /**
   * Starts it unless it runs.
   * @throws CleaveError in the server's own words; POSTGRES_LINEAGE when the directory is not that record's complete
   * copy, for a half-made one would start as a primary.
   */
  async ensureRunning(record: CopyRecord, signal: AbortSignal): Promise<void> {
    if (record.state !== "copied" || !(await isOurs(record)))
      throw new CleaveError(
        "POSTGRES_LINEAGE",
        `${record.dataDirectory} is not the complete copy that this agent made, so no server is started on it`,
      );
    await startOwnServer(this.#options, this.#binaries, this.#runAs, signal);
  }

  /**
   * Stops it when its source has a setting by now that a standby may not have smaller: it has paused replay then, and would
   * not start again. The next start is with the source's. Resolves with what was raised, in words.
   */
  async keepUpWith(source: WarmConnection, signal: AbortSignal): Promise<readonly string[]> {
    const { config } = this.#options;
    const settings = await source.use(readInherited);
    const raised = await raiseInherited(config, settings, this.#runAs);
    if (raised.length > 0) await stopServer(config.dataDirectory, "fast", signal);
    return raised;
  }

  notStreaming(): Promise<CleaveError> {
    return notStreaming(this.#options);
  }

  close(): void {
    this.fast.close();
    this.watch.close();
  }
}
