import { expect, test } from "vitest";
import { Scrub } from "../../../../../agent/stores/common/verification/scrub.ts";
import { type Scrubbed, ScrubMemory } from "../../../../../agent/stores/common/verification/scrubbed.ts";
import { silentLogger } from "../../../../../protocol/adapters/logger.ts";
import { systemClock } from "../../../../../protocol/adapters/system-clock.ts";
import { eventually } from "../../../../support/eventually.ts";

test("at the fence nothing counts that was changed and not read back since, however long that takes", async () => {
  const beliefs = new Map<string, object>([["a", {}]]);
  let news = ["a"];
  let mayRead = Promise.resolve();
  const scrubbed: Scrubbed = {
    size: 1,
    names: () => beliefs.keys(),
    changed: () => news.splice(0),
    belief: (name) => beliefs.get(name) ?? null,
    isAssigned: () => true,
    isGone: () => false,
    bytes: () => 1,
    looksSame: async () => true,
    read: async (name) => {
      const belief = beliefs.get(name) ?? null;
      await mayRead;
      return { why: null, belief };
    },
    damaged: () => undefined,
  };
  const scrub = new Scrub({
    scrubbed,
    memory: new ScrubMemory(),
    clock: systemClock,
    log: silentLogger,
    bytesPerSecond: 1e9,
    itemsPerSecond: 1e6,
    concurrency: 1,
    pauseMs: 60_000,
    lookMs: 60_000,
    onChange: () => undefined,
  });
  try {
    scrub.start();
    await eventually(() => expect(scrub.confirms(1)).toBe(true));
    let go: () => void = () => undefined;
    mayRead = new Promise<void>((resolve) => {
      go = resolve;
    });
    // Two, of which one worker reads the first: the other one waits.
    beliefs.set("a", {}).set("b", {});
    news = ["a", "b"];
    expect(scrub.confirms(1)).toBe(false);
    await eventually(() => expect(scrub.status().unread).toBe(1));
    expect(scrub.confirms(1)).toBe(false);
    go();
    await eventually(() => expect(scrub.confirms(1)).toBe(true));
  } finally {
    await scrub.stop();
  }
});
