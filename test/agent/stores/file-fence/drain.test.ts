import { execFileSync } from "node:child_process";
import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { formatIntent } from "../../../../agent/stores/file-fence/announcement.ts";
import { withWriteIntent } from "../../../../agent/stores/file-fence/write-intent.ts";
import { ownStartTime, ownView } from "../../../../agent/stores/machine/processes.ts";
import {
  control,
  drain,
  exited,
  fence,
  folder,
  migrationId,
  ownerOf,
  pod0,
  shares,
  staged,
  startWriter,
  until,
  useFileFence,
} from "../../../support/file-fence/file-fence.ts";

useFileFence();

describe("drain", () => {
  test("waits for a writer in flight, and refuses the next one", async () => {
    await staged(pod0, "source");
    const order: string[] = [];
    let finish: (() => void) | null = null;
    const slow = withWriteIntent(
      { control, store: "objects", key: "uploads/red/1", organizationId: "red" },
      async () => {
        await new Promise<void>((resolve) => {
          finish = resolve;
        });
        order.push("written");
      },
    );
    await until("the writer is writing", () => finish !== null);
    await fence.setShares(migrationId, pod0, shares("fenced"));
    const drained = drain(10).then((result) => {
      order.push("drained");
      return result;
    });
    await sleep(300);
    expect(order).toEqual([]);
    (finish as (() => void) | null)?.();
    await slow;
    expect(await drained).toEqual({ stragglers: [] });
    expect(order).toEqual(["written", "drained"]);
    expect((await fence.takeDirty("objects")).map((entry) => entry.key)).toEqual(["uploads/red/1"]);
  });

  test("a writer is in flight before it reads the share", async () => {
    await staged(pod0, "source");
    const share = join(control, "shares", migrationId);
    const content = await readFile(share, "utf8");
    await rm(share);
    // A pipe holds the reader until the test writes to it.
    execFileSync("mkfifo", [share]);
    const write = withWriteIntent(
      { control, store: "objects", key: "uploads/red/1", organizationId: "red" },
      async () => 1,
    );
    await until("it is in flight", async () => (await fence.inflightKeys("objects")).has("uploads/red/1"));
    await writeFile(share, content);
    expect(await write).toBe(1);
  });

  test("stops when it is aborted", async () => {
    await staged(pod0, "fenced");
    const intent = { pid: process.pid, startTime: await ownStartTime(), key: "uploads/red/1" };
    await writeFile(join(control, "inflight/objects/a"), formatIntent(intent));
    const waiting: string[] = [];
    const stopped = new AbortController();
    const drained = fence.drain({
      store: "objects",
      migrationId,
      graceMs: 0,
      signal: stopped.signal,
      ownerOf,
      onWaiting: (texts) => {
        waiting.push(...texts);
        stopped.abort(new Error("enough"));
      },
    });
    await expect(drained).rejects.toThrow("enough");
    expect(waiting[0]).toContain("uploads/red/1");
  });

  test("a dead writer, also one whose process id was reused, has ended and is dirty", async () => {
    await staged(pod0, "fenced");
    await fence.setShares(migrationId, pod0, shares("fenced"));
    const inflight = join(control, "inflight/objects");
    const view = await ownView();
    await writeFile(
      join(inflight, "reused"),
      formatIntent({ pid: process.pid, startTime: "1", key: "uploads/red/1", view }),
    );
    await writeFile(
      join(inflight, "gone"),
      formatIntent({ pid: 4_194_304, startTime: "1", key: "uploads/blue/2", view }),
    );
    await writeFile(join(inflight, "half"), "1234 5");
    expect(await drain(5_000)).toEqual({ stragglers: [] });
    const keys = (await fence.takeDirty("objects")).map((entry) => entry.key).sort();
    expect(keys).toEqual(["uploads/blue/2", "uploads/red/1"]);
    for (const { id } of await fence.takeDirty("objects")) await fence.acknowledgeDirty("objects", id);
    expect(await fence.takeDirty("objects")).toEqual([]);
  });

  test("ends a straggler of a fenced organization, and neither waits for nor ends a neighbour", async () => {
    await staged(pod0, "source");
    const slow = startWriter(1, "red", 60_000);
    const neighbour = startWriter(2, "green", 60_000);
    const both = startWriter(3, "green", 1);
    await until(
      "writers are in flight",
      () => slow.lines().length > 0 && neighbour.lines().length > 0 && both.lines().length > 4,
    );
    await fence.setShares(migrationId, pod0, shares("fenced"));
    const startedAt = performance.now();
    const { stragglers } = await drain(100);
    expect(performance.now() - startedAt).toBeLessThan(3_000);
    expect(stragglers).toHaveLength(1);
    expect(stragglers[0]).toContain("uploads/red/1-0");
    await exited(slow.child);
    expect(slow.child.signalCode).toBe("SIGTERM");
    expect(neighbour.child.signalCode).toBeNull();
    expect((await fence.takeDirty("objects")).map((entry) => entry.key)).toContain("uploads/red/1-0");
  });

  test("a server is waited for, not ended: it serves more than this write", async () => {
    await staged(pod0, "source");
    const server = startWriter(1, "red", 60_000, "server");
    await until("the server is writing", () => server.lines().length > 0);
    await fence.setShares(migrationId, pod0, shares("fenced"));
    const waiting = new Set<string>();
    const drained = fence.drain({
      store: "objects",
      migrationId,
      graceMs: 20,
      signal: AbortSignal.timeout(500),
      ownerOf,
      onWaiting: (texts) => texts.forEach((text) => void waiting.add(text)),
    });
    await expect(drained).rejects.toMatchObject({ name: "TimeoutError" });
    expect(server.child.signalCode).toBeNull();
    expect([...waiting].join()).toContain("uploads/red/1-0");
  });

  test("a process that also writes for a neighbour is waited for, not ended", async () => {
    await staged(pod0, "source");
    const writer = startWriter(1, "red", 60_000);
    await until("the writer is in flight", () => writer.lines().length > 0);
    const [name] = (await readdir(join(control, "inflight/objects"))) as [string];
    const text = await readFile(join(control, "inflight/objects", name), "utf8");
    await writeFile(join(control, "inflight/objects/other"), text.replace("red", "green"));
    await fence.setShares(migrationId, pod0, shares("fenced"));
    await expect(drain(20, AbortSignal.timeout(400))).rejects.toMatchObject({ name: "TimeoutError" });
    expect(writer.child.signalCode).toBeNull();
  });

  test("writers in many processes race with fences and are killed at random: none passes, every change is heard of", async () => {
    await staged(pod0, "source");
    const heard = new Set<string>();
    const collect = async () => {
      for (const { id, key } of await fence.takeDirty("objects")) {
        heard.add(key ?? "");
        await fence.acknowledgeDirty("objects", id);
      }
    };
    const endWatch = fence.watchDirty("objects", collect);
    const writers = [1, 2, 3].map((number) => startWriter(number, "red,green,blue", (number - 1) * 15));
    await until("all write", () => writers.every((writer) => writer.lines().length > 10));

    for (let round = 0; round < 15; round++) {
      await sleep(Math.random() * 60);
      if (round % 3 === 2) {
        const victim = writers[round % writers.length];
        victim?.child.kill("SIGKILL");
        writers.push(startWriter(100 + round, "red,green,blue", round));
      }
      await fence.setShares(migrationId, pod0, shares("fenced"));
      await drain(2_000);
      const root = join(folder, "root/uploads");
      const objects = async () =>
        (
          await Promise.all(
            ["red", "blue"].map(async (name) => (await readdir(join(root, name))).map((n) => `${name}/${n}`)),
          )
        ).flat();
      const before = await objects();
      await sleep(40);
      // Nothing of a fenced organization changes on disk after the drain, temporary files included.
      expect(await objects()).toEqual(before);
      await fence.setShares(migrationId, pod0, shares("source"));
    }
    for (const { child } of writers) child.kill("SIGKILL");
    await Promise.all(writers.map(({ child }) => exited(child)));
    await fence.setShares(migrationId, pod0, shares("fenced"));
    await drain(100);
    await collect();
    endWatch();

    const lines = writers.flatMap((writer) => writer.lines());
    const acknowledged = lines.flatMap((line) => line.acknowledged ?? []);
    expect(acknowledged.length).toBeGreaterThan(100);
    expect(
      lines
        .filter((line) => line.refused)
        .every((line) => line.code === "WRITE_FENCED" && line.podId === pod0),
    ).toBe(true);
    // A neighbour is never refused.
    expect(lines.filter((line) => line.refused && line.organizationId === "green")).toEqual([]);
    expect(lines.filter((line) => line.refused).length).toBeGreaterThan(10);
    const begun = lines.flatMap((line) => line.begun ?? []);
    // A neighbour's writer killed at the very end is not part of this drain.
    await until("dead neighbours are reaped", async () => {
      const end = fence.watchDirty("objects", () => undefined);
      await sleep(50);
      end();
      await collect();
      return begun.every((key) => heard.has(key));
    });
    expect(acknowledged.filter((key) => !heard.has(key))).toEqual([]);
  }, 60_000);
});
