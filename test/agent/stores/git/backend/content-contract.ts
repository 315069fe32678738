/** The part of the contract that reads: what is there, how it is watched, what checks find. */
import { PassThrough, Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { beforeEach, describe, expect, it } from "vitest";
import type { RepositoryBackend, RepositoryState } from "../../../../../agent/stores/git/backend/backend.ts";
import type { RepositoryFiles } from "../../../../../agent/stores/git/backend/repository-files.ts";
import { eventually } from "../../../../support/eventually.ts";
import {
  MIGRATION,
  mustGit,
  PATH,
  type Place,
  signal,
  stateOf,
  UNREADABLE,
  type UsedWorld,
} from "./world.ts";

const USABLE = [PATH, "@hashed/aa/bb/two.git", "red/süß 😀 `$(touch x)` -rf.git", "-q.git", "red/..two..git"];
const UNUSABLE = [
  "",
  "one",
  "/etc/x.git",
  "../x.git",
  "red/../../x.git",
  "red//x.git",
  "./x.git",
  "a\nb.git",
];

export function contentContract(name: string, world: UsedWorld): void {
  let source: Place;
  let target: Place;
  beforeEach(() => {
    ({ source, target } = world.current());
  });

  describe(`${name}: what is there`, () => {
    it("lists every repository by its name, and says what it cannot handle", async () => {
      expect(await source.backend.list()).toEqual({ repositories: [], problems: [] });
      for (const path of USABLE) await source.repository(path);
      const { problems, ignored } = await source.litter();
      const found = await source.backend.list();
      expect([...found.repositories].sort()).toEqual([...USABLE].sort());
      expect(found.problems.length).toBe(problems.length);
      for (const part of problems) expect(found.problems.join("\n")).toContain(part);
      const everything = await source.backend.list(signal, { everything: true });
      expect([...everything.repositories].sort()).toEqual([...USABLE, ignored].sort());
      for (const path of USABLE) expect((await stateOf(source, path)).reason).toBe("ok");
    });

    it("refuses names that are none", async () => {
      const files: RepositoryFiles = {
        head: "ref: refs/heads/main",
        symbolicRefs: [],
        shallow: [],
        objectFormat: "sha1",
        permissions: 0o644,
        parents: [],
        entries: [],
      };
      const from = { url: "http://127.0.0.1:1", header: "" };
      const contentOf = async () => [];
      const all = { from, files, contentOf, name: "copy-1", mark: null, replaces: false };
      const calls: ((backend: RepositoryBackend, path: string) => unknown)[] = [
        (backend, path) => backend.exists(path),
        (backend, path) => backend.isTaken(path),
        (backend, path) => backend.isWhole(path),
        (backend, path) => backend.parts(path),
        (backend, path) => backend.read(path),
        (backend, path) => backend.look(path),
        (backend, path) => backend.bytes(path, signal),
        (backend, path) => backend.lendersOf(path),
        (backend, path) => backend.checkRepository(path),
        (backend, path) => backend.copy(path, all, signal),
        (backend, path) => backend.fetch(path, from, files, signal),
        (backend, path) => backend.writeFiles(path, files, { keepHead: false, contentOf }),
        (backend, path) => backend.discard(path, "copy-1"),
        (backend, path) => backend.isMadeFor(path, MIGRATION),
        (backend, path) => backend.removeMark(path),
        (backend, path) => backend.installHook(path),
        (backend, path) => backend.isHookInForce(path),
        (backend, path) => backend.removeHook(path),
        (backend, path) => backend.hide(path, MIGRATION),
        (backend, path) => backend.deleteHidden(path, MIGRATION),
        (backend, path) => backend.removeEmptyFolders([path]),
        (backend, path) => backend.files(path),
        (backend, path) => backend.content(path, "config"),
        (backend, path) => buffer(Readable.from(backend.items(path))),
        (backend, path) => backend.leftBehind(path),
        (backend, path) => backend.advertiseRefs(path, ""),
        (backend, path) => backend.uploadPack(path, "", new PassThrough()),
      ];
      for (const path of UNUSABLE)
        for (const call of calls)
          await expect(
            (async () => call(source.backend, path))(),
            `${call} ${JSON.stringify(path)}`,
          ).rejects.toMatchObject(UNREADABLE);
    });

    it("equal repositories read equal, and each part that differs tells", async () => {
      const commit = await source.repository(PATH);
      await source.duplicate(PATH, "blue/same.git");
      const before = await stateOf(source);
      expect(before).toMatchObject({ reason: "ok", head: "ref: refs/heads/main" });
      expect(await stateOf(source, "blue/same.git")).toEqual(before);
      const changes: [keyof RepositoryState, () => Promise<unknown>][] = [
        ["checksum", () => mustGit(source, PATH, "update-ref", "refs/heads/x", commit)],
        ["refs", () => mustGit(source, PATH, "update-ref", "refs/pipelines/7", commit)],
        ["head", () => mustGit(source, PATH, "symbolic-ref", "HEAD", "refs/heads/x")],
        ["config", () => mustGit(source, PATH, "config", "cleave.test", "yes")],
        ["attributes", () => source.file(PATH, "info/attributes", "*.bin -diff\n")],
        ["others", () => source.file(PATH, "git-daemon-export-ok", "")],
        ["symbolicRefs", () => mustGit(source, PATH, "symbolic-ref", "refs/heads/m", "refs/heads/main")],
        ["symbolicRefs", () => mustGit(source, PATH, "symbolic-ref", "refs/heads/n", "refs/heads/none")],
        ["hooks", () => source.file(PATH, "hooks/post-receive", "#!/bin/sh\n")],
        ["hooks", () => source.file(PATH, "custom_hooks/pre-receive.d/a", "#!/bin/sh\n")],
      ];
      let last = before;
      for (const [part, change] of changes) {
        await change();
        const now = await stateOf(source);
        expect(now[part], part).not.toBe(last[part]);
        last = now;
      }
      expect(await stateOf(source, "blue/same.git")).toEqual(before);
    });

    it("what is empty, damaged, no repository or not there is not taken for another of these", async () => {
      await source.repository(PATH);
      await source.duplicate(PATH, "red/damaged.git");
      await source.file("red/damaged.git", "refs/heads/broken", "");
      await mustGit(source, PATH, "update-ref", "-d", "refs/heads/main");
      await source.file("red/nothing.git", "readme", "no repository");
      expect(await stateOf(source)).toMatchObject({ reason: "empty", detail: "" });
      const damaged = await stateOf(source, "red/damaged.git");
      expect(damaged).toMatchObject({ reason: "unreadable", detail: expect.stringMatching(/broken/) });
      await expect(source.backend.read("red/nothing.git")).rejects.toThrow();
      expect(await source.backend.read("red/none.git")).toBeNull();
      const presence = async (path: string) => [
        await source.backend.exists(path),
        await source.backend.isTaken(path),
        await source.backend.isWhole(path),
      ];
      expect(await presence(PATH)).toEqual([true, true, true]);
      expect(await presence("red/nothing.git")).toEqual([true, true, false]);
      expect(await presence("red/none.git")).toEqual([false, false, false]);
    });

    it("a look tells every change, and locks of refs", async () => {
      const commit = await source.repository(PATH);
      const { backend } = source;
      await eventually(async () => {
        expect((await backend.read(PATH))?.version).toBe((await backend.look(PATH)).version);
      });
      const before = await backend.read(PATH);
      await mustGit(source, PATH, "update-ref", "refs/pipelines/7", commit);
      expect((await backend.look(PATH)).version).not.toBe(before?.version);
      const { version } = await backend.look(PATH);
      await mustGit(source, PATH, "symbolic-ref", "HEAD", "refs/heads/x");
      expect((await backend.look(PATH)).version).not.toBe(version);
      const after = await backend.read(PATH);
      expect(after?.headVersion).not.toBe(before?.headVersion);
      expect(after?.locks).toEqual([]);
      await source.file(PATH, "refs/heads/held.lock", "");
      expect((await backend.look(PATH)).locks).toEqual(["refs/heads/held.lock"]);
      expect((await backend.read(PATH))?.locks).toEqual(["refs/heads/held.lock"]);
    });

    it("who borrows objects names the lenders, and sizes count what is there", async () => {
      await source.repository(PATH);
      await source.duplicate(PATH, "red/fork.git");
      const before = await source.backend.bytes("red/fork.git", signal);
      await source.file(
        "red/fork.git",
        "objects/info/alternates",
        "../../one.git/objects\n# one\n/else\n../../fork.git/objects\n",
      );
      await source.file("red/fork.git", "large", "x".repeat(100_000));
      expect(await source.backend.lendersOf(PATH)).toEqual([]);
      expect(await source.backend.lendersOf("red/fork.git")).toEqual([PATH]);
      expect(await source.backend.bytes("red/fork.git", signal)).toBeGreaterThanOrEqual(before + 100_000);
    });

    it("watching finds what is there, what comes and what goes", async () => {
      await source.repository(PATH);
      const seen: string[] = [];
      const watch = source.backend.watch({
        found: async (path) => {
          // Slow, so that whoever does not wait for it is seen.
          await new Promise((resolve) => setTimeout(resolve, 20));
          seen.push(`+${path}`);
        },
        gone: async (path) => {
          seen.push(`-${path}`);
        },
      });
      await watch.start();
      expect(seen).toContain(`+${PATH}`);
      expect([...watch.repositories]).toEqual([PATH]);
      await source.repository("new/folder/two.git");
      await watch.settled(signal);
      expect(seen).toContain("+new/folder/two.git");
      await source.remove(PATH);
      await watch.settled(signal);
      expect(seen).toContain(`-${PATH}`);
      expect(seen).not.toContain("-new/folder/two.git");
      const { problems } = await source.litter();
      await watch.scan(signal);
      expect([...watch.repositories]).toEqual(["new/folder/two.git"]);
      expect(watch.problems.length).toBe(problems.length);
      watch.close();
    });
  });

  describe(`${name}: checks`, () => {
    it("find nothing in good order, and what is not", async () => {
      const codes = async (of: ReturnType<RepositoryBackend["checkSource"]>) =>
        (await of).map(({ code }) => code);
      const { backend } = source;
      await source.repository(PATH);
      await source.duplicate(PATH, "red/damaged.git");
      expect(await codes(backend.checkSource())).toEqual([]);
      expect(await codes(backend.checkRepository(PATH))).toEqual([]);
      await mustGit(source, PATH, "config", "core.hooksPath", "/elsewhere");
      expect(await codes(backend.checkRepository(PATH))).toEqual(["REPOSITORY_HOOK_DISABLED"]);
      await source.file("red/damaged.git", "refs/heads/broken", "");
      expect(await codes(backend.checkRepository("red/damaged.git"))).toEqual(["REPOSITORY_UNREADABLE"]);
      expect(await codes(backend.checkRepository("red/none.git"))).toEqual(["REPOSITORY_UNREADABLE"]);
      expect(await codes(target.backend.checkTarget({ mustBeEmpty: true }))).toEqual([]);
      expect(await codes(backend.checkTarget({ mustBeEmpty: true }))).toEqual(["GIT_NOT_EMPTY"]);
      expect(await codes(backend.checkTarget({ mustBeEmpty: false }))).toEqual([]);
      await target.backend.create();
      expect(await target.backend.firstEntry()).toBeNull();
      expect(await backend.firstEntry()).toBe("red");
    });
  });
}
