/** A target's part of one migration: copied, following, matched, promoted, opened; or removed again. */
import { join } from "node:path";
import { CleaveError, invariant } from "../../../../protocol/errors.ts";
import type { Evidence } from "../../../../protocol/evidence.ts";
import type { MigrationId } from "../../../../protocol/ids.ts";
import type { Duty } from "../../../../protocol/ports/store.ts";
import { Background } from "../background.ts";
import { epochOf, type PostgresStoreOptions, peerOf } from "../context.ts";
import { awaitMarker, readMarker } from "../fence/raise.ts";
import { setShares } from "../fence/staging.ts";
import { leftToTheOperator } from "../removal/preflight.ts";
import { removeDormant } from "../removal/remove.ts";
import { beginRemoval, enforceShares, settle } from "../removal/settle.ts";
import { ReverseReplicationKeeper } from "../reverse/keeper.ts";
import { armReverseReplication } from "../reverse/slot.ts";
import { type Binaries, locateBinaries } from "../server/binaries.ts";
import { WarmConnection } from "../server/connection.ts";
import type { KeptServer } from "../server/kept-server.ts";
import { isRecoveryConflict } from "../server/queryable.ts";
import { resolveRunAs, type SystemUser } from "../server/run-as.ts";
import { readTextOrNull } from "../server/server.ts";
import type { StatusBoard } from "../status-board.ts";
import { type RemovingTarget, reachAsTarget } from "../target.ts";
import { type CopyRecord, CopyRecords } from "./copy-record.ts";
import { readPosition, type ServerPosition } from "./lineage.ts";
import { beginOwnNumbers, boundNumbers, numbersApart } from "./numbering.ts";
import { ensureSeeded, removeCopy, type SeedContext } from "./seed.ts";
import { forgetSource, knowsSource } from "./standby-files.ts";
import { StandbyServer } from "./standby-server.ts";
import { StandbyWatch } from "./standby-watch.ts";
import { disableSubscriptions } from "./subscriptions.ts";

/**
 * Asks for the promotion and waits for it for some time, in one round trip; repeated harmlessly. `pg_promote(true)`
 * and pg_ctl look only every 100 ms, and looking from outside would take processor time from the promotion itself.
 */
const PROMOTE = `
SELECT CASE WHEN pg_is_in_recovery() THEN pg_promote(false) END;
DO $$ BEGIN
  FOR turn IN 1..200 LOOP
    EXIT WHEN NOT pg_is_in_recovery();
    PERFORM pg_sleep(0.0005);
  END LOOP;
END $$;
SELECT pg_is_in_recovery() AS recovering`;

const POSITION_TIMEOUT_MS = 2_000;
const SETTLE_EVERY_MS = 2_000;

interface Parts {
  readonly seed: SeedContext;
  readonly server: StandbyServer;
  readonly watch: StandbyWatch;
}

export class TargetPart implements RemovingTarget {
  readonly #options: PostgresStoreOptions;
  readonly #board: StatusBoard;
  readonly #records: CopyRecords;
  readonly #reverseReplication: ReverseReplicationKeeper;
  readonly #kept: KeptServer;
  #settling: Background | null = null;
  #parts: Promise<Parts> | null = null;

  constructor(options: PostgresStoreOptions, board: StatusBoard, kept: KeptServer) {
    this.#options = options;
    this.#kept = kept;
    this.#board = board;
    this.#records = new CopyRecords(options.stateDirectory);
    this.#reverseReplication = new ReverseReplicationKeeper(options, board);
  }

  async reach(duty: Duty, signal: AbortSignal): Promise<void> {
    return reachAsTarget(this, this.#board, duty, signal);
  }

  /** Ends what waits for a server that does not answer. */
  cut(): void {
    this.#reverseReplication.cut();
    this.#parts?.then(
      ({ server, seed }) => {
        server.fast.reset();
        server.watch.reset();
        seed.sourceConnection.reset();
      },
      () => undefined,
    );
  }

  async close(): Promise<void> {
    await this.#settling?.stop();
    await this.#reverseReplication.close();
    const parts = await this.#parts?.catch(() => null);
    if (!parts) return;
    await parts.watch.stop();
    parts.server.close();
    parts.seed.sourceConnection.close();
  }

  #assemble(duty: Duty): Promise<Parts> {
    this.#parts ??= this.#build(duty).catch((error) => {
      this.#parts = null;
      throw error;
    });
    return this.#parts;
  }

  async #build(duty: Duty): Promise<Parts> {
    const { config, clock } = this.#options;
    const source = peerOf(this.#options, duty);
    const sourceConnection = new WarmConnection(source, {
      applicationName: `cleave-${this.#options.podId}`,
      queryTimeoutMs: POSITION_TIMEOUT_MS,
    });
    const [binaries, runAs] = await Promise.all([this.#locate(sourceConnection), resolveRunAs(config.runAs)]);
    const server = new StandbyServer(this.#options, binaries, runAs);
    const board = this.#board;
    const seed = {
      options: this.#options,
      binaries,
      runAs,
      source,
      sourceConnection,
      records: this.#records,
      board,
    };
    const watch = new StandbyWatch({
      clock,
      log: this.#options.log,
      config,
      server,
      source: sourceConnection,
      board,
    });
    return { seed, server, watch };
  }

  /** Of the data's major version: the copy's own word first, for the source may be dead by the time of a promotion. */
  async #locate(source: WarmConnection): Promise<Binaries> {
    const { binDirectory, dataDirectory } = this.#options.config;
    if (binDirectory !== undefined) return locateBinaries({ binDirectory });
    const text = await readTextOrNull(join(dataDirectory, "PG_VERSION"));
    if (text !== null) return locateBinaries({ majorVersion: Number(text) });
    const [row] = await source.query<{ version: number }>(
      "SELECT current_setting('server_version_num')::int / 10000 AS version",
    );
    return locateBinaries({ majorVersion: row?.version });
  }

  async follow(duty: Duty, signal: AbortSignal): Promise<void> {
    const { seed, server, watch } = await this.#assemble(duty);
    // A watch would start what is only half copied.
    const record = await ensureSeeded(seed, duty, () => watch.stop(), signal);
    await server.ensureRunning(record, signal);
    this.#board.set({ evidence: null });
    watch.keepWarm(duty.migrationId);
    watch.start(record);
    // Until then it may still be replaying what the copy itself needs to be consistent.
    await watch.untilStreaming(signal);
    this.#board.set({ reached: true, progress: null });
  }

  /** Rule 5: the marker of this epoch was replayed here, so everything before it was. */
  async match(duty: Duty, signal: AbortSignal): Promise<void> {
    const epoch = epochOf(duty);
    const { server, watch } = await this.#assemble(duty);
    this.#board.awaitEvidence(epoch);
    const record = await this.#ownCopy(duty.migrationId);
    watch.keepWarm(null);
    watch.start(record);
    await this.#ensureConnected(server, duty, signal);
    let marker: { readonly token: string } | null = null;
    for (;;) {
      signal.throwIfAborted();
      marker = await server.fast.use((db) =>
        awaitMarker(db, duty.migrationId, epoch).catch((error: unknown) => {
          // Replay comes first, and cancels whoever is in its way: the marker may be what it replays.
          if (isRecoveryConflict(error)) return null;
          throw error;
        }),
      );
      if (marker) break;
    }
    const own = await readPosition((text) => server.fast.query(text));
    if (own.systemIdentifier !== record.systemIdentifier) throw otherLineage(own.systemIdentifier, record);
    invariant(own.inRecovery, "a target was promoted before the transfer");
    const evidence: Evidence = {
      epoch,
      digest: evidenceDigest(own, marker.token),
      details: { replayLsn: own.lsn ?? "unknown", timeline: own.timeline },
    };
    this.#board.set({ evidence, reached: true });
  }

  /** Rule 7: promoted under its own identity and closed. Needs nothing of the source, which may be dead by now. */
  async activate(duty: Duty, signal: AbortSignal): Promise<void> {
    const epoch = epochOf(duty);
    const { server, watch } = await this.#assemble(duty);
    // Not awaited: a look at the source that hangs must not lengthen the window.
    void watch.stop();
    const [record] = await Promise.all([
      this.#ownCopy(duty.migrationId),
      this.#ensureConnected(server, duty, signal),
    ]);
    if (server.systemIdentifier !== record.systemIdentifier)
      throw otherLineage(server.systemIdentifier, record);
    if ((await server.fast.use((db) => readMarker(db, duty.migrationId, epoch))) === null)
      throw new CleaveError(
        "POSTGRES_LINEAGE",
        `the marker of epoch ${epoch} is not in this server's history`,
      );
    await this.#promote(server, signal);
    // Before anybody can write here: see `armReverseReplication`.
    if (duty.reverseReplication.includes(duty.podId))
      await server.fast.use((db) => armReverseReplication(db, duty.migrationId, duty.podId));
    await server.fast.use((db) => beginOwnNumbers(db, duty.migrationId, duty.podId));
    await server.fast.use((db) => setShares(db, duty.migrationId, duty.shares, epoch));
    this.#board.set({ reached: true, lag: null, verified: true });
  }

  async #promote(server: StandbyServer, signal: AbortSignal): Promise<void> {
    for (;;) {
      signal.throwIfAborted();
      const results = await server.fast.use((db) => db.query(PROMOTE));
      const last = (results as unknown as { rows: { recovering: boolean }[] }[]).at(-1);
      if (last?.rows[0]?.recovering === false) return;
    }
  }

  async open(duty: Duty, signal: AbortSignal): Promise<void> {
    const { server, watch, seed } = await this.#assemble(duty);
    void watch.stop();
    await this.#ensureConnected(server, duty, signal);
    await server.fast.use((db) => enforceShares(db, duty));
    this.#board.set({ reached: true, lag: null, verified: true });
    this.#settle(async () => {
      await this.#tidy(server, duty, seed.runAs);
      await this.#bound(server, duty);
    });
    this.#reverseReplication.keep(duty);
  }

  async #bound(server: StandbyServer, duty: Duty): Promise<void> {
    if (!numbersApart(duty)) return;
    await server.watch
      .use((db) => boundNumbers(db, duty.migrationId, duty.podId))
      .catch((error: unknown) => this.#options.log.warn({ err: error }, "sequences are not bounded yet"));
  }

  /** Rule 10: everything but what was opened here was copied from the source and never served. */
  async removeRows(duty: Duty, signal: AbortSignal): Promise<void> {
    if (duty.shares[duty.podId] !== "opened" && (await this.#isNoPrimary())) {
      this.#options.log.warn({ migrationId: duty.migrationId }, leftToTheOperator(this.#options).message);
      this.#board.set({ reached: true, lag: null, progress: null, evidence: null });
      return;
    }
    const { server, watch, seed } = await this.#assemble(duty);
    await watch.stop();
    await this.#ensureConnected(server, duty, signal);
    await server.fast.use((db) => beginRemoval(db, duty));
    await this.#reverseReplication.end(duty, signal);
    await removeDormant({ options: this.#options, board: this.#board }, duty, signal);
    await this.#tidy(server, duty, seed.runAs);
    await server.fast.use((db) => settle(db, duty, signal));
    // From here on the directory is a Pod's like any other, and nothing proves that it may be emptied.
    await this.#records.remove(duty.migrationId);
    this.#board.set({ reached: true, lag: null, evidence: null, stragglers: [], problems: [] });
  }

  /** Nothing is in the data directory, or a standby, which stays one when it is started. */
  async #isNoPrimary(): Promise<boolean> {
    const { dataDirectory } = this.#options.config;
    if ((await readTextOrNull(join(dataDirectory, "PG_VERSION"))) === null) return true;
    return (await readTextOrNull(join(dataDirectory, "standby.signal"))) !== null;
  }

  /**
   * After the window: from now on the agent keeps the server running, what was the source's alone is not done here too, and
   * a later start does not look for the source again. Idempotent.
   */
  async #tidy(server: StandbyServer, duty: Duty, runAs: SystemUser | null): Promise<void> {
    const { config, podId } = this.#options;
    // A share that was given back is opened by nobody, and its Pod's schema is closed.
    if (duty.shares[podId] !== "opened") return;
    const record = await this.#records.load(duty.migrationId);
    if (record !== null) await this.#kept.adopt(record);
    if (await knowsSource(config)) await disableSubscriptions(config);
    await forgetSource(config, podId, runAs);
    await server.fast.query("SELECT pg_reload_conf()");
  }

  /** Beside whatever comes next, again until it has succeeded once. */
  #settle(work: () => Promise<void>): void {
    void this.#settling?.stop();
    const { clock, log } = this.#options;
    const loop = new Background(clock, SETTLE_EVERY_MS, async (signal) => {
      try {
        await work();
        void loop.stop();
      } catch (error) {
        if (!signal.aborted)
          log.warn({ err: error }, "what follows the opening is not done yet; it is tried again");
      }
    });
    this.#settling = loop;
    loop.start();
  }

  async release(duty: Duty, signal: AbortSignal): Promise<void> {
    await this.#reverseReplication.stop();
    // The source need not be there for this.
    const parts = await this.#parts?.catch(() => null);
    await parts?.watch.stop();
    parts?.server.fast.reset();
    parts?.server.watch.reset();
    await removeCopy(this.#records, duty, signal);
    this.#board.released();
  }

  /** The warm connection; a server that is down is started first. */
  async #ensureConnected(server: StandbyServer, duty: Duty, signal: AbortSignal): Promise<void> {
    try {
      await server.fast.get();
    } catch (error) {
      if (!(error instanceof CleaveError) || error.code !== "POSTGRES_UNREACHABLE") throw error;
      // Only a server of our making is ours to start.
      const record = await this.#records.load(duty.migrationId);
      if (record === null || !(await this.#kept.isAgents())) throw error;
      await server.ensureRunning(record, signal);
      await server.fast.get();
    }
  }

  async #ownCopy(migrationId: MigrationId): Promise<CopyRecord> {
    const record = await this.#records.load(migrationId);
    if (record?.state === "copied") return record;
    throw new CleaveError("POSTGRES_LINEAGE", "there is no complete copy of the source here");
  }
}

/** Equal on source and target exactly when both have the same history up to the same marker. */
export function evidenceDigest(
  position: Pick<ServerPosition, "systemIdentifier" | "timeline">,
  token: string,
): string {
  return `${position.systemIdentifier}/${position.timeline}/${token}`;
}

function otherLineage(systemIdentifier: string | null, record: CopyRecord): CleaveError {
  return new CleaveError(
    "POSTGRES_LINEAGE",
    `this server's system identifier is ${systemIdentifier}, that of the copy was ${record.systemIdentifier}`,
  );
}
