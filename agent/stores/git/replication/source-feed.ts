/** The target's side of the conversation with its source's agent: news, and a repository's files. */
import { request } from "undici";
import { CleaveError, ERRORS, type ErrorCode } from "../../../../protocol/errors.ts";
import type { MigrationId, PodId } from "../../../../protocol/ids.ts";
import type { GitAccess, RepositoryItem } from "../backend/backend.ts";
import { RepositoryFiles } from "../backend/repository-files.ts";
import type { Peer } from "../config.ts";
import { ChangesAnswer, type ChangesQuery, ItemLine, repositoryAddress } from "./peer-protocol.ts";

const ANSWER_MS = 10_000;
const MAX_BODY_BYTES = 64 * 1024 * 1024;

export class SourceFeed {
  readonly #podId: PodId;
  readonly #peer: Peer;

  constructor(podId: PodId, peer: Peer | undefined) {
    if (peer === undefined)
      throw new CleaveError(
        "PEER_UNREACHABLE",
        `${podId} is not among the peers of this agent's configuration`,
      );
    this.#podId = podId;
    this.#peer = { ...peer, agentUrl: peer.agentUrl.replace(/\/+$/, "") };
  }

  /** For git's own requests: the address of a repository, and the header that opens it. */
  gitAccess(path: string): GitAccess {
    return {
      url: repositoryAddress(this.#peer.agentUrl, path),
      header: `Authorization: Bearer ${this.#peer.token}`,
    };
  }

  /** Null while the source's inventory is not complete. Waits up to `waitMs` for news. */
  async changes(
    query: ChangesQuery & { migration: MigrationId },
    signal: AbortSignal,
  ): Promise<ChangesAnswer | null> {
    const search = new URLSearchParams(
      Object.entries(query).map(([key, value]): [string, string] => [key, String(value)]),
    );
    const { status, body } = await this.#get(
      `${this.#peer.agentUrl}/git/changes?${search}`,
      query.waitMs,
      signal,
    );
    if (status === 503) {
      const { code, message } = wordsOf(body);
      if (code === null) return null;
      throw new CleaveError(code, `${this.#podId}: ${message}`);
    }
    const parsed = ChangesAnswer.safeParse(this.#json(status, body));
    if (parsed.success) return parsed.data;
    throw new CleaveError(
      "MESSAGE_MALFORMED",
      `${this.#podId} answered with changes that cannot be understood: its agent may be of another version`,
    );
  }

  async files(path: string, signal: AbortSignal): Promise<RepositoryFiles> {
    const { status, body } = await this.#get(
      `${repositoryAddress(this.#peer.agentUrl, path)}/files`,
      0,
      signal,
    );
    const parsed = RepositoryFiles.safeParse(this.#json(status, body));
    if (parsed.success) return parsed.data;
    throw new CleaveError(
      "MESSAGE_MALFORMED",
      `${this.#podId} answered with files that cannot be understood: its agent may be of another version`,
    );
  }

  /** One file of a repository, as `files` named it. */
  async content(path: string, name: string, signal: AbortSignal): Promise<AsyncIterable<Buffer>> {
    const url = `${repositoryAddress(this.#peer.agentUrl, path)}/file?${new URLSearchParams({ name })}`;
    return this.#stream(url, signal);
  }

  /** What the source's repository is now, item by item, sorted by the bytes of the names. */
  async *items(path: string, signal: AbortSignal): AsyncGenerator<RepositoryItem> {
    let rest = "";
    const body = await this.#stream(`${repositoryAddress(this.#peer.agentUrl, path)}/items`, signal);
    for await (const chunk of body) {
      // Lines are JSON of Latin-1 text: no character of theirs is divided but by the end of a chunk.
      rest += chunk.toString("latin1");
      if (rest.length > MAX_BODY_BYTES) break;
      const lines = rest.split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines)
        yield ItemLine.parse(JSON.parse(Buffer.from(line, "latin1").toString("utf8")));
    }
  }

  /** A body that may be of any length. */
  async #stream(url: string, signal: AbortSignal): Promise<AsyncIterable<Buffer>> {
    try {
      const { statusCode, body } = await request(url, {
        headers: { authorization: `Bearer ${this.#peer.token}` },
        signal,
        headersTimeout: 6 * ANSWER_MS,
        bodyTimeout: 6 * ANSWER_MS,
      });
      if (statusCode === 200) return body as AsyncIterable<Buffer>;
      this.#json(statusCode, (await body.text()).slice(0, 2_000));
      throw new Error(`it answered ${statusCode}`);
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof CleaveError) throw error;
      throw new CleaveError("PEER_UNREACHABLE", `${this.#podId}: ${(error as Error).message}`, {
        cause: error,
      });
    }
  }

  /** @throws CleaveError PEER_UNREACHABLE or PEER_UNAUTHORIZED. */
  async check(signal: AbortSignal): Promise<void> {
    const { status, body } = await this.#get(`${this.#peer.agentUrl}/peer/health`, 0, signal);
    if (status !== 404) this.#json(status, body);
  }

  #json(status: number, body: string): unknown {
    let value: unknown = null;
    try {
      value = JSON.parse(body);
    } catch {
      // Said below: an answer of no agent.
    }
    if (status === 200 && value !== null) return value;
    if (status === 401)
      throw new CleaveError("PEER_UNAUTHORIZED", `${this.#podId} refused this agent's token`);
    const said = value as { code?: ErrorCode; message?: string } | null;
    if (said?.code === "REPOSITORY_UNREADABLE" || said?.code === "REPOSITORY_NOT_CARRIED")
      throw new CleaveError(said.code, `${this.#podId}: ${String(said.message).slice(0, 1_000)}`);
    throw new CleaveError("PEER_UNREACHABLE", `${this.#podId} answered ${status}: ${body.slice(0, 200)}`);
  }

  async #get(url: string, waitMs: number, signal: AbortSignal): Promise<{ status: number; body: string }> {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(waitMs + ANSWER_MS)]);
    try {
      const answer = await request(url, {
        headers: { authorization: `Bearer ${this.#peer.token}` },
        signal: limit,
        headersTimeout: waitMs + ANSWER_MS,
      });
      const chunks: Buffer[] = [];
      let bytes = 0;
      for await (const chunk of answer.body as AsyncIterable<Buffer>) {
        bytes += chunk.length;
        if (bytes > MAX_BODY_BYTES)
          throw new CleaveError(
            "MESSAGE_OVERSIZED",
            `${this.#podId} answered with more than ${MAX_BODY_BYTES} bytes`,
          );
        chunks.push(chunk);
      }
      return { status: answer.statusCode, body: Buffer.concat(chunks).toString("utf8") };
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof CleaveError) throw error;
      const words = error instanceof Error ? error.message : String(error);
      throw new CleaveError("PEER_UNREACHABLE", `${this.#podId}: ${words}`, { cause: error });
    }
  }
}

/** What is wrong with the other Pod's root; null when its inventory is only not complete yet. */
function wordsOf(body: string): { readonly code: ErrorCode | null; readonly message: string } {
  try {
    const { code, message } = JSON.parse(body) as { code?: string; message?: string };
    const isRoots = code?.startsWith("ROOT_") && Object.hasOwn(ERRORS, code);
    return { code: isRoots ? (code as ErrorCode) : null, message: String(message).slice(0, 1_000) };
  } catch {
    return { code: null, message: "" };
  }
}
