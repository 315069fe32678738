/**
 * The HTTP endpoint that proxies ask before they pass a request on. Plain node:http: an answer has to cost well under
 * a millisecond, and there are two addresses (docs/decisions/010-guard-http.md).
 */
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { CleaveError, toCleaveError } from "../../protocol/errors.ts";
import type { PodId } from "../../protocol/ids.ts";
import type { Clock } from "../../protocol/ports/clock.ts";
import type { Logger } from "../../protocol/ports/logger.ts";
import type { Access } from "../domain/guard.ts";
import { type Answer, answerTo, answerToError, asForbidden, json, routeAnswer } from "./answers.ts";
import type { GuardConfig } from "./config.ts";
import { Holds } from "./hold.ts";
import {
  compileRules,
  type GuardRules,
  type OriginalRequest,
  organizationOf,
  originalFromHeaders,
  parseOrganization,
  questionOf,
} from "./organization-from-request.ts";
import type { GuardView } from "./view.ts";

/** Envoy's ext_authz puts this before the original path and keeps the method. */
const EXT_PREFIX = "/guard/ext";
/** Longer than the keep-alive of the usual proxies, so that they and not we end an idle connection. */
const KEEP_ALIVE_MS = 75_000;

export interface GuardServerOptions {
  readonly podId: PodId;
  readonly view: GuardView;
  readonly config: GuardConfig;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly host: string;
  /** 0 for any free port. */
  readonly port: number;
  /** Told of every answer: what was decided, or `invalid` for what could not be understood. */
  readonly onAnswer?: (outcome: Access["outcome"] | "invalid") => void;
}

export interface GuardServer {
  readonly port: number;
  /** Requests that wait for an outcome now. */
  held(): number;
  /** Answers what is held with the state of now, and ends. */
  close(): Promise<void>;
}

/** Resolves when it listens. @throws Error when the address is taken. */
export async function startGuardServer(options: GuardServerOptions): Promise<GuardServer> {
  const guard = new Guard(options);
  const server = createServer({ keepAliveTimeout: KEEP_ALIVE_MS, noDelay: true }, (request, response) => {
    // A body may come along (Envoy); it says nothing here.
    request.resume();
    guard.handle(request, response).catch((error: unknown) => {
      options.logger.error({ error: toCleaveError(error).message }, "the guard could not answer");
      if (!response.headersSent) send(response, answerToError(toCleaveError(error)));
    });
  });
  server.listen(options.port, options.host);
  await once(server, "listening");
  let closing: Promise<void> | null = null;
  const close = async () => {
    const closed = once(server, "close");
    server.close();
    guard.holds.close();
    server.closeIdleConnections();
    // A connection that a proxy keeps open for its next question would hold the process.
    const forced = setTimeout(() => server.closeAllConnections(), 200);
    await closed;
    clearTimeout(forced);
  };
  return {
    port: (server.address() as AddressInfo).port,
    held: () => guard.holds.held,
    close: () => {
      closing ??= close();
      return closing;
    },
  };
}

class Guard {
  readonly holds: Holds;
  readonly #options: GuardServerOptions;
  readonly #rules: GuardRules;

  constructor(options: GuardServerOptions) {
    this.#options = options;
    this.#rules = compileRules(options.config);
    const { view, config, clock } = options;
    this.holds = new Holds((listener) => view.onChange(listener), config.maxHeld, clock);
  }

  async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = request.url ?? "/";
    if (url.startsWith(`${EXT_PREFIX}/`)) {
      const original = { method: request.method ?? null, uri: url.slice(EXT_PREFIX.length) };
      await this.#check(original, request, response, false);
      return;
    }
    const [path, query] = split(url);
    if (path === "/guard/check") {
      const forbids = new URLSearchParams(query).get("deny") === "403";
      await this.#check(null, request, response, forbids);
    } else if (path === "/guard/route") send(response, this.#route(new URLSearchParams(query)));
    else if (path === "/guard/health") send(response, json(200, { podId: this.#options.podId }));
    else
      send(
        response,
        answerToError(new CleaveError("NOT_FOUND", "the guard answers /guard/check and /guard/route")),
      );
  }

  async #check(
    original: OriginalRequest | null,
    request: IncomingMessage,
    response: ServerResponse,
    forbids: boolean,
  ): Promise<void> {
    const answer = await this.#answer(original, request, response);
    if (!response.destroyed) send(response, forbids ? asForbidden(answer) : answer);
  }

  async #answer(
    original: OriginalRequest | null,
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<Answer> {
    const { view, podId, config, onAnswer } = this.#options;
    let question: ReturnType<typeof questionOf>;
    try {
      const { headers } = request;
      question = questionOf(original ?? originalFromHeaders(headers), headers, this.#rules);
    } catch (error) {
      onAnswer?.("invalid");
      if (error instanceof CleaveError) return answerToError(error);
      throw error;
    }
    const { organizationId, write } = question;
    const ask = () => view.access(organizationId, write);
    let access = ask();
    if (access.outcome !== "allow" && access.outcome !== "wrongPod") {
      const gone = new AbortController();
      response.once("close", () => gone.abort());
      access = await this.holds.outcome(ask, this.#holdMs(request), gone.signal);
    }
    onAnswer?.(access.outcome);
    const route = organizationId === null ? null : view.route(organizationId);
    return answerTo(access, route, podId, config);
  }

  #holdMs(request: IncomingMessage): number {
    const { holdMs, maxHoldMs } = this.#options.config;
    const wanted = request.headers["cleave-hold-ms"];
    const asked = typeof wanted === "string" && /^\d{1,9}$/.test(wanted) ? Number(wanted) : holdMs;
    return Math.min(asked, maxHoldMs);
  }

  #route(query: URLSearchParams): Answer {
    const { view, config } = this.#options;
    try {
      const path = query.get("path");
      const named = query.get("organization");
      if ((path === null) === (named === null))
        throw new CleaveError("REQUEST_INVALID", "ask with either ?path= or ?organization=");
      const organizationId =
        path === null ? parseOrganization(named ?? "") : organizationOf(path, this.#rules);
      if (organizationId === null) throw new CleaveError("NOT_FOUND", "the path names no organization");
      const route = view.route(organizationId);
      const access = view.access(organizationId, true);
      if (route === null) return answerTo({ outcome: "unknownIdentity" }, null, this.#options.podId, config);
      return routeAnswer(route, access, config);
    } catch (error) {
      return answerToError(toCleaveError(error));
    }
  }
}

function split(url: string): readonly [path: string, query: string] {
  const at = url.indexOf("?");
  return at < 0 ? [url, ""] : [url.slice(0, at), url.slice(at + 1)];
}

function send(response: ServerResponse, { status, headers, body }: Answer): void {
  response.writeHead(status, { ...headers, "content-length": Buffer.byteLength(body) });
  response.end(body);
}
