/** What a duty says about the way back, and who may have an organization's copy in hand. */
import { describe, expect, it } from "vitest";
import { Claims, flowsBack, givesBack } from "../../../agent/stores/common/reverse/claims.ts";
import type { SharePhase } from "../../../protocol/cluster.ts";
import type { OrganizationId, PodId } from "../../../protocol/ids.ts";
import type { Duty, RollbackShare } from "../../../protocol/ports/store.ts";
import { duty, SOURCE, TARGET } from "../../support/objects/pods.ts";

const OTHER = "pod-101" as PodId;
const id = (text: string) => text as OrganizationId;
const assignments = new Map([
  [id("red"), TARGET],
  [id("green"), TARGET],
  [id("blue"), OTHER],
]);
const rollback = (phase: SharePhase, podId = TARGET): RollbackShare => ({
  migrationId: "back" as never,
  podId,
  phase,
  assignments: new Map([[id("red"), SOURCE]]),
});
function yielding(overrides: Partial<Duty> = {}): Duty {
  const shares = { [TARGET]: "opened", [OTHER]: "opened" } as Record<PodId, SharePhase>;
  return { ...duty(SOURCE, "yield"), assignments, shares, reverseReplication: [TARGET, OTHER], ...overrides };
}
const flows = (overrides: Partial<Duty> = {}) =>
  Object.fromEntries([...flowsBack(yielding(overrides))].map(([podId, ids]) => [podId, [...ids].sort()]));

describe("what flows back", () => {
  it("is every opened target's own share", () => {
    expect(flows()).toEqual({ [TARGET]: ["green", "red"], [OTHER]: ["blue"] });
    expect(flows({ reverseReplication: [OTHER] })).toEqual({ [OTHER]: ["blue"] });
    const shares = { [TARGET]: "transferred", [OTHER]: "opened" } as Record<PodId, SharePhase>;
    expect(flows({ shares })).toEqual({ [OTHER]: ["blue"] });
  });
  it("is nothing but while the source yields", () => {
    for (const goal of ["serve", "fence", "removeFiles", "removeRows", "release"] as const)
      expect(flows({ goal })).toEqual({});
    expect(flows({ role: "target" })).toEqual({});
  });
  it("leaves out what a rollback has, and rests while one hands over", () => {
    for (const phase of ["source", "fenced", "opened"] as const)
      expect(flows({ rollbacks: [rollback(phase)] })).toEqual({ [TARGET]: ["green"], [OTHER]: ["blue"] });
    expect(flows({ rollbacks: [rollback("transferred")] })).toEqual({ [OTHER]: ["blue"] });
    const all = {
      ...rollback("opened"),
      assignments: new Map([...assignments.keys()].map((o) => [o, SOURCE])),
    };
    expect(flows({ rollbacks: [all] })).toEqual({ [OTHER]: ["blue"] });
  });
  it("is told by a target of its own share, from its activation on", () => {
    const gives = (overrides: Partial<Duty>) => {
      const given = givesBack({ ...yielding(), role: "target", podId: TARGET, ...overrides });
      return given && [...given].sort();
    };
    for (const goal of ["activate", "open"] as const) expect(gives({ goal })).toEqual(["green", "red"]);
    for (const goal of ["match", "removeFiles", "release"] as const) expect(gives({ goal })).toBeNull();
    expect(gives({ goal: "open", reverseReplication: [OTHER] })).toBeNull();
    expect(gives({ goal: "open", role: "source" })).toBeNull();
  });
});

describe("claims", () => {
  it("are of one at a time: the next one waits until all of its organizations are free", async () => {
    const claims = new Claims();
    const [a, b] = [{}, {}];
    const { signal } = new AbortController();
    const events: string[] = [];
    await claims.take([id("red"), id("green")], a, signal);
    await claims.take([id("red")], a, signal);
    const waiting = claims.take([id("green"), id("blue")], b, signal).then(() => events.push("b has it"));
    await new Promise((resolve) => setTimeout(resolve, 20));
    events.push("a lets go");
    claims.release(a);
    await waiting;
    expect(events).toEqual(["a lets go", "b has it"]);
    await claims.take([id("red")], a, signal);
  });
  it("are given up waiting for by the signal, and then hold nothing", async () => {
    const claims = new Claims();
    const [a, b] = [{}, {}];
    await claims.take([id("red")], a, new AbortController().signal);
    const stop = new AbortController();
    const waiting = claims.take([id("red"), id("blue")], b, stop.signal);
    stop.abort(new Error("no more"));
    await expect(waiting).rejects.toThrow("no more");
    await claims.take([id("blue")], a, AbortSignal.timeout(1_000));
  });
});
