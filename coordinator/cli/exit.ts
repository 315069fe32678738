/** Exit codes of `cleave`, documented in its help and in docs/18-command-line.md. */
import type { ErrorCode } from "../../protocol/errors.ts";

export const EXIT = { ok: 0, error: 1, usage: 2, refused: 3, unreachable: 4, late: 5 } as const;

export const EXIT_MEANINGS: Readonly<Record<keyof typeof EXIT, string>> = {
  ok: "done",
  error: "error",
  usage: "wrong usage",
  refused: "refused or aborted, or a check found an error",
  unreachable: "no answer from the coordinator or its log",
  late: "--timeout passed before the state was reached",
};

/** Nothing is wrong with the command or the plan itself, but the cluster's state does not allow it. */
const REFUSALS: readonly ErrorCode[] = [
  "COMMAND_NOT_POSSIBLE",
  "ABORT_AFTER_TRANSFER",
  "MIGRATION_EXISTS",
  "ORGANIZATION_CLAIMED",
  "PLAN_NOT_ON_SOURCE",
  "POD_BUSY",
  "WAIT_ENDED",
];
const UNREACHABLE: readonly ErrorCode[] = [
  "COORDINATOR_UNREACHABLE",
  "NATS_UNREACHABLE",
  "LOG_APPEND_UNKNOWN",
];

export function exitCodeOf(code: ErrorCode): number {
  if (code === "USAGE_INVALID") return EXIT.usage;
  if (code === "WAIT_TIMED_OUT") return EXIT.late;
  if (REFUSALS.includes(code)) return EXIT.refused;
  return UNREACHABLE.includes(code) ? EXIT.unreachable : EXIT.error;
}
