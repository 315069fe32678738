/** The base copy of a move when things go wrong: what is done stays done, and nothing of two moments is mixed. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { BaseCopyOptions } from "../../../../../agent/stores/postgres/replication/base-copy.ts";
import type { CopyProgress } from "../../../../../agent/stores/postgres/replication/copy.ts";
import { RateLimit } from "../../../../../agent/stores/postgres/replication/rate.ts";
import { Ownership } from "../../../../../protocol/ownership.ts";
import { LogicalPods } from "../../../../support/postgres/logical-pods.ts";

const SCHEMA = `
CREATE TABLE orgs (id bigint PRIMARY KEY, name text);
CREATE TABLE projects (id uuid PRIMARY KEY, org_id bigint NOT NULL);
CREATE TABLE files (project_id uuid, path text, part int, body text, PRIMARY KEY (project_id, path, part));
CREATE TABLE odd (id char(12) PRIMARY KEY, org_id bigint NOT NULL);`;

const RULES = Ownership.parse({
  version: 1,
  root: { table: "public.orgs" },
  tables: {
    "public.projects": { organization: "org_id" },
    "public.files": { parent: "public.projects", column: "project_id" },
    "public.odd": { organization: "org_id" },
  },
});

/** Half of everything is organization 1's; paths have what COPY has to escape. */
const DATA = `
INSERT INTO orgs SELECT g, 'org ' || g FROM generate_series(1, 2) g;
INSERT INTO projects SELECT md5('p' || g)::uuid, 1 + g % 2 FROM generate_series(1, 40) g;
INSERT INTO files SELECT md5('p' || g % 40 + 1)::uuid, E'a\\tb\\\\c\\nd' || g % 50, g, repeat(md5(g::text), 5) FROM generate_series(1, 20000) g;
INSERT INTO odd SELECT g, 1 FROM generate_series(1, 50) g;
ANALYZE;`;

/** Small enough that there are many ranges and many transactions. */
const SMALL = { division: { rangeRows: 1_000, fewRanges: 4 }, chunkBytes: 50_000 };

let pods: LogicalPods;

beforeEach(async () => {
  pods = await LogicalPods.start(SCHEMA, RULES);
  await pods.source.query(DATA);
  await pods.target.query("INSERT INTO orgs VALUES (7, 'seven'); INSERT INTO odd VALUES ('x', 7);");
});
afterEach(async () => {
  await pods?.remove();
});

/** Lets `count` transactions through and then does `what`, once. */
function onTransaction(count: number, what: () => Promise<unknown>): Pick<BaseCopyOptions, "throttle"> {
  let left = count;
  let done: Promise<unknown> | null = null;
  return {
    // Nobody goes on meanwhile: on a slow machine the others would be through with everything.
    throttle: async () => {
      left -= 1;
      if (left <= 0) done ??= what();
      await done;
    },
  };
}

const ranges = (where: string) =>
  pods.target.query<{ n: number; rows: number }>(
    `SELECT count(*)::int AS n, COALESCE(sum(rows), 0)::int AS rows FROM cleave.copied WHERE ${where}`,
  );

async function expectEqual(): Promise<void> {
  expect(await pods.differences()).toEqual([]);
  expect(await pods.target.query("SELECT count(*)::int AS n FROM files")).toEqual([{ n: 10_000 }]);
  expect(await pods.target.query("SELECT count(*)::int AS n FROM odd WHERE org_id = 7")).toEqual([{ n: 1 }]);
}

describe("a table is divided by its key", () => {
  it("into ranges that have every row once, with progress towards what was estimated", async () => {
    const seen: CopyProgress[] = [];
    const tables: [string, number][] = [];
    const rows = await pods.copy(["1"], {
      ...SMALL,
      onProgress: (progress) => seen.push(progress),
      onTable: (table, count) => tables.push([table, count]),
    });
    expect(rows).toBe(1 + 20 + 10_000 + 50);
    await expectEqual();
    const parts = await pods.target.query<{ rows: number }>(
      `SELECT rows::int FROM cleave.copied WHERE "table" = 'public.files'`,
    );
    expect(parts.length).toBeGreaterThan(5);
    // Of about the same size.
    expect(Math.max(...parts.map(({ rows: n }) => n))).toBeLessThan(4_000);
    const last = seen.at(-1) as CopyProgress;
    expect(last.rows).toBe(rows);
    expect(last.bytes).toBeGreaterThan(1_600_000);
    expect(last.estimatedRows).toBeGreaterThan(5_000);
    expect(last.estimatedRows).toBeLessThan(20_000);
    expect(seen.map((progress) => progress.rows)).toEqual([...seen.map((p) => p.rows)].sort((a, b) => a - b));
    expect(tables.sort()).toEqual([
      ["public.files", 10_000],
      ["public.odd", 50],
      ["public.orgs", 1],
      ["public.projects", 20],
    ]);
  });

  it("and of one whose rows are few and far between into few", async () => {
    await pods.source.query(
      "INSERT INTO orgs VALUES (3, 'three'); INSERT INTO projects SELECT md5('r' || g)::uuid, 3 FROM generate_series(1, 3) g; INSERT INTO files SELECT md5('r' || g % 3 + 1)::uuid, 'x', g FROM generate_series(1, 2000) g; ANALYZE",
    );
    await pods.copy(["3"], { ...SMALL, division: { rangeRows: 10, fewRanges: 4 } });
    expect(await pods.differences()).toEqual([]);
    expect((await ranges(`"table" = 'public.files'`))[0]?.n).toBeLessThanOrEqual(4);
  });
});

describe("a copy that was cut off", () => {
  it("goes on where it was after the target was killed", async () => {
    const restarts: string[] = [];
    const copy = await pods.baseCopy(["1"], {
      ...SMALL,
      // About half of them: how many there are depends on how much of the stream comes at once.
      ...onTransaction(15, () => pods.target.kill()),
      onRestart: (reason) => restarts.push(reason),
    });
    await expect(pods.run(copy)).rejects.toMatchObject({ code: "POSTGRES_UNREACHABLE" });
    await pods.target.resume();
    const [before] = await ranges("true");
    expect(before?.rows).toBeGreaterThan(1_000);
    // After the snapshot: the stream brings it, and no later attempt may.
    await pods.source.query("DELETE FROM files; INSERT INTO odd VALUES ('late', 1)");
    expect(await pods.run(copy)).toBe(10_071);
    expect(restarts).toEqual([]);
    pods.follow();
    await pods.caughtUp();
    expect(await pods.differences()).toEqual([]);
    copy.close();
  });

  it("goes on after its connections were ended on either side, again and again", async () => {
    const ended = (side: "source" | "target") =>
      pods[side].query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'cleave-copy'",
      );
    let transactions = 0;
    const copy = await pods.baseCopy(["1"], {
      ...SMALL,
      throttle: async () => {
        transactions += 1;
        if (transactions % 6 === 0) await ended(transactions % 12 === 0 ? "source" : "target");
      },
      onRestart: () => expect.unreachable("the snapshot was held"),
    });
    let attempts = 1;
    while (!(await pods.run(copy).catch(() => 0))) attempts += 1;
    expect(attempts).toBeGreaterThan(3);
    await expectEqual();
    copy.close();
  });

  it("by the death of whoever held the snapshot begins again, and says so", async () => {
    const restarts: string[] = [];
    const onRestart = (reason: string) => restarts.push(reason);
    const cut = new AbortController();
    const second = await pods.baseCopy(["1"], {
      ...SMALL,
      ...onTransaction(16, async () => cut.abort(new Error("killed"))),
    });
    await expect(second.run(cut.signal)).rejects.toThrow("killed");
    second.close();
    expect((await ranges("true"))[0]?.rows).toBeGreaterThan(100);
    // Somebody else's row with the key of one that was copied would not have been: these are the organization's.
    await pods.source.query("DELETE FROM files WHERE part % 3 = 0; UPDATE odd SET id = id || 'n'");
    const third = await pods.baseCopy(["1"], { ...SMALL, onRestart });
    await pods.run(third);
    expect(restarts).toEqual([expect.stringMatching(/snapshot of the source at .* is gone/)]);
    expect(await pods.differences()).toEqual([]);
    third.close();
  });

  it("when it was complete is not made again, for whoever asks", async () => {
    const first = await pods.baseCopy(["1"], SMALL);
    const lsn = await first.run(AbortSignal.timeout(60_000));
    first.close();
    const again = await pods.baseCopy(["1"], {
      ...SMALL,
      throttle: () => expect.unreachable("copied again"),
    });
    expect(await again.run(AbortSignal.timeout(60_000))).toBe(lsn);
    await again.remove();
    expect(await pods.target.query("SELECT count(*)::int AS n FROM files")).toEqual([{ n: 0 }]);
    const anew = await pods.baseCopy(["1"], SMALL);
    expect(await pods.run(anew)).toBe(10_071);
    anew.close();
    await expectEqual();
  });

  it("ends with the reason of its signal, while the source hangs", async () => {
    const cut = new AbortController();
    const hang = async () => {
      await pods.source.freeze();
      setTimeout(() => cut.abort(new Error("enough")), 100);
    };
    const copy = await pods.baseCopy(["1"], { ...SMALL, ...onTransaction(10, hang) });
    const running = copy.run(cut.signal);
    await expect(running).rejects.toThrow("enough");
    await pods.source.thaw();
    await pods.run(copy);
    copy.close();
    await expectEqual();
  });
});

it("whoever may not write any more is told so, and has changed nothing", async () => {
  const session = {
    setup: "SELECT 1",
    gate: "DO $$ BEGIN IF (SELECT count(*) FROM cleave.marker) > 0 THEN RAISE EXCEPTION USING ERRCODE = 'CL409', MESSAGE = 'opened'; END IF; END $$",
  };
  await pods.copy(["1"], { ...SMALL, session });
  await pods.target.query("INSERT INTO cleave.marker VALUES (9, 'x')");
  const again = await pods.baseCopy(["1"], { ...SMALL, session });
  await expect(again.remove()).rejects.toMatchObject({ code: "COMMAND_NOT_POSSIBLE", message: "opened" });
  await expectEqual();
});

it("no faster than it may", async () => {
  const startedAt = performance.now();
  await pods.copy(["1"], { ...SMALL, bytesPerSecond: 1_500_000 });
  // About 2.3 MB.
  expect(performance.now() - startedAt).toBeGreaterThan(1_000);
  const limit = new RateLimit(1_000);
  const stopped = AbortSignal.abort(new Error("stopped"));
  await limit.take(1, AbortSignal.timeout(1_000));
  await expect(limit.take(100_000, stopped)).rejects.toThrow();
});

it("waits for whoever writes when it begins, and no longer than its signal lets it", async () => {
  const writer = await pods.source.connect();
  await writer.query("BEGIN; INSERT INTO odd VALUES ('open', 1)");
  const copy = await pods.baseCopy(["1"], SMALL);
  await expect(copy.run(AbortSignal.timeout(1_000))).rejects.toMatchObject({ name: "TimeoutError" });
  await writer.query("COMMIT");
  await writer.end();
  expect(await pods.run(copy)).toBe(10_072);
  copy.close();
});
