/** While a simulation runs in a thread, that thread has no time, chance or timers but the world's. */
import crypto from "node:crypto";
import { syncBuiltinESMExports } from "node:module";
import timers from "node:timers/promises";

const immediate = globalThis.setImmediate;
const realDate = globalThis.Date;
const realPerformanceNow = performance.now.bind(performance);

/** Turns of the event loop's phase for immediates that are taken at once: one look at timers and sockets for all. */
const TURNS = 256;

/**
 * Calls `step` until it returns true. Between two calls every microtask that can run has run, and rejections that nobody
 * handled have been told of: Node sees to both between two immediates. The one use of the real event loop.
 */
export function eachTurn(step: () => boolean): Promise<void> {
  return new Promise((resolve, reject) => {
    let left = 0;
    let over = false;
    const turn = (): void => {
      left -= 1;
      if (over) return;
      try {
        over = step();
      } catch (error) {
        over = true;
        reject(error as Error);
        return;
      }
      if (over) resolve();
      else if (left === 0) take();
    };
    const take = (): void => {
      for (; left < TURNS; left++) immediate(turn);
    };
    take();
  });
}

/** Real milliseconds, for what is said about speed; never an input of a simulation. */
export const realNow = (): number => realPerformanceNow();

function banned(name: string): () => never {
  return () => {
    throw new Error(`${name} was used inside a simulation: time, chance and timers come from ports`);
  };
}

class NoDate extends realDate {
  constructor(...values: [] | [number | string]) {
    if (values.length === 0) banned("new Date()")();
    super(...(values as [number]));
  }
  static override now(): number {
    return banned("Date.now")();
  }
}

type Bag = Record<string, unknown>;

/** Forbids them all; returns the function that gives them back. */
export function forbidAmbient(): () => void {
  const places: readonly [target: Bag, name: string, replacement?: unknown][] = [
    [globalThis as unknown as Bag, "Date", NoDate],
    [globalThis as unknown as Bag, "setTimeout"],
    [globalThis as unknown as Bag, "setInterval"],
    [globalThis as unknown as Bag, "setImmediate"],
    [Math as unknown as Bag, "random"],
    [performance as unknown as Bag, "now"],
    [AbortSignal as unknown as Bag, "timeout"],
    [process as unknown as Bag, "hrtime"],
    [globalThis.crypto as unknown as Bag, "getRandomValues"],
    [globalThis.crypto as unknown as Bag, "randomUUID"],
    [crypto as unknown as Bag, "randomBytes"],
    [crypto as unknown as Bag, "randomUUID"],
    [crypto as unknown as Bag, "randomInt"],
    [timers as unknown as Bag, "setTimeout"],
    [timers as unknown as Bag, "setImmediate"],
  ];
  const before = places.map(([target, name]) => Object.getOwnPropertyDescriptor(target, name));
  for (const [target, name, replacement] of places)
    Object.defineProperty(target, name, {
      value: replacement ?? banned(name),
      configurable: true,
      writable: true,
    });
  syncBuiltinESMExports();
  return () => {
    places.forEach(([target, name], i) => {
      const descriptor = before[i];
      if (descriptor) Object.defineProperty(target, name, descriptor);
      else delete target[name];
    });
    syncBuiltinESMExports();
  };
}
