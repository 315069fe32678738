/** The application goes on deploying while a migration follows: nothing is lost, nobody is refused. */
import { expect, it } from "vitest";
import type { Coordinator } from "../../examples/quickstart/cluster/coordinator.ts";
import type { PodLayout } from "../../examples/quickstart/cluster/layout.ts";
import { waitFor } from "../../examples/quickstart/cluster/waiting.ts";
import { BUSIEST } from "../../examples/quickstart/run-move.ts";
import { DEPLOYED, deploy, deployed } from "../support/deployment.ts";
import { smallMove, smallSplit } from "../support/small-split.ts";

const NOTHING_LOST = {
  ok: true,
  lostWrites: 0,
  duplicatedWrites: 0,
  staleReads: 0,
  failedRequests: 0,
  neighbourRefusals: 0,
};

/** Begins once the migration follows, and is over before it has settled. */
function deployWhileFollowing(
  coordinator: Coordinator,
  migration: string,
  pods: readonly PodLayout[],
): Promise<void> {
  const done = waitFor(
    `${migration} following`,
    async () => {
      const known = (await coordinator.status()).migrations.find((one) => one.migrationId === migration);
      return known?.lifecycle === "following" ? true : null;
    },
    { withinMs: 60_000, everyMs: 50 },
  ).then(async () => {
    for (const pod of pods) await deploy(pod);
  });
  // Whoever waits for it is told.
  done.catch(() => undefined);
  return done.then(() => undefined);
}

it("a split follows an ordinary deployment and a nightly partition job", async () => {
  let deploying: Promise<void> | undefined;
  const report = await smallSplit({
    options: { settlingMs: 3_000 },
    beforeSplit: async ({ coordinator, layout }) => {
      deploying = deployWhileFollowing(coordinator, "demo-split", layout.pods.slice(0, 1));
    },
    afterwards: async (_coordinator, layout) => {
      await deploying;
      for (const pod of layout.pods) expect(await deployed(pod), pod.podId).toEqual(DEPLOYED());
    },
  });
  expect(report).toMatchObject(NOTHING_LOST);
}, 180_000);

it("a move follows them on both Pods, and so does what flows back after it", async () => {
  let deploying: Promise<void> | undefined;
  const report = await smallMove({
    options: { settlingMs: 3_000 },
    beforeSplit: async ({ coordinator, layout }) => {
      deploying = deployWhileFollowing(coordinator, BUSIEST, layout.pods);
    },
    afterMove: async (coordinator, { pods }) => {
      await deploying;
      for (const pod of pods) expect(await deployed(pod), pod.podId).toEqual(DEPLOYED());
      // First where the organization is served now.
      for (const pod of pods.toReversed()) await deploy(pod, 2);
      await waitFor(
        "what flows back, compared with the copy",
        async () => {
          const { reverseReplication } = await coordinator.migration(BUSIEST);
          const rows = reverseReplication.map(({ stores }) => stores["postgres"]);
          return rows.length > 0 && rows.every((way) => way?.verified && way.problem === null) ? true : null;
        },
        { withinMs: 60_000, everyMs: 50 },
      );
    },
    afterwards: async (_coordinator, layout) => {
      for (const pod of layout.pods) expect(await deployed(pod, 2), pod.podId).toEqual(DEPLOYED(2));
    },
  });
  expect(report).toMatchObject(NOTHING_LOST);
}, 180_000);
