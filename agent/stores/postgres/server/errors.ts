/** PostgreSQL's errors as Cleave's. */
import { CleaveError, type ErrorCode, toCleaveError } from "../../../../protocol/errors.ts";

const NETWORK_ERRORS: ReadonlySet<string> = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENOENT",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EPIPE",
  "ETIMEDOUT",
]);

/** SQLSTATEs by meaning: https://www.postgresql.org/docs/current/errcodes-appendix.html */
function codeOf(state: string | undefined, message: string): ErrorCode | null {
  if (state === undefined)
    return /timeout|terminated|not queryable|connection/i.test(message) ? "POSTGRES_UNREACHABLE" : null;
  if (NETWORK_ERRORS.has(state)) return "POSTGRES_UNREACHABLE";
  if (state.startsWith("28") || state === "42501") return "POSTGRES_AUTHENTICATION";
  if (state === "53100") return "DISK_FULL";
  // No free replication slot or origin, and the like.
  if (state === "53400") return "POSTGRES_SETTING";
  // Too many connections, shutting down, starting up, connection lost, no such database.
  if (state === "53300" || state.startsWith("57P") || state.startsWith("08") || state === "3D000")
    return "POSTGRES_UNREACHABLE";
  return /^[0-9A-Z]{5}$/.test(state) ? "POSTGRES_STATEMENT" : null;
}

/**
 * Gives anything thrown by a connection or a query its documented code; `where` names the server for people. Whatever the
 * server itself says has one: INTERNAL is left for what is wrong with Cleave.
 */
export function toPostgresError(error: unknown, where: string): CleaveError {
  if (error instanceof CleaveError) return error;
  const { code: state, detail, hint } = error as { code?: unknown; detail?: unknown; hint?: unknown };
  const message = error instanceof Error ? error.message : String(error);
  const code = codeOf(typeof state === "string" ? state : undefined, message);
  if (code === null) return toCleaveError(error);
  const more = [detail, hint].filter((one) => typeof one === "string" && one !== "");
  const further = more.length > 0 ? ` (${more.join(" ")})` : "";
  return new CleaveError(code, `${where}: ${message}${further}`, { cause: error });
}
