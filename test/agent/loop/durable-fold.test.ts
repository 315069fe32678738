/** Every fold reaches the disk, whenever it comes; what an agent reports rests on it. */
import { expect, it } from "vitest";
import { DurableFold } from "../../../agent/loop/durable-fold.ts";
import { silentLogger } from "../../../protocol/adapters/logger.ts";
import { systemClock } from "../../../protocol/adapters/system-clock.ts";
import { type ClusterState, emptyCluster } from "../../../protocol/cluster.ts";
import { LogFollower } from "../../../protocol/log-follower.ts";
import { eventually } from "../../support/eventually.ts";
import { MemoryBlobs, MemoryLog } from "../../support/memory-ports.ts";

const at = (sequence: number): ClusterState => ({ ...emptyCluster, sequence });

function fold(save: (state: ClusterState) => Promise<void>) {
  let newest = at(0);
  const durable = new DurableFold({
    checkpoints: { load: async () => null, save },
    clock: systemClock,
    logger: silentLogger,
    sequence: 0,
    newest: () => newest,
    onSaved: () => undefined,
  });
  const next = () => {
    newest = at(newest.sequence + 1);
    durable.save();
  };
  return { durable, next };
}

it.each(Array.from({ length: 12 }, (_, turns) => turns))(
  "a record that comes %i turns after one was written is written too",
  async (turns) => {
    const saved: number[] = [];
    const { durable, next } = fold(async (state) => void saved.push(state.sequence));
    next();
    for (let turn = 0; turn < turns; turn += 1) await Promise.resolve();
    next();
    await eventually(() => expect([durable.sequence, saved.at(-1)]).toEqual([2, 2]), 1_000);
  },
);

it("a disk that refuses is tried again, and a stop ends the trying", async () => {
  let refuses = true;
  const { durable, next } = fold(async () => {
    if (refuses) throw new Error("full");
  });
  next();
  expect(durable.sequence).toBe(0);
  refuses = false;
  await eventually(() => expect(durable.sequence).toBe(1), 3_000);
  refuses = true;
  next();
  await durable.stop();
  expect(durable.sequence).toBe(1);
});

it("a log that ends before the checkpoint is another one, or was cut: nobody follows it", async () => {
  const ports = { log: new MemoryLog(), blobs: new MemoryBlobs(), clock: systemClock };
  const behind = new LogFollower(ports, "agent:pod-0", () => undefined, at(3));
  await expect(behind.start()).rejects.toMatchObject({ code: "LOG_CUT" });
  const level = new LogFollower(ports, "agent:pod-0", () => undefined, at(0));
  await level.start();
  await level.stop();
});
