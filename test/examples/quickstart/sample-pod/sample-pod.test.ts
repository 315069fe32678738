/** The sample Pod: every table has a rule, the sizes are those asked for, and the same seed gives the same Pod. */
import { execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { afterAll, beforeAll, expect, it } from "vitest";
import { loadOwnership } from "../../../../agent/stores/create-stores.ts";
import {
  checkCatalog,
  missingOrganizations,
} from "../../../../agent/stores/postgres/inventory/catalog-checks.ts";
import { postgresOwnerLookup } from "../../../../agent/stores/postgres/inventory/owner-lookup.ts";
import {
  countRowsByOrganization,
  digestRowsByOrganization,
} from "../../../../examples/quickstart/audit/rows.ts";
import { generateSamplePod } from "../../../../examples/quickstart/sample-pod/generate/generate.ts";
import type { OrganizationId } from "../../../../protocol/ids.ts";
import type { Ownership } from "../../../../protocol/ownership.ts";
import { Cluster } from "../../../support/postgres/postgres.ts";

const sizes = { organizations: 5, rows: 6_000, repositories: 9, objects: 60 };
const OWNERSHIP = join(import.meta.dirname, "../../../../examples/quickstart/sample-pod/ownership.yaml");

let cluster: Cluster;
let folder: string;
let client: pg.Client;
let ownership: Ownership;

beforeAll(async () => {
  ownership = await loadOwnership(OWNERSHIP);
  cluster = await Cluster.start({ podId: "pod-0" });
  folder = await mkdtemp(join(tmpdir(), "cleave-sample-"));
  await generate("a");
  client = new pg.Client(cluster.connection);
  await client.connect();
});
afterAll(async () => {
  await client?.end();
  await cluster?.remove();
  await rm(folder, { recursive: true, force: true });
});

const generate = (name: string, database = cluster.connection) =>
  generateSamplePod({
    database,
    gitRoot: join(folder, name, "git"),
    objectRoot: join(folder, name, "objects"),
    sizes,
    seed: 7,
  });

it("has a rule for every table and a table for every rule, and passes the checks before a split", async () => {
  const { rows } = await client.query<{ name: string }>(
    "SELECT 'public.' || relname AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition",
  );
  expect(rows.length).toBeGreaterThanOrEqual(40);
  expect(Object.keys(ownership.tables).sort()).toEqual(rows.map((row) => row.name).sort());
  expect((await checkCatalog(client, ownership)).filter((finding) => finding.severity === "error")).toEqual(
    [],
  );
  expect(await missingOrganizations(client, ownership, ["1", "5", "6", "x"] as OrganizationId[])).toEqual([
    "6",
    "x",
  ]);
});

it("has about the rows asked for, all owned, unevenly", async () => {
  const counts = await countRowsByOrganization(client, ownership);
  const total = [...counts.values()].reduce((sum, count) => sum + count, 0);
  expect(total / sizes.rows).toBeGreaterThan(0.8);
  expect(total / sizes.rows).toBeLessThan(1.3);
  for (let id = 1; id <= sizes.organizations; id += 1)
    expect(counts.get(String(id)), `organization ${id}`).toBeGreaterThan(10);
  const organizations = [...counts].filter(([id]) => id !== "").map(([, count]) => count);
  expect(Math.max(...organizations)).toBeGreaterThan(2 * Math.min(...organizations));
  const shared = (await digestRowsByOrganization(client, ownership)).get("");
  expect([...(shared?.keys() ?? [])].sort()).toEqual([
    "public.emails",
    "public.lfs_objects",
    "public.topics",
    "public.users",
  ]);
});

it("has rows that all fit their foreign keys", async () => {
  const { rows } = await client.query<{ check: string }>(
    `SELECT format('SELECT count(*) FROM %s c WHERE %s AND NOT EXISTS (SELECT FROM %s p WHERE %s)', conrelid::regclass,
       (SELECT string_agg(format('c.%I IS NOT NULL', a.attname), ' AND ') FROM pg_attribute a WHERE a.attrelid = conrelid AND a.attnum = ANY (conkey)),
       confrelid::regclass,
       (SELECT string_agg(format('c.%I = p.%I', ca.attname, pa.attname), ' AND ') FROM unnest(conkey, confkey) k (c, p)
          JOIN pg_attribute ca ON ca.attrelid = conrelid AND ca.attnum = k.c JOIN pg_attribute pa ON pa.attrelid = confrelid AND pa.attnum = k.p)) AS check
       FROM pg_constraint WHERE contype = 'f' AND conparentid = 0`,
  );
  expect(rows.length).toBeGreaterThan(30);
  for (const { check } of rows)
    expect((await client.query<{ count: string }>(check)).rows[0]?.count, check).toBe("0");
});

it("has repositories with history, each known to the rules", async () => {
  const pool = new pg.Pool(cluster.connection);
  try {
    const owners = await postgresOwnerLookup(pool, ownership).repositories();
    const found = readdirSync(join(folder, "a/git"), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isDirectory() && entry.name.endsWith(".git"))
      .map((entry) => join(entry.parentPath, entry.name).slice(join(folder, "a/git").length + 1));
    expect(found).toHaveLength(sizes.repositories);
    expect(found.sort()).toEqual([...owners.keys()].sort());
    const refs = execFileSync(
      "git",
      ["-C", join(folder, "a/git", found[0] as string), "for-each-ref", "--format=%(refname)"],
      { encoding: "utf8" },
    );
    for (const ref of [
      "refs/heads/main",
      "refs/heads/topic-1",
      "refs/tags/v1.0",
      "refs/notes/commits",
      "refs/merge-requests/1/head",
    ])
      expect(refs).toContain(ref);
  } finally {
    await pool.end();
  }
});

it("is the same again with the same seed", async () => {
  const other = await Cluster.start({ podId: "pod-0" });
  try {
    await generate("b", other.connection);
    const second = new pg.Client(other.connection);
    await second.connect();
    const columns = ["public.issues", "public.projects", "public.label_links", "public.pipelines"];
    const pick = async (from: pg.Client) => {
      const digests = await digestRowsByOrganization(from, ownership);
      return [...digests]
        .map(([id, tables]) => [id, columns.map((table) => tables.get(table)?.count ?? 0)])
        .sort();
    };
    expect(await pick(second)).toEqual(await pick(client));
    await second.end();
  } finally {
    await other.remove();
  }
  const tree = (name: string) =>
    execFileSync(
      "sh",
      ["-c", 'cd "$1" && find objects -type f | sort | xargs sha256sum', "sh", join(folder, name)],
      { encoding: "utf8" },
    );
  expect(tree("b")).toBe(tree("a"));
});
