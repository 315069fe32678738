/**
 * A small reverse proxy that honours Cleave's routes, as a company's own proxy would: it asks the guard of the
 * Pod that it believes in, waits there while an organization is fenced, learns from "another Pod" answers, and
 * replays the request where it belongs. Its clients see a wait during a cutover, never an error.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { pipeline } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { Agent, type Dispatcher, request } from "undici";
import { Counters } from "./counters.ts";
import { lifetimeOf, RouteCache } from "./route-cache.ts";

export interface PodAddress {
  /** `http://127.0.0.1:PORT` of the Pod's application. */
  readonly app: string;
  /** `http://127.0.0.1:PORT` of its agent's guard. */
  readonly guard: string;
}

export interface RouterOptions {
  readonly pods: Readonly<Record<string, PodAddress>>;
  /** From a request's arrival to its last attempt. */
  readonly totalMs?: number;
  /** How long a guard may keep one question waiting for a fence's outcome. */
  readonly holdMs?: number;
  readonly maxBodyBytes?: number;
}

const MAX_BODY_BYTES = 64 * 1024 * 1024;
/** While two Pods disagree for a moment (one has applied the log, the other not yet), ask again this often. */
const PAUSE_MS = 5;
/** A Pod that does not answer at all is asked less often. */
const UNREACHABLE_PAUSE_MS = 50;
const ROUTE_LIFETIME_MS = 5_000;
const HOP_BY_HOP = new Set([
  "connection",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "host",
  "content-length",
  "expect",
]);

/** SQLSTATEs of transactions that lost against others, as in any busy database: to be repeated, but no refusal. */
const CONFLICTS = new Set(["40001", "40P01"]);

/** A request as it is kept for replaying. */
interface Kept {
  readonly organization: string;
  readonly method: string;
  readonly url: string;
  readonly headers: Record<string, string | string[]>;
  readonly body: Buffer | null;
  /** Sending it twice does no harm: by its method, or because it carries an `Idempotency-Key`. */
  readonly repeatable: boolean;
  readonly deadline: number;
}

type Verdict =
  | { readonly kind: "go" }
  | { readonly kind: "elsewhere"; readonly podId: string }
  | { readonly kind: "wait" }
  /** The request itself is at fault. */
  | { readonly kind: "refused"; readonly status: number; readonly message: string }
  | { readonly kind: "unreachable" };

export class Router {
  readonly counters = new Counters();
  readonly #options: Required<RouterOptions>;
  readonly #routes = new RouteCache();
  readonly #agent = new Agent({ connections: 256, headersTimeout: 0, bodyTimeout: 0, connectTimeout: 2_000 });
  readonly #server: Server;

  constructor(options: RouterOptions) {
    this.#options = { totalMs: 30_000, holdMs: 10_000, maxBodyBytes: MAX_BODY_BYTES, ...options };
    this.#server = createServer((incoming, outgoing) => {
      this.#handle(incoming, outgoing).catch(() => outgoing.destroy());
    });
    this.#server.keepAliveTimeout = 60_000;
  }

  /** @returns the port, when `port` was 0 */
  async listen(port: number): Promise<number> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(port, "127.0.0.1", resolve);
    });
    return (this.#server.address() as { port: number }).port;
  }

  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.#server.closeAllConnections();
    await closed;
    await this.#agent.destroy();
  }

  async #handle(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const url = incoming.url ?? "/";
    if (incoming.method === "GET" && url === "/router/stats") {
      outgoing.setHeader("content-type", "application/json");
      outgoing.end(JSON.stringify(this.counters.stats()));
      return;
    }
    const organization = organizationOf(url);
    if (organization === null) {
      answer(outgoing, 404, "no organization in this path");
      return;
    }
    const deadline = performance.now() + this.#options.totalMs;
    this.counters.request();
    const body = await bodyOf(incoming, this.#options.maxBodyBytes);
    if (body === "too large") {
      answer(outgoing, 413, "the body is too large to be replayed");
      incoming.destroy();
      return;
    }
    const method = incoming.method ?? "GET";
    await this.#route(
      {
        organization,
        method,
        url,
        headers: endToEnd(incoming.headers),
        body,
        repeatable: !["POST", "PATCH"].includes(method) || incoming.headers["idempotency-key"] !== undefined,
        deadline,
      },
      outgoing,
    );
    this.counters.answered(organization, outgoing.statusCode);
  }

  /** Goes from Pod to Pod until one answers for good or the time is over. */
  async #route(kept: Kept, outgoing: ServerResponse): Promise<void> {
    let waitedMs = 0;
    let attempts = 0;
    let redirects = 0;
    let last = "no Pod answered";
    while (performance.now() < kept.deadline) {
      const podId = await this.#podOf(kept);
      const address = podId === null ? undefined : this.#options.pods[podId];
      if (podId === null || address === undefined) {
        await sleep(UNREACHABLE_PAUSE_MS);
        continue;
      }
      const askedAt = performance.now();
      const verdict = await this.#askGuard(address, kept);
      waitedMs += performance.now() - askedAt;
      if (verdict.kind === "elsewhere") {
        last = this.#elsewhere(kept, podId, verdict.podId);
        // Pods that point at each other: one of them has not read the log as far as the other.
        if (redirects > 0) await sleep(PAUSE_MS);
        redirects += 1;
        continue;
      }
      if (verdict.kind === "refused") {
        answer(outgoing, verdict.status, verdict.message);
        return;
      }
      if (verdict.kind !== "go") {
        if (verdict.kind === "wait") this.counters.refused(kept.organization);
        last = `${podId}: its guard ${verdict.kind === "wait" ? "says to wait" : "does not answer"}`;
        if (verdict.kind === "unreachable") this.#routes.forget(kept.organization);
        await sleep(verdict.kind === "wait" ? PAUSE_MS : UNREACHABLE_PAUSE_MS);
        continue;
      }
      if (attempts > 0) this.counters.retried();
      attempts += 1;
      let response: Dispatcher.ResponseData;
      try {
        response = await this.#forward(address, kept);
      } catch (error) {
        last = `${podId}: ${error instanceof Error ? error.message : String(error)}`;
        if (!kept.repeatable && !wasNeverSent(error)) break;
        await sleep(UNREACHABLE_PAUSE_MS);
        continue;
      }
      const other = header(response, "cleave-pod");
      if (response.statusCode === 421 && other !== null) {
        await response.body.dump();
        last = this.#elsewhere(kept, podId, other);
        await sleep(PAUSE_MS);
        continue;
      }
      const refused = response.statusCode === 503 ? header(response, "cleave-refused") : null;
      if (refused !== null) {
        await response.body.dump();
        if (!CONFLICTS.has(refused)) this.counters.refused(kept.organization);
        last = `${podId}: refused for a moment`;
        await sleep(PAUSE_MS);
        continue;
      }
      this.counters.waited(kept.organization, waitedMs);
      // Told to the client, for whom a deletion's "not found" after an unclear attempt is another answer.
      outgoing.setHeader("cleave-attempts", String(attempts));
      if (response.statusCode >= 500)
        console.error(`${kept.method} ${kept.url}: ${podId} answered ${response.statusCode}`);
      await passOn(response, outgoing, podId);
      return;
    }
    this.counters.waited(kept.organization, waitedMs);
    console.error(
      `${kept.method} ${kept.url}: given up after ${attempts} attempts, ${redirects} redirects: ${last}`,
    );
    answer(outgoing, 502, last);
  }

  /** A refusal is not to be cached as an answer; what it taught is a hint, checked at that Pod's guard. */
  #elsewhere(kept: Kept, from: string, to: string): string {
    this.counters.redirected(kept.organization);
    this.#routes.learn(kept.organization, to, ROUTE_LIFETIME_MS);
    return `${from} says ${to}`;
  }

  async #podOf(kept: Kept): Promise<string | null> {
    const known = this.#routes.get(kept.organization);
    if (known !== null) return known;
    for (const { guard } of Object.values(this.#options.pods)) {
      try {
        const response = await request(`${guard}/guard/route?path=${encodeURIComponent(kept.url)}`, {
          dispatcher: this.#agent,
          headersTimeout: 1_000,
          bodyTimeout: 1_000,
        });
        if (response.statusCode !== 200) {
          await response.body.dump();
          continue;
        }
        const route = (await response.body.json()) as { podId: string };
        const lifetimeMs = lifetimeOf(header(response, "cache-control"), ROUTE_LIFETIME_MS);
        this.#routes.learn(kept.organization, route.podId, lifetimeMs);
        return route.podId;
      } catch {
        // The next Pod's guard knows the same.
      }
    }
    return null;
  }

  async #askGuard({ guard }: PodAddress, kept: Kept): Promise<Verdict> {
    const leftMs = Math.max(1, kept.deadline - performance.now());
    const holdMs = Math.ceil(Math.min(this.#options.holdMs, leftMs));
    try {
      const response = await request(`${guard}/guard/check`, {
        dispatcher: this.#agent,
        headers: {
          "x-original-method": kept.method,
          "x-original-uri": kept.url,
          "cleave-hold-ms": String(holdMs),
        },
        headersTimeout: holdMs + 2_000,
        bodyTimeout: 2_000,
      });
      const message = await response.body.text();
      const podId = header(response, "cleave-pod");
      if (response.statusCode === 421 && podId !== null) return { kind: "elsewhere", podId };
      if (response.statusCode >= 200 && response.statusCode < 300) return { kind: "go" };
      if (response.statusCode >= 400 && response.statusCode < 500)
        return { kind: "refused", status: response.statusCode, message };
      return { kind: response.statusCode === 503 ? "wait" : "unreachable" };
    } catch {
      return { kind: "unreachable" };
    }
  }

  async #forward({ app }: PodAddress, kept: Kept): Promise<Dispatcher.ResponseData> {
    return await request(`${app}${kept.url}`, {
      dispatcher: this.#agent,
      method: kept.method as Dispatcher.HttpMethod,
      headers: kept.headers,
      body: kept.body,
      headersTimeout: Math.max(1_000, kept.deadline - performance.now()),
    });
  }
}

/** The organization of `/organizations/ID/…`, decoded; null when the path has none. */
export function organizationOf(url: string): string | null {
  const found = /^\/organizations\/([^/?#]+)/.exec(url)?.[1];
  if (found === undefined) return null;
  try {
    return decodeURIComponent(found);
  } catch {
    return null;
  }
}

async function bodyOf(incoming: IncomingMessage, maxBytes: number): Promise<Buffer | null | "too large"> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of incoming as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > maxBytes) return "too large";
    chunks.push(chunk);
  }
  if (bytes > 0) return Buffer.concat(chunks, bytes);
  return incoming.headers["content-length"] === "0" ? Buffer.alloc(0) : null;
}

function endToEnd(headers: IncomingMessage["headers"]): Record<string, string | string[]> {
  const kept: Record<string, string | string[]> = {};
  for (const [name, value] of Object.entries(headers))
    if (value !== undefined && !HOP_BY_HOP.has(name)) kept[name] = value;
  return kept;
}

async function passOn(
  response: Dispatcher.ResponseData,
  outgoing: ServerResponse,
  podId: string,
): Promise<void> {
  outgoing.statusCode = response.statusCode;
  for (const [name, value] of Object.entries(response.headers))
    if (value !== undefined && (name === "content-length" || !HOP_BY_HOP.has(name)))
      outgoing.setHeader(name, value);
  outgoing.setHeader("cleave-served-by", podId);
  await pipeline(response.body, outgoing);
}

function answer(outgoing: ServerResponse, status: number, message: string): void {
  outgoing.statusCode = status;
  outgoing.setHeader("content-type", "text/plain; charset=utf-8");
  outgoing.end(`${message}\n`);
}

function header(response: Dispatcher.ResponseData, name: string): string | null {
  const value = response.headers[name];
  return (Array.isArray(value) ? value[0] : value) ?? null;
}

/** The connection was never made, so nothing can have happened. */
function wasNeverSent(error: unknown): boolean {
  const code = (error as { code?: string } | null)?.code ?? "";
  return code === "ECONNREFUSED" || code === "UND_ERR_CONNECT_TIMEOUT";
}
