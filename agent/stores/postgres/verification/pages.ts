/** Long lists read from a server piece by piece, which keeps them on its disk if need be: they are as long as they are. */
import type pg from "pg";
import type { Database } from "../server/connection.ts";

let lists = 0;

/**
 * Of one snapshot, and outside of a transaction: working through them takes longer than one should be open. `query` is
 * without parameters. Whoever stops before the end leaves the rest to the end of the connection.
 * @param snapshot called with the snapshot that the list is of
 */
export async function* pagesOf<Row extends pg.QueryResultRow>(
  db: Database,
  query: string,
  pageRows: number,
  snapshot: (of: string) => void = () => undefined,
): AsyncGenerator<readonly Row[]> {
  lists += 1;
  const name = `"cleave list ${lists}"`;
  const results = (await db.query(
    `BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT pg_catalog.pg_current_snapshot()::text AS snapshot;
     DECLARE ${name} NO SCROLL CURSOR WITH HOLD FOR ${query}; COMMIT`,
  )) as unknown as readonly { readonly rows: readonly { readonly snapshot: string }[] }[];
  snapshot(results.find(({ rows }) => rows.length > 0)?.rows[0]?.snapshot ?? "");
  try {
    for (;;) {
      const { rows } = await db.query<Row>(`FETCH ${pageRows} FROM ${name}`);
      if (rows.length > 0) yield rows;
      if (rows.length < pageRows) return;
    }
  } finally {
    await db.query(`CLOSE ${name}`).catch(() => undefined);
  }
}
