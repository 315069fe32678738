/** What the dashboard computes before anything is drawn: the chart, plots, lists, cells and requests. */
import { describe, expect, it } from "vitest";
import type { MigrationStatus, StoreView } from "../../../coordinator/api/ports.ts";
import { loadPage } from "../../../coordinator/dashboard/bundle.ts";
import { chart, NODE } from "../../../coordinator/dashboard/page/model/chart.ts";
import { actionsOf, bodyOf } from "../../../coordinator/dashboard/page/model/commands.ts";
import { Rows, rowsInSight } from "../../../coordinator/dashboard/page/model/rows.ts";
import { KEPT_POINTS, Measured, perSecond } from "../../../coordinator/dashboard/page/model/series.ts";
import { age, cellOf, duration } from "../../../coordinator/dashboard/page/model/words.ts";
import { LIFECYCLES, migrationMachine } from "../../../protocol/migration-machine.ts";
import { pod, storeStatus } from "../../support/story.ts";

describe("the chart", () => {
  const drawn = chart();

  it("has every state of the machine once, none upon another, and all within the drawing", () => {
    expect(drawn.nodes.map(({ id }) => id)).toEqual([...LIFECYCLES]);
    for (const [index, a] of drawn.nodes.entries()) {
      expect(Math.min(a.x, a.y) - NODE.height / 2).toBeGreaterThanOrEqual(0);
      expect(a.x + NODE.width / 2).toBeLessThanOrEqual(drawn.width);
      expect(a.y + NODE.height / 2).toBeLessThanOrEqual(drawn.height);
      for (const b of drawn.nodes.slice(index + 1))
        expect(
          Math.abs(a.x - b.x) >= NODE.width || Math.abs(a.y - b.y) >= NODE.height,
          `${a.id} and ${b.id}`,
        ).toBe(true);
    }
  });

  it("has every transition of the machine, with its event", () => {
    const machine = Object.entries(migrationMachine.root.states).flatMap(([from, node]) =>
      [...node.transitions].flatMap(([event, candidates]) =>
        candidates.flatMap(({ target }) => {
          const to = target?.[0]?.key;
          return to === undefined || to === from ? [] : [`${from} ${event} ${to}`];
        }),
      ),
    );
    const edges = drawn.edges.flatMap(({ from, to, events }) =>
      events.map((event) => `${from} ${event} ${to}`),
    );
    expect(edges.sort()).toEqual([...new Set(machine)].sort());
  });

  it("goes straight down from the plan to the end", () => {
    const at = (id: string) => drawn.nodes.find((node) => node.id === id);
    expect(at("completed")?.x).toBe(at("planned")?.x);
    expect(at("completed")?.y).toBe(Math.max(...drawn.nodes.map(({ y }) => y)));
    expect(at("aborted")?.x).toBeGreaterThan(at("planned")?.x ?? 0);
  });
});

const { goal: _, ...following } = storeStatus("follow");
const view = (extra: Partial<StoreView> = {}): StoreView => ({
  ...following,
  state: "following",
  reverseReplication: undefined,
  matched: null,
  evidence: null,
  ...extra,
});

function status(lagBytes: number, done: number | null): MigrationStatus {
  const store = view({
    lag: { amount: lagBytes, unit: "bytes" },
    reached: done === null,
    progress: done === null ? null : { done, total: 10_000, unit: "bytes" },
  });
  const pods = [{ podId: pod("pod-100"), role: "target", share: "closed", stores: { postgres: store } }];
  return { pods } as unknown as MigrationStatus;
}

describe("plots", () => {
  it("keep one point a second, the newest of it, and no more than a quarter of an hour", () => {
    const measured = new Measured();
    for (let at = 0; at < 2 * KEPT_POINTS * 1_000; at += 100) measured.take(status(at, null), at);
    const points = measured.series().lag[0]?.points ?? [];
    expect(points.length).toBe(KEPT_POINTS);
    expect(points.at(-1)).toEqual({ at: 1_799_900, value: 1_799_900 });
    for (const [index, point] of points.slice(1, -1).entries())
      expect(point.at - (points[index]?.at ?? 0)).toBeGreaterThanOrEqual(1_000);
  });

  it("show what is copied per second, and nothing where a count began anew", () => {
    const measured = new Measured();
    for (const [at, done] of [
      [0, 0],
      [2_000, 4_000],
      [4_000, 9_000],
    ] as const)
      measured.take(status(0, done), at);
    expect(measured.series().throughput[0]?.points.map(({ value }) => value)).toEqual([2_000, 2_500]);
    expect(
      perSecond([
        { at: 0, value: 9 },
        { at: 1_000, value: 2 },
        { at: 2_000, value: 5 },
      ]),
    ).toEqual([{ at: 2_000, value: 3 }]);
  });
});

describe("long lists", () => {
  const pages = (total: number) => async (after: string | null) => {
    const from = after === null ? 0 : Number(after) + 1;
    const rows = Array.from({ length: Math.min(10, total - from) }, (_, index) => String(from + index));
    return { rows, found: total, next: from + 10 < total ? (rows.at(-1) ?? null) : null };
  };

  it("load as far as is looked at, each row once", async () => {
    const rows = new Rows(pages(35), () => undefined);
    await rows.want(12);
    expect([rows.loaded.length, rows.complete, rows.found]).toEqual([20, false, 35]);
    await rows.want(1_000);
    expect(rows.complete).toBe(true);
    expect(rows.loaded).toEqual(Array.from({ length: 35 }, (_, index) => String(index)));
  });

  it("say what failed, and go on from there", async () => {
    let broken = false;
    const fetchPage = pages(25);
    const rows = new Rows(
      async (after) => {
        if (broken) throw new Error("away");
        return fetchPage(after);
      },
      () => undefined,
    );
    await rows.want(0);
    broken = true;
    await rows.want(15);
    expect([String(rows.problem), rows.loading, rows.loaded.length]).toEqual(["Error: away", false, 10]);
    broken = false;
    await rows.want(15);
    expect([rows.problem, rows.loaded.length]).toEqual([null, 20]);
  });

  it("draw what is in sight", () => {
    expect(rowsInSight(0, 320, 32, 1_000_000)).toEqual({ from: 0, to: 18 });
    expect(rowsInSight(32_000, 320, 32, 1_000_000)).toEqual({ from: 992, to: 1_018 });
    expect(rowsInSight(32_000, 320, 32, 5)).toEqual({ from: 5, to: 5 });
  });
});

describe("words", () => {
  it.each([
    [null, "target", "quiet", "not reported"],
    [view(), "target", "good", "level, verified"],
    [view({ verified: false }), "target", "busy", "level, verifying"],
    [view({ lag: { amount: 4_200_000, unit: "bytes" } }), "target", "busy", "4.2 MB behind"],
    [view({ lag: { amount: null, unit: "bytes" } }), "target", "busy", "lag unknown"],
    [view({ state: "serving", lag: null }), "source", "good", "serving"],
    [view({ matched: true }), "target", "good", "equal"],
    [view({ matched: false }), "target", "bad", "differs"],
    [view({ problems: [{ code: "X", message: "y" }] }), "target", "bad", "problem"],
    [view({ state: "copying", reached: false }), "target", "busy", "copying"],
  ] as const)("a cell %#", (store, role, tone, text) => {
    expect(cellOf(store, role)).toMatchObject({ tone, text });
  });

  it("of a copy say how far, also of nothing", () => {
    const copying = (done: number, total: number) =>
      cellOf(view({ state: "copying", reached: false, progress: { done, total, unit: "bytes" } }), "target");
    expect(copying(25, 100)).toMatchObject({ text: "copying: 25 B of 100 B", progress: 0.25 });
    expect(copying(0, 0)).toMatchObject({ progress: 0 });
  });

  it("of times", () => {
    expect([0, 999, 1_000, 59_940, 61_000, 7_380_000, 300_000_000].map(duration)).toEqual([
      "0 ms",
      "999 ms",
      "1.0 s",
      "59.9 s",
      "1 min 1 s",
      "2 h 3 min",
      "3 d 11 h",
    ]);
    expect([-5, 900, 61_999].map(age)).toEqual(["0 s", "0 s", "1 min 1 s"]);
  });
});

describe("actions", () => {
  it("that end something come last and are dangerous", () => {
    const actions = actionsOf(["rollback", "finalize", "pause", "giveUp", "abort", "revoke"]);
    const dangerous = actions.filter((one) => one.dangerous).map((one) => one.name);
    expect(dangerous.sort()).toEqual([
      "abort",
      "finalize",
      "giveUp",
      "revoke",
      "rollback",
      "rollback-accept-loss",
    ]);
    expect(actions.slice(0, 2).map((one) => one.name)).toEqual(["finalize-dry-run", "pause"]);
  });

  it("send what the API takes", () => {
    const filled = { reason: " why ", podId: "pod-100", organizations: "a\n\n b \n", ticked: true };
    const bodies = actionsOf(["start", "abort", "revoke", "giveUp", "finalize", "rollback"]).map(
      (action) => [action.name, action.path, bodyOf(action, filled)] as const,
    );
    expect(bodies).toEqual([
      ["start", "start", null],
      ["finalize-dry-run", "finalize", { dryRun: true }],
      ["abort", "abort", { reason: "why" }],
      ["revoke", "revoke", { reason: "why", pod: "pod-100" }],
      ["giveUp", "give-up", { reason: "why", pod: "pod-100" }],
      ["finalize", "finalize", { dryRun: false, despiteReverseReplication: true }],
      ["rollback", "rollback", { pod: "pod-100", organizations: ["a", "b"], approval: "manual" }],
      ["rollback-accept-loss", "rollback", { acceptLoss: "why", pod: "pod-100", organizations: ["a", "b"] }],
    ]);
  });
});

it("the page is one script, and small enough for a slow line at night", async () => {
  const files = await loadPage(new URL("../../../coordinator/dashboard/page", import.meta.url).pathname);
  expect([...files.keys()].sort()).toEqual(["app.css", "app.js", "icon.svg", "index.html"]);
  const script = files.get("app.js")?.content ?? "";
  expect(script.length).toBeLessThan(250_000);
  expect(script, "nothing of Node is in it").not.toMatch(/\bnode:[a-z]|require\("/);
});
