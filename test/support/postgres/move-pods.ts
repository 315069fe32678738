/** Two Pods that serve, as PostgreSQL alone sees them, of which one takes an organization over from the other. */
import { join } from "node:path";
import { PostgresConfig } from "../../../agent/stores/postgres/config.ts";
import type { Pace } from "../../../agent/stores/postgres/removal/pace.ts";
import { createPostgresStore, type PostgresStore } from "../../../agent/stores/postgres/store.ts";
import { silentLogger } from "../../../protocol/adapters/logger.ts";
import { systemClock } from "../../../protocol/adapters/system-clock.ts";
import type { SharePhase } from "../../../protocol/cluster.ts";
import type { CheckStage, Finding, Goal, StoreStatus } from "../../../protocol/evidence.ts";
import type { Epoch, MigrationId, OrganizationId, PodId } from "../../../protocol/ids.ts";
import type { Ownership } from "../../../protocol/ownership.ts";
import { Settings } from "../../../protocol/plan.ts";
import type { Duty, Removal } from "../../../protocol/ports/store.ts";
import { eventually } from "../eventually.ts";
import { Cluster } from "./postgres.ts";

export const FROM = "pod-0" as PodId;
export const TO = "pod-1" as PodId;

interface DutyOptions {
  readonly epoch?: number;
  readonly phase?: SharePhase;
  readonly removal?: Removal;
}

export class MovePods {
  readonly source: Cluster;
  readonly target: Cluster;
  /** Of stores that are made from here on. */
  ownership: Ownership;
  organizations: readonly string[];
  readonly #stores = new Map<PodId, PostgresStore>();
  migrationId = "move-1" as MigrationId;
  /** `[TO]` keeps a way back. */
  reverseReplication: readonly PodId[] = [];
  /** Of stores that are made from here on. */
  pace: Pace | null = null;
  /** Of both servers; null for the usual one. */
  #database: string | null = null;

  private constructor(
    source: Cluster,
    target: Cluster,
    ownership: Ownership,
    organizations: readonly string[],
  ) {
    this.source = source;
    this.target = target;
    this.ownership = ownership;
    this.organizations = organizations;
  }

  /** Of servers that run already, with their schemas. */
  static of(
    source: Cluster,
    target: Cluster,
    ownership: Ownership,
    organizations: readonly string[],
  ): MovePods {
    return new MovePods(source, target, ownership, organizations);
  }

  static async start(
    schema: string,
    ownership: Ownership,
    organizations: readonly string[],
  ): Promise<MovePods> {
    const settings = { wal_level: "logical" };
    const [source, target] = await Promise.all([
      Cluster.start({ podId: FROM, settings }),
      Cluster.start({ podId: TO, settings }),
    ]);
    for (const cluster of [source, target]) await cluster.query(schema);
    return new MovePods(source, target, ownership, organizations);
  }

  /** In a database of its own on servers that are there, and that others use too; the caller makes and drops it. */
  static within(
    servers: { readonly source: Cluster; readonly target: Cluster },
    database: string,
    ownership: Ownership,
    organizations: readonly string[],
  ): MovePods {
    const pods = new MovePods(servers.source, servers.target, ownership, organizations);
    pods.#database = database;
    return pods;
  }

  /** Ends the stores and leaves the servers. */
  async close(): Promise<void> {
    await Promise.all([...this.#stores.values()].map((store) => store.close()));
  }

  async remove(): Promise<void> {
    await this.close();
    await this.source.remove();
    await this.target.remove();
  }

  /** As a freshly started agent has it, after `restart`. */
  store(podId: PodId): PostgresStore {
    const known = this.#stores.get(podId);
    if (known) return known;
    const store = this.storeAt(podId, podId === FROM ? this.source : this.target);
    this.#stores.set(podId, store);
    return store;
  }

  /** With that server as the Pod's own; the caller closes it. */
  storeAt(podId: PodId, cluster: Cluster): PostgresStore {
    const { host, user, password, database } = this.source.connection;
    const endpoint = { host, user, password, database: this.#database ?? database } as {
      host: string;
      user: string;
      password: string;
      database: string;
    };
    return createPostgresStore({
      podId,
      config: PostgresConfig.parse({ ...endpoint, port: cluster.port, dataDirectory: cluster.dataDirectory }),
      peers: {
        [FROM]: { ...endpoint, port: this.source.port },
        [TO]: { ...endpoint, port: this.target.port },
      } as never,
      ownership: this.ownership,
      clock: systemClock,
      log: silentLogger,
      stateDirectory: join(cluster.folder, "state"),
      ...(this.pace === null ? {} : { pace: this.pace }),
    });
  }

  async restart(podId: PodId): Promise<void> {
    await this.#stores.get(podId)?.close();
    this.#stores.delete(podId);
  }

  duty(podId: PodId, goal: Goal, options: DutyOptions = {}): Duty {
    return {
      migrationId: this.migrationId,
      kind: "move",
      role: podId === FROM ? "source" : "target",
      goal,
      podId,
      sourcePodId: FROM,
      targetPodIds: [TO],
      defaultPodId: FROM,
      assignments: new Map(this.organizations.map((id) => [id as OrganizationId, TO])),
      shares: { [TO]: options.phase ?? "source" } as Duty["shares"],
      epoch: (options.epoch ?? null) as Epoch | null,
      settings: Settings.parse({ cutover: { drainGraceMs: 200 } }),
      of: null,
      forced: false,
      reverseReplication: this.reverseReplication,
      rollbacks: [],
      removal: options.removal ?? null,
    };
  }

  reach(podId: PodId, goal: Goal, options: DutyOptions = {}): Promise<void> {
    return this.store(podId).reach(this.duty(podId, goal, options), AbortSignal.timeout(60_000));
  }

  status(podId: PodId): StoreStatus {
    const status = this.store(podId).status(this.migrationId);
    if (status === null) throw new Error(`${podId} knows nothing of ${this.migrationId}`);
    return status;
  }

  preflight(podId: PodId, stage: CheckStage = "start"): Promise<Finding[]> {
    const goal = podId === FROM ? "prepare" : "seed";
    return this.store(podId).preflight(this.duty(podId, goal), stage, AbortSignal.timeout(60_000));
  }

  /** Copied, following, and compared once. */
  async follow(): Promise<void> {
    await Promise.all([this.reach(FROM, "prepare"), this.reach(TO, "seed")]);
    await Promise.all([this.reach(FROM, "serve"), this.reach(TO, "follow")]);
    await eventually(() => {
      const { verified, problems } = this.status(TO);
      if (!verified) throw new Error(`not verified: ${JSON.stringify(problems)}`);
    }, 20_000);
  }

  /** Fenced, and both have said what they hold. */
  async fence(epoch: number): Promise<{ source: string | undefined; target: string | undefined }> {
    const phase = "fenced" as const;
    await Promise.all([
      this.reach(FROM, "fence", { epoch, phase }),
      this.reach(TO, "match", { epoch, phase }),
    ]);
    return {
      source: this.status(FROM).evidence?.digest,
      target: this.status(TO).evidence?.digest,
    };
  }

  /** What the source's journal of schema changes has, the target has compared, and the source's checks are of after it. */
  async compared(): Promise<void> {
    await eventually(async () => {
      const { verified, problems } = this.status(TO);
      if (!verified || problems.length > 0) throw new Error(`not verified: ${JSON.stringify(problems)}`);
      const [left] = await this.source.query(
        "SELECT count(*)::int AS n FROM cleave.schema_change c, cleave.verified v WHERE NOT pg_visible_in_snapshot(c.xid, v.snapshot::pg_snapshot)",
      );
      if (left?.["n"] !== 0) throw new Error(`${String(left?.["n"])} changes of the schema are not compared`);
    }, 15_000);
    await this.preflight(FROM, "fence");
  }

  /**
   * Asked for again as the coordinator does: after a change of the schema the source's agent puts its guard on the tables, a
   * moment later on a busy machine, and a fence that comes in between is refused.
   */
  async fenceWhenCompared(first: number) {
    for (let epoch = first; ; epoch += 1) {
      await this.compared();
      try {
        return { epoch, evidence: await this.fence(epoch) };
      } catch (error) {
        if (
          !["SCHEMA_CHANGED", "CHECKS_OUTDATED"].includes((error as { code: string }).code) ||
          epoch === first + 4
        )
          throw error;
        await Promise.all([this.reach(FROM, "serve", { epoch }), this.reach(TO, "follow", { epoch })]);
      }
    }
  }

  // Of a rollback of everything: the organizations go back to where the move took them from.

  rollbackId = "move-1-back-1" as MigrationId;

  rollbackDuty(podId: PodId, goal: Goal, { epoch, phase = "source" }: DutyOptions = {}): Duty {
    return {
      ...this.duty(podId, goal, epoch === undefined ? {} : { epoch }),
      migrationId: this.rollbackId,
      kind: "rollback",
      of: this.migrationId,
      role: podId === TO ? "source" : "target",
      sourcePodId: TO,
      targetPodIds: [FROM],
      assignments: new Map(this.organizations.map((id) => [id as OrganizationId, FROM])),
      shares: { [FROM]: phase } as Duty["shares"],
      reverseReplication: [],
    };
  }

  reachBack(podId: PodId, goal: Goal, options: DutyOptions = {}): Promise<void> {
    return this.store(podId).reach(this.rollbackDuty(podId, goal, options), AbortSignal.timeout(60_000));
  }

  statusBack(podId: PodId): StoreStatus {
    const status = this.store(podId).status(this.rollbackId);
    if (status === null) throw new Error(`${podId} knows nothing of ${this.rollbackId}`);
    return status;
  }

  /** The rollback follows, and nothing that it compared differs. */
  async followBack(): Promise<void> {
    await Promise.all([this.reachBack(TO, "prepare"), this.reachBack(FROM, "seed")]);
    await Promise.all([this.reachBack(TO, "serve"), this.reachBack(FROM, "follow")]);
    await this.comparedBack();
  }

  /** What the journal of the rollback's source has, its target has compared, and the checks are of after it. */
  async comparedBack(): Promise<void> {
    await eventually(async () => {
      const { verified, problems } = this.statusBack(FROM);
      if (!verified || problems.length > 0) throw new Error(`not verified: ${JSON.stringify(problems)}`);
      const [left] = await this.target.query(
        "SELECT count(*)::int AS n FROM cleave.schema_change c WHERE NOT COALESCE((SELECT pg_visible_in_snapshot(c.xid, v.snapshot::pg_snapshot) FROM cleave.verified v WHERE v.migration_id = $1), false)",
        [this.rollbackId],
      );
      if (left?.["n"] !== 0) throw new Error(`${String(left?.["n"])} changes of the schema are not compared`);
    }, 30_000);
    const checked = this.rollbackDuty(TO, "prepare");
    await this.store(TO).preflight(checked, "fence", AbortSignal.timeout(60_000));
  }

  async fenceBack(epoch: number): Promise<{ source: string | undefined; target: string | undefined }> {
    const phase = "fenced" as const;
    await Promise.all([
      this.reachBack(TO, "fence", { epoch, phase }),
      this.reachBack(FROM, "match", { epoch, phase }),
    ]);
    return {
      source: this.statusBack(TO).evidence?.digest,
      target: this.statusBack(FROM).evidence?.digest,
    };
  }

  async lowerBack(epoch: number): Promise<void> {
    await Promise.all([this.reachBack(TO, "serve", { epoch }), this.reachBack(FROM, "follow", { epoch })]);
  }

  /** The rollback's fence held: the organizations are served where they came from. */
  async transferBack(epoch: number): Promise<void> {
    for (const phase of ["transferred", "opened"] as const)
      await Promise.all([
        this.reachBack(TO, "yield", { epoch, phase }),
        this.reachBack(FROM, phase === "opened" ? "open" : "activate", { epoch, phase }),
      ]);
  }

  async transfer(epoch: number): Promise<void> {
    await Promise.all([
      this.reach(FROM, "yield", { epoch, phase: "transferred" }),
      this.reach(TO, "activate", { epoch, phase: "transferred" }),
    ]);
    await Promise.all([
      this.reach(FROM, "yield", { epoch, phase: "opened" }),
      this.reach(TO, "open", { epoch, phase: "opened" }),
    ]);
  }
}
