/** Batches of dormant rows on real servers: undone when in doubt, cut off at any of them and gone on with, slow when others suffer. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { readSchema } from "../../../../../agent/stores/postgres/inventory/schema.ts";
import { removeFromTable } from "../../../../../agent/stores/postgres/removal/batches.ts";
import { PACE } from "../../../../../agent/stores/postgres/removal/pace.ts";
import { requireDormant } from "../../../../../agent/stores/postgres/removal/scope.ts";
import { type DormantTable, dormantTables } from "../../../../../agent/stores/postgres/removal/tables.ts";
import { connect, type Database, discard } from "../../../../../agent/stores/postgres/server/connection.ts";
import type { OrganizationId } from "../../../../../protocol/ids.ts";
import type { Removal } from "../../../../../protocol/ports/store.ts";
import { eventually } from "../../../../support/eventually.ts";
import { FROM, type MovePods } from "../../../../support/postgres/move-pods.ts";
import type { Cluster } from "../../../../support/postgres/postgres.ts";
import {
  contents,
  counts,
  leave,
  OPENED,
  RULES,
  removalPods,
} from "../../../../support/postgres/removal-pods.ts";

let pods: MovePods;
beforeEach(async () => {
  pods = await removalPods();
}, 60_000);
afterEach(() => pods.remove(), 60_000);

describe("after everything was walked through", () => {
  it("a row that is there all the same is found, and the migration does not settle", async () => {
    await leave(pods);
    await pods.source.query(
      `CREATE FUNCTION revive() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.budgets VALUES (99, 2); RETURN OLD; END';
       CREATE TRIGGER revive BEFORE DELETE ON orgs FOR EACH ROW EXECUTE FUNCTION revive();
       ALTER TABLE orgs ENABLE ALWAYS TRIGGER revive`,
    );
    await expect(pods.reach(FROM, "removeRows", OPENED)).rejects.toMatchObject({
      code: "REMOVAL_DISAGREES",
      message: expect.stringMatching(/public\.budgets .* key \(99\)/),
    });
    expect(await pods.source.query("SELECT migration_id FROM cleave.route")).toEqual([
      { migration_id: pods.migrationId },
    ]);
    // What is left is removed when it is tried again.
    await pods.reach(FROM, "removeRows", OPENED);
    expect(await counts(pods.source, "= 2")).toBe(0);
    // The agent asks for less when the operator pauses: nothing that was settled is missed.
    await pods.reach(FROM, "yield", OPENED);
  }, 60_000);
});

describe("a batch", () => {
  it("keeps routes and shares as they are until it is committed", async () => {
    await leave(pods);
    const [db, other] = [await pods.source.connect(), await pods.source.connect()];
    try {
      await db.query("BEGIN");
      await requireDormant(db, pods.duty(FROM, "removeRows", OPENED), ["2" as OrganizationId]);
      await other.query("SET lock_timeout = 100");
      for (const flip of [
        "UPDATE cleave.route SET migration_id = 'another' WHERE organization_id = '2'",
        "INSERT INTO cleave.route VALUES ('3', 'pod-1', NULL, NULL)",
        "UPDATE cleave.share SET phase = 'fenced'",
      ])
        await expect(other.query(flip), flip).rejects.toMatchObject({ code: "55P03" });
      // Neighbours' writers only read them.
      await other.query("INSERT INTO projects VALUES (200, 3)");
    } finally {
      await Promise.all([db.end(), other.end()]);
    }
  }, 60_000);

  it("with a row that the guard's rule gives to a neighbour is undone", async () => {
    await leave(pods);
    const db = await pods.source.connect();
    try {
      await db.query("SET session_replication_role = replica; SET search_path = pg_catalog");
      await db.query("CREATE ROLE cleave_apply SUPERUSER NOLOGIN; SET SESSION AUTHORIZATION cleave_apply");
      const tables = dormantTables(await readSchema(db), RULES);
      for (const name of ["public.issues", "public.comments"]) {
        const table = tables.find((one) => one.name === name) as DormantTable;
        const before = await contents(pods.source, "IS NOT NULL");
        for (const key of [table.key, null])
          await expect(
            removeFromTable(
              db,
              // As a selection that is wrong about one row of its first batch.
              {
                ...table,
                key,
                owned: `(${table.owned} OR "row".${name === "public.issues" ? "id" : "issue_id"} = 1)`,
              },
              ["2" as OrganizationId],
              100,
              { allow: async () => undefined, removed: async () => expect.fail("committed") },
            ).catch((error: unknown) => {
              if ((error as { code?: string }).code !== "REMOVAL_DISAGREES") throw error;
              return "undone";
            }),
          ).resolves.toBe("undone");
        expect(await contents(pods.source, "IS NOT NULL")).toEqual(before);
      }
    } finally {
      await db.end();
    }
  }, 60_000);
});

describe("a removal that is cut off", () => {
  /** Calls `then` after so many batches were permitted. */
  const permits = (batches: number, then: () => boolean): Removal => {
    let left = batches + 1;
    return { mayRemove: () => (left-- > 0 ? true : then()) };
  };

  it.each<[string, (abort: AbortController) => Removal]>([
    [
      "by another duty",
      (abort) =>
        permits(5, () => {
          abort.abort(new Error("another duty"));
          return true;
        }),
    ],
    ["by the log", () => permits(5, () => false)],
    [
      "by the end of the server",
      () =>
        permits(5, () => {
          void pods.source.kill();
          return true;
        }),
    ],
  ])(
    "%s goes on where it was",
    async (_, removalOf) => {
      await leave(pods);
      const neighbours = await contents(pods.source, "<> 2");
      const dormant = await counts(pods.source, "= 2");
      const abort = new AbortController();
      const duty = pods.duty(FROM, "removeRows", { ...OPENED, removal: removalOf(abort) });
      await expect(pods.store(FROM).reach(duty, abort.signal)).rejects.toThrow();
      await pods.restart(FROM);
      await pods.source.kill();
      await pods.source.resume();
      const left = await counts(pods.source, "= 2");
      expect(left).toBeGreaterThan(0);
      expect(left).toBeLessThan(dormant);
      await pods.reach(FROM, "removeRows", OPENED);
      expect(await counts(pods.source, "= 2")).toBe(0);
      expect(await contents(pods.source, "<> 2")).toEqual(neighbours);
    },
    60_000,
  );

  it("by a route that another migration stages meanwhile stops at that batch", async () => {
    await leave(pods);
    const db = await pods.source.connect();
    let staged: Promise<unknown> = Promise.resolve();
    let asked = 0;
    const removal: Removal = {
      mayRemove: () => {
        asked += 1;
        // Waits for the batch under way, which holds the routes.
        if (asked === 4)
          staged = db.query("UPDATE cleave.route SET migration_id = 'another' WHERE organization_id = '2'");
        return true;
      },
    };
    await expect(pods.reach(FROM, "removeRows", { ...OPENED, removal })).rejects.toMatchObject({
      code: "REMOVAL_NOT_ALLOWED",
      message: expect.stringMatching(/staged here for the migration another/),
    });
    await staged;
    await db.end();
    expect(await counts(pods.source, "= 2")).toBeGreaterThan(0);
  }, 60_000);

  it("waits while a replica of this server is far behind, and says so", async () => {
    pods.pace = { ...PACE, batchRows: 100, lagBoundBytes: 100_000 };
    await leave(pods);
    const replica = await silentReplica(pods.source);
    await pods.source.query(
      "INSERT INTO issues (project_id, title) SELECT 2, repeat('x', 200) FROM generate_series(1, 2000)",
    );
    const dormant = await counts(pods.source, "= 2");
    const reached = pods.reach(FROM, "removeRows", OPENED);
    await eventually(() => {
      expect(pods.status(FROM).problems).toMatchObject([
        { message: expect.stringMatching(/replica slow, .* MB behind/) },
      ]);
    });
    expect(await counts(pods.source, "= 2")).toBe(dormant);
    discard(replica);
    await reached;
    expect(await counts(pods.source, "= 2")).toBe(0);
    expect(pods.status(FROM).problems).toEqual([]);
  }, 60_000);
});

/** Streams from the server's present position, and never says again that it received anything. */
async function silentReplica(cluster: Cluster): Promise<Database> {
  const [row] = await cluster.query<{ lsn: string; bytes: string }>(
    "SELECT lsn::text AS lsn, (lsn - '0/0'::pg_lsn)::text AS bytes FROM pg_current_wal_flush_lsn() AS lsn",
  );
  const { lsn, bytes } = row as { lsn: string; bytes: string };
  const replica = await connect(cluster.connection, { applicationName: "slow", replication: "server" });
  const { connection } = replica as unknown as {
    connection: { once(event: string, then: () => void): void; sendCopyFromChunk(chunk: Buffer): void };
  };
  const streaming = new Promise<void>((resolve) => connection.once("replicationStart", resolve));
  void replica.query(`START_REPLICATION PHYSICAL ${lsn}`).catch(() => undefined);
  await streaming;
  const status = Buffer.alloc(34);
  status.write("r");
  for (const at of [1, 9, 17]) status.writeBigUInt64BE(BigInt(bytes), at);
  connection.sendCopyFromChunk(status);
  await eventually(async () => {
    expect(await cluster.query("SELECT FROM pg_stat_replication WHERE flush_lsn IS NOT NULL")).toHaveLength(
      1,
    );
  });
  return replica;
}
