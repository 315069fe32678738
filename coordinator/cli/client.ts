/** The API as the command line uses it. */
import { randomUUID } from "node:crypto";
import { userInfo } from "node:os";
import createClient, { type Client } from "openapi-fetch";
import { Agent } from "undici";
import { CleaveError, ERRORS, type ErrorCode } from "../../protocol/errors.ts";
import type { PlanInput } from "../../protocol/plan.ts";
import type { ClusterStatus, MigrationStatus, StoredRecord } from "../api/ports.ts";
import type { components, paths } from "./api-types.ts";

type Schemas = components["schemas"];
export type RouteRow = Schemas["Route"];
export type RoutePage = Schemas["RoutePage"];
export type Accepted = Schemas["Accepted"];
export interface RecordPage {
  readonly records: readonly StoredRecord[];
  /** False: the coordinator no longer has all records after the one asked for. */
  readonly complete: boolean;
}

/** What may be decided about a migration, as the API names it. */
export type CommandName = {
  [P in keyof paths]: P extends `/v1/migrations/{id}/${infer Name}`
    ? "post" extends keyof paths[P]
      ? Name
      : never
    : never;
}[keyof paths];
export type CommandBody<Name extends CommandName> = Name extends CommandName
  ? paths[`/v1/migrations/{id}/${Name}`]["post"] extends {
      requestBody: { content: { "application/json": infer Body } };
    }
    ? Body
    : undefined
  : never;

interface Answer<T> {
  readonly data?: T;
  readonly error?: unknown;
  readonly response: Response;
}
type Headers = Record<string, string>;

const TIMEOUT_MS = 30_000;
/** A million organizations are read, checked and stored meanwhile. */
const PLAN_TIMEOUT_MS = 180_000;
/** The server says something every 15 s; a longer silence is a connection that nobody holds at the other end. */
const STREAM_SILENCE_MS = 40_000;
export const EVENTS_PAGE = 10_000;

export class ApiClient {
  readonly #url: string;
  readonly #token: string | undefined;

  readonly #dispatcher: RequestInit["dispatcher"];

  readonly #api: Client<paths, "application/json">;

  /** `url` has been checked to be one; `ca` is what a TLS server is trusted by instead of the usual, as PEM. */
  constructor(url: string, token: string | undefined, ca?: string) {
    this.#url = url.replace(/\/+$/, "");
    this.#token = token?.trim() || undefined;
    // Node's own types of the same class, a version apart.
    if (ca !== undefined) this.#dispatcher = new Agent({ connect: { ca } }) as never;
    this.#api = createClient<paths, "application/json">({
      baseUrl: this.#url,
      // A redirect would carry the token to wherever it points.
      redirect: "manual",
      fetch: (request) => this.#fetch(request),
    });
  }

  // Answers are taken as what the code that made them says; test/coordinator/cli/api-types.test.ts compares the two.
  async status(): Promise<ClusterStatus> {
    const answer = await this.#ask((options) => this.#api.GET("/v1/status", options));
    return answer as unknown as ClusterStatus;
  }
  async migration(id: string): Promise<MigrationStatus> {
    const params = { path: { id } };
    const answer = await this.#ask((options) => this.#api.GET("/v1/migrations/{id}", { ...options, params }));
    return answer as unknown as MigrationStatus;
  }
  plan(plan: PlanInput): Promise<Accepted> {
    return this.#decide(
      (options) => this.#api.POST("/v1/plans", { ...options, body: plan as never }),
      PLAN_TIMEOUT_MS,
    );
  }
  command<Name extends CommandName>(id: string, name: Name, body?: CommandBody<Name>): Promise<Accepted> {
    // One of them stands for all: they differ in their bodies alone, which are checked above.
    const path = `/v1/migrations/{id}/${name}` as "/v1/migrations/{id}/abort";
    const content = { params: { path: { id } }, ...(body === undefined ? {} : { body }) };
    return this.#decide((options) => this.#api.POST(path, { ...options, ...content } as never));
  }
  route(organization: string): Promise<RouteRow> {
    const params = { path: { organization } };
    return this.#ask((options) => this.#api.GET("/v1/routes/{organization}", { ...options, params }));
  }
  routes(after: string | null, limit = 1_000): Promise<RoutePage> {
    const params = { query: { limit, ...(after === null ? {} : { after }) } };
    return this.#ask((options) => this.#api.GET("/v1/routes", { ...options, params }));
  }
  async events(after: number): Promise<RecordPage> {
    const params = { query: { after, limit: EVENTS_PAGE } };
    const answer = await this.#ask((options) => this.#api.GET("/v1/events", { ...options, params }));
    return answer as unknown as RecordPage;
  }

  /**
   * Server-sent events, until the caller stops or the server ends them.
   * @throws CleaveError COORDINATOR_UNREACHABLE when it does not answer, breaks off or falls silent.
   */
  async *stream<T>(path: string): AsyncGenerator<T> {
    const abort = new AbortController();
    let timer = setTimeout(() => abort.abort(), STREAM_SILENCE_MS);
    try {
      const headers = { ...this.#headers(), accept: "text/event-stream" };
      const request = new Request(`${this.#url}${path}`, {
        headers,
        signal: abort.signal,
        redirect: "manual",
      });
      const response = await this.#fetch(request);
      if (!response.ok || !response.body)
        throw failure(response.status, await response.text().catch(() => ""));
      let pending = "";
      for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
        clearTimeout(timer);
        timer = setTimeout(() => abort.abort(), STREAM_SILENCE_MS);
        pending += chunk;
        for (let end = pending.indexOf("\n\n"); end >= 0; end = pending.indexOf("\n\n")) {
          const lines = pending.slice(0, end).split("\n");
          const data = lines.flatMap((line) => (line.startsWith("data: ") ? [line.slice(6)] : []));
          pending = pending.slice(end + 2);
          // What has a type of its own (`gap`) is not what was asked for.
          const isOrdinary = !lines.some((line) => line.startsWith("event: "));
          if (isOrdinary && data.length > 0) yield JSON.parse(data.join("\n")) as T;
        }
      }
    } catch (error) {
      if (error instanceof CleaveError) throw error;
      throw this.#unreachable(error);
    } finally {
      clearTimeout(timer);
      abort.abort();
    }
  }

  async #ask<T>(
    send: (options: { headers: Headers; signal: AbortSignal }) => Promise<Answer<T>>,
    timeoutMs = TIMEOUT_MS,
    more: Headers = {},
  ): Promise<T> {
    let answer: Answer<T>;
    try {
      const signal = AbortSignal.timeout(timeoutMs);
      answer = await send({ headers: { ...this.#headers(), ...more }, signal });
    } catch (error) {
      throw error instanceof CleaveError ? error : this.#unreachable(error);
    }
    const { data, error, response } = answer;
    if (!response.ok || data === undefined) throw failure(response.status, error);
    return data;
  }

  /** Once more when the connection broke: by its key the coordinator knows what it has decided already. */
  async #decide<T>(
    send: (options: { headers: Headers; signal: AbortSignal }) => Promise<Answer<T>>,
    timeoutMs = TIMEOUT_MS,
  ): Promise<T> {
    const key = { "idempotency-key": randomUUID() };
    try {
      return await this.#ask(send, timeoutMs, key);
    } catch (error) {
      if (!isBroken(error)) throw error;
      return await this.#ask(send, timeoutMs, key);
    }
  }

  async #fetch(request: Request): Promise<Response> {
    try {
      return await fetch(request, this.#dispatcher === undefined ? {} : { dispatcher: this.#dispatcher });
    } catch (error) {
      throw this.#unreachable(error);
    }
  }

  #unreachable(error: unknown): CleaveError {
    const { cause, message, name } = error as Error;
    const silent = name === "TimeoutError" || name === "AbortError";
    const why = silent
      ? "no answer in time"
      : cause instanceof Error && cause.message
        ? cause.message
        : message;
    return new CleaveError("COORDINATOR_UNREACHABLE", `${this.#url}: ${why}`, { cause: error });
  }

  #headers(): Record<string, string> {
    return {
      "x-cleave-operator": userName(),
      ...(this.#token === undefined ? {} : { authorization: `Bearer ${this.#token}` }),
    };
  }
}

/** For the log. What a header cannot carry is left out. */
function userName(): string {
  try {
    return userInfo().username.replace(/[^\x21-\x7e]/g, "") || "unnamed";
  } catch {
    // No entry for this user id: the log then says so.
    return "unknown";
  }
}

/** The connection was there, and ended before the answer. */
function isBroken(error: unknown): boolean {
  const { cause } = error as { cause?: { cause?: { code?: unknown } } };
  return ["ECONNRESET", "EPIPE", "UND_ERR_SOCKET"].includes(String(cause?.cause?.code));
}

/** What the server answered, parsed or as text, as the error it stands for. */
function failure(status: number, answer: unknown): CleaveError {
  const { code, detail } = (parsed(answer) ?? {}) as { code?: unknown; detail?: unknown };
  if (typeof code === "string" && Object.hasOwn(ERRORS, code))
    return new CleaveError(code as ErrorCode, typeof detail === "string" ? detail : code);
  const text = typeof answer === "string" ? answer : (JSON.stringify(answer) ?? "");
  return new CleaveError(
    "COORDINATOR_UNREACHABLE",
    `something else answered, with ${status}: ${text.slice(0, 200)}`,
  );
}

/** Null for what is not from Cleave: a proxy's page, or nothing. */
function parsed(answer: unknown): unknown {
  if (typeof answer !== "string") return answer;
  try {
    return JSON.parse(answer);
  } catch {
    return null;
  }
}
