/** The object store as the agent drives it: one role per migration over one inventory of this Pod's objects. */
import type { FastifyInstance } from "fastify";
import type { CheckStage, Finding, StoreStatus } from "../../../protocol/evidence.ts";
import type { MigrationId } from "../../../protocol/ids.ts";
import type { Duty, Store } from "../../../protocol/ports/store.ts";
import { Door, Listeners } from "../common/door.ts";
import { guarded, notReady } from "../common/findings.ts";
import { Claims, endOf } from "../common/reverse/claims.ts";
import { hasOnlyEndings, letRollbacksGo, type Role, takeTurn } from "../common/roles.ts";
import { rootFindings } from "../common/root/findings.ts";
import { KnownRoot } from "../common/root/known-root.ts";
import { NamedItems } from "../common/verification/named.ts";
import { ScrubMemory } from "../common/verification/scrubbed.ts";
import { whatIsNotSeen } from "../file-fence/visibility.ts";
import { type ObjectsContext, type ObjectsStoreOptions, scopeOf } from "./context.ts";
import { InventoryKeeper } from "./inventory/keeper.ts";
import { preflightSource, preflightTarget } from "./preflight.ts";
import { objectsEnding } from "./removal/ending.ts";
import { preflightRemoval } from "./removal/remove.ts";
import { registerObjectRoutes } from "./replication/peer-routes.ts";
import { Summary } from "./replication/summary.ts";
import { ObjectsSource } from "./source.ts";
import { ObjectsTarget } from "./target.ts";

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
  readonly #door = new Door<Role>();
  /** Peers' open questions: woken by every change of an object, which would be too much for the agent. */
  readonly #peers = new Listeners();
  readonly #keeper: InventoryKeeper;
  readonly #summary: Summary;

  constructor(options: ObjectsStoreOptions) {
    const { backend } = options;
    const changed = () => {
      this.#door.listeners.tell();
      this.#peers.tell();
    };
    const root = new KnownRoot({ ...options, root: backend, place: backend.place, onChange: changed });
    this.#keeper = new InventoryKeeper({
      ...options,
      backend,
      root,
      lossBound: options.config.lossBound,
      sweepMs: options.config.sweepSeconds * 1_000,
      onChange: changed,
      onObject: this.#peers.tell,
    });
    const inventory = () => this.#keeper.inventory();
    const scrubbed = new ScrubMemory();
    const there = async () => {
      const opened = await inventory();
      return (key: string) => opened.get(key) !== undefined;
    };
    const named = new NamedItems({ ...options, store: "objects", there });
    this.#context = { ...options, root, inventory, claims: new Claims(), named, scrubbed, changed };
    this.#summary = new Summary(this.#context);
  }

  async preflight(duty: Duty, stage: CheckStage, signal: AbortSignal): Promise<Finding[]> {
    const { fence, backend, root } = this.#context;
    const rooted = await rootFindings("objects", root, stage);
    if (stage === "fence")
      return [
        ...rooted,
        ...this.#notReady(duty),
        ...(duty.role === "source"
          ? await fence.unseenWriters("objects", duty.settings.cutover.deadlineMs)
          : []),
        ...(await this.#namedAndMissing(duty, signal)),
      ];
    // What is not there cannot be looked at, and nothing of it may go.
    if (rooted.length > 0) return rooted;
    if (stage === "removal")
      return guarded("objects", "OBJECT_UNREADABLE", signal, () =>
        preflightRemoval(this.#context, duty, signal),
      );
    if (duty.role === "target") return preflightTarget(this.#context, duty, signal);
    const { findings, summary } = await preflightSource(this.#context, signal);
    this.#summary.note(summary);
    const unseen = await whatIsNotSeen("objects", { control: fence.directory, root: backend });
    return [...findings, ...unseen, ...(await fence.unseenWriters("objects", null))];
  }

  async reach(duty: Duty, signal: AbortSignal): Promise<void> {
    const { migrationId, goal } = duty;
    // A source has made nothing but what the fence and the keeper hold.
    if (goal === "release" && duty.role === "source") {
      await this.#door.part(migrationId)?.close();
      await this.#context.fence.removeMigration(migrationId, endOf(duty));
    } else {
      const role = await takeTurn(this.#door, duty, {
        source: () => new ObjectsSource(this.#context, this.#keeper.tracker(), duty),
        target: () => new ObjectsTarget(this.#context, () => this.#keeper.tracker(), duty),
        ending: () => objectsEnding(this.#context),
      });
      await letRollbacksGo(this.#door, duty);
      await role.reach(duty, signal);
    }
    if (goal === "release") this.#door.forget(migrationId);
    if (goal === "release" || goal === "removeRows") {
      if (hasOnlyEndings(this.#door)) await this.#keeper.discard();
      this.#context.changed();
    }
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
    await this.#keeper.saved();
  }

  registerPeerRoutes(app: FastifyInstance): void {
    registerObjectRoutes(app, {
      backend: this.#context.backend,
      clock: this.#context.clock,
      source: (migrationId) => {
        const role = this.#door.part(migrationId);
        return role instanceof ObjectsSource || role instanceof ObjectsTarget ? role.peerView() : null;
      },
      problem: () => this.#context.root.problem,
      onChange: this.#peers.add,
      summary: () => this.#summary.answer(),
    });
  }

  #namedAndMissing(duty: Duty, signal: AbortSignal): Promise<Finding[]> {
    const { named, ownerLookup } = this.#context;
    const inScope = scopeOf(duty, ownerLookup);
    const scope = duty.role === "source" ? undefined : ({ name }: { readonly name: string }) => inScope(name);
    return guarded("objects", "POSTGRES_UNREACHABLE", signal, () => named.findings(scope));
  }

  #notReady({ migrationId, podId }: Duty): Finding[] {
    return notReady({
      store: "objects",
      status: this.status(migrationId),
      unreached: `objects on ${podId} are not ready for a cutover yet`,
      // They say why: an object that cannot be read, a peer that does not answer.
      problemsOfUnreached: "first",
    });
  }
}
