/** Which triggers have to be where, and which are not. */
import type { Ownership } from "../../../../protocol/ownership.ts";
import type { Queryable } from "../server/queryable.ts";
import type { Catalog, Relation } from "./catalog.ts";
import { createTrigger } from "./create-trigger.ts";
import { tableGuard } from "./guard-functions.ts";
import { APPLY_ROLE, ROW_TRIGGER, TRUNCATE_TRIGGER } from "./names.ts";
import { rulesOf } from "./owner-sql.ts";

export interface ExpectedTrigger {
  readonly relation: Relation;
  readonly kind: "row" | "truncate";
  readonly guardFunction: string;
  /** A partition's row trigger is PostgreSQL's copy of its parent's and cannot be made by itself. */
  readonly inherited: boolean;
}

/** Every trigger that these rules ask for; of a table that is not there, none. */
export function expectedTriggers(ownership: Ownership, catalog: Catalog): readonly ExpectedTrigger[] {
  return [...rulesOf(ownership)].flatMap(([table, rule]) => {
    const guard = tableGuard(table, rule);
    if (!guard || catalog.byName.get(table)?.isPartition !== false) return [];
    return catalog.covered(table).flatMap((relation): ExpectedTrigger[] =>
      relation.kind === "foreign"
        ? []
        : [
            { relation, kind: "row", guardFunction: guard.rowFunction, inherited: relation.isPartition },
            { relation, kind: "truncate", guardFunction: guard.truncateFunction, inherited: false },
          ],
    );
  });
}

/** pg_trigger.tgtype, from PostgreSQL's catalog/pg_trigger.h: row 1, before 2, insert 4, delete 8, update 16, truncate 32. */
const TYPE = { row: 1 + 2 + 4 + 8 + 16, truncate: 2 + 32 } as const;

export interface TriggerFault {
  readonly trigger: ExpectedTrigger;
  readonly fault: "missing" | "disabled" | "altered";
}

/** The expected triggers that are not as they have to be. */
export async function findTriggerFaults(
  db: Queryable,
  expected: readonly ExpectedTrigger[],
): Promise<readonly TriggerFault[]> {
  const { rows } = await db.query<{
    relation: number;
    name: string;
    tgenabled: string;
    tgtype: number;
    condition: string | null;
    every_column: boolean;
    guard_function: string;
  }>(
    `SELECT t.tgrelid::int8::float8 AS relation, t.tgname AS name, t.tgenabled, t.tgtype,
       pg_catalog.pg_get_expr(t.tgqual, t.tgrelid) AS condition, t.tgattr = ''::int2vector AS every_column,
       CASE n.nspname WHEN 'cleave' THEN p.proname ELSE '' END AS guard_function
     FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
       JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
     WHERE t.tgname = ANY($1::name[]) AND t.tgrelid = ANY($2::oid[])`,
    // Of these tables alone: it is asked for each of a thousand partitions.
    [[ROW_TRIGGER, TRUNCATE_TRIGGER], [...new Set(expected.map(({ relation }) => relation.oid))]],
  );
  const present = new Map(rows.map((row) => [`${row.relation} ${row.name}`, row]));
  return expected.flatMap((trigger): TriggerFault[] => {
    const name = trigger.kind === "row" ? ROW_TRIGGER : TRUNCATE_TRIGGER;
    const found = present.get(`${trigger.relation.oid} ${name}`);
    if (!found) return [{ trigger, fault: "missing" }];
    const asMade =
      found.every_column &&
      (trigger.kind === "row" ? exceptsApply(found.condition) : found.condition === null) &&
      found.guard_function === trigger.guardFunction &&
      found.tgtype === TYPE[trigger.kind];
    if (!asMade) return [{ trigger, fault: "altered" }];
    // `A`: it fires whatever session_replication_role says.
    return found.tgenabled === "A" ? [] : [{ trigger, fault: "disabled" }];
  });
}

/** As versions of PostgreSQL write it back: with and without parentheses, quotes and a schema. */
const EXCEPTS_APPLY = new RegExp(
  `^session_user operatorpg_catalog\\.<> '${APPLY_ROLE}'::name$|^session_user <> '${APPLY_ROLE}'::name$`,
);

function exceptsApply(condition: string | null): boolean {
  return EXCEPTS_APPLY.test((condition ?? "").toLowerCase().replaceAll(/[()"]/g, ""));
}

/** SQL that repairs one fault. A partition's row trigger that is gone altogether needs its parent's made again. */
export function repairOf({ trigger, fault }: TriggerFault): string {
  if (trigger.inherited && fault === "disabled")
    return `ALTER TABLE ${trigger.relation.quoted} ENABLE ALWAYS TRIGGER "${ROW_TRIGGER}"`;
  return createTrigger(trigger.kind, trigger.relation.quoted, trigger.guardFunction);
}
