import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { systemClock } from "../../protocol/adapters/system-clock.ts";
import { Pause } from "../../protocol/pause.ts";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

/** Whether it is over, when everything that can run has run. */
function watched(pause: Promise<void>): { over: boolean } {
  const seen = { over: false };
  void pause.then(() => {
    seen.over = true;
  });
  return seen;
}

test("ends when its time is over", async () => {
  const seen = watched(new Pause(systemClock).wait(50));
  await vi.advanceTimersByTimeAsync(49);
  expect(seen.over).toBe(false);
  await vi.advanceTimersByTimeAsync(1);
  expect(seen.over).toBe(true);
});

test("ends when it is woken, and leaves no timer behind", async () => {
  const pause = new Pause(systemClock);
  const seen = watched(pause.wait(50));
  pause.wake();
  await vi.advanceTimersByTimeAsync(0);
  expect(seen.over).toBe(true);
  expect(vi.getTimerCount()).toBe(0);
});

test("what happened while the loop was at work ends the next pause at once, and only that one", async () => {
  const pause = new Pause(systemClock);
  pause.look();
  pause.wake();
  const first = watched(pause.wait(50));
  await vi.advanceTimersByTimeAsync(0);
  expect(first.over).toBe(true);
  const second = watched(pause.wait(50));
  await vi.advanceTimersByTimeAsync(49);
  expect(second.over).toBe(false);
});

test("what happened before the loop looks is seen by that look", async () => {
  const pause = new Pause(systemClock);
  pause.wake();
  pause.look();
  const seen = watched(pause.wait(50));
  await vi.advanceTimersByTimeAsync(49);
  expect(seen.over).toBe(false);
});

test("without a time it ends by being woken alone", async () => {
  const pause = new Pause(systemClock);
  const seen = watched(pause.wait(null));
  await vi.advanceTimersByTimeAsync(3_600_000);
  expect(seen.over).toBe(false);
  pause.wake();
  await vi.advanceTimersByTimeAsync(0);
  expect(seen.over).toBe(true);
});
