/** Why an object could not be copied, for the operator. */
import { CleaveError } from "../../../../protocol/errors.ts";
import type { Problem } from "../../../../protocol/evidence.ts";
import { quoteKey } from "../inventory/keys.ts";

export function describe(error: unknown, key: string): Problem {
  if (error instanceof CleaveError) return { code: error.code, message: error.message.slice(0, 2_000) };
  const message = error instanceof Error ? error.message : String(error);
  // Errors of files name a path, those of connections do not.
  const code = (error as NodeJS.ErrnoException).path === undefined ? "PEER_UNREACHABLE" : "FILE_PERMISSION";
  return { code, message: `${quoteKey(key)}: ${message}`.slice(0, 2_000) };
}
