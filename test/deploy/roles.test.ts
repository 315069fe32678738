/** The roles of `deploy/postgres/roles.sql` on a real server: what each may, and what it may not. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import pg from "pg";
import { afterAll, beforeAll, expect, it } from "vitest";
import { installGuard } from "../../agent/stores/postgres/fence/install.ts";
import type { Cluster } from "../support/postgres/postgres.ts";
import { POD_0, RULES, SPLIT, startPod } from "../support/postgres/scratch.ts";

const SCRIPT = join(import.meta.dirname, "../../deploy/postgres/roles.sql");
let cluster: Cluster;

beforeAll(async () => {
  cluster = await startPod();
  const script = await readFile(SCRIPT, "utf8");
  // Twice: it may be run whenever somebody is not sure.
  await cluster.query(script);
  await cluster.query(script);
  await cluster.query("ALTER ROLE cleave_reader PASSWORD 'reader'");
});
afterAll(() => cluster?.remove());

async function as<T>(user: string, password: string, work: (db: pg.Client) => Promise<T>): Promise<T> {
  const db = new pg.Client({ ...cluster.connection, user, password });
  // What uses it says that it broke.
  db.on("error", () => undefined);
  await db.connect();
  try {
    return await work(db);
  } finally {
    await db.end();
  }
}

it("the agent's role is what the guard needs, and no less would do", async () => {
  const { user, password } = cluster.connection;
  await as(user, password, (db) =>
    installGuard(db, { ownership: RULES, defaultPodId: POD_0, migrationId: SPLIT }),
  );
  const [role] = await cluster.query<{ rolsuper: boolean; rolcreatedb: boolean; rolcreaterole: boolean }>(
    "SELECT rolsuper, rolcreatedb, rolcreaterole FROM pg_roles WHERE rolname = 'cleave'",
  );
  expect(role).toEqual({ rolsuper: true, rolcreatedb: false, rolcreaterole: false });
  // Why it has to be one, said by the server itself.
  await cluster.query("CREATE ROLE lesser LOGIN REPLICATION CREATEDB CREATEROLE PASSWORD 'lesser'");
  await cluster.query("GRANT ALL ON DATABASE pod TO lesser; GRANT ALL ON SCHEMA public TO lesser");
  await as("lesser", "lesser", async (db) => {
    await db.query("CREATE FUNCTION public.nothing() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'");
    await expect(
      db.query("CREATE EVENT TRIGGER nothing ON ddl_command_end EXECUTE FUNCTION public.nothing()"),
    ).rejects.toThrow(/permission denied to create event trigger/);
    await expect(db.query("SET session_replication_role = replica")).rejects.toThrow(/permission denied/);
    await expect(db.query("SELECT pg_replication_origin_create('x')")).rejects.toThrow(
      /permission denied|superuser/,
    );
  });
});

it("the reader reads everything and changes nothing, also when it says that it will", async () => {
  await as("cleave_reader", "reader", async (db) => {
    const { rows } = await db.query<{ name: string }>(
      "SELECT c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public' AND c.relkind = 'r'",
    );
    expect(rows.length).toBeGreaterThan(2);
    for (const { name } of rows) await db.query(`SELECT count(*) FROM public.${pg.escapeIdentifier(name)}`);
    await expect(db.query("CREATE TABLE public.mine (id int)")).rejects.toThrow(/read-only/);
    await db.query("SET default_transaction_read_only = off");
    for (const { name } of rows)
      await expect(db.query(`DELETE FROM public.${pg.escapeIdentifier(name)}`), name).rejects.toThrow(
        /permission denied/,
      );
    await expect(db.query("UPDATE cleave.share SET phase = 'opened'")).rejects.toThrow(/permission denied/);
    await expect(db.query("SELECT pg_create_physical_replication_slot('mine')")).rejects.toThrow(
      /permission denied|must be/,
    );
  });
});
