/** One coordinator process: started, killed, started again. */
import { Coordinator } from "../../coordinator/loop/coordinator.ts";
import type { ClusterState } from "../../protocol/cluster.ts";
import type { PodId } from "../../protocol/ids.ts";
import { BlobClient } from "../models/blobs.ts";
import { BusClient } from "../models/bus.ts";
import { Disk, DiskClient } from "../models/disk.ts";
import { type Host, Run } from "../models/host.ts";
import { LogClient } from "../models/log.ts";
import { silentLogger } from "../models/logger.ts";
import type { Servers } from "./pod.ts";

const RESTART_MS = 1_000;

export class CoordinatorProcess {
  readonly id: string;
  readonly host: Host;
  readonly #servers: Servers;
  readonly #pods: readonly PodId[];
  readonly #disk = new Disk();
  readonly #onSaved: (host: string, state: ClusterState) => void;
  downUntil = 0;
  #starts = 0;
  #run: Run | null = null;
  current: { readonly run: Run; readonly coordinator: Coordinator } | null = null;

  constructor(
    host: Host,
    servers: Servers,
    pods: readonly PodId[],
    onSaved: (host: string, state: ClusterState) => void,
  ) {
    this.id = host.id;
    this.host = host;
    this.#servers = servers;
    this.#pods = pods;
    this.#onSaved = onSaved;
  }

  start(): void {
    const { world, network, log, bus, blobs } = this.#servers;
    if (this.#run?.alive || this.downUntil > world.now) return;
    this.#starts += 1;
    const run = new Run(world, this.host);
    this.#run = run;
    const chance = world.chance.fork(`${this.id} start ${this.#starts}`);
    const disk = new DiskClient(this.#disk, run, chance, (state) => {
      // What an older version folds is its own affair; what the newer one makes of it is not.
      if (run.without === null) this.#onSaved(this.id, state);
    });
    const options = {
      id: this.id,
      log: new LogClient(log, network, run),
      bus: new BusClient(bus, network, run),
      blobs: new BlobClient(blobs, network, run),
      clock: run.clock,
      checkpoints: disk,
      logger: silentLogger,
      cluster: {
        pods: this.#pods,
        defaultPodId: this.#pods[0] as PodId,
        stores: ["postgres", "git", "objects"] as const,
      },
    };
    world.say(this.id, `coordinator starts (${this.#starts})`);
    void Coordinator.create({
      ...options,
      cluster: { ...options.cluster, stores: [...options.cluster.stores] },
    })
      .then(async (coordinator) => {
        await coordinator.start();
        this.current = { run, coordinator };
      })
      .catch((error: unknown) => {
        if (!run.alive) return;
        world.say(this.id, `coordinator ends: ${error instanceof Error ? error.message : String(error)}`);
        this.kill();
        world.after(RESTART_MS, `${this.id} supervisor`, () => this.start());
      });
  }

  kill(): void {
    this.#run?.kill();
    this.#run = null;
    this.current = null;
  }
}
