/**
 * What must not have changed, whatever the traffic did: every organization's rows in all tables that the traffic
 * never touches, its own rows in those that it does, and its repositories and objects.
 */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import pg from "pg";
import type { Ownership } from "../../../protocol/ownership.ts";
import type { PodLayout } from "../cluster/layout.ts";
import { digestOf, query } from "./found.ts";
import { digestRowsByOrganization } from "./rows.ts";

const run = promisify(execFile);

/** What the traffic's requests write; these tables are compared without the traffic's own rows. */
const TRAFFIC_TABLES = new Set(["public.issues", "public.notes", "public.project_statistics"]);

/** One line per thing of an organization → a digest of it. Equal lines are equal contents. */
export type OrganizationContents = ReadonlyMap<string, string>;
/** By organization; `""` is what no organization owns alone. */
export type Contents = ReadonlyMap<string, OrganizationContents>;

export interface RepositoryPlace {
  readonly organization: string;
  /** Below the Git root, with `.git`. */
  readonly path: string;
}

/** Reads a Pod whole. `run` is the prefix of the traffic's write ids, which are left out. */
export async function contentsOf(
  pod: PodLayout,
  ownership: Ownership,
  repositories: readonly RepositoryPlace[],
  trafficRun: string,
): Promise<Contents> {
  const result = new Map<string, Map<string, string>>();
  const note = (organization: string, thing: string, digest: string) => {
    const contents = result.get(organization) ?? new Map<string, string>();
    result.set(organization, contents.set(thing, digest));
  };
  await noteRows(pod, ownership, trafficRun, note);
  for (const { organization, path } of repositories)
    note(organization, `git ${path}`, await gitDigest(pod, path));
  noteObjects(pod.objectsRoot, note);
  return result;
}

async function noteRows(
  pod: PodLayout,
  ownership: Ownership,
  trafficRun: string,
  note: (organization: string, thing: string, digest: string) => void,
): Promise<void> {
  const client = new pg.Client(pod.postgres);
  // What uses it says that it broke.
  client.on("error", () => undefined);
  await client.connect();
  try {
    for (const [organization, tables] of await digestRowsByOrganization(client, ownership))
      for (const [table, { count, digest }] of tables)
        if (!TRAFFIC_TABLES.has(table)) note(organization, `rows ${table}`, `${count} ${digest}`);
  } finally {
    await client.end();
  }
  const own = await query<{ organization: string; thing: string; digest: string }>(
    pod,
    `SELECT p.organization_id::text AS organization, 'rows public.issues' AS thing,
            count(*) || ' ' || sum(hashtextextended(i::text, 0)::numeric) AS digest
       FROM public.issues i JOIN public.projects p ON p.id = i.project_id
      WHERE i.write_id IS NULL OR NOT starts_with(i.write_id, $1) GROUP BY 1
     UNION ALL
     SELECT p.organization_id::text, 'rows public.notes',
            count(*) || ' ' || sum(hashtextextended(n::text, 0)::numeric)
       FROM public.notes n JOIN public.projects p ON p.id = n.project_id
      WHERE NOT starts_with(n.body, 'opened by ' || $1) GROUP BY 1
     UNION ALL
     -- Kept by a trigger: whatever issues come and go, the difference to their number stays.
     SELECT p.organization_id::text, 'rows public.project_statistics',
            count(*) || ' ' || sum(hashtextextended(p.id || ' ' || s.commits || ' ' || s.issues
              - (SELECT count(*) FROM public.issues i WHERE i.project_id = p.id), 0)::numeric)
       FROM (SELECT project_id, sum(commit_count) AS commits, sum(issue_count) AS issues
               FROM public.project_statistics GROUP BY 1) s
       JOIN public.projects p ON p.id = s.project_id GROUP BY 1`,
    [`${trafficRun}-`],
  );
  for (const { digest, organization, thing } of own) note(organization, thing, digest);
}

/** Every ref but the traffic's, and HEAD. The objects behind them are covered by git's own hashes (see `fsck`). */
async function gitDigest(pod: PodLayout, path: string): Promise<string> {
  const folder = join(pod.gitRoot, path);
  if (!existsSync(folder)) return "missing";
  const refs = await run("git", ["--git-dir", folder, "for-each-ref", "--format=%(objectname) %(refname)"], {
    maxBuffer: 64 * 1024 * 1024,
  });
  const lines = refs.stdout.split("\n").filter((line) => !/^\w+ refs\/(heads|tags)\/traffic\//.test(line));
  const head = await run("git", ["--git-dir", folder, "symbolic-ref", "HEAD"]).catch(() => ({ stdout: "?" }));
  return createHash("sha256")
    .update(`${lines.join("\n")}\n${head.stdout}`)
    .digest("hex");
}

/** Walks `uploads/` and `artifacts/` (the next segment is the organization) and the shared rest. */
function noteObjects(
  root: string,
  note: (organization: string, thing: string, digest: string) => void,
): void {
  if (!existsSync(root)) return;
  for (const file of readdirSync(root, { recursive: true, withFileTypes: true })) {
    if (!file.isFile()) continue;
    const key = join(file.parentPath, file.name).slice(root.length + 1);
    const [prefix, next, name] = key.split("/");
    if (name === "traffic" || file.name.startsWith(".cleave-")) continue;
    const owned = prefix === "uploads" || prefix === "artifacts";
    note(owned ? (next ?? "") : "", `object ${key}`, digestOf(join(file.parentPath, file.name)));
  }
}

/** What differs for one organization, told by thing. */
export function differences(
  expected: OrganizationContents | undefined,
  actual: OrganizationContents | undefined,
): string[] {
  const things = new Set([...(expected?.keys() ?? []), ...(actual?.keys() ?? [])]);
  return [...things].filter((thing) => expected?.get(thing) !== actual?.get(thing)).sort();
}
