/** A repository that cannot be fetched is tried ever more rarely, and goes on when the cause is gone. */
import { mkdir, mkdtemp, readdir, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { codeOfFileError, codeOfWords } from "../../../../../agent/stores/common/file-error.ts";
import { newsOf, notTried, pauseMs } from "../../../../../agent/stores/git/replication/attempts.ts";
import { eventually } from "../../../../support/eventually.ts";
import { mustGit } from "../../../../support/git/pod.ts";
import { GitSplit } from "../../../../support/git/split.ts";

const BROKEN = "red/broken.git";
let split: GitSplit;
beforeAll(async () => {
  split = await GitSplit.create();
}, 30_000);
afterAll(() => split?.remove());

it("a repository with missing blobs is fetched at most so often, does not hold others back, and is copied when it is mended", async () => {
  const { pod } = split.source;
  for (const path of [BROKEN, "red/sound.git"]) await pod.repository(path);
  const folder = pod.path(BROKEN);
  const blob = await mustGit(["-C", folder, "hash-object", "-w", "--stdin"], { input: "what gets lost" });
  const tree = await mustGit(["-C", folder, "mktree"], { input: `100644 blob ${blob}\tfile\n` });
  const commit = await mustGit(["-C", folder, "commit-tree", tree, "-m", "with a file"]);
  await mustGit(["-C", folder, "update-ref", "refs/heads/main", commit]);
  const object = join(folder, "objects", blob.slice(0, 2), blob.slice(2));
  await rename(object, join(pod.folder, "lost"));

  await split.reach(split.source, "prepare", "source");
  const seeded = split.reach(split.target, "seed", "source");
  const tried = () => split.fetches.filter(({ path }) => path === BROKEN);
  await eventually(() => expect(tried().length).toBeGreaterThanOrEqual(5), 20_000);
  const at = tried().map((one) => one.at);
  // Later than that they may come, earlier never.
  for (const [attempt, leastMs] of [200, 400, 800, 1_600].entries())
    expect(
      (at[attempt + 1] ?? 0) - (at[attempt] ?? 0),
      `after attempt ${attempt + 1}`,
    ).toBeGreaterThanOrEqual(leastMs);
  expect(split.status(split.target)).toMatchObject({
    reached: false,
    problems: [{ code: expect.any(String), message: expect.stringContaining(BROKEN) }],
  });
  expect(await readdir(split.target.pod.path("red"))).toContain("sound.git");

  await mkdir(join(object, ".."), { recursive: true });
  await rename(join(pod.folder, "lost"), object);
  await seeded;
  await eventually(() => expect(split.status(split.target).problems).toEqual([]));
  expect(await mustGit(["-C", split.target.pod.path(BROKEN), "cat-file", "blob", blob])).toBe(
    "what gets lost",
  );
}, 60_000);

it("a disk that fails half-way is named as one, nothing is deleted, and it goes on when the disk does", async () => {
  const folder = await mkdtemp(join(tmpdir(), "cleave-failing-"));
  // No kernel here makes a disk that fails: git as it ends on one, as long as it does.
  const program = join(folder, "git");
  await writeFile(
    program,
    `#!/bin/sh
if [ -e "${folder}/fails" ] && case " $* " in *" fetch "*) true;; *) false;; esac; then
  echo "fatal: write error: Input/output error" >&2; exit 128
fi
exec git "$@"
`,
    { mode: 0o755 },
  );
  const pods = await GitSplit.create({ program });
  try {
    await pods.source.pod.repository("red/one.git");
    await pods.seeded();
    await writeFile(join(folder, "fails"), "");
    await pods.source.pod.repository("red/two.git");
    await eventually(() =>
      expect(pods.status(pods.target).problems).toMatchObject([
        { code: "DISK_FAILED", message: expect.stringContaining("red/two.git") },
      ]),
    );
    expect(await readdir(pods.target.pod.path("red"))).toEqual(["one.git"]);
    await rm(join(folder, "fails"));
    await eventually(() => expect(pods.status(pods.target).problems).toEqual([]), 20_000);
    expect((await readdir(pods.target.pod.path("red"))).sort()).toEqual(["one.git", "two.git"]);
  } finally {
    await pods.remove();
    await rm(folder, { recursive: true });
  }
}, 60_000);

it("what a file system refuses has the code that says what to do", () => {
  const of = (code: string) => codeOfFileError(Object.assign(new Error("x"), { code }));
  expect(["ENOSPC", "EDQUOT"].map(of)).toEqual(["DISK_FULL", "DISK_FULL"]);
  expect(["EIO", "ESTALE"].map(of)).toEqual(["DISK_FAILED", "DISK_FAILED"]);
  expect(["EACCES", "EPERM", "EROFS"].map(of)).toEqual(Array(3).fill("FILE_PERMISSION"));
  expect([of("ENOENT"), of("ECONNRESET"), codeOfFileError(null)]).toEqual([null, null, null]);
  expect(codeOfWords("error: unable to write file a: No space left on device")).toBe("DISK_FULL");
  expect(codeOfWords("fatal: cannot mkdir b: Permission denied\n")).toBe("FILE_PERMISSION");
  // It is the other Pod's disk.
  expect(codeOfWords("remote: fatal: write error: Input/output error\nfatal: early EOF")).toBe(null);
});

it("the pause grows without news, and news does not end it at once when nothing has helped before", () => {
  const failing = (failures: number) => ({ ...notTried(), attempts: failures, failures });
  const pauses = [1, 2, 3, 10, 20, 100].map((failures) => pauseMs(failing(failures), false));
  expect(pauses).toEqual([200, 400, 800, 102_400, 600_000, 600_000]);
  // Fetching anew costs less than standing still when the disk has room again.
  expect(pauseMs(failing(50), false, "DISK_FULL")).toBe(5_000);
  // In the window a failure may still be one that passes, but not every 10 ms.
  expect([1, 3, 7, 20].map((failures) => pauseMs(failing(failures), true))).toEqual([20, 80, 1_000, 1_000]);
  const soonestAfter = (failures: number) => {
    const pending = { ...failing(failures), notBefore: 900_000 };
    newsOf(pending, 100_000);
    return pending.notBefore;
  };
  expect([0, 2, 3, 50].map(soonestAfter)).toEqual([0, 0, 105_000, 105_000]);
});
