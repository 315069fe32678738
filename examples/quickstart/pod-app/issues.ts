/** Issues: one transaction per write, in the isolation level that the client asks for; safe to send twice. */
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import { z } from "zod";

const ISOLATION = {
  "read committed": "READ COMMITTED",
  "repeatable read": "REPEATABLE READ",
  serializable: "SERIALIZABLE",
} as const;

export const NewIssue = z.object({
  writeId: z.string().min(1).max(100),
  title: z.string().max(500),
  isolation: z.enum(["read committed", "repeatable read", "serializable"]).default("read committed"),
  /** Keep the transaction open this long between its first write and its commit. */
  holdOpenMs: z.number().int().min(0).max(120_000).default(0),
  /** Take the transaction's snapshot before the write. */
  readFirst: z.boolean().default(false),
});
export const IssueChange = z.object({ revision: z.number().int().positive(), title: z.string().max(500) });

/** Serialization failures and deadlocks are answered by doing the transaction again, as every application must. */
const ATTEMPTS = 5;

interface Transaction {
  readonly client: pg.PoolClient;
  /** From 1. */
  readonly attempt: number;
  /** Waits, unless the server ends the connection first; then that is thrown. */
  wait(ms: number): Promise<void>;
}

async function transaction<T>(
  pool: pg.Pool,
  isolation: keyof typeof ISOLATION,
  work: (transaction: Transaction) => Promise<T>,
): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    const client = await pool.connect();
    let onLost: (error: Error) => void = () => undefined;
    const lost = new Promise<never>((_, reject) => {
      onLost = reject;
    });
    // Told between two queries too, where nobody may be waiting.
    lost.catch(() => undefined);
    client.on("error", onLost);
    const wait = (ms: number) => Promise.race([sleep(ms), lost]);
    let broken = false;
    try {
      await client.query(`BEGIN ISOLATION LEVEL ${ISOLATION[isolation]}`);
      const result = await work({ client, attempt, wait });
      await client.query("COMMIT");
      return result;
    } catch (error) {
      const { code } = error as { code?: string };
      broken = code === undefined || !/^[0-9A-Z]{5}$/.test(code) || code.startsWith("57P");
      if (!broken) await client.query("ROLLBACK").catch(() => undefined);
      if ((code !== "40001" && code !== "40P01") || attempt === ATTEMPTS) throw error;
    } finally {
      if (!broken) client.off("error", onLost);
      client.release(broken);
    }
    await sleep(attempt * 5);
  }
}

/**
 * "Not there" is an answer of the Pod that serves the organization alone: another may not know of what came later.
 * So before it is given, a write is tried that changes nothing and is refused where writes are.
 * @returns 404, also when there is no such organization.
 */
async function notFound(client: pg.Pool | pg.PoolClient, organization: string): Promise<404> {
  await client.query("UPDATE public.organizations SET name = name WHERE id = $1", [organization]);
  return 404;
}

const OF_ORGANIZATION = "SELECT id FROM public.projects WHERE organization_id = $1";

/**
 * Prepared, and one statement for each request where that can be: as an application under load would have it. The
 * issue's project is the same for the same write, and all projects for many writes: statistics are one row per project.
 */
const CREATE = {
  name: "create-issue",
  text: `WITH project AS MATERIALIZED (
      SELECT id FROM public.projects WHERE organization_id = $1 ORDER BY id
      LIMIT 1 OFFSET $2::int % GREATEST(1, (SELECT count(*)::int FROM public.projects WHERE organization_id = $1))),
    issue AS (
      INSERT INTO public.issues (project_id, title, write_id, revision) SELECT id, $3, $4, 1 FROM project
      ON CONFLICT (write_id) DO NOTHING RETURNING id, project_id),
    note AS (
      INSERT INTO public.notes (project_id, noteable_type, noteable_id, body)
      SELECT project_id, 'Issue', id, 'opened by ' || $4 FROM issue)
    SELECT (SELECT id FROM project) AS project, (SELECT id FROM issue) AS issue`,
};
const CHANGE = {
  name: "change-issue",
  text: `UPDATE public.issues SET title = $3, revision = $4 WHERE write_id = $2 AND revision < $4 AND project_id IN (${OF_ORGANIZATION})`,
};
const DELETE = {
  name: "delete-issue",
  text: `WITH issue AS (
      DELETE FROM public.issues WHERE write_id = $2 AND project_id IN (${OF_ORGANIZATION}) RETURNING id),
    note AS (
      DELETE FROM public.notes USING issue WHERE noteable_type = 'Issue' AND noteable_id = issue.id)
    SELECT id FROM issue`,
};
const FIND = {
  name: "find-issue",
  text: `SELECT title, revision FROM public.issues WHERE write_id = $2 AND project_id IN (${OF_ORGANIZATION})`,
};

/** Lets a new connection read what its catalog says of these statements, without carrying them out. */
export async function warmStatements(client: pg.ClientBase): Promise<void> {
  for (const { text } of [CREATE, CHANGE, DELETE, FIND])
    await client.query(`EXPLAIN ${text.replace(/\$\d/g, "NULL")}`);
}

const QUIET_WRITES = [
  "UPDATE public.organization_settings SET settings = settings WHERE organization_id = $1",
  `UPDATE public.project_settings SET settings = settings WHERE project_id IN (${OF_ORGANIZATION})`,
  `UPDATE public.snippets SET content = content WHERE project_id IN (${OF_ORGANIZATION})`,
  `UPDATE public.boards SET name = name WHERE project_id IN (${OF_ORGANIZATION})`,
];

function spread(writeId: string): number {
  let sum = 0;
  for (const character of writeId) sum = (sum * 31 + character.charCodeAt(0)) % 1_000_003;
  return sum;
}

/** @returns 201 when it was created, 200 when the same write had been committed before. */
export function createIssue(
  pool: pg.Pool,
  organization: string,
  issue: z.infer<typeof NewIssue>,
): Promise<number> {
  return transaction(pool, issue.isolation, async ({ client, attempt, wait }) => {
    if (issue.readFirst) await client.query("SELECT count(*) FROM public.organizations");
    // Once: under stricter isolation a long transaction loses against the short ones, every time.
    if (issue.holdOpenMs > 0 && attempt === 1) {
      // A write that locks a row which nobody else needs: the issue's own would lock its project's statistics, and
      // every other writer of the project would wait for this one. Not always in the same table, since a table that
      // is never without an open write can never be altered.
      await client.query(QUIET_WRITES[spread(issue.writeId) % QUIET_WRITES.length] as string, [organization]);
      await wait(issue.holdOpenMs);
    }
    const { rows } = await client.query<{ project: string | null; issue: string | null }>({
      ...CREATE,
      values: [organization, spread(issue.writeId), issue.title, issue.writeId],
    });
    if (!rows[0]?.project) return await notFound(client, organization);
    return rows[0].issue === null ? 200 : 201;
  });
}

/** @returns 200, or 404; an older revision than the stored one changes nothing. */
export async function changeIssue(
  pool: pg.Pool,
  organization: string,
  writeId: string,
  change: z.infer<typeof IssueChange>,
): Promise<number> {
  const { rowCount } = await pool.query({
    ...CHANGE,
    values: [organization, writeId, change.title, change.revision],
  });
  if ((rowCount ?? 0) > 0 || (await findIssue(pool, organization, writeId)) !== null) return 200;
  return await notFound(pool, organization);
}

export async function deleteIssue(pool: pg.Pool, organization: string, writeId: string): Promise<number> {
  const { rows } = await pool.query({ ...DELETE, values: [organization, writeId] });
  return rows.length > 0 ? 204 : await notFound(pool, organization);
}

export async function findIssue(
  pool: pg.Pool,
  organization: string,
  writeId: string,
): Promise<{ title: string; revision: number } | null> {
  const { rows } = await pool.query<{ title: string; revision: number }>({
    ...FIND,
    values: [organization, writeId],
  });
  return rows[0] ?? null;
}
