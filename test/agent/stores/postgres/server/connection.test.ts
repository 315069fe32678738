/** A connection that breaks fails what uses it, and never ends the process. */
import { afterAll, beforeAll, expect, it } from "vitest";
import { connect, connectionPool, discard } from "../../../../../agent/stores/postgres/server/connection.ts";
import { inTransaction } from "../../../../../agent/stores/postgres/server/queryable.ts";
import type { PodId } from "../../../../../protocol/ids.ts";
import { eventually } from "../../../../support/eventually.ts";
import { Cluster } from "../../../../support/postgres/postgres.ts";
import { startTcpProxy, type TcpProxy } from "../../../../support/tcp-proxy.ts";

let cluster: Cluster;
let proxy: TcpProxy;
beforeAll(async () => {
  cluster = await Cluster.start({ podId: "pod-0" as PodId });
  proxy = await startTcpProxy(cluster.port);
});
afterAll(async () => {
  await proxy?.close();
  await cluster?.remove();
});

const running = (query: string) =>
  eventually(async () => {
    const rows = await cluster.query("SELECT 1 AS one FROM pg_stat_activity WHERE query = $1", [query]);
    expect(rows).toEqual([{ one: 1 }]);
  });

it("of a pool, in the middle of a transaction, and the next transaction has a new one", async () => {
  const lost: Error[] = [];
  const pool = await connectionPool(
    { ...cluster.connection, port: proxy.port },
    { applicationName: "cleave-test", max: 2, onLost: (error) => lost.push(error) },
  );
  const asked = inTransaction(pool, (client) => client.query("SELECT pg_sleep(61)"), "READ ONLY").catch(
    (error: Error) => error,
  );
  await running("SELECT pg_sleep(61)");
  proxy.reset();
  expect(await asked).toMatchObject({ code: "ECONNRESET" });
  expect(lost.length).toBeGreaterThan(0);
  expect((await inTransaction(pool, (client) => client.query("SELECT 1 AS one"))).rows).toEqual([{ one: 1 }]);
  await pool.end();
});

it("of a single one", async () => {
  const client = await connect(
    { ...cluster.connection, port: proxy.port },
    { applicationName: "cleave-test" },
  );
  const asked = client.query("SELECT pg_sleep(62)").catch((error: Error) => error);
  await running("SELECT pg_sleep(62)");
  proxy.reset();
  expect(await asked).toMatchObject({ code: "ECONNRESET" });
  discard(client);
});
