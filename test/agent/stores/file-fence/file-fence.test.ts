import { readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { FileFence } from "../../../../agent/stores/file-fence/file-fence.ts";
import { fencePaths } from "../../../../agent/stores/file-fence/layout.ts";
import {
  readPhase,
  type WriteRefused,
  withWriteIntent,
} from "../../../../agent/stores/file-fence/write-intent.ts";
import { systemClock as clock } from "../../../../protocol/adapters/system-clock.ts";
import type { SharePhase } from "../../../../protocol/cluster.ts";
import type { MigrationId, OrganizationId, PodId } from "../../../../protocol/ids.ts";
import {
  control,
  fence,
  folder,
  migrationId,
  pod0,
  pod100,
  pod101,
  staged,
  useFileFence,
} from "../../../support/file-fence/file-fence.ts";

useFileFence();

describe("the four-phase table", () => {
  const cases: [SharePhase, PodId, string][] = [
    ["source", pod0, "allowed"],
    ["source", pod100, "WRONG_POD pod-0"],
    ["source", pod101, "WRONG_POD pod-0"],
    ["fenced", pod0, "WRITE_FENCED pod-0"],
    ["fenced", pod100, "WRONG_POD pod-0"],
    ["fenced", pod101, "WRONG_POD pod-0"],
    ["transferred", pod0, "WRONG_POD pod-100"],
    ["transferred", pod100, "WRITE_FENCED pod-100"],
    ["transferred", pod101, "WRONG_POD pod-100"],
    ["opened", pod0, "WRONG_POD pod-100"],
    ["opened", pod100, "allowed"],
    ["opened", pod101, "WRONG_POD pod-100"],
  ];
  test.each(cases)("%s on %s: %s", async (phase, self, expected) => {
    await staged(self, phase);
    const outcome = await withWriteIntent(
      { control, store: "objects", key: "uploads/red/1", organizationId: "red" },
      async () => "allowed",
    ).catch((error: WriteRefused) => `${error.code} ${error.podId}`);
    expect(outcome).toBe(expected);
    // A refused writer leaves nothing; an allowed one is heard of.
    expect(await readdir(fencePaths(control).inflight("objects"))).toEqual([]);
    expect(await fence.takeDirty("objects")).toHaveLength(expected === "allowed" ? 1 : 0);
  });

  test("an organization without an assignment belongs to its base Pod", async () => {
    await staged(pod0, "opened");
    expect(await readPhase(control, "nobody's plan")).toEqual({ allowed: true, phase: null });
    const other = new FileFence({ directory: join(folder, "other"), clock });
    await other.initialise(pod101, pod0);
    expect(await readPhase(join(folder, "other"), "nobody's plan")).toMatchObject({
      allowed: false,
      reason: "wrong-pod",
      podId: pod0,
    });
  });

  test("refuses while the Pod's identity, a share or a route is missing or damaged", async () => {
    await expect(readPhase(control, "red")).rejects.toMatchObject({ code: "POD_IDENTITY_UNKNOWN" });
    const write = withWriteIntent(
      { control, store: "objects", key: "k", organizationId: "red" },
      async () => 1,
    );
    await expect(write).rejects.toMatchObject({ code: "POD_IDENTITY_UNKNOWN" });
    await staged(pod0, "source");
    const share = join(control, "shares", migrationId);
    for (const damage of ["", "pod-100 pod-0 maybe\n", "pod-100\n", "pod-101 pod-0 source\n"]) {
      await writeFile(share, damage);
      await expect(readPhase(control, "red")).rejects.toMatchObject({ code: "POD_IDENTITY_UNKNOWN" });
    }
    await rm(share);
    await expect(readPhase(control, "red")).rejects.toMatchObject({ code: "POD_IDENTITY_UNKNOWN" });
  });

  test("another Pod's folder is refused", async () => {
    await fence.initialise(pod0, pod0);
    await expect(fence.initialise(pod100, pod0)).rejects.toMatchObject({ code: "CONFIG_INVALID" });
  });

  test("removing a migration restores the base and touches no other migration", async () => {
    await staged(pod0, "fenced");
    const second = "split-2" as MigrationId;
    await fence.setShares(second, pod0, { [pod100]: "fenced" } as Record<PodId, SharePhase>);
    await fence.stageRoutes({
      migrationId: second,
      sourcePodId: pod0,
      assignments: new Map([["green" as OrganizationId, pod100]]),
    });
    await fence.removeMigration(migrationId);
    await fence.removeMigration(migrationId);
    expect(await readPhase(control, "red")).toEqual({ allowed: true, phase: null });
    expect(await readPhase(control, "green")).toMatchObject({ allowed: false, reason: "fenced" });
    expect(await readdir(join(control, "shares"))).toEqual([second]);
  });

  test("hostile organizations, keys and repository paths stay inside their folders", async () => {
    await fence.initialise(pod0, pod0);
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(
          fc.string({ unit: "binary", minLength: 1 }),
          fc.constantFrom("../../x", "/etc/x", "a\nb", "..", "-"),
        ),
        async (name) => {
          expect(await readPhase(control, name)).toEqual({ allowed: true, phase: null });
          await fence.setOwner(name, { kind: "shared" }).catch(() => undefined);
          const write = withWriteIntent(
            { control, store: "git", key: name, organizationId: name },
            async () => 1,
          );
          await write.catch(() => undefined);
        },
      ),
      { numRuns: 100 },
    );
    expect(await readdir(folder)).toEqual(["control"]);
    expect((await readdir(control)).sort()).toEqual(
      ["default", "dirty", "inflight", "owners", "routes", "self", "shares", "tmp"].sort(),
    );
    expect(await readdir(join(control, "owners"))).toEqual(["git"]);
    for (const { key } of await fence.takeDirty("git")) expect(key).not.toMatch(/\n/);
  });
});
