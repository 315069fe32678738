/** The Git store as the agent drives it: one role per migration over one inventory of this Pod's repositories. */
import type { FastifyInstance } from "fastify";
import type { CheckStage, Finding, StoreStatus } from "../../../protocol/evidence.ts";
import type { MigrationId } from "../../../protocol/ids.ts";
import type { Duty, Store } from "../../../protocol/ports/store.ts";
import { Door } from "../common/door.ts";
import { guarded, notReady } from "../common/findings.ts";
import { Claims, endOf } from "../common/reverse/claims.ts";
import { hasOnlyEndings, letRollbacksGo, type Role, takeTurn } from "../common/roles.ts";
import { rootFindings } from "../common/root/findings.ts";
import { KnownRoot } from "../common/root/known-root.ts";
import { NamedItems } from "../common/verification/named.ts";
import { ScrubMemory } from "../common/verification/scrubbed.ts";
import { assigned, type GitContext, type GitStoreOptions } from "./context.ts";
import { Absence } from "./inventory/absence.ts";
import { Inventory } from "./inventory/inventory.ts";
import { TrackerKeeper } from "./inventory/keeper.ts";
import { KnownRepositories } from "./inventory/known-repositories.ts";
import { leftBehind, preflightSource, preflightTarget } from "./preflight.ts";
import { gitEnding } from "./removal/ending.ts";
import { preflightRemoval } from "./removal/remove.ts";
import { registerGitRoutes } from "./replication/peer-routes.ts";
import { GitSource } from "./source.ts";
import { GitTarget } from "./target.ts";

const READ_CONCURRENCY = 4;

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
  readonly #door = new Door<Role>();
  readonly #keeper: TrackerKeeper;

  constructor(options: GitStoreOptions) {
    const { backend } = options;
    const changed = this.#door.listeners.tell;
    const root = new KnownRoot({ ...options, root: backend, place: backend.place, onChange: changed });
    const known = new KnownRepositories(options.stateDirectory);
    const absence = new Absence({ ...options, backend, root, known: () => inventory.paths() });
    const inventory = new Inventory({
      backend,
      absence,
      known,
      concurrency: READ_CONCURRENCY,
      onChange: changed,
    });
    const scrubbed = new ScrubMemory();
    const claims = new Claims();
    const isThere = (path: string) => inventory.get(path)?.deleted === false;
    const named = new NamedItems({ ...options, store: "git", there: async () => isThere });
    this.#context = { ...options, root, absence, known, changed, claims, scrubbed, named, inventory };
    options.fence.proveEndsBy("git", (path) => backend.holdsNoLock(path));
    this.#keeper = new TrackerKeeper(this.#context);
  }

  async preflight(duty: Duty, stage: CheckStage, signal: AbortSignal): Promise<Finding[]> {
    const rooted = await rootFindings("git", this.#context.root, stage);
    // What is not there cannot be looked at, and nothing of it may go.
    if (rooted.length > 0) return rooted;
    if (stage === "fence") {
      // What came since the first checks is named as well.
      const named = duty.role === "source" ? leftBehind(this.#context.inventory.left()) : [];
      return [
        ...this.#notReady(duty),
        ...((await this.#keeper.current?.checkHooks(signal)) ?? []),
        ...(duty.role === "source" ? await this.#unseenWriters(duty) : []),
        ...named.filter(({ severity }) => severity !== "info"),
        ...(await guarded("git", "POSTGRES_UNREACHABLE", signal, () =>
          this.#context.named.findings(duty.role === "source" ? undefined : assigned(duty)),
        )),
      ];
    }
    if (stage === "removal")
      return guarded("git", "FILE_PERMISSION", signal, () => preflightRemoval(this.#context, duty, signal));
    return duty.role === "source"
      ? [
          ...(await preflightSource(this.#context, signal)),
          ...(await this.#context.fence.unseenWriters("git", null)),
        ]
      : preflightTarget(this.#context, duty, signal);
  }

  async reach(duty: Duty, signal: AbortSignal): Promise<void> {
    const { migrationId, goal } = duty;
    const keeper = this.#keeper;
    const role = await takeTurn(this.#door, duty, {
      source: () => new GitSource(this.#context, keeper.tracker(), duty),
      target: () => new GitTarget(this.#context, () => keeper.tracker().start(), duty),
      ending: () => gitEnding(this.#context),
    });
    await letRollbacksGo(this.#door, duty);
    await role.reach(duty, signal);
    if (goal !== "release" && goal !== "removeRows") return;
    if (goal === "release") {
      await role.close();
      this.#door.forget(migrationId);
      await this.#context.fence.removeMigration(migrationId, endOf(duty));
    }
    if (hasOnlyEndings(this.#door)) await keeper.guardOrEnd();
    if (goal === "release") this.#context.changed();
  }

  status(migrationId: MigrationId): StoreStatus | null {
    return this.#door.status(migrationId);
  }

  onChange(listener: () => void): () => void {
    return this.#door.listeners.add(listener);
  }

  async close(): Promise<void> {
    this.#keeper.stop();
    await this.#door.close();
    await this.#keeper.close();
  }

  registerPeerRoutes(app: FastifyInstance): void {
    const { inventory, backend, clock } = this.#context;
    registerGitRoutes(app, {
      inventory,
      backend,
      clock,
      source: (migrationId) => {
        const role = this.#door.part(migrationId);
        if (!this.#keeper.current?.complete) return null;
        const { problem } = this.#context.root;
        if (role instanceof GitSource) return { final: role.final(), only: null, problem };
        return role instanceof GitTarget && role.gives !== null
          ? { final: null, only: role.gives, problem }
          : null;
      },
      problem: () => this.#context.root.problem,
      onChange: this.#door.listeners.add,
    });
  }

  #unseenWriters({ settings }: Duty): Promise<Finding[]> {
    return this.#context.fence.unseenWriters("git", settings.cutover.deadlineMs);
  }

  #notReady({ migrationId, podId }: Duty): Finding[] {
    return notReady({
      store: "git",
      status: this.status(migrationId),
      unreached: `Git on ${podId} is not ready for a cutover yet`,
      // Until then they are of what is still being looked at.
      problemsOfUnreached: "never",
    });
  }
}
