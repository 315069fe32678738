/** Asks a source's agent: every question has a time limit, and every failure a code with a next step. */
import type { Readable } from "node:stream";
import { Agent, type Dispatcher, request } from "undici";
import { CleaveError, ERRORS, type ErrorCode } from "../../../../protocol/errors.ts";
import type { MigrationId } from "../../../../protocol/ids.ts";
import type { ObjectAccess } from "../backend/backend.ts";
import type { Peer } from "../config.ts";
import { encodeKey } from "../inventory/keys.ts";
import { ACCESS_HEADER, ChangesAnswer, parseAccess, SummaryAnswer } from "./peer-protocol.ts";

const ANSWER_MS = 10_000;
const CONNECT_MS = 3_000;
/** A transfer that stands still for this long has broken off. */
const STALL_MS = 30_000;

/** The source has no such object any more: its deletion or replacement is among the changes to come. */
export class ObjectGone extends Error {}

export class PeerClient {
  readonly #peer: Peer;
  readonly #agent = new Agent({
    connect: { timeout: CONNECT_MS },
    keepAliveTimeout: 30_000,
    bodyTimeout: STALL_MS,
  });

  constructor(peer: Peer) {
    this.#peer = peer;
  }

  async changes(
    question: { migrationId: MigrationId; incarnation: string; since: number; epoch: number; waitMs: number },
    signal: AbortSignal,
  ): Promise<ChangesAnswer> {
    const query = new URLSearchParams({
      migration: question.migrationId,
      incarnation: question.incarnation,
      since: String(question.since),
      epoch: String(question.epoch),
      waitMs: String(question.waitMs),
    });
    const body = await this.#get(`/objects/changes?${query}`, {}, signal, question.waitMs + ANSWER_MS);
    return ChangesAnswer.parse(await this.#json(body));
  }

  /** Slow on a large source that was not listed lately. */
  async summary(signal: AbortSignal): Promise<SummaryAnswer> {
    const body = await this.#get("/objects/summary", {}, signal, 6 * ANSWER_MS);
    return SummaryAnswer.parse(await this.#json(body));
  }

  /** The object's bytes from `offset` on. @throws ObjectGone also when it has not `bytes` bytes any more. */
  async content(
    key: string,
    { offset, bytes }: { readonly offset: number; readonly bytes: number },
    signal: AbortSignal,
  ): Promise<{ readonly body: Readable; readonly access: ObjectAccess | null }> {
    const headers: Record<string, string> = offset > 0 ? { range: `bytes=${offset}-` } : {};
    const response = await this.#get(`/objects/content/${encodeKey(key)}`, headers, signal, ANSWER_MS);
    // Whoever reads it hears of its end by reading; of one that nobody reads any more nobody has to.
    response.body.on("error", () => undefined);
    if (offset > 0 && response.statusCode !== 206) {
      response.body.destroy();
      throw new CleaveError("PEER_UNREACHABLE", `${this.#peer.agentUrl} does not answer ranges`);
    }
    const header = (name: string) => String(response.headers[name] ?? "");
    const all = offset > 0 ? /\/(\d+)$/.exec(header("content-range"))?.[1] : header("content-length");
    if (all !== undefined && all !== "" && Number(all) !== bytes) {
      response.body.destroy();
      throw new ObjectGone(`it has ${all} bytes now`);
    }
    return { body: response.body, access: parseAccess(header(ACCESS_HEADER)) };
  }

  async close(): Promise<void> {
    await this.#agent.destroy();
  }

  async #get(
    path: string,
    headers: Record<string, string>,
    signal: AbortSignal,
    headersTimeout: number,
  ): Promise<Dispatcher.ResponseData> {
    const { agentUrl, token } = this.#peer;
    let response: Dispatcher.ResponseData;
    try {
      response = await request(`${agentUrl.replace(/\/$/, "")}${path}`, {
        dispatcher: this.#agent,
        headers: { authorization: `Bearer ${token}`, ...headers },
        signal,
        headersTimeout,
      });
    } catch (error) {
      signal.throwIfAborted();
      throw new CleaveError("PEER_UNREACHABLE", `${agentUrl}: ${(error as Error).message}`, { cause: error });
    }
    if (response.statusCode < 300) return response;
    const text = (await response.body.text().catch(() => "")).slice(0, 300);
    if (response.statusCode === 404) throw new ObjectGone(text);
    if (response.statusCode === 401 || response.statusCode === 403)
      throw new CleaveError("PEER_UNAUTHORIZED", `${agentUrl} refused the token`);
    throw new CleaveError(codeIn(text), `${agentUrl} answered ${response.statusCode}: ${text}`);
  }

  async #json(response: Dispatcher.ResponseData): Promise<unknown> {
    try {
      return await response.body.json();
    } catch (error) {
      throw new CleaveError("PEER_UNREACHABLE", `${this.#peer.agentUrl} broke off its answer`, {
        cause: error,
      });
    }
  }
}

/** Why the other Pod's store does not answer; unreachable when it does not say. */
function codeIn(body: string): ErrorCode {
  const code = /"code":\s*"([A-Z_]+)"/.exec(body)?.[1] ?? "";
  const isItsOwn = code.startsWith("OBJECT_") || code.startsWith("ROOT_");
  return isItsOwn && Object.hasOwn(ERRORS, code) ? (code as ErrorCode) : "PEER_UNREACHABLE";
}
