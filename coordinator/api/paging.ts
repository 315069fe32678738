/** What pages of anything have in common. */
import { z } from "zod";

export const PAGE_LIMIT = z.coerce.number().int().min(1).max(10_000).default(1_000).describe("Of one page");

/** Looking needs no more than this. */
export const viewer = { config: { role: "viewer" } } as const;

/** What a stream answers, for the description: nobody checks it. */
export const EVENT_STREAM = {
  description: "Server-sent events; the data of each is JSON. A comment every 15 s shows that it is alive",
  content: { "text/event-stream": { schema: z.string() } },
};
