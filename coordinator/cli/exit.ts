/** Exit codes of `cleave`, documented in its help. */
import type { ErrorCode } from "../../protocol/errors.ts";

export const EXIT = { ok: 0, error: 1, usage: 2, refused: 3, unreachable: 4 } as const;

/** Nothing is wrong with the command or the plan itself, but the cluster's state does not allow it. */
const REFUSALS: readonly ErrorCode[] = [
  "COMMAND_NOT_POSSIBLE",
  "ABORT_AFTER_TRANSFER",
  "MIGRATION_EXISTS",
  "ORGANIZATION_CLAIMED",
  "PLAN_NOT_ON_SOURCE",
  "POD_BUSY",
];
const UNREACHABLE: readonly ErrorCode[] = [
  "COORDINATOR_UNREACHABLE",
  "NATS_UNREACHABLE",
  "LOG_APPEND_UNKNOWN",
];

export function exitCodeOf(code: ErrorCode): number {
  if (REFUSALS.includes(code)) return EXIT.refused;
  return UNREACHABLE.includes(code) ? EXIT.unreachable : EXIT.error;
}
