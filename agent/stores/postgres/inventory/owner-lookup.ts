/** Owners of repositories and objects, answered by the rules file and the Pod's own database. */
import { CleaveError } from "../../../../protocol/errors.ts";
import { OrganizationId } from "../../../../protocol/ids.ts";
import type { Ownership } from "../../../../protocol/ownership.ts";
import type { Named, Owner, OwnerLookup } from "../../common/inventory/owner-lookup.ts";
import { isWritten, type KeyKind, rootKeyKind } from "../fence/owner-types.ts";
import { awaitMarker } from "../fence/raise.ts";
import { inTransaction, type Queryable } from "../server/queryable.ts";

const PAGE_ROWS = 10_000;

interface Row {
  readonly path: string | null;
  readonly organization: string | null;
}

/** The operator's query as a table; a `;` at its end is a habit, not a second statement. */
function asTable(sql: string): string {
  return `(${sql.trim().replace(/;\s*$/, "")}\n) AS rule`;
}

const isAbsent = (error: unknown): boolean =>
  // Syntax error, undefined column, table or function: the rules do not fit the database (SQLSTATE class 42).
  typeof (error as { code?: unknown }).code === "string" && (error as { code: string }).code.startsWith("42");

/**
 * Looks owners up in the Pod's own database, read-only (so on a hot standby too).
 * Every lookup throws OWNERSHIP_RULE_INVALID when the rules' query does not fit the database, and OWNER_UNKNOWN when a
 * repository has two owners or one that is no organization id: unknown never counts as an answer (rule 11).
 */
export function postgresOwnerLookup(pool: Queryable, ownership: Ownership): OwnerLookup {
  const rule = ownership.repositories;
  /** Undefined until the database has said it. */
  let known: KeyKind | undefined;
  const learn = async () => {
    known ??= await rootKeyKind(pool, ownership);
    return known;
  };
  learn().catch(() => undefined);

  const select = async (where: string, values: readonly unknown[]): Promise<Map<string, OrganizationId>> => {
    if (!rule) return new Map();
    const sql = `SELECT rule.path::text AS path, rule.organization::text AS organization FROM ${asTable(rule.sql)} ${where}`;
    try {
      const { rows } = await inTransaction(
        pool,
        (client) => client.query<Row>(sql, [...values]),
        "READ ONLY",
      );
      return owners(rows, await learn());
    } catch (error) {
      throw invalidIn("repositories.sql", error);
    }
  };

  const named: OwnerLookup["named"] = async (store, marker, visit) => {
    const [name, of, columns] =
      store === "git"
        ? ([
            "repositories.sql",
            rule,
            "rule.path::text AS name, rule.organization::text AS organization",
          ] as const)
        : (["objectKeys.sql", ownership.objectKeys, "rule.key::text AS name, NULL AS organization"] as const);
    if (!of) return true;
    return inTransaction(
      pool,
      async (client) => {
        // Each statement sees at least what the one before it has seen.
        if (marker !== null && (await awaitMarker(client, marker.migrationId, marker.epoch)) === null)
          return false;
        try {
          await client.query(`DECLARE named NO SCROLL CURSOR FOR SELECT ${columns} FROM ${asTable(of.sql)}`);
          for (;;) {
            const { rows } = await client.query<Named | { readonly name: null }>(
              `FETCH ${PAGE_ROWS} FROM named`,
            );
            visit(rows.map((row) => withName(row, name)));
            if (rows.length < PAGE_ROWS) return true;
          }
        } catch (error) {
          throw invalidIn(name, error);
        }
      },
      "READ ONLY",
    );
  };

  return {
    named,
    namesObjects: ownership.objectKeys !== undefined,
    repositories: () => select("", []),
    repository: async (path) => (await select("WHERE rule.path::text = $1", [path])).get(path) ?? null,
    object: (key) => objectOwner(ownership, key, known),
  };
}

function withName(row: Named | { readonly name: null }, rule: string): Named {
  if (row.name !== null) return row;
  throw new CleaveError("OWNERSHIP_RULE_INVALID", `${rule} gives a row without a name`);
}

/** An error of the rule itself says so; every other one stays. */
function invalidIn(rule: string, error: unknown): unknown {
  if (!isAbsent(error)) return error;
  return new CleaveError("OWNERSHIP_RULE_INVALID", `${rule}: ${(error as Error).message}`, { cause: error });
}

function owners(rows: readonly Row[], kind: KeyKind): Map<string, OrganizationId> {
  const found = new Map<string, OrganizationId>();
  for (const { path, organization } of rows) {
    if (path === null)
      throw new CleaveError("OWNERSHIP_RULE_INVALID", "repositories.sql gives a row without a path");
    const parsed = OrganizationId.safeParse(organization);
    if (!parsed.success)
      throw new CleaveError(
        "OWNER_UNKNOWN",
        `the repository ${path} has ${organization === null ? "no owner" : "an owner that is no organization id"}`,
      );
    if (!isWritten(kind, parsed.data))
      throw new CleaveError(
        "OWNER_UNKNOWN",
        `the repository ${path} belongs to ${parsed.data}, which is not how a key of the type ${kind} is written`,
      );
    const before = found.get(path);
    if (before !== undefined && before !== parsed.data)
      throw new CleaveError(
        "OWNER_UNKNOWN",
        `the repository ${path} belongs to ${before} and to ${parsed.data}`,
      );
    found.set(path, parsed.data);
  }
  return found;
}

/** The rule with the longest prefix decides, whatever the order in the file. */
function objectOwner(ownership: Ownership, key: string, kind: KeyKind | undefined): Owner | null {
  const rule = ownership.objects
    .filter(({ prefix }) => key.startsWith(prefix))
    .reduce<Ownership["objects"][number] | null>(
      (best, one) => (best === null || one.prefix.length > best.prefix.length ? one : best),
      null,
    );
  if (!rule) return null;
  if ("shared" in rule) return { kind: "shared" };
  // `prefix` may end with its slash or leave it to the key; the organization is a whole segment in front of another.
  const rest = key.slice(rule.prefix.length);
  const [segment, ...below] = (
    rule.prefix.endsWith("/") || rule.prefix === "" ? rest : rest.replace(/^\//, "")
  ).split("/");
  if (!rule.prefix.endsWith("/") && rule.prefix !== "" && !rest.startsWith("/")) return null;
  const organization = OrganizationId.safeParse(segment);
  // Another way to write a key (`007`, `A0EE…`) may mean the organization to an application, and means nobody here.
  const written = kind === undefined || isWritten(kind, segment ?? "");
  return organization.success && below.length > 0 && written
    ? { kind: "organization", organizationId: organization.data }
    : null;
}
