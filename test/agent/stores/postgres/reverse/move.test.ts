/** The way back of a move: the target serves neighbours, and what it was sent before it opened came from the source. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { backName } from "../../../../../agent/stores/postgres/split/slots.ts";
import { Ownership } from "../../../../../protocol/ownership.ts";
import { eventually } from "../../../../support/eventually.ts";
import { ADMINISTERED } from "../../../../support/postgres/back-pods.ts";
import { FROM, MovePods, TO } from "../../../../support/postgres/move-pods.ts";

const SCHEMA = `
CREATE TABLE orgs (id bigint PRIMARY KEY);
CREATE TABLE notes (id bigint PRIMARY KEY, org_id bigint NOT NULL, body text);`;
const RULES = Ownership.parse({
  version: 1,
  root: { table: "public.orgs" },
  tables: { "public.notes": { organization: "org_id" } },
});
const NOTES = "SELECT * FROM notes WHERE org_id = 2 ORDER BY id";

let pods: MovePods;

beforeEach(async () => {
  pods = await MovePods.start(SCHEMA, RULES, ["2"]);
  pods.reverseReplication = [TO];
  await pods.source.query(
    "INSERT INTO orgs SELECT generate_series(1, 3); INSERT INTO notes SELECT g, 1 + g % 3, 'x' FROM generate_series(1, 300) g",
  );
});
afterEach(() => pods.remove());

describe("reverse replication of a move", () => {
  it("carries what the target wrote, and not what it was sent", async () => {
    expect(
      [...(await pods.preflight(FROM)), ...(await pods.preflight(TO))].filter((f) => f.severity === "error"),
    ).toEqual([]);
    await pods.follow();
    // Behind the slot's position: applied there, so that the stream has it, with where it came from.
    await pods.source.query(
      "INSERT INTO notes SELECT g, 2, 'late' FROM generate_series(1001, 1100) g; UPDATE notes SET body = 'changed' WHERE org_id = 2 AND id < 100",
    );
    const evidence = await pods.fence(1);
    expect(evidence.target).toBe(evidence.source);
    await pods.transfer(1);
    await pods.target.query(
      "INSERT INTO notes VALUES (5001, 2, 'there'); UPDATE notes SET body = 'there' WHERE id = 1001; DELETE FROM notes WHERE id = 1002",
    );
    await eventually(async () => {
      const way = pods.status(FROM).reverseReplication?.[TO];
      expect(way).toMatchObject({ verified: true, problem: null, lag: { amount: 0 } });
      expect(await pods.source.query(NOTES)).toEqual(await pods.target.query(NOTES));
    }, 20_000);
    expect(await pods.source.query("SELECT count(*)::int AS n FROM notes WHERE org_id <> 2")).toEqual([
      { n: 200 },
    ]);
  });

  it("is not opened without its slot", async () => {
    await pods.follow();
    await pods.fence(1);
    await pods.target.query(`SELECT pg_drop_replication_slot('${backName(pods.migrationId, TO)}')`);
    await expect(pods.reach(TO, "activate", { epoch: 1, phase: "transferred" })).rejects.toMatchObject({
      code: "REVERSE_REPLICATION_GONE",
    });
  });

  it("leaves nothing behind when the move is aborted", async () => {
    await pods.follow();
    expect(await pods.target.query(ADMINISTERED)).toHaveLength(3);
    await Promise.all([pods.reach(FROM, "release"), pods.reach(TO, "release")]);
    for (const cluster of [pods.source, pods.target]) {
      expect(await cluster.query(ADMINISTERED)).toEqual([]);
      expect(await cluster.query("SELECT rolname FROM pg_roles WHERE rolname = 'cleave_apply'")).toEqual([]);
    }
    expect(await pods.target.query("SELECT FROM orgs")).toEqual([]);
  });
});
