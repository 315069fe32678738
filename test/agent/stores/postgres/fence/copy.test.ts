/** A Pod's copy, under whatever name it is started. */
import { execFileSync } from "node:child_process";
import { cp } from "node:fs/promises";
import type pg from "pg";
import { afterEach, describe, expect, it } from "vitest";
import { removeGuard } from "../../../../../agent/stores/postgres/fence/install.ts";
import { raiseFence } from "../../../../../agent/stores/postgres/fence/raise.ts";
import { releaseRoutes, setShares } from "../../../../../agent/stores/postgres/fence/staging.ts";
import { Cluster } from "../../../../support/postgres/postgres.ts";
import {
  epoch,
  guardAndStage,
  lendFrom,
  outcome,
  POD_1,
  POD_2,
  SPLIT,
  startPod,
} from "../../../../support/postgres/scratch.ts";

const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function pod(): Promise<{ cluster: Cluster; db: pg.Client }> {
  const cluster = await startPod();
  cleanups.push(() => cluster.remove());
  const db = await cluster.connect();
  cleanups.push(() => db.end());
  return { cluster, db };
}

const WRITES = {
  moving: "UPDATE issues SET title = 'moving' WHERE id = 1",
  second: "UPDATE issues SET title = 'second' WHERE id = 3",
  neighbour: "UPDATE issues SET title = 'neighbour' WHERE id = 2",
  truncate: "TRUNCATE comments",
  clusterWide: "UPDATE users SET name = 'x'",
  shared: "INSERT INTO lfs_objects VALUES (gen_random_uuid()::text, 1)",
  ddl: "CREATE TABLE more ()",
} as const;

async function results(cluster: Cluster): Promise<Record<keyof typeof WRITES, string>> {
  const found: Record<string, string> = {};
  for (const [name, sql] of Object.entries(WRITES)) found[name] = await outcome(cluster.query(sql));
  await cluster.query("DROP TABLE IF EXISTS more").catch(() => undefined);
  return found as Record<keyof typeof WRITES, string>;
}

/** The same data under another name, beside the original: what a promoted replica is. */
async function clone(source: Cluster, podId: string): Promise<Cluster> {
  const copy = await Cluster.start({ podId });
  cleanups.push(() => copy.remove());
  await copy.stop();
  await source.stop();
  await cp(source.dataDirectory, copy.dataDirectory, {
    recursive: true,
    force: true,
    preserveTimestamps: true,
  });
  execFileSync("/bin/sh", [
    "-c",
    'chown -R --reference="$1" "$2" 2>/dev/null || true',
    "sh",
    source.dataDirectory,
    copy.dataDirectory,
  ]);
  await source.resume();
  await copy.resume();
  return copy;
}

describe("a copy of the Pod", () => {
  it("under a target's name refuses everything until its share is opened, and then serves that alone", async () => {
    const { cluster, db } = await pod();
    await guardAndStage(cluster);
    await raiseFence(db, lendFrom(cluster), {
      migrationId: SPLIT,
      epoch: epoch(1),
      targetPodIds: [POD_1, POD_2],
      graceMs: 100,
    });
    await db.end();
    const copy = await clone(cluster, POD_1);
    expect(await results(copy)).toEqual({
      moving: "CL421 pod-0",
      second: "CL421 pod-0",
      neighbour: "CL421 pod-0",
      truncate: "CL421 pod-0",
      clusterWide: "CL421 pod-0",
      shared: "CL503",
      ddl: "CL503",
    });
    const there = await copy.connect();
    cleanups.push(() => there.end());
    await setShares(there, SPLIT, { [POD_1]: "transferred", [POD_2]: "transferred" }, epoch(1));
    expect(await results(copy)).toMatchObject({
      moving: "CL503",
      second: "CL421 pod-2",
      neighbour: "CL421 pod-0",
      shared: "CL503",
      ddl: "CL503",
    });
    await setShares(there, SPLIT, { [POD_1]: "opened", [POD_2]: "transferred" }, epoch(1));
    const open = {
      moving: "ok",
      second: "CL421 pod-2",
      neighbour: "CL421 pod-0",
      truncate: "CL421 pod-0",
      clusterWide: "CL421 pod-0",
      shared: "ok",
      ddl: "ok",
    };
    expect(await results(copy)).toEqual(open);
    await setShares(there, SPLIT, { [POD_2]: "opened" }, epoch(1));
    expect(await releaseRoutes(there, SPLIT)).toEqual({ guardNeeded: true });
    expect(await results(copy)).toEqual(open);

    const here = await cluster.connect();
    cleanups.push(() => here.end());
    await setShares(here, SPLIT, { [POD_1]: "opened", [POD_2]: "source" }, epoch(1));
    const source = {
      moving: "CL421 pod-1",
      second: "ok",
      neighbour: "ok",
      truncate: "CL421 pod-1",
      clusterWide: "ok",
      shared: "ok",
      ddl: "ok",
    };
    expect(await results(cluster)).toEqual(source);
    expect(await releaseRoutes(here, SPLIT)).toEqual({ guardNeeded: true });
    expect(await results(cluster)).toEqual(source);
    await expect(removeGuard(here)).rejects.toMatchObject({ code: "COMMAND_NOT_POSSIBLE" });
  });

  it.each(["", "stranger"])("named %j refuses everything, with its reason", async (podId) => {
    const { cluster, db } = await pod();
    await guardAndStage(cluster);
    await db.end();
    await cluster.stop();
    const copy = await renamed(cluster, podId);
    expect(new Set(Object.values(await results(copy)))).toEqual(new Set(["CL503"]));
    await expect(copy.query(WRITES.neighbour)).rejects.toThrow(/^POD_IDENTITY_UNKNOWN/);
  });
});

/** Starts the same data directory under another name. */
async function renamed(cluster: Cluster, podId: string): Promise<Cluster> {
  (cluster as unknown as { podId: string }).podId = podId;
  await cluster.resume();
  return cluster;
}
