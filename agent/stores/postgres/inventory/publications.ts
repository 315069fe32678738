/** Publications of the Pod's own, which a migration should change nothing for. */
import type { Finding } from "../../../../protocol/evidence.ts";
import type { Queryable } from "../server/queryable.ts";

/** One of all tables carries those that Cleave makes, too; change data capture reads over them, a subscriber may not. */
export async function checkPublications(db: Queryable): Promise<Finding[]> {
  const { rows } = await db.query<{ name: string }>(
    "SELECT quote_ident(pubname) AS name FROM pg_catalog.pg_publication WHERE puballtables ORDER BY 1",
  );
  return rows.map(({ name }) => ({
    store: "postgres",
    severity: "warning",
    code: "POSTGRES_SETTING",
    message: `the publication ${name} is of all tables, so it will carry Cleave's own too (schema cleave): a subscriber that is a PostgreSQL stops at them unless it has tables of these names; name the publication's tables, or have its reader pass over that schema`,
  }));
}
