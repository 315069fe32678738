/** The coordinator's configuration file (YAML); `deploy/coordinator.example.yaml` shows one. */
import { readFile } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { parse } from "yaml";
import { z } from "zod";
import { NatsConfig } from "../protocol/adapters/nats-config.ts";
import { CleaveError } from "../protocol/errors.ts";
import { PodId, StoreName } from "../protocol/ids.ts";

/** It travels in a header, where spaces and line breaks would be lost. */
const Token = z
  .string()
  .regex(/^[\x21-\x7e]{16,1000}$/, "a token has 16 to 1000 characters, plain ASCII without spaces");

const CoordinatorFile = z
  .strictObject({
    /** Names this process in the log; by default `coordinator`. */
    id: z
      .string()
      .regex(/^[a-z0-9-]{1,40}$/)
      .default("coordinator"),
    listen: z
      .strictObject({
        host: z.string().min(1).default("127.0.0.1"),
        port: z.number().int().min(0).max(65_535).default(7400),
      })
      .prefault({}),
    /** Whoever has it may do everything. Without one, listen on the loopback address only. */
    token: Token.optional(),
    tokenFile: z.string().min(1).optional(),
    /** Where a checkpoint of the log is kept; without it every start reads the whole log. */
    stateDirectory: z.string().min(1).optional(),
    nats: NatsConfig.prefault({}),
    cluster: z.strictObject({
      pods: z.array(PodId).min(1),
      /** Authoritative for every organization that no migration has moved. */
      defaultPod: PodId,
      stores: z.array(StoreName).min(1).default(["postgres", "git", "objects"]),
    }),
    logLevel: z.enum(["debug", "info", "warn", "error", "silent"]).default("info"),
  })
  .refine((file) => file.cluster.pods.includes(file.cluster.defaultPod), {
    error: "is not one of cluster.pods",
    path: ["cluster", "defaultPod"],
  })
  .refine((file) => file.token === undefined || file.tokenFile === undefined, {
    error: "give either token or tokenFile",
    path: ["token"],
  })
  .refine(
    (file) => file.token !== undefined || file.tokenFile !== undefined || isLoopback(file.listen.host),
    {
      error: "is not a loopback address: give a token",
      path: ["listen", "host"],
    },
  );

function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || host.startsWith("127.");
}

/** As it is used: paths absolute, the token read (null: none is asked for). */
export type CoordinatorConfig = Omit<z.infer<typeof CoordinatorFile>, "token" | "tokenFile"> & {
  readonly token: string | null;
};

/**
 * Reads and checks a configuration file. Relative paths in it are relative to its own folder.
 * @throws CleaveError CONFIG_INVALID, naming the file and the field.
 */
export async function loadCoordinatorConfig(path: string): Promise<CoordinatorConfig> {
  const folder = dirname(resolve(path));
  const parsed = CoordinatorFile.safeParse(await readYaml(path));
  if (!parsed.success) throw new CleaveError("CONFIG_INVALID", `${path}: ${z.prettifyError(parsed.error)}`);
  const { token, tokenFile, ...file } = parsed.data;
  const absolute = (name?: string) => (name === undefined ? undefined : resolve(folder, name));
  const { passwordFile, tokenFile: natsTokenFile, ...nats } = file.nats;
  const natsPaths = { passwordFile: absolute(passwordFile), tokenFile: absolute(natsTokenFile) };
  const stateDirectory = absolute(file.stateDirectory);
  return {
    ...file,
    ...(stateDirectory === undefined ? {} : { stateDirectory }),
    nats: {
      ...nats,
      ...(natsPaths.passwordFile === undefined ? {} : { passwordFile: natsPaths.passwordFile }),
      ...(natsPaths.tokenFile === undefined ? {} : { tokenFile: natsPaths.tokenFile }),
    },
    token: tokenFile === undefined ? (token ?? null) : await readToken(resolve(folder, tokenFile)),
  };
}

/** An empty or cut-off file must not become a token that everybody can guess. */
async function readToken(path: string): Promise<string> {
  const parsed = Token.safeParse((await readText(path)).trim());
  if (!parsed.success) throw new CleaveError("CONFIG_INVALID", `${path}: ${z.prettifyError(parsed.error)}`);
  return parsed.data;
}

async function readYaml(path: string): Promise<unknown> {
  const text = await readText(path);
  try {
    return parse(text);
  } catch (error) {
    throw new CleaveError("CONFIG_INVALID", `${path}: ${(error as Error).message}`, { cause: error });
  }
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    throw new CleaveError("CONFIG_INVALID", `${path}: ${(error as Error).message}`, { cause: error });
  }
}
