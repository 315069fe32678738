import { readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { someObjects, source, target, useObjectPair } from "../../../../support/objects/pair.ts";
import { SOURCE } from "../../../../support/objects/pods.ts";

import {
  asOnSource,
  asOnTarget,
  count,
  exists,
  MOVE,
  opened,
  others,
} from "../../../../support/objects/removal.ts";

useObjectPair();

describe("a split's target", () => {
  it("removes what it never served, and keeps its own and what all share", async () => {
    await someObjects();
    await opened();
    await source.writeUnannounced("uploads/blue/1", "not copied any more");
    await target.writeUnannounced("elsewhere/x", "nobody's");
    const before = Object.fromEntries(
      Object.entries(await target.contents()).filter(([key]) => !key.startsWith("uploads/green/")),
    );
    await target.reach("removeFiles", { removal: { mayRemove: () => true } });
    expect(await target.contents()).toEqual(before);
    expect(target.status()).toMatchObject({
      reached: true,
      progress: { done: 30, total: 30, unit: "objects" },
      problems: [{ code: "OWNER_UNKNOWN" }],
    });
    await target.reach("removeRows", { removal: asOnTarget });
    expect(await target.contents()).toEqual(before);
    await target.write("uploads/red/new", "1");
    await expect(target.write("uploads/green/new", "1")).rejects.toMatchObject({
      code: "WRONG_POD",
      podId: SOURCE,
    });
  });

  it("what may not go yet stays, the others go, and it is said", async () => {
    await someObjects();
    await source.writeUnannounced("uploads/blue/1", "1");
    await source.writeUnannounced("uploads/black/1", "1");
    await opened();
    const some = { mayRemove: (id: string) => id !== "black" };
    await expect(target.reach("removeFiles", { removal: some })).rejects.toMatchObject({
      code: "REMOVAL_NOT_ALLOWED",
      message: expect.stringMatching(/^organization black: the log says/),
    });
    expect((await readdir(join(target.root, "uploads"))).sort()).toEqual(["black", "red"]);
    await target.reach("removeFiles", { removal: asOnTarget });
    expect(await readdir(join(target.root, "uploads"))).toEqual(["red"]);
  });
});

describe("a move's target", () => {
  it("that opened keeps everything", async () => {
    await someObjects();
    await target.writeUnannounced("uploads/green/own", "1");
    await opened("move");
    const before = await target.contents();
    await target.reach("removeFiles", { ...MOVE, removal: { mayRemove: () => true } });
    await target.reach("removeRows", { ...MOVE, removal: { mayRemove: () => true } });
    expect(await target.contents()).toEqual(before);
  });

  it("that gave its share back removes its copies alone", async () => {
    await someObjects();
    await target.writeUnannounced("uploads/green/own", "1");
    await target.writeUnannounced("lfs/own", "2");
    await source.reach("prepare", MOVE);
    await target.reach("seed", MOVE);
    await target.reach("activate", MOVE);
    await writeFile(join(target.root, ".cleave-tmp-somebody"), "on its way");
    const before = await others(target, "red");
    expect(await count(target)).toBeGreaterThan(Object.keys(before).length);
    await target.reach("removeFiles", { ...MOVE, phase: "source", removal: asOnSource });
    expect(await target.contents()).toEqual(before);
    expect(await exists(join(target.root, ".cleave-tmp-somebody"))).toBe(true);
    await target.reach("removeRows", { ...MOVE, phase: "source", removal: asOnSource });
    // From here on nothing proves that what is here was copied.
    await target.writeUnannounced("uploads/red/somebody's", "3");
    await target.reach("removeRows", { ...MOVE, phase: "source", removal: asOnSource });
    expect(await target.read("uploads/red/somebody's")).toBe("3");
  });

  it("that never copied anything removes nothing, whatever is there", async () => {
    await target.writeUnannounced("uploads/red/somebody's", "1");
    await target.reach("removeFiles", { ...MOVE, phase: "source", removal: asOnSource });
    expect(await target.read("uploads/red/somebody's")).toBe("1");
  });
});
