/** A stream that outlives restarts of the coordinator. */
import { setTimeout as delay } from "node:timers/promises";
import { CleaveError } from "../../protocol/errors.ts";
import type { ApiClient } from "./client.ts";
import { EXIT, exitCodeOf } from "./exit.ts";

const RETRY_MS = 500;
/** A coordinator is restarted within minutes, or somebody has to look after it. */
const GIVE_UP_MS = 5 * 60_000;

export interface FollowOptions<T, R> {
  /** Asked before every connection: where to go on. */
  readonly path: () => string;
  /** A result other than undefined ends the following. */
  readonly onEvent: (event: T) => Promise<R | undefined> | R | undefined;
  /** The stream broke off and is tried again. */
  readonly onBroken: (why: string) => void;
  readonly giveUpMs?: number;
}

/**
 * Follows until `onEvent` has a result.
 * @throws CleaveError when there was no answer at all, or none for five minutes; or what the API refuses with.
 */
export async function follow<T, R>(client: ApiClient, options: FollowOptions<T, R>): Promise<R> {
  const giveUpMs = options.giveUpMs ?? GIVE_UP_MS;
  let heardAt: number | null = null;
  for (;;) {
    let why = new CleaveError("COORDINATOR_UNREACHABLE", "the stream ended");
    try {
      for await (const event of client.stream<T>(options.path())) {
        heardAt = performance.now();
        const result = await options.onEvent(event);
        if (result !== undefined) return result;
      }
    } catch (error) {
      if (!(error instanceof CleaveError) || exitCodeOf(error.code) !== EXIT.unreachable) throw error;
      why = error;
    }
    if (heardAt === null || performance.now() - heardAt > giveUpMs) throw why;
    options.onBroken(why.message);
    await delay(RETRY_MS);
  }
}
