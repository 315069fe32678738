/** What organizations left behind is removed, and nothing else is (rule 10). */
import { mkdirSync, writeFileSync } from "node:fs";
import { mkdir, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { SharePhase } from "../../../../../protocol/cluster.ts";
import type { MigrationId, OrganizationId, PodId } from "../../../../../protocol/ids.ts";
import { fenceFiles, forgetShares } from "../../../../support/file-fence/fence-files.ts";
import {
  folder,
  following,
  someObjects,
  source,
  target,
  useObjectPair,
} from "../../../../support/objects/pair.ts";
import { type DutyOptions, duty, MIGRATION, SOURCE, TARGET } from "../../../../support/objects/pods.ts";

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

/** Also a phase of before, which no log leads to. */
async function tellSource(phase: SharePhase): Promise<void> {
  await forgetShares(source.control, MIGRATION);
  await source.fence.setShares(MIGRATION, SOURCE, { [TARGET]: phase } as Record<PodId, SharePhase>);
}

describe("the source", () => {
  it("removes what left; neighbours and what all share stay as they are, and so do strangers", async () => {
    await someObjects();
    await opened();
    await source.writeUnannounced("elsewhere/red/x", "nobody's");
    await source.writeUnannounced("uploads/\nred/x", "no key");
    await mkdir(join(source.root, "uploads/green-empty"));
    await writeFile(join(source.root, "uploads/.cleave-tmp-somebody"), "on its way");
    const outside = join(folder, "outside");
    await mkdir(outside);
    await writeFile(join(outside, "precious"), "1");
    await symlink(outside, join(source.root, "uploads/red/link"));
    const before = await others(source, "red");
    await source.reach("removeFiles", { removal: asOnSource });
    expect(await source.contents()).toEqual(before);
    expect(await readdir(join(source.root, "uploads"))).toEqual(
      expect.arrayContaining([".cleave-tmp-somebody", "green-empty", "\nred"]),
    );
    expect(await readFile(join(outside, "precious"), "utf8")).toBe("1");
    expect(source.status()).toMatchObject({
      goal: "removeFiles",
      reached: true,
      progress: { done: 32, total: 32, unit: "objects" },
      problems: [{ code: "OWNER_UNKNOWN", message: expect.stringMatching(/^3 objects without .* stay: /) }],
    });
    await source.reach("removeRows", { removal: asOnSource });
    expect(source.status()).toMatchObject({ goal: "removeRows", reached: true });
    expect(await source.contents()).toEqual(before);
    expect(await fenceFiles(source.control, "shares")).toEqual([]);
    expect(await exists(join(source.folder, "state", "inventory.jsonl"))).toBe(false);
  });

  it("refuses writes of who left with the right Pod, and takes those of neighbours, before and after", async () => {
    await someObjects();
    await opened("move");
    const writes = async () => {
      await source.write("uploads/green/new", "1");
      await expect(source.write("uploads/red/new", "1")).rejects.toMatchObject({
        code: "WRONG_POD",
        podId: TARGET,
      });
      await target.write("uploads/red/new", "1");
    };
    let stop = false;
    const neighbour = (async () => {
      for (let number = 0; !stop; number++) await source.write(`uploads/green/w${number}`, `${number}`);
      return true;
    })();
    await source.reach("removeFiles", { ...MOVE, removal: asOnSource });
    await writes();
    await source.reach("removeRows", { ...MOVE, removal: asOnSource });
    stop = true;
    expect(await neighbour).toBe(true);
    await target.reach("removeFiles", { ...MOVE, removal: asOnTarget });
    await target.reach("removeRows", { ...MOVE, removal: asOnTarget });
    expect(await exists(join(target.folder, "state", "copies", `${MIGRATION}.json`))).toBe(false);
    await writes();
    await source.kill();
    await source.start();
    await writes();
  });

  it("and the organization can come back", async () => {
    await someObjects();
    await opened("move");
    for (const pod of [source, target]) {
      await pod.reach("removeFiles", { ...MOVE, removal: asOnSource });
      await pod.reach("removeRows", { ...MOVE, removal: asOnSource });
    }
    await source.kill();
    await source.start(target.peer());
    const back = (pod: typeof source, goal: "prepare" | "seed") => ({
      ...duty(pod.podId, goal, MOVE),
      migrationId: "back-1" as MigrationId,
      role: pod === target ? ("source" as const) : ("target" as const),
      sourcePodId: TARGET,
      targetPodIds: [SOURCE],
      assignments: new Map([["red" as OrganizationId, SOURCE]]),
      shares: { [SOURCE]: "source" } as Record<PodId, SharePhase>,
    });
    const signal = AbortSignal.timeout(20_000);
    expect(await source.store.preflight(back(source, "seed"), "start", signal)).toEqual([]);
    await target.store.reach(back(target, "prepare"), signal);
    await source.store.reach(back(source, "seed"), signal);
    expect(await source.read("uploads/red/3/a file.txt")).toBe("red 3");
  });

  it("nothing is removed while it is not allowed", async () => {
    await someObjects();
    await opened("move");
    const before = await source.contents();
    const refused = async (why: RegExp, options: DutyOptions) => {
      for (const goal of ["removeFiles", "removeRows"] as const) {
        await expect(source.reach(goal, { ...MOVE, ...options })).rejects.toMatchObject({
          code: "REMOVAL_NOT_ALLOWED",
          message: expect.stringMatching(why),
        });
        expect(await source.contents()).toEqual(before);
        expect(source.status().reached).toBe(false);
      }
    };
    await refused(/retention is not over/, { removal: null });
    await refused(/organization red: the log says/, { removal: { mayRemove: () => false } });
    await tellSource("transferred");
    await refused(/share of pod-100 is transferred/, { phase: "transferred", removal: asOnSource });
    const [file] = await fenceFiles(source.control, "routes");
    const route = join(source.control, "routes", file ?? "");
    const text = await readFile(route, "utf8");
    await writeFile(route, "pod-0 - -\n");
    await refused(/organization red: this Pod is authoritative/, { removal: asOnSource });
    await source.fence.setShares("move-2" as MigrationId, TARGET, { [SOURCE]: "source" } as Record<
      PodId,
      SharePhase
    >);
    await writeFile(route, "pod-100 move-2 pod-0\n");
    await refused(/it is staged here for the migration move-2/, { removal: asOnSource });
    await rm(route);
    await refused(/organization red: this Pod is authoritative/, { removal: asOnSource });
    await writeFile(route, text);
    await source.reach("removeFiles", { ...MOVE, removal: asOnSource });
    expect(await source.contents()).toEqual(await others(source, "red"));
  });

  it("both are asked again before each batch: what changes in the middle stops it", async () => {
    for (let number = 0; number < 450; number++)
      await source.writeUnannounced(`uploads/red/${number}`, `${number}`);
    await opened("move");
    let asked = 0;
    const changing = {
      mayRemove: () => {
        asked += 1;
        return asked === 1;
      },
    };
    await expect(source.reach("removeFiles", { ...MOVE, removal: changing })).rejects.toMatchObject({
      code: "REMOVAL_NOT_ALLOWED",
    });
    expect(await count(source)).toBe(250);
    const [file] = await fenceFiles(source.control, "routes");
    const route = join(source.control, "routes", file ?? "");
    const text = await readFile(route, "utf8");
    asked = 0;
    const moving = {
      mayRemove: () => {
        asked += 1;
        if (asked === 1) writeFileSync(route, "pod-0 - -\n");
        return true;
      },
    };
    await expect(source.reach("removeFiles", { ...MOVE, removal: moving })).rejects.toMatchObject({
      code: "REMOVAL_NOT_ALLOWED",
      message: expect.stringContaining("this Pod is authoritative"),
    });
    expect(await count(source)).toBe(50);
    await writeFile(route, text);
    await source.reach("removeFiles", { ...MOVE, removal: asOnSource });
    expect(await count(source)).toBe(0);
  });

  it("killed in the middle, another process goes on", async () => {
    for (let number = 0; number < 450; number++)
      await source.writeUnannounced(`uploads/red/${number}`, `${number}`);
    await source.writeUnannounced("uploads/green/1", "a neighbour's");
    await opened("move");
    const killed = new AbortController();
    let asked = 0;
    const removal = {
      mayRemove: () => {
        asked += 1;
        if (asked === 2) killed.abort(new Error("killed"));
        return true;
      },
    };
    await expect(source.reach("removeFiles", { ...MOVE, removal, signal: killed.signal })).rejects.toThrow(
      "killed",
    );
    await source.kill();
    const left = await count(source);
    expect(left).toBeGreaterThan(1);
    expect(left).toBeLessThan(451);
    await source.start();
    await source.reach("removeFiles", { ...MOVE, removal: asOnSource });
    expect(await source.contents()).toEqual({ "uploads/green/1": "a neighbour's" });
    expect(source.status().progress).toEqual({ done: left - 1, total: left - 1, unit: "objects" });
    await source.reach("removeRows", { ...MOVE, removal: asOnSource });
    await source.kill();
    await source.start();
    await source.reach("removeRows", { ...MOVE, removal: asOnSource });
    expect(source.status()).toMatchObject({ goal: "removeRows", reached: true });
    // Paused after it had come to its end: nothing comes back.
    await source.reach("yield", { ...MOVE, removal: asOnSource });
    expect(await fenceFiles(source.control, "shares")).toEqual([]);
    await source.reach("removeRows", { ...MOVE, removal: asOnSource });
  });

  it("what comes late is removed at the end, as long as it is known whose it is", async () => {
    await someObjects();
    await opened("move");
    await source.reach("removeFiles", { ...MOVE, removal: asOnSource });
    await source.writeUnannounced("uploads/red/late", "1");
    await source.reach("removeRows", { ...MOVE, removal: asOnSource });
    expect(await exists(join(source.root, "uploads/red"))).toBe(false);
  });

  it("the end waits until nothing is left, whoever makes something meanwhile", async () => {
    await someObjects();
    await opened("move");
    await source.reach("removeFiles", { ...MOVE, removal: asOnSource });
    await source.writeUnannounced("uploads/red/late", "1");
    const meanwhile = {
      mayRemove: () => {
        mkdirSync(join(source.root, "uploads/red"), { recursive: true });
        writeFileSync(join(source.root, "uploads/red/later"), "2");
        return true;
      },
    };
    await expect(source.reach("removeRows", { ...MOVE, removal: meanwhile })).rejects.toMatchObject({
      code: "REMOVAL_DISAGREES",
      message: "1 object of red came back",
    });
    expect(await fenceFiles(source.control, "shares")).toEqual([MIGRATION]);
    await source.reach("removeRows", { ...MOVE, removal: asOnSource });
    expect(await exists(join(source.root, "uploads/red"))).toBe(false);
  });

  it("a share that went back is served on", async () => {
    await someObjects();
    await opened("move");
    const before = await source.contents();
    await tellSource("source");
    await source.reach("removeFiles", { ...MOVE, phase: "source", removal: asOnSource });
    await source.reach("removeRows", { ...MOVE, phase: "source", removal: asOnSource });
    expect(await source.contents()).toEqual(before);
    await source.write("uploads/red/new", "1");
    expect(await fenceFiles(source.control, "routes")).toEqual([]);
  });

  it("says before what would go", async () => {
    await someObjects();
    await opened("move");
    const check = (phase: SharePhase) =>
      source.store.preflight(
        duty(SOURCE, "removeRows", { ...MOVE, phase }),
        "removal",
        AbortSignal.timeout(20_000),
      );
    expect(await check("opened")).toEqual([
      {
        store: "objects",
        severity: "info",
        code: "DORMANT_DATA",
        message: "32 objects, about 188 B, of 1 organization would be removed",
      },
    ]);
    expect(await check("source")).toMatchObject([
      { severity: "info", message: "nothing is dormant here: no objects would be removed" },
    ]);
    expect(await exists(join(source.root, "uploads/red/empty"))).toBe(true);
  });
});

it("everything of a split, from the beginning to the end", async () => {
  await someObjects();
  await following();
  await opened();
  const whole = await source.contents();
  await source.reach("removeFiles", { removal: asOnSource });
  await target.reach("removeFiles", { removal: asOnTarget });
  await Promise.all([
    source.reach("removeRows", { removal: asOnSource }),
    target.reach("removeRows", { removal: asOnTarget }),
  ]);
  const [here, there] = [await source.contents(), await target.contents()];
  expect({ ...here, ...there }).toEqual(whole);
  expect(Object.keys(here).filter((key) => Object.hasOwn(there, key) && !key.startsWith("lfs/"))).toEqual([]);
});
