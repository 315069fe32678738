/** What a move waits for is said, with who is to blame, for as long as it lasts; and nothing that is large ends it. */
import type pg from "pg";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Ownership } from "../../../../../protocol/ownership.ts";
import { eventually } from "../../../../support/eventually.ts";
import { FROM, MovePods, TO } from "../../../../support/postgres/move-pods.ts";
import type { Cluster } from "../../../../support/postgres/postgres.ts";

const SCHEMA = `
CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL UNIQUE, about text);
CREATE TABLE orgs (id bigint PRIMARY KEY, name text);
CREATE TABLE notes (id bigint PRIMARY KEY, org_id bigint NOT NULL REFERENCES orgs, author_id bigint REFERENCES users, body text);`;

const RULES = Ownership.parse({
  version: 1,
  root: { table: "public.orgs" },
  tables: { "public.notes": { organization: "org_id" }, "public.users": { clusterWide: true } },
});

const DATA = `
INSERT INTO users SELECT g, 'user ' || g FROM generate_series(1, 20) g;
INSERT INTO orgs SELECT g, 'org ' || g FROM generate_series(1, 3) g;
INSERT INTO notes SELECT g, 1 + g % 3, 1 + g % 10, 'note ' || g FROM generate_series(1, 300) g;`;

let pods: MovePods;
const clients: pg.Client[] = [];

beforeEach(async () => {
  pods = await MovePods.start(SCHEMA, RULES, ["2"]);
  await pods.source.query(DATA);
});
afterEach(async () => {
  await Promise.all(clients.splice(0).map((client) => client.end().catch(() => undefined)));
  await pods.remove();
});

async function idle(cluster: Cluster, sql: string): Promise<pg.Client> {
  const client = await cluster.connect();
  clients.push(client);
  await client.query(`SET application_name = 'the culprit'; BEGIN; ${sql}`);
  return client;
}

const said = (podId: typeof FROM) =>
  pods
    .status(podId)
    .problems.map(({ code, message }) => `${code}: ${message}`)
    .join("; ");

describe("a transaction of somebody else", () => {
  it.each([
    ["that wrote, on the target", "target", "INSERT INTO users VALUES (99, 'x', '')", []],
    ["that wrote, on the target, with a way back", "target", "INSERT INTO users VALUES (99, 'x', '')", [TO]],
    [
      "that only reads, on the target",
      "target",
      "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM users",
      [],
    ],
    ["that locked a table, on the target", "target", "LOCK TABLE notes IN ACCESS EXCLUSIVE MODE", []],
    ["that wrote, on the source", "source", "INSERT INTO users VALUES (99, 'x', '')", []],
  ] as const)("%s, is named while it is waited for", async (_name, at, sql, back) => {
    pods.reverseReplication = back;
    const open = await idle(pods[at], sql);
    const moving = pods.follow();
    await eventually(() => expect(said(at === "source" ? FROM : TO) + said(TO)).toMatch(/the culprit/));
    // Held until it is over.
    for (let look = 0; look < 20; look++) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      expect(said(at === "source" ? FROM : TO) + said(TO)).toMatch(/POSTGRES_WAITS.*the culprit/);
    }
    await open.query("COMMIT");
    await moving;
    await eventually(() => expect(said(TO) + said(FROM)).not.toMatch(/culprit/));
  });

  it("that locks a table while the move follows is named", async () => {
    await pods.follow();
    const open = await idle(pods.target, "LOCK TABLE notes IN SHARE MODE");
    await pods.source.query("INSERT INTO notes VALUES (2000, 2, 1, 'behind the lock')");
    await eventually(() => expect(said(TO)).toMatch(/POSTGRES_WAITS.*pod-1.*the culprit/));
    await open.query("COMMIT");
    await eventually(() => expect(pods.status(TO).problems).toEqual([]));
  });
});

describe("a reason", () => {
  it("of one loop is held, whatever the other one gets done; and what can be copied is", async () => {
    // The target's user 3 is somebody else; users 11 and 12 are missing there.
    await pods.target.query("INSERT INTO users VALUES (3, 'somebody else', NULL)");
    await pods.source.query(
      "INSERT INTO notes VALUES (2000, 2, 11, 'a'), (2001, 2, 3, 'b'), (2002, 2, 12, 'c')",
    );
    await Promise.all([pods.reach(FROM, "prepare"), pods.reach(TO, "seed")]);
    await Promise.all([pods.reach(FROM, "serve"), pods.reach(TO, "follow")]);
    await eventually(() => expect(said(TO)).toMatch(/SHARED_ROW_CONFLICT.*public\.users/));
    const live = await pods.source.connect();
    clients.push(live);
    for (let look = 0; look < 100; look++) {
      await live.query("UPDATE notes SET body = body || '+' WHERE id = 4");
      await new Promise((resolve) => setTimeout(resolve, 10));
      expect(said(TO)).toMatch(/SHARED_ROW_CONFLICT.*public\.users.* 3 /);
    }
    expect(pods.status(TO).verified).toBe(false);
    expect(await pods.target.query("SELECT id FROM users WHERE id IN (11, 12) ORDER BY id")).toEqual([
      { id: "11" },
      { id: "12" },
    ]);
    expect(await pods.target.query("SELECT count(*)::int AS n FROM notes")).toEqual([{ n: 103 }]);
    // Corrected by an operator.
    await pods.target.query(
      "SET session_replication_role = replica; SET SESSION AUTHORIZATION cleave_apply; UPDATE users SET name = 'user 3' WHERE id = 3",
    );
    await eventually(() => {
      expect(pods.status(TO)).toMatchObject({ verified: true, problems: [] });
    }, 20_000);
  });

  it("of a change that cannot be applied is held while the stream is tried again", async () => {
    await pods.target.query("ALTER TABLE notes ADD CONSTRAINT polite CHECK (body NOT LIKE 'rude%')");
    await pods.follow();
    await pods.source.query("UPDATE notes SET body = 'rude' WHERE id = 4");
    await eventually(() => expect(said(TO)).toMatch(/CHANGE_NOT_APPLICABLE.*polite/));
    // It is tried again after five seconds; neighbours' changes come all the time.
    for (let look = 0; look < 140; look++) {
      await pods.source.query("UPDATE notes SET body = body || '+' WHERE id = 3");
      await new Promise((resolve) => setTimeout(resolve, 40));
      expect(said(TO)).toMatch(/CHANGE_NOT_APPLICABLE.*polite/);
    }
    await pods.target.query("ALTER TABLE notes DROP CONSTRAINT polite").catch(() => undefined);
  }, 60_000);
});

describe("a text of 60 MB with 30 million quotes", () => {
  it("is copied, followed, compared and matched, also in a row of nobody alone", async () => {
    const large = `repeat('"\\\\', 15000000) || repeat('"', 15000000)`;
    await pods.source.query(`UPDATE notes SET body = ${large} WHERE id = 4`);
    await pods.source.query(`UPDATE users SET about = ${large} WHERE id = 5`);
    await pods.follow();
    await pods.source.query(`INSERT INTO notes VALUES (2000, 2, 1, ${large})`);
    await pods.source.query(`UPDATE notes SET body = ${large} WHERE id = 7`);
    await eventually(async () => {
      expect(await pods.target.query("SELECT md5(body) FROM notes WHERE id = 7")).toEqual(
        await pods.source.query("SELECT md5(body) FROM notes WHERE id = 7"),
      );
    }, 60_000);
    expect((await pods.fence(1)).target).toBe(pods.status(FROM).evidence?.digest);
    await pods.transfer(1);
    const OF_2 = "SELECT id, md5(body), length(body) FROM notes WHERE org_id = 2 ORDER BY id";
    expect(await pods.target.query(OF_2)).toEqual(await pods.source.query(OF_2));
    const USER = "SELECT md5(about), length(about) FROM users WHERE id = 5";
    expect(await pods.target.query(USER)).toEqual(await pods.source.query(USER));
  }, 120_000);
});
