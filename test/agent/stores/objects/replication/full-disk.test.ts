import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { eventually } from "../../../../support/eventually.ts";
import { duty, ObjectPod, SOURCE, TARGET } from "../../../../support/objects/pods.ts";

const MOUNT_BYTES = 2_000_000;

/** A small file system needs the right to mount one; elsewhere the test says that it was skipped. */
function canMount(): boolean {
  if (process.getuid?.() !== 0) return false;
  try {
    execFileSync("unshare", ["-m", "true"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

let folder: string;
let mount: string;
let source: ObjectPod;
let target: ObjectPod;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "cleave-full-"));
  mount = join(folder, "small");
  await mkdir(mount);
  if (canMount()) execFileSync("mount", ["-t", "tmpfs", "-o", `size=${MOUNT_BYTES}`, "tmpfs", mount]);
  source = new ObjectPod(SOURCE, folder);
  target = new ObjectPod(TARGET, folder, join(mount, "objects"));
  await source.start();
  await target.start(source.peer());
});

afterEach(async () => {
  await Promise.all([source.kill(), target.kill()]);
  if (canMount()) execFileSync("umount", [mount]);
  await rm(folder, { recursive: true, force: true });
});

test.runIf(canMount())("a full target disk is named, waited for, and the copy goes on", async () => {
  await writeFile(join(mount, "ballast"), randomBytes(1_200_000));
  for (let number = 0; number < 10; number++)
    await source.writeUnannounced(`uploads/red/${number}`, randomBytes(100_000));
  const findings = await target.store.preflight(duty(TARGET, "seed"), "start", AbortSignal.timeout(5_000));
  expect(findings).toMatchObject([{ code: "DISK_FULL", severity: "error" }]);

  await source.reach("prepare");
  const seeded = target.reach("seed");
  await eventually(() => expect(target.status().problems.map(({ code }) => code)).toContain("DISK_FULL"));
  expect(target.status().reached).toBe(false);
  await source.reach("fence", { epoch: 1 });
  expect(target.status().evidence).toBeNull();
  await source.reach("serve");
  await rm(join(mount, "ballast"));
  await seeded;
  await eventually(() => expect(target.status().problems).toEqual([]));
  expect(await target.contents()).toEqual(await source.contents());
  // What had arrived of an object was kept.
  expect(source.servedContent.filter((request) => request.includes("bytes=")).length).toBeGreaterThan(0);
});
