/** Watches one run. It looks and counts; nothing in the run depends on it. */
import { emptyCluster } from "../../protocol/cluster.ts";
import type { ReadRecord } from "../../protocol/events.ts";
import { evolve } from "../../protocol/evolve.ts";
import { collectMarks } from "../../protocol/marks.ts";
import type { Lifecycle } from "../../protocol/migration-machine.ts";
import type { Fault } from "../faults/fault.ts";
import type { Network } from "../models/network.ts";
import type { Truth } from "../truth.ts";
import type { World } from "../world/world.ts";
import { type Coverage, MESSAGES, type Message } from "./coverage.ts";
import { nameOf, takes } from "./graph.ts";

/** What happens at an instant is still felt for a while. */
const FELT_MS = 300;

const KIND_OF: Readonly<Record<string, Message>> = {
  ...Object.fromEntries(MESSAGES.map((message) => [message, message])),
  "guard?": "guard",
  postgres: "write",
  git: "write",
  objects: "write",
  allow: "guard",
  fenced: "guard",
  wrongPod: "guard",
  opening: "guard",
  unconfirmed: "guard",
  unknownIdentity: "guard",
};

export class Collector {
  readonly #world: World;
  readonly #truth: Truth;
  readonly #marks = new Set<string>();
  readonly #transitions = new Set<string>();
  readonly #cells = new Set<string>();
  readonly #active: { readonly fault: Fault; readonly until: number }[] = [];
  #state: Lifecycle | null = null;

  constructor(world: World, truth: Truth, network: Network) {
    this.#world = world;
    this.#truth = truth;
    network.onMessage = (label) => this.#message(label);
  }

  /** Until the returned function is called, marks that this thread passes belong to this run. */
  start(): () => void {
    return collectMarks((name) => this.#marks.add(name));
  }

  began(fault: Fault): void {
    this.#active.push({ fault, until: this.#world.now + Math.max(FELT_MS, fault.forMs) });
  }

  /** A record that the truth has just folded: each of its events is one step of the machine. */
  appended(record: ReadRecord, sequence: number): void {
    let state = this.#truth.states[sequence - 1] ?? emptyCluster;
    for (const event of record.events) {
      const next = evolve(state, { ...record, events: [event] }, sequence);
      if (event.type !== "Unknown" && event.type !== "ClusterConfigured") {
        const from = state.migrations[event.migrationId]?.lifecycle;
        const to = next.migrations[event.migrationId]?.lifecycle;
        if (to) this.#state = to;
        if (from && to && takes(from, event.type))
          this.#transitions.add(nameOf({ from, event: event.type, to }));
      }
      state = next;
    }
  }

  #message(label: string): void {
    const message = KIND_OF[label];
    if (message === undefined || this.#state === null) return;
    for (const { fault, until } of this.#active)
      if (until > this.#world.now) this.#cells.add(`${fault.kind} ${this.#state} ${message}`);
  }

  result(): Coverage {
    const once = (names: Iterable<string>) => Object.fromEntries([...names].map((name) => [name, 1]));
    return {
      runs: 1,
      marks: once(this.#marks),
      transitions: once(this.#transitions),
      cells: once(this.#cells),
    };
  }
}
