/** What connections of a target are made to be before anything is done on them. */
import { CleaveError } from "../../../../protocol/errors.ts";
import type { PostgresStoreOptions } from "../context.ts";
import { settingsSql } from "../replication/session.ts";
import type { Database } from "../server/connection.ts";
import { readPosition } from "../split/lineage.ts";
import { HASHING } from "../verification/rows.ts";

/** @throws CleaveError POSTGRES_IDENTITY when the server is not the Pod's primary. */
export async function greetOwn({ podId, config }: PostgresStoreOptions, db: Database): Promise<void> {
  await db.query("SELECT set_config('synchronous_commit', 'on', false)");
  const position = await readPosition(async (text) => (await db.query(text)).rows);
  if (position.clusterName !== podId || position.inRecovery)
    throw new CleaveError(
      "POSTGRES_IDENTITY",
      `the server on ${config.host}:${config.port} is ${position.clusterName || "nameless"}${position.inRecovery ? ", a standby" : ""}, and has to be the primary of ${podId}`,
    );
}

export async function hashing(db: Database): Promise<void> {
  await db.query(settingsSql(HASHING));
}
