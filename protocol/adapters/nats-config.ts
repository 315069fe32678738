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
  /**
   * TLS: the servers' certificates are checked against `caFile` (or the system's issuers); the pair, where the servers
   * ask for a certificate of this process too. PEM files.
   */
  tls: z
    .strictObject({
      caFile: z.string().min(1).optional(),
      certificateFile: z.string().min(1).optional(),
      keyFile: z.string().min(1).optional(),
    })
    .refine(({ certificateFile, keyFile }) => (certificateFile === undefined) === (keyFile === undefined), {
      error: "give certificateFile and keyFile together",
    })
    .optional(),
  /** Where answers to this process arrive. One of its own, where the servers' permissions keep processes apart. */
  inboxPrefix: z
    .string()
    .regex(/^[A-Za-z0-9_-]{1,60}$/, "an inbox prefix is 1 to 60 letters, digits, dashes and _")
    .optional(),
  /** How this process appears in the server's list of connections. */
  name: z.string().min(1).max(100).default("cleave"),
  /** Copies of the log and of the blobs; 3 survives the loss of one NATS server. Used when they are created. */
  replicas: z.number().int().min(1).max(5).default(1),
});
export type NatsConfig = z.infer<typeof NatsConfig>;

/** The same with absolute paths: `at` makes one of a path that is relative to the file. */
export function withAbsolutePaths(nats: NatsConfig, at: (path: string) => string): NatsConfig {
  const paths = <T extends object>(from: T, names: readonly (keyof T)[]): T => {
    const found = names.filter((name) => from[name] !== undefined);
    return { ...from, ...Object.fromEntries(found.map((name) => [name, at(from[name] as string)])) };
  };
  const tls = nats.tls && paths(nats.tls, ["caFile", "certificateFile", "keyFile"]);
  return { ...paths(nats, ["passwordFile", "tokenFile"]), ...(tls === undefined ? {} : { tls }) };
}
