/** Dropping a replication origin whose stream has just been closed: the server notices that later than we do. */
import { afterAll, beforeAll, expect, it } from "vitest";
import { dropOrigin } from "../../../../../agent/stores/postgres/move/seed.ts";
import { type Database, discard } from "../../../../../agent/stores/postgres/server/connection.ts";
import { Cluster } from "../../../../support/postgres/postgres.ts";

let cluster: Cluster;
let own: Database;
beforeAll(async () => {
  cluster = await Cluster.start({ podId: "pod-0" });
  own = await cluster.connect();
});
afterAll(() => cluster?.remove());

async function used(name: string): Promise<Database> {
  await own.query("SELECT pg_replication_origin_create($1)", [name]);
  await own.query("SELECT pg_replication_origin_advance($1, '0/1')", [name]);
  const stream = await cluster.connect();
  await stream.query("SELECT pg_replication_origin_session_setup($1)", [name]);
  return stream;
}

const exists = async (name: string) =>
  (await own.query("SELECT FROM pg_replication_origin WHERE roname = $1", [name])).rowCount === 1;

it("waits for the session of a stream that was closed, and not for one that goes on", async () => {
  const ends = await used("ends");
  const dropped = dropOrigin(own, "ends");
  setTimeout(() => discard(ends), 300);
  await dropped;
  expect(await exists("ends")).toBe(false);
  await dropOrigin(own, "ends");

  const stays = await used("stays");
  await expect(dropOrigin(own, "stays")).rejects.toMatchObject({ code: "COMMAND_NOT_POSSIBLE" });
  expect(await exists("stays")).toBe(true);
  discard(stays);
  await dropOrigin(own, "stays");
  expect(await exists("stays")).toBe(false);
});
