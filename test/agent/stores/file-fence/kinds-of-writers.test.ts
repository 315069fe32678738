/**
 * Which writers a drain waits for: what kind of writer × when it announced itself. Whoever was announced before the fence and
 * is not known to have ended is waited for; whoever announced itself later reads the fence.
 */
import { execFileSync, spawn } from "node:child_process";
import { mkdir, readdir, symlink, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { formatIntent, type Intent } from "../../../../agent/stores/file-fence/announcement.ts";
import { organizationHash } from "../../../../agent/stores/file-fence/layout.ts";
import { withWriteIntent } from "../../../../agent/stores/file-fence/write-intent.ts";
import { ownStartTime, ownView, type View } from "../../../../agent/stores/machine/processes.ts";
import {
  control,
  exited,
  fence,
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

const KEY = "uploads/red/1";
const OTHER_BOOT = "00000000-0000-4000-8000-000000000000";
const at = (name: string) => join(control, "inflight/objects", name);

type Result = "waits" | "ends";
type Announce = (path: string) => Promise<void>;

async function alive(change: Partial<Intent> & { readonly of?: Partial<View> } = {}): Promise<string> {
  const { of, ...intent } = change;
  const view = { ...(await ownView()), ...of };
  return formatIntent({
    pid: process.pid,
    startTime: await ownStartTime(),
    key: KEY,
    view,
    server: true,
    ...intent,
  });
}
const text =
  (make: () => string | Promise<string>): Announce =>
  async (path) =>
    writeFile(path, await make());
const gone = { pid: 4_194_304, startTime: "1" };

const KINDS: readonly [kind: string, announce: Announce, expected: Result][] = [
  ["alive in this PID namespace", text(alive), "waits"],
  ["dead, announcement left", text(() => alive(gone)), "ends"],
  ["dead, process id reused", text(() => alive({ startTime: "1" })), "ends"],
  ["in another PID namespace", text(() => alive({ ...gone, of: { pidNamespace: "1" } })), "waits"],
  [
    "in another PID namespace, with a process id that is another's here",
    text(() => alive({ startTime: "1", of: { pidNamespace: "1" } })),
    "waits",
  ],
  ["in a namespace that nobody knows", text(() => alive({ ...gone, of: { pidNamespace: null } })), "waits"],
  [
    "on another machine, or before its last start",
    text(() => alive({ ...gone, of: { boot: OTHER_BOOT } })),
    "waits",
  ],
  ["on a machine without an id of its boot", text(() => alive({ ...gone, of: { boot: null } })), "waits"],
  [
    "with another time namespace, so another start time",
    text(() => alive({ startTime: "1", of: { timeNamespace: "1" } })),
    "waits",
  ],
  [
    "with another host name on this machine",
    text(() => alive({ ...gone, of: { host: "elsewhere" } })),
    "ends",
  ],
  ["of an older version, alive", text(() => alive({ view: null })), "waits"],
  ["of an older version, not seen", text(() => alive({ ...gone, view: null })), "waits"],
  [
    "of a later version, dead",
    text(async () => (await alive(gone)).replace(" server", " server later=1")),
    "ends",
  ],
  ["with a host name that is none", text(() => alive({ ...gone, of: { host: "../$(id) x" } })), "ends"],
  [
    "who asked the fence for the key's owner's neighbour",
    text(() => alive({ organization: organizationHash("green") })),
    "waits",
  ],
  [
    "of a neighbour's key, who asked the fence for the fenced",
    text(() => alive({ key: "uploads/green/1", organization: organizationHash("red") })),
    "waits",
  ],
  [
    "of a neighbour's key, who asked the fence for a path",
    text(() => alive({ key: "uploads/green/1", organization: "../../x" })),
    "waits",
  ],
  [
    "of a neighbour",
    text(() => alive({ key: "uploads/green/1", organization: organizationHash("green") })),
    "ends",
  ],
  ["of a key without an owner", text(() => alive({ key: "nobodys" })), "waits"],
  ["who has not completed its announcement", text(() => "1234 5"), "ends"],
  ["who has not begun its announcement", text(() => ""), "ends"],
  ["who announces garbage", text(() => "garbage\n"), "waits"],
  ["who announces a key of two lines", text(async () => `${await alive(gone)}uploads/red/2\n`), "waits"],
  ["who announces a megabyte", text(() => "1 1\n".padEnd(1 << 20, "x")), "waits"],
  ["who announces a folder", async (path) => void (await mkdir(path)), "waits"],
  ["who announces a link", async (path) => symlink("/dev/zero", path), "waits"],
  ["who announces a pipe", async (path) => void execFileSync("mkfifo", [path]), "waits"],
  ["who announced in 1970, by a clock of its own", (path) => dated(path, 0), "waits"],
  ["who announced in 2100, by a clock of its own", (path) => dated(path, 4_102_444_800), "waits"],
];

async function dated(path: string, seconds: number): Promise<void> {
  await writeFile(path, await alive({ ...gone, of: { pidNamespace: "1" } }));
  await utimes(path, seconds, seconds);
}

/** Begins a drain; `waiting` resolves with whom it names past its grace. */
function begin() {
  const abort = new AbortController();
  let named: string[] | null = null;
  let result: Result | null = null;
  const done = fence
    .drain({
      store: "objects",
      migrationId,
      graceMs: 0,
      signal: abort.signal,
      ownerOf,
      onWaiting: (texts) => {
        named = texts;
      },
    })
    .then(
      ({ stragglers }) => {
        result = "ends";
        return stragglers;
      },
      () => [],
    );
  const settled = async (): Promise<Result> => {
    await until("the drain has ended, or names whom it waits for", () => result !== null || named !== null);
    return result ?? "waits";
  };
  const end = async () => {
    abort.abort(new Error("over"));
    await done;
  };
  return { settled, end, done, named: () => named ?? [] };
}

test.each(KINDS)("a writer %s", async (_kind, announce, expected) => {
  await staged(pod0, "source");
  await announce(at("before"));
  await fence.setShares(migrationId, pod0, shares("fenced", "source"));
  const first = begin();
  expect(await first.settled()).toBe(expected);
  // Whoever is waited for is named, with the file where it is not seen.
  if (expected === "waits") expect(first.named()[0]).toMatch(/uploads|nobodys|before/);
  await first.end();
  // Later ones read the fence that is there: neither while it drains nor after that is anybody waited for.
  await writeFile(at("held"), await alive());
  const second = begin();
  expect(await second.settled()).toBe("waits");
  const waited = second.named().length;
  await announce(at("while"));
  await until("it was looked at again", () => second.named().length > 0);
  expect(second.named()).toHaveLength(waited);
  await second.end();
});

test("a process id that is another's is never signalled, whatever is announced of it", async () => {
  await staged(pod0, "source");
  const bystander = spawn("sleep", ["60"], { stdio: "ignore" });
  await until("it runs", () => bystander.pid !== undefined);
  const pid = bystander.pid as number;
  const { readFile } = await import("node:fs/promises");
  const stat = await readFile(`/proc/${pid}/stat`, "utf8");
  const startTime = stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] as string;
  const announced = { pid, startTime, server: false };
  await writeFile(at("container"), await alive({ ...announced, of: { pidNamespace: "1" } }));
  await writeFile(at("machine"), await alive({ ...announced, of: { boot: OTHER_BOOT } }));
  await writeFile(at("older"), await alive({ ...announced, view: null }));
  await writeFile(at("reused"), await alive({ ...announced, startTime: "1" }));
  await fence.setShares(migrationId, pod0, shares("fenced"));
  const draining = begin();
  const { setTimeout: sleep } = await import("node:timers/promises");
  await until("all three are waited for", () => draining.named().length === 3);
  // Longer than from SIGTERM to SIGKILL.
  await sleep(150);
  await draining.end();
  expect(bystander.signalCode).toBeNull();
  bystander.kill("SIGKILL");
  await exited(bystander);
});

test("a worker that is frozen is ended after the grace", async () => {
  await staged(pod0, "source");
  const frozen = startWriter(1, "red", 60_000);
  await until("it is writing", () => frozen.lines().length > 0);
  frozen.child.kill("SIGSTOP");
  await fence.setShares(migrationId, pod0, shares("fenced"));
  const draining = begin();
  expect(await draining.done).toHaveLength(1);
  await exited(frozen.child);
});

test("a writer whose announcement was taken away is not told that it wrote", async () => {
  await staged(pod0, "source");
  const { rename } = await import("node:fs/promises");
  const write = withWriteIntent({ control, store: "objects", key: KEY, organizationId: "red" }, async () => {
    const [name] = (await readdir(join(control, "inflight/objects"))) as [string];
    await rename(at(name), join(control, "dirty/objects", name));
  });
  await expect(write).rejects.toMatchObject({ code: "WRITE_REVOKED" });
});

test("what an operator moved although nobody can read it is looked for everywhere", async () => {
  await staged(pod0, "source");
  await writeFile(join(control, "dirty/objects/moved"), "garbage\n");
  const [entry] = await fence.takeDirty("objects");
  expect(entry).toMatchObject({ id: "moved", key: null });
  await fence.acknowledgeDirty("objects", "moved");
  expect(await fence.takeDirty("objects")).toEqual([]);
});

test("a deletion is announced as one", async () => {
  await staged(pod0, "source");
  const told = { control, store: "objects", organizationId: "red" } as const;
  await withWriteIntent({ ...told, key: KEY }, async () => undefined);
  await withWriteIntent({ ...told, key: "uploads/red/2", change: "delete" }, async () => undefined);
  const entries = await fence.takeDirty("objects");
  expect(Object.fromEntries(entries.map(({ key, change }) => [key, change]))).toEqual({
    [KEY]: "write",
    "uploads/red/2": "delete",
  });
  expect(entries.every(({ organization }) => organization === organizationHash("red"))).toBe(true);
});
