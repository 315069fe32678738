/** How far copies were read back, as status and page say it. */
import { expect, it } from "vitest";
import { duration } from "../../../coordinator/cli/format.ts";
import { scrubLines, scrubText } from "../../../coordinator/domain/read-back.ts";
import type { MigrationStatus } from "../../../coordinator/domain/status.ts";
import type { ScrubStatus } from "../../../protocol/evidence.ts";

const scrub = (changes: Partial<ScrubStatus> = {}): ScrubStatus => ({
  items: 50,
  unread: 0,
  passes: 1,
  passAgeMs: 185_000,
  damaged: 0,
  last: null,
  ...changes,
});

it("says how much of a copy was read, how old the last whole pass is, and what was damaged", () => {
  expect(scrubText(scrub(), duration)).toBe("50 of 50 read back, last whole pass 3 min 5 s ago");
  expect(scrubText(scrub({ unread: 38, passes: 0, passAgeMs: null }), duration)).toBe(
    "12 of 50 read back, no whole pass yet",
  );
  expect(scrubText(scrub({ damaged: 2, last: "red/a: another content" }), duration)).toBe(
    "50 of 50 read back, last whole pass 3 min 5 s ago, 2 found damaged (last: red/a: another content)",
  );
});

it("has a line for each Pod with copies: those of a target, and those that were left on the source and follow", () => {
  const status = {
    sourcePodId: "pod-0",
    pods: [
      { podId: "pod-0", stores: { postgres: {}, git: {}, objects: null } },
      {
        podId: "pod-100",
        stores: { postgres: {}, git: { scrub: scrub() }, objects: { scrub: scrub({ unread: 50 }) } },
      },
    ],
    reverseReplication: [
      { podId: "pod-100", givenUp: null, stores: { objects: { scrub: scrub({ items: 7 }) } } },
      { podId: "pod-101", givenUp: "its disk", stores: { objects: { scrub: scrub() } } },
    ],
  } as unknown as MigrationStatus;
  expect(scrubLines(status, () => "1 s")).toEqual([
    "pod-100: Git 50 of 50 read back, last whole pass 1 s ago; objects 0 of 50 read back, last whole pass 1 s ago",
    "pod-0, the copy of pod-100: objects 7 of 7 read back, last whole pass 1 s ago",
  ]);
});
