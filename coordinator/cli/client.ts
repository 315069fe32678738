/** The API as the command line uses it. */
import { userInfo } from "node:os";
import { Agent } from "undici";
import { CleaveError, ERRORS, type ErrorCode } from "../../protocol/errors.ts";
import type { ClusterStatus, MigrationStatus, StoredRecord } from "../ports.ts";

export interface RouteRow {
  readonly organizationId: string;
  readonly podId: string;
  readonly version: number;
}
export interface RoutePage {
  readonly defaultPodId: string | null;
  readonly routes: readonly RouteRow[];
  readonly next: string | null;
}
export interface Accepted {
  readonly migrationId: string;
  readonly lifecycle: string;
}
export interface RecordPage {
  readonly records: readonly StoredRecord[];
  /** False: the coordinator no longer has all records after the one asked for. */
  readonly complete: boolean;
}

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

  /** `url` has been checked to be one; `ca` is what a TLS server is trusted by instead of the usual, as PEM. */
  constructor(url: string, token: string | undefined, ca?: string) {
    this.#url = url.replace(/\/+$/, "");
    this.#token = token?.trim() || undefined;
    // Node's own types of the same class, a version apart.
    if (ca !== undefined) this.#dispatcher = new Agent({ connect: { ca } }) as never;
  }

  status(): Promise<ClusterStatus> {
    return this.#call("GET", "/v1/status");
  }
  migration(id: string): Promise<MigrationStatus> {
    return this.#call("GET", `/v1/migrations/${encodeURIComponent(id)}`);
  }
  plan(plan: unknown): Promise<Accepted> {
    return this.#call("POST", "/v1/plans", plan, PLAN_TIMEOUT_MS);
  }
  command(id: string, command: string, body?: object): Promise<Accepted> {
    return this.#call("POST", `/v1/migrations/${encodeURIComponent(id)}/${command}`, body);
  }
  route(organization: string): Promise<RouteRow> {
    return this.#call("GET", `/v1/routes/${encodeURIComponent(organization)}`);
  }
  routes(after: string | null, limit = 1_000): Promise<RoutePage> {
    const query = new URLSearchParams({ limit: String(limit), ...(after === null ? {} : { after }) });
    return this.#call("GET", `/v1/routes?${query}`);
  }
  events(after: number): Promise<RecordPage> {
    return this.#call("GET", `/v1/events?after=${after}&limit=${EVENTS_PAGE}`);
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
      const response = await this.#fetch(path, { headers, signal: abort.signal });
      if (!response.ok || !response.body) throw await failure(response);
      let pending = "";
      for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
        clearTimeout(timer);
        timer = setTimeout(() => abort.abort(), STREAM_SILENCE_MS);
        pending += chunk;
        for (let end = pending.indexOf("\n\n"); end >= 0; end = pending.indexOf("\n\n")) {
          const data = pending
            .slice(0, end)
            .split("\n")
            .flatMap((line) => (line.startsWith("data: ") ? [line.slice(6)] : []));
          pending = pending.slice(end + 2);
          if (data.length > 0) yield JSON.parse(data.join("\n")) as T;
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

  async #call<T>(method: string, path: string, body?: unknown, timeoutMs = TIMEOUT_MS): Promise<T> {
    const content = body === undefined ? {} : { body: JSON.stringify(body) };
    const type = body === undefined ? {} : { "content-type": "application/json" };
    const response = await this.#fetch(path, {
      method,
      headers: { ...this.#headers(), ...type },
      signal: AbortSignal.timeout(timeoutMs),
      ...content,
    });
    if (!response.ok) throw await failure(response);
    try {
      return (await response.json()) as T;
    } catch (error) {
      throw this.#unreachable(error);
    }
  }

  async #fetch(path: string, init: RequestInit): Promise<Response> {
    try {
      // A redirect would carry the token to wherever it points.
      const dispatcher = this.#dispatcher === undefined ? {} : { dispatcher: this.#dispatcher };
      return await fetch(`${this.#url}${path}`, { ...init, ...dispatcher, redirect: "manual" });
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

/** What the server answered, as the error it stands for. */
async function failure(response: Response): Promise<CleaveError> {
  const text = await response.text().catch(() => "");
  try {
    const { code, detail } = JSON.parse(text) as { code?: string; detail?: string };
    if (code !== undefined && Object.hasOwn(ERRORS, code))
      return new CleaveError(code as ErrorCode, detail ?? code);
  } catch {
    // Not from Cleave: a proxy's page, or nothing.
  }
  return new CleaveError(
    "COORDINATOR_UNREACHABLE",
    `something else answered, with ${response.status}: ${text.slice(0, 200)}`,
  );
}
