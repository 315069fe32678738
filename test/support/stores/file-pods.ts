/** Two Pods' stores of files, Git or objects, after a split or on the way to one: what tests of roots do with them alike. */
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ignoring, scanRoot } from "../../../agent/stores/git/backend/folder/list.ts";
import type { SharePhase } from "../../../protocol/cluster.ts";
import type {
  CheckStage,
  Finding,
  Goal,
  ReverseReplicationStatus,
  StoreStatus,
} from "../../../protocol/evidence.ts";
import type { Duty } from "../../../protocol/ports/store.ts";
import { eventually } from "../eventually.ts";
import { GitReverseReplicationPods } from "../git/reverse.ts";
import { ObjectReverseReplicationPods } from "../objects/reverse.ts";
import { removeLive } from "../remove-live.ts";

export type Side = "source" | "target";
export const KINDS = ["git", "objects"] as const;

export interface FilePods {
  readonly root: Record<Side, string>;
  /** Where the agent keeps what it knows of the root. */
  readonly state: Record<Side, string>;
  /** All items of the organizations that leave, by name. */
  items(side: Side): Promise<string[]>;
  /** Somebody writes, past no fence. */
  write(side: Side, name: string): Promise<void>;
  reach(side: Side, goal: Goal, phase: SharePhase): Promise<void>;
  /** Of the rollback. */
  back(side: Side, goal: Goal, phase: SharePhase): Promise<void>;
  preflight(side: Side, stage: CheckStage, of?: "split" | "rollback"): Promise<Finding[]>;
  /** What rows of that Pod's database name. */
  names(side: Side, items: readonly string[]): void;
  status(side: Side): StoreStatus;
  flow(): ReverseReplicationStatus | undefined;
  opened(): Promise<void>;
  level(): Promise<void>;
  restart(side: Side): Promise<void>;
  remove(): Promise<void>;
}

/** A source with `count` items of the organization that leaves, and one of another; nothing is migrated yet. */
export async function filePods(kind: (typeof KINDS)[number], count: number): Promise<FilePods> {
  const pods = kind === "git" ? await gitPods() : await objectPods();
  for (let number = 0; number < count; number++) await pods.write("source", `item ${number}`);
  return pods;
}

const signal = () => AbortSignal.timeout(30_000);

async function gitPods(): Promise<FilePods> {
  const pods = await GitReverseReplicationPods.create({ sweepSeconds: 0.3, scanSeconds: 0.3 });
  const { split } = pods;
  await split.source.pod.repository("blue/one.git");
  const path = (name: string) => `red/${name}.git`;
  return {
    root: { source: split.source.pod.root, target: split.target.pod.root },
    state: {
      source: join(split.source.pod.folder, "state", "git"),
      target: join(split.target.pod.folder, "state", "git"),
    },
    items: async (side) => {
      const { root } = split[side].pod;
      const { repositories } = await scanRoot(root, ignoring([])).catch(() => ({ repositories: [] }));
      return repositories.filter((one) => one.startsWith("red/")).sort();
    },
    write: async (side, name) => void (await split[side].pod.repository(path(name))),
    reach: (side, goal, phase) => pods.reach(split[side], goal, phase),
    back: (side, goal, phase) => pods.back(split[side], goal, phase),
    preflight: (side, stage, of = "split") => {
      const duty =
        of === "split" ? pods.split.duty(split[side], "removeRows", "opened", 1) : pods.duty(split[side]);
      return split[side].store.preflight(withRemoval(duty, stage), stage, signal());
    },
    names: (side, items) => {
      split.namedHere[split[side].podId] = [...items];
    },
    status: (side) => split.status(split[side]),
    flow: () => pods.flow,
    opened: () => pods.opened(),
    level: () => pods.level(),
    restart: async (side) => {
      const { port } = split[side].server;
      await split.stop(split[side]);
      await split.start(split[side], port);
    },
    remove: () => pods.remove(),
  };
}

async function objectPods(): Promise<FilePods> {
  const folder = await mkdtemp(join(tmpdir(), "cleave-roots-"));
  const pods = new ObjectReverseReplicationPods(folder);
  await pods.start();
  await pods.source.write("uploads/green/1", "a neighbour's");
  const key = (name: string) => `uploads/red/${name}`;
  return {
    root: { source: pods.source.root, target: pods.target.root },
    state: { source: join(pods.source.folder, "state"), target: join(pods.target.folder, "state") },
    items: async (side) =>
      Object.keys(await pods[side].contents()).filter((one) => one.startsWith("uploads/red/")),
    write: (side, name) => pods[side].write(key(name), `${name} as it was`),
    reach: (side, goal, phase) => pods.reach(pods[side], goal, phase),
    back: (side, goal, phase) => pods.back(pods[side], goal, phase),
    preflight: (side, stage, of = "split") => {
      const duty =
        of === "split"
          ? pods.duty(pods[side], "removeRows", "opened")
          : pods.rollbackDuty(pods[side], "seed", "source");
      return pods[side].store.preflight(withRemoval(duty, stage), stage, signal());
    },
    names: (side, items) => {
      pods[side].named = [...items];
    },
    status: (side) => pods[side].status(),
    flow: () => pods.flow,
    opened: () => pods.opened(),
    level: () => pods.level(),
    restart: async (side) => {
      await pods[side].kill();
      await pods.restart(pods[side]);
    },
    remove: async () => {
      await Promise.all([pods.source.kill(), pods.target.kill()]);
      await removeLive(folder);
    },
  };
}

function withRemoval(duty: Duty, stage: CheckStage): Duty {
  return stage === "removal" ? { ...duty, removal: { mayRemove: () => true } } : duty;
}

export const codesOf = (found: readonly { readonly code: string }[]) => found.map(({ code }) => code);

/** Resolves when the store says it of itself. */
export async function says(pods: FilePods, side: Side, code: string): Promise<void> {
  await eventually(() => {
    if (!codesOf(pods.status(side).problems).includes(code))
      throw new Error(`${side}: ${JSON.stringify(pods.status(side).problems)}`);
  }, 20_000);
}
