/** The part of the contract that changes something, or serves it: copies, writers' hooks, removal, serving. */
import { PassThrough, type Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { beforeEach, describe, expect, it } from "vitest";
import type { ContentOf, NewRepository } from "../../../../../agent/stores/git/backend/backend.ts";
import { eventually } from "../../../../support/eventually.ts";
import {
  MIGRATION,
  mustGit,
  OTHER,
  PATH,
  type Place,
  type Served,
  signal,
  stateOf,
  UNREADABLE,
  type UsedWorld,
} from "./world.ts";

export function writingContract(name: string, world: UsedWorld): void {
  let source: Place;
  let target: Place;
  let served: Served;
  beforeEach(() => {
    ({ source, target, served } = world.current());
  });

  const contentOf =
    (path = PATH): ContentOf =>
    async ({ path: name, content }) =>
      content === null ? source.backend.content(path, name) : [Buffer.from(content, "base64")];
  const copy = async (path = PATH, options: Partial<NewRepository> = {}) => {
    const files = await source.backend.files(path);
    const all = {
      from: served.access(path),
      files,
      contentOf: contentOf(path),
      name: "copy-1",
      mark: null,
      replaces: false,
      ...options,
    };
    await target.backend.copy(path, all, signal);
  };
  const listed = async ({ backend }: Place) => [...(await backend.list(signal)).repositories].sort();

  describe(`${name}: copies`, () => {
    it("a copy equals what it was made from, hidden refs and hooks included, and has our hook", async () => {
      const commit = await source.repository(PATH);
      await mustGit(source, PATH, "config", "transfer.hideRefs", "refs/pipelines");
      await mustGit(source, PATH, "update-ref", "refs/pipelines/7", commit);
      await mustGit(source, PATH, "symbolic-ref", "HEAD", "refs/heads/unborn");
      await source.file(PATH, "info/attributes", "*.bin -diff\n");
      await source.file(PATH, "hooks/reference-transaction", "#!/bin/sh\nexit 0\n");
      await source.backend.installHook(PATH);
      await copy();
      expect(await stateOf(target)).toEqual(await stateOf(source));
      expect(await target.backend.isHookInForce(PATH)).toBe(true);
      expect(await target.backend.isMadeFor(PATH, MIGRATION)).toBe(false);
    });

    it("follows: refs, a branch that became a folder, and files; HEAD only where it is another", async () => {
      const commit = await source.repository(PATH);
      await mustGit(source, PATH, "update-ref", "refs/heads/a", commit);
      await copy();
      await mustGit(source, PATH, "update-ref", "-d", "refs/heads/a");
      await mustGit(source, PATH, "update-ref", "refs/heads/a/b", commit);
      await mustGit(source, PATH, "symbolic-ref", "HEAD", "refs/heads/a/b");
      await source.file(PATH, "hooks/update", "#!/bin/sh\n");
      const files = await source.backend.files(PATH);
      await target.backend.fetch(PATH, served.access(PATH), files, signal);
      const [own, theirs] = [await stateOf(target), await stateOf(source)];
      expect(own).toMatchObject({ refs: theirs.refs, head: "ref: refs/heads/main" });
      await target.backend.writeFiles(PATH, files, { keepHead: true, contentOf: contentOf() });
      expect(await stateOf(target)).toMatchObject({ hooks: theirs.hooks, head: "ref: refs/heads/main" });
      await target.backend.writeFiles(PATH, files, { keepHead: false, contentOf: contentOf() });
      expect(await stateOf(target)).toEqual(theirs);
    });

    it("is self-contained: what was borrowed comes along", async () => {
      await source.repository(PATH);
      await mustGit(source, PATH, "clone", "-q", "--bare", "--shared", ".", "../fork.git");
      expect(await source.backend.lendersOf("red/fork.git")).toEqual([PATH]);
      await copy("red/fork.git");
      expect(await target.backend.lendersOf("red/fork.git")).toEqual([]);
      await mustGit(target, "red/fork.git", "fsck", "--full", "--strict");
    });

    it("gets its name when it is whole: nothing is seen of one that failed", async () => {
      await source.repository(PATH);
      await source.duplicate(PATH, "red/damaged.git");
      const objects = await mustGit(source, PATH, "rev-parse", "main");
      const file = `objects/${objects.slice(0, 2)}/${objects.slice(2)}`;
      await source.file("red/damaged.git", file, null);
      await expect(copy("red/damaged.git")).rejects.toMatchObject(UNREADABLE);
      expect(await listed(target)).toEqual([]);
      await target.backend.removeUnfinished("copy-1");
      expect(await target.backend.firstEntry()).toBeNull();
      // A name that is taken is not taken over, unless it is to be replaced.
      await target.repository(PATH);
      const before = await stateOf(target);
      await expect(copy()).rejects.toThrow();
      expect(await stateOf(target)).toEqual(before);
      await copy(PATH, { replaces: true, mark: MIGRATION });
      expect(await stateOf(target)).toEqual(await stateOf(source));
    });

    it("carries a mark until it is taken away, and is discarded with all that is left of it", async () => {
      await source.repository(PATH);
      await copy(PATH, { mark: MIGRATION });
      const made = async () => [
        await target.again().isMadeFor(PATH, MIGRATION),
        await target.again().isMadeFor(PATH, OTHER),
      ];
      expect(await made()).toEqual([true, false]);
      expect(await target.backend.isMadeFor("red/none.git", MIGRATION)).toBe(false);
      expect(await stateOf(target)).toEqual(await stateOf(source));
      await target.backend.removeMark(PATH);
      expect(await made()).toEqual([false, false]);
      await target.backend.discard(PATH, "copy-1");
      await target.backend.discard(PATH, "copy-1");
      expect(await target.backend.isTaken(PATH)).toBe(false);
      await target.backend.removeUnfinished("copy-1");
      await target.backend.removeEmptyFolders([PATH]);
      expect(await target.backend.firstEntry()).toBeNull();
    });
  });

  describe(`${name}: writers`, () => {
    const write = async (ref: string) =>
      (await source.git(PATH, "update-ref", ref, "refs/heads/main")).code === 0;

    it("meet the fence where the hook is in force; an earlier hook is run on and put back", async () => {
      await source.repository(PATH);
      await source.file(PATH, "hooks/reference-transaction", "#!/bin/sh\n! grep -q refs/heads/bad\n");
      const before = await stateOf(source);
      const { backend } = source;
      expect(await backend.isHookInForce(PATH)).toBe(false);
      await source.setPhase("fenced");
      expect(await write("refs/heads/before")).toBe(true);
      for (let twice = 0; twice < 2; twice++) await backend.installHook(PATH);
      expect(await backend.isHookInForce(PATH)).toBe(true);
      const refused = await source.git(PATH, "update-ref", "refs/heads/after", "refs/heads/main");
      expect(refused.stderr).toContain("read-only for a moment");
      await source.setPhase("source");
      expect([await write("refs/heads/good"), await write("refs/heads/bad")]).toEqual([true, false]);
      expect((await stateOf(source)).hooks).toBe(before.hooks);
      await source.file(PATH, "hooks/reference-transaction", "#!/bin/sh\n");
      expect(await backend.isHookInForce(PATH)).toBe(false);
      await backend.installHook(PATH);
      await source.file(PATH, "hooks/reference-transaction", null);
      expect(await backend.isHookInForce(PATH)).toBe(false);
      const again = source.again();
      await again.prepareHook();
      await again.installHook(PATH);
      expect(await backend.isHookInForce(PATH)).toBe(true);
      await source.setPhase("fenced");
      await backend.removeHook(PATH);
      expect(await write("refs/heads/later")).toBe(true);
    });

    it("cannot change HEAD while the fence is up", async () => {
      await source.repository(PATH);
      await source.repository("red/two.git");
      const { backend } = source;
      const setHead = async (path: string) =>
        (await source.git(path, "symbolic-ref", "HEAD", "refs/heads/x")).code === 0;
      await backend.installHook(PATH);
      const before = await backend.read(PATH);
      const locks = await backend.headLocks();
      await source.setPhase("fenced");
      const told: [string, string | null][] = [];
      const onHeld = (path: string, version: string | null) => told.push([path, version]);
      const hold = { graceMs: 50, signal, onHeld };
      await locks?.hold([PATH, "red/none.git"], hold);
      await locks?.hold([PATH], hold);
      if (locks !== null) expect(told).toEqual([[PATH, before?.headVersion]]);
      expect(await setHead(PATH)).toBe(false);
      expect(await stateOf(source)).toEqual(before?.state);
      await source.setPhase("source");
      if (locks === null) return;
      expect(await setHead("red/two.git")).toBe(true);
      // A writer's own lock is waited for, and never taken from it.
      await source.file("red/two.git", "HEAD.lock", "a writer's");
      await expect(locks.hold(["red/two.git"], hold)).rejects.toMatchObject({ code: "DRAIN_INCOMPLETE" });
      await locks.release(["red/two.git"]);
      expect(await setHead("red/two.git")).toBe(false);
      // What an earlier process held, the next one releases.
      await (await source.again().headLocks())?.release([PATH]);
      expect(await setHead(PATH)).toBe(true);
    });
  });

  describe(`${name}: removal`, () => {
    it("hides at once, and another process goes on; what came back meanwhile is left alone", async () => {
      const paths = [PATH, "red/deep/er/two.git"];
      for (const path of [...paths, "blue/stays.git"]) await source.repository(path);
      for (const path of paths) await source.backend.hide(path, MIGRATION);
      await source.backend.hide(PATH, MIGRATION);
      expect(await listed(source)).toEqual(["blue/stays.git"]);
      expect(await source.backend.exists(PATH)).toBe(false);
      const again = source.again();
      expect([...(await again.hidden(MIGRATION))].sort()).toEqual(paths.sort());
      expect(await again.hidden(OTHER)).toEqual([]);
      await source.repository(PATH);
      const came = await stateOf(source);
      await again.deleteHidden(PATH, MIGRATION);
      expect(await again.hidden(MIGRATION)).toEqual(["red/deep/er/two.git"]);
      await again.removeEmptyFolders(paths);
      await again.deleteHidden("red/deep/er/two.git", MIGRATION);
      await again.endHiding(MIGRATION);
      expect(await again.hidden(MIGRATION)).toEqual([]);
      expect(await stateOf(source)).toEqual(came);
      expect(await listed(source)).toEqual(["blue/stays.git", PATH]);
      for (const path of [PATH, "blue/stays.git"]) {
        await again.hide(path, OTHER);
        await again.deleteHidden(path, OTHER);
      }
      await again.endHiding(OTHER);
      await again.removeEmptyFolders(null);
      expect(await again.firstEntry()).toBeNull();
    });
  });

  describe(`${name}: serving`, () => {
    const text = async (body: Readable) => (await buffer(body)).toString("latin1");

    it("shows every ref, hidden ones too, and answers what git asks", async () => {
      const commit = await source.repository(PATH);
      await mustGit(source, PATH, "config", "transfer.hideRefs", "refs/pipelines");
      await mustGit(source, PATH, "update-ref", "refs/pipelines/7", commit);
      const refs = await text(source.backend.advertiseRefs(PATH, ""));
      expect(refs).toMatch(/^001e# service=git-upload-pack\n0000/);
      expect(refs).toContain(`${commit} refs/pipelines/7`);
      expect(await text(source.backend.advertiseRefs(PATH, "version=2"))).toContain("version 2");
      await target.repository("red/own.git");
      const { url } = served.access(PATH);
      await mustGit(target, "red/own.git", "fetch", "-q", url, "+refs/*:refs/*");
      expect(await mustGit(target, "red/own.git", "rev-parse", "refs/pipelines/7")).toBe(commit);
    });

    it("fails when git does, and is over when nobody reads on", async () => {
      await source.repository(PATH);
      await expect(text(source.backend.advertiseRefs("red/none.git", ""))).rejects.toThrow();
      const request = new PassThrough();
      const answer = source.backend.uploadPack(PATH, "", request);
      request.end("this is no request of git");
      await expect(text(answer)).rejects.toThrow();
      const unread = source.backend.uploadPack(PATH, "", new PassThrough());
      unread.destroy();
      await eventually(() => expect(unread.closed).toBe(true));
    });

    it("files are what is compared, and what is no repository has none", async () => {
      await source.repository(PATH);
      await source.file(PATH, "hooks/update", "#!/bin/sh\n");
      await source.backend.installHook(PATH);
      const files = await source.backend.files(PATH);
      expect(files).toMatchObject({ head: "ref: refs/heads/main", symbolicRefs: [], shallow: [] });
      const named = new Map(files.entries.map((entry) => [entry.path, entry]));
      expect(named.get("hooks/update")).toMatchObject({ kind: "file", mode: 0o755 });
      expect(named.has("hooks/reference-transaction")).toBe(false);
      const config = await buffer(await source.backend.content(PATH, "config"));
      expect(config.toString()).toContain("bare = true");
      expect(named.get("config")).toMatchObject({ content: config.toString("base64") });
      await expect(source.backend.content(PATH, "objects/info/packs")).rejects.toMatchObject(UNREADABLE);
      await expect(source.backend.files("red/none.git")).rejects.toThrow();
    });
  });
}
