/** What a contract test of a repository backend needs around it: two Pods' places, users who work in them, a server. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach } from "vitest";
import type {
  GitAccess,
  RepositoryBackend,
  RepositoryState,
} from "../../../../../agent/stores/git/backend/backend.ts";
import {
  answerAdvertisement,
  answerUploadPack,
} from "../../../../../agent/stores/git/replication/smart-http.ts";
import type { SharePhase } from "../../../../../protocol/cluster.ts";
import type { MigrationId } from "../../../../../protocol/ids.ts";
import type { Ended } from "../../../../support/git/pod.ts";

/** One Pod's repositories, and what users and operators do with them past the backend. */
export interface Place {
  readonly backend: RepositoryBackend;
  /** Another instance for the same place, as after a restart. */
  again(): RepositoryBackend;
  /** A bare repository of an organization that the fence knows, with one commit on main; returns the commit. */
  repository(path: string): Promise<string>;
  /** Everything the same under another name. */
  duplicate(from: string, to: string): Promise<void>;
  remove(path: string): Promise<void>;
  git(path: string, ...args: readonly string[]): Promise<Ended>;
  /** Writes (null: deletes) a file of the repository; it is executable. */
  file(path: string, name: string, content: string | null): Promise<void>;
  /** Entries that are no usable repositories, and a repository that the configuration ignores; parts of what is told. */
  litter(): Promise<{ readonly problems: readonly string[]; readonly ignored: string }>;
  /** Of the organization, to whose Pod-to-be it applies. */
  setPhase(phase: SharePhase): Promise<void>;
}

export interface RepositoryWorld {
  readonly source: Place;
  /** Empty. */
  readonly target: Place;
  destroy(): Promise<void>;
}

export interface Served {
  access(path: string): GitAccess;
  close(): void;
}

/** Serves a backend's repositories as an agent does. */
async function serve(backend: RepositoryBackend): Promise<Served> {
  const server = createServer((request, response) => {
    const [address = ""] = (request.url ?? "").split("?");
    const path = decodeURIComponent(address.split("/")[1] ?? "");
    if (request.method === "POST") answerUploadPack(backend, path, request, response);
    else answerAdvertisement(backend, path, request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    access: (path) => ({
      url: `http://127.0.0.1:${port}/${encodeURIComponent(path)}`,
      header: "Authorization: Bearer of the contract",
    }),
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

export interface UsedWorld {
  current(): RepositoryWorld & { readonly served: Served };
}

/** A new world before each test, with the source's repositories served and both hooks prepared. */
export function useWorld(makeWorld: () => Promise<RepositoryWorld>): UsedWorld {
  let world: RepositoryWorld;
  let served: Served;
  beforeEach(async () => {
    world = await makeWorld();
    served = await serve(world.source.backend);
    for (const { backend } of [world.source, world.target]) await backend.prepareHook();
  });
  afterEach(async () => {
    served.close();
    await world.destroy();
  });
  return { current: () => ({ ...world, served }) };
}

export const MIGRATION = "split-1" as MigrationId;
export const OTHER = "split-2" as MigrationId;
export const PATH = "red/one.git";
export const UNREADABLE = { code: "REPOSITORY_UNREADABLE" };
export const signal = AbortSignal.timeout(600_000);

export async function stateOf({ backend }: Place, path = PATH): Promise<RepositoryState> {
  const reading = await backend.read(path);
  if (reading === null) throw new Error(`${path} is not there`);
  return reading.state;
}

/** Resolves with what git says. */
export async function mustGit(place: Place, path: string, ...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await place.git(path, ...args);
  if (code !== 0) throw new Error(`git ${args.join(" ")}: ${stderr}`);
  return stdout.trim();
}
