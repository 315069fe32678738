/** Git in containers of their own: the agent does not see their processes, and waits for them all the same. */
import { readdir, rm, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { fencePaths } from "../../../../../agent/stores/file-fence/layout.ts";
import type { Hook } from "../../../../../agent/stores/git/backend/folder/hook-install.ts";
import { installHook, removeHook } from "../../../../../agent/stores/git/backend/folder/hook-install.ts";
import { holdsNoLock } from "../../../../../agent/stores/git/backend/folder/ref-locks.ts";
import { eventually } from "../../../../support/eventually.ts";
import { GitPod, migrationId, pod0 } from "../../../../support/git/pod.ts";
import { type Contained, contained, noNamespaces } from "../../../../support/namespaces.ts";

const PATH = "red.git";
let pod: GitPod;
let hook: Hook;
let commit: string;
let writers: Contained[];

beforeEach(async () => {
  pod = await GitPod.create();
  hook = await pod.staged(pod0, "source");
  commit = await pod.repository(PATH, "red", hook);
  writers = [];
  pod.fence.proveEndsBy("git", (path) => holdsNoLock(pod.path(path)));
});
afterEach(async () => {
  for (const { child } of writers) child.kill("SIGKILL");
  await Promise.all(writers.map(({ ended }) => ended));
  await pod.remove();
});

/** A ref transaction that stands still in `prepared`, after it passed the fence, until the file `go` is there. */
async function held(options: { proc?: "own" | "outer" } = {}): Promise<Contained> {
  await removeHook(pod.path(PATH));
  const text = '#!/bin/sh\n[ "$1" != prepared ] || { : >reached; until [ -e go ]; do sleep 0.01; done; }\n';
  await writeFile(join(pod.path(PATH), "hooks", "reference-transaction"), text, { mode: 0o755 });
  await installHook(pod.path(PATH), hook);
  const writer = contained("git", ["-C", pod.path(PATH), "update-ref", "refs/heads/late", commit], options);
  writers.push(writer);
  await eventually(async () => expect(await readdir(pod.path(PATH))).toContain("reached"));
  return writer;
}
const go = () => writeFile(join(pod.path(PATH), "go"), "");
const inflight = () => readdir(fencePaths(pod.control).inflight("git"));

interface Draining {
  readonly result: Promise<"ended" | "aborted">;
  /** Resolves when the drain says whom it waits for, past its grace. */
  readonly waiting: () => Promise<string>;
  readonly abort: () => void;
}

function drain(): Draining {
  const abort = new AbortController();
  let named = "";
  const result = pod.fence
    .drain({
      store: "git",
      migrationId,
      graceMs: 0,
      signal: abort.signal,
      onWaiting: (texts) => {
        named = texts.join("\n");
      },
    })
    .then(
      () => "ended" as const,
      () => "aborted" as const,
    );
  const waiting = async () => {
    await eventually(() => expect(named).not.toBe(""));
    return named;
  };
  return { result, waiting, abort: () => abort.abort(new Error("the deadline")) };
}

describe.skipIf(noNamespaces !== null)(`a git in another PID namespace ${noNamespaces ?? ""}`, () => {
  it.each(["own", "outer"] as const)(
    "with the %s /proc is waited for, and its change is heard of",
    async (proc) => {
      const writer = await held({ proc });
      await pod.setPhase("fenced");
      const draining = drain();
      const named = await draining.waiting();
      const [file] = await inflight();
      expect(named).toContain(join(fencePaths(pod.control).inflight("git"), file ?? ""));
      expect(named).toContain(`on host ${hostname()}`);
      expect(named).toContain(PATH);
      await go();
      expect(await draining.result).toBe("ended");
      expect((await writer.ended).code).toBe(0);
      expect(await pod.refs(PATH)).toContain("refs/heads/late");
      expect((await pod.fence.takeDirty("git")).map(({ key }) => key)).toContain(PATH);
    },
  );

  it("that stands still until the fence's deadline fails the attempt, and goes on as if nothing had been", async () => {
    const writer = await held();
    await pod.setPhase("fenced");
    const draining = drain();
    await draining.waiting();
    draining.abort();
    expect(await draining.result).toBe("aborted");
    expect(await inflight()).toHaveLength(1);
    await pod.setPhase("source");
    await go();
    expect((await writer.ended).code).toBe(0);
    expect(await inflight()).toEqual([]);
  });

  it("that is killed leaves its locks and is waited for until they are gone", async () => {
    const writer = await held();
    writer.signal("SIGKILL");
    await writer.ended;
    await pod.setPhase("fenced");
    const draining = drain();
    await draining.waiting();
    expect(await readdir(join(pod.path(PATH), "refs/heads"))).toContain("late.lock");
    await rm(join(pod.path(PATH), "refs/heads/late.lock"));
    expect(await draining.result).toBe("ended");
    expect(await inflight()).toEqual([]);
    expect((await pod.fence.takeDirty("git")).map(({ key }) => key)).toContain(PATH);
  });

  it("that was told to end has let its locks go, which is proof enough", async () => {
    const writer = await held();
    writer.signal("SIGTERM");
    await writer.ended;
    await pod.setPhase("fenced");
    expect(await drain().result).toBe("ended");
    expect(await pod.refs(PATH)).not.toContain("refs/heads/late");
  });

  it("is told of before a fence: at once as a warning, and as an error when a fence would wait in vain", async () => {
    await held();
    const [warned] = await pod.fence.unseenWriters("git", null);
    expect(warned).toMatchObject({ severity: "warning", code: "WRITER_UNSEEN" });
    expect(await pod.fence.unseenWriters("git", 60_000)).toEqual([]);
    expect(await pod.fence.unseenWriters("git", 0)).toMatchObject([{ severity: "error" }]);
    await go();
    await eventually(async () => expect(await pod.fence.unseenWriters("git", null)).toEqual([]));
  });

  it("and another with the same process id and start never take each other's announcement", async () => {
    const first = await held();
    await rm(join(pod.path(PATH), "reached"));
    const second = contained("git", ["-C", pod.path(PATH), "update-ref", "refs/heads/later", commit]);
    writers.push(second);
    await eventually(async () => expect(await readdir(pod.path(PATH))).toContain("reached"));
    const names = await inflight();
    expect(new Set(names.map((name) => name.split("-")[0])).size).toBe(1);
    expect(new Set(names.map((name) => name.split("-")[2])).size).toBe(2);
    await go();
    await Promise.all([first.ended, second.ended]);
    expect(await inflight()).toEqual([]);
  });
});
