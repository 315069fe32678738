/** How checks turn what they see into findings. */
import type { ErrorCode } from "../../../protocol/errors.ts";
import type { Finding } from "../../../protocol/evidence.ts";
import type { Endpoint } from "./config.ts";
import { connect, type Database, describeEndpoint, discard, toPostgresError } from "./server/connection.ts";

/** Each check ends, also when a server hangs. */
const CHECK_TIMEOUT_MS = 15_000;

export function finding(severity: Finding["severity"], code: ErrorCode, message: string): Finding {
  return { store: "postgres", severity, code, message: message.slice(0, 2_000) };
}

/** Runs a check on a connection of its own; an error of its own is an `error` finding, for unknown is no (rule 11). */
export async function withDatabase(
  endpoint: Endpoint,
  check: (db: Database) => Promise<Finding[]>,
): Promise<Finding[]> {
  let db: Database | null = null;
  try {
    db = await connect(endpoint, { applicationName: "cleave-preflight", queryTimeoutMs: CHECK_TIMEOUT_MS });
    return await check(db);
  } catch (error) {
    const known = toPostgresError(error, describeEndpoint(endpoint));
    return [finding("error", known.code, known.message)];
  } finally {
    if (db !== null) discard(db);
  }
}

/** Runs a check that needs no connection, in the same way. */
export async function guarded(check: () => Promise<Finding[]>): Promise<Finding[]> {
  try {
    return await check();
  } catch (error) {
    const known = toPostgresError(error, "a check");
    return [finding("error", known.code, known.message)];
  }
}
