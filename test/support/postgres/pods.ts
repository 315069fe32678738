/** A source Pod and its targets as PostgreSQL alone sees them: real clusters, real stores, and the duties an agent would give. */

import pg from "pg";
import { PostgresConfig, type PostgresConfigInput } from "../../../agent/stores/postgres/config.ts";
import type { PostgresStoreOptions } from "../../../agent/stores/postgres/context.ts";
import type { Pace } from "../../../agent/stores/postgres/removal/pace.ts";
import { createPostgresStore, type PostgresStore } from "../../../agent/stores/postgres/store.ts";
import { silentLogger } from "../../../protocol/adapters/logger.ts";
import { systemClock } from "../../../protocol/adapters/system-clock.ts";
import type { SharePhase } from "../../../protocol/cluster.ts";
import type { Goal, StoreStatus } from "../../../protocol/evidence.ts";
import type { Epoch, MigrationId, OrganizationId, PodId } from "../../../protocol/ids.ts";
import { Ownership } from "../../../protocol/ownership.ts";
import { Settings } from "../../../protocol/plan.ts";
import type { Clock } from "../../../protocol/ports/clock.ts";
import type { Duty, Removal } from "../../../protocol/ports/store.ts";
import { Cluster, type ClusterOptions, emptyPod } from "./postgres.ts";

export const MIGRATION = "split-1" as MigrationId;
export const SOURCE = "pod-0" as PodId;

export const ownership: Ownership = Ownership.parse({
  version: 1,
  root: { table: "public.organizations" },
  tables: {
    "public.organizations": { organization: "id" },
    "public.notes": { organization: "organization_id" },
  },
});

export type TargetPod = Awaited<ReturnType<typeof emptyPod>> & {
  readonly podId: PodId;
  readonly connection: pg.ClientConfig;
};

export interface DutyOptions {
  readonly epoch?: number;
  readonly phase?: SharePhase;
  readonly removal?: Removal;
  /** Default: all targets, when the settings say so. */
  readonly reverseReplication?: readonly PodId[];
  /** The phase of the rollback of `rollbackDuty`; default: there is none. */
  readonly rollback?: SharePhase;
}

export const ROLLBACK = "split-1-back-1" as MigrationId;

export interface Assembly {
  readonly source: Cluster;
  readonly targets: readonly TargetPod[];
  /** A store as a freshly started agent of that Pod has it. */
  store(podId: PodId, overrides?: Partial<PostgresConfigInput>, clock?: Clock): PostgresStore;
  /** What `store` is made from, for a store in another process. */
  optionsOf(podId: PodId): PostgresStoreOptions;
  /** With another way to the source than the right one. */
  storeWithPeer(podId: PodId, peer: Partial<pg.ClientConfig>): PostgresStore;
  duty(podId: PodId, goal: Goal, options?: DutyOptions): Duty;
  /** Of a rollback of organization 1, from the first target. */
  rollbackDuty(podId: PodId, goal: Goal, options?: DutyOptions & { forced?: boolean }): Duty;
  remove(): Promise<void>;
}

export function targetId(n: number): PodId {
  return `pod-${100 + n}` as PodId;
}

/** One source with organizations 1 to 10, where target `n` takes organization `n + 1`. */
export async function assemble(
  options: {
    readonly targets?: number;
    readonly rows?: number;
    readonly cluster?: Partial<ClusterOptions>;
    readonly settings?: Parameters<typeof Settings.parse>[0];
    /** How many organizations each target takes; default 1. */
    readonly each?: number;
    /** Further tables, with their rules. */
    readonly schema?: string;
    readonly tables?: Ownership["tables"];
    readonly pace?: Pace;
  } = {},
): Promise<Assembly> {
  const count = options.targets ?? 1;
  const [source, ...pods] = (await Promise.all([
    Cluster.start({ podId: SOURCE, ...options.cluster }),
    ...Array.from({ length: count }, (_, n) => emptyPod(targetId(n))),
  ])) as [Cluster, ...Awaited<ReturnType<typeof emptyPod>>[]];
  const targets = pods.map((pod, n) => ({
    ...pod,
    podId: targetId(n),
    connection: { ...source.connection, port: pod.port },
  }));
  await source.query(
    "CREATE TABLE organizations (id bigint PRIMARY KEY); INSERT INTO organizations SELECT generate_series(1, 10)",
  );
  await source.query(
    `CREATE TABLE notes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      organization_id bigint NOT NULL REFERENCES organizations, body text NOT NULL)`,
  );
  await source.query(
    "INSERT INTO notes (organization_id, body) SELECT 1 + n % 10, repeat(md5(n::text), 30) FROM generate_series(1, $1) n",
    [options.rows ?? 100],
  );
  if (options.schema !== undefined) await source.query(options.schema);
  // Most servers here have no WAL for a way back.
  const settings = Settings.parse({
    retention: { reverseReplication: "none" },
    ...(options.settings as object | undefined),
  });
  const targetPodIds = targets.map(({ podId }) => podId);
  const each = options.each ?? 1;
  const assignments = new Map(
    targetPodIds.flatMap((id, n) =>
      Array.from({ length: each }, (_, at) => [String(n * each + at + 1) as OrganizationId, id] as const),
    ),
  );
  /** The first organization of the first target. */
  const goingBack = new Map([["1" as OrganizationId, SOURCE]]);
  const stores = new Set<PostgresStore>();

  const build = (
    podId: PodId,
    overrides: Partial<PostgresConfigInput>,
    peer: Partial<pg.ClientConfig>,
    clock = systemClock,
  ) => {
    const store = createPostgresStore({ ...describe(podId, overrides, peer), clock });
    stores.add(store);
    return store;
  };

  const describe = (
    podId: PodId,
    overrides: Partial<PostgresConfigInput>,
    peer: Partial<pg.ClientConfig>,
  ): PostgresStoreOptions => {
    const target = targets.find((one) => one.podId === podId);
    const { host, port, user, password, database } = source.connection;
    return {
      podId,
      config: PostgresConfig.parse({
        ...{ host, user, password, database },
        port: target?.port ?? port,
        dataDirectory: target?.dataDirectory ?? source.dataDirectory,
        ...overrides,
      }),
      peers: {
        ...Object.fromEntries(
          targets.map((one) => [one.podId, { host, port: one.port, user, password, database }]),
        ),
        [SOURCE]: { host, port, user, password, database, ...peer },
      } as never,
      ownership: { ...ownership, tables: { ...ownership.tables, ...options.tables } },
      ...(options.pace === undefined ? {} : { pace: options.pace }),
      clock: systemClock,
      log: silentLogger,
      stateDirectory: target?.stateDirectory ?? source.folder,
    };
  };

  return {
    source,
    targets,
    store: (podId, overrides = {}, clock = systemClock) => build(podId, overrides, {}, clock),
    optionsOf: (podId) => describe(podId, {}, {}),
    storeWithPeer: (podId, peer) => build(podId, {}, peer),
    duty: (podId, goal, { epoch, phase = "source", removal, reverseReplication, rollback } = {}) => ({
      migrationId: MIGRATION,
      kind: "split",
      role: podId === SOURCE ? "source" : "target",
      goal,
      podId,
      sourcePodId: SOURCE,
      targetPodIds,
      defaultPodId: SOURCE,
      assignments,
      shares: Object.fromEntries(targetPodIds.map((id) => [id, phase])) as Duty["shares"],
      epoch: (epoch ?? null) as Epoch | null,
      settings,
      of: null,
      forced: false,
      reverseReplication:
        reverseReplication ?? (settings.retention.reverseReplication === "replicated" ? targetPodIds : []),
      rollbacks:
        rollback === undefined
          ? []
          : [{ migrationId: ROLLBACK, podId: targetId(0), phase: rollback, assignments: goingBack }],
      removal: removal ?? null,
    }),
    rollbackDuty: (podId, goal, { epoch, phase = "source", removal, forced = false } = {}) => ({
      migrationId: ROLLBACK,
      kind: "rollback",
      of: MIGRATION,
      forced,
      reverseReplication: [],
      rollbacks: [],
      role: podId === SOURCE ? "target" : "source",
      goal,
      podId,
      sourcePodId: targetId(0),
      targetPodIds: [SOURCE],
      defaultPodId: SOURCE,
      assignments: goingBack,
      shares: { [SOURCE]: phase } as Duty["shares"],
      epoch: (epoch ?? null) as Epoch | null,
      settings,
      removal: removal ?? null,
    }),
    remove: async () => {
      for (const store of stores) await store.close();
      for (const target of targets) await target.remove();
      await source.remove();
    },
  };
}

/** Waits until the store's status satisfies, and fails with the last status otherwise. */
export async function until(
  store: PostgresStore,
  satisfied: (status: StoreStatus) => boolean,
  withinMs = 15_000,
): Promise<StoreStatus> {
  const end = performance.now() + withinMs;
  for (;;) {
    const status = store.status(MIGRATION);
    if (status && satisfied(status)) return status;
    if (performance.now() > end) throw new Error(`status stayed ${JSON.stringify(status)}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** A store's `reach` as the agent calls it: again after a failure, until it succeeds. */
export async function reachAtLast(store: PostgresStore, duty: Duty, withinMs = 30_000): Promise<void> {
  const end = performance.now() + withinMs;
  for (;;) {
    try {
      return await store.reach(duty, AbortSignal.timeout(withinMs));
    } catch (error) {
      if (performance.now() > end) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

export const never: AbortSignal = new AbortController().signal;

/** A connection to a target's own server. */
export async function connectTo(target: TargetPod): Promise<pg.Client> {
  const client = new pg.Client(target.connection);
  client.on("error", () => undefined);
  await client.connect();
  return client;
}
