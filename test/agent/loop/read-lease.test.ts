/** Rule 12: how long reads may be served is counted from when the log was asked, and its answer may be old. */
import { expect, it } from "vitest";
import { ReadLease } from "../../../agent/loop/read-lease.ts";
import type { LogFollower } from "../../../protocol/log-follower.ts";
import type { Clock } from "../../../protocol/ports/clock.ts";
import type { EventLog } from "../../../protocol/ports/event-log.ts";

const LEASE_MS = 1_000;

/** A log that answers when it is told to, and a clock that goes where it is put. */
function world(folded: number) {
  let now = 5_000;
  const asked: ((last: number) => void)[] = [];
  const slept: (() => void)[] = [];
  const clock = {
    monotonic: () => now,
    sleep: (_ms: number, signal?: AbortSignal) =>
      new Promise<void>((resolve, reject) => {
        slept.push(resolve);
        signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
      }),
  } as unknown as Clock;
  const log = {
    lastSequence: () => new Promise<number>((resolve) => asked.push(resolve)),
  } as unknown as EventLog;
  const lease = new ReadLease(log, clock, { state: { sequence: folded } } as unknown as LogFollower);
  const turn = () => new Promise((resolve) => setImmediate(resolve));
  return {
    lease,
    pass: (ms: number) => {
      now += ms;
    },
    answer: async (last: number) => {
      asked.shift()?.(last);
      await turn();
    },
    again: async () => {
      slept.shift()?.();
      await turn();
    },
  };
}

it("begins when the log was asked, however late it answered", async () => {
  const { lease, pass, answer, again } = world(7);
  expect(lease.valid()).toBe(false);
  lease.keep(LEASE_MS);
  pass(600);
  await answer(7);
  expect(lease.valid()).toBe(true);
  pass(399);
  expect(lease.valid()).toBe(true);
  pass(1);
  expect(lease.valid()).toBe(false);
  await again();
  pass(LEASE_MS);
  await answer(7);
  expect(lease.valid()).toBe(false);
  lease.keep(null);
});

it("is not renewed by an answer that is ahead of what is folded", async () => {
  const { lease, answer } = world(7);
  lease.keep(LEASE_MS);
  await answer(8);
  expect(lease.valid()).toBe(false);
  lease.keep(null);
});
