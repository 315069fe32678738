/** The `postgres` part of an agent's configuration, and what it knows of its peers' servers. */
import { readFile } from "node:fs/promises";
import { z } from "zod";
import { CleaveError } from "../../../protocol/errors.ts";

const Host = z.string().min(1).max(255);
const Port = z.number().int().min(1).max(65_535);
const Name = z.string().min(1).max(63);
const SettingName = z
  .string()
  .regex(/^[a-z_][a-z0-9_.]{0,100}$/i, "a PostgreSQL setting's name is letters, digits, _ and .");

const credentials = {
  password: z.string().optional(),
  /** A file whose first line is the password; read at every use, so that a changed password needs no restart. */
  passwordFile: z.string().min(1).optional(),
};

/** This Pod's own PostgreSQL. A source's server is the operator's; a target's is created and started by the agent. */
export const PostgresConfig = z.strictObject({
  dataDirectory: z.string().min(1),
  host: Host.default("127.0.0.1"),
  port: Port,
  database: Name,
  /** A superuser: guards, slots and promotion need one. */
  user: Name,
  ...credentials,
  /** Where `postgres` and `pg_basebackup` are; found by itself in the usual places when left out. */
  binDirectory: z.string().min(1).optional(),
  /** The system user that a target's server runs as. Default: `postgres` when the agent is root, else the agent's own. */
  runAs: z.string().min(1).optional(),
  /** Further settings for a target's server; they win over everything but identity and replication. */
  serverOptions: z.record(SettingName, z.string().max(1_000)).default({}),
  /**
   * Who starts the server of a Pod that Cleave made: the agent, always; or a service of the operator's, from its first
   * start on (until then the agent goes on).
   */
  startedBy: z.enum(["agent", "service"]).default("agent"),
  /** Where a target's server writes what it says. Default: `postgres.log` in the agent's state directory. */
  logFile: z.string().min(1).optional(),
});
export type PostgresConfig = z.infer<typeof PostgresConfig>;
export type PostgresConfigInput = z.input<typeof PostgresConfig>;

/** Another Pod's PostgreSQL, as a target of it uses it: one entry for the database and one for replication in its pg_hba.conf. */
export const PeerPostgres = z.strictObject({
  host: Host,
  port: Port,
  database: Name,
  user: Name,
  ...credentials,
});
export type PeerPostgres = z.infer<typeof PeerPostgres>;

/** What a connection is made to. */
export type Endpoint = Pick<
  PostgresConfig,
  "host" | "port" | "database" | "user" | "password" | "passwordFile"
>;

/**
 * The password of an endpoint, or undefined when it has none.
 * @throws CleaveError FILE_PERMISSION when its file cannot be read.
 */
export async function passwordOf(endpoint: Endpoint): Promise<string | undefined> {
  if (endpoint.passwordFile === undefined) return endpoint.password;
  try {
    return (await readFile(endpoint.passwordFile, "utf8")).split(/\r?\n/, 1)[0];
  } catch (error) {
    throw new CleaveError("FILE_PERMISSION", `the password file ${endpoint.passwordFile} cannot be read`, {
      cause: error,
    });
  }
}
