/** The real stores as the pairs of the store contract: PostgreSQL servers, repositories, folders of objects. */
import { existsSync } from "node:fs";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { WriteRefused } from "../../../agent/stores/file-fence/write-intent.ts";
import type { PostgresStore } from "../../../agent/stores/postgres/store.ts";
import type { Side, StorePair } from "../../agent/stores/contract.ts";
import { git } from "../git/pod.ts";
import { GitSplit } from "../git/split.ts";
import { duty, MIGRATION, ObjectPod, SOURCE, TARGET } from "../objects/pods.ts";
import { assemble, connectTo, targetId } from "../postgres/pods.ts";

export async function postgresPair(): Promise<StorePair> {
  const pods = await assemble();
  const [target] = pods.targets;
  if (!target) throw new Error("no target");
  const ids = { source: SOURCE, target: targetId(0) };
  const stores: { source: PostgresStore; target: PostgresStore } = {
    source: pods.store(ids.source),
    target: pods.store(ids.target),
  };
  const outcomes: Record<string, "fenced" | "wrongPod"> = { CL503: "fenced", CL421: "wrongPod" };
  const connect = (side: Side) => (side === "source" ? pods.source.connect() : connectTo(target));
  return {
    kind: "split",
    reach: (side, goal, phase, epoch, signal, removal) => {
      const options = { phase, ...(epoch === null ? {} : { epoch }), ...(removal ? { removal } : {}) };
      return stores[side].reach(pods.duty(ids[side], goal, options), signal);
    },
    holds: async (side, organization) => {
      const client = await connect(side);
      const { rowCount } = await client.query("SELECT FROM notes WHERE organization_id = $1", [
        organization === "moving" ? 1 : 9,
      ]);
      await client.end();
      return (rowCount ?? 0) > 0;
    },
    status: (side) => stores[side].status(MIGRATION),
    restart: async (side) => {
      await stores[side].close();
      stores[side] = pods.store(ids[side]);
    },
    write: async (side, organization) => {
      const client = await connect(side);
      try {
        await client.query("INSERT INTO notes (organization_id, body) VALUES ($1, 'x')", [
          organization === "moving" ? 1 : 9,
        ]);
        return "written";
      } catch (error) {
        const outcome = outcomes[(error as { code: string }).code];
        if (outcome === undefined) throw error;
        return outcome;
      } finally {
        await client.end();
      }
    },
    isEmpty: async () => (await readdir(target.dataDirectory)).length === 0,
    remove: () => pods.remove(),
  };
}

export async function gitPair(): Promise<StorePair> {
  const split = await GitSplit.create();
  await split.source.pod.repository("red/one.git");
  await split.source.pod.repository("blue/one.git");
  let refs = 0;
  return {
    kind: "split",
    reach: (side, goal, phase, epoch, signal, removal = null) =>
      split[side].store.reach({ ...split.duty(split[side], goal, phase, epoch), removal }, signal),
    holds: async (side, organization) =>
      existsSync(split[side].pod.path(organization === "moving" ? "red/one.git" : "blue/one.git")),
    status: (side) => split[side].store.status(MIGRATION),
    restart: async (side) => {
      const { port } = split[side].server;
      await split.stop(split[side]);
      await split.start(split[side], port);
    },
    write: async (side, organization) => {
      const path = split[side].pod.path(organization === "moving" ? "red/one.git" : "blue/one.git");
      refs += 1;
      const ended = await git(["-C", path, "update-ref", `refs/heads/w${refs}`, "refs/heads/main"]);
      if (ended.code === 0) return "written";
      if (ended.stderr.includes("read-only for a moment")) return "fenced";
      if (ended.stderr.includes("pod-")) return "wrongPod";
      throw new Error(ended.stderr);
    },
    isEmpty: async () => (await readdir(split.target.pod.root)).length === 0,
    remove: () => split.remove(),
  };
}

export async function objectsPair(): Promise<StorePair> {
  const folder = await mkdtemp(join(tmpdir(), "cleave-objects-"));
  const pods = { source: new ObjectPod(SOURCE, folder), target: new ObjectPod(TARGET, folder) };
  await pods.source.start();
  await pods.source.writeUnannounced("uploads/red/1", "red");
  await pods.source.writeUnannounced("uploads/green/1", "green");
  await pods.target.start(pods.source.peer());
  let keys = 1;
  return {
    kind: "split",
    reach: (side, goal, phase, epoch, signal, removal = null) => {
      const options = { phase, removal, ...(epoch === null ? {} : { epoch }) };
      return pods[side].store.reach(duty(pods[side].podId, goal, options), signal);
    },
    status: (side) => pods[side].store.status(MIGRATION),
    restart: async (side) => {
      await pods[side].kill();
      await pods[side].start(side === "target" ? pods.source.peer() : {});
    },
    holds: async (side, organization) => {
      const folder = `uploads/${organization === "moving" ? "red" : "green"}/`;
      return Object.keys(await pods[side].contents()).some((key) => key.startsWith(folder));
    },
    write: async (side, organization) => {
      keys += 1;
      try {
        await pods[side].write(`uploads/${organization === "moving" ? "red" : "green"}/${keys}`);
        return "written";
      } catch (error) {
        if (!(error instanceof WriteRefused)) throw error;
        return error.code === "WRONG_POD" ? "wrongPod" : "fenced";
      }
    },
    isEmpty: async () => Object.keys(await pods.target.contents()).length === 0,
    remove: async () => {
      await Promise.all([pods.source.kill(), pods.target.kill()]);
      await rm(folder, { recursive: true, force: true });
    },
  };
}
