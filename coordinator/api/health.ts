/** For supervisors and load balancers: asked without a token, and they tell nothing of the cluster. */
import type { FastifyInstance } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import { z } from "zod";
import type { ApiOptions } from "./server.ts";

export function registerHealthRoutes(instance: FastifyInstance, { service, ready }: ApiOptions): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();
  app.get(
    "/health",
    {
      schema: {
        summary: "The process runs",
        response: { 200: z.object({ ok: z.literal(true), ready: z.boolean(), connected: z.boolean() }) },
      },
    },
    () => ({
      ok: true as const,
      ready: ready(),
      connected: ready() && service.status().connected,
    }),
  );
  app.get("/ready", { schema: { summary: "The log is read and NATS answers" } }, (_request, reply) => {
    const ok = ready() && service.status().connected;
    return reply.status(ok ? 200 : 503).send({ ready: ok });
  });
}
