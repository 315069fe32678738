/** One Pod: its machine, its stores' servers, and the agent that runs on it now. */
import { Agent } from "../../agent/loop/agent.ts";
import type { Assignments } from "../../protocol/assignments.ts";
import type { ClusterState } from "../../protocol/cluster.ts";
import type { PodId, StoreName } from "../../protocol/ids.ts";
import { FOUNDING, openedShares } from "../founding.ts";
import { BlobClient, type BlobServer } from "../models/blobs.ts";
import { BusClient, type BusServer } from "../models/bus.ts";
import { Disk, DiskClient } from "../models/disk.ts";
import { FileServer } from "../models/files/server.ts";
import { ModelFileStore } from "../models/files/store.ts";
import { type Host, Run } from "../models/host.ts";
import { LogClient, type LogServer } from "../models/log.ts";
import { silentLogger } from "../models/logger.ts";
import type { Network } from "../models/network.ts";
import { PostgresServer } from "../models/postgres/server.ts";
import { ModelPostgresStore } from "../models/postgres/store.ts";
import type { World } from "../world/world.ts";

const RESTART_MS = 1_000;

export interface Servers {
  readonly world: World;
  readonly network: Network;
  readonly log: LogServer;
  readonly bus: BusServer;
  readonly blobs: BlobServer;
  /** A process is gone, and so are its connections. */
  readonly onGone: (run: Run) => void;
}

export interface PodEvents {
  saved(host: string, state: ClusterState): void;
  removed(podId: string, store: StoreName, organizations?: readonly string[]): void;
}

export class Pod {
  readonly id: PodId;
  readonly host: Host;
  readonly disk = new Disk();
  readonly postgres: PostgresServer;
  readonly git: FileServer;
  readonly objects: FileServer;
  machineUp = true;
  /** For ever: nothing starts it again. */
  isLost = false;
  /** Stores fail whatever is asked of them until then. */
  storesFailUntil = 0;
  readonly #servers: Servers;
  readonly #events: PodEvents;
  readonly #podOf: (podId: string) => Pod;
  readonly #copyMs: number;
  #starts = 0;
  /** An outage that is not over keeps the supervisor from starting it. */
  downUntil = 0;
  current: {
    readonly run: Run;
    readonly agent: Agent;
    readonly git: ModelFileStore;
    readonly objects: ModelFileStore;
  } | null = null;
  #run: Run | null = null;

  constructor(
    host: Host,
    servers: Servers,
    defaultPodId: PodId,
    podOf: (podId: string) => Pod,
    events: PodEvents,
    copyMs: number,
  ) {
    this.id = host.id as PodId;
    this.host = host;
    this.#servers = servers;
    this.#podOf = podOf;
    this.#events = events;
    this.#copyMs = copyMs;
    this.postgres = new PostgresServer(servers.world, servers.network, this.id, defaultPodId);
    this.git = new FileServer("git", this.id, defaultPodId);
    this.objects = new FileServer("objects", this.id, defaultPodId);
  }

  /** It serves since long ago, as a split left it. */
  found(source: PodId, residents: Assignments): void {
    const shares = openedShares(residents);
    const of = { migrationId: FOUNDING, epoch: 1 };
    this.postgres.found("system-1", [
      { type: "stage", migrationId: FOUNDING, sourcePodId: source, assignments: residents },
      { type: "shares", ...of, phases: shares },
    ]);
    for (const files of [this.git, this.objects]) {
      files.routes.set(FOUNDING, residents);
      files.shares.set(FOUNDING, { source, phases: shares });
      if (this.id !== source) files.copies.set(FOUNDING, { activated: true, assignments: null });
    }
  }

  startAgent(): void {
    const { world, network, log, bus, blobs } = this.#servers;
    if (this.#run?.alive || this.downUntil > world.now || !this.machineUp || this.isLost) return;
    this.#starts += 1;
    const run = new Run(world, this.host);
    this.#run = run;
    const chance = world.chance.fork(`${this.id} start ${this.#starts}`);
    const failsUntil = () => this.storesFailUntil;
    const postgres = new ModelPostgresStore({
      run,
      own: this.postgres,
      serverOf: (podId) => this.#podOf(podId).postgres,
      network,
      chance: chance.fork("postgres"),
      copyMs: this.#copyMs,
      failsUntil,
      onRemoved: (organizations) => this.#events.removed(this.id, "postgres", organizations),
    });
    const files = (kind: "git" | "objects") =>
      new ModelFileStore({
        run,
        own: this[kind],
        serverOf: (podId) => this.#podOf(podId)[kind],
        peerOf: (podId) => this.#podOf(podId).current?.[kind] ?? null,
        network,
        copyMs: Math.max(4, this.#copyMs / 40),
        failsUntil,
        onRemoved: (organizations) => this.#events.removed(this.id, kind, organizations),
      });
    const git = files("git");
    const objects = files("objects");
    const disk = new DiskClient(this.disk, run, chance.fork("disk"), (state) => {
      // What an older version folds is its own affair; what the newer one makes of it is not.
      if (run.without === null) this.#events.saved(this.id, state);
    });
    const options = {
      podId: this.id,
      software: "simulated",
      stores: [postgres, git, objects],
      log: new LogClient(log, network, run),
      bus: new BusClient(bus, network, run),
      blobs: new BlobClient(blobs, network, run),
      clock: run.clock,
      checkpoints: disk,
      memory: disk.memory,
      logger: silentLogger,
    };
    world.say(this.id, `agent starts (${this.#starts})`);
    void Agent.create(options)
      .then((agent) => {
        if (!run.alive) return;
        this.current = { run, agent, git, objects };
        return agent.start();
      })
      .catch((error: unknown) => {
        if (!run.alive) return;
        world.say(this.id, `agent ends by itself: ${error instanceof Error ? error.message : String(error)}`);
        this.killAgent();
        world.after(RESTART_MS, `${this.id} supervisor`, () => this.startAgent());
      });
  }

  killAgent(): void {
    this.#run?.kill();
    if (this.#run !== null) this.#servers.onGone(this.#run);
    this.#run = null;
    this.current = null;
    // Nobody listens any more; what writers leave is found by the next start.
    this.git.onDirty = () => undefined;
    this.objects.onDirty = () => undefined;
  }

  /** Power off: agent, servers and writers. */
  crashMachine(): void {
    this.killAgent();
    this.machineUp = false;
    this.postgres.crash();
    this.git.crash();
    this.objects.crash();
  }

  lose(): void {
    this.isLost = true;
    this.crashMachine();
  }

  startMachine(): void {
    if (this.isLost) return;
    this.machineUp = true;
    // A server in service is started by its own supervisor, a standby by its agent.
    if (this.postgres.role === "primary") this.postgres.start();
    this.startAgent();
  }
}
