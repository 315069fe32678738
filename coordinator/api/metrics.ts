/** For Prometheus. It answers before the log is read: that a coordinator waits for NATS is worth a metric. */
import type { FastifyInstance } from "fastify";
import type { Meters } from "../../protocol/telemetry/meters.ts";

export interface MetricsOptions {
  readonly meters: Meters;
  /** Asked for without a token: for a network of its own. */
  readonly public: boolean;
}

export function registerMetricsRoute(app: FastifyInstance, options: MetricsOptions): void {
  const { meters } = options;
  app.get(
    "/metrics",
    {
      ...(options.public ? {} : { config: { role: "viewer" as const } }),
      schema: {
        summary: "Metrics in Prometheus' text format",
        description: "Answered before the log is read. Without a token where the configuration says so.",
        ...(options.public ? { security: [] } : {}),
      },
    },
    async (_request, reply) => {
      const text = await meters.scrape();
      return reply.type(meters.contentType).serializer(String).send(text);
    },
  );
}
