/**
 * One state of the exploration. Its parts are immutable values that are interned, so a state is a handful of small
 * numbers and two states are equal exactly when these are: nothing is left to the luck of a hash.
 */
import type { SharePhase } from "../../protocol/cluster.ts";
import type { ClusterEvent } from "../../protocol/events.ts";
import type { Goal } from "../../protocol/evidence.ts";

/**
 * An append that was decided on the log as it is, and may land at any time later, also after its process died, or
 * never. Who decided it does not matter to the log.
 */
export interface Pending {
  /** Equal numbers, equal content. */
  readonly id: number;
  readonly events: readonly ClusterEvent[];
  /** An operator's command uses up its allowance when it lands. */
  readonly command: "start" | "approve" | "abort" | "revoke" | null;
}

/** What one report says, as far as anybody decides by it. */
export interface Said {
  readonly applied: number;
  readonly goal: Goal | null;
  readonly reached: boolean;
  readonly evidence: Token | null;
  readonly preflight: "start" | "fence" | null;
}

/** `order` stands for incarnation and report sequence: only who is newer matters, so it is kept dense. */
export interface Sent {
  readonly order: number;
  readonly said: Said;
}

/** Per Pod: the newest report that a coordinator has taken in, or null. */
export type Heard = readonly (Sent | null)[];

/** Evidence of a fence: the epoch, and which marker in the source's write-ahead log it is. */
export interface Token {
  readonly epoch: number;
  readonly marker: number;
}

/** What is on disk: a crash of the agent changes nothing of it. */
export interface Disk {
  /** Source: per target, the phase that its stores enforce. Target: of its own share alone, `opened` or not. */
  readonly phases: readonly SharePhase[];
  readonly fencedEpoch: number;
  /** Source: the marker written under the fence that is up. */
  readonly marker: Token | null;
  /** Target: entries of the source's write-ahead log applied; also what it holds. */
  readonly applied: number;
  readonly promoted: boolean;
  /** Target: the copy is removed. */
  readonly removed: boolean;
  /** The agent has written down that what the migration made here is removed. */
  readonly released: boolean;
}

/** The store worker's memory: gone with the process. */
export interface Work {
  /** Number of the duty that is being worked on; null before the first. */
  readonly duty: number | null;
  readonly goal: Goal | null;
  readonly step: number;
  readonly reached: boolean;
  readonly evidence: Token | null;
}

export interface AgentPart {
  readonly position: number;
  /** How much of the log is folded on disk: where a crash goes back to. */
  readonly durable: number;
  readonly work: Work;
  readonly disk: Disk;
}

export interface Environment {
  /** The source's write-ahead log: `w1` is an acknowledged write of target 1's organization, `m1` a marker of epoch 1. */
  readonly wal: readonly string[];
  /** Per target: a writer of its organization has passed the source's check and has not ended. */
  readonly writers: readonly boolean[];
  readonly left: Allowance;
  /** So long after the transfer that every lease from before it has run out. */
  readonly elapsed: boolean;
  /** The source has said that it is dormant; who hears it may act on it at any time later. */
  readonly dormantSaid: boolean;
}

/** How much of what is bounded is still allowed. */
export interface Allowance {
  readonly writes: number;
  readonly coordinatorCrashes: number;
  readonly agentCrashes: number;
  readonly start: number;
  readonly approve: number;
  readonly abort: number;
  readonly revoke: number;
  readonly fellBehind: number;
}

export interface World {
  readonly log: number;
  readonly coordinators: readonly Heard[];
  readonly agents: readonly AgentPart[];
  /** Per Pod: its reports that may still arrive, oldest first. */
  readonly network: readonly (readonly Sent[])[];
  /** Everything that was decided on this very log and has not landed. */
  readonly inbox: readonly Pending[];
  readonly environment: Environment;
}

class Interner<T extends object> {
  readonly #ids = new Map<string, number>();
  /** Most parts of a state are those of the state before. */
  readonly #known = new WeakMap<T, number>();
  readonly values: T[] = [];

  id(value: T): number {
    const known = this.#known.get(value);
    if (known !== undefined) return known;
    const id = this.#find(value);
    this.#known.set(value, id);
    return id;
  }

  #find(value: T): number {
    const key = JSON.stringify(value);
    let id = this.#ids.get(key);
    if (id === undefined) {
      id = this.values.length;
      this.values.push(value);
      this.#ids.set(key, id);
    }
    return id;
  }
}

/** Between states and their keys. */
export class States {
  readonly #coordinators = new Interner<Heard>();
  readonly #agents = new Interner<AgentPart>();
  readonly #inboxes = new Interner<World["inbox"]>();
  readonly #network = new Interner<World["network"]>();
  readonly #environments = new Interner<Environment>();

  keyOf(world: World): string {
    // Which coordinator is which matters to nobody: they differ in nothing but what they know.
    const coordinators = world.coordinators.map((part) => this.#coordinators.id(part)).sort((a, b) => a - b);
    const agents = world.agents.map((part) => this.#agents.id(part));
    const network = this.#network.id(world.network);
    const environment = this.#environments.id(world.environment);
    const inbox = this.#inboxes.id(world.inbox);
    return pack([world.log, network, inbox, environment, ...coordinators, ...agents]);
  }

  worldOf(key: string, coordinators: number): World {
    const [log, network, inbox, environment, ...parts] = unpack(key) as [
      number,
      number,
      number,
      number,
      ...number[],
    ];
    return {
      log,
      coordinators: parts.slice(0, coordinators).map((id) => at(this.#coordinators.values, id)),
      agents: parts.slice(coordinators).map((id) => at(this.#agents.values, id)),
      network: at(this.#network.values, network),
      inbox: at(this.#inboxes.values, inbox),
      environment: at(this.#environments.values, environment),
    };
  }
}

function at<T>(values: readonly T[], index: number): T {
  return values[index] as T;
}

const BITS = 15;
const MASK = (1 << BITS) - 1;

/** Two characters for each number, far below the surrogates: 30 bits. */
function pack(numbers: readonly number[]): string {
  let key = "";
  for (const n of numbers) key += String.fromCharCode(n & MASK, n >>> BITS);
  return key;
}

function unpack(key: string): number[] {
  const numbers: number[] = [];
  for (let i = 0; i < key.length; i += 2) numbers.push(key.charCodeAt(i) | (key.charCodeAt(i + 1) << BITS));
  return numbers;
}
