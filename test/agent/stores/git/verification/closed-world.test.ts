/**
 * States of repositories × when they come about: a copy has each of them, or the product has said why not. Compared by git
 * and the file system alone, see `test/support/git/independent.ts`.
 */
import { execFile } from "node:child_process";
import { appendFile, chmod, lstat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, expect, it } from "vitest";
import { eventually } from "../../../../support/eventually.ts";
import { independentlyOf } from "../../../../support/git/independent.ts";
import { EMPTY_TREE, type GitPod, git, mustGit } from "../../../../support/git/pod.ts";
import { GitReverseReplicationPods } from "../../../../support/git/reverse.ts";
import { GitSplit } from "../../../../support/git/split.ts";
import { beginAll, type State, type Used } from "../../../../support/git/states.ts";

type Made = readonly { readonly state: State; readonly repository: Used }[];
const LONG_MS = 120_000;

let remove: () => Promise<void> = async () => undefined;
afterEach(() => remove());

async function split(config: Parameters<typeof GitSplit.create>[0] = {}): Promise<GitSplit> {
  const made = await GitSplit.create(config);
  remove = () => made.remove();
  return made;
}

/** Each of them, as soon as it is. */
async function expectEqual(made: Made, copies: GitPod, withinMs = 0): Promise<void> {
  const compare = async ({ state, repository }: Made[number]) => {
    const copy = await independentlyOf(copies.path(repository.path));
    const original = await independentlyOf(repository.folder);
    expect({ state: state.name, ...copy }).toEqual({ state: state.name, ...original });
  };
  await Promise.all(made.map((one) => eventually(() => compare(one), withinMs, 300)));
}

async function undoRefused(made: Made): Promise<void> {
  for (const { state, repository } of made) await state.undo?.(repository);
}

it("before the first check: carried, or refused or named by it", { timeout: LONG_MS }, async () => {
  const pods = await split();
  const made = await beginAll(pods.source.pod);
  await Promise.all(made.map(({ state, repository }) => state.make(repository)));
  const duty = pods.duty(pods.source, "prepare", "source");
  const findings = await pods.source.store.preflight(duty, "start", AbortSignal.timeout(LONG_MS));
  const said = findings.map(({ severity, code, message }) => `${severity} ${code} ${message}`).join("\n");
  for (const { state, repository } of made) {
    if (state.refused !== undefined)
      expect(said).toMatch(new RegExp(`error REPOSITORY_NOT_CARRIED ${repository.path}: .*${state.refused}`));
    if (state.left !== undefined)
      expect(said).toMatch(
        new RegExp(`warning LEFT_BEHIND left behind: ${state.left}, in .*${repository.path}`),
      );
  }
  expect(said).toContain("info LEFT_BEHIND left behind in every repository: commits and objects that no ref");
  // What is refused may be damaged in other eyes as well; nothing else is.
  const refused = made
    .filter(({ state }) => state.refused !== undefined)
    .map(({ repository }) => repository.path);
  const errors = findings.filter(({ severity }) => severity === "error");
  const other = errors.filter(({ message }) => !refused.some((path) => message.startsWith(path)));
  expect(other).toEqual([]);
  await undoRefused(made);
  await pods.seeded();
  await expectEqual(made, pods.target.pod);
  const [source, target] = await pods.matched(1);
  expect(source).toBeDefined();
  expect(target).toBe(source);
});

it("while it follows, and in the last moment before the fence", { timeout: LONG_MS }, async () => {
  const pods = await split();
  const made = await beginAll(pods.source.pod);
  await pods.seeded();
  await Promise.all(made.map(({ state, repository }) => state.make(repository)));
  await eventually(() => {
    const said = pods
      .status(pods.source)
      .problems.map(({ message }) => message)
      .join("\n");
    for (const { state, repository } of made)
      if (state.refused !== undefined)
        expect(said).toMatch(new RegExp(`${repository.path}: .*${state.refused}`));
  }, 60_000);
  const duty = pods.duty(pods.source, "serve", "source");
  const named = await pods.source.store.preflight(duty, "fence", AbortSignal.timeout(LONG_MS));
  expect(
    named
      .filter(({ code }) => code === "LEFT_BEHIND")
      .map(({ message }) => message)
      .join("\n"),
  ).toContain("linked work trees, in red/worktree.git");
  await undoRefused(made);
  await expectEqual(made, pods.target.pod, 60_000);
  // No hook is told of any of these, and no sweep has the time to find them.
  for (const { repository } of made) {
    const { folder } = repository;
    if (repository.path === "red/no-config.git")
      await writeFile(join(folder, "config"), "[core]\n\tbare = true\n");
    else await appendFile(join(folder, "config"), "[cleave]\n\tlast = yes\n");
    await writeFile(join(folder, "description"), "the last\n");
    await repository.git("symbolic-ref", "refs/heads/last", "refs/heads/main");
    await chmod(join(folder, "hooks"), 0o711);
  }
  const [source, target] = await pods.matched(1);
  expect(source).toBeDefined();
  expect(target).toBe(source);
  await expectEqual(made, pods.target.pod);
  const folder = pods.source.pod.path("red/files.git");
  const refused = await git(["-C", folder, "update-ref", "refs/heads/late", "refs/heads/main"]);
  expect(refused.stderr).toContain("read-only for a moment");
});

it("a ref that is written in place, in the last moment before the fence", async () => {
  const pods = await split({ sweepSeconds: 3_600 });
  const path = "red/edited.git";
  await pods.source.pod.repository(path);
  await pods.seeded();
  const commit = await pods.source.pod.commit(path, "by hand");
  // What was read right after a change is read again in any case: here it was read later.
  await eventually(async () => {
    const { ctimeMs } = await lstat(join(pods.source.pod.path(path), "hooks"));
    expect(Date.now() - ctimeMs).toBeGreaterThan(200);
  });
  const { port } = pods.source.server;
  await pods.stop(pods.source);
  await pods.start(pods.source, port);
  await pods.reach(pods.source, "serve", "source");
  await writeFile(join(pods.source.pod.path(path), "refs", "heads", "main"), `${commit}\n`);
  const [source, target] = await pods.matched(1);
  expect(source).toBeDefined();
  expect(target).toBe(source);
  expect(await mustGit(["-C", pods.target.pod.path(path), "rev-parse", "main"])).toBe(commit);
});

it("on the new Pod while the copies are retained, and a rollback", { timeout: LONG_MS }, async () => {
  const pods = await GitReverseReplicationPods.create();
  remove = () => pods.remove();
  const made = await beginAll(pods.source.pod);
  await pods.opened();
  await pods.level();
  const there = made.map(({ state, repository }) => {
    const folder = pods.target.pod.path(repository.path);
    const run = (...args: string[]) => mustGit(["-C", folder, ...args]);
    const commit = (message: string) => pods.target.pod.commit(repository.path, message);
    return { state, repository: { ...repository, pod: pods.target.pod, folder, git: run, commit } };
  });
  await Promise.all(there.map(({ state, repository }) => state.make(repository)));
  await eventually(() => expect(pods.flow?.problem).not.toBeNull(), 60_000);
  await undoRefused(there);
  await expectEqual(there, pods.source.pod, 60_000);
  await pods.level();
  await pods.rolledBackTo("fenced");
  const [back, from] = [
    pods.status(pods.source)?.evidence?.digest,
    pods.status(pods.target)?.evidence?.digest,
  ];
  expect(back).toBeDefined();
  expect(from).toBe(back);
});

it("owners and modes are not widened: what git makes in a copy is as open as the original", async () => {
  const pods = await split();
  const { pod } = pods.source;
  await pod.repository("red/private.git");
  const run = promisify(execFile);
  await run("chmod", ["-R", "go-rwx", pod.path("red")]);
  if (process.getuid?.() === 0) await run("chown", ["-R", "4711:4712", pod.path("red/private.git")]);
  await pods.seeded();
  // As the user to whom it belongs.
  const folder = pod.path("red/private.git");
  const trusting = (of: string, ...args: string[]) => mustGit(["-c", "safe.directory=*", "-C", of, ...args]);
  const more = await trusting(folder, "commit-tree", "-m", "two", EMPTY_TREE);
  await trusting(folder, "update-ref", "refs/heads/two", more);
  const copied = pods.target.pod.path("red/private.git");
  await eventually(() => trusting(copied, "rev-parse", "two").then(() => undefined));
  await eventually(async () => {
    const { stdout } = await run("find", [pods.target.pod.path("red"), "-printf", "%m %U %G %P\n"]);
    const lines = stdout.trim().split("\n");
    expect(lines.length).toBeGreaterThan(15);
    for (const line of lines) {
      // The hook and the marks are Cleave's own, and everybody may run the hook.
      if (/hooks\/reference-transaction|cleave-(mirror|fetch)/.test(line)) continue;
      expect(line).toMatch(/^[4567]00 /);
      if (process.getuid?.() === 0 && line.includes("private.git")) expect(line).toMatch(/^\d+ 4711 4712 /);
    }
  });
  expect((await lstat(pods.target.pod.path("red"))).mode & 0o777).toBe(0o700);
});
