/** Rows, made inside the server: deterministic by seed, uneven between organizations as real ones are. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import pg from "pg";
import type { SampleSizes } from "./sizes.ts";

/** What share of all rows a table gets; the rest are organizations, projects and what every project has. */
const SHARES: readonly (readonly [table: string, share: number, insert: string])[] = [
  [
    "milestones",
    0.01,
    "INSERT INTO milestones (id, project_id, title, active_during) SELECT i, pick(P), 'M' || i, daterange('2026-01-01'::date, '2026-01-01'::date + (i % 90)::int) FROM generate_series(1, N) i",
  ],
  [
    "labels",
    0.02,
    "INSERT INTO labels (id, project_id, title) SELECT i, 1 + i % P, 'label ' || i FROM generate_series(1, N) i",
  ],
  [
    "issues",
    0.13,
    "INSERT INTO issues (id, project_id, author_id, title, description, state) SELECT i, pick(P), 1 + i % U, 'Issue ' || i || ' – größer', repeat(md5(i::text), 1 + i % 12), (enum_range(NULL::issue_state))[1 + i % 3] FROM generate_series(1, N) i",
  ],
  [
    "issue_assignees",
    0.03,
    "INSERT INTO issue_assignees SELECT i, 1 + i % U FROM generate_series(1, least(N, ISSUES)) i",
  ],
  [
    "issue_links",
    0.01,
    "INSERT INTO issue_links (id, source_id, target_id) SELECT i, 1 + i % ISSUES, 1 + (i * 7) % ISSUES FROM generate_series(1, N) i",
  ],
  [
    "notes",
    0.26,
    "INSERT INTO notes (id, project_id, noteable_type, noteable_id, author_id, body) SELECT i, s.project_id, 'Issue', s.id, 1 + i % U, 'note ' || md5(i::text) FROM generate_series(1, N) i JOIN issues s ON s.id = 1 + i % ISSUES",
  ],
  [
    "label_links",
    0.08,
    "INSERT INTO label_links (id, label_id, target_type, target_id) SELECT i, 1 + i % LABELS, 'Issue', 1 + i % ISSUES FROM generate_series(1, N) i",
  ],
  [
    "merge_requests",
    0.03,
    "INSERT INTO merge_requests (id, target_project_id, source_project_id, title, source_branch) SELECT i, p, CASE WHEN i % 9 = 0 THEN 1 + i % P ELSE p END, 'Change ' || i, 'topic-' || i FROM (SELECT i, pick(P) AS p FROM generate_series(1, N) i) x",
  ],
  [
    "merge_request_reviewers",
    0.02,
    "INSERT INTO merge_request_reviewers SELECT i, 1 + i % U FROM generate_series(1, least(N, MRS)) i",
  ],
  [
    "merge_request_diffs",
    0.03,
    "INSERT INTO merge_request_diffs (id, merge_request_id, head_sha) SELECT i, 1 + i % MRS, decode(md5(i::text), 'hex') FROM generate_series(1, N) i",
  ],
  [
    "merge_request_diff_files",
    0.06,
    "INSERT INTO merge_request_diff_files SELECT 1 + i % DIFFS, i / DIFFS, 'src/file-' || i || '.ts', decode(repeat(md5(i::text), 1 + i % 6), 'hex') FROM generate_series(1, N) i",
  ],
  [
    "pipelines",
    0.03,
    "INSERT INTO pipelines (id, partition_id, project_id, ref) SELECT i, 100 + i % 2, pick(P), 'main' FROM generate_series(1, N) i",
  ],
  [
    "builds",
    0.08,
    "INSERT INTO builds (id, partition_id, pipeline_id, name, status, tags, duration) SELECT i, 100 + (1 + i % PIPELINES) % 2, 1 + i % PIPELINES, 'test', (enum_range(NULL::build_status))[1 + i % 4], ARRAY['linux', 'n' || i % 5], make_interval(secs => i % 900) FROM generate_series(1, N) i",
  ],
  [
    "job_artifacts",
    0.03,
    "INSERT INTO job_artifacts (id, build_id, partition_id, file_sha256, size_bytes) SELECT b.id, b.id, b.partition_id, sha256(b.id::text::bytea), b.id * 10 FROM builds b WHERE b.id <= N",
  ],
  [
    "todos",
    0.03,
    "INSERT INTO todos (id, user_id, target_type, target_id) SELECT i, 1 + i % U, 'Issue', 1 + i % ISSUES FROM generate_series(1, N) i",
  ],
  [
    "events",
    0.11,
    "INSERT INTO events (id, project_id, author_id, action) SELECT i, pick(P), 1 + i % U, (enum_range(NULL::event_action))[1 + i % 5] FROM generate_series(1, N) i",
  ],
  [
    "audit_events",
    0.03,
    "INSERT INTO audit_events (id, organization_id, created_at, details, from_address) SELECT i, p.organization_id, '2025-06-01'::timestamptz + make_interval(hours => i % 9000), jsonb_build_object('n', i), '192.0.2.1'::inet + i % 200 FROM (SELECT i, pick(P) AS project FROM generate_series(1, N) i) x JOIN projects p ON p.id = x.project",
  ],
];

/** What every project has, and the small tables. */
const PER_PROJECT = [
  "INSERT INTO routes (source_type, source_id, path) SELECT 'Namespace', id, 'n' || id FROM namespaces",
  "INSERT INTO routes (source_type, source_id, path) SELECT 'Project', id, 'p' || id FROM projects",
  `INSERT INTO project_settings (project_id, settings, squash_templates) SELECT id, jsonb_build_object('ci', id % 2 = 0), ARRAY['a', 'b"c', 'd,e'] FROM projects`,
  "INSERT INTO project_topics SELECT id, 1 + id % 5 FROM projects",
  "INSERT INTO members (source_type, source_id, user_id, access_level) SELECT 'Project', id, 1 + id % U, 40 FROM projects",
  "INSERT INTO members (source_type, source_id, user_id, access_level) SELECT 'Namespace', id, 1 + id % U, 50 FROM namespaces",
  "INSERT INTO uploads (model_type, model_id, path, checksum) SELECT 'Project', id, 'uploads/' || organization_id || '/p' || id, sha256(id::text::bytea) FROM projects",
  "INSERT INTO uploads (model_type, model_id, path) SELECT 'Organization', id, 'uploads/' || id || '/logo' FROM organizations",
  "INSERT INTO lfs_objects (oid, size_bytes) SELECT encode(sha256(i::text::bytea), 'hex'), i FROM generate_series(1, 40) i",
  "INSERT INTO lfs_objects_projects SELECT p.id, 1 + (p.id * k) % 40 FROM projects p, generate_series(1, 2) k ON CONFLICT DO NOTHING",
  "INSERT INTO snippets (project_id, file_name, content) SELECT id, 'notes.md', repeat('snippet ', 50) FROM projects",
  "INSERT INTO releases (project_id, tag) SELECT id, 'v1.0' FROM projects",
  "INSERT INTO protected_branches (project_id, name) SELECT id, 'main' FROM projects",
  "INSERT INTO deploy_keys (project_id, fingerprint) SELECT id, sha256(id::text::bytea) FROM projects",
  "INSERT INTO webhooks (project_id, url, encrypted_token) SELECT id, 'https://hooks.example/' || id, decode(md5(id::text), 'hex') FROM projects",
  "INSERT INTO boards (project_id, name) SELECT id, 'Development' FROM projects",
  'INSERT INTO board_lists (board_id, "position") SELECT b.id, k FROM boards b, generate_series(1, 3) k',
  `INSERT INTO "Übersetzungen" (project_id, "Schlüssel", "Wert") SELECT id, 'grüße', 'こんにちは ' || id FROM projects`,
  'INSERT INTO organization_settings (organization_id, settings) SELECT id, \'{"theme": "dark"}\' FROM organizations',
];

export interface SampleProject {
  readonly id: string;
  readonly organizationId: string;
  readonly hasWiki: boolean;
}

/** Loads schema and rows; returns the projects, in order of id. */
export async function generateRows(
  database: pg.ClientConfig,
  sizes: SampleSizes,
  seed: number,
  onProgress: (done: number, total: number) => void,
): Promise<SampleProject[]> {
  const client = new pg.Client(database);
  // What uses it says that it broke.
  client.on("error", () => undefined);
  await client.connect();
  try {
    await client.query(await readFile(join(import.meta.dirname, "../schema.sql"), "utf8"));
    const counts = plan(sizes);
    await client.query("BEGIN");
    // Foreign keys and the application's triggers would each look at every row; all rows are made to fit.
    await client.query("SET LOCAL session_replication_role = replica");
    await client.query("SELECT setseed($1)", [((seed % 2_000) - 1_000) / 1_000]);
    await client.query(`CREATE FUNCTION pg_temp.pick(projects bigint) RETURNS bigint LANGUAGE sql VOLATILE AS $$
      SELECT 1 + floor(projects * power(random(), 1.6))::bigint $$`);
    await base(client, counts);
    const steps = [...PER_PROJECT.map((insert) => ["", 0, insert] as const), ...SHARES];
    for (const [index, [table, , insert]] of steps.entries()) {
      await client.query(fill(insert, { ...counts, N: table === "" ? 0 : (counts[table] ?? 0) }));
      onProgress(index + 1, steps.length);
    }
    await client.query(
      "INSERT INTO project_statistics SELECT p.id, 0, count(i.id), 3 FROM projects p LEFT JOIN issues i ON i.project_id = p.id GROUP BY p.id",
    );
    await client.query("COMMIT");
    await restartIdentities(client);
    await client.query("ANALYZE");
    const { rows } = await client.query<{ id: string; organization: string; wiki: boolean }>(
      "SELECT id::text, organization_id::text AS organization, has_wiki AS wiki FROM projects ORDER BY projects.id",
    );
    return rows.map((row) => ({ id: row.id, organizationId: row.organization, hasWiki: row.wiki }));
  } finally {
    await client.end();
  }
}

/** Rows per table, so that they add up to what was asked for, about. */
function plan(sizes: SampleSizes): Record<string, number> {
  const projects = Math.max(sizes.organizations, Math.ceil(sizes.repositories * 0.75));
  const budget = Math.max(0, sizes.rows - projects * (PER_PROJECT.length + 5));
  const counts: Record<string, number> = {
    P: projects,
    O: sizes.organizations,
    U: Math.max(20, Math.ceil(sizes.rows * 0.005)),
  };
  counts["WIKIS"] = Math.max(0, sizes.repositories - projects);
  for (const [table, share] of SHARES) counts[table] = Math.max(10, Math.floor(budget * share));
  const alias = {
    ISSUES: "issues",
    LABELS: "labels",
    MRS: "merge_requests",
    DIFFS: "merge_request_diffs",
    PIPELINES: "pipelines",
  };
  for (const [name, table] of Object.entries(alias)) counts[name] = counts[table] ?? 1;
  return counts;
}

async function base(client: pg.Client, counts: Record<string, number>): Promise<void> {
  const statements = [
    "INSERT INTO schema_migrations VALUES ('20260101000000'), ('20260201000000')",
    "INSERT INTO users (id, username, state) SELECT i, 'user' || i, (enum_range(NULL::user_state))[1 + i % 3] FROM generate_series(1, U) i",
    "INSERT INTO emails (user_id, email) SELECT id, username || '@example.com' FROM users",
    "INSERT INTO topics (id, name) SELECT i, 'topic ' || i FROM generate_series(1, 6) i",
    "INSERT INTO organizations (id, name, path) SELECT i, 'Organization ' || i, 'org-' || i FROM generate_series(1, O) i",
    "INSERT INTO namespaces (id, organization_id, name, path, traversal_ids) SELECT i, i, 'Root ' || i, 'root', ARRAY[i] FROM generate_series(1, O) i",
    "INSERT INTO namespaces (id, organization_id, parent_id, name, path, traversal_ids) SELECT O + i, i, i, 'Team ' || i, 'team', ARRAY[i, O + i] FROM generate_series(1, O) i",
    // The first organizations get one project each, the others go mostly to the first: some are big, some are small.
    `INSERT INTO projects (id, organization_id, namespace_id, name, path, visibility_level, description, has_wiki)
     SELECT i, o, CASE WHEN i % 2 = 0 THEN o ELSE O + o END, 'Project ' || i, 'project-' || i, (ARRAY[0, 10, 20])[1 + i % 3], 'The ' || i || 'th', i <= WIKIS
       FROM (SELECT i, CASE WHEN i <= O THEN i ELSE 1 + floor(O * power(random(), 2))::bigint END AS o FROM generate_series(1, P) i) x`,
    "UPDATE projects SET forked_from_project_id = id - 1 WHERE id % 7 = 0",
    "INSERT INTO project_repositories SELECT id, '@hashed/' || left(h, 2) || '/' || substr(h, 3, 2) || '/' || h FROM (SELECT id, encode(sha256(id::text::bytea), 'hex') AS h FROM projects) x",
  ];
  for (const statement of statements) await client.query(fill(statement, counts));
}

/** Puts counts in for the names in capitals; they are numbers that this file computed. */
function fill(statement: string, counts: Record<string, number>): string {
  return statement
    .replaceAll("pick(", "pg_temp.pick(")
    .replace(/\b(N|P|O|U|WIKIS|ISSUES|LABELS|MRS|DIFFS|PIPELINES)\b/g, (name) => String(counts[name] ?? 0));
}

async function restartIdentities(client: pg.Client): Promise<void> {
  const { rows } = await client.query<{ name: string; column: string; sequence: string }>(
    `SELECT format('%I.%I', n.nspname, c.relname) AS name, quote_ident(a.attname) AS "column",
            pg_get_serial_sequence(format('%I.%I', n.nspname, c.relname), a.attname) AS sequence
       FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE a.attidentity <> '' AND n.nspname = 'public' AND NOT c.relispartition`,
  );
  for (const { name, column, sequence } of rows) {
    await client.query(`SELECT setval($1, greatest(1, (SELECT max(${column}) FROM ${name})))`, [sequence]);
  }
}
