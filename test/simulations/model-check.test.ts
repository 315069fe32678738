/** The exploration of small configurations finds nothing, and finds every wrong step that is put into it. */
import { describe, expect, it } from "vitest";
import type { Configuration, WrongStep } from "../../simulations/model-check/configuration.ts";
import { configurationNamed } from "../../simulations/model-check/configurations.ts";
import { explore } from "../../simulations/model-check/explore.ts";
import type { Violation } from "../../simulations/model-check/invariants.ts";

const small = configurationNamed("small");
const agentCrash = configurationNamed("agent-crash");
const reads = configurationNamed("reads");
const twoFences = configurationNamed("two-fences");

describe("the protocol as it is", () => {
  it.each([small, reads])("$name: every state is looked at, nothing is found", (configuration) => {
    const result = explore(configuration);
    expect(result.counterexample).toBeNull();
    expect(result.complete).toBe(true);
    expect(result.states).toBeGreaterThan(1_000);
  });

  it("both races end in every way: with the source, with the target, and given back", () => {
    const { ends } = explore(small);
    expect(Object.keys(ends).sort()).toEqual([
      "aborted",
      "following",
      "retaining (opened)",
      "retaining (revoked)",
    ]);
  });

  it("as many coordinators as it takes meet no other logs than one does", () => {
    const [one, any] = [explore(small), explore({ ...small, coordinators: "any" })];
    expect(any.complete).toBe(true);
    expect(any.logs).toBe(one.logs);
    expect(any.ends).toEqual(one.ends);
  });

  it("says when it did not look at everything", () => {
    const result = explore(small, null, { states: 100 });
    expect(result.complete).toBe(false);
    expect(result.counterexample).toBeNull();
  });
});

describe("a wrong step is found", () => {
  const cases: [WrongStep, Configuration, Violation["invariant"]][] = [
    ["append-without-compare", small, "abort or transfer"],
    ["open-before-log", small, "I1"],
    ["position-before-drain", small, "I2"],
    ["reopen-at-deadline", small, "I2"],
    ["abort-after-transfer", small, "abort or transfer"],
    ["opened-unseen", small, "opened or revoked"],
    ["evidence-of-any-epoch", twoFences, "I2"],
    ["report-before-durable", agentCrash, "I2"],
    ["dormant-before-durable", reads, "I4"],
    ["forget-before-durable", reads, "I9"],
  ];
  it.each(cases)("%s", (wrong, configuration, invariant) => {
    const { counterexample } = explore(configuration, wrong);
    expect(counterexample?.violation.invariant).toBe(invariant);
    const { steps } = counterexample as NonNullable<typeof counterexample>;
    expect(steps.length).toBeGreaterThan(3);
    // Every step of the story is one that really leads on.
    expect(steps).not.toContain("?");
  });
});
