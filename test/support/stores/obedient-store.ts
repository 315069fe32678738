/** A store that reaches every goal, in memory, and remembers what it was asked; for tests of the loops. */
import type { Finding, ReverseReplicationStatus, StoreStatus } from "../../../protocol/evidence.ts";
import type { MigrationId, PodId, StoreName } from "../../../protocol/ids.ts";
import type { Duty, Store } from "../../../protocol/ports/store.ts";
import { storeStatus } from "../story.ts";

/** What flows back is here the moment it is written. */
function levelReverseReplication({
  goal,
  reverseReplication,
  shares,
}: Duty): Pick<StoreStatus, "reverseReplication"> {
  const open = goal === "yield" ? reverseReplication.filter((podId) => shares[podId] === "opened") : [];
  if (open.length === 0) return {};
  const level = { lag: { amount: 0, unit: "bytes" as const }, verified: true, problem: null };
  return {
    reverseReplication: Object.fromEntries(open.map((podId) => [podId, level])) as Record<
      PodId,
      ReverseReplicationStatus
    >,
  };
}

export class ObedientStore implements Store {
  readonly name: StoreName;
  readonly goals: string[] = [];
  findings: Finding[] = [];
  /** Called before a goal is reached: to delay it, or to throw. */
  before: (duty: Duty) => Promise<void> | void = () => undefined;
  /** What this store's content would hash to. */
  content = "same";
  duty: Duty | null = null;
  #shown: Partial<StoreStatus> = {};
  readonly #statuses = new Map<MigrationId, StoreStatus>();
  readonly #listeners = new Set<() => void>();

  constructor(name: StoreName) {
    this.name = name;
  }

  async preflight(): Promise<Finding[]> {
    return this.findings;
  }

  async reach(duty: Duty, signal: AbortSignal): Promise<void> {
    this.goals.push(duty.goal);
    this.#statuses.set(duty.migrationId, storeStatus(duty.goal, { reached: false }));
    const aborted = new Promise<never>((_, reject) =>
      signal.addEventListener("abort", () => reject(signal.reason)),
    );
    await Promise.race([this.before(duty), aborted]);
    signal.throwIfAborted();
    this.duty = duty;
    const proves = (duty.goal === "fence" || duty.goal === "match") && duty.epoch !== null;
    const evidence =
      proves && duty.epoch !== null
        ? { epoch: duty.epoch, digest: `${this.name} ${this.content}`, details: {} }
        : null;
    this.#statuses.set(
      duty.migrationId,
      storeStatus(duty.goal, { evidence, ...levelReverseReplication(duty) }),
    );
    for (const listener of this.#listeners) listener();
  }

  /** What it says of itself beside what it does: a lag, a problem. */
  show(shown: Partial<StoreStatus>): void {
    this.#shown = shown;
    for (const listener of this.#listeners) listener();
  }

  status(migrationId: MigrationId): StoreStatus | null {
    const status = this.#statuses.get(migrationId);
    return status ? { ...status, ...this.#shown } : null;
  }
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
  async close(): Promise<void> {}
}
