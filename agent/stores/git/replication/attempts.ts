/** What is known of a repository that is not mirrored yet: attempts, when the next one is, and what keeps it from succeeding. */
import { type ErrorCode, toCleaveError } from "../../../../protocol/errors.ts";
import type { Problem } from "../../../../protocol/evidence.ts";
import { codeOfFileError } from "../../common/file-error.ts";
import { NAMED_DIFFERENCES } from "../../common/verification/differences.ts";

export const RETRY_MS = { first: 100, last: 5_000, urgent: 10 } as const;
/** An attempt that failed may have fetched all of a large repository in vain. */
const FAILED_MS = { last: 600_000, ofDisk: 5_000, urgent: 1_000, news: 5_000 } as const;

const OF_DISK: readonly string[] = ["DISK_FULL", "DISK_FAILED", "FILE_PERMISSION"] satisfies ErrorCode[];

export interface Pending {
  attempts: number;
  /** Attempts in a row that were broken off. */
  failures: number;
  /** Monotonic time before which it is not tried again. */
  notBefore: number;
  running: boolean;
  problem: Problem | null;
}

export function notTried(): Pending {
  return { attempts: 0, failures: 0, notBefore: 0, running: false, problem: null };
}

/**
 * Until the next attempt, ms: after one that left a difference, or after one that failed, for which it grows without end but one.
 * A disk that was full, read-only or broken, as `code` says, is written to soon after it is not any more.
 */
export function pauseMs({ attempts, failures }: Pending, urgent: boolean, code?: Problem["code"]): number {
  if (failures === 0 && urgent) return RETRY_MS.urgent;
  if (failures === 0) return Math.min(RETRY_MS.first * 2 ** Math.min(attempts, 10), RETRY_MS.last);
  if (urgent) return Math.min(RETRY_MS.urgent * 2 ** Math.min(failures, 20), FAILED_MS.urgent);
  const last = OF_DISK.includes(code ?? "") ? FAILED_MS.ofDisk : FAILED_MS.last;
  return Math.min(RETRY_MS.first * 2 ** Math.min(failures, 20), last);
}

/** News of a repository ends its pause: the problem before was perhaps about something that is no more. */
export function newsOf(pending: Pending, now: number): void {
  const soonest = pending.failures < 3 ? 0 : now + FAILED_MS.news;
  pending.notBefore = Math.min(pending.notBefore, soonest);
}

/** What broke an attempt off, with the repository's name. */
export function failureOf(path: string, thrown: unknown): Problem {
  const error = toCleaveError(thrown, codeOfFileError(thrown) ?? "REPOSITORY_UNREADABLE");
  const message = error.message.startsWith(path) ? error.message : `${path}: ${error.message}`;
  return { code: error.code, message: message.slice(0, 2_000) };
}

/** Of those that have one, the first and how many more. */
export function problemsOf(pending: Iterable<Pending>): Problem[] {
  const found: Problem[] = [];
  for (const { problem } of pending) if (problem !== null) found.push(problem);
  const more = found.length - NAMED_DIFFERENCES;
  if (more <= 0) return found;
  const rest = { code: "MISMATCH", message: `and ${more} more repositories with a problem` } as const;
  return [...found.slice(0, NAMED_DIFFERENCES), rest];
}
