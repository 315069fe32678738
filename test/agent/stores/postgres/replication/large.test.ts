/**
 * Transactions far larger than the memory that may be used for them. 200,000 rows here; with CLEAVE_LARGE=1 a million,
 * which takes minutes.
 */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { Ownership } from "../../../../../protocol/ownership.ts";
import { endpointOf, LogicalPods } from "../../../../support/postgres/logical-pods.ts";

const LARGE = process.env["CLEAVE_LARGE"] === "1";
const ROWS = LARGE ? 1_000_000 : 200_000;
/** For the whole process that applies: Node itself needs about 20 of them. */
const HEAP_MEGABYTES = 64;

const SCHEMA = `
CREATE TABLE orgs (id bigint PRIMARY KEY, name text);
CREATE TABLE projects (id bigint PRIMARY KEY, org_id bigint NOT NULL);
CREATE TABLE issues (id bigint PRIMARY KEY, project_id bigint NOT NULL, title text, body text);`;
const RULES = {
  version: 1,
  root: { table: "public.orgs" },
  tables: {
    "public.projects": { organization: "org_id" },
    "public.issues": { parent: "public.projects", column: "project_id" },
  },
};

let pods: LogicalPods;
beforeEach(async () => {
  pods = await LogicalPods.start(SCHEMA, Ownership.parse(RULES));
  await pods.source.query(
    "INSERT INTO orgs VALUES (1), (2); INSERT INTO projects SELECT g, 1 + g % 2 FROM generate_series(1, 20) g",
  );
});
afterEach(async () => {
  await pods?.remove();
});

/** Follows in a process of its own with a small heap. @returns its end, and what it said. */
function followInProcess(): { readonly stop: () => Promise<string> } {
  const file = join(import.meta.dirname, "../../../../support/postgres/logical-follower.ts");
  const options = {
    source: endpointOf(pods.source),
    target: endpointOf(pods.target),
    rules: RULES,
    organizations: ["1"],
  };
  const args = ["--disable-warning=ExperimentalWarning", `--max-old-space-size=${HEAP_MEGABYTES}`, file];
  const child = spawn(process.execPath, [...args, JSON.stringify(options)], {
    stdio: ["pipe", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream.on("data", (chunk) => {
      output += String(chunk);
    });
  const ended = new Promise<string>((resolve) =>
    child.once("close", (code) =>
      resolve(code === 0 ? output : `ended with ${code}: ${output.slice(-2_000)}`),
    ),
  );
  return {
    stop: () => {
      child.stdin.end();
      return ended;
    },
  };
}

it(
  `one transaction that inserts ${ROWS} rows, and one that updates them all, with a heap of ${HEAP_MEGABYTES} MB`,
  async () => {
    await pods.copy(["1"]);
    const follower = followInProcess();
    const db = await pods.source.connect();
    await db.query(
      `INSERT INTO issues SELECT g, 1 + g % 20, 'title ' || g, repeat(md5(g::text), 8) FROM generate_series(1, ${ROWS}) g`,
    );
    await db.query("UPDATE issues SET title = title || '!'");
    await db.query("DELETE FROM issues WHERE id % 10 = 1");
    await db.query("INSERT INTO orgs VALUES (3)");
    await db.query("INSERT INTO projects VALUES (999, 1)");
    await db.end();
    const end = Date.now() + (LARGE ? 900_000 : 240_000);
    for (;;) {
      const [last] = await pods.target.query("SELECT id FROM projects WHERE id = 999");
      if (last !== undefined || Date.now() > end) break;
      await new Promise((done) => setTimeout(done, 100));
    }
    expect(await follower.stop()).toMatch(/^stopped/);
    expect(await pods.differences()).toEqual([]);
    expect(await pods.target.query("SELECT count(*)::int AS n FROM issues")).toEqual([
      { n: (ROWS / 2) * 0.8 },
    ]);
  },
  LARGE ? 1_200_000 : 300_000,
);
