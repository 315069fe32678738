/**
 * One scheduler for everything: events ordered by (virtual time, sequence), and between two of them every microtask
 * that can run has run. Virtual time is in milliseconds from 0.
 */
import { eachTurn } from "./ambient.ts";
import { Chance } from "./random.ts";
import { Trace } from "./trace.ts";

export interface Scheduled {
  readonly at: number;
  readonly sequence: number;
  readonly label: string;
  run: (() => void) | null;
}

export type Stop = "done" | "time" | "events";

export class World {
  readonly chance: Chance;
  readonly trace: Trace;
  now = 0;
  events = 0;
  readonly #heap: Scheduled[] = [];
  #sequence = 0;

  constructor(seed: number, echo: ((line: string) => void) | null = null) {
    this.chance = new Chance(seed);
    this.trace = new Trace(echo);
  }

  after(ms: number, label: string, run: () => void): Scheduled {
    return this.at(this.now + Math.max(0, ms), label, run);
  }

  at(at: number, label: string, run: () => void): Scheduled {
    const event: Scheduled = { at, sequence: this.#sequence++, label, run };
    const heap = this.#heap;
    let i = heap.push(event) - 1;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!before(event, heap[parent] as Scheduled)) break;
      heap[i] = heap[parent] as Scheduled;
      i = parent;
    }
    heap[i] = event;
    return event;
  }

  cancel(event: Scheduled): void {
    event.run = null;
  }

  say(who: string, what: string): void {
    this.trace.say(this.now, who, what);
  }

  /** Runs until `isDone` after an event, or the time or number of events is over. */
  async run(until: number, maxEvents: number, isDone: () => boolean): Promise<Stop> {
    let stop: Stop | null = null;
    let isFirst = true;
    await eachTurn(() => {
      // What the event before set going has come to its end now.
      if (!isFirst) stop = isDone() ? "done" : this.events >= maxEvents ? "events" : null;
      isFirst = false;
      stop ??= this.#next(until);
      return stop !== null;
    });
    return stop as unknown as Stop;
  }

  #next(until: number): "time" | null {
    for (;;) {
      const event = this.#pop();
      if (event === undefined || event.at > until) {
        if (event) this.at(event.at, event.label, event.run ?? (() => undefined));
        this.now = Math.max(this.now, until);
        return "time";
      }
      const { run } = event;
      if (run === null) continue;
      this.now = event.at;
      this.events += 1;
      this.trace.mark(event.at, event.label);
      run();
      return null;
    }
  }

  #pop(): Scheduled | undefined {
    const heap = this.#heap;
    const top = heap[0];
    const last = heap.pop();
    if (last === undefined || last === top) return top;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1] as Scheduled, heap[child] as Scheduled)) child++;
      if (!before(heap[child] as Scheduled, last)) break;
      heap[i] = heap[child] as Scheduled;
      i = child;
    }
    heap[i] = last;
    return top;
  }
}

function before(a: Scheduled, b: Scheduled): boolean {
  return a.at < b.at || (a.at === b.at && a.sequence < b.sequence);
}
