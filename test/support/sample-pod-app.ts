/** One Pod of the sample with its application in front and every fence in place, as its agent would have set them. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { request } from "undici";
import { loadOwnership } from "../../agent/stores/create-stores.ts";
import { FileFence } from "../../agent/stores/file-fence/file-fence.ts";
import { installHook, writeHook } from "../../agent/stores/git/backend/folder/hook-install.ts";
import { installGuard } from "../../agent/stores/postgres/fence/install.ts";
import { raiseFence } from "../../agent/stores/postgres/fence/raise.ts";
import { setShares, stageRoutes } from "../../agent/stores/postgres/fence/staging.ts";
import { repositoryPath } from "../../examples/quickstart/pod-app/git.ts";
import { type PodApp, startPodApp } from "../../examples/quickstart/pod-app/server.ts";
import { generateSamplePod } from "../../examples/quickstart/sample-pod/generate/generate.ts";
import { systemClock } from "../../protocol/adapters/system-clock.ts";
import type { SharePhase } from "../../protocol/cluster.ts";
import type { OrganizationId, PodId } from "../../protocol/ids.ts";
import { forgetShares } from "./file-fence/fence-files.ts";
import { Cluster } from "./postgres/postgres.ts";
import { epoch, lendFrom, POD_0, POD_1, SPLIT } from "./postgres/scratch.ts";

export const OWNERSHIP_FILE = join(
  import.meta.dirname,
  "../../examples/quickstart/sample-pod/ownership.yaml",
);

/** What an answer of the application came to. */
export interface PodAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Buffer;
}

/** `pod-0` with two organizations; `moving` is assigned to `pod-1`, `staying` is not. */
export class SamplePodWithApp {
  readonly moving = "2" as OrganizationId;
  readonly staying = "1" as OrganizationId;
  readonly cluster: Cluster;
  readonly app: PodApp;
  readonly gitRoot: string;
  readonly objectRoot: string;
  /** One project of each organization. */
  readonly projects: ReadonlyMap<OrganizationId, string>;
  readonly #fence: FileFence;
  #epoch = 0;

  private constructor(parts: {
    cluster: Cluster;
    app: PodApp;
    gitRoot: string;
    objectRoot: string;
    projects: ReadonlyMap<OrganizationId, string>;
    fence: FileFence;
  }) {
    this.cluster = parts.cluster;
    this.app = parts.app;
    this.gitRoot = parts.gitRoot;
    this.objectRoot = parts.objectRoot;
    this.projects = parts.projects;
    this.#fence = parts.fence;
  }

  static async start(): Promise<SamplePodWithApp> {
    const cluster = await Cluster.start({ podId: POD_0 });
    const gitRoot = join(cluster.folder, "git");
    const objectRoot = join(cluster.folder, "objects");
    const control = join(cluster.folder, "state", "control");
    for (const folder of [gitRoot, objectRoot, control]) await mkdir(folder, { recursive: true });
    const { projects } = await generateSamplePod({
      database: cluster.connection,
      gitRoot,
      objectRoot,
      sizes: { organizations: 2, rows: 2_000, repositories: 3, objects: 10 },
      seed: 3,
    });
    const assignments = new Map<OrganizationId, PodId>([["2" as OrganizationId, POD_1]]);
    const db = await cluster.connect();
    try {
      const ownership = await loadOwnership(OWNERSHIP_FILE);
      await installGuard(db, { ownership, defaultPodId: POD_0, migrationId: SPLIT });
      const targetPodIds = [POD_1];
      await stageRoutes(db, {
        migrationId: SPLIT,
        sourcePodId: POD_0,
        defaultPodId: POD_0,
        targetPodIds,
        assignments,
      });
    } finally {
      await db.end();
    }
    const fence = new FileFence({ directory: control, clock: systemClock });
    await fence.initialise(POD_0, POD_0);
    await fence.setShares(SPLIT, POD_0, { [POD_1]: "source" } as Record<PodId, SharePhase>);
    await fence.stageRoutes({ migrationId: SPLIT, sourcePodId: POD_0, assignments });
    const hook = await writeHook(gitRoot, control);
    for (const { id, organizationId } of projects) {
      const path = repositoryPath(gitRoot, id);
      const owner = { kind: "organization" as const, organizationId: organizationId as OrganizationId };
      await fence.setOwner(path.slice(gitRoot.length + 1), owner);
      await installHook(path, hook);
    }
    const app = await startPodApp({
      podId: POD_0,
      host: "127.0.0.1",
      port: 0,
      database: cluster.connection,
      gitRoot,
      objectRoot,
      control,
    });
    return new SamplePodWithApp({
      cluster,
      app,
      gitRoot,
      objectRoot,
      fence,
      projects: new Map(projects.map(({ id, organizationId }) => [organizationId as OrganizationId, id])),
    });
  }

  /** Puts `moving` into a phase in every store, in the order in which a migration does; also back, which no log leads to. */
  async setPhase(phase: SharePhase): Promise<void> {
    const db = await this.cluster.connect();
    try {
      this.#epoch += 1;
      const fenced = { migrationId: SPLIT, targetPodIds: [POD_1], epoch: epoch(this.#epoch), graceMs: 100 };
      if (phase === "fenced") await raiseFence(db, lendFrom(this.cluster), fenced);
      else await setShares(db, SPLIT, { [POD_1]: phase } as Record<PodId, SharePhase>, epoch(this.#epoch));
    } finally {
      await db.end();
    }
    await forgetShares(this.#fence.directory, SPLIT);
    await this.#fence.setShares(SPLIT, POD_0, { [POD_1]: phase } as Record<PodId, SharePhase>);
  }

  get url(): string {
    return `http://127.0.0.1:${this.app.port}`;
  }

  async send(method: "GET" | "POST" | "PUT" | "DELETE", path: string, body?: unknown): Promise<PodAnswer> {
    const binary = Buffer.isBuffer(body);
    const response = await request(`${this.url}${path}`, {
      method,
      ...(body === undefined ? {} : { body: binary ? body : JSON.stringify(body) }),
      headers: { "content-type": binary ? "application/octet-stream" : "application/json" },
    });
    return {
      status: response.statusCode,
      headers: response.headers,
      body: Buffer.from(await response.body.arrayBuffer()),
    };
  }

  async remove(): Promise<void> {
    await this.app.close();
    await this.cluster.remove();
  }
}
