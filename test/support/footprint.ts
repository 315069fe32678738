/**
 * What a cluster looks like from outside, apart from its data: catalogs, slots, triggers, hooks, control files, routes.
 * A migration that was aborted has to leave it as it was.
 */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { join, relative } from "node:path";
import pg from "pg";
import type { Coordinator } from "../../examples/quickstart/cluster/coordinator.ts";
import type { Layout, PodLayout } from "../../examples/quickstart/cluster/layout.ts";

/** Sorted lines, so that a difference names what it is. */
export type Footprint = readonly string[];

const OWN_SCHEMAS =
  "n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND n.nspname !~ '^pg_(toast_)?temp_'";

const CATALOGS: Readonly<Record<string, string>> = {
  slot: "SELECT slot_name || ' ' || slot_type AS line FROM pg_replication_slots",
  origin: "SELECT roname AS line FROM pg_replication_origin",
  publication: "SELECT pubname AS line FROM pg_publication",
  role: "SELECT rolname || ' ' || rolsuper::text || rolreplication::text || rolcanlogin::text AS line FROM pg_roles",
  schema: `SELECT nspname AS line FROM pg_namespace n WHERE ${OWN_SCHEMAS}`,
  relation: `SELECT n.nspname || '.' || relname || ' ' || relkind::text || relreplident::text AS line FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE ${OWN_SCHEMAS}`,
  function: `SELECT p.oid::regprocedure::text AS line FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace WHERE ${OWN_SCHEMAS}`,
  trigger:
    "SELECT tgrelid::regclass || ' ' || tgname || ' ' || tgenabled::text AS line FROM pg_trigger WHERE NOT tgisinternal",
  eventTrigger: "SELECT evtname AS line FROM pg_event_trigger",
  sequence:
    "SELECT schemaname || '.' || sequencename || ' ' || min_value || '..' || max_value AS line FROM pg_sequences",
  setting:
    "SELECT setdatabase::text || ' ' || setrole::text || ' ' || setconfig::text AS line FROM pg_db_role_setting",
  fileSetting: "SELECT name || '=' || setting AS line FROM pg_file_settings",
  prepared: "SELECT gid AS line FROM pg_prepared_xacts",
};

/**
 * Announcements of writers come and go with the traffic. What the agent once found out (whose a repository is) and the
 * hook's own text stay in its folder: no repository refers to them any more, and a Git command that began before the
 * hooks were taken out may still be reading them.
 */
const PASSING = /(^|\/)(inflight|dirty|owners)(\/|$)|^(reference-transaction|stub)$/;

async function below(folder: string): Promise<string[]> {
  if (!existsSync(folder)) return [];
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
    .filter((path) => !PASSING.test(path));
}

async function catalogs(pod: PodLayout): Promise<string[]> {
  const db = new pg.Client(pod.postgres);
  // What uses it says that it broke.
  db.on("error", () => undefined);
  await db.connect();
  try {
    const lines: string[] = [];
    for (const [kind, sql] of Object.entries(CATALOGS)) {
      const { rows } = await db.query<{ line: string }>(sql);
      lines.push(...rows.map(({ line }) => `${pod.podId}: ${kind} ${line}`));
    }
    return lines;
  } finally {
    await db.end();
  }
}

/** Of each repository its hooks and what its configuration says; of the rest only what is no data. */
async function files(pod: PodLayout): Promise<string[]> {
  const lines: string[] = [];
  for (const path of await below(pod.gitRoot)) {
    if (!/\.git\/(hooks\/|config$)/.test(path)) continue;
    const digest = createHash("sha256")
      .update(await readFile(join(pod.gitRoot, path)))
      .digest("hex");
    lines.push(`git ${path} ${digest.slice(0, 12)}`);
  }
  if (!existsSync(join(pod.dataDirectory, "PG_VERSION"))) lines.push("no data directory");
  for (const path of await below(pod.objectsRoot)) if (/(^|\/)\./.test(path)) lines.push(`objects ${path}`);
  for (const path of await below(join(pod.stateDirectory, "control"))) lines.push(`control ${path}`);
  return lines.map((line) => `${pod.podId}: ${line}`);
}

/** Pods that have no server yet have no catalogs either, and no repositories and objects at all. */
export async function footprintOf(coordinator: Coordinator, layout: Layout): Promise<Footprint> {
  try {
    return await look(coordinator, layout);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code !== "ENOENT") throw error;
    // Removed while it was looked at: that is a difference until it is gone.
    return [message];
  }
}

async function look(coordinator: Coordinator, layout: Layout): Promise<Footprint> {
  const lines: string[] = [];
  for (const pod of layout.pods) {
    lines.push(...(await files(pod)));
    if (existsSync(join(pod.dataDirectory, "PG_VERSION")))
      // A copy that is just being removed does not answer: that is a difference until it is gone.
      lines.push(...(await catalogs(pod).catch((error: Error) => [`${pod.podId}: ${error.message}`])));
    else
      for (const path of [...(await below(pod.gitRoot)), ...(await below(pod.objectsRoot))])
        lines.push(`${pod.podId}: left ${path}`);
  }
  lines.push(`routes ${await coordinator.cleave("routes", "--json")}`);
  return lines.sort();
}

/** What is there and was not, and what was there and is not. */
export function changes(before: Footprint, after: Footprint): string[] {
  const [was, is] = [new Set(before), new Set(after)];
  return [
    ...after.filter((line) => !was.has(line)).map((line) => `+ ${line}`),
    ...before.filter((line) => !is.has(line)).map((line) => `- ${line}`),
  ];
}
