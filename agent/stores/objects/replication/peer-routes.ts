/** What a source answers to its targets' agents. The server in front has checked the token. */
import type { FastifyInstance, FastifyReply } from "fastify";
import { CleaveError } from "../../../../protocol/errors.ts";
import type { OwnProblem } from "../../../../protocol/evidence.ts";
import type { MigrationId } from "../../../../protocol/ids.ts";
import type { Clock } from "../../../../protocol/ports/clock.ts";
import { longPoll } from "../../../peer/long-poll.ts";
import type { ObjectBackend } from "../backend/backend.ts";
import { keyFault } from "../inventory/keys.ts";
import type { PeerView } from "../source.ts";
import {
  ACCESS_HEADER,
  type ChangesAnswer,
  ChangesQuery,
  PAGE_ENTRIES,
  renderAccess,
  type SummaryAnswer,
} from "./peer-protocol.ts";

export interface PeerSource {
  readonly backend: ObjectBackend;
  readonly clock: Clock;
  /**
   * Null unless this Pod is the source of that migration, or a target that gives back what it changes, and its inventory
   * is complete.
   */
  readonly source: (migrationId: MigrationId) => PeerView | null;
  /** Why nobody knows what is there, while there is no `source` to say it. */
  readonly problem: () => OwnProblem | null;
  /** `listener` is called when `source` may answer differently. */
  readonly onChange: (listener: () => void) => () => void;
  readonly summary: () => Promise<SummaryAnswer>;
}

/** Adds `GET /objects/changes`, `/objects/summary` and `/objects/content/KEY`. */
export function registerObjectRoutes(app: FastifyInstance, peer: PeerSource): void {
  const untilNews = longPoll(app, peer);
  app.get("/objects/changes", async (request, reply) => {
    const query = ChangesQuery.safeParse(request.query);
    if (!query.success) return refuse(reply, 400, "the question is malformed");
    const { migration, incarnation, epoch, waitMs } = query.data;
    const current = () => peer.source(migration as MigrationId);
    const isNews = () => {
      const now = current();
      if (now === null || now.problem !== null) return true;
      if (now.inventory.incarnation !== incarnation) return true;
      if ((now.final?.epoch ?? 0) !== epoch) return true;
      return Math.min(now.inventory.generation, now.final?.generation ?? Infinity) > query.data.since;
    };
    if (!isNews()) await untilNews(request, isNews, waitMs);
    const now = current();
    const problem = peer.problem();
    if (now === null && problem !== null) return refuse(reply, 503, problem.message, problem.code);
    if (now === null)
      return refuse(reply, 503, "this Pod's inventory is not complete, or it is not the source");
    if (now.problem !== null) return refuse(reply, 503, now.problem.message, now.problem.code);
    const since = now.inventory.incarnation === incarnation ? query.data.since : 0;
    return answer(now, since);
  });

  app.get("/objects/summary", () => peer.summary());

  app.get("/objects/content/*", async (request, reply) => {
    const key = (request.params as { "*": string })["*"];
    if (keyFault(key) !== null) return refuse(reply, 400, "not a key");
    const range = parseRange(request.headers.range);
    if (range === null) return refuse(reply, 416, "only one range of bytes is understood");
    try {
      const read = await peer.backend.openRead(key, range);
      if (read === null) return refuse(reply, 404, "no such object");
      const start = Math.min(range?.start ?? 0, read.bytes);
      const end = Math.min(range?.end ?? read.bytes - 1, read.bytes - 1);
      reply.header("content-type", "application/octet-stream");
      if (read.access) reply.header(ACCESS_HEADER, renderAccess(read.access));
      reply.header("content-length", Math.max(end - start + 1, 0));
      if (range) reply.code(206).header("content-range", `bytes ${start}-${end}/${read.bytes}`);
      return await reply.send(read.stream);
    } catch (error) {
      if (error instanceof CleaveError) return refuse(reply, 500, error.message, error.code);
      throw error;
    }
  });
}

function answer({ inventory, final, only }: PeerView, since: number): ChangesAnswer {
  const upTo = Math.min(inventory.generation, final?.generation ?? Infinity);
  const { changes, remaining } = inventory.changes(since, upTo, PAGE_ENTRIES);
  const last = changes.at(-1)?.generation ?? since;
  return {
    incarnation: inventory.incarnation,
    generation: inventory.generation,
    next: remaining === 0 ? Math.max(upTo, since) : last,
    remaining,
    objects: inventory.size,
    bytes: inventory.bytes,
    fencedEpoch: final?.epoch ?? null,
    finalGeneration: final?.generation ?? null,
    finalDigest: final?.digest ?? null,
    entries: changes
      .filter(({ key }) => only?.(key) ?? true)
      .map(({ key, bytes, sha256, deleted }) => ({
        key,
        bytes,
        sha256: sha256 as ChangesAnswer["entries"][number]["sha256"],
        deleted,
      })),
  };
}

/** Undefined without a range, null for one that is not `bytes=FIRST-` or `bytes=FIRST-LAST`. */
function parseRange(header: string | undefined): { start: number; end?: number } | null | undefined {
  if (header === undefined) return undefined;
  const match = /^bytes=(\d{1,15})-(\d{1,15})?$/.exec(header);
  if (!match) return null;
  const start = Number(match[1]);
  if (match[2] === undefined) return { start };
  return Number(match[2]) < start ? null : { start, end: Number(match[2]) };
}

function refuse(
  reply: FastifyReply,
  status: number,
  message: string,
  code: string = "NOT_FOUND",
): FastifyReply {
  return reply.code(status).send({ code, message });
}
