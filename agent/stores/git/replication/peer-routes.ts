/** What a source answers to its targets' agents. The server in front has checked the token. */
import { Readable } from "node:stream";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { toCleaveError } from "../../../../protocol/errors.ts";
import type { OwnProblem } from "../../../../protocol/evidence.ts";
import type { MigrationId } from "../../../../protocol/ids.ts";
import type { Clock } from "../../../../protocol/ports/clock.ts";
import { longPoll } from "../../../peer/long-poll.ts";
import type { RepositoryContent, RepositoryItem, RepositoryServing } from "../backend/backend.ts";
import type { Inventory } from "../inventory/inventory.ts";
import { deletedEntry, type RepositoryEntry } from "../inventory/repository-entry.ts";
import { isRepositoryPath } from "../inventory/repository-path.ts";
import type { SourceFinal } from "../source.ts";
import { type ChangesAnswer, ChangesQuery, PAGE_ENTRIES } from "./peer-protocol.ts";
import { answerAdvertisement, answerUploadPack } from "./smart-http.ts";

export interface PeerSource {
  readonly inventory: Inventory;
  readonly backend: RepositoryServing & Pick<RepositoryContent, "items">;
  readonly clock: Clock;
  /**
   * Null unless this Pod is the source of that migration, or a target that gives back what it changes, and its inventory
   * is complete.
   */
  readonly source: (migrationId: MigrationId) => AnsweringSource | null;
  /** Why nobody knows what is there, while there is no `source` to say it. */
  readonly problem: () => OwnProblem | null;
  /** `listener` is called when `source` or the inventory may answer differently. */
  readonly onChange: (listener: () => void) => () => void;
}

export interface AnsweringSource {
  readonly final: SourceFinal | null;
  /** Told of these owners' repositories alone; null: of all. */
  readonly only: ReadonlySet<string> | null;
  /** Why nobody knows what is there: without it a listing would look like deletions. Null: nothing. */
  readonly problem: OwnProblem | null;
}

const PREFIX = "/git/repositories/";

/**
 * Adds `GET /git/changes`, and below `/git/repositories/PATH` (the path encoded as one segment): `GET files`,
 * `GET file?name=NAME`, `GET items`, `GET info/refs?service=git-upload-pack`, `POST git-upload-pack`.
 */
export function registerGitRoutes(app: FastifyInstance, peer: PeerSource): void {
  const untilNews = longPoll(app, peer);
  app.get("/git/changes", async (request, reply) => {
    const query = ChangesQuery.safeParse(request.query);
    if (!query.success) return refuse(reply, 400, "REQUEST_INVALID", "the question is malformed");
    const { migration, incarnation, since, epoch, waitMs } = query.data;
    const { inventory } = peer;
    const isNews = () => {
      const source = peer.source(migration as MigrationId);
      if (source === null || source.problem !== null || inventory.incarnation !== incarnation) return true;
      return (source.final?.epoch ?? 0) !== epoch || inventory.generation > since;
    };
    if (!isNews()) await untilNews(request, isNews, waitMs);
    const source = peer.source(migration as MigrationId);
    const problem = source === null ? peer.problem() : source.problem;
    if (problem !== null) return refuse(reply, 503, problem.code, problem.message);
    if (source === null)
      return refuse(reply, 503, "NOT_FOUND", "this Pod's inventory is not complete, or it is not the source");
    const from = inventory.incarnation === incarnation ? since : 0;
    const { entries, generation } = inventory.changesSince(from, PAGE_ENTRIES);
    const answer: ChangesAnswer = {
      incarnation: inventory.incarnation,
      generation: inventory.generation,
      next: generation,
      fencedEpoch: source.final?.epoch ?? null,
      finalGeneration: source.final?.generation ?? null,
      finalDigest: source.final?.digest ?? null,
      entries: source.only === null ? entries : entriesOf(source.only, entries, from === 0),
    };
    return reply.send(answer);
  });

  // Git's own bodies are streams for git's own eyes.
  app.addContentTypeParser("application/x-git-upload-pack-request", (_request, payload, done) =>
    done(null, payload),
  );

  app.get(`${PREFIX}*`, async (request, reply) => {
    const asked = repositoryOf(peer, request);
    if (asked === null) return refuse(reply, 404, "NOT_FOUND", "no such repository");
    const { path, rest, query } = asked;
    if (rest === "files") {
      try {
        return await reply.send(await peer.backend.files(path));
      } catch (thrown) {
        const error = toCleaveError(thrown, "REPOSITORY_UNREADABLE");
        return refuse(reply, 500, error.code, error.message);
      }
    }
    if (rest === "file") return sendFile(peer, path, query, reply);
    if (rest === "items") {
      reply.header("content-type", "application/x-ndjson");
      return reply.send(Readable.from(itemLines(peer.backend.items(path))));
    }
    if (rest !== "info/refs" || query !== "service=git-upload-pack")
      return refuse(reply, 404, "NOT_FOUND", "only reading over smart HTTP is served");
    reply.hijack();
    answerAdvertisement(peer.backend, path, request.raw, reply.raw);
    return reply;
  });

  app.post(`${PREFIX}*`, async (request, reply) => {
    const asked = repositoryOf(peer, request);
    if (asked === null || asked.rest !== "git-upload-pack")
      return refuse(reply, 404, "NOT_FOUND", "no such repository");
    if (request.headers["content-type"] !== "application/x-git-upload-pack-request")
      return refuse(reply, 415, "REQUEST_INVALID", "not a request of git");
    reply.hijack();
    answerUploadPack(peer.backend, asked.path, request.raw, reply.raw);
    return reply;
  });
}

async function sendFile(
  { backend }: PeerSource,
  path: string,
  query: string,
  reply: FastifyReply,
): Promise<FastifyReply> {
  try {
    const content = await backend.content(path, new URLSearchParams(query).get("name") ?? "");
    reply.header("content-type", "application/octet-stream");
    return await reply.send(content);
  } catch (thrown) {
    const error = toCleaveError(thrown, "REPOSITORY_UNREADABLE");
    return refuse(reply, 500, error.code, error.message);
  }
}

async function* itemLines(items: AsyncIterable<RepositoryItem>): AsyncGenerator<string> {
  for await (const item of items) yield `${JSON.stringify(item)}\n`;
}

/**
 * Of others' repositories at most that they are not these owners' (any more); a listing from the beginning leaves them
 * out. One whose owner nobody knows is told as it is, since it may be theirs.
 */
function entriesOf(
  only: ReadonlySet<string>,
  entries: readonly RepositoryEntry[],
  fromBeginning: boolean,
): RepositoryEntry[] {
  return entries.flatMap((entry) => {
    if (entry.owner === null || only.has(entry.owner)) return [entry];
    return fromBeginning ? [] : [deletedEntry(entry.path, null)];
  });
}

/** Only repositories of the inventory are served, so nothing outside of the root can be named. */
function repositoryOf(
  peer: PeerSource,
  request: FastifyRequest,
): { path: string; rest: string; query: string } | null {
  const [address = "", query = ""] = (request.raw.url ?? "").split("?");
  if (!address.startsWith(PREFIX)) return null;
  const [segment = "", ...rest] = address.slice(PREFIX.length).split("/");
  let path: string;
  try {
    path = decodeURIComponent(segment);
  } catch {
    return null;
  }
  const entry = isRepositoryPath(path) ? peer.inventory.get(path) : undefined;
  if (entry === undefined || entry.deleted) return null;
  return { path, rest: rest.join("/"), query };
}

function refuse(reply: FastifyReply, status: number, code: string, message: string): FastifyReply {
  return reply.code(status).send({ code, message });
}
