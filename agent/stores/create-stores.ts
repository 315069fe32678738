/** The three stores of one Pod, made from its configuration, and what they share: owners and the file fence. */
import { readFile } from "node:fs/promises";
import { parse } from "yaml";
import { z } from "zod";
import { CleaveError } from "../../protocol/errors.ts";
import type { OwnProblem } from "../../protocol/evidence.ts";
import type { PodId } from "../../protocol/ids.ts";
import { Ownership } from "../../protocol/ownership.ts";
import type { Clock } from "../../protocol/ports/clock.ts";
import type { Logger } from "../../protocol/ports/logger.ts";
import type { Store } from "../../protocol/ports/store.ts";
import type { AgentConfig } from "../config.ts";
import type { PeerRoutes } from "../peer/server.ts";
import { controlOf, createBackends, stateOf } from "./create-backends.ts";
import { FileFence } from "./file-fence/file-fence.ts";
import { createGitStore } from "./git/store.ts";
import { createObjectsStore } from "./objects/store.ts";
import { postgresOwnerLookup } from "./postgres/inventory/owner-lookup.ts";
import { connectionPool } from "./postgres/server/connection.ts";
import { createPostgresStore } from "./postgres/store.ts";

export interface Stores {
  readonly stores: readonly Store[];
  /** Those that other Pods' agents read from over HTTP; PostgreSQL replicates by its own protocol. */
  readonly peerRoutes: readonly PeerRoutes[];
  /** Opens the file fence for this Pod's writers; until then every announced write is refused. */
  establishIdentity(defaultPodId: PodId): Promise<void>;
  /** From now on this Pod's PostgreSQL is looked after, and started where that is the agent's to do. */
  keepServer(): void;
  /** What is wrong with the Pod itself, as far as its stores know. */
  podProblems(): readonly OwnProblem[];
  close(): Promise<void>;
}

export async function createStores(config: AgentConfig, clock: Clock, log: Logger): Promise<Stores> {
  const { podId, stateDirectory } = config;
  const ownership = await loadOwnership(config.ownershipFile);
  // With the settings of database and role: the rules' queries are an operator's, and name tables as they are found there.
  const pool = await connectionPool(config.postgres, {
    applicationName: "cleave-owners",
    max: 2,
    onLost: (error) => log.debug({ err: error }, "a connection for owners' queries ended"),
  });
  const ownerLookup = postgresOwnerLookup(pool, ownership);
  const fence = new FileFence({ directory: controlOf(stateDirectory), clock });
  const backends = createBackends(config, clock);
  const peers = Object.fromEntries(
    Object.entries(config.peers).map(([id, peer]) => [
      id,
      { agentUrl: peer.agentUrl, token: config.peerToken },
    ]),
  );
  const postgresPeers = Object.fromEntries(
    Object.entries(config.peers).map(([id, peer]) => [id, peer.postgres]),
  );
  const shared = { podId, peers, ownerLookup, fence, clock };
  const postgres = createPostgresStore({
    podId,
    config: config.postgres,
    peers: postgresPeers,
    ownership,
    clock,
    log: log.child({ store: "postgres" }),
    stateDirectory,
  });
  const git = createGitStore({
    ...shared,
    config: config.git,
    backend: backends.git,
    log: log.child({ store: "git" }),
    stateDirectory: stateOf(stateDirectory, "git"),
  });
  const objects = createObjectsStore({
    ...shared,
    config: config.objects,
    backend: backends.objects,
    log: log.child({ store: "objects" }),
    stateDirectory: stateOf(stateDirectory, "objects"),
  });
  const establishIdentity = (defaultPodId: PodId) => fence.initialise(podId, defaultPodId);
  return {
    stores: [postgres, afterIdentity(git, establishIdentity), afterIdentity(objects, establishIdentity)],
    peerRoutes: [git, objects],
    establishIdentity,
    keepServer: () => postgres.keepServer(),
    podProblems: () => postgres.podProblems,
    close: () => pool.end(),
  };
}

/** A store behind the file fence begins with nothing before the fence stands. */
function afterIdentity(store: Store, establish: (defaultPodId: PodId) => Promise<void>): Store {
  let established: Promise<void> | null = null;
  return {
    name: store.name,
    preflight: (duty, stage, signal) => store.preflight(duty, stage, signal),
    reach: async (duty, signal) => {
      established ??= establish(duty.defaultPodId);
      await established.catch((error: unknown) => {
        established = null;
        throw error;
      });
      await store.reach(duty, signal);
    },
    status: (migrationId) => store.status(migrationId),
    onChange: (listener) => store.onChange(listener),
    close: () => store.close(),
  };
}

/** @throws CleaveError OWNERSHIP_RULE_INVALID naming the file and the rule. */
export async function loadOwnership(path: string): Promise<Ownership> {
  let value: unknown;
  try {
    value = parse(await readFile(path, "utf8"));
  } catch (error) {
    throw new CleaveError("OWNERSHIP_RULE_INVALID", `${path}: ${(error as Error).message}`, { cause: error });
  }
  const parsed = Ownership.safeParse(value);
  if (!parsed.success)
    throw new CleaveError("OWNERSHIP_RULE_INVALID", `${path}: ${z.prettifyError(parsed.error)}`);
  return parsed.data;
}
