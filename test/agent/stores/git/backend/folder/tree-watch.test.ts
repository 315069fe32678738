/** What watches do not tell of: events that were too many, and file systems that others write. */
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, renameSync, rmdirSync } from "node:fs";
import { mkdir, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, expect, it } from "vitest";
import { FolderRoot } from "../../../../../../agent/stores/common/backend/folder/folder-root.ts";
import { listAfresh } from "../../../../../../agent/stores/file-fence/list-afresh.ts";
import { whatIsNotSeen } from "../../../../../../agent/stores/file-fence/visibility.ts";
import { TreeWatch } from "../../../../../../agent/stores/git/backend/folder/tree-watch.ts";
import { fileSystemAt, fileSystemOf } from "../../../../../../agent/stores/machine/file-systems.ts";
import { systemClock } from "../../../../../../protocol/adapters/system-clock.ts";

let folder: string;
let root: string;
let found: string[];
let watching: TreeWatch;

const signal = new AbortController().signal;

async function watched(place: string): Promise<TreeWatch> {
  watching = new TreeWatch({
    root: place,
    ignored: () => false,
    barrierFolder: join(folder, "barrier"),
    clock: systemClock,
    listener: { found: async (path) => void found.push(path), gone: async () => undefined },
  });
  await watching.start();
  return watching;
}

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "cleave-watch-"));
  root = join(folder, "root");
  await mkdir(root);
  found = [];
});
afterEach(async () => {
  watching?.close();
  await rm(folder, { recursive: true, force: true });
});

it("a repository that came while events were lost is found before anything is settled", async () => {
  const watch = await watched(root);
  expect(watch.blind).toBe(false);
  await mkdir(join(folder, "made/refs"), { recursive: true });
  const queue = Number(readFileSync("/proc/sys/fs/inotify/max_queued_events", "utf8"));
  // Nothing of this process reads events meanwhile, so the kernel drops what comes after them.
  for (let events = 0; events < queue + 100; events += 2) {
    mkdirSync(join(root, "often"));
    rmdirSync(join(root, "often"));
  }
  renameSync(join(folder, "made"), join(root, "new.git"));
  // What is left of the events is read here, so that there is room for the one that settling waits for.
  for (let turn = 0; turn < 5; turn++) await sleep(1);
  expect(await watch.settled(signal)).toBe("listed");
  expect(found).toContain("new.git");
  expect(watch.blind).toBe(false);
  // Later events are relied on again.
  renameSync(join(root, "new.git"), join(root, "other.git"));
  expect(await watch.settled(signal)).toBe("told");
  expect(found).toContain("other.git");
});

it("a file system that is not known to be this machine's alone is listed as it is now, and its watches are not relied on", async () => {
  expect(fileSystemOf(0x6969)).toEqual({ type: "nfs", isLocal: false });
  expect(fileSystemOf(-11317950)).toEqual({ type: "cifs", isLocal: false });
  expect(fileSystemOf(0x65735546)).toEqual({ type: "fuse", isLocal: false });
  expect(fileSystemOf(0x1234)).toEqual({ type: "type 0x1234", isLocal: false });
  expect(fileSystemOf(0xef53)).toEqual({ type: "ext4", isLocal: true });
  expect((await fileSystemAt(folder)).isLocal).toBe(true);
});

const mounted = (() => {
  try {
    execFileSync("unshare", ["-m", "true"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
})();

it.runIf(mounted)("on such a file system (one of huge pages stands for it) settling lists", async () => {
  const place = join(folder, "shared");
  await mkdir(place);
  execFileSync("mount", ["-t", "hugetlbfs", "none", place]);
  try {
    expect((await fileSystemAt(place)).isLocal).toBe(false);
    const watch = await watched(place);
    expect(watch.blind).toBe(true);
    mkdirSync(join(place, "new.git"));
    expect(await watch.settled(signal)).toBe("listed");
    expect(found).toContain("new.git");
    expect(await listAfresh(place)).toEqual(["new.git"]);
    expect(await readdir(place)).toEqual(["new.git"]);
    expect(await whatIsNotSeen("git", { control: folder, root: new FolderRoot(folder) })).toEqual([]);
    expect(await whatIsNotSeen("git", { control: folder, root: new FolderRoot(place) })).toMatchObject([
      { severity: "warning", code: "WRITERS_ELSEWHERE", message: expect.stringContaining(place) },
    ]);
    watch.close();
  } finally {
    execFileSync("umount", [place]);
  }
});
