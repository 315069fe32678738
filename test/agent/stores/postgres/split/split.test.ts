/** One split of PostgreSQL alone, from empty targets to open ones, with writes going on. */
import { afterAll, beforeAll, expect, it } from "vitest";
import type { PostgresStore } from "../../../../../agent/stores/postgres/store.ts";
import {
  type Assembly,
  assemble,
  connectTo,
  MIGRATION,
  never,
  SOURCE,
  type TargetPod,
  targetId,
  until,
} from "../../../../support/postgres/pods.ts";
import { signalServer } from "../../../../support/postgres/postgres.ts";

const [FIRST, SECOND] = [targetId(0), targetId(1)];
let pods: Assembly;
let source: PostgresStore;
let targets: PostgresStore[];

beforeAll(async () => {
  pods = await assemble({ targets: 2, rows: 5_000 });
  source = pods.store(SOURCE);
  targets = [pods.store(FIRST), pods.store(SECOND)];
}, 60_000);
afterAll(() => pods.remove(), 60_000);

/** Writes notes until stopped; resolves with the ids that were acknowledged, and the refusals' SQLSTATEs. */
function write(organization: number) {
  let stopped = false;
  const acknowledged: string[] = [];
  const refused: string[] = [];
  const ended = (async () => {
    const client = await pods.source.connect();
    while (!stopped) {
      try {
        const { rows } = await client.query(
          "INSERT INTO notes (organization_id, body) VALUES ($1, 'x') RETURNING id",
          [organization],
        );
        acknowledged.push(rows[0].id);
      } catch (error) {
        refused.push((error as { code: string }).code);
      }
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await client.end();
  })();
  const stop = async () => {
    stopped = true;
    await ended;
    return { acknowledged, refused };
  };
  return { stop };
}

async function sqlStateOf(pod: TargetPod, organization: number): Promise<string> {
  const client = await connectTo(pod);
  try {
    await client.query("INSERT INTO notes (organization_id, body) VALUES ($1, 'probe')", [organization]);
    return "written";
  } catch (error) {
    return (error as { code: string }).code;
  } finally {
    await client.end();
  }
}

it("copies, follows, matches, promotes and opens two targets without losing a write", async () => {
  const [first, second] = pods.targets as [TargetPod, TargetPod];
  const moved = write(1);
  const neighbour = write(9);
  await Promise.all([
    source.reach(pods.duty(SOURCE, "prepare"), never),
    ...targets.map((store, n) => store.reach(pods.duty(targetId(n), "seed"), never)),
  ]);
  await source.reach(pods.duty(SOURCE, "serve"), never);
  for (const [n, store] of targets.entries()) await store.reach(pods.duty(targetId(n), "follow"), never);
  for (const store of targets) {
    const near = (amount: number | null | undefined) => typeof amount === "number" && amount < 100_000;
    const status = await until(store, ({ verified, lag }) => verified && near(lag?.amount));
    expect(status).toMatchObject({ goal: "follow", reached: true, lag: { unit: "bytes" }, problems: [] });
  }
  expect(await source.preflight(pods.duty(SOURCE, "serve"), "fence", never)).toEqual([]);
  for (const [n, store] of targets.entries())
    expect(await store.preflight(pods.duty(targetId(n), "follow"), "fence", never)).toEqual([]);

  const fenced = { epoch: 1, phase: "fenced" } as const;
  await Promise.all([
    source.reach(pods.duty(SOURCE, "fence", fenced), never),
    ...targets.map((store, n) => store.reach(pods.duty(targetId(n), "match", fenced), never)),
  ]);
  const evidence = source.status(MIGRATION)?.evidence;
  expect(evidence?.digest).toMatch(/^\d+\/1\/.{8,}$/);
  for (const store of targets) expect(store.status(MIGRATION)?.evidence?.digest).toBe(evidence?.digest);

  const transferred = { epoch: 1, phase: "transferred" } as const;
  for (const [n, store] of targets.entries())
    await store.reach(pods.duty(targetId(n), "activate", transferred), never);
  // Promoted, itself, and closed: for its own organization, the other's and the neighbours.
  expect(await sqlStateOf(first, 1)).toBe("CL503");
  expect(await sqlStateOf(first, 2)).toBe("CL421");
  expect(await sqlStateOf(first, 9)).toBe("CL421");

  const opened = { epoch: 1, phase: "opened" } as const;
  for (const [n, store] of targets.entries())
    await store.reach(pods.duty(targetId(n), "open", opened), never);
  await source.reach(pods.duty(SOURCE, "yield", opened), never);
  expect(await sqlStateOf(first, 1)).toBe("written");
  expect(await sqlStateOf(first, 9)).toBe("CL421");
  expect(await sqlStateOf(second, 2)).toBe("written");

  const [ofMoved, ofNeighbour] = await Promise.all([moved.stop(), neighbour.stop()]);
  expect(new Set(ofMoved.refused)).toEqual(new Set(["CL503", "CL421"]));
  expect(ofNeighbour.refused).toEqual([]);
  const client = await connectTo(first);
  const { rows } = await client.query(
    "SELECT (SELECT count(*)::int FROM notes WHERE id = ANY($1::bigint[])) AS found, current_setting('cluster_name') AS name",
    [ofMoved.acknowledged],
  );
  expect(rows[0]).toEqual({ found: ofMoved.acknowledged.length, name: FIRST });
  // A server reads its settings again a moment after it was asked to.
  const primary = () => client.query("SELECT current_setting('primary_conninfo') AS primary");
  await expect.poll(async () => (await primary()).rows, { timeout: 5_000 }).toEqual([{ primary: "" }]);
  await client.end();
  await expect
    .poll(() => pods.source.query("SELECT slot_name FROM pg_replication_slots"), { timeout: 5_000 })
    .toEqual([]);
}, 60_000);

it("reaches the same goals again after the agent was replaced, and the server comes back as itself", async () => {
  const opened = { epoch: 1, phase: "opened" } as const;
  const again = pods.store(FIRST);
  await again.reach(pods.duty(FIRST, "activate", { epoch: 1, phase: "opened" }), never);
  await again.reach(pods.duty(FIRST, "open", opened), never);
  const [first] = pods.targets as [TargetPod];
  await signalServer(first.dataDirectory, "SIGKILL");
  const afterCrash = pods.store(FIRST);
  await afterCrash.reach(pods.duty(FIRST, "open", opened), never);
  expect(await sqlStateOf(first, 1)).toBe("written");
  const client = await connectTo(first);
  const { rows } = await client.query(
    "SELECT pg_is_in_recovery() AS recovering, current_setting('cluster_name') AS name",
  );
  await client.end();
  expect(rows[0]).toEqual({ recovering: false, name: FIRST });
}, 60_000);
