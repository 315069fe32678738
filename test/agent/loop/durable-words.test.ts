/** What an agent may say or settle only when a crash cannot make it forget why. */
import { describe, expect, it } from "vitest";
import { dormantEpochOf, mayForget, mayOpen } from "../../../agent/domain/own-decisions.ts";
import { fold, pod, say, theMigration, until } from "../../support/story.ts";

const source = pod("pod-0");

describe("the source's word that it is dormant", () => {
  const state = fold(until.activating());
  const migration = theMigration(state);

  it("waits until the transfer is on its disk", () => {
    expect(migration.context.transfer?.sequence).toBe(state.sequence);
    expect(dormantEpochOf(migration, source, state.sequence - 1)).toBe(0);
    expect(dormantEpochOf(migration, source, state.sequence)).toBe(1);
  });

  it("is the source's alone, and not given without a transfer", () => {
    expect(dormantEpochOf(migration, pod("pod-100"), state.sequence)).toBe(0);
    const fenced = fold(until.fencing());
    expect(dormantEpochOf(theMigration(fenced), source, fenced.sequence)).toBe(0);
  });
});

it("a target opens only when the transfer is on its disk, and never without one", () => {
  const state = fold(until.activating());
  expect(mayOpen(theMigration(state), state.sequence - 1)).toBe(false);
  expect(mayOpen(theMigration(state), state.sequence)).toBe(true);
  const fenced = fold(until.fencing());
  expect(mayOpen(theMigration(fenced), fenced.sequence)).toBe(false);
});

describe("an aborted migration", () => {
  it("is forgotten only when the abort is on disk", () => {
    const state = fold([...until.fencing(), say.aborted()]);
    expect(mayForget(state, state.sequence - 1)).toBe(false);
    expect(mayForget(state, state.sequence)).toBe(true);
  });
});
