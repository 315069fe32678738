/** For supervisors and load balancers: asked without a token, and they tell nothing of the cluster. */
import type { FastifyInstance } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import { z } from "zod";
import type { CleaveError } from "../../protocol/errors.ts";

export interface HealthOptions {
  /** The log is read and the coordinator decides; until then only /health, /ready and /docs/json answer. */
  readonly ready: () => boolean;
  /** Why NATS is out of reach; null while it answers. */
  readonly problem: () => CleaveError | null;
}

const Health = z.object({
  ok: z.literal(true),
  ready: z.boolean().describe("The log is read, and the coordinator decides"),
  connected: z.boolean().describe("NATS answers"),
  problem: z
    .object({ code: z.string(), message: z.string(), nextStep: z.string() })
    .nullable()
    .describe("Why it is not ready or not connected"),
});
const Ready = z.object({ ready: z.boolean() });

export function registerHealthRoutes(instance: FastifyInstance, { ready, problem }: HealthOptions): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();
  app.get(
    "/health",
    { schema: { summary: "The process runs; what it waits for", security: [], response: { 200: Health } } },
    () => {
      const found = problem();
      return {
        ok: true as const,
        ready: ready(),
        connected: found === null,
        problem: found && { code: found.code, message: found.message, nextStep: found.nextStep },
      };
    },
  );
  app.get(
    "/ready",
    {
      schema: {
        summary: "Whether requests are answered here now",
        security: [],
        response: { 200: Ready, 503: Ready },
      },
    },
    (_request, reply) => {
      const ok = ready() && problem() === null;
      reply.status(ok ? 200 : 503);
      return { ready: ok };
    },
  );
}
