/** `cleave analyze`: explains whose every table's rows are, and what keeps them from being moved by themselves. */
import type { Ownership, TableRule } from "../../../../protocol/ownership.ts";
import { isOwned, ownerColumns } from "../fence/owner-sql.ts";
import type { Queryable } from "../server/queryable.ts";
import { Measure, type Owners } from "./measure.ts";
import { type Certainty, type Resolution, resolve, rootOf } from "./resolve.ts";
import { identityOf, readSchema, type Schema, type Table } from "./schema.ts";
import { selectOfOrganization } from "./selection.ts";

export interface Blocker {
  /** `error`: the table cannot be moved as it is. `warning`: it can, and the operator should know. */
  readonly severity: "error" | "warning";
  readonly message: string;
}

export interface TableReport {
  readonly table: string;
  /** Null: nothing explains it; `suggestion` says what it looks like. */
  readonly rule: TableRule | null;
  readonly certainty: Certainty;
  readonly because: string;
  /** From the table to the root, each with the columns that lead on; empty for what no organization owns. */
  readonly path: readonly string[];
  /** Selects one organization's rows; its key is `$1`. */
  readonly sql: string | null;
  /** Whether a row of the change stream says by itself whose it is, or its parent has to be looked up. */
  readonly changeRecord: "suffices" | "suffices but for deletions" | "needs the parent" | "not asked";
  /** What a change stream needs, as ALTER TABLE would say it, and null when it is so already. */
  readonly replicaIdentityNeeded: string | null;
  readonly rows: number;
  readonly bytes: number;
  readonly partitions: number;
  readonly blockers: readonly Blocker[];
  readonly suggestion: string | null;
}

export interface Analysis {
  readonly root: { readonly table: string; readonly key: string; readonly keyType: string };
  readonly ownership: Ownership;
  readonly tables: readonly TableReport[];
  readonly largeObjects: number;
}

export interface AnalyzeOptions {
  readonly root: string;
  /** An earlier `ownership.yaml`, whose rules are not questioned. */
  readonly rules?: Ownership;
  readonly sampledRows?: number;
  readonly onProgress?: (text: string) => void;
}

/** @throws CleaveError OWNERSHIP_RULE_INVALID when there is no such root table or it has no key of one column. */
export async function analyze(db: Queryable, options: AnalyzeOptions): Promise<Analysis> {
  options.onProgress?.("reading the catalog");
  const schema = await readSchema(db);
  const root = rootOf(schema, options.root);
  const measure = new Measure(db, options.sampledRows);
  const resolution = await resolve({
    schema,
    measure,
    root,
    rules: { ...options.rules?.tables, [root.table]: { organization: root.key } },
    ...(options.onProgress ? { onProgress: options.onProgress } : {}),
  });
  const { rows } = await db.query<{ count: number }>(
    "SELECT count(*)::int AS count FROM pg_catalog.pg_largeobject_metadata",
  );
  const tables: TableReport[] = [];
  for (const table of schema.values()) {
    options.onProgress?.(`looking at the rows of ${table.name}`);
    tables.push(await reportOf(table, schema, resolution, measure));
  }
  const keyType = schema.get(root.table)?.columns.get(root.key)?.type ?? "unknown";
  const { repositories, objects } = options.rules ?? {};
  const ownership = {
    ...resolution.ownership,
    ...(repositories === undefined ? {} : { repositories }),
    objects: objects ?? [],
  };
  return { root: { ...root, keyType }, ownership, tables, largeObjects: rows[0]?.count ?? 0 };
}

async function reportOf(
  table: Table,
  schema: Schema,
  resolution: Resolution,
  measure: Measure,
): Promise<TableReport> {
  const { ownership, explained } = resolution;
  const known = explained.get(table.name);
  const owned = known !== undefined && isOwned(known.rule);
  const owners = owned ? await measure.owners(table, ownership) : null;
  const blockers = [
    ...storageBlockers(table),
    ...(owned ? keyBlockers(table) : []),
    ...(owners === null ? [] : ownerBlockers(owners)),
    ...(owned ? await crossings(table, schema, resolution, measure) : []),
  ];
  const common = {
    table: table.name,
    rows: Math.round(table.rows),
    bytes: table.bytes,
    partitions: table.members.length,
  };
  if (known === undefined) {
    const suggestion = await suggestionFor(table, schema, resolution, measure);
    return {
      ...common,
      rule: null,
      certainty: "unexplained",
      because: "nothing leads from it to an organization",
      path: [],
      sql: null,
      changeRecord: "not asked",
      replicaIdentityNeeded: null,
      blockers: [{ severity: "error", message: "no rule: write one into the rules file" }, ...blockers],
      suggestion,
    };
  }
  return {
    ...common,
    rule: known.rule,
    certainty: known.certainty,
    because: table.name === ownership.root.table ? "the root" : known.because,
    path: owned ? pathOf(ownership, table.name) : [],
    sql: owned ? selectOfOrganization(ownership, table.name) : null,
    changeRecord: owned ? changeRecordOf(table, known.rule) : "not asked",
    replicaIdentityNeeded: owned ? replicaIdentityNeeded(table) : null,
    blockers,
    suggestion: null,
  };
}

const list = (columns: string | readonly string[]) =>
  typeof columns === "string" ? columns : columns.join(", ");

/** `public.notes (project_id)`, `public.projects (organization_id)`, `public.organizations`. */
export function pathOf(ownership: Ownership, table: string): string[] {
  const path: string[] = [];
  for (let name: string | null = table; name !== null && path.length < 20; ) {
    const rule: TableRule | undefined = ownership.tables[name];
    if (name === ownership.root.table || rule === undefined) return [...path, name];
    if ("organization" in rule) return [...path, `${name} (${rule.organization})`, ownership.root.table];
    if ("parent" in rule) {
      path.push(`${name} (${list(rule.column)})`);
      name = rule.parent;
    } else if ("typeColumn" in rule) {
      const parents = [...new Set(Object.values(rule.parents))];
      return [
        ...path,
        `${name} (${rule.typeColumn}, ${rule.idColumn})`,
        parents.join(" or "),
        ownership.root.table,
      ];
    } else return path;
  }
  return path;
}

function storageBlockers(table: Table): Blocker[] {
  const error = (message: string): Blocker => ({ severity: "error", message });
  const largeObjects = [...table.columns.values()].filter(({ type }) => type === "oid" || type === "lo");
  return [
    ...(table.kind === "foreign" ? [error("a foreign table: its rows are elsewhere")] : []),
    ...(table.unlogged ? [error("unlogged: replicas and change streams do not have its rows")] : []),
    ...largeObjects.map(
      ({ name }): Blocker => ({
        severity: "warning",
        message: `${name} may refer to large objects, which change streams leave out`,
      }),
    ),
  ];
}

function keyBlockers(table: Table): Blocker[] {
  if (identityOf(table) !== null || table.replicaIdentity === "full") return [];
  return [
    {
      severity: "error",
      message: "no key: two equal rows could not be told apart; add one, or REPLICA IDENTITY FULL",
    },
  ];
}

function ownerBlockers(owners: Owners): Blocker[] {
  if (owners.unowned === 0) return [];
  return [
    {
      severity: "error",
      message: `${owners.unowned} of ${owners.rows} rows looked at have no owner, for example ${owners.example}`,
    },
  ];
}

/** References that lead to another organization than the row's own: after a move they would point to another Pod. */
async function crossings(
  table: Table,
  schema: Schema,
  { ownership, explained }: Resolution,
  measure: Measure,
): Promise<Blocker[]> {
  const rule = explained.get(table.name)?.rule;
  if (rule === undefined || !isOwned(rule) || table.name === ownership.root.table) return [];
  const own = JSON.stringify(ownerColumns(rule));
  const found: Blocker[] = [];
  for (const key of table.foreignKeys) {
    const parent = schema.get(key.parent);
    const parentRule = explained.get(key.parent)?.rule;
    if (parent === undefined || parentRule === undefined || !isOwned(parentRule)) continue;
    if (JSON.stringify(key.columns) === own) continue;
    const crossing = await measure.crossing(table, ownership, key.columns, parent, key.parentKey);
    if (crossing === null || crossing.crossing === 0) continue;
    const { crossing: count, rows, example } = crossing;
    found.push({
      severity: "warning",
      message: `${count} of ${rows} rows refer by ${key.columns.join(", ")} to a row of ${parent.name} of another organization, for example ${example}`,
    });
  }
  return found;
}

function changeRecordOf(table: Table, rule: TableRule): TableReport["changeRecord"] {
  if (!("organization" in rule)) return "needs the parent";
  const identity = identityOf(table)?.columns ?? [];
  const old = table.replicaIdentity === "full" || identity.includes(rule.organization);
  return old ? "suffices" : "suffices but for deletions";
}

/** Null when the change stream can already tell which row changed. */
function replicaIdentityNeeded(table: Table): string | null {
  if (table.replicaIdentity === "full" || table.replicaIdentity === "index") return null;
  const primary = table.keys.some((key) => key.primary);
  if (primary) return table.replicaIdentity === "nothing" ? "REPLICA IDENTITY DEFAULT" : null;
  const key = identityOf(table);
  return key === null ? "REPLICA IDENTITY FULL" : `REPLICA IDENTITY USING INDEX ${key.index}`;
}

/** What an unexplained table looks like; never taken for granted. */
async function suggestionFor(
  table: Table,
  schema: Schema,
  { ownership, explained }: Resolution,
  measure: Measure,
): Promise<string> {
  for (const other of schema.values()) {
    const rule = explained.get(other.name)?.rule;
    if (rule === undefined || !isOwned(rule)) continue;
    for (const key of other.foreignKeys) {
      if (key.parent !== table.name) continue;
      const sharing = await measure.sharing(other, ownership, key.columns);
      if (sharing !== null && sharing.shared > 0)
        return `clusterWide or shared: ${sharing.shared} of ${sharing.rows} rows that ${other.name} refers to are referred to by several organizations, for example ${sharing.example}`;
      return `clusterWide or shared: ${other.name} refers to it`;
    }
  }
  const parent = table.foreignKeys.find((key) => key.parent !== table.name && schema.has(key.parent));
  if (parent !== undefined) return `as ${parent.parent}, which it refers to by ${parent.columns.join(", ")}`;
  return "local: nothing refers to it, and it refers to nothing";
}
