/** Reads what is there, past the application: PostgreSQL by SQL, refs by git, objects as files. */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import pg from "pg";
import type { PodLayout } from "../cluster/layout.ts";
import { repositoryPath } from "../pod-app/git.ts";
import type { TrafficRepository } from "../traffic/git.ts";
import { ledgerKey } from "../traffic/ledger.ts";
import type { Found } from "./acknowledged.ts";

const run = promisify(execFile);

/** Where the application keeps an organization's object of a name, below the object root. */
export function objectKey(organization: string, name: string): string {
  return `uploads/${organization}/${name}`;
}

/**
 * Everything that the traffic can have written for the organizations that `pod` serves.
 * @param run the prefix of this run's write ids
 */
export async function foundOn(
  pod: PodLayout,
  organizations: readonly string[],
  repositories: readonly TrafficRepository[],
  run: string,
): Promise<Found> {
  const found = new Map<string, string[]>();
  const note = (kind: "issue" | "ref" | "object", organization: string, key: string, state: string) => {
    const id = ledgerKey({ kind, organization, key });
    found.set(id, [...(found.get(id) ?? []), state]);
  };
  for (const issue of await issuesOf(pod, organizations, run))
    note("issue", issue.organization, issue.writeId, issue.title);
  for (const { organization, project } of repositories)
    for (const [ref, commit] of await refsOf(repositoryPath(pod.gitRoot, project)))
      if (/^refs\/(heads|tags)\/traffic\//.test(ref)) note("ref", organization, `${project} ${ref}`, commit);
  for (const organization of organizations) {
    const folder = join(pod.objectsRoot, objectKey(organization, "traffic"));
    // Names of copies that were never completed are reserved, and no object to anybody.
    const names = existsSync(folder)
      ? readdirSync(folder).filter((name) => !name.startsWith(".cleave-"))
      : [];
    for (const name of names) note("object", organization, `traffic/${name}`, digestOf(join(folder, name)));
  }
  return found;
}

/**
 * Issues by write id. An issue's opening note is written in the same transaction and has no unique key of its own,
 * so a write that was carried out twice shows as two notes: then the issue is returned twice. An issue without its
 * note is half a transaction, and no state that any client ever wrote.
 */
async function issuesOf(
  pod: PodLayout,
  organizations: readonly string[],
  run: string,
): Promise<{ organization: string; writeId: string; title: string }[]> {
  return await query(
    pod,
    `SELECT p.organization_id::text AS organization, i.write_id AS "writeId",
            i.title || CASE WHEN n.id IS NULL THEN ' (without its note)' ELSE '' END AS title
       FROM public.issues i
       JOIN public.projects p ON p.id = i.project_id
       LEFT JOIN public.notes n ON n.noteable_type = 'Issue' AND n.noteable_id = i.id
        AND n.body = 'opened by ' || i.write_id
      WHERE p.organization_id::text = ANY ($1) AND starts_with(i.write_id, $2)`,
    [organizations, `${run}-`],
  );
}

export async function refsOf(gitFolder: string): Promise<Map<string, string>> {
  const { stdout } = await run(
    "git",
    ["--git-dir", gitFolder, "for-each-ref", "--format=%(objectname) %(refname)"],
    { maxBuffer: 64 * 1024 * 1024 },
  );
  const lines = stdout.split("\n").filter((line) => line !== "");
  return new Map(lines.map((line) => [line.slice(line.indexOf(" ") + 1), line.slice(0, line.indexOf(" "))]));
}

export function digestOf(file: string): string {
  return createHash("sha256").update(readFileSync(file)).digest("hex");
}

export async function query<Row extends pg.QueryResultRow>(
  pod: PodLayout,
  text: string,
  values: readonly unknown[],
): Promise<Row[]> {
  const client = new pg.Client(pod.postgres);
  // What uses it says that it broke.
  client.on("error", () => undefined);
  await client.connect();
  try {
    return (await client.query<Row>(text, [...values])).rows;
  } finally {
    await client.end();
  }
}
