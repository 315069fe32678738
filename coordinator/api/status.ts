/** Everything at a glance: from memory, streamed where somebody watches. */
import type { FastifyInstance } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import { EVENT_STREAM, viewer } from "./paging.ts";
import type { CoordinatorService } from "./ports.ts";
import { problems } from "./problem.ts";
import { StatusAnswer } from "./schemas.ts";
import { stream } from "./stream.ts";

export function registerStatusRoutes(instance: FastifyInstance, service: CoordinatorService): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();
  app.get(
    "/v1/status",
    {
      ...viewer,
      schema: {
        summary: "All migrations and Pods, and what they wait for",
        response: { 200: StatusAnswer, ...problems() },
      },
    },
    () => service.status(),
  );
  app.get(
    "/v1/status/stream",
    {
      ...viewer,
      schema: {
        summary: "Server-sent events: the status, whenever it changes, at most every 100 ms",
        response: { 200: EVENT_STREAM, ...problems() },
      },
    },
    (request, reply) => {
      stream(request, reply, service, (send) => void send(null, service.status()));
    },
  );
}
