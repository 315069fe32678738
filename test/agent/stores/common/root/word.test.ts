/** An operator's word about a root: it holds of the root that is there, and of what is gone only if it says so. */
import { mkdir, rename } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, expect, it } from "vitest";
import { FolderRoot } from "../../../../../agent/stores/common/backend/folder/folder-root.ts";
import { acceptRoot } from "../../../../../agent/stores/common/root/remembered.ts";
import { eventually } from "../../../../support/eventually.ts";
import { copyLive, removeLive } from "../../../../support/remove-live.ts";
import { codesOf, type FilePods, filePods, KINDS, says } from "../../../../support/stores/file-pods.ts";

let pods: FilePods;
afterEach(() => pods.remove());

it.each(KINDS)(
  "%s: a root that was moved on purpose is gone on with; what is gone needs a word of its own",
  async (kind) => {
    pods = await filePods(kind, 12);
    await pods.opened();
    await pods.level();
    const { target: root } = pods.root;
    const accept = (losses: boolean) =>
      acceptRoot(new FolderRoot(root), pods.state.target, {
        reason: "a larger disk",
        losses,
        at: Date.now(),
      });
    await rename(root, `${root}.old`);
    await copyLive(`${root}.old`, root);
    await says(pods, "target", "ROOT_CHANGED");
    await accept(false);
    await eventually(() => expect(codesOf(pods.status("target").problems)).toEqual([]), 20_000);
    await pods.level();

    await removeLive(join(root, kind === "git" ? "red" : "uploads/red"));
    if (kind === "objects") await mkdir(join(root, "uploads/red"));
    await eventually(() => expect(pods.flow()?.problem).not.toBeNull(), 20_000);
    await accept(false);
    expect(await pods.items("source")).toHaveLength(12);
    await eventually(async () => {
      // Until somebody has looked, the word could be about what nobody has missed yet.
      await accept(true);
      expect(await pods.items("source")).toEqual([]);
    }, 20_000);
  },
  60_000,
);
