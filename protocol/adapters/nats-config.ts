/** The `nats` section of both configuration files. */
import { z } from "zod";

export const NatsConfig = z.strictObject({
  /** One or more of the same NATS cluster. */
  servers: z
    .union([z.string().min(1), z.array(z.string().min(1)).min(1)])
    .transform((servers) => (typeof servers === "string" ? [servers] : servers))
    .prefault("nats://127.0.0.1:4222"),
  user: z.string().min(1).optional(),
  password: z.string().min(1).optional(),
  /** A file that holds the password; its last line break is dropped. */
  passwordFile: z.string().min(1).optional(),
  token: z.string().min(1).optional(),
  tokenFile: z.string().min(1).optional(),
  /** How this process appears in the server's list of connections. */
  name: z.string().min(1).max(100).default("cleave"),
  /** Copies of the log and of the blobs; 3 survives the loss of one NATS server. Used when they are created. */
  replicas: z.number().int().min(1).max(5).default(1),
});
export type NatsConfig = z.infer<typeof NatsConfig>;
