/** The object store as the agent drives it: one role per migration over one inventory of this Pod's objects. */
import { join } from "node:path";
import type { FastifyInstance } from "fastify";
import { toCleaveError } from "../../../protocol/errors.ts";
import type { CheckStage, Finding, StoreStatus } from "../../../protocol/evidence.ts";
import type { MigrationId, PodId } from "../../../protocol/ids.ts";
import type { Clock } from "../../../protocol/ports/clock.ts";
import type { Logger } from "../../../protocol/ports/logger.ts";
import type { Duty, Store } from "../../../protocol/ports/store.ts";
import type { OwnerLookup } from "../common/inventory/owner-lookup.ts";
import { Ending } from "../common/removal/ending.ts";
import { Claims, endOf } from "../common/reverse/claims.ts";
import type { FileFence } from "../file-fence/file-fence.ts";
import type { ObjectBackend } from "./backend/backend.ts";
import { FileSystemBackend } from "./backend/folder/folder.ts";
import type { ObjectsConfig, Peer } from "./config.ts";
import type { ObjectsContext, Role } from "./context.ts";
import { Inventory } from "./inventory/inventory.ts";
import { SourceTracker } from "./inventory/tracker.ts";
import { preflightSource, preflightTarget } from "./preflight.ts";
import { objectsEnding } from "./removal/ending.ts";
import { preflightRemoval } from "./removal/remove.ts";
import type { SummaryAnswer } from "./replication/peer-protocol.ts";
import { registerObjectRoutes } from "./replication/peer-routes.ts";
import { ObjectsSource } from "./source.ts";
import { ObjectsTarget } from "./target.ts";

/** Targets of one preflight ask about the same time: one listing answers them all. */
const SUMMARY_KEPT_MS = 60_000;

export interface ObjectsStoreOptions {
  readonly podId: PodId;
  readonly config: ObjectsConfig;
  /** By Pod. */
  readonly peers: Readonly<Record<string, Peer>>;
  readonly ownerLookup: OwnerLookup;
  /** Initialised by the agent, and shared with Git. */
  readonly fence: FileFence;
  readonly clock: Clock;
  readonly log: Logger;
  /** A folder of this store's own. */
  readonly stateDirectory: string;
  /** How long a target that has opened leaves the processors to clients before it looks at all that it has; ms. */
  readonly quietAfterOpeningMs?: number;
  /** Where the objects are; by default files below `config.root`. */
  readonly backend?: ObjectBackend;
}

export interface ObjectsStore extends Store {
  readonly name: "objects";
  /** Adds the routes from which other Pods' agents replicate. The caller checks tokens before them. */
  registerPeerRoutes(app: FastifyInstance): void;
}

export function createObjectsStore(options: ObjectsStoreOptions): ObjectsStore {
  return new Objects(options);
}

class Objects implements ObjectsStore {
  readonly name = "objects";
  readonly #context: ObjectsContext;
  readonly #roles = new Map<MigrationId, Role>();
  readonly #listeners = new Set<() => void>();
  /** Peers' open questions: woken by every change of an object, which would be too much for the agent. */
  readonly #peerListeners = new Set<() => void>();
  readonly #stopDiscarding: () => void;
  #inventory: Promise<Inventory> | null = null;
  #tracker: SourceTracker | null = null;
  #summary: { readonly at: number; readonly value: Promise<SummaryAnswer> } | null = null;

  constructor(options: ObjectsStoreOptions) {
    this.#context = {
      ...options,
      backend: options.backend ?? new FileSystemBackend(options.config.root),
      inventory: () => this.#openInventory(),
      claims: new Claims(),
      changed: () => {
        for (const listener of this.#listeners) listener();
        for (const listener of this.#peerListeners) listener();
      },
    };
    // Nobody copies from here: announced changes are of no use, and a later migration begins with a scan.
    this.#stopDiscarding = options.fence.watchDirty("objects", async () => {
      if (this.#tracker?.started) return;
      const announced = await options.fence.takeDirty("objects");
      // Whoever began to track meanwhile may have looked before these were made.
      if (this.#tracker?.started) return;
      for (const { id } of announced) await options.fence.acknowledgeDirty("objects", id);
    });
  }

  async preflight(duty: Duty, stage: CheckStage, signal: AbortSignal): Promise<Finding[]> {
    if (stage === "fence") return this.#preflightFence(duty);
    if (stage === "removal") return this.#checkRemoval(duty, signal);
    if (duty.role === "target") return preflightTarget(this.#context, duty, signal);
    const { findings, summary } = await preflightSource(this.#context, signal);
    this.#summary = { at: this.#context.clock.monotonic(), value: Promise.resolve(summary) };
    return findings;
  }

  async reach(duty: Duty, signal: AbortSignal): Promise<void> {
    if (duty.goal === "release" && duty.role === "source") {
      await this.#roles.get(duty.migrationId)?.close();
      await this.#context.fence.removeMigration(duty.migrationId, endOf(duty));
    } else {
      const role = await this.#roleFor(duty);
      await this.#letGo(duty);
      await role.reach(duty, signal);
    }
    if (duty.goal === "release") this.#roles.delete(duty.migrationId);
    if (duty.goal === "release" || duty.goal === "removeRows") {
      await this.#forgetIfIdle();
      this.#context.changed();
    }
  }

  /** Rollbacks that are none any more, whether or not they know it already. */
  async #letGo({ migrationId, rollbacks }: Duty): Promise<void> {
    for (const [id, role] of this.#roles)
      if (role instanceof ObjectsTarget && role.of === migrationId)
        if (!rollbacks.some((rollback) => rollback.migrationId === id)) await role.letGo();
  }

  async #roleFor(duty: Duty): Promise<Role> {
    const { migrationId, goal } = duty;
    const known = this.#roles.get(migrationId);
    const isEnding = goal === "removeRows";
    // Whoever pauses a removal that has come to its end takes up the role again, without anything of it left.
    if (known !== undefined && known instanceof Ending === isEnding) return known;
    await known?.close();
    const role = isEnding
      ? objectsEnding(this.#context)
      : duty.role === "source"
        ? new ObjectsSource(this.#context, this.#track(), duty)
        : new ObjectsTarget(this.#context, () => this.#track(), duty);
    this.#roles.set(migrationId, role);
    return role;
  }

  status(migrationId: MigrationId): StoreStatus | null {
    return this.#roles.get(migrationId)?.status() ?? null;
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async close(): Promise<void> {
    this.#stopDiscarding();
    this.#tracker?.close();
    await Promise.all([...this.#roles.values()].map((role) => role.close()));
    await (await this.#inventory)?.saved();
  }

  registerPeerRoutes(app: FastifyInstance): void {
    registerObjectRoutes(app, {
      backend: this.#context.backend,
      clock: this.#context.clock,
      source: (migrationId) => {
        const role = this.#roles.get(migrationId);
        return role instanceof ObjectsSource || role instanceof ObjectsTarget ? role.peerView() : null;
      },
      onChange: (listener) => {
        this.#peerListeners.add(listener);
        return () => this.#peerListeners.delete(listener);
      },
      summary: () => this.#summarise(),
    });
  }

  #preflightFence(duty: Duty): Finding[] {
    const status = this.status(duty.migrationId);
    const error = (code: Finding["code"], message: string): Finding => ({
      store: "objects",
      severity: "error",
      code,
      message,
    });
    const findings = (status?.problems ?? []).map(({ code, message }) => error(code, message));
    if (status === null || !status.reached)
      findings.push(
        error(
          "COMMAND_NOT_POSSIBLE",
          `objects on ${duty.podId} have not reached what comes before the fence`,
        ),
      );
    return findings;
  }

  async #checkRemoval(duty: Duty, signal: AbortSignal): Promise<Finding[]> {
    try {
      return await preflightRemoval(this.#context, duty, signal);
    } catch (thrown) {
      signal.throwIfAborted();
      const { code, message } = toCleaveError(thrown, "OBJECT_UNREADABLE");
      return [{ store: "objects", severity: "error", code, message: message.slice(0, 2_000) }];
    }
  }

  #track(): SourceTracker {
    this.#tracker ??= new SourceTracker({
      ...this.#context,
      sweepMs: this.#context.config.sweepSeconds * 1_000,
      onChange: this.#context.changed,
    });
    return this.#tracker;
  }

  #openInventory(): Promise<Inventory> {
    this.#inventory ??= Inventory.open(join(this.#context.stateDirectory, "inventory.jsonl")).then(
      (inventory) => {
        inventory.onChange(() => {
          for (const listener of this.#peerListeners) listener();
        });
        return inventory;
      },
    );
    return this.#inventory;
  }

  /** The last migration is gone, and with it everything that was kept for one. */
  async #forgetIfIdle(): Promise<void> {
    if ([...this.#roles.values()].some((role) => !(role instanceof Ending))) return;
    this.#tracker?.close();
    this.#tracker = null;
    const inventory = this.#openInventory();
    await (await inventory).discard();
    this.#inventory = null;
  }

  #summarise(): Promise<SummaryAnswer> {
    const now = this.#context.clock.monotonic();
    if (this.#summary === null || now - this.#summary.at > SUMMARY_KEPT_MS) {
      const signal = AbortSignal.timeout(SUMMARY_KEPT_MS);
      const value = preflightSource(this.#context, signal).then(({ summary }) => summary);
      this.#summary = { at: now, value };
      value.catch(() => {
        this.#summary = null;
      });
    }
    return this.#summary.value;
  }
}
