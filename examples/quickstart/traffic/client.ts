/** The clients' side of HTTP: one request with its answer, and writes that are sent again until they are answered. */
import { setTimeout as sleep } from "node:timers/promises";
import { Agent, type Dispatcher, request } from "undici";
import type { Known } from "./knowledge.ts";
import { clock, type Ledger } from "./ledger.ts";

export interface Answer {
  readonly status: number;
  readonly body: Buffer;
  readonly podId: string | null;
  /** How often the router sent it to a Pod. */
  readonly attempts: number;
}

export interface Write {
  readonly method: "POST" | "PUT" | "DELETE";
  readonly path: string;
  readonly body?: Buffer | string;
  readonly contentType?: string;
  /** Statuses that acknowledge it. */
  readonly accepts: readonly number[];
  /** Statuses that acknowledge it only when it may have been carried out by an earlier sending. */
  readonly acceptsAgain?: readonly number[];
  /** Keeps a transaction open on purpose. */
  readonly long?: boolean;
}

/** How long a client goes on with one write before it gives up. */
const PATIENCE_MS = 60_000;

export interface ClientCounters {
  requests: number;
  /** Answers of 500 and more: what a cutover must not cause. */
  failed: number;
  /** Requests whose connection broke before there was an answer. */
  unanswered: number;
  /** Answers that no write expects (400, 409, …), by status: a fault of the demo or of the Pod. */
  unexpected: Record<string, number>;
}

export class Client {
  readonly counters: ClientCounters = { requests: 0, failed: 0, unanswered: 0, unexpected: {} };
  readonly #url: string;
  readonly #ledger: Ledger;
  readonly #agent = new Agent({ connections: 256, headersTimeout: 60_000, bodyTimeout: 60_000 });

  constructor(url: string, ledger: Ledger) {
    this.#url = url;
    this.#ledger = ledger;
  }

  /** One request; null when no answer came. */
  async send(
    method: string,
    path: string,
    options: { body?: Buffer | string; headers?: Record<string, string> } = {},
  ): Promise<Answer | null> {
    this.counters.requests += 1;
    try {
      const response = await request(`${this.#url}${path}`, {
        dispatcher: this.#agent,
        method: method as Dispatcher.HttpMethod,
        headers: options.headers ?? {},
        ...(options.body === undefined ? {} : { body: options.body }),
      });
      const body = Buffer.from(await response.body.arrayBuffer());
      if (response.statusCode >= 500) this.counters.failed += 1;
      const podId = response.headers["cleave-served-by"];
      return {
        status: response.statusCode,
        body,
        podId: typeof podId === "string" ? podId : null,
        attempts: Number(response.headers["cleave-attempts"] ?? 1),
      };
    } catch (error) {
      console.error(`${method} ${path}: ${String(error)}`);
      this.counters.unanswered += 1;
      return null;
    }
  }

  /**
   * Carries out one write of `known` as a careful client does: the same write is sent again until there is an
   * answer. Resolves when it ended either way; the ledger and `known` then say how.
   */
  async write(known: Known, state: string | null, write: Write): Promise<void> {
    const revision = known.revision + 1;
    known.busy = true;
    const sentAt = clock();
    const headers: Record<string, string> = {
      "idempotency-key": `${known.kind} ${known.key} ${revision}`,
      ...(write.contentType === undefined ? {} : { "content-type": write.contentType }),
    };
    let podId: string | null = null;
    let acknowledged = false;
    let definite = false;
    for (let sendings = 1; clock() - sentAt < PATIENCE_MS; sendings += 1) {
      const answer = await this.send(write.method, write.path, {
        headers,
        ...(write.body === undefined ? {} : { body: write.body }),
      });
      const again = sendings > 1 || (answer?.attempts ?? 1) > 1;
      const accepts = again ? [...write.accepts, ...(write.acceptsAgain ?? [])] : write.accepts;
      if (answer !== null && accepts.includes(answer.status)) {
        podId = answer.podId;
        acknowledged = true;
        break;
      }
      if (answer !== null && answer.status < 500) {
        this.unexpected(`${known.kind} ${write.method} ${answer.status}`);
        // Refused for good, and nothing was sent before: nothing happened.
        definite = sendings === 1;
        break;
      }
      await sleep(100);
    }
    known.busy = false;
    const { kind, organization, key } = known;
    const endedAt = clock();
    const long = write.long ? { long: true as const } : {};
    const entry = { kind, organization, key, revision, state, sentAt, endedAt, podId, ...long };
    if (acknowledged) {
      known.revision = revision;
      known.state = state;
      known.history.push(state);
      this.#ledger.add({ ...entry, outcome: "acknowledged" });
    } else {
      known.abandoned = true;
      if (!definite) this.#ledger.add({ ...entry, outcome: "ambiguous" });
    }
  }

  unexpected(what: string): void {
    console.error(`unexpected: ${what}`);
    this.counters.unexpected[what] = (this.counters.unexpected[what] ?? 0) + 1;
  }

  async close(): Promise<void> {
    await this.#agent.destroy();
  }
}
