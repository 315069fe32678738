/** Server-sent events: everything new, soon, to listeners of any speed. */
import type { FastifyReply, FastifyRequest } from "fastify";
import type { CoordinatorService } from "./ports.ts";

/** Enough for an eye, and little enough for a busy coordinator. */
const AT_MOST_EVERY_MS = 100;
/** Proxies cut what is silent for a minute; a listener that is gone shows when something is sent to it. */
const HEARTBEAT_MS = 15_000;

/** Sends one event, of a type where it is no ordinary one; false when the listener cannot take more for now. */
export type Send = (id: number | null, data: unknown, type?: string) => boolean;

/**
 * Calls `produce` at once, and again after changes, at most every 100 ms; the last change is always told. A slow
 * listener is left alone until it has read what it was sent, so it costs no memory; `produce` then says what is
 * new by that time.
 */
export function stream(
  request: FastifyRequest,
  reply: FastifyReply,
  service: CoordinatorService,
  produce: (send: Send) => void,
): void {
  const { raw } = reply;
  let timer: NodeJS.Timeout | null = null;
  let heartbeat: NodeJS.Timeout | null = null;
  let unsubscribe = (): void => undefined;
  let sentAt = Number.NEGATIVE_INFINITY;
  let missed = false;

  const end = (): void => {
    unsubscribe();
    if (timer) clearTimeout(timer);
    if (heartbeat) clearInterval(heartbeat);
    timer = null;
    raw.end();
  };
  const flush = (): void => {
    timer = null;
    missed = raw.writableNeedDrain;
    if (missed || raw.destroyed) return;
    sentAt = performance.now();
    try {
      produce((id, data, type) => {
        const head = `${id === null ? "" : `id: ${id}\n`}${type === undefined ? "" : `event: ${type}\n`}`;
        return raw.write(`${head}data: ${JSON.stringify(data)}\n\n`);
      });
    } catch (error) {
      // The answer has begun, so no status can tell it; the listener connects again and is told then.
      request.log.error({ err: error }, "a stream broke off");
      end();
      return;
    }
    missed = raw.writableNeedDrain;
  };
  const soon = (): void => {
    timer ??= setTimeout(flush, Math.max(0, sentAt + AT_MOST_EVERY_MS - performance.now()));
  };

  reply.hijack();
  raw.writeHead(200, {
    "content-type": "text/event-stream",
    "cache-control": "no-store",
    // Nginx would keep events back until its buffer is full.
    "x-accel-buffering": "no",
  });
  raw.on("drain", () => {
    if (missed) soon();
  });
  raw.on("close", end);
  unsubscribe = service.onChange(soon);
  heartbeat = setInterval(() => {
    if (!raw.writableNeedDrain) raw.write(": still here\n\n");
  }, HEARTBEAT_MS);
  flush();
}
