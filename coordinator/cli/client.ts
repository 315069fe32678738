/** The API as the command line uses it. */
import { userInfo } from "node:os";
import { CleaveError, ERRORS, type ErrorCode } from "../../protocol/errors.ts";
import type { ClusterStatus, MigrationStatus, StoredRecord } from "../ports.ts";

export interface RouteRow {
  readonly organizationId: string;
  readonly podId: string;
  readonly version: number;
}

const TIMEOUT_MS = 30_000;

export class ApiClient {
  readonly #url: string;
  readonly #token: string | undefined;

  constructor(url: string, token: string | undefined) {
    this.#url = url.replace(/\/+$/, "");
    this.#token = token;
  }

  status(): Promise<ClusterStatus> {
    return this.#call("GET", "/v1/status");
  }
  migration(id: string): Promise<MigrationStatus> {
    return this.#call("GET", `/v1/migrations/${encodeURIComponent(id)}`);
  }
  plan(plan: unknown, dryRun = false): Promise<{ migrationId: string; lifecycle: string }> {
    return this.#call("POST", `/v1/plans?dryRun=${dryRun}`, plan);
  }
  command(id: string, command: string, body?: object): Promise<{ migrationId: string; lifecycle: string }> {
    return this.#call("POST", `/v1/migrations/${encodeURIComponent(id)}/${command}`, body);
  }
  route(organization: string): Promise<RouteRow> {
    return this.#call("GET", `/v1/routes/${encodeURIComponent(organization)}`);
  }
  routes(
    after: string | null,
    limit = 1_000,
  ): Promise<{ defaultPodId: string | null; routes: RouteRow[]; next: string | null }> {
    const query = new URLSearchParams({ limit: String(limit), ...(after === null ? {} : { after }) });
    return this.#call("GET", `/v1/routes?${query}`);
  }
  async events(after: number): Promise<StoredRecord[]> {
    return (await this.#call<{ records: StoredRecord[] }>("GET", `/v1/events?after=${after}&limit=10000`))
      .records;
  }

  /** Server-sent events, until the signal or the server ends them. */
  async *stream<T>(path: string, signal: AbortSignal): AsyncGenerator<T> {
    const response = await this.#fetch(path, {
      headers: { ...this.#headers(), accept: "text/event-stream" },
      signal,
    });
    if (!response.ok || !response.body) throw await failure(response);
    let pending = "";
    for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
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
  }

  async #call<T>(method: string, path: string, body?: unknown): Promise<T> {
    const content = body === undefined ? {} : { body: JSON.stringify(body) };
    const headers = {
      ...this.#headers(),
      ...(body === undefined ? {} : { "content-type": "application/json" }),
    };
    const response = await this.#fetch(path, {
      method,
      headers,
      signal: AbortSignal.timeout(TIMEOUT_MS),
      ...content,
    });
    if (!response.ok) throw await failure(response);
    return (await response.json()) as T;
  }

  async #fetch(path: string, init: RequestInit): Promise<Response> {
    try {
      return await fetch(`${this.#url}${path}`, init);
    } catch (error) {
      if ((error as Error).name === "AbortError") throw error;
      const cause =
        (error as Error).cause instanceof Error
          ? ((error as Error).cause as Error).message
          : (error as Error).message;
      throw new CleaveError("COORDINATOR_UNREACHABLE", `${this.#url}: ${cause || "no answer"}`, {
        cause: error,
      });
    }
  }

  #headers(): Record<string, string> {
    let user = "unknown";
    try {
      user = userInfo().username;
    } catch {
      // No entry for this user id: the log then says so.
    }
    return {
      "x-cleave-operator": user,
      ...(this.#token === undefined ? {} : { authorization: `Bearer ${this.#token}` }),
    };
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
    `the server answered ${response.status}: ${text.slice(0, 200)}`,
  );
}
