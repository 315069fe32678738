/** Objects that are not copied yet although it was tried: what is told of them, and when each is tried again. */

import type { Problem } from "../../../../protocol/evidence.ts";
import { NAMED_DIFFERENCES } from "../../common/verification/differences.ts";
import { ContentMismatch } from "../backend/content-mismatch.ts";
import { quoteKey } from "../inventory/keys.ts";
import type { ChangesAnswer } from "./peer-protocol.ts";
import { describe } from "./problem.ts";
import { ObjectGone } from "./source-feed.ts";

const RETRY_MS = { first: 50, last: 5_000 } as const;
const DISK_FULL_RETRY_MS = 1_000;
/** An object that changes while it is copied is announced again, and is no problem; for longer than this it is not. */
const CHANGING_MS = 30_000;
/** A transfer that breaks off once may be of an object that became shorter. */
const BROKEN_OFF = 3;

type Change = ChangesAnswer["entries"][number];
type Held = { readonly bytes: number; readonly sha256: string };

export class Failures {
  /** Since the change was announced. */
  readonly #attempts = new Map<string, { count: number; readonly since: number }>();
  readonly #problems = new Map<string, Problem>();

  /** Another change of it, or none: what was tried before counts no more. */
  begin(key: string): void {
    this.#attempts.delete(key);
  }

  /** It is here as the source had it. */
  end(key: string): void {
    this.#problems.delete(key);
  }

  say(key: string, problem: Problem): void {
    this.#problems.set(key, problem);
  }

  /** @param now monotonic, ms. `news`: what is told now and was not before */
  note(
    change: Change,
    own: Held | undefined,
    error: unknown,
    now: number,
  ): { retryMs: number; news: Problem | null } {
    const { key } = change;
    const attempts = this.#attempts.get(key) ?? { count: 0, since: now };
    attempts.count += 1;
    this.#attempts.set(key, attempts);
    const changing = error instanceof ObjectGone || error instanceof ContentMismatch;
    const { code, message }: Problem = changing
      ? { code: "MISMATCH", message: `${quoteKey(key)}: the source sends something else than it announced` }
      : describe(error, key);
    const text = `${message}; the source has ${value(change.deleted ? undefined : change)}, this Pod has ${value(own)}`;
    const problem = { code, message: text.slice(0, 2_000) };
    const isQuiet = changing
      ? now - attempts.since < CHANGING_MS
      : code === "PEER_UNREACHABLE" && attempts.count < BROKEN_OFF;
    const news = isQuiet || this.#problems.has(key) ? null : problem;
    if (!isQuiet) this.#problems.set(key, problem);
    const retryMs =
      code === "DISK_FULL"
        ? DISK_FULL_RETRY_MS
        : Math.min(RETRY_MS.first * 2 ** Math.min(attempts.count - 1, 10), RETRY_MS.last);
    return { retryMs, news };
  }

  /** The first ten, and how many more. */
  problems(): Problem[] {
    const all = [...this.#problems.values()];
    const more = all.length - NAMED_DIFFERENCES;
    const rest: Problem[] =
      more > 0 ? [{ code: "MISMATCH", message: `and ${more} more objects with a problem` }] : [];
    return [...all.slice(0, NAMED_DIFFERENCES), ...rest];
  }
}

function value(held: Held | undefined): string {
  return held === undefined ? "none" : `${held.bytes} bytes (sha256 ${held.sha256.slice(0, 12)})`;
}
