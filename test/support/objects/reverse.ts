/** Two Pods' object stores after a split, with the way back kept: what the log would have both do from then on. */
import type { SharePhase } from "../../../protocol/cluster.ts";
import type { Goal, ReverseReplicationStatus, StoreStatus } from "../../../protocol/evidence.ts";
import type { Epoch, MigrationId, OrganizationId, PodId } from "../../../protocol/ids.ts";
import type { Duty, RollbackShare } from "../../../protocol/ports/store.ts";
import { eventually } from "../eventually.ts";
import { duty, MIGRATION, ObjectPod, SOURCE, TARGET } from "./pods.ts";

export const ROLLBACK = "split-1-back-1" as MigrationId;
const RED = "red" as OrganizationId;
const BLUE = "blue" as OrganizationId;
/** Looks through everything, again and again almost without a pause. */
const EAGER = { verifyPauseSeconds: 0.02, sweepSeconds: 0.3 };

/** `red` and `blue` leave; everybody else stays. */
export class ObjectReverseReplicationPods {
  readonly source: ObjectPod;
  readonly target: ObjectPod;
  reverseReplication: readonly PodId[] = [TARGET];
  rollbacks: readonly RollbackShare[] = [];
  forced = false;
  config: Parameters<ObjectPod["start"]>[1] = EAGER;
  readonly returning: Duty["assignments"] = new Map([[RED, SOURCE]]);

  constructor(folder: string) {
    this.source = new ObjectPod(SOURCE, folder);
    this.target = new ObjectPod(TARGET, folder);
  }

  async start(): Promise<void> {
    await this.source.start();
    await this.target.start(this.source.peer(), this.config);
    // A source that was there before its target learns of it as after a change of its configuration.
    await this.source.kill();
    await this.restart(this.source);
  }

  async restart(pod: ObjectPod): Promise<void> {
    await pod.start((pod === this.source ? this.target : this.source).peer(), this.config);
  }

  async opened(): Promise<void> {
    for (const [pod, goal] of [
      [this.source, "prepare"],
      [this.target, "seed"],
      [this.source, "serve"],
      [this.target, "follow"],
    ] as const)
      await this.reach(pod, goal, "source");
    await Promise.all([
      this.reach(this.source, "fence", "fenced"),
      this.reach(this.target, "match", "fenced"),
    ]);
    await this.reach(this.target, "activate", "transferred");
    await this.reach(this.source, "yield", "opened");
    await this.reach(this.target, "open", "opened");
  }

  /** Of the split. */
  reach(pod: ObjectPod, goal: Goal, phase: SharePhase, removal: Duty["removal"] = null): Promise<void> {
    return pod.store.reach(this.duty(pod, goal, phase, removal), AbortSignal.timeout(20_000));
  }

  duty(pod: ObjectPod, goal: Goal, phase: SharePhase, removal: Duty["removal"] = null): Duty {
    const { reverseReplication, rollbacks } = this;
    const assignments = new Map([
      [RED, TARGET],
      [BLUE, TARGET],
    ]);
    const of = duty(pod.podId, goal, { phase, epoch: 1, removal });
    return { ...of, assignments, reverseReplication, rollbacks };
  }

  async again(): Promise<void> {
    await this.reach(this.source, "yield", "opened");
    await this.reach(this.target, "open", "opened");
  }

  /** Of the rollback, whose source is the split's target. */
  rollbackDuty(pod: ObjectPod, goal: Goal, phase: SharePhase, removal: Duty["removal"] = null): Duty {
    return {
      ...duty(pod.podId, goal, { phase, epoch: 2, removal }),
      migrationId: ROLLBACK,
      kind: "rollback",
      of: MIGRATION,
      forced: this.forced,
      role: pod === this.target ? "source" : "target",
      sourcePodId: TARGET,
      targetPodIds: [SOURCE],
      assignments: this.returning,
      shares: { [SOURCE]: phase } as Record<PodId, SharePhase>,
      epoch: 2 as Epoch,
    };
  }

  back(pod: ObjectPod, goal: Goal, phase: SharePhase, removal: Duty["removal"] = null): Promise<void> {
    return pod.store.reach(this.rollbackDuty(pod, goal, phase, removal), AbortSignal.timeout(20_000));
  }

  /** What the split's duties say of the rollback from now on. */
  async rollbackIs(phase: SharePhase | null): Promise<void> {
    const { returning: assignments } = this;
    this.rollbacks = phase === null ? [] : [{ migrationId: ROLLBACK, podId: TARGET, phase, assignments }];
    await this.again();
  }

  status(pod: ObjectPod): StoreStatus | null {
    return pod.store.status(ROLLBACK);
  }

  get flow(): ReverseReplicationStatus | undefined {
    return this.source.status().reverseReplication?.[TARGET];
  }

  async level(): Promise<void> {
    await eventually(() => {
      const { flow } = this;
      if (flow?.lag.amount !== 0 || !flow.verified || flow.problem !== null)
        throw new Error(`not level: ${JSON.stringify(flow)}`);
    }, 20_000);
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
}
