/** `cleave measure` on a real Pod: whose rows, bytes, repositories and objects; and a plan from it that is accepted. */
import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, expect, it } from "vitest";
import { stringify } from "yaml";
import { measurePod } from "../../../agent/commands/measure/main.ts";
import { loadAgentConfig } from "../../../agent/config.ts";
import { Sizes } from "../../../protocol/sizes.ts";
import { type ApiFixture, startApi } from "../../support/coordinator/api.ts";
import { cleave, endCleave } from "../../support/coordinator/cleave.ts";
import { Cluster } from "../../support/postgres/postgres.ts";

let folder: string;
let cluster: Cluster;
let api: ApiFixture;
let config: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "cleave-measure-"));
  cluster = await Cluster.start({ podId: "pod-0" });
  api = await startApi();
  // Organization 4 is as large as the others together; 1 and 2 are tied by a row of one that refers to one of the other.
  await cluster.query(`
    CREATE TABLE orgs (id bigint PRIMARY KEY);
    CREATE TABLE projects (id bigint PRIMARY KEY, org_id bigint NOT NULL REFERENCES orgs, fork_of bigint REFERENCES projects, path text);
    CREATE TABLE issues (id bigint PRIMARY KEY, project_id bigint NOT NULL REFERENCES projects, title text);
    INSERT INTO orgs SELECT generate_series(1, 4);
    INSERT INTO projects SELECT g, g, CASE WHEN g = 2 THEN 1 END, 'p' || g || '.git' FROM generate_series(1, 4) g;
    INSERT INTO issues SELECT g, CASE WHEN g % 2 = 0 THEN 4 ELSE 1 + g / 2 % 3 END, repeat('x', 100) FROM generate_series(1, 6000) g;
    ANALYZE;`);
  const ownership = {
    version: 1,
    root: { table: "public.orgs" },
    tables: {
      "public.projects": { organization: "org_id" },
      "public.issues": { parent: "public.projects", column: "project_id" },
    },
    repositories: { sql: "SELECT path, org_id::text AS organization FROM projects" },
    objects: [{ prefix: "uploads/", organization: "next-segment" }],
  };
  await writeFile(join(folder, "ownership.yaml"), stringify(ownership));
  for (const id of [1, 2, 3, 4])
    execFileSync("git", ["init", "--quiet", "--bare", join(folder, "git", `p${id}.git`)]);
  await writeFile(join(folder, "git", "p3.git", "large"), Buffer.alloc(1_000_000, 1));
  for (const id of [1, 4]) {
    await mkdir(join(folder, "objects", "uploads", String(id)), { recursive: true });
    await writeFile(join(folder, "objects", "uploads", String(id), "a"), "x".repeat(1_000 * id));
  }
  config = join(folder, "agent.yaml");
  const { host, port, user, password, database } = cluster.connection;
  await writeFile(
    config,
    stringify({
      podId: "pod-0",
      stateDirectory: "state",
      listen: { guardPort: 1, peerPort: 2 },
      peerToken: "0123456789abcdef",
      ownershipFile: "ownership.yaml",
      postgres: { dataDirectory: cluster.dataDirectory, host, port, user, password, database },
      git: { root: "git" },
      objects: { root: "objects" },
    }),
  );
}, 60_000);
afterAll(async () => {
  await endCleave();
  await api?.stop();
  await cluster?.remove();
  await rm(folder, { recursive: true, force: true });
}, 60_000);

it("measures rows, bytes, repositories, objects, writes and references by organization", async () => {
  const measuring = measurePod(await loadAgentConfig(config), 1_500);
  await delay(500);
  await cluster.query("UPDATE issues SET title = 'y' WHERE project_id = 4 AND id <= 300");
  await cluster.query("INSERT INTO issues VALUES (10001, 3, 'new')");
  const sizes = await measuring;
  const of = (id: string) => sizes.organizations.find((one) => one.id === id);
  expect(sizes.organizations.map(({ id }) => id)).toEqual(["1", "2", "3", "4"]);
  // Its own row in orgs, a project, and its issues.
  expect(["1", "2", "3", "4"].map((id) => of(id)?.rows)).toEqual([1002, 1002, 1003, 3002]);
  expect(of("4")?.rowBytes).toBeGreaterThan(2 * (of("1")?.rowBytes ?? 0));
  expect(of("3")).toMatchObject({ repositories: 1, objects: 0 });
  expect(of("3")?.repositoryBytes).toBeGreaterThan(1_000_000);
  expect(of("4")).toMatchObject({ repositories: 1, objects: 1, objectBytes: 4_000 });
  const written = (id: string) => ((of(id)?.writesPerSecond ?? 0) * sizes.watchedMs) / 1_000;
  expect(["1", "2", "3", "4"].map((id) => Math.round(written(id)))).toEqual([0, 0, 1, 150]);
  expect(sizes.references).toEqual([
    { from: "2", to: "1", rows: 1, where: "public.projects → public.projects" },
  ]);
  expect(sizes.copy).toMatchObject({ table: "public.issues", bytes: expect.any(Number) });
  expect(sizes.walBytesPerSecond).toBeGreaterThan(0);
  expect(sizes.total.databaseBytes).toBeGreaterThan(1_000_000);
  expect(sizes.notes).toEqual([]);
}, 60_000);

it("a plan that is proposed from it is accepted, and no file is written over", async () => {
  const file = join(folder, "sizes.json");
  const measured = await cleave(["measure", "--agent-config", config, "--output", file, "--watch", "0s"]);
  expect([measured.code, measured.stderr]).toEqual([0, ""]);
  expect(measured.stdout).toContain("next: cleave plan --from pod-0 --into N --balance");
  expect(Sizes.parse(JSON.parse(await readFile(file, "utf8"))).organizations).toHaveLength(4);
  const output = join(folder, "plan.yaml");
  const balance = ["plan", "--from", "pod-0", "--into", "3", "--balance", "--sizes", file];
  const run = (...args: string[]) => cleave(args, { url: api.url });
  const proposed = await run(...balance, "--output", output);
  expect([proposed.code, proposed.stderr]).toEqual([0, ""]);
  expect(proposed.stdout).toMatch(/^Pod +share +organizations +bytes +rows +repositories +writes\/s$/m);
  expect(proposed.stdout).toMatch(/^copied in all +[\d.]+ MB +[\d.]+ [kM]B$/m);
  expect(proposed.stdout).toContain("1 rows refer to a row of another organization");
  expect(proposed.stdout).toContain(`written: ${output}; next: cleave split ${output} --dry-run`);
  const accepted = await run("plan", output, "--json");
  expect([accepted.code, JSON.parse(accepted.stdout)]).toEqual([
    0,
    expect.objectContaining({ migrationId: "split-pod-0", lifecycle: "planned" }),
  ]);
  const again = await run(...balance, "--output", output, "--targets", "pod-100,pod-101");
  expect(again).toMatchObject({ code: 1, stderr: expect.stringContaining("FILE_PERMISSION") });
  // Both Pods take part in the plan now.
  expect(await run(...balance)).toMatchObject({ code: 1, stderr: expect.stringContaining("need 2 targets") });
  expect((await run("plan", "--balance", "--into", "3")).code).toBe(2);
}, 60_000);
