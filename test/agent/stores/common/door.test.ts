/** What the doors of stores do alike; each store's own tests show it with real roles. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { Door, Listeners } from "../../../../agent/stores/common/door.ts";
import { guarded, notReady } from "../../../../agent/stores/common/findings.ts";
import { Ending } from "../../../../agent/stores/common/removal/ending.ts";
import {
  hasOnlyEndings,
  letRollbacksGo,
  type Role,
  type RoleMakers,
  takeTurn,
} from "../../../../agent/stores/common/roles.ts";
import { StateFile } from "../../../../agent/stores/common/state-file.ts";
import { CleaveError } from "../../../../protocol/errors.ts";
import type { StoreStatus } from "../../../../protocol/evidence.ts";
import type { MigrationId } from "../../../../protocol/ids.ts";
import type { Duty } from "../../../../protocol/ports/store.ts";

const id = (name: string) => name as MigrationId;
const duty = (change: Partial<Duty>) =>
  ({ migrationId: id("split-1"), role: "source", goal: "serve", rollbacks: [], ...change }) as Duty;
const status = (change: Partial<StoreStatus>): StoreStatus => ({
  goal: "serve",
  reached: true,
  progress: null,
  lag: null,
  verified: true,
  evidence: null,
  problems: [],
  stragglers: [],
  ...change,
});

class FakeRole implements Role {
  readonly of: Duty["of"];
  readonly calls: string[] = [];
  constructor(of: Duty["of"] = null) {
    this.of = of;
  }
  async reach(): Promise<void> {}
  status = () => status({});
  async close(): Promise<void> {
    this.calls.push("closed");
  }
  async letGo(): Promise<void> {
    this.calls.push("let go");
  }
}

const makers: RoleMakers = {
  source: () => new FakeRole(),
  target: () => new FakeRole(),
  ending: () => new Ending({} as never),
};

test("listeners hear until they end, and those that come meanwhile hear the next time", () => {
  const listeners = new Listeners();
  const heard: string[] = [];
  const end = listeners.add(() => {
    heard.push("first");
    listeners.add(() => heard.push("second"));
    end();
  });
  listeners.tell();
  expect(heard).toEqual(["first"]);
  listeners.tell();
  expect(heard).toEqual(["first", "second"]);
  listeners.clear();
  listeners.tell();
  expect(heard).toEqual(["first", "second"]);
});

describe("roles take turns", () => {
  test("one answers for a migration until its end, which closes it; a removal that is paused brings another", async () => {
    const door = new Door<Role>();
    expect(door.status(id("split-1"))).toBeNull();
    const first = (await takeTurn(door, duty({}), makers)) as FakeRole;
    expect(await takeTurn(door, duty({ goal: "removeFiles" }), makers)).toBe(first);
    expect(door.status(id("split-1"))).toEqual(status({}));
    expect(hasOnlyEndings(door)).toBe(false);
    const end = await takeTurn(door, duty({ goal: "removeRows" }), makers);
    expect(end).toBeInstanceOf(Ending);
    expect(first.calls).toEqual(["closed"]);
    expect(hasOnlyEndings(door)).toBe(true);
    expect(await takeTurn(door, duty({ goal: "removeRows" }), makers)).toBe(end);
    const again = await takeTurn(door, duty({ goal: "yield" }), makers);
    expect(again).toBeInstanceOf(FakeRole);
    expect(again).not.toBe(first);
    door.forget(id("split-1"));
    expect(door.status(id("split-1"))).toBeNull();
  });

  test("rollbacks that are none any more let go, and no others", async () => {
    const door = new Door<Role>();
    const gone = door.admit(id("back-1"), new FakeRole(id("split-1")));
    const kept = door.admit(id("back-2"), new FakeRole(id("split-1")));
    const others = door.admit(id("back-3"), new FakeRole(id("split-2")));
    const none = door.admit(id("split-1"), new FakeRole());
    await letRollbacksGo(door, duty({ rollbacks: [{ migrationId: id("back-2") } as never] }));
    expect([gone, kept, others, none].map(({ calls }) => calls.length)).toEqual([1, 0, 0, 0]);
  });
});

describe("findings", () => {
  const problems = [{ code: "MISMATCH", message: "differs" }];
  const readiness = { store: "git", unreached: "not yet", problemsOfUnreached: "first" } as const;
  const codes = (...of: Parameters<typeof notReady>) => notReady(...of).map(({ code }) => code);

  test("before a fence are the problems, and that what comes before is not reached", () => {
    expect(codes({ ...readiness, status: status({}) })).toEqual([]);
    expect(codes({ ...readiness, status: status({ problems }) })).toEqual(["MISMATCH"]);
    expect(codes({ ...readiness, status: null })).toEqual(["COMMAND_NOT_POSSIBLE"]);
    const unreached = { ...readiness, status: status({ reached: false, problems }) };
    expect(codes(unreached)).toEqual(["MISMATCH", "COMMAND_NOT_POSSIBLE"]);
    expect(codes({ ...unreached, problemsOfUnreached: "never" })).toEqual(["COMMAND_NOT_POSSIBLE"]);
  });

  test("are what a check throws, unless it was called away", async () => {
    const check = (error: Error, signal = new AbortController().signal) =>
      guarded("objects", "OBJECT_UNREADABLE", signal, async () => {
        throw error;
      });
    expect(await check(new Error("x".repeat(3_000)))).toEqual([
      { store: "objects", severity: "error", code: "OBJECT_UNREADABLE", message: "x".repeat(2_000) },
    ]);
    expect(await check(new CleaveError("DISK_FULL", "full"))).toMatchObject([{ code: "DISK_FULL" }]);
    await expect(check(new Error("x"), AbortSignal.abort(new Error("away")))).rejects.toThrow("away");
  });
});

test("a state file is there or not, replaced as a whole, and added to", async () => {
  const folder = await mkdtemp(join(tmpdir(), "cleave-state-"));
  try {
    const file = new StateFile(folder, "copies/split-1.json");
    expect(await file.readIfPresent()).toBeNull();
    await file.remove();
    await file.makeFolder();
    await file.replace("one\n", { durable: true });
    await file.append("two\n");
    expect(await file.readIfPresent()).toBe("one\ntwo\n");
    await file.remove();
    expect(await file.readIfPresent()).toBeNull();
    await file.makeFolder();
    await expect(new StateFile(folder, "copies").readIfPresent()).rejects.toMatchObject({ code: "EISDIR" });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
