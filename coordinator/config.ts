/** The coordinator's configuration file (YAML); `deploy/coordinator.example.yaml` shows one. */
import { readFile } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { createSecureContext } from "node:tls";
import { parse } from "yaml";
import { z } from "zod";
import { NatsConfig, withAbsolutePaths } from "../protocol/adapters/nats-config.ts";
import { CleaveError } from "../protocol/errors.ts";
import { PodId, StoreName } from "../protocol/ids.ts";
import { type AccessToken, ROLES } from "./api/roles.ts";
import { type Webhook, WebhookConfig } from "./webhooks/config.ts";

/** It travels in a header, where spaces and line breaks would be lost. */
const Token = z
  .string()
  .regex(/^[\x21-\x7e]{16,1000}$/, "a token has 16 to 1000 characters, plain ASCII without spaces");

const NamedToken = z
  .strictObject({
    /** As the log shows it: `operator:<name>`. */
    name: z.string().regex(/^[\w.@-]{1,100}$/, "a name has 1 to 100 letters, digits, dots, dashes, @ and _"),
    role: z.enum(ROLES),
    /** A file that holds the token; its last line break is dropped. */
    tokenFile: z.string().min(1).optional(),
    /** An environment variable that holds it. */
    tokenVariable: z
      .string()
      .regex(/^[A-Za-z_]\w{0,199}$/)
      .optional(),
  })
  .refine(({ tokenFile, tokenVariable }) => (tokenFile === undefined) !== (tokenVariable === undefined), {
    error: "give either tokenFile or tokenVariable",
  });

export const CoordinatorFile = z
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
        /** PEM files: the certificate, with those between it and the one that clients trust, and its key. */
        tls: z.strictObject({ certificateFile: z.string().min(1), keyFile: z.string().min(1) }).optional(),
        /** Listen beyond the loopback address without TLS: something in front of it ends TLS, and only that reaches it. */
        plainHttp: z.boolean().default(false),
      })
      .prefault({}),
    /** Whoever has it may do everything, under any name. Without any token, listen on the loopback address only. */
    token: Token.optional(),
    tokenFile: z.string().min(1).optional(),
    /** Who may do what; each with a token of their own, and what they decide is logged under their name. */
    tokens: z.array(NamedToken).min(1).max(1_000).optional(),
    /** Where a checkpoint of the log is kept; without it every start reads the whole log. */
    stateDirectory: z.string().min(1).optional(),
    nats: NatsConfig.prefault({}),
    cluster: z.strictObject({
      pods: z.array(PodId).min(1),
      /** Authoritative for every organization that no migration has moved. */
      defaultPod: PodId,
      stores: z.array(StoreName).min(1).default(["postgres", "git", "objects"]),
    }),
    /** Who is told of what is decided; what they were told of is kept in stateDirectory. */
    webhooks: z.array(WebhookConfig).max(50).default([]),
    metrics: z
      .strictObject({
        /** Whether GET /metrics is answered without a token. It tells of states and amounts, and names Pods and migrations. */
        public: z.boolean().default(false),
      })
      .prefault({}),
    logLevel: z.enum(["debug", "info", "warn", "error", "silent"]).default("info"),
  })
  .refine((file) => file.cluster.pods.includes(file.cluster.defaultPod), {
    error: "is not one of cluster.pods",
    path: ["cluster", "defaultPod"],
  })
  .refine(
    (file) => [file.token, file.tokenFile, file.tokens].filter((one) => one !== undefined).length <= 1,
    {
      error: "give either token, tokenFile or tokens",
      path: ["token"],
    },
  )
  .refine((file) => new Set(file.tokens?.map(({ name }) => name)).size === (file.tokens?.length ?? 0), {
    error: "two tokens have the same name",
    path: ["tokens"],
  })
  .refine(({ webhooks }) => new Set(webhooks.map(({ name }) => name)).size === webhooks.length, {
    error: "two webhooks have the same name",
    path: ["webhooks"],
  })
  .refine((file) => file.webhooks.length === 0 || file.stateDirectory !== undefined, {
    error: "give a stateDirectory: without one nobody remembers what was told",
    path: ["webhooks"],
  })
  .refine((file) => asksForToken(file) || isLoopback(file.listen.host), {
    error: "is not a loopback address: give a token",
    path: ["listen", "host"],
  })
  // A token that is read on its way is everybody's.
  .refine(({ listen }) => listen.tls !== undefined || listen.plainHttp || isLoopback(listen.host), {
    error: "is not a loopback address: give listen.tls, or listen.plainHttp where a proxy ends TLS",
    path: ["listen", "host"],
  });

function asksForToken(file: { token?: unknown; tokenFile?: unknown; tokens?: unknown }): boolean {
  return file.token !== undefined || file.tokenFile !== undefined || file.tokens !== undefined;
}

function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || host.startsWith("127.");
}

type File = z.infer<typeof CoordinatorFile>;

/** As it is used: paths absolute, certificate and tokens read (no token: none is asked for). */
export type CoordinatorConfig = Omit<File, "listen" | "token" | "tokenFile" | "tokens" | "webhooks"> & {
  readonly webhooks: readonly Webhook[];
  readonly listen: { readonly host: string; readonly port: number };
  readonly tls: { readonly certificate: string; readonly key: string } | null;
  readonly tokens: readonly AccessToken[];
};

/**
 * Reads and checks a configuration file. Relative paths in it are relative to its own folder.
 * @throws CleaveError CONFIG_INVALID, naming the file and the field.
 */
export async function loadCoordinatorConfig(path: string): Promise<CoordinatorConfig> {
  const folder = dirname(resolve(path));
  const parsed = CoordinatorFile.safeParse(await readYaml(path));
  if (!parsed.success) throw new CleaveError("CONFIG_INVALID", `${path}: ${z.prettifyError(parsed.error)}`);
  const { token, tokenFile, tokens, listen, ...file } = parsed.data;
  const absolute = (name?: string) => (name === undefined ? undefined : resolve(folder, name));
  const stateDirectory = absolute(file.stateDirectory);
  return {
    ...file,
    ...(stateDirectory === undefined ? {} : { stateDirectory }),
    nats: withAbsolutePaths(file.nats, (name) => resolve(folder, name)),
    listen: { host: listen.host, port: listen.port },
    webhooks: await Promise.all(
      file.webhooks.map(async ({ secretFile, ...webhook }) => ({
        ...webhook,
        secret:
          secretFile === undefined
            ? null
            : checkToken((await readText(resolve(folder, secretFile))).trim(), secretFile),
      })),
    ),
    tls: listen.tls === undefined ? null : await readTls(listen.tls, folder),
    tokens: await readTokens({ token, tokenFile, tokens }, path, folder),
  };
}

/** A pair that no connection could use is found now, and not by the first client. */
async function readTls(
  files: { readonly certificateFile: string; readonly keyFile: string },
  folder: string,
): Promise<{ certificate: string; key: string }> {
  const [certificateFile, keyFile] = [resolve(folder, files.certificateFile), resolve(folder, files.keyFile)];
  const [certificate, key] = [await readText(certificateFile), await readText(keyFile)];
  try {
    createSecureContext({ cert: certificate, key });
  } catch (error) {
    const why = `${certificateFile} with ${keyFile}: ${(error as Error).message}`;
    throw new CleaveError("CONFIG_INVALID", why, { cause: error });
  }
  return { certificate, key };
}

async function readTokens(
  { token, tokenFile, tokens }: Pick<File, "token" | "tokenFile" | "tokens">,
  path: string,
  folder: string,
): Promise<AccessToken[]> {
  const all: AccessToken[] = [];
  if (token !== undefined) all.push({ name: null, role: "admin", token });
  if (tokenFile !== undefined)
    all.push({ name: null, role: "admin", token: await readToken(resolve(folder, tokenFile)) });
  for (const { name, role, ...from } of tokens ?? []) {
    const value =
      from.tokenFile === undefined
        ? checkToken(process.env[from.tokenVariable ?? ""] ?? "", `${path}: ${from.tokenVariable} of ${name}`)
        : await readToken(resolve(folder, from.tokenFile));
    const other = all.find((known) => known.token === value);
    // The log could not say which of the two it was.
    if (other)
      throw new CleaveError("CONFIG_INVALID", `${path}: ${other.name} and ${name} have the same token`);
    all.push({ name, role, token: value });
  }
  return all;
}

async function readToken(path: string): Promise<string> {
  return checkToken(await readText(path), path);
}

/** An empty or cut-off file must not become a token that everybody can guess. */
function checkToken(text: string, where: string): string {
  const parsed = Token.safeParse(text.trim());
  if (!parsed.success) throw new CleaveError("CONFIG_INVALID", `${where}: ${z.prettifyError(parsed.error)}`);
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
