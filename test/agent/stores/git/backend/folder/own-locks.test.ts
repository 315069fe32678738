/** Locks that a git of this agent left in a copy are removed; others' are not, as long as anybody may need them. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { FolderBackend } from "../../../../../../agent/stores/git/backend/folder/folder.ts";
import { GitConfig } from "../../../../../../agent/stores/git/config.ts";
import { systemClock } from "../../../../../../protocol/adapters/system-clock.ts";
import { eventually } from "../../../../../support/eventually.ts";
import { EMPTY_TREE, mustGit } from "../../../../../support/git/pod.ts";
import { GitSplit } from "../../../../../support/git/split.ts";

const PATH = "red/one.git";
const LOCKS = ["refs/heads/main.lock", "packed-refs.lock", "shallow.lock", "refs/tags/deep/v1.lock"];

let split: GitSplit;
let copy: string;
const children: ChildProcess[] = [];
beforeEach(async () => {
  split = await GitSplit.create();
  await split.source.pod.repository(PATH);
  await split.seeded();
  await split.target.store.close();
  copy = split.target.pod.path(PATH);
  // Something to fetch, which changes a ref of each kind.
  const folder = split.source.pod.path(PATH);
  const more = await mustGit(["-C", folder, "commit-tree", "-m", "more", EMPTY_TREE]);
  await mustGit(["-C", folder, "update-ref", "refs/heads/main", more]);
});
afterEach(async () => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
  await split.remove();
});

async function fetch(program = "git", signal = AbortSignal.timeout(60_000)): Promise<void> {
  const { folder, root, control } = split.target.pod;
  const backend = new FolderBackend({
    config: GitConfig.parse({ root, program }),
    control,
    stateDirectory: join(folder, "state", "git"),
    clock: systemClock,
  });
  const access = {
    url: `${split.source.url}/git/repositories/${encodeURIComponent(PATH)}`,
    header: "Authorization: Bearer a token of enough characters",
  };
  await backend.fetch(PATH, access, { head: "ref: refs/heads/main", symbolicRefs: [] }, signal);
}

const isLevel = async () =>
  (await split.target.pod.refs(PATH)) === (await split.source.pod.refs(PATH)) &&
  !LOCKS.some((lock) => existsSync(join(copy, lock)));

it("are removed by the next fetch, whenever the one before was killed", async () => {
  const stuck = join(split.target.pod.folder, "stuck-git");
  const makeLocks = LOCKS.map(
    (lock) => `mkdir -p "$(dirname '${join(copy, lock)}')"; : > '${join(copy, lock)}'`,
  );
  // Makes what git makes in the middle of its transaction, and goes no further.
  const text = `#!/bin/sh\nfor a; do [ "$a" = fetch ] && { ${makeLocks.join("; ")}; exec sleep 60; }; done\nexec git "$@"\n`;
  await writeFile(stuck, text, { mode: 0o755 });
  const killed = new AbortController();
  const failed = expect(fetch(stuck, killed.signal)).rejects.toThrow("the agent stops");
  await eventually(() => expect(LOCKS.every((lock) => existsSync(join(copy, lock)))).toBe(true));
  killed.abort(new Error("the agent stops"));
  await failed;
  expect(existsSync(join(copy, LOCKS[0] as string))).toBe(true);
  await fetch();
  expect(await isLevel()).toBe(true);
});

it("go after the git that outlived its agent was ended", async () => {
  const orphan = spawn("sleep", ["60"], { detached: true });
  children.push(orphan);
  const gone = once(orphan, "exit");
  const startTime = readFileSync(`/proc/${orphan.pid}/stat`, "utf8")
    .replace(/^.*\) /s, "")
    .split(" ")[19];
  await writeFile(join(copy, "cleave-fetch"), JSON.stringify({ pid: orphan.pid, startTime, before: [] }));
  await writeFile(join(copy, "refs/heads/main.lock"), "");
  await fetch();
  await gone;
  expect(await isLevel()).toBe(true);
});

it("of others stay, until nobody can need them: old, and no process works there", async () => {
  const lock = join(copy, "refs/heads/main.lock");
  await writeFile(lock, "");
  for (let twice = 0; twice < 2; twice++) {
    await expect(fetch()).rejects.toMatchObject({
      code: "REPOSITORY_UNREADABLE",
      message: expect.stringContaining("main.lock"),
    });
    expect(existsSync(lock)).toBe(true);
  }
  const minuteAgo = new Date(Date.now() - 60_000);
  await utimes(lock, minuteAgo, minuteAgo);
  const worker = spawn("sleep", ["60"], { cwd: copy });
  children.push(worker);
  await expect(fetch()).rejects.toThrow("main.lock");
  worker.kill("SIGKILL");
  await once(worker, "exit");
  await fetch();
  expect(await isLevel()).toBe(true);
});
