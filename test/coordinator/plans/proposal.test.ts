import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { balanced, groupsOf } from "../../../coordinator/plans/balance.ts";
import { propose, type Wishes } from "../../../coordinator/plans/proposal.ts";
import { Sizes } from "../../../protocol/sizes.ts";
import { pod } from "../../support/story.ts";

const amount = fc.nat(1_000_000);
const size = fc.record({
  rows: amount,
  rowBytes: amount,
  repositories: fc.nat(20),
  repositoryBytes: amount,
  objects: fc.nat(20),
  objectBytes: amount,
  writesPerSecond: fc.nat(50),
});
/** Organizations `o0`, `o1`, …, some of which refer to others. */
const measured = (least: number, most: number, references = 8) =>
  fc
    .tuple(
      fc.array(size, { minLength: least, maxLength: most }),
      fc.array(fc.tuple(fc.nat(most - 1), fc.nat(most - 1)), { maxLength: references }),
    )
    .map(([sizes, pairs]) =>
      Sizes.parse({
        version: 1,
        podId: "pod-0",
        at: 0,
        watchedMs: 30_000,
        total: { databaseBytes: 1e9, repositoryBytes: 1e9, objectBytes: 1e9 },
        walBytesPerSecond: 1,
        copy: { bytes: 50_000_000, ms: 1_000, table: "public.issues" },
        organizations: sizes.map((one, index) => ({ id: `o${index}`, ...one })),
        references: pairs.map(([from, to]) => ({ from: `o${from}`, to: `o${to}`, rows: 1, where: "a → b" })),
        notes: [],
      }),
    );
const wishes = (into: number): Wishes => ({
  into,
  targets: Array.from({ length: into - 1 }, (_, index) => pod(`pod-${100 + index}`)),
  bytesPerSecond: null,
  windowsMs: { split: [], move: [] },
});

/** The best possible heaviest share, by trying everything. */
function best(weights: readonly number[], count: number): number {
  const sums = new Array<number>(count).fill(0);
  const search = (at: number): number => {
    if (at === weights.length) return Math.max(...sums);
    let found = Number.POSITIVE_INFINITY;
    for (let share = 0; share < Math.min(count, at + 1); share++) {
      sums[share] = (sums[share] as number) + (weights[at] as number);
      found = Math.min(found, search(at + 1));
      sums[share] = (sums[share] as number) - (weights[at] as number);
    }
    return found;
  };
  return search(0);
}

describe("balancing", () => {
  it("gives every organization to exactly one Pod, and those that refer to each other to the same", () => {
    fc.assert(
      fc.property(measured(10, 60), fc.integer({ min: 2, max: 5 }), (sizes, into) => {
        fc.pre(groupsOf(sizes).length >= into);
        const { source, targets } = propose(sizes, wishes(into));
        const podOf = new Map<string, string>();
        for (const { podId, organizations } of [source, ...targets])
          for (const id of organizations) {
            expect(podOf.has(id), id).toBe(false);
            podOf.set(id, podId);
          }
        expect([...podOf.keys()].sort()).toEqual(sizes.organizations.map(({ id }) => id).sort());
        for (const { from, to } of sizes.references)
          if (podOf.has(from) && podOf.has(to)) expect(podOf.get(from)).toBe(podOf.get(to));
        for (const { load } of targets) expect(load.bytes).toBeLessThanOrEqual(source.load.bytes);
      }),
    );
  });

  it("spreads within one group, and within 4/3 of what is possible", () => {
    fc.assert(
      fc.property(measured(3, 8, 2), fc.integer({ min: 2, max: 3 }), (sizes, count) => {
        const groups = groupsOf(sizes);
        const weights = balanced(groups, count).map(({ weight }) => weight);
        const heaviest = Math.max(...groups.map(({ weight }) => weight));
        expect(Math.max(...weights) - Math.min(...weights)).toBeLessThanOrEqual(heaviest + 1e-9);
        const possible = best(
          groups.map(({ weight }) => weight),
          count,
        );
        expect(Math.max(...weights)).toBeLessThanOrEqual(possible * (4 / 3 - 1 / (3 * count)) + 1e-9);
      }),
    );
  });

  it("gives the same answer whatever the order of the measures", () => {
    fc.assert(
      fc.property(measured(10, 30), (sizes) => {
        fc.pre(groupsOf(sizes).length >= 3);
        const turned = { ...sizes, organizations: [...sizes.organizations].reverse() };
        const shares = (one: Sizes) =>
          propose(one, wishes(3)).targets.map(({ organizations }) => organizations);
        expect(shares(turned)).toEqual(shares(sizes));
      }),
    );
  });

  it("is quick with a hundred thousand organizations", () => {
    const organizations = Array.from({ length: 100_000 }, (_, index) => ({
      id: `o${index}` as never,
      rows: index % 997,
      rowBytes: (index * 7919) % 100_003,
      repositories: index % 3,
      repositoryBytes: index % 5_003,
      objects: 0,
      objectBytes: 0,
      writesPerSecond: 0,
    }));
    const shares = balanced(groupsOf({ organizations, references: [] }), 8).map(({ weight }) => weight);
    expect(Math.max(...shares) - Math.min(...shares)).toBeLessThan(0.001);
  });
});

describe("the proposal", () => {
  const [sizes] = fc.sample(measured(20, 20, 0), { numRuns: 1, seed: 7 }) as [Sizes];

  it("sets a split and moves side by side, each figure with its basis", () => {
    const { source, targets, split, moves } = propose(sizes, wishes(3));
    const leaving = targets.reduce((sum, { load }) => sum + load.bytes, 0);
    expect(split).toMatchObject({ migrations: 1, copiedBytes: 6e9, targetBytes: 3e9, removedBytes: 6e9 });
    expect(split.copyMs.value).toBe(120_000);
    expect(split.copyMs.basis).toContain("at the speed at which public.issues was read beside the source");
    expect(moves).toMatchObject({ migrations: 2, copiedBytes: leaving });
    expect(moves.targetBytes).toBe(Math.max(...targets.map(({ load }) => load.bytes)));
    expect([split.windowMs.value, moves.windowMs.value]).toEqual([null, null]);
    expect(source.podId).toBe("pod-0");
    const told = propose(sizes, {
      ...wishes(3),
      bytesPerSecond: 1_000_000,
      windowsMs: { split: [200, 400], move: [] },
    });
    expect(told.split.copyMs).toEqual({ value: 6_000_000, basis: expect.stringContaining("was given") });
    expect(told.split.windowMs).toEqual({ value: 400, basis: expect.stringContaining("longest of 2") });
  });

  it("invents nothing where nothing was measured", () => {
    const silent = { ...sizes, copy: null };
    expect(propose(silent, wishes(2)).split.copyMs).toEqual({
      value: null,
      basis: "no speed is known: give --bytes-per-second",
    });
    const quiet = sizes.organizations.map((one) => ({ ...one, writesPerSecond: 0 }));
    expect(propose({ ...sizes, organizations: quiet }, wishes(2)).remarks.join()).toContain(
      "no write was seen in 30 s",
    );
  });

  it("says who stays together, who is too large, and what cannot be divided", () => {
    const [first, second, ...rest] = sizes.organizations;
    const references = [{ from: first?.id, to: second?.id, rows: 12, where: "public.a → public.b" }] as never;
    expect(propose({ ...sizes, references }, wishes(2)).remarks[0]).toBe(
      "12 rows refer to a row of another organization, most of public.a → public.b (o0 to o1): these organizations stay together",
    );
    const huge = [{ ...first, rowBytes: 1e9 }, second, ...rest] as never;
    expect(propose({ ...sizes, organizations: huge }, wishes(2)).remarks.join()).toContain(
      "o0 alone has more",
    );
    expect(() => propose({ ...sizes, organizations: [first] as never }, wishes(2))).toThrow(
      /cannot fill 2 Pods/,
    );
    expect(() => propose(sizes, { ...wishes(3), targets: [pod("pod-1")] })).toThrow(
      /need 2 targets, and there are 1/,
    );
  });
});
