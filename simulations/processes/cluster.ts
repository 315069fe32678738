/** All hosts, servers and processes of one simulated cluster. */

import type { Assignments } from "../../protocol/assignments.ts";
import type { ClusterState } from "../../protocol/cluster.ts";
import type { ReadRecord } from "../../protocol/events.ts";
import type { PodId } from "../../protocol/ids.ts";
import { configured, foundingRecord } from "../founding.ts";
import { BlobServer } from "../models/blobs.ts";
import { BusServer } from "../models/bus.ts";
import { Host, type Run } from "../models/host.ts";
import { LogServer } from "../models/log.ts";
import { Network } from "../models/network.ts";
import type { Observer } from "../observer.ts";
import { type Scenario, TARGETS } from "../scenario.ts";
import type { World } from "../world/world.ts";
import { CoordinatorProcess } from "./coordinator-process.ts";
import { Pod, type Servers } from "./pod.ts";

export const SOURCE = "pod-0" as PodId;

export class Cluster {
  readonly world: World;
  readonly servers: Servers;
  readonly hosts = new Map<string, Host>();
  readonly pods = new Map<string, Pod>();
  readonly coordinators: readonly CoordinatorProcess[];
  readonly targets: readonly PodId[];
  readonly organizations: readonly string[];
  /** Of the organizations: those that move, and where to. */
  readonly assignments: ReadonlyMap<string, PodId>;
  /** Where they go to: all targets of a split, one of a move. */
  readonly destinations: readonly PodId[];
  /** Of the organizations: those that other Pods than the source serve from the beginning. */
  readonly residents: ReadonlyMap<string, PodId>;
  /** When faults are over: hosts that stay down or cut off all the same, and that nobody counts on. */
  outOfCore: ReadonlySet<string> = new Set();
  /** What the log holds before anything runs. */
  readonly past: ReadRecord | null;

  constructor(
    world: World,
    scenario: Scenario,
    observer: Required<Pick<Observer, "saved" | "removed" | "committed">>,
  ) {
    this.world = world;
    const network = new Network(world);
    const servers = {
      world,
      network,
      log: new LogServer(world),
      bus: new BusServer(world, network),
      blobs: new BlobServer(),
      onGone: (run: Run) => {
        for (const { postgres } of this.pods.values()) postgres.disconnect(run);
      },
    };
    this.servers = servers;
    servers.bus.said = (from, what) => {
      const host = this.hosts.get(from);
      if (host) host.saidUnknown = what;
    };
    this.targets = TARGETS.slice(0, scenario.targets) as unknown as PodId[];
    this.organizations = Array.from({ length: scenario.organizations }, (_, i) => `org-${i}`);
    const { move = null, neighbours } = scenario;
    const settled = neighbours + (move?.residents ?? 0);
    const spread = (some: readonly string[], pods: readonly PodId[]) =>
      new Map(some.map((organization, i) => [organization, pods[i % pods.length] as PodId]));
    this.destinations = move === null ? this.targets : this.targets.slice(0, 1);
    this.assignments = spread(this.organizations.slice(settled), this.destinations);
    this.residents = spread(this.organizations.slice(neighbours, settled), this.targets);
    const host = (id: string) => {
      const made = new Host(id);
      const clock = scenario.clocks[id];
      if (clock) {
        made.skewMs = clock.skewMs;
        made.rate = clock.rate;
      }
      this.hosts.set(id, made);
      return made;
    };
    const podIds = [SOURCE, ...this.targets];
    const saved = (id: string, state: ClusterState) => observer.saved(id, state);
    this.coordinators = ["c1", "c2"].map((id) => new CoordinatorProcess(host(id), servers, podIds, saved));
    for (const id of podIds) {
      const podOf = (other: string) => this.pods.get(other) as Pod;
      const pod = new Pod(
        host(id),
        servers,
        SOURCE,
        podOf,
        { saved, removed: observer.removed },
        scenario.copyMs,
      );
      pod.postgres.promotionMs = scenario.promotionMs;
      for (const [store, server] of [
        ["postgres", pod.postgres],
        ["git", pod.git],
        ["objects", pod.objects],
      ] as const)
        server.onCommitted = (organization, write) => observer.committed(id, store, organization, write);
      this.pods.set(id, pod);
    }
    (this.pods.get(SOURCE) as Pod).postgres.initialize("system-1");
    this.past = move === null ? null : this.#found(podIds);
  }

  /** Every Pod serves: as a split left them that was completed long ago. */
  #found(podIds: readonly PodId[]): ReadRecord {
    const residents = this.residents as Assignments;
    for (const id of podIds) this.pod(id).found(SOURCE, residents);
    const founding = foundingRecord(this.servers.blobs, SOURCE, residents);
    return { ...founding, events: [configured(podIds, SOURCE), ...founding.events] };
  }

  pod(id: string): Pod {
    return this.pods.get(id) as Pod;
  }

  /** The process ends and starts again at once, as its supervisor does it for another version. */
  restart(id: string): void {
    const coordinator = this.coordinators.find((process) => process.id === id);
    coordinator?.kill();
    coordinator?.start();
    const pod = this.pods.get(id);
    pod?.killAgent();
    pod?.startAgent();
  }

  upgrade(id: string): void {
    const host = this.hosts.get(id);
    if (!host || host.olderWithout === null) return;
    host.olderWithout = null;
    host.standsStill.clear();
    this.restart(id);
  }

  start(): void {
    for (const coordinator of this.coordinators) coordinator.start();
    for (const pod of this.pods.values()) pod.startAgent();
  }
}
