/** An operator's SQL in this Pod's database: read-only, bounded in time, on a connection of its own. */

import type { Endpoint } from "../stores/postgres/config.ts";
import { connect, cutWhenAborted, discard } from "../stores/postgres/server/connection.ts";
import type { Query } from "./checks.ts";

/** @throws CleaveError POSTGRES_UNREACHABLE or POSTGRES_AUTHENTICATION, or what the server says of the query. */
export function readOnlyQuery(endpoint: Endpoint): Query {
  return async (sql, timeLimitMs, signal) => {
    const db = await connect(endpoint, {
      applicationName: "cleave-checks",
      queryTimeoutMs: timeLimitMs,
      asConfigured: true,
    });
    try {
      return await cutWhenAborted(
        signal,
        () => discard(db),
        async () => {
          await db.query("BEGIN TRANSACTION READ ONLY");
          await db.query(`SET LOCAL statement_timeout = ${timeLimitMs}`);
          const { rows } = await db.query<Record<string, unknown>>(sql);
          await db.query("ROLLBACK");
          return rows;
        },
      );
    } finally {
      discard(db);
    }
  };
}
