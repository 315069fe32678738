/** Brings faults about, and ends them when calm is to come: all but those for good, whose targets are no part of the core. */
import type { ReadRecord } from "../../protocol/events.ts";
import { LOG } from "../models/network.ts";
import { type Cluster, SOURCE } from "../processes/cluster.ts";
import { describeFault, type Fault } from "./fault.ts";

export class Faults {
  readonly #cluster: Cluster;
  readonly #pending: Fault[];
  readonly #seen = new Map<string, number>();
  readonly #isNeeded: (podId: string) => boolean;
  #calm = false;
  readonly applied: Fault[] = [];
  onBegin: (fault: Fault) => void = () => undefined;

  /** @param isNeeded somebody is served by that Pod, or will be */
  constructor(cluster: Cluster, faults: readonly Fault[], isNeeded: (podId: string) => boolean) {
    this.#cluster = cluster;
    this.#isNeeded = isNeeded;
    this.#pending = [...faults];
  }

  start(): void {
    for (const fault of this.#pending)
      if ("at" in fault.when)
        this.#cluster.world.at(fault.when.at, `fault ${fault.kind}`, () => this.#begin(fault));
  }

  appended(record: ReadRecord): void {
    for (const event of record.events) {
      const type = event.type as string;
      const nth = (this.#seen.get(type) ?? 0) + 1;
      this.#seen.set(type, nth);
      for (const fault of this.#pending) {
        if ("at" in fault.when || fault.when.on !== type || fault.when.nth !== nth) continue;
        const { afterMs } = fault.when;
        if (fault.kind === "cut-after-deciding") this.#cutOff(fault, record.by);
        else this.#cluster.world.after(afterMs, `fault ${fault.kind}`, () => this.#begin(fault));
      }
    }
  }

  /** No more faults; what is down starts, what is cut heals. Damage that was done stays done, and who is gone for good. */
  calm(): void {
    this.#calm = true;
    const { world, network, log, bus, blobs } = this.#cluster.servers;
    const forGood = this.applied.filter((fault) => fault.forGood && !this.#isNeeded(fault.target));
    const out = new Set(forGood.map(({ target }) => target));
    this.#cluster.outOfCore = out;
    world.say("world", `faults are over${out.size > 0 ? `, but for ${[...out].join(", ")}` : ""}`);
    network.heal();
    for (const fault of forGood) this.#bring(fault);
    log.stalledUntil = log.staleUntil = blobs.unavailableUntil = 0;
    log.lostAnswers = log.redelivery = bus.loss = bus.doubling = bus.shuffleMs = 0;
    for (const host of this.#cluster.hosts.values()) {
      host.pausedUntil = Math.min(host.pausedUntil, world.now);
      host.slowMs = 0;
      host.nothingDeliveredUntil = host.nothingHeardUntil = 0;
      // Clocks are kept in step again, as a time service does.
      host.skewMs = Math.max(-50, Math.min(50, host.skewMs));
    }
    for (const pod of this.#cluster.pods.values()) {
      if (pod.isLost || out.has(pod.id)) continue;
      pod.disk.failsUntil = pod.storesFailUntil = pod.downUntil = pod.postgres.replayStallsUntil = 0;
      pod.git.lateMs = pod.objects.lateMs = 0;
      pod.git.rotten = pod.objects.rotten = null;
      pod.postgres.rottenCopies = false;
      pod.postgres.logical.losesUntil = 0;
      for (const server of [pod.git, pod.objects]) server.makeReadable();
      if (!pod.machineUp) pod.startMachine();
      if (pod.postgres.role === "primary") pod.postgres.start();
      pod.startAgent();
    }
    for (const coordinator of this.#cluster.coordinators) {
      if (out.has(coordinator.id)) continue;
      coordinator.downUntil = 0;
      coordinator.start();
    }
    for (const [id, { olderWithout }] of this.#cluster.hosts)
      if (olderWithout !== null && !out.has(id)) this.#cluster.upgrade(id);
  }

  /** The one that decided says nothing more and hears nothing: not even the answer to its append. */
  #cutOff(fault: Fault, by: string): void {
    if (this.#calm) return;
    const host = by.replace(/^(coordinator|agent):/, "");
    this.#begin({ ...fault, target: host });
  }

  #begin(fault: Fault): void {
    if (this.#calm) return;
    const { world } = this.#cluster;
    world.say("FAULT", describeFault(fault));
    this.applied.push(fault);
    this.onBegin(fault);
    const end = this.#bring(fault);
    if (end && fault.forMs > 0 && !fault.forGood)
      world.after(fault.forMs, `fault ${fault.kind} ends`, () => {
        if (!this.#calm) end();
      });
  }

  /** What an administrator does on the source that no stream can follow. The guard checks it as any write. */
  #bypass(kind: "membership-change" | "truncate" | "schema-change"): void {
    const { postgres } = this.#cluster.pod(SOURCE);
    const [organization] = this.#cluster.assignments.keys();
    const transaction = postgres.begin("read committed");
    if (transaction === null || organization === undefined) return;
    if (kind !== "membership-change")
      transaction.changes.push({ type: kind === "truncate" ? "truncate" : "alter" });
    else if (!postgres.bring(transaction, organization, `project-${this.applied.length}`)) return;
    postgres.commit(transaction, () => undefined);
  }

  /** Returns what ends it. */
  #bring(fault: Fault): (() => void) | null {
    const { world, network, log, bus, blobs } = this.#cluster.servers;
    const { target, amount, forMs } = fault;
    const until = fault.forGood ? Number.POSITIVE_INFINITY : world.now + forMs;
    const host = this.#cluster.hosts.get(target);
    const pod = this.#cluster.pods.get(target);
    const cuts = (...list: [from: string, to: string][]) => {
      const heal = list.map(([from, to]) => network.cut({ from, to }));
      return () => {
        for (const end of heal) end();
      };
    };
    switch (fault.kind) {
      case "crash": {
        const process = pod ?? this.#cluster.coordinators.find(({ id }) => id === target);
        if (!process) return null;
        process.downUntil = until;
        if ("startAgent" in process) process.killAgent();
        else process.kill();
        return () => ("startAgent" in process ? process.startAgent() : process.start());
      }
      case "machine-crash":
        if (!pod?.machineUp) return null;
        pod.crashMachine();
        return () => pod.startMachine();
      case "postgres-crash":
        if (!pod?.postgres.up) return null;
        pod.postgres.crash();
        return () => {
          if (pod.machineUp && pod.postgres.role === "primary") pod.postgres.start();
        };
      case "pause":
        if (host) host.pausedUntil = until;
        return null;
      case "slow":
        if (!host) return null;
        host.slowMs = amount;
        return () => {
          host.slowMs = 0;
        };
      case "clock-jump":
        if (host) host.skewMs += amount;
        return null;
      case "isolate":
      case "cut-after-deciding":
        return cuts([target, "*"], ["*", target]);
      case "log-cut":
        return cuts([target, LOG], [LOG, target]);
      case "deaf":
        return cuts([LOG, target]);
      case "mute":
        return cuts([target, LOG]);
      case "peers-cut": {
        const pods = [...this.#cluster.pods.keys()];
        return cuts(...pods.flatMap((a) => pods.filter((b) => a !== b).map((b): [string, string] => [a, b])));
      }
      case "log-stall":
        log.stalledUntil = until;
        return null;
      case "log-stale":
        log.staleUntil = until;
        return null;
      case "log-lost-answers":
        log.lostAnswers = amount;
        return () => {
          log.lostAnswers = 0;
        };
      case "bus-loss":
        bus.loss = amount;
        return () => {
          bus.loss = 0;
        };
      case "bus-doubling":
        bus.doubling = amount;
        return () => {
          bus.doubling = 0;
        };
      case "bus-shuffle":
        bus.shuffleMs = amount;
        return () => {
          bus.shuffleMs = 0;
        };
      case "blobs-unavailable":
        blobs.unavailableUntil = until;
        return null;
      case "disk-full":
        if (pod) pod.disk.failsUntil = until;
        return null;
      case "stores-fail":
        if (pod) pod.storesFailUntil = until;
        return null;
      case "replay-stall":
        if (!pod) return null;
        pod.postgres.replayStallsUntil = until;
        return null;
      case "corrupt-copy":
        // After the comparison it would be another failure: a disk that loses what was proved.
        for (const server of pod ? [pod.git, pod.objects] : [])
          server.corruptOne(world.chance.of(`corrupt ${target} ${world.now}`));
        return null;
      case "older-version":
        if (!host || fault.event === undefined) return null;
        host.olderWithout = fault.event;
        this.#cluster.restart(target);
        return () => this.#cluster.upgrade(target);
      case "log-redelivery":
        log.redelivery = amount;
        return () => {
          log.redelivery = 0;
        };
      case "delivery-stall":
        if (host) host.nothingDeliveredUntil = until;
        return null;
      case "reports-stall":
        if (host) host.nothingHeardUntil = until;
        return null;
      case "slot-loss":
        if (this.#cluster.pod(SOURCE).postgres.hasSlotFor(target))
          this.#cluster.pod(SOURCE).postgres.lostFor.add(target);
        this.#cluster.pod(SOURCE).postgres.logical.loseSlotsOf(target);
        return null;
      case "back-slot-loss":
        for (const [name, slot] of pod?.postgres.logical.slots ?? [])
          if (name.startsWith("cleave_back_")) slot.lost = true;
        return null;
      case "snapshot-loss":
        pod?.postgres.logical.loseSnapshots();
        return null;
      case "lossy-stream":
        if (pod) pod.postgres.logical.losesUntil = until;
        return null;
      case "membership-change":
      case "truncate":
      case "schema-change":
        this.#bypass(fault.kind);
        return null;
      case "unreadable-source": {
        if (!pod) return null;
        const place = world.chance.of(`unreadable ${world.now}`);
        for (const server of [pod.git, pod.objects]) server.makeUnreadable(place);
        return () => {
          for (const server of [pod.git, pod.objects]) server.makeReadable();
        };
      }
      case "rotten-disk": {
        if (!pod) return null;
        const quarter = Math.floor(4 * world.chance.of(`rotten ${target} ${world.now}`));
        pod.git.rotten = pod.objects.rotten = quarter;
        pod.postgres.rottenCopies = true;
        return () => {
          pod.git.rotten = pod.objects.rotten = null;
          pod.postgres.rottenCopies = false;
        };
      }
      case "late-writes":
        if (!pod) return null;
        pod.git.lateMs = pod.objects.lateMs = amount;
        return () => {
          pod.git.lateMs = pod.objects.lateMs = 0;
        };
    }
  }
}
