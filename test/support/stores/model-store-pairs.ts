/** The simulator's models of the stores as the pairs of the store contract, in a world that runs beside the test. */

import type { SharePhase } from "../../../protocol/cluster.ts";
import type { Goal } from "../../../protocol/evidence.ts";
import type { Epoch, OrganizationId, PodId } from "../../../protocol/ids.ts";
import { type MigrationKind, Settings } from "../../../protocol/plan.ts";
import type { Duty, Removal, Store } from "../../../protocol/ports/store.ts";
import { FileServer } from "../../../simulations/models/files/server.ts";
import { ModelFileStore } from "../../../simulations/models/files/store.ts";
import type { Run } from "../../../simulations/models/host.ts";
import { PostgresServer } from "../../../simulations/models/postgres/server.ts";
import { ModelPostgresStore } from "../../../simulations/models/postgres/store.ts";
import type { Refusal } from "../../../simulations/models/postgres/transaction.ts";
import type { Side, StorePair } from "../../agent/stores/contract.ts";
import { MIGRATION, SOURCE, TARGET } from "../objects/pods.ts";
import { ModelWorld } from "./model-world.ts";

const IDS = { source: SOURCE, target: TARGET } as const;
const NAMES = { moving: "red", staying: "green" } as const;
const settings = Settings.parse({ cutover: { drainGraceMs: 300 } });

function duty(
  kind: MigrationKind,
  side: Side,
  goal: Goal,
  phase: SharePhase,
  epoch: number | null,
  removal: Removal | null,
): Duty {
  return {
    migrationId: MIGRATION,
    kind,
    role: side,
    goal,
    podId: IDS[side],
    sourcePodId: SOURCE,
    targetPodIds: [TARGET],
    defaultPodId: SOURCE,
    assignments: new Map([["red" as OrganizationId, TARGET]]),
    shares: { [TARGET]: phase } as Record<PodId, SharePhase>,
    epoch: epoch as Epoch | null,
    settings,
    of: null,
    forced: false,
    reverseReplication: [],
    rollbacks: [],
    removal,
  };
}

/** What all pairs share; `start` makes the store of an agent that has just begun. */
function pairOf<S extends Store>(
  model: ModelWorld,
  start: (side: Side, run: Run) => S,
  rest: Pick<StorePair, "write" | "isEmpty" | "holds">,
  kind: MigrationKind = "split",
): StorePair & { readonly stores: Record<Side, S> } {
  const runs = { source: model.process(SOURCE), target: model.process(TARGET) };
  const stores = { source: start("source", runs.source), target: start("target", runs.target) };
  return {
    ...rest,
    stores,
    kind,
    reach: (side, goal, phase, epoch, signal, removal = null) =>
      stores[side].reach(duty(kind, side, goal, phase, epoch, removal), signal),
    status: (side) => stores[side].status(MIGRATION),
    restart: async (side) => {
      runs[side].kill();
      runs[side] = model.process(IDS[side]);
      stores[side] = start(side, runs[side]);
    },
    remove: () => model.close(),
  };
}

function outcomeOf(refusal: Refusal): "fenced" | "wrongPod" {
  if (refusal.outcome === "fenced" || refusal.outcome === "wrongPod") return refusal.outcome;
  throw new Error(`refused: ${refusal.outcome}`);
}

export async function modelPostgresPair(kind: MigrationKind = "split"): Promise<StorePair> {
  const model = new ModelWorld();
  const { world, network } = model;
  const servers = {
    source: new PostgresServer(world, network, SOURCE, SOURCE),
    target: new PostgresServer(world, network, TARGET, SOURCE),
  };
  servers.source.initialize("system-1");
  if (kind === "move") servers.target.initialize("system-2");
  let starts = 0;
  const start = (side: Side, run: Run) =>
    new ModelPostgresStore({
      run,
      own: servers[side],
      serverOf: (podId) => (podId === SOURCE ? servers.source : servers.target),
      network,
      chance: world.chance.fork(`start ${++starts}`),
      copyMs: 50,
      failsUntil: () => 0,
      onRemoved: () => undefined,
    });
  let writes = 0;
  const rest: Pick<StorePair, "write" | "isEmpty" | "holds"> = {
    holds: async (side, organization) => servers[side].state.rows.has(NAMES[organization]),
    write: async (side, organization) => {
      const transaction = servers[side].begin("read committed");
      if (!transaction) throw new Error("the server is down");
      const refusal = servers[side].write(transaction, NAMES[organization], `w${++writes}`);
      if (refusal) return outcomeOf(refusal);
      const committed = await new Promise<boolean>((resolve) => servers[side].commit(transaction, resolve));
      if (!committed) throw new Error("not committed");
      return "written";
    },
    isEmpty: async () =>
      kind === "move" ? servers.target.state.rows.size === 0 : servers.target.role === "absent",
  };
  return pairOf(model, start, rest, kind);
}

export async function modelFilePair(
  kind: "git" | "objects",
  migration: MigrationKind = "split",
): Promise<StorePair> {
  const model = new ModelWorld();
  const servers = {
    source: new FileServer(kind, SOURCE, SOURCE),
    target: new FileServer(kind, TARGET, SOURCE),
  };
  const start = (side: Side, run: Run): ModelFileStore =>
    new ModelFileStore({
      run,
      own: servers[side],
      serverOf: (podId) => (podId === SOURCE ? servers.source : servers.target),
      peerOf: (podId) => (podId === SOURCE ? pair.stores.source : pair.stores.target),
      network: model.network,
      copyMs: 5,
      failsUntil: () => 0,
      onRemoved: () => undefined,
    });
  let writes = 0;
  const rest: Pick<StorePair, "write" | "isEmpty" | "holds"> = {
    holds: async (side, organization) => (servers[side].keys.get(NAMES[organization])?.size ?? 0) > 0,
    write: async (side, organization) => {
      const name = `w${++writes}`;
      const writer = servers[side].begin(NAMES[organization], name);
      const refusal = servers[side].check(writer);
      if (refusal === null && !servers[side].write(writer, name)) throw new Error("the writer was ended");
      servers[side].end(writer);
      return refusal === null ? "written" : outcomeOf(refusal);
    },
    isEmpty: async () => servers.target.items.size === 0,
  };
  const pair = pairOf(model, start, rest, migration);
  return pair;
}
