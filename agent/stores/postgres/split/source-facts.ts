/** What a new Pod takes from its source's server besides the data: settings and files that may be outside of it. */
import type { Database } from "../server/connection.ts";
import { INHERITED_SETTINGS, type SourceFacts } from "./standby-files.ts";

/** Values of INHERITED_SETTINGS, by name. */
export async function readInherited(db: Database): Promise<Readonly<Record<string, string>>> {
  const { rows } = await db.query<{ name: string; setting: string }>(
    "SELECT name, setting FROM pg_catalog.pg_settings WHERE name = ANY($1)",
    [[...INHERITED_SETTINGS]],
  );
  return Object.fromEntries(rows.map(({ name, setting }) => [name, setting]));
}

/** As bytes: their encoding is nobody's business but the server's. */
export async function readSourceFacts(db: Database): Promise<Omit<SourceFacts, "carried">> {
  const { rows } = await db.query<Omit<SourceFacts, "carried" | "inherited">>(
    `SELECT pg_read_binary_file(current_setting('hba_file')) AS hba, pg_read_binary_file(current_setting('ident_file')) AS ident,
       current_setting('config_file') = current_setting('data_directory') || '/postgresql.conf' AS "usesCopiedFile",
       current_setting('promote_trigger_file', true) IS NOT NULL AS "knowsTriggerFile"`,
  );
  const [files] = rows as [SourceFacts];
  return { ...files, inherited: await readInherited(db) };
}
