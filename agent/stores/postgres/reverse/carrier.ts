/**
 * What flows back from one target: applied to the dormant copy here, and compared with it. Begun again after every failure.
 * Changes of the target's schema are followed as a move follows those of its source (`PlanKeeper`).
 */
import { setTimeout as sleep } from "node:timers/promises";
import { CleaveError, type ErrorCode } from "../../../../protocol/errors.ts";
import type { OwnProblem, ReverseReplicationStatus } from "../../../../protocol/evidence.ts";
import type { MigrationId, OrganizationId, PodId } from "../../../../protocol/ids.ts";
import { type PostgresStoreOptions, peerNamed } from "../context.ts";
import { ensureApplyRole } from "../move/apply-role.ts";
import { Follower } from "../move/follower.ts";
import { PlanKeeper } from "../move/plan.ts";
import { requireWatched } from "../move/publication.ts";
import { createOrigin, originPosition } from "../replication/follow.ts";
import { connect, cutWhenAborted, type Database, discard, toPostgresError } from "../server/connection.ts";
import { lagBytes, readPosition } from "../split/lineage.ts";
import { backName, backPublication, slotName } from "../split/slots.ts";
import { SharedRows } from "../verification/references.ts";
import { Verifier } from "../verification/verifier.ts";
import { backSession } from "./session.ts";
import { requireArmed } from "./slot.ts";

const LOOK_EVERY_MS = 500;
/** It may go on for weeks, and no fence waits for it: a rollback compares for itself. */
const COMPARE_EVERY_MS = 500;
const RETRY_MS = 500;
const LASTING_RETRY_MS = 5_000;
/** Over as soon as a server is back, or a deployment has come to the other Pod. */
const SHORT: ReadonlySet<ErrorCode> = new Set([
  "POSTGRES_UNREACHABLE",
  "SCHEMA_DIFFERS",
  "OWNERSHIP_RULE_MISSING",
  "OWNERSHIP_RULE_INVALID",
]);
const HANGS_AFTER_MS = 5_000;

export interface Cargo {
  readonly migrationId: MigrationId;
  readonly defaultPodId: PodId;
  /** The target from which it flows. */
  readonly podId: PodId;
  readonly organizations: readonly OrganizationId[];
  /** Rollbacks that took the others back. */
  readonly without: readonly MigrationId[];
}

interface Flow {
  readonly keeper: PlanKeeper;
  readonly follower: Follower;
  readonly verifier: Verifier;
}

export class Carrier {
  readonly cargo: Cargo;
  readonly #options: PostgresStoreOptions;
  readonly #onChange: () => void;
  readonly #stopping = new AbortController();
  #running: Promise<void> | null = null;
  #flow: Flow | null = null;
  #lagBytes: number | null = null;
  #problem: OwnProblem | null = null;

  constructor(options: PostgresStoreOptions, cargo: Cargo, onChange: () => void) {
    this.#options = options;
    this.cargo = cargo;
    this.#onChange = onChange;
  }

  start(): void {
    this.#running ??= this.#forever();
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new Error("reverse replication is stopped"));
    await this.#running;
  }

  /** Null until it streams. */
  get follower(): Follower | null {
    return this.#flow?.follower ?? null;
  }

  /** What it goes by. Null until it streams. */
  get keeper(): PlanKeeper | null {
    return this.#flow?.keeper ?? null;
  }

  get lagBytes(): number | null {
    return this.#lagBytes;
  }

  /** Of the stream alone: what was compared is said with `status`. */
  get problem(): OwnProblem | null {
    return this.#flow?.follower.problem ?? this.#problem;
  }

  get status(): ReverseReplicationStatus {
    const problem = this.problem ?? this.#flow?.verifier.problems()[0] ?? null;
    return {
      lag: { amount: this.#lagBytes, unit: "bytes" },
      verified: problem === null && this.#flow?.verifier.verified === true,
      problem: problem === null ? null : { code: problem.code, message: problem.message.slice(0, 2_000) },
    };
  }

  async #forever(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      try {
        await this.#attempt(signal);
      } catch (error) {
        if (signal.aborted) return;
        const problem = toPostgresError(error, `reverse replication from ${this.cargo.podId}`);
        if (this.#problem?.message !== problem.message)
          this.#options.log.warn({ code: problem.code, err: error }, problem.message);
        this.#problem = problem;
        this.#lagBytes = null;
        this.#onChange();
        const pauseMs = SHORT.has(problem.code) ? RETRY_MS : LASTING_RETRY_MS;
        await sleep(pauseMs, undefined, { signal }).catch(() => undefined);
      }
    }
  }

  async #attempt(signal: AbortSignal): Promise<void> {
    const { migrationId, podId } = this.cargo;
    const opened: Database[] = [];
    const cut = () => opened.forEach(discard);
    const options = { applicationName: "cleave-reverse-replication", queryTimeoutMs: HANGS_AFTER_MS };
    try {
      await cutWhenAborted(signal, cut, async () => {
        const own = await connect(this.#options.config, options);
        opened.push(own);
        const peer = await connect(peerNamed(this.#options, podId), options);
        opened.push(peer);
        const { clusterName, inRecovery } = await readPosition(async (text) => (await peer.query(text)).rows);
        if (clusterName !== podId || inRecovery)
          throw new CleaveError(
            "POSTGRES_IDENTITY",
            `the server at peers.${podId}.postgres is ${clusterName || "nameless"}${inRecovery ? ", a standby" : ""}, and has to be the primary of ${podId}`,
          );
        await requireArmed(peer, migrationId, podId);
        await ensureApplyRole(own);
        await this.#begin(own, peer);
        signal.throwIfAborted();
        await this.#carry(peer, signal);
      });
    } catch (error) {
      throw toPostgresError(error, `reverse replication from ${podId}`);
    } finally {
      cut();
    }
  }

  /** Where the copy here is: at first where the target was armed, when both had the same. */
  async #begin(own: Database, peer: Database): Promise<void> {
    const name = backName(this.cargo.migrationId, this.cargo.podId);
    if ((await originPosition(own, name)) !== null) return;
    const { rows } = await peer.query<{ lsn: string }>(
      "SELECT confirmed_flush_lsn::text AS lsn FROM pg_catalog.pg_replication_slots WHERE slot_name = $1",
      [name],
    );
    await createOrigin(own, name, rows[0]?.lsn ?? "0/0");
  }

  async #carry(peer: Database, signal: AbortSignal): Promise<void> {
    const flow = this.#makeFlow();
    await flow.keeper.renew(signal);
    flow.follower.start();
    flow.verifier.start();
    this.#flow = flow;
    try {
      for (;;) {
        const { rows } = await peer.query<{ lsn: string }>(
          "SELECT pg_catalog.pg_current_wal_flush_lsn()::text AS lsn",
        );
        const { position, problem } = flow.follower;
        const lsn = rows[0]?.lsn;
        // Over when the new stream has brought something: until then nothing has changed.
        if (position !== null && problem === null) this.#problem = null;
        this.#lagBytes =
          position === null || lsn === undefined ? null : lagBytes(position as never, lsn as never);
        this.#onChange();
        if (problem !== null) await requireArmed(peer, this.cargo.migrationId, this.cargo.podId);
        await sleep(LOOK_EVERY_MS, undefined, { signal });
      }
    } finally {
      this.#flow = null;
      await Promise.all([flow.follower.stop(), flow.verifier.stop()]);
      flow.keeper.close();
    }
  }

  #makeFlow(): Flow {
    const { config, log, ownership, podId: called } = this.#options;
    const { migrationId, podId, without, organizations, defaultPodId } = this.cargo;
    const source = peerNamed(this.#options, podId);
    const session = backSession(migrationId, podId, without);
    const publication = backPublication(migrationId);
    const keeper = new PlanKeeper({
      options: this.#options,
      source,
      migrationId,
      defaultPodId,
      organizations,
      called,
    });
    const follower = new Follower({
      source,
      target: config,
      plan: async () => ({ ...(await keeper.renew()), changes: keeper }),
      slot: backName(migrationId, podId),
      publication,
      session,
      // What a move's copy wrote there came from here.
      without: slotName(migrationId, podId),
      log,
    });
    const verifier = new Verifier({
      migrationId,
      source,
      target: config,
      plan: () => keeper.plan,
      suspects: keeper.suspects,
      // What the other Pod has that is new comes by the stream.
      onStale: (side) => side === "target" && follower.renew(),
      repair: session,
      requireWatched: (db) => requireWatched(db, publication, ownership),
      shared: new SharedRows(),
      setup: session.setup,
      applied: (lsn, signal) => follower.reached(lsn, signal),
      lookEveryMs: COMPARE_EVERY_MS,
      log,
      onChange: () => this.#onChange(),
    });
    return { keeper, follower, verifier };
  }
}
