/** Two Pods' Git stores as two agents would run them: a real peer server, real git, real fences. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { type PeerServer, startPeerServer } from "../../../agent/peer/server.ts";
import type { OwnerLookup } from "../../../agent/stores/common/inventory/owner-lookup.ts";
import { FolderBackend } from "../../../agent/stores/git/backend/folder/folder.ts";
import { GitConfig } from "../../../agent/stores/git/config.ts";
import { createGitStore, type GitStore } from "../../../agent/stores/git/store.ts";
import { silentLogger } from "../../../protocol/adapters/logger.ts";
import { systemClock } from "../../../protocol/adapters/system-clock.ts";
import type { SharePhase } from "../../../protocol/cluster.ts";
import type { Goal, StoreStatus } from "../../../protocol/evidence.ts";
import type { Epoch, OrganizationId, PodId } from "../../../protocol/ids.ts";
import { Settings } from "../../../protocol/plan.ts";
import type { Duty } from "../../../protocol/ports/store.ts";
import { removeLive } from "../remove-live.ts";
import { GitPod, migrationId, pod0, pod100 } from "./pod.ts";

const TOKEN = "a token of enough characters";

export interface Side {
  readonly podId: PodId;
  readonly pod: GitPod;
  store: GitStore;
  server: PeerServer;
  url: string;
}

/** The owner of `<organization>/…` and `@hashed/aa/bb/<organization>…` is that organization; of others nobody. */
function ownerOf(path: string): OrganizationId | null {
  const match = /^(red|blue|green)\b/.exec(path) ?? /\/(red|blue|green)[^/]*\.git$/.exec(path);
  return (match?.[1] as OrganizationId | undefined) ?? null;
}

export class GitSplit {
  source!: Side;
  target!: Side;
  /** `red` moves to pod-100, everything else stays. */
  readonly assignments = new Map([["red" as OrganizationId, pod100]]);
  kind: Duty["kind"] = "split";
  /** What the log says while cleaning; null while nothing may be removed. */
  removal: Duty["removal"] = null;
  settings = Settings.parse({ cutover: { drainGraceMs: 300 } });
  /** Called when a store asks for all owners at once. */
  onLookup: () => void = () => undefined;
  /** `<pod> <path>` → the owner by that Pod's database, where it is not what the path says. */
  readonly ownedOtherwise = new Map<string, OrganizationId>();
  /** `<pod> <path>` of which that Pod's database says nothing but an error. */
  readonly lookupFails = new Set<string>();
  /** Repositories that both databases name. */
  readonly named: string[] = [];
  /** By Pod, what its database alone names. */
  readonly namedHere: Partial<Record<PodId, string[]>> = {};
  /** When a fetch of a repository began, by its path; milliseconds, monotonic. */
  readonly fetches: { readonly path: string; readonly at: number }[] = [];
  readonly #config: Partial<GitConfig>;

  private constructor(config: Partial<GitConfig>) {
    this.#config = config;
  }

  static async create(config: Partial<GitConfig> = {}): Promise<GitSplit> {
    const split = new GitSplit(config);
    split.source = await split.#side(pod0, await GitPod.create());
    split.target = await split.#side(pod100, await GitPod.create());
    return split;
  }

  async #side(podId: PodId, pod: GitPod): Promise<Side> {
    await pod.fence.initialise(podId, pod0);
    const side: Side = { podId, pod, store: undefined as never, server: undefined as never, url: "" };
    await this.start(side);
    return side;
  }

  /** Also after `stop`: as a restarted agent. */
  async start(side: Side, port = 0): Promise<void> {
    const { pod, podId } = side;
    const lookup: OwnerLookup = {
      repositories: () => {
        this.onLookup();
        return Promise.resolve(new Map());
      },
      repository: async (path) => {
        if (this.lookupFails.has(`${podId} ${path}`)) throw new Error("the database does not answer");
        return this.ownedOtherwise.get(`${podId} ${path}`) ?? ownerOf(path);
      },
      object: () => null,
      namesObjects: false,
      named: async (_store, _marker, visit) => {
        const names = [...this.named, ...(this.namedHere[podId] ?? [])];
        visit(names.map((name) => ({ name, organization: ownerOf(name) })));
        return true;
      },
    };
    await mkdir(pod.root, { recursive: true });
    const config = GitConfig.parse({ root: pod.root, scanSeconds: 1, sweepSeconds: 1, ...this.#config });
    const stateDirectory = join(pod.folder, "state", "git");
    side.store = createGitStore({
      podId,
      config,
      backend: new FolderBackend({
        config,
        control: pod.fence.directory,
        stateDirectory,
        clock: systemClock,
      }),
      peers: this.#peersOf(side),
      ownerLookup: lookup,
      fence: pod.fence,
      clock: systemClock,
      log: silentLogger,
      stateDirectory,
      quietAfterOpeningMs: 200,
    });
    side.server = await startPeerServer({
      podId,
      token: TOKEN,
      host: "127.0.0.1",
      port,
      logger: silentLogger,
      stores: [{ registerPeerRoutes: (app) => this.#registerCounted(side, app) }],
    });
    side.url = `http://127.0.0.1:${side.server.port}`;
  }

  #registerCounted({ store }: Side, app: Parameters<GitStore["registerPeerRoutes"]>[0]): void {
    app.addHook("onRequest", async ({ url }) => {
      const path = /^\/git\/repositories\/(.*)\/info\/refs/.exec(url)?.[1];
      if (path !== undefined)
        this.fetches.push({ path: decodeURIComponent(path), at: systemClock.monotonic() });
    });
    store.registerPeerRoutes(app);
  }

  /** A source that is started again knows its target too, as for a migration in the other direction. */
  #peersOf(side: Side) {
    const other = side.podId === pod0 ? this.target : this.source;
    return other === undefined ? {} : { [other.podId]: { agentUrl: other.url, token: TOKEN } };
  }

  async stop(side: Side): Promise<void> {
    await side.store.close();
    await side.server.close();
  }

  duty(side: Side, goal: Goal, phase: SharePhase, epoch: number | null = null): Duty {
    return {
      migrationId,
      kind: this.kind,
      role: side.podId === pod0 ? "source" : "target",
      goal,
      podId: side.podId,
      sourcePodId: pod0,
      targetPodIds: [pod100],
      defaultPodId: pod0,
      assignments: this.assignments,
      shares: { [pod100]: phase } as Record<PodId, SharePhase>,
      epoch: epoch as Epoch | null,
      settings: this.settings,
      of: null,
      forced: false,
      reverseReplication: [],
      rollbacks: [],
      removal: this.removal,
    };
  }

  reach(
    side: Side,
    goal: Goal,
    phase: SharePhase,
    epoch: number | null = null,
    limitMs = 30_000,
  ): Promise<void> {
    return side.store.reach(this.duty(side, goal, phase, epoch), AbortSignal.timeout(limitMs));
  }

  status(side: Side): StoreStatus {
    const status = side.store.status(migrationId);
    if (status === null) throw new Error("the store does not know the migration");
    return status;
  }

  async seeded(): Promise<void> {
    await this.reach(this.source, "prepare", "source");
    await this.reach(this.target, "seed", "source");
    await this.reach(this.source, "serve", "source");
    await this.reach(this.target, "follow", "source");
  }

  /** Seeded, matched, transferred and served by the target; the source's copy is dormant. */
  async opened(): Promise<void> {
    await this.seeded();
    const [source, target] = await this.matched(1);
    if (source === undefined || source !== target) throw new Error(`${source} is not ${target}`);
    await this.reach(this.target, "activate", "transferred", 1);
    await this.reach(this.source, "yield", "opened", 1);
    await this.reach(this.target, "open", "opened", 1);
  }

  /** Fence and match; resolves with both digests. */
  async matched(epoch: number): Promise<[string | undefined, string | undefined]> {
    await Promise.all([
      this.reach(this.source, "fence", "fenced", epoch),
      this.reach(this.target, "match", "fenced", epoch),
    ]);
    return [this.status(this.source).evidence?.digest, this.status(this.target).evidence?.digest];
  }

  async remove(): Promise<void> {
    for (const side of [this.target, this.source]) {
      if (side === undefined) continue;
      await this.stop(side).catch(() => undefined);
      await removeLive(side.pod.folder);
    }
  }
}
