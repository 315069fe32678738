import { expect, test } from "vitest";
import { Goal } from "../../protocol/evidence.ts";
import { STORE_STATES } from "../../protocol/wording.ts";

test("what operators read of a store is never the protocol's own word", () => {
  for (const goal of Goal.options) expect(Goal.options).not.toContain(STORE_STATES[goal]);
});
