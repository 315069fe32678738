/** While a simulation runs in a thread, that thread has no time, chance or timers but the world's. */
import crypto from "node:crypto";
import { syncBuiltinESMExports } from "node:module";
import timers from "node:timers/promises";

const immediate = globalThis.setImmediate;
const realDate = globalThis.Date;
const realPerformanceNow = performance.now.bind(performance);

/** Resolves when every microtask that can run has run. The one use of the real event loop. */
export function drained(): Promise<void> {
  return new Promise((resolve) => immediate(resolve));
}

/** Real milliseconds, for what is said about speed; never an input of a simulation. */
export const realNow = (): number => realPerformanceNow();

function banned(name: string): () => never {
  return () => {
    throw new Error(`${name} was used inside a simulation: time, chance and timers come from ports`);
  };
}

/** MessagePack's decoder draws which key to forget when its cache of keys is full; nothing that it returns depends on it. */
function random(): number {
  if (new Error("who asks").stack?.includes("CachedKeyDecoder")) return 0;
  return banned("Math.random")();
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
    [Math as unknown as Bag, "random", random],
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
