import { describe, expect, it } from "vitest";
import { estimateOf, noPaces, notePace, type Paces } from "../../../coordinator/domain/pace.ts";
import type { StoreStatus } from "../../../protocol/evidence.ts";
import type { StoreName } from "../../../protocol/ids.ts";
import { fold, migrationId, report, say, storeStatus, theMigration, until } from "../../support/story.ts";

const SEEDING = [say.configured(), say.planned(), say.checking(), say.passed()];
const seeding = theMigration(fold(SEEDING));
const following = theMigration(fold([...SEEDING, say.seeded()]));

type Stores = Partial<Record<StoreName, StoreStatus>>;
const copied = (done: number, total = 1_000_000_000): Stores => ({
  postgres: storeStatus("seed", { reached: false, progress: { done, total, unit: "bytes" } }),
});
const behind = (amount: number | null): Stores => ({
  postgres: storeStatus("follow", { lag: { amount, unit: "bytes" } }),
});

/** One report a second from 0 on, each with the next of `seconds`. */
const told = (goal: "seed" | "follow", seconds: readonly Stores[]): Paces =>
  seconds.reduce(
    (paces, stores, index) => notePace(paces, report("pod-100", { goal, stores }), index * 1_000),
    noPaces,
  );
const ask = (migration: typeof seeding, paces: Paces, now: number, stores: Stores) =>
  estimateOf(
    migration,
    ["pod-100"] as never,
    () => report("pod-100", { goal: "seed", stores }).migrations[migrationId]?.stores,
    paces,
    now,
  );

describe("time left", () => {
  it("of a copy is what is left at the pace of the last reports, and says so", () => {
    const seconds = Array.from({ length: 31 }, (_, second) => copied(second * 10_000_000));
    expect(ask(seeding, told("seed", seconds), 30_000, copied(300_000_000))).toEqual({
      leftMs: 70_000,
      basis: "pod-100 WAL: 700 MB left at 10 MB/s over the last 30 s",
    });
  });

  it("of catching up ends at the plan's bound", () => {
    const bound = following.settings.lagBounds.postgresBytes;
    const seconds = Array.from({ length: 11 }, (_, second) =>
      behind(bound + 11_000_000 - second * 1_000_000),
    );
    expect(ask(following, told("follow", seconds), 10_000, behind(bound + 1_000_000))?.leftMs).toBe(1_000);
    expect(ask(following, told("follow", seconds), 10_000, behind(bound))).toBeNull();
  });

  it("has no number without a basis: too few reports, no headway, or nothing said of the amount", () => {
    expect(ask(seeding, told("seed", [copied(0), copied(10)]), 1_000, copied(10))).toEqual({
      leftMs: null,
      basis: "too few reports of pod-100 WAL yet",
    });
    const growing = Array.from({ length: 11 }, (_, second) => behind(5_000_000 + second * 1_000));
    expect(ask(following, told("follow", growing), 10_000, behind(5_010_000))).toEqual({
      leftMs: null,
      basis: "pod-100 WAL made no headway over the last 10 s",
    });
    const silent = { postgres: storeStatus("seed", { reached: false }) };
    expect(ask(seeding, told("seed", [silent]), 1_000, silent)?.basis).toMatch(/does not say yet how much/);
    expect(ask(following, told("follow", [behind(null)]), 1_000, behind(null))).toBeNull();
  });

  it("forgets what is older than a minute, and a step that is over", () => {
    // Fast long ago, slow since: the last minute alone counts.
    const seconds = Array.from({ length: 121 }, (_, second) =>
      copied(second <= 60 ? second * 10_000_000 : 600_000_000 + (second - 60) * 1_000_000),
    );
    const paces = told("seed", seconds);
    expect(ask(seeding, paces, 120_000, copied(660_000_000))?.leftMs).toBe(340_000);
    expect([...paces.values()][0]?.length).toBeLessThanOrEqual(61);
    // Another total is another copy.
    expect(ask(following, paces, 120_000, behind(50_000_000))?.basis).toMatch(/too few/);
    expect(notePace(paces, report("pod-101", { goal: "serve" }), 200_000).size).toBe(0);
  });

  it("does not exist where a person or a moment is waited for", () => {
    const ready = theMigration(fold(until.fencing()));
    expect(ask(ready, noPaces, 0, behind(10_000_000))).toBeNull();
  });
});
