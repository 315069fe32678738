/** Writes down what the guard's functions name, for known-names.ts; with the functions, in one transaction. */
import type { ClientBase } from "pg";
import type { Ownership } from "../../../../protocol/ownership.ts";
import { quoteTable } from "../server/queryable.ts";
import { type Keys, rowFunctions, tableGuard } from "./guard-functions.ts";
import { MarkedNames, quoted } from "./marks.ts";
import { isOwned, ownerColumns, rulesOf } from "./owner-sql.ts";

export async function rememberNames(client: ClientBase, ownership: Ownership, keys: Keys): Promise<void> {
  const names = new MarkedNames();
  const equalities = Object.assign(new Map(keys.equalities), { names });
  const functions = rowFunctions(ownership, { ...keys, equalities });
  await client.query(
    "DELETE FROM cleave.guard_source; DELETE FROM cleave.guard_name; DELETE FROM cleave.guarded",
  );
  await client.query(
    "INSERT INTO cleave.guard_source (name, body) SELECT * FROM unnest($1::text[], $2::text[])",
    [functions.map(({ name }) => name), functions.map(({ body }) => body)],
  );
  const { marks } = names;
  await client.query(
    `INSERT INTO cleave.guard_name (mark, quoted_table, "column", relation, number, present, type)
     SELECT given.mark, given.quoted, given.name, c.oid, a.attnum,
       CASE given.name WHEN '' THEN given.quoted ELSE ${quoted("given.name")} END, a.atttypid
     FROM unnest($1::text[], $2::text[], $3::text[]) AS given (mark, quoted, name)
       LEFT JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.to_regclass(given.quoted)
       LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = given.name AND a.attnum > 0 AND NOT a.attisdropped`,
    [
      marks.map(({ mark }) => mark),
      marks.map(({ table }) => quoteTable(table)),
      marks.map(({ column }) => column),
    ],
  );
  const guarded = [...rulesOf(ownership)].flatMap(([table, rule]) => {
    const guard = tableGuard(table, rule);
    return guard === null ? [] : [{ ...guard, columns: isOwned(rule) ? ownerColumns(rule) : [] }];
  });
  await client.query(
    `INSERT INTO cleave.guarded (quoted_table, row_function, truncate_function, columns)
     SELECT given.quoted, given.row_function, given.truncate_function, ARRAY(SELECT pg_catalog.json_array_elements_text(given.columns::json))
     FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS given (quoted, row_function, truncate_function, columns)`,
    [
      guarded.map(({ table }) => quoteTable(table)),
      guarded.map(({ rowFunction }) => rowFunction),
      guarded.map(({ truncateFunction }) => truncateFunction),
      guarded.map(({ columns }) => JSON.stringify(columns)),
    ],
  );
}
