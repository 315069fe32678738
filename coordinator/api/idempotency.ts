/** `Idempotency-Key`: a command that is sent again because its answer was lost gets that answer, and decides nothing. */
import { createHash, type Hash } from "node:crypto";
import { pipeline, Transform } from "node:stream";
import type { FastifyInstance, FastifyRequest } from "fastify";
import { z } from "zod";
import { CleaveError } from "../../protocol/errors.ts";

export const KEPT_FOR_MS = 24 * 3600 * 1000;
/** An answer has a kilobyte or so. */
const KEPT_ANSWERS = 10_000;

const Headers = z.looseObject({
  "idempotency-key": z
    .string()
    .regex(/^[\x21-\x7e]{1,255}$/, "an Idempotency-Key has 1 to 255 characters, plain ASCII without spaces")
    .optional()
    .describe(
      "Made by the client, a new one for each decision. The same key with the same request within 24 hours answers the same without deciding again",
    ),
});

interface Answer {
  readonly status: number;
  readonly type: string;
  readonly body: string;
}

interface Attempt {
  readonly fingerprint: string;
  readonly at: number;
  /** Null: it failed for a reason that passes, so the next one decides. */
  readonly answer: Promise<Answer | null>;
  readonly settle: (answer: Answer | null) => void;
}

declare module "fastify" {
  interface FastifyRequest {
    /** Of the body's bytes, as they come in. */
    contentHash?: Hash;
    /** This request decides; others with its key wait for it. */
    attempt?: { readonly key: string; readonly own: Attempt };
  }
}

/** For all POSTs of a context whose requests have a `caller`; a key is that caller's own. */
export function answerOnce(
  routes: FastifyInstance,
  { now, kept }: { now: () => number; kept: number } = { now: Date.now, kept: KEPT_ANSWERS },
): void {
  const attempts = new Map<string, Attempt>();
  routes.decorateRequest("contentHash");
  routes.decorateRequest("attempt");
  routes.addHook("onRoute", (route) => {
    if (route.method === "POST") route.schema = { ...route.schema, headers: Headers };
  });
  routes.addHook("preParsing", async (request, _reply, payload) => {
    if (request.method !== "POST" || request.headers["idempotency-key"] === undefined) return payload;
    const hash = createHash("sha256");
    request.contentHash = hash;
    const hashed = new Transform({
      transform(chunk: Buffer, _encoding, done) {
        hash.update(chunk);
        hashed.receivedEncodedLength += chunk.length;
        done(null, chunk);
      },
    }) as Transform & { receivedEncodedLength: number };
    hashed.receivedEncodedLength = 0;
    pipeline(payload, hashed, () => undefined);
    return hashed;
  });
  routes.addHook("preHandler", async (request, reply) => {
    const key = request.headers["idempotency-key"];
    if (request.contentHash === undefined || typeof key !== "string") return;
    const mine = `${request.caller.by} ${key}`;
    const fingerprint = `${request.method} ${request.url} ${request.contentHash.digest("hex")}`;
    for (;;) {
      forget(attempts, now() - KEPT_FOR_MS, Number.POSITIVE_INFINITY);
      const known = attempts.get(mine);
      if (known === undefined) break;
      if (known.fingerprint !== fingerprint)
        throw new CleaveError("IDEMPOTENCY_KEY_REUSED", `the key ${key} was used for another request`);
      const answer = await known.answer;
      if (answer === null) continue;
      reply.header("idempotency-replayed", "true").type(answer.type).status(answer.status);
      return reply.serializer((body: unknown) => body as string).send(answer.body);
    }
    const { promise, resolve } = Promise.withResolvers<Answer | null>();
    const own = { fingerprint, at: now(), answer: promise, settle: resolve };
    forget(attempts, Number.NEGATIVE_INFINITY, kept - 1);
    attempts.set(mine, own);
    request.attempt = { key: mine, own };
  });
  routes.addHook("onSend", async (request, reply, payload) => {
    const { attempt } = request;
    if (attempt === undefined) return payload;
    if (reply.statusCode < 500 && typeof payload === "string") {
      const type = String(reply.getHeader("content-type"));
      attempt.own.settle({ status: reply.statusCode, type, body: payload });
    } else giveUp(attempts, attempt);
    return payload;
  });
}

/** Deleted first: whoever has waited for it finds none, and decides. */
function giveUp(attempts: Map<string, Attempt>, { key, own }: NonNullable<FastifyRequest["attempt"]>): void {
  if (attempts.get(key) === own) attempts.delete(key);
  own.settle(null);
}

/** A map keeps the order in which it was filled: the oldest are first. */
function forget(attempts: Map<string, Attempt>, before: number, keep: number): void {
  for (const [key, { at }] of attempts) {
    if (at > before && attempts.size <= keep) return;
    attempts.delete(key);
  }
}
