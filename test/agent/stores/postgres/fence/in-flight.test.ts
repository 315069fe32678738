/** A change of shares whose commit is on its way while its agent is gone already: who comes next does not overlook it. */
import type pg from "pg";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { lowerFence, raiseFence } from "../../../../../agent/stores/postgres/fence/raise.ts";
import { setShares } from "../../../../../agent/stores/postgres/fence/staging.ts";
import type { SharePhase } from "../../../../../protocol/cluster.ts";
import type { PodId } from "../../../../../protocol/ids.ts";
import type { Cluster } from "../../../../support/postgres/postgres.ts";
import {
  epoch,
  guardAndStage,
  lendFrom,
  POD_1,
  POD_2,
  SPLIT,
  startPod,
} from "../../../../support/postgres/scratch.ts";

let cluster: Cluster;
let ours: pg.Client;
let theirs: pg.Client;
let number = 0;

beforeAll(async () => {
  cluster = await startPod();
  await guardAndStage(cluster);
  [ours, theirs] = [await cluster.connect(), await cluster.connect()];
});
afterAll(async () => {
  await ours?.end();
  await theirs?.end();
  await cluster?.remove();
});
beforeEach(async () => {
  number += 1;
  await lowerFence(ours, { migrationId: SPLIT, targetPodIds: [POD_1, POD_2], epoch: null });
});

const fence = () =>
  raiseFence(ours, lendFrom(cluster), {
    migrationId: SPLIT,
    epoch: epoch(number),
    targetPodIds: [POD_1, POD_2],
    graceMs: 2_000,
  });
const all = (phase: SharePhase) => ({ [POD_1]: phase, [POD_2]: phase }) as Record<PodId, SharePhase>;
const phases = async () =>
  (await cluster.query<{ phase: string }>("SELECT DISTINCT phase FROM cleave.share")).map((row) => row.phase);

/** As a disk that takes its time for the commit: everything is done but that. */
function withSlowCommit(client: pg.Client): {
  readonly client: pg.Client;
  readonly reached: Promise<void>;
  go(): void;
} {
  const reached = Promise.withResolvers<void>();
  const mayGo = Promise.withResolvers<void>();
  const slow = new Proxy(client, {
    get: (target, name) => {
      if (name !== "query") return Reflect.get(target, name);
      return async (text: string, values?: unknown[]) => {
        if (text === "COMMIT") {
          reached.resolve();
          await mayGo.promise;
        }
        return target.query(text, values);
      };
    },
  });
  return { client: slow, reached: reached.promise, go: () => mayGo.resolve() };
}

it("a fence that is up and about to be lowered gives no evidence", async () => {
  await fence();
  const slow = withSlowCommit(theirs);
  // An agent that was started from an old checkpoint serves, until it has read of the fence.
  const lowering = setShares(slow.client, SPLIT, all("source"), null);
  await slow.reached;
  const again = expect(fence()).rejects.toMatchObject({ code: "COMMAND_NOT_POSSIBLE" });
  setTimeout(slow.go, 200);
  await again;
  await lowering;
  expect(await phases()).toEqual(["source"]);
});

it("shares that are as wanted and about to change are changed back", async () => {
  await fence();
  await setShares(ours, SPLIT, all("source"), epoch(number));
  const slow = withSlowCommit(theirs);
  const closing = setShares(slow.client, SPLIT, all("fenced"), epoch(number));
  await slow.reached;
  const opening = setShares(ours, SPLIT, all("source"), epoch(number));
  setTimeout(slow.go, 200);
  await Promise.all([closing, opening]);
  expect(await phases()).toEqual(["source"]);
});
