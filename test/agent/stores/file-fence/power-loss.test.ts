/** What the fence says is on the disk when it resolves: a copy of the disk's image is what a machine finds after its power was cut. */
import { execFileSync } from "node:child_process";
import { copyFile, mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { FileFence } from "../../../../agent/stores/file-fence/file-fence.ts";
import { organizationHash, routeFile, shareFile } from "../../../../agent/stores/file-fence/layout.ts";
import { systemClock as clock } from "../../../../protocol/adapters/system-clock.ts";
import type { OrganizationId } from "../../../../protocol/ids.ts";
import { migrationId, pod0, pod100, shares } from "../../../support/file-fence/file-fence.ts";

const run = (program: string, ...args: string[]) => execFileSync(program, args, { stdio: "ignore" });

let folder: string;
let noDisk = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "cleave-power-"));
  await mkdir(join(folder, "disk"));
  await mkdir(join(folder, "after"));
  try {
    run("truncate", "-s", "16M", join(folder, "image"));
    run("mkfs.ext4", "-q", join(folder, "image"));
    // Nothing is written by itself in the time of a test.
    run("mount", "-o", "loop,commit=600", join(folder, "image"), join(folder, "disk"));
  } catch (error) {
    noDisk = `no disk can be made here: ${(error as Error).message}`;
  }
});
afterAll(async () => {
  if (noDisk === "") run("umount", join(folder, "disk"));
  await rm(folder, { recursive: true, force: true });
});

/** The file's content after a power cut now; null when it is not there. */
async function afterPowerCut(path: string): Promise<string | null> {
  const image = join(folder, "cut");
  await copyFile(join(folder, "image"), image);
  run("mount", "-o", "loop", image, join(folder, "after"));
  try {
    return await readFile(path.replace(join(folder, "disk"), join(folder, "after")), "utf8").catch(
      () => null,
    );
  } finally {
    run("umount", join(folder, "after"));
  }
}

test("routes, shares and the identity are what they were said to be", async ({ skip }) => {
  skip(noDisk !== "", noDisk);
  const control = join(folder, "disk/control");
  const fence = new FileFence({ directory: control, clock });
  await fence.initialise(pod0, pod0);
  expect(await afterPowerCut(join(control, "self"))).toBe("pod-0\n");
  const assignments = new Map([["red" as OrganizationId, pod100]]);
  await fence.stageRoutes({ migrationId, sourcePodId: pod0, assignments });
  expect(await afterPowerCut(routeFile(control, organizationHash("red")))).toBe("pod-0 split-1 pod-100\n");
  for (const phase of ["source", "fenced", "transferred", "opened"] as const) {
    await fence.setShares(migrationId, pod0, shares(phase));
    const text = `pod-100 pod-0 ${phase}\npod-101 pod-0 ${phase}\n`;
    expect(await afterPowerCut(shareFile(control, migrationId))).toBe(text);
  }
});
