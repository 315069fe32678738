/**
 * The log server and its clients. Faults: it stalls (requests are carried out later, after their sender gave up),
 * answers get lost after the append happened, and a server that was cut off from its peers answers from the past.
 */
import { decodeRecord, encodeRecord } from "../../protocol/codec.ts";
import { CleaveError } from "../../protocol/errors.ts";
import type { LogRecord, ReadRecord, UnknownEvent } from "../../protocol/events.ts";
import type { AppendResult, EventLog, LogSubscription } from "../../protocol/ports/event-log.ts";
import { FOUNDER } from "../founding.ts";
import type { Chance } from "../world/random.ts";
import type { World } from "../world/world.ts";
import type { Run } from "./host.ts";
import { LOG, type Network } from "./network.ts";

const ACKNOWLEDGE_MS = 1_500;
const AGAIN_MS = 200;
/** For how long a server that lost its peers may go on answering as if it led (measured). */
const STALE_MS = 1_000;

export type OnAppended = (record: ReadRecord, sequence: number) => void;

export class LogServer {
  readonly #world: World;
  readonly #chance: Chance;
  readonly records: ReadRecord[] = [];
  readonly #storedAt: number[] = [];
  readonly #subscribers = new Set<() => void>();
  /** Called at the very instant of an append, before anybody hears of it. */
  onAppended: OnAppended = () => undefined;
  stalledUntil = 0;
  staleUntil = 0;
  /** Probability that the answer to an append is lost. */
  lostAnswers = 0;

  constructor(world: World) {
    this.#world = world;
    this.#chance = world.chance.fork("log");
  }

  append(bytes: Uint8Array, expectedSequence: number): AppendResult {
    if (expectedSequence !== this.records.length) return { outcome: "conflict" };
    return { outcome: "appended", sequence: this.store(decodeRecord(bytes)) };
  }

  /** Behind the last record, whoever wrote it. */
  store(record: ReadRecord): number {
    this.records.push(record);
    this.#storedAt.push(this.#world.now);
    const sequence = this.records.length;
    this.onAppended(record, sequence);
    for (const tell of this.#subscribers) tell();
    return sequence;
  }

  losesAnswer(identity: string): boolean {
    return this.lostAnswers > 0 && this.#chance.of(`answer ${identity}`) < this.lostAnswers;
  }

  /** As a reader sees it: perhaps up to a second old. */
  last(): number {
    let last = this.records.length;
    if (this.#world.now < this.staleUntil)
      while (last > 0 && (this.#storedAt[last - 1] as number) > this.#world.now - STALE_MS) last--;
    return last;
  }

  /** Probability that what was delivered is delivered again. */
  redelivery = 0;
  redelivers(identity: string): boolean {
    return this.redelivery > 0 && this.#chance.of(`again ${identity}`) < this.redelivery;
  }

  watch(tell: () => void): () => void {
    this.#subscribers.add(tell);
    return () => this.#subscribers.delete(tell);
  }
}

/** As the version that runs there decodes it: what it does not know, it is given as it came. */
function asKnownTo(run: Run, record: ReadRecord): ReadRecord {
  if (run.without === null || record.by === FOUNDER) return record;
  const events = record.events.map((event) => {
    if (event.type !== run.without) return event;
    const unknown = event as unknown as UnknownEvent;
    if (unknown.migrationId !== undefined) run.host.standsStill.add(unknown.migrationId);
    return { type: "Unknown" as const, event: unknown };
  });
  return { ...record, events };
}

/** One process's connection to the log. */
export class LogClient implements EventLog {
  readonly #server: LogServer;
  readonly #network: Network;
  readonly #run: Run;
  readonly #node: string;
  #asked = 0;

  constructor(server: LogServer, network: Network, run: Run) {
    this.#server = server;
    this.#network = network;
    this.#run = run;
    this.#node = run.host.id;
  }

  async append(record: LogRecord, expectedSequence: number): Promise<AppendResult> {
    const newer = record.events.find(({ type }) => type === this.#run.without);
    // An older version would not have thought of it.
    if (newer) throw new CleaveError("INTERNAL", `there is no ${newer.type} yet`);
    const bytes = encodeRecord(record);
    const what = `${this.#node} ${expectedSequence} ${record.events.map((event) => event.type).join()}`;
    const unknown = () =>
      new CleaveError("LOG_APPEND_UNKNOWN", `no answer to an append after ${expectedSequence}`);
    return this.#ask("append", unknown, () => {
      const result = this.#server.append(bytes, expectedSequence);
      return this.#server.losesAnswer(what) ? null : { answer: result };
    });
  }

  lastSequence(): Promise<number> {
    const unreachable = () => new CleaveError("NATS_UNREACHABLE", "the log does not answer");
    return this.#ask("last", unreachable, () => ({ answer: this.#server.last() }));
  }

  /** Carried out at the server, perhaps long after the sender gave up; null for an answer that gets lost. */
  #ask<T>(label: string, timeout: () => Error, carryOut: () => { answer: T } | null): Promise<T> {
    const { world } = this.#run;
    return new Promise((resolve, reject) => {
      this.#asked += 1;
      const giveUp = this.#run.after(ACKNOWLEDGE_MS, `${label} gives up`, () => reject(timeout()));
      const serve = () => {
        if (this.#server.stalledUntil > world.now) {
          world.at(this.#server.stalledUntil, `log ${label} after a stall`, serve);
          return;
        }
        const found = carryOut();
        if (found === null) return;
        this.#network.send(LOG, this.#node, label, () =>
          this.#run.after(0, `${label} answered`, () => {
            giveUp();
            resolve(found.answer);
          }),
        );
      };
      this.#network.send(this.#node, LOG, label, serve);
    });
  }

  async subscribe(
    afterSequence: number,
    onRecord: (record: ReadRecord, sequence: number) => Promise<void> | void,
  ): Promise<LogSubscription> {
    let next = afterSequence;
    let busy = false;
    let open = true;
    const pump = () => {
      if (busy || !open || next >= this.#server.last()) {
        // An old server has more to say once it is no longer old.
        if (!busy && open && next < this.#server.records.length) this.#later(pump);
        return;
      }
      if (!this.#isDelivered()) {
        this.#later(pump);
        return;
      }
      busy = true;
      this.#run.after(this.#network.delayMs(LOG, this.#node), `record ${next + 1}`, () => {
        busy = false;
        if (!open) return;
        if (!this.#isDelivered()) {
          this.#later(pump);
          return;
        }
        const sequence = next + 1;
        busy = true;
        const record = asKnownTo(this.#run, this.#server.records[next] as ReadRecord);
        this.#network.note("record");
        void Promise.resolve(onRecord(record, sequence)).then(() => {
          // A subscription that was made anew begins too early rather than too late.
          this.#asked += 1;
          const again = this.#server.redelivers(`${this.#node} ${sequence} ${this.#asked}`);
          next = again ? Math.max(afterSequence, sequence - 2) : sequence;
          busy = false;
          pump();
        });
      });
    };
    const stop = this.#server.watch(() => {
      if (this.#run.alive) pump();
      else stop();
    });
    pump();
    return {
      close: async () => {
        open = false;
        stop();
      },
    };
  }

  #isDelivered(): boolean {
    const { world, host } = this.#run;
    const stalledUntil = Math.max(this.#server.stalledUntil, host.nothingDeliveredUntil);
    return stalledUntil <= world.now && this.#network.reaches(LOG, this.#node);
  }

  #waiting = false;
  #later(pump: () => void): void {
    if (this.#waiting) return;
    this.#waiting = true;
    this.#run.after(AGAIN_MS, "subscription again", () => {
      this.#waiting = false;
      pump();
    });
  }
}
