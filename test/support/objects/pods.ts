/** Pods with real object stores, real fences and a real HTTP server between them. */
import { randomBytes } from "node:crypto";
import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { type PeerServer, startPeerServer } from "../../../agent/peer/server.ts";
import type { Owner, OwnerLookup } from "../../../agent/stores/common/inventory/owner-lookup.ts";
import { FileFence } from "../../../agent/stores/file-fence/file-fence.ts";
import { withWriteIntent } from "../../../agent/stores/file-fence/write-intent.ts";
import { FolderBackend } from "../../../agent/stores/objects/backend/folder/folder.ts";
import { ObjectsConfig, type ObjectsConfigInput, type Peer } from "../../../agent/stores/objects/config.ts";
import { createObjectsStore, type ObjectsStore } from "../../../agent/stores/objects/store.ts";
import { systemClock } from "../../../protocol/adapters/system-clock.ts";
import type { SharePhase } from "../../../protocol/cluster.ts";
import type { Goal, StoreStatus } from "../../../protocol/evidence.ts";
import type { Epoch, MigrationId, OrganizationId, PodId } from "../../../protocol/ids.ts";
import { Plan, type PlanInput } from "../../../protocol/plan.ts";
import type { Logger } from "../../../protocol/ports/logger.ts";
import type { Duty } from "../../../protocol/ports/store.ts";

export const SOURCE = "pod-0" as PodId;
export const TARGET = "pod-100" as PodId;
export const MIGRATION = "split-1" as MigrationId;
const TOKEN = "a shared secret";

/** `red` goes to the target; every other organization stays. `lfs/` is shared. */
export const ownerOf = (key: string): Owner | null => {
  const [kind, organizationId] = key.split("/");
  if (kind === "lfs") return { kind: "shared" };
  if (kind !== "uploads" || organizationId === undefined) return null;
  return { kind: "organization", organizationId: organizationId as OrganizationId };
};

/** By a Pod that names these keys. */
const lookupOf = (pod: { readonly named: readonly string[] }): OwnerLookup => ({
  repositories: async () => new Map(),
  repository: async () => null,
  object: ownerOf,
  namesObjects: true,
  named: async (_store, _marker, visit) => {
    visit(pod.named.map((name) => ({ name, organization: null })));
    return true;
  },
});

const quiet: Logger = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  child: () => quiet,
};

/** One Pod: `start` again after `kill` is a restarted agent on the same disk. */
export class ObjectPod {
  readonly podId: PodId;
  readonly folder: string;
  readonly root: string;
  readonly control: string;
  store!: ObjectsStore;
  fence!: FileFence;
  #server: PeerServer | null = null;
  #port = 0;
  /** Requests for content, to see what was copied again. */
  servedContent: string[] = [];
  /** Keys that this Pod's database names. */
  named: string[] = [];

  constructor(podId: PodId, folder: string, root = join(folder, podId, "objects")) {
    this.podId = podId;
    this.folder = join(folder, podId);
    this.root = root;
    this.control = join(this.folder, "control");
  }

  async start(
    peers: Readonly<Record<string, Peer>> = {},
    config: Partial<ObjectsConfigInput> = {},
  ): Promise<void> {
    await mkdir(this.root, { recursive: true });
    this.fence = new FileFence({ directory: this.control, clock: systemClock });
    await this.fence.initialise(this.podId, SOURCE);
    this.store = createObjectsStore({
      podId: this.podId,
      config: ObjectsConfig.parse({ root: this.root, ...config }),
      backend: new FolderBackend(this.root),
      peers,
      ownerLookup: lookupOf(this),
      fence: this.fence,
      clock: systemClock,
      log: quiet,
      stateDirectory: join(this.folder, "state"),
      quietAfterOpeningMs: 200,
    });
    const server = await startPeerServer({
      podId: this.podId,
      token: TOKEN,
      host: "127.0.0.1",
      port: this.#port,
      logger: quiet,
      stores: [
        {
          registerPeerRoutes: (app) => {
            app.addHook("onRequest", async ({ url, headers }) => {
              if (!url.startsWith("/objects/content/")) return;
              const key = decodeURIComponent(url.slice("/objects/content/".length));
              this.servedContent.push(`${key} ${headers.range ?? ""}`.trim());
            });
            this.store.registerPeerRoutes(app);
          },
        },
      ],
    });
    this.#port = server.port;
    this.#server = server;
  }

  peer(token = TOKEN): Record<string, Peer> {
    return { [this.podId]: { agentUrl: `http://127.0.0.1:${this.#port}`, token } };
  }

  /** Ends the agent; what it has on disk stays. */
  async kill(): Promise<void> {
    await this.#server?.close();
    await this.store?.close();
    this.#server = null;
  }

  /** A write as an application makes it, through the fence. */
  async write(key: string, content: string | Buffer = randomBytes(40)): Promise<void> {
    const owner = ownerOf(key);
    const organizationId = owner?.kind === "organization" ? owner.organizationId : null;
    await withWriteIntent({ control: this.control, store: "objects", key, organizationId }, () =>
      this.writeUnannounced(key, content),
    );
  }

  async remove(key: string): Promise<void> {
    const owner = ownerOf(key);
    const organizationId = owner?.kind === "organization" ? owner.organizationId : null;
    const intent = {
      control: this.control,
      store: "objects",
      key,
      organizationId,
      change: "delete",
    } as const;
    await withWriteIntent(intent, () => rm(join(this.root, key)));
  }

  /** As a program does that knows nothing of Cleave. */
  async writeUnannounced(key: string, content: string | Buffer): Promise<void> {
    const path = join(this.root, key);
    await mkdir(dirname(path), { recursive: true });
    const temporary = join(dirname(path), `.cleave-tmp-${randomBytes(8).toString("hex")}`);
    await writeFile(temporary, content);
    await rename(temporary, path);
  }

  read(key: string): Promise<string> {
    return readFile(join(this.root, key), "latin1");
  }

  async contents(): Promise<Record<string, string>> {
    const found: Record<string, string> = {};
    for await (const { key } of new FolderBackend(this.root).list()) found[key] = await this.read(key);
    return found;
  }

  status(): StoreStatus {
    const status = this.store.status(MIGRATION);
    if (status === null) throw new Error("no status");
    return status;
  }

  async reach(goal: Goal, options: DutyOptions = {}): Promise<void> {
    await this.store.reach(duty(this.podId, goal, options), options.signal ?? AbortSignal.timeout(20_000));
  }
}

export interface DutyOptions {
  readonly kind?: Duty["kind"];
  readonly phase?: SharePhase;
  readonly epoch?: number;
  readonly settings?: PlanInput["settings"];
  readonly signal?: AbortSignal;
  /** What the log says while cleaning; null while nothing may be removed. */
  readonly removal?: Duty["removal"];
}

const PHASES: Partial<Record<Goal, SharePhase>> = {
  fence: "fenced",
  match: "fenced",
  yield: "opened",
  activate: "transferred",
  open: "opened",
  removeFiles: "opened",
  removeRows: "opened",
};

export function duty(podId: PodId, goal: Goal, options: DutyOptions = {}): Duty {
  const phase = options.phase ?? PHASES[goal] ?? "source";
  const plan = Plan.parse({
    migration: MIGRATION,
    source: SOURCE,
    assignments: [{ pod: TARGET, organizations: ["red"] }],
    ...(options.settings ? { settings: options.settings } : {}),
  });
  return {
    migrationId: MIGRATION,
    kind: options.kind ?? "split",
    role: podId === SOURCE ? "source" : "target",
    goal,
    podId,
    sourcePodId: SOURCE,
    targetPodIds: [TARGET],
    defaultPodId: SOURCE,
    assignments: new Map([["red" as OrganizationId, TARGET]]),
    shares: { [TARGET]: phase } as Record<PodId, SharePhase>,
    epoch: (options.epoch ?? null) as Epoch | null,
    settings: plan.settings,
    of: null,
    forced: false,
    reverseReplication: [],
    rollbacks: [],
    removal: options.removal ?? null,
  };
}
