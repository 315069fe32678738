/** A root that goes while its copies are kept elsewhere: nothing is deleted there, nothing is handed over, and it is said. */
import { mkdir, rename } from "node:fs/promises";
import { afterEach, describe, expect, it } from "vitest";
import { eventually } from "../../../../support/eventually.ts";
import { removeLive } from "../../../../support/remove-live.ts";
import { codesOf, type FilePods, filePods, KINDS, says } from "../../../../support/stores/file-pods.ts";

let pods: FilePods;
afterEach(() => pods.remove());

/** As a disk that is not mounted looks, or a folder that is gone. */
const WAYS = {
  "an empty folder": async (root: string) => {
    await rename(root, `${root}.away`);
    await mkdir(root);
  },
  nothing: (root: string) => rename(root, `${root}.away`),
};

async function restore(root: string): Promise<void> {
  await removeLive(root);
  await rename(`${root}.away`, root);
}

describe.each(KINDS)("%s", (kind) => {
  it.each(["an empty folder", "nothing"] as const)(
    "retaining, the new Pod's root is %s",
    async (way) => {
      pods = await filePods(kind, kind === "git" ? 4 : 12);
      await pods.opened();
      await pods.level();
      const before = await pods.items("source");
      expect(before).toHaveLength(kind === "git" ? 4 : 12);
      await WAYS[way](pods.root.target);
      const expected = way === "nothing" ? "ROOT_UNREADABLE" : "ROOT_CHANGED";
      await says(pods, "target", expected);
      await eventually(() => expect(pods.flow()?.problem?.code).toBe(expected), 20_000);
      expect(pods.flow()).toMatchObject({ lag: { amount: null } });
      // Nobody may count on what the new Pod has: not a rollback, and not the removal of the last copy.
      expect(codesOf(await pods.preflight("target", "start", "rollback"))).toEqual([expected]);
      expect(codesOf(await pods.preflight("target", "removal"))).toEqual([expected]);
      await expect(pods.back("target", "fence", "fenced")).rejects.toMatchObject({ code: expected });
      // A restarted agent knows no less.
      await pods.restart("target");
      await pods.reach("target", "open", "opened");
      await eventually(() => {
        expect(codesOf(pods.status("target").problems)).toEqual([expect.stringMatching(/^ROOT_/)]);
        expect(pods.flow()?.problem?.code).toMatch(/^ROOT_/);
      }, 20_000);
      expect(await pods.items("source")).toEqual(before);
      await restore(pods.root.target);
      await eventually(() => expect(codesOf(pods.status("target").problems)).toEqual([]), 20_000);
      await pods.level();
      expect(await pods.items("source")).toEqual(before);
    },
    60_000,
  );

  it("retaining, the root of the copies is an empty folder: nothing is written there, and the new Pod keeps all", async () => {
    pods = await filePods(kind, 3);
    await pods.opened();
    await pods.level();
    const before = await pods.items("target");
    await WAYS["an empty folder"](pods.root.source);
    await says(pods, "source", "ROOT_CHANGED");
    await pods.write("target", "late");
    await eventually(() => expect(pods.flow()?.problem?.code).toBe("ROOT_CHANGED"), 20_000);
    expect(await pods.items("source")).toEqual([]);
    expect(await pods.items("target")).toEqual([...before, expect.stringContaining("late")]);
    expect(codesOf(await pods.preflight("source", "removal"))).toEqual(["ROOT_CHANGED"]);
    await restore(pods.root.source);
    await pods.level();
    expect(await pods.items("source")).toEqual(await pods.items("target"));
  }, 60_000);
});
