/** What is said when two Pods differ: which refs, files and modes, on which side, with both values, and how many more. */
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { RepositoryItem } from "../../../../../agent/stores/git/backend/backend.ts";
import { describeDifferences } from "../../../../../agent/stores/git/verification/differences.ts";
import { eventually } from "../../../../support/eventually.ts";
import { EMPTY_TREE, mustGit, pod0, pod100 } from "../../../../support/git/pod.ts";
import { GitSplit } from "../../../../support/git/split.ts";

async function* items(named: Readonly<Record<string, string>>): AsyncGenerator<RepositoryItem> {
  for (const [name, value] of Object.entries(named).sort(([a], [b]) => (a < b ? -1 : 1)))
    yield { name, value };
}

const between = (theirs: Readonly<Record<string, string>>, own: Readonly<Record<string, string>>) =>
  describeDifferences({ podId: pod0, items: items(theirs) }, { podId: pod100, items: items(own) });

describe("two lists", () => {
  it("that are equal differ in nothing", async () => {
    expect(await between({}, {})).toBe("");
    expect(await between({ HEAD: "a", "ref x": "1" }, { HEAD: "a", "ref x": "1" })).toBe("");
  });

  it("are told with both values, whichever side lacks it", async () => {
    expect(await between({ a: "1", b: "2", d: "4" }, { b: "3", c: "9", d: "4" })).toBe(
      "a: pod-0 has 1, pod-100 has none; b: pod-0 has 2, pod-100 has 3; c: pod-0 has none, pod-100 has 9",
    );
  });

  it("of which much differs are told in part, with the number of the rest, and never at length", async () => {
    const many = Object.fromEntries(
      Array.from({ length: 1_000 }, (_, n) => [`ref ${n} ${"x".repeat(n)}`, "y".repeat(n)]),
    );
    const text = await between(many, {});
    expect(text.length).toBeLessThan(1_950);
    const named = (text.match(/pod-100 has none/g) ?? []).length;
    expect(named).toBeGreaterThan(4);
    expect(text).toMatch(new RegExp(`; and ${1_000 - named} more$`));
  });
});

describe("a target whose copies are changed behind its back", () => {
  let split: GitSplit;
  beforeEach(async () => {
    split = await GitSplit.create();
  });
  afterEach(() => split.remove());

  it("says which refs and files differ from the source's, in its problems", async () => {
    const { pod } = split.source;
    await pod.repository("red/one.git");
    await split.seeded();
    const copy = split.target.pod.path("red/one.git");
    const more = await mustGit(["-C", pod.path("red/one.git"), "commit-tree", "-m", "more", EMPTY_TREE]);
    await mustGit(["-C", pod.path("red/one.git"), "update-ref", "refs/heads/more", more]);
    // Somebody's lock keeps the copy from following.
    const lock = join(copy, "refs", "heads", "more.lock");
    await writeFile(lock, "");
    await eventually(() => {
      const [problem] = split.status(split.target).problems;
      expect(problem?.message).toContain(`ref refs/heads/more: pod-0 has ${more}, pod-100 has none`);
      expect(problem?.message).toContain("red/one.git");
    }, 30_000);
    await rm(lock);
    // And when it is over, nothing more is said.
    await eventually(() => {
      expect(split.status(split.target).problems).toEqual([]);
      expect(split.status(split.target).lag?.amount).toBe(0);
    }, 60_000);
  });
});
