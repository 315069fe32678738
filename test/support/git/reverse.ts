/** Two Pods' Git stores after a split, with the way back kept: what the log would have both do from then on. */
import type { SharePhase } from "../../../protocol/cluster.ts";
import type { Goal, ReverseReplicationStatus, StoreStatus } from "../../../protocol/evidence.ts";
import type { Epoch, MigrationId, OrganizationId, PodId } from "../../../protocol/ids.ts";
import type { Duty, RollbackShare } from "../../../protocol/ports/store.ts";
import { eventually } from "../eventually.ts";
import { migrationId, pod0, pod100 } from "./pod.ts";
import { GitSplit, type Side } from "./split.ts";

export const ROLLBACK = "split-1-back-1" as MigrationId;
export const RED = "red" as OrganizationId;

export class GitReverseReplicationPods {
  readonly split: GitSplit;
  reverseReplication: readonly PodId[] = [pod100];
  rollbacks: readonly RollbackShare[] = [];
  /** Of the rollback. */
  returning: Duty["assignments"] = new Map([[RED, pod0]]);
  forced = false;

  constructor(split: GitSplit) {
    this.split = split;
  }

  static async create(
    config: Parameters<typeof GitSplit.create>[0] = {},
  ): Promise<GitReverseReplicationPods> {
    const split = await GitSplit.create(config);
    const { port } = split.source.server;
    // A source that was there before its target learns of it as after a change of its configuration.
    await split.stop(split.source);
    await split.start(split.source, port);
    return new GitReverseReplicationPods(split);
  }

  get source(): Side {
    return this.split.source;
  }
  get target(): Side {
    return this.split.target;
  }

  /** Split, opened, and the way back begun. */
  async opened(): Promise<void> {
    await this.split.seeded();
    const [source, target] = await this.split.matched(1);
    if (source === undefined || source !== target) throw new Error(`${source} is not ${target}`);
    await this.reach(this.target, "activate", "transferred");
    await this.reach(this.source, "yield", "opened");
    await this.reach(this.target, "open", "opened");
  }

  /** Of the split. */
  reach(side: Side, goal: Goal, phase: SharePhase, removal: Duty["removal"] = null): Promise<void> {
    const duty = this.split.duty(side, goal, phase, 1);
    const { reverseReplication, rollbacks } = this;
    return side.store.reach({ ...duty, reverseReplication, rollbacks, removal }, AbortSignal.timeout(30_000));
  }

  /** Both again, as when the log said something new. */
  async again(): Promise<void> {
    await this.reach(this.source, "yield", "opened");
    await this.reach(this.target, "open", "opened");
  }

  /** Of the rollback, whose source is the split's target. */
  duty(side: Side, goal: Goal = "seed", phase: SharePhase = "source", removal: Duty["removal"] = null): Duty {
    return {
      ...this.split.duty(side, goal, phase),
      migrationId: ROLLBACK,
      kind: "rollback",
      of: migrationId,
      forced: this.forced,
      role: side.podId === pod100 ? "source" : "target",
      sourcePodId: pod100,
      targetPodIds: [pod0],
      assignments: this.returning,
      shares: { [pod0]: phase } as Record<PodId, SharePhase>,
      epoch: 2 as Epoch,
      removal,
    };
  }

  async back(side: Side, goal: Goal, phase: SharePhase, removal: Duty["removal"] = null): Promise<void> {
    await side.store.reach(this.duty(side, goal, phase, removal), AbortSignal.timeout(30_000));
  }

  /** What the split's duties say of the rollback from now on. */
  async rollbackIs(phase: SharePhase | null): Promise<void> {
    this.rollbacks =
      phase === null ? [] : [{ migrationId: ROLLBACK, podId: pod100, phase, assignments: this.returning }];
    await this.again();
  }

  status(side: Side): StoreStatus | null {
    return side.store.status(ROLLBACK);
  }

  get flow(): ReverseReplicationStatus | undefined {
    return this.split.status(this.source).reverseReplication?.[pod100];
  }

  /** The source's copies are what the target has. */
  async level(withinMs = 20_000): Promise<void> {
    await eventually(() => {
      const { flow } = this;
      if (flow?.lag.amount !== 0 || !flow.verified || flow.problem !== null)
        throw new Error(`not level: ${JSON.stringify(flow)}`);
    }, withinMs);
  }

  async rolledBackTo(phase: "fenced" | "opened"): Promise<void> {
    await this.rollbackIs("source");
    await Promise.all([
      this.back(this.target, "prepare", "source"),
      this.back(this.source, "seed", "source"),
    ]);
    await Promise.all([
      this.back(this.target, "serve", "source"),
      this.back(this.source, "follow", "source"),
    ]);
    await Promise.all([this.back(this.target, "fence", "fenced"), this.back(this.source, "match", "fenced")]);
    if (phase === "fenced") return;
    await this.rollbackIs("transferred");
    await Promise.all([
      this.back(this.source, "activate", "transferred"),
      this.back(this.target, "yield", "transferred"),
    ]);
    await this.rollbackIs("opened");
    await Promise.all([this.back(this.source, "open", "opened"), this.back(this.target, "yield", "opened")]);
  }

  remove(): Promise<void> {
    return this.split.remove();
  }
}
