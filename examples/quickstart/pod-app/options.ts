/** What the application of one Pod is started with. */
import { z } from "zod";

export const PodAppOptions = z.object({
  podId: z.string(),
  host: z.string().default("127.0.0.1"),
  port: z.number().int(),
  database: z.object({
    host: z.string(),
    port: z.number().int(),
    user: z.string(),
    password: z.string().optional(),
    database: z.string(),
  }),
  gitRoot: z.string(),
  objectRoot: z.string(),
  /** The file fence of the agent beside it; while the folder is missing there is no agent, and nothing to ask. */
  control: z.string(),
});
export type PodAppOptions = z.infer<typeof PodAppOptions>;
