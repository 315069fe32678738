/** SQL for the guard's triggers. */
import { APPLY_ROLE, literal, TRIGGER } from "./names.ts";

/** SQL for one trigger that is there, right and always enabled afterwards. `relation` is quoted. */
export function createTrigger(kind: "row" | "truncate", relation: string, guardFunction: string): string {
  const events = kind === "row" ? "BEFORE INSERT OR UPDATE OR DELETE" : "BEFORE TRUNCATE";
  const level =
    kind === "row" ? `ROW WHEN (SESSION_USER OPERATOR(pg_catalog.<>) ${literal(APPLY_ROLE)})` : "STATEMENT";
  return `DROP TRIGGER IF EXISTS ${TRIGGER[kind]} ON ${relation};
CREATE TRIGGER ${TRIGGER[kind]} ${events} ON ${relation} FOR EACH ${level} EXECUTE FUNCTION cleave.${guardFunction}();
ALTER TABLE ${relation} ENABLE ALWAYS TRIGGER ${TRIGGER[kind]};`;
}
