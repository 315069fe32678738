/**
 * The HTTP server that other Pods' agents replicate from. One token for the whole cluster; what it serves comes from
 * the stores, each of which adds its own routes.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import type { AddressInfo } from "node:net";
import fastify, { type FastifyError, type FastifyInstance } from "fastify";
import { CleaveError, ERRORS, type ErrorCode, toCleaveError } from "../../protocol/errors.ts";
import type { PodId } from "../../protocol/ids.ts";
import type { Logger } from "../../protocol/ports/logger.ts";

/** A store that other Pods replicate from. Its routes stand behind the token already. */
export interface PeerRoutes {
  /** Called once, before the server listens, on an instance of its own: hooks and parsers stay with this store. */
  registerPeerRoutes(app: FastifyInstance): void;
}

export interface PeerServerOptions {
  readonly podId: PodId;
  readonly token: string;
  readonly host: string;
  /** 0 for any free port. */
  readonly port: number;
  readonly stores: readonly PeerRoutes[];
  readonly logger: Logger;
  /** Added to what `/peer/health` says. */
  readonly health?: () => object;
}

export interface PeerServer {
  readonly port: number;
  /** Also ends long polls and copies that are half read. */
  close(): Promise<void>;
}

/** What Git sends when it asks for many references at once stays well below this. */
const BODY_LIMIT_BYTES = 32 * 1024 * 1024;

const STATUS: Partial<Record<ErrorCode, number>> = {
  UNAUTHORIZED: 401,
  NOT_FOUND: 404,
  REQUEST_INVALID: 400,
  MESSAGE_MALFORMED: 400,
  MESSAGE_OVERSIZED: 413,
};

/** Resolves when it listens. @throws Error when the address is taken or two stores claim one route. */
export async function startPeerServer(options: PeerServerOptions): Promise<PeerServer> {
  const app = fastify({
    bodyLimit: BODY_LIMIT_BYTES,
    // Object keys and repository paths are parts of addresses.
    routerOptions: { maxParamLength: 8_192 },
    // Long polls and half-read copies would otherwise keep the process from ending.
    forceCloseConnections: true,
  });
  secure(app, options.token);
  explainErrors(app, options.logger);
  app.get("/peer/health", () => ({ podId: options.podId, ...options.health?.() }));
  for (const store of options.stores) {
    app.register((own, _options, done) => {
      try {
        store.registerPeerRoutes(own);
        done();
      } catch (error) {
        done(toCleaveError(error));
      }
    });
  }
  await app.listen({ host: options.host, port: options.port });
  return { port: (app.server.address() as AddressInfo).port, close: () => app.close() };
}

/** Before a body is read, and also for addresses that do not exist: they are nobody's business either. */
function secure(app: FastifyInstance, token: string): void {
  const expected = sha256(`Bearer ${token}`);
  app.addHook("onRequest", async (request) => {
    // Digests have one length, so the comparison takes the same time for every wrong token.
    if (!timingSafeEqual(sha256(request.headers.authorization ?? ""), expected))
      throw new CleaveError("UNAUTHORIZED", "the bearer token is missing or wrong");
  });
}

function explainErrors(app: FastifyInstance, logger: Logger): void {
  app.setNotFoundHandler((request) => {
    throw new CleaveError("NOT_FOUND", `${request.method} ${request.url.slice(0, 200)}`);
  });
  app.setErrorHandler<FastifyError | CleaveError>((thrown, request, reply) => {
    const error = toCleaveError(thrown, codeOf(thrown));
    const status = STATUS[error.code] ?? 500;
    if (status === 500)
      logger.error(
        { code: error.code, url: request.url.slice(0, 200) },
        `a peer's request failed: ${error.message}`,
      );
    if (status === 401) void reply.header("www-authenticate", "Bearer");
    const nextStep = error.code === "UNAUTHORIZED" ? ERRORS.PEER_UNAUTHORIZED[1] : error.nextStep;
    void reply.code(status).send({ code: error.code, message: error.message, nextStep });
  });
}

/** Fastify's own refusals carry a status; anything else that is thrown is a bug. */
function codeOf(thrown: FastifyError | CleaveError): ErrorCode {
  if (thrown instanceof CleaveError) return thrown.code;
  if (thrown.statusCode === 413) return "MESSAGE_OVERSIZED";
  return thrown.statusCode !== undefined && thrown.statusCode < 500 ? "REQUEST_INVALID" : "INTERNAL";
}

function sha256(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
