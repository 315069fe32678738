/** What a new Pod changes flows back to the copy that it left behind, on real servers. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { backName } from "../../../../../agent/stores/postgres/split/slots.ts";
import { createPostgresStore, type PostgresStore } from "../../../../../agent/stores/postgres/store.ts";
import { eventually } from "../../../../support/eventually.ts";
import { BackPods, TARGET } from "../../../../support/postgres/back-pods.ts";
import { MIGRATION, never, SOURCE } from "../../../../support/postgres/pods.ts";

let back: BackPods;

beforeEach(async () => {
  back = await BackPods.assemble();
});
afterEach(() => back.remove());

/** Every kind of change, to rows of organization 1. */
const CHANGES = `
INSERT INTO notes (organization_id, body) VALUES (1, 'new'), (1, repeat('long ', 5000));
UPDATE notes SET body = (SELECT string_agg(md5(g::text), '') FROM generate_series(1, 3000) g) WHERE id = 10;
INSERT INTO lines SELECT 1000 + id, id, 'another' FROM notes WHERE organization_id = 1;
DELETE FROM notes WHERE id = 20;
UPDATE events SET month = 1 + month WHERE organization_id = 1;
DELETE FROM events WHERE organization_id = 1 AND id < 50;`;

describe("reverse replication of a split", () => {
  it("is refused before anything moves where it cannot be had, with what else can be done", async () => {
    const duty = back.pods.duty(SOURCE, "prepare");
    const errors = async (store: PostgresStore) =>
      (await store.preflight(duty, "start", AbortSignal.timeout(30_000))).filter(
        ({ severity }) => severity === "error",
      );
    expect(await errors(back.source)).toEqual([]);
    const options = back.pods.optionsOf(SOURCE);
    const alone = createPostgresStore({ ...options, peers: {} });
    const found = await errors(alone);
    await alone.close();
    expect(found).toMatchObject([
      {
        code: "CONFIG_INVALID",
        message: expect.stringMatching(/peers\.pod-100\.postgres .*reverseReplication: none/),
      },
    ]);
    await back.pods.source.query("ALTER TABLE lines DROP CONSTRAINT lines_pkey");
    await back.pods.source.stop();
    await back.pods.source.resume({ wal_level: "replica" });
    expect((await errors(back.source)).map(({ code }) => code).sort()).toEqual([
      "POSTGRES_SETTING",
      "REPLICA_IDENTITY_MISSING",
    ]);
  });

  it("carries every change to the copy, and nothing of neighbours", async () => {
    await back.split();
    const there = await back.client("target");
    const here = await back.client("source");
    const neighbours = await back.rows("source", 3);
    await there.query(CHANGES);
    // A large value that did not change is not in the stream.
    await there.query("UPDATE notes SET organization_id = 1 WHERE id = 10");
    await here.query("INSERT INTO notes (organization_id, body) VALUES (5, 'a neighbour goes on')");
    await back.arrived(1);
    await back.arrived(2);
    expect(await back.rows("source", 3)).toEqual(neighbours);
    await back.level();
    await expect(here.query("UPDATE notes SET body = 'x' WHERE id = 10")).rejects.toMatchObject({
      code: "CL421",
      detail: TARGET,
    });
    await eventually(() => expect(back.there.status(MIGRATION)?.keptBytes).toBeGreaterThan(0));
    await there.query("UPDATE notes SET body = 'more' WHERE id = 30");
    expect(
      (await there.query("SELECT FROM cleave.touched WHERE migration_id = 'split-1' AND key = '{30}'"))
        .rowCount,
    ).toBe(1);
  });

  it("is armed before the new Pod opens", async () => {
    await back.follow();
    await back.match();
    await back.activate();
    const there = await back.client("target");
    expect(
      (await there.query("SELECT slot_name FROM pg_replication_slots WHERE slot_type = 'logical'")).rows,
    ).toEqual([{ slot_name: backName(MIGRATION, TARGET) }]);
    await back.there.reach(back.pods.duty(TARGET, "open", { epoch: 1, phase: "opened" }), never);
    // Before the source is told, and before anything reads the slot.
    await there.query(CHANGES);
    await back.source.reach(back.pods.duty(SOURCE, "yield", { epoch: 1, phase: "opened" }), never);
    await back.arrived(1);
    await back.level();
  });

  it("goes on where it was after a restart of either agent", async () => {
    await back.split();
    await back.level();
    const there = await back.client("target");
    await back.source.close();
    await there.query(CHANGES);
    back.source = back.pods.store(SOURCE);
    await back.source.reach(back.pods.duty(SOURCE, "yield", { epoch: 1, phase: "opened" }), never);
    await back.arrived(1);
    await back.there.close();
    back.there = back.pods.store(TARGET);
    await back.there.reach(back.pods.duty(TARGET, "open", { epoch: 1, phase: "opened" }), never);
    await there.query("UPDATE notes SET body = 'again' WHERE id = 30");
    await back.arrived(1);
    await back.level();
  });

  it("finds what differs, and names it", async () => {
    await back.split();
    await back.level();
    const here = await back.client("source");
    await here.query(
      "SET session_replication_role = replica; SET SESSION AUTHORIZATION cleave_apply; UPDATE notes SET body = 'rotten' WHERE id = 40",
    );
    await back.source.close();
    back.source = back.pods.store(SOURCE);
    await back.source.reach(back.pods.duty(SOURCE, "yield", { epoch: 1, phase: "opened" }), never);
    await eventually(() => {
      expect(back.reverseReplication.problem).toMatchObject({
        code: "MISMATCH",
        message: expect.stringMatching(/public\.notes with key \(40\)/),
      });
    }, 15_000);
    expect(back.reverseReplication.verified).toBe(false);
  });

  it.each([
    [
      "TRUNCATE past the guard does not",
      "ALTER EVENT TRIGGER cleave_guard_ddl DISABLE; ALTER TABLE lines DISABLE TRIGGER ALL; TRUNCATE lines",
      null,
      null,
    ],
    [
      "a row that is given away does not",
      "UPDATE notes SET organization_id = 2 WHERE id = 10; SELECT 1",
      null,
      null,
    ],
    [
      "a slot that is gone",
      `SELECT pg_terminate_backend(active_pid), pg_sleep(0.2) FROM pg_replication_slots WHERE active; SELECT pg_drop_replication_slot('${backName(MIGRATION, TARGET)}')`,
      "REVERSE_REPLICATION_GONE",
      /is not there/,
    ],
  ])("says what keeps it from going on: %s", async (_name, sql, code, message) => {
    await back.split();
    await back.level();
    const there = await back.client("target");
    await there.query(sql);
    if (code === null) {
      await back.arrived(2);
      return await back.level();
    }
    await eventually(() => {
      expect(back.reverseReplication.problem).toMatchObject({
        code,
        message: expect.stringMatching(message),
      });
    }, 15_000);
  });

  it("is taken down on both sides when it is given up, and by the end of the retention", async () => {
    await back.split();
    await back.level();
    const there = await back.client("target");
    const given = { epoch: 1, phase: "opened", reverseReplication: [] } as const;
    await back.source.reach(back.pods.duty(SOURCE, "yield", given), never);
    await back.there.reach(back.pods.duty(TARGET, "open", given), never);
    expect(back.source.status(MIGRATION)?.reverseReplication).toBeUndefined();
    const left =
      "SELECT slot_name AS name FROM pg_replication_slots WHERE slot_type = 'logical' UNION ALL SELECT roname FROM pg_replication_origin UNION ALL SELECT pubname FROM pg_publication";
    await eventually(async () => {
      for (const of of ["source", "target"] as const)
        expect((await (await back.client(of)).query(left)).rows).toEqual([]);
      expect((await there.query("SELECT back FROM cleave.share")).rows).toEqual([{ back: false }]);
    });
    await there.query("UPDATE notes SET body = 'not noted' WHERE id = 30");
    expect((await there.query("SELECT FROM cleave.touched")).rowCount).toBe(0);
    await back.there.close();
    back.there = back.pods.store(TARGET);
    await back.there.reach(back.pods.duty(TARGET, "open", given), never);
  });
});
