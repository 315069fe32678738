/** The log, as far as this coordinator has it at hand: in pages, and as a stream that goes on. */
import type { FastifyInstance } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import { z } from "zod";
import { EVENT_STREAM, PAGE_LIMIT, viewer } from "./paging.ts";
import type { CoordinatorService } from "./ports.ts";
import { problems } from "./problem.ts";
import { RecordPage } from "./schemas.ts";
import { stream } from "./stream.ts";

export function registerEventRoutes(instance: FastifyInstance, service: CoordinatorService): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();
  app.get(
    "/v1/events",
    {
      ...viewer,
      schema: {
        summary: "The log's records after a sequence",
        description:
          "With `Accept: text/event-stream` as server-sent events that go on with new records; the id of each is its sequence, and `Last-Event-ID` resumes. Where records in between are no longer at hand, an event `gap` says which one is next.",
        querystring: z.object({ after: z.coerce.number().int().min(0).default(0), limit: PAGE_LIMIT }),
        response: {
          200: {
            description: "A page, or the stream",
            content: { "application/json": { schema: RecordPage }, ...EVENT_STREAM.content },
          },
          ...problems(),
        },
      },
    },
    (request, reply) => {
      const { after, limit } = request.query;
      if (!request.headers.accept?.includes("text/event-stream")) {
        const records = service.events(after, limit);
        const complete = nextAtHand(service, after) === after + 1;
        // They were checked when they were read; ten thousand of them are not checked again.
        reply.type("application/json").serializer(JSON.stringify).send({ records, complete });
        return;
      }
      const resumed = Number(request.headers["last-event-id"]);
      let last = Number.isSafeInteger(resumed) && resumed > 0 ? resumed : after;
      stream(request, reply, service, (send) => {
        for (;;) {
          const next = nextAtHand(service, last);
          if (next > last + 1) {
            send(null, { after: last, next }, "gap");
            last = next - 1;
          }
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

/** The first sequence after `after` that can be given; it need not exist yet. */
function nextAtHand(service: CoordinatorService, after: number): number {
  const [first] = service.events(after, 1);
  return first?.sequence ?? Math.max(after, service.state().sequence) + 1;
}
