/**
 * What writers note is the key of a row as its table had it then. After a change of the schema the key may be of other columns,
 * or of another type: then a note may name no row at all, and comparing it would fail for ever. Such a table is compared whole
 * (schema-comparison.ts), so what its old notes meant is not lost.
 */
import { keyTypes, type Moving } from "../replication/moved-tables.ts";
import type { Database } from "../server/connection.ts";
import { sqlStateOf } from "../server/queryable.ts";
import { given, parameters, type RowKey } from "./keys.ts";
import { byTable, type TouchedRow } from "./rows.ts";

/** Values that are surely of the type. Of most others the server is asked. */
const SURE: Readonly<Record<string, RegExp>> = {
  smallint: /^-?\d{1,4}$/,
  integer: /^-?\d{1,9}$/,
  bigint: /^-?\d{1,18}$/,
  uuid: /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/,
  text: /^/,
  "character varying": /^/,
};

/** Those of the notes whose keys may be some row's: the same for whoever asks, by the same plan. */
export async function fittingKeys(
  db: Database,
  moving: Moving,
  touched: readonly TouchedRow[],
): Promise<readonly TouchedRow[]> {
  const misfits = new Set<string>();
  for (const [name, keys] of byTable(touched)) {
    const table = moving.tables.find((one) => one.name === name);
    if (table === undefined) continue;
    const types = keyTypes(table);
    const ofWidth = keys.filter((key) => key.length === types.length);
    const unsure = ofWidth.filter((key) =>
      types.some((type, at) => SURE[type]?.test(key[at] as string) !== true),
    );
    const wrong = [
      ...keys.filter((key) => key.length !== types.length),
      ...(await noValues(db, types, unsure)),
    ];
    for (const key of wrong) misfits.add(JSON.stringify([name, key]));
  }
  if (misfits.size === 0) return touched;
  return touched.filter(({ table, key }) => !misfits.has(JSON.stringify([table, key])));
}

/** Data exceptions, and what a domain's constraints refuse. */
const NO_VALUE = /^(22|23)/;

async function noValues(
  db: Database,
  types: readonly string[],
  keys: readonly RowKey[],
): Promise<readonly RowKey[]> {
  if (keys.length === 0) return [];
  const { from, typed } = given(types);
  try {
    await db.query(`SELECT ${typed.map((value) => `pg_catalog.count(${value})`).join(", ")} FROM ${from}`, [
      ...parameters(keys, types.length),
    ]);
    return [];
  } catch (error) {
    if (!NO_VALUE.test(sqlStateOf(error) ?? "")) throw error;
    if (keys.length === 1) return keys;
    const half = keys.length >> 1;
    return [
      ...(await noValues(db, types, keys.slice(0, half))),
      ...(await noValues(db, types, keys.slice(half))),
    ];
  }
}
