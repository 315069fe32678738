/** Status, routes and events: from memory, streamed where somebody watches. */
import type { FastifyInstance } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import { z } from "zod";
import { CleaveError } from "../../protocol/errors.ts";
import { MigrationId, OrganizationId } from "../../protocol/ids.ts";
import type { CoordinatorService } from "../ports.ts";
import { PROBLEMS } from "./problem.ts";
import { stream } from "./stream.ts";

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
const Records = z.object({
  records: z.array(
    z.looseObject({
      sequence: z.number(),
      at: z.number(),
      by: z.string(),
      events: z.array(z.any()).readonly(),
    }),
  ),
  complete: z
    .boolean()
    .describe("false: the coordinator began with a checkpoint and no longer has all records after `after`"),
});

const viewer = { config: { role: "viewer" } } as const;
const PAGE = z.coerce.number().int().min(1).max(10_000).default(1_000);

export function registerReadRoutes(instance: FastifyInstance, service: CoordinatorService): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();
  app.get(
    "/v1/status",
    {
      ...viewer,
      schema: {
        summary: "All migrations and Pods, and what they wait for",
        response: { 200: Status, ...PROBLEMS },
      },
    },
    () => ({ ...service.status() }),
  );
  app.get(
    "/v1/status/stream",
    {
      ...viewer,
      schema: { summary: "Server-sent events: the status, whenever it changes, at most every 100 ms" },
    },
    (request, reply) => {
      stream(request, reply, service, (send) => void send(null, service.status()));
    },
  );
  app.get(
    "/v1/migrations/:id",
    {
      ...viewer,
      schema: {
        summary: "One migration",
        params: z.object({ id: MigrationId }),
        response: { 200: MigrationStatus, ...PROBLEMS },
      },
    },
    (request) => {
      const { id } = request.params;
      const found = service.status().migrations.find((migration) => migration.migrationId === id);
      if (!found) throw new CleaveError("MIGRATION_UNKNOWN", `there is no migration ${id}`);
      return { ...found };
    },
  );
  registerRouteRoutes(instance, service);
  registerEventRoutes(instance, service);
}

function registerRouteRoutes(instance: FastifyInstance, service: CoordinatorService): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();
  app.get(
    "/v1/routes",
    {
      ...viewer,
      schema: {
        summary: "Organizations that a migration has moved, by id; the default Pod serves all others",
        querystring: z.object({
          after: OrganizationId.optional().describe("`next` of the page before"),
          limit: PAGE,
        }),
        response: {
          200: z.object({
            defaultPodId: z.string().nullable(),
            routes: z.array(Route),
            next: z.string().nullable(),
          }),
          ...PROBLEMS,
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
      ...viewer,
      schema: {
        summary: "The authoritative Pod of one organization",
        params: z.object({ organization: OrganizationId }),
        response: { 200: Route, ...PROBLEMS },
      },
    },
    (request) => {
      const route = service.route(request.params.organization);
      if (!route) throw new CleaveError("NOT_FOUND", "the cluster is not configured yet");
      return route;
    },
  );
}

function registerEventRoutes(instance: FastifyInstance, service: CoordinatorService): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();
  app.get(
    "/v1/events",
    {
      ...viewer,
      schema: {
        summary: "The log's records after a sequence",
        description:
          "With `Accept: text/event-stream` as server-sent events that go on with new records; the id of each is its sequence, and `Last-Event-ID` resumes.",
        querystring: z.object({ after: z.coerce.number().int().min(0).default(0), limit: PAGE }),
        response: { 200: Records, ...PROBLEMS },
      },
    },
    (request, reply) => {
      const { after, limit } = request.query;
      if (!request.headers.accept?.includes("text/event-stream")) {
        const records = [...service.events(after, limit)].map((record) => ({ ...record }));
        const next = records[0]?.sequence ?? service.state().sequence + 1;
        reply.send({ records, complete: next <= after + 1 });
        return;
      }
      const resumed = Number(request.headers["last-event-id"]);
      let last = Number.isSafeInteger(resumed) && resumed > 0 ? resumed : after;
      stream(request, reply, service, (send) => {
        for (;;) {
          const records = service.events(last, limit);
          for (const record of records) {
            last = record.sequence;
            if (!send(record.sequence, record)) return;
          }
          if (records.length < limit) return;
        }
      });
    },
  );
}
