/** Questions of peers that wait for news: answered when there is some, when their time is over, or when the server closes. */
import type { FastifyInstance, FastifyRequest } from "fastify";
import type { Clock } from "../../protocol/ports/clock.ts";

export interface LongPollOptions {
  readonly clock: Clock;
  /** Told of whatever may be news. Returns what ends it. */
  readonly onChange: (listener: () => void) => () => void;
}

/**
 * @returns `untilNews(request, isNews, waitMs)`: resolves soon after `isNews` holds, the asker has gone, `waitMs` are over
 * or the server begins to close; a closing server waits for its answers, and an agent that ends must not wait for others.
 */
export function longPoll(
  app: FastifyInstance,
  { clock, onChange }: LongPollOptions,
): (request: FastifyRequest, isNews: () => boolean, waitMs: number) => Promise<void> {
  const closing = new AbortController();
  app.addHook("preClose", async () => closing.abort());
  return async (request, isNews, waitMs) => {
    const ended = new AbortController();
    const end = () => ended.abort();
    const stop = onChange(() => {
      if (isNews()) end();
    });
    const { socket } = request.raw;
    socket.once("close", end);
    const signal = AbortSignal.any([ended.signal, closing.signal]);
    await clock.sleep(waitMs, signal).catch(() => undefined);
    stop();
    socket.off("close", end);
  };
}
