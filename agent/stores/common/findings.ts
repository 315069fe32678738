/** How the doors of stores of files say as findings what their roles and checks know. */
import { type ErrorCode, toCleaveError } from "../../../protocol/errors.ts";
import type { Finding, StoreStatus } from "../../../protocol/evidence.ts";
import type { StoreName } from "../../../protocol/ids.ts";

export interface Readiness {
  readonly store: StoreName;
  /** Of the migration's part on this Pod; null when there is none. */
  readonly status: StoreStatus | null;
  /** The message when it has not reached what comes before the fence. */
  readonly unreached: string;
  /** `first`: problems before that message; `never`: that message alone, with the reason at the caller. */
  readonly problemsOfUnreached: "first" | "never";
}

/** What keeps a Pod from taking part in a fence now; empty when nothing does. */
export function notReady({ store, status, unreached, problemsOfUnreached }: Readiness): Finding[] {
  const error = (code: Finding["code"], message: string): Finding => ({
    store,
    severity: "error",
    code,
    message,
  });
  const problems = (status?.problems ?? []).map(({ code, message }) => error(code, message));
  if (status?.reached) return problems;
  const found = error("COMMAND_NOT_POSSIBLE", unreached);
  return problemsOfUnreached === "first" ? [...problems, found] : [found];
}

/**
 * Runs a check; an error of its own is an `error` finding, for unknown is no (rule 11). `otherwise` is the code of what
 * is no CleaveError. @throws the signal's reason.
 */
export async function guarded(
  store: StoreName,
  otherwise: ErrorCode,
  signal: AbortSignal,
  check: () => Promise<Finding[]>,
): Promise<Finding[]> {
  try {
    return await check();
  } catch (thrown) {
    signal.throwIfAborted();
    const { code, message } = toCleaveError(thrown, otherwise);
    return [{ store, severity: "error", code, message: message.slice(0, 2_000) }];
  }
}
