/** What a change stream has told of a relation, as the plan of a move has its table. Pure. */
import { CleaveError } from "../../../../protocol/errors.ts";
import type { MovedTable, Moving } from "./moved-tables.ts";
import type { RelationMessage, Value } from "./pgoutput.ts";
import type { Relation } from "./runs.ts";
import { ownColumn } from "./statements.ts";
import type { Traits } from "./traits.ts";

/** Without a relation when it is no organization's. */
export interface Told {
  readonly message: RelationMessage;
  readonly relation: Relation | null;
  /** Where in a row the organization is named, and whether the old row has it too; -1 when it is not. */
  readonly own: number;
  readonly ownInIdentity: boolean;
  /** Where in a row its key is. */
  readonly key: readonly number[];
  /** Of a shape that the table had once: which of the values that are sent it still has; else null. */
  readonly kept: readonly number[] | null;
}

/**
 * `isPast` says that the plan is of after the transaction that this is told for: then the table may have had other columns,
 * and those that are left are applied. Of a table that had another key nothing can be; the comparison has to do it.
 * @throws CleaveError SCHEMA_DIFFERS, REPLICA_IDENTITY_MISSING
 */
export function toldOf(
  message: RelationMessage,
  moving: Moving,
  traitsOf: ReadonlyMap<string, Traits>,
  isPast: boolean,
): Told {
  const name = `${message.schema}.${message.name}`;
  const table = moving.tables.find((one) => one.name === name);
  const traits = traitsOf.get(name);
  const none = { message, relation: null, own: -1, ownInIdentity: false, key: [], kept: null };
  if (table === undefined || traits === undefined) return none;
  const differing = differences(message, table);
  if (differing !== null && !isPast)
    throw new CleaveError("SCHEMA_DIFFERS", `${name} was altered on the source${differing}`);
  const columns = new Set(table.columns.map((column) => column.name));
  const kept = message.columns.flatMap((column, at) => (columns.has(column.name) ? [at] : []));
  const shape = { ...message, columns: message.columns.filter((column) => columns.has(column.name)) };
  const position = new Map(shape.columns.map((column, at) => [column.name, at]));
  const at = (column: string) => position.get(column) ?? -1;
  const key = table.key.map(at);
  // Else the key of a row that was deleted would be NULL in the stream, and the row would stay.
  if (key.some((one) => shape.columns[one]?.key !== true)) {
    // The plan's table has a replica identity that fits (moved-tables.ts), so this one is of before.
    if (isPast) return none;
    throw new CleaveError(
      "REPLICA_IDENTITY_MISSING",
      `the replica identity of ${name} on the source is without ${table.key.join(", ")}`,
    );
  }
  const column = ownColumn(table);
  const own = column === null ? -1 : at(column);
  // Whose its rows were cannot be told.
  if (own < 0 && "organization" in table.rule && at(table.rule.organization) < 0) return none;
  return {
    message: shape,
    relation: { message: shape, position, table, ...traits },
    own,
    ownInIdentity: shape.columns[own]?.key === true,
    key,
    kept: kept.length === message.columns.length ? null : kept,
  };
}

/** In words, null when there is none. */
function differences(message: RelationMessage, table: MovedTable): string | null {
  const known = new Set(table.columns.map((column) => column.name));
  const sent = message.columns.filter(({ name }) => !table.generated.includes(name));
  const more = sent.filter((column) => !known.has(column.name)).map((column) => column.name);
  if (more.length === 0 && sent.length === known.size) return null;
  return more.length > 0 ? `: ${more.join(", ")}` : "";
}

/** The values of a row as the relation has them. */
export function valuesOf({ kept }: Told, values: readonly Value[]): readonly Value[] {
  return kept === null ? values : kept.map((at) => values[at]);
}
