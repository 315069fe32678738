/** The Git store as the agent drives it: one role per migration over one inventory of this Pod's repositories. */
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
import type { RepositoryBackend } from "./backend/backend.ts";
import { FolderBackend } from "./backend/folder/folder.ts";
import type { GitConfig, Peer } from "./config.ts";
import type { GitContext, Role } from "./context.ts";
import { Guard } from "./fence/guard.ts";
import { Inventory } from "./inventory/inventory.ts";
import { Tracker } from "./inventory/tracker.ts";
import { preflightSource, preflightTarget } from "./preflight.ts";
import { gitEnding } from "./removal/ending.ts";
import { preflightRemoval } from "./removal/remove.ts";
import { registerGitRoutes } from "./replication/peer-routes.ts";
import { GitSource } from "./source.ts";
import { GitTarget } from "./target.ts";

const READ_CONCURRENCY = 4;

export interface GitStoreOptions {
  readonly podId: PodId;
  readonly config: GitConfig;
  /** By Pod. */
  readonly peers: Readonly<Record<string, Peer>>;
  readonly ownerLookup: OwnerLookup;
  /** Initialised by the agent, and shared with the objects. */
  readonly fence: FileFence;
  readonly clock: Clock;
  readonly log: Logger;
  /** A folder of this store's own. */
  readonly stateDirectory: string;
  /** How long a target that has opened leaves the processors to clients before it looks at all that it has; ms. */
  readonly quietAfterOpeningMs?: number;
  /** Where the repositories are; by default bare ones below `config.root`. */
  readonly backend?: RepositoryBackend;
}

export interface GitStore extends Store {
  readonly name: "git";
  /** Adds the routes from which other Pods' agents replicate. The caller checks tokens before them. */
  registerPeerRoutes(app: FastifyInstance): void;
}

export function createGitStore(options: GitStoreOptions): GitStore {
  return new Git(options);
}

class Git implements GitStore {
  readonly name = "git";
  readonly #context: GitContext;
  readonly #roles = new Map<MigrationId, Role>();
  readonly #listeners = new Set<() => void>();
  readonly #stopDiscarding: () => void;
  readonly #guard: Guard;
  #tracker: Tracker | null = null;

  constructor(options: GitStoreOptions) {
    const control = options.fence.directory;
    const backend = options.backend ?? new FolderBackend({ ...options, control });
    const changed = () => {
      for (const listener of [...this.#listeners]) listener();
    };
    this.#context = {
      ...options,
      backend,
      changed,
      claims: new Claims(),
      inventory: new Inventory({
        backend,
        concurrency: READ_CONCURRENCY,
        onChange: changed,
      }),
    };
    this.#guard = new Guard(this.#context, () => this.#track());
    void this.#guard.resume().catch((error: unknown) => {
      options.log.warn({ err: error }, "nobody knows whether new repositories have to be watched");
    });
    // Nobody copies from here: announced changes are of no use, and a later migration begins with a scan.
    this.#stopDiscarding = options.fence.watchDirty("git", async () => {
      if (this.#tracker !== null) return;
      const announced = await options.fence.takeDirty("git");
      // Whoever began to track meanwhile may have looked before these were made.
      if (this.#tracker !== null) return;
      for (const { id } of announced) await options.fence.acknowledgeDirty("git", id);
    });
  }

  async preflight(duty: Duty, stage: CheckStage, signal: AbortSignal): Promise<Finding[]> {
    if (stage === "start")
      return duty.role === "source"
        ? preflightSource(this.#context, signal)
        : preflightTarget(this.#context, duty, signal);
    if (stage === "removal") return this.#checkRemoval(duty, signal);
    return [...this.#notReady(duty), ...((await this.#tracker?.checkHooks(signal)) ?? [])];
  }

  async reach(duty: Duty, signal: AbortSignal): Promise<void> {
    const role = await this.#roleFor(duty);
    await this.#letGo(duty);
    await role.reach(duty, signal);
    if (duty.goal === "release") await this.#forget(duty, role);
    if (duty.goal === "removeRows") await this.#guardOrEnd();
  }

  /** Rollbacks that are none any more, whether or not they know it already. */
  async #letGo({ migrationId, rollbacks }: Duty): Promise<void> {
    for (const [id, role] of this.#roles)
      if (role instanceof GitTarget && role.of === migrationId)
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
      ? gitEnding(this.#context)
      : duty.role === "source"
        ? new GitSource(this.#context, this.#track(), duty)
        : new GitTarget(this.#context, () => this.#track().start(), duty);
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
    this.#guard.close();
    await Promise.all([...this.#roles.values()].map((role) => role.close()));
    await this.#tracker?.close();
  }

  registerPeerRoutes(app: FastifyInstance): void {
    registerGitRoutes(app, {
      inventory: this.#context.inventory,
      backend: this.#context.backend,
      clock: this.#context.clock,
      source: (migrationId) => {
        const role = this.#roles.get(migrationId);
        if (!this.#tracker?.complete) return null;
        if (role instanceof GitSource) return { final: role.final(), only: null };
        return role instanceof GitTarget && role.gives !== null ? { final: null, only: role.gives } : null;
      },
      onChange: (listener) => this.onChange(listener),
    });
  }

  #notReady(duty: Duty): Finding[] {
    const error = (code: Finding["code"], message: string): Finding => ({
      store: "git",
      severity: "error",
      code,
      message,
    });
    const status = this.status(duty.migrationId);
    if (status === null || !status.reached)
      return [
        error("COMMAND_NOT_POSSIBLE", `Git on ${duty.podId} has not reached what comes before the fence`),
      ];
    return status.problems.map(({ code, message }) => error(code, message));
  }

  async #checkRemoval(duty: Duty, signal: AbortSignal): Promise<Finding[]> {
    try {
      return await preflightRemoval(this.#context, duty, signal);
    } catch (thrown) {
      signal.throwIfAborted();
      const { code, message } = toCleaveError(thrown, "FILE_PERMISSION");
      return [{ store: "git", severity: "error", code, message: message.slice(0, 2_000) }];
    }
  }

  async #forget(duty: Duty, role: Role): Promise<void> {
    await role.close();
    this.#roles.delete(duty.migrationId);
    await this.#context.fence.removeMigration(duty.migrationId, endOf(duty));
    await this.#guardOrEnd();
    this.#context.changed();
  }

  /** After the last migration: hooks stay while an organization lives elsewhere, else nothing that was made for one. */
  async #guardOrEnd(): Promise<void> {
    if ([...this.#roles.values()].some((role) => !(role instanceof Ending))) return;
    if (await this.#context.fence.hasRoutes()) return this.#guard.keep();
    await this.#tracker?.close();
    this.#tracker = null;
    await this.#guard.end();
  }

  #track(): Tracker {
    this.#tracker ??= new Tracker(this.#context);
    return this.#tracker;
  }
}
