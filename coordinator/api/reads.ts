/** Status, routes and events: from memory, streamed where somebody watches. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import { z } from "zod";
import { CleaveError } from "../../protocol/errors.ts";
import { MigrationId, OrganizationId } from "../../protocol/ids.ts";
import type { CoordinatorService } from "../ports.ts";
import { Problem } from "./problem.ts";

const Route = z.object({ organizationId: z.string(), podId: z.string(), version: z.number() });
/** Status is for people and grows with the product: described as an object, typed in coordinator/domain/status.ts. */
const Status = z.looseObject({
  at: z.number(),
  connected: z.boolean(),
  sequence: z.number(),
  pods: z.array(z.any()).readonly(),
  migrations: z.array(z.any()).readonly(),
});
const MigrationStatus = z.looseObject({
  migrationId: z.string(),
  lifecycle: z.string(),
  waitingFor: z.array(z.string()).readonly(),
});
const errors = { "4xx": Problem, "5xx": Problem };

/** Enough for an eye, and little enough for a busy coordinator. */
const STREAM_EVERY_MS = 100;
const PAGE = z.coerce.number().int().min(1).max(10_000).default(1_000);

export function registerReadRoutes(instance: FastifyInstance, service: CoordinatorService): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();
  app.get(
    "/v1/status",
    {
      schema: {
        summary: "All migrations and Pods, and what they wait for",
        response: { 200: Status, ...errors },
      },
    },
    () => ({ ...service.status() }),
  );
  app.get(
    "/v1/migrations/:id",
    {
      schema: {
        summary: "One migration",
        params: z.object({ id: MigrationId }),
        response: { 200: MigrationStatus, ...errors },
      },
    },
    (request) => {
      const found = service
        .status()
        .migrations.find((migration) => migration.migrationId === request.params.id);
      if (!found) throw new CleaveError("MIGRATION_UNKNOWN", `there is no migration ${request.params.id}`);
      return { ...found };
    },
  );
  app.get(
    "/v1/status/stream",
    { schema: { summary: "Server-sent events: the status, whenever it changes" } },
    (request, reply) => stream(request, reply, service, (send) => send(null, service.status())),
  );
  app.get(
    "/v1/routes",
    {
      schema: {
        summary: "Organizations that the default Pod does not serve, by id",
        querystring: z.object({ after: z.string().optional(), limit: PAGE }),
        response: {
          200: z.object({
            defaultPodId: z.string().nullable(),
            routes: z.array(Route),
            next: z.string().nullable(),
          }),
          ...errors,
        },
      },
    },
    (request) => ({
      defaultPodId: service.state().defaultPodId,
      ...service.routes(request.query.after ?? null, request.query.limit),
    }),
  );
  app.get(
    "/v1/routes/:organization",
    {
      schema: {
        summary: "The authoritative Pod of one organization",
        params: z.object({ organization: OrganizationId }),
        response: { 200: Route, ...errors },
      },
    },
    (request) => {
      const route = service.route(request.params.organization);
      if (!route) throw new CleaveError("NOT_FOUND", "the cluster is not configured yet");
      return route;
    },
  );
  app.get(
    "/v1/events",
    {
      schema: {
        summary:
          "The log's records after a sequence; as a stream with Accept: text/event-stream, resumable by Last-Event-ID",
        querystring: z.object({ after: z.coerce.number().int().min(0).default(0), limit: PAGE }),
      },
    },
    (request, reply) => {
      const { after, limit } = request.query;
      if (!request.headers.accept?.includes("text/event-stream")) {
        return reply.send({ records: service.events(after, limit) });
      }
      const resumed = Number(request.headers["last-event-id"]);
      let last = Number.isSafeInteger(resumed) && resumed > 0 ? resumed : after;
      return stream(request, reply, service, (send) => {
        for (const record of service.events(last, 10_000)) {
          send(record.sequence, record);
          last = record.sequence;
        }
      });
    },
  );
}

/** Sends on every change, but not more often than an eye can follow; the last change is always sent. */
function stream(
  request: FastifyRequest,
  reply: FastifyReply,
  service: CoordinatorService,
  produce: (send: (id: number | null, data: unknown) => void) => void,
): FastifyReply {
  reply.hijack();
  const { raw } = reply;
  raw.writeHead(200, {
    "content-type": "text/event-stream",
    "cache-control": "no-store",
    connection: "keep-alive",
  });
  const flush = () =>
    produce((id, data) => raw.write(`${id === null ? "" : `id: ${id}\n`}data: ${JSON.stringify(data)}\n\n`));
  let timer: NodeJS.Timeout | null = null;
  const soon = () => {
    timer ??= setTimeout(() => {
      timer = null;
      flush();
    }, STREAM_EVERY_MS);
  };
  flush();
  const unsubscribe = service.onChange(soon);
  request.raw.on("close", () => {
    unsubscribe();
    if (timer) clearTimeout(timer);
    raw.end();
  });
  return reply;
}
