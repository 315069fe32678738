/** Operators' checks as SQL, on a real server. */
import { afterAll, beforeAll, expect, it } from "vitest";
import { runChecks } from "../../../agent/hooks/checks.ts";
import { CheckConfig } from "../../../agent/hooks/config.ts";
import { readOnlyQuery } from "../../../agent/hooks/sql.ts";
import type { Duty } from "../../../protocol/ports/store.ts";
import { Cluster } from "../../support/postgres/postgres.ts";
import { migrationId, pod } from "../../support/story.ts";

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start({ podId: "pod-0" });
  await cluster.query(
    "CREATE TABLE migrations (id int, state text); INSERT INTO migrations VALUES (7, 'active')",
  );
});
afterAll(() => cluster.remove());

async function verdicts(
  checks: Record<string, string>,
  more: Partial<Duty> = {},
): Promise<Record<string, string>> {
  const duty = { migrationId, kind: "split", role: "source", podId: pod("pod-0"), ...more } as Duty;
  const parsed = Object.entries(checks).map(([name, sql]) =>
    CheckConfig.parse({ name, sql, timeLimitMs: 1_000 }),
  );
  const query = readOnlyQuery(cluster.connection);
  const findings = await runChecks(parsed, duty, "start", query, new AbortController().signal);
  return Object.fromEntries(
    findings.map(({ message }) => message.split(/: (.*)/s).slice(0, 2) as [string, string]),
  );
}

it("passes without rows or with true alone; whatever else it is, it has not passed", async () => {
  expect(
    await verdicts({
      "no-rows": "SELECT id FROM migrations WHERE state = 'failed'",
      "all-true": "SELECT state = 'active' FROM migrations",
      rows: "SELECT id, state FROM migrations",
      no: "SELECT count(*) = 0 FROM migrations",
      unknown: "SELECT NULL::boolean",
      broken: "SELECT nothing FROM nowhere",
      writes: "DELETE FROM migrations RETURNING true",
      slow: "SELECT pg_sleep(30)",
    }),
  ).toEqual({
    rows: 'it returned {"id":7,"state":"active"}',
    no: "it says no",
    unknown: 'it returned {"bool":null}',
    broken: 'relation "nowhere" does not exist',
    writes: "cannot execute DELETE in a read-only transaction",
    slow: expect.stringMatching(/timeout/),
  });
  expect(await cluster.query("SELECT * FROM migrations")).toHaveLength(1);
});

it("is not asked where there is no database yet: on a split's new Pod", async () => {
  expect(await verdicts({ rows: "SELECT 1" }, { role: "target" })).toEqual({});
  expect(await verdicts({ rows: "SELECT 1" }, { role: "target", kind: "move" })).toHaveProperty("rows");
});
