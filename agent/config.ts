/** An agent's configuration file (YAML): the one place that says what one looks like; `deploy/agent.example.yaml` shows it. */
import { readFile } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { parse } from "yaml";
import { z } from "zod";
import { NatsConfig, withAbsolutePaths } from "../protocol/adapters/nats-config.ts";
import { CleaveError } from "../protocol/errors.ts";
import { PodId } from "../protocol/ids.ts";
import { GuardConfig } from "./guard/config.ts";
import { CheckConfig, HookConfig } from "./hooks/config.ts";
import { GitConfig } from "./stores/git/config.ts";
import { ObjectsConfig } from "./stores/objects/config.ts";
import { PeerPostgres, PostgresConfig } from "./stores/postgres/config.ts";

const Port = z.number().int().min(1).max(65_535);
const Path = z.string().min(1);
/** Guessing it would open every repository and object of the Pod. */
const Token = z.string().min(16, "a token has at least 16 characters").max(1_000);

export const AgentFile = z
  .strictObject({
    /** This Pod. */
    podId: PodId,
    /** Where the agent keeps what it must not forget. On a disk that survives a restart. */
    stateDirectory: Path,
    nats: NatsConfig.prefault({}),
    listen: z.strictObject({
      host: z.string().min(1).default("127.0.0.1"),
      /** Proxies ask here. */
      guardPort: Port,
      /** Other Pods' agents replicate from here. */
      peerPort: Port,
      /** Prometheus and supervisors ask here, without a token: /metrics, /health, /ready. Without it nobody can. */
      metricsPort: Port.optional(),
    }),
    /** The same on all agents. */
    peerToken: Token.optional(),
    peerTokenFile: Path.optional(),
    /** The rules file: who owns a row, a repository, an object. */
    ownershipFile: Path,
    postgres: PostgresConfig,
    git: GitConfig,
    objects: ObjectsConfig,
    /** How to reach the other Pods: their agents, and their PostgreSQL for replication. */
    peers: z
      .record(
        PodId,
        z.strictObject({
          agentUrl: z.url({ protocol: /^https?$/ }).transform((url) => url.replace(/\/+$/, "")),
          postgres: PeerPostgres,
        }),
      )
      .default({}),
    guard: GuardConfig.prefault({}),
    /** What is called on this Pod at points of a migration (docs: hooks). */
    hooks: z.array(HookConfig).max(100).default([]),
    /** What operators check besides Cleave. */
    checks: z.array(CheckConfig).max(100).default([]),
    logLevel: z.enum(["debug", "info", "warn", "error", "silent"]).default("info"),
  })
  .refine((file) => (file.peerToken === undefined) !== (file.peerTokenFile === undefined), {
    error: "give either peerToken or peerTokenFile",
    path: ["peerToken"],
  })
  .refine(({ hooks }) => new Set(hooks.map(({ at, name }) => `${at} ${name}`)).size === hooks.length, {
    error: "two hooks of one point have the same name",
    path: ["hooks"],
  })
  .refine((file) => file.listen.guardPort !== file.listen.peerPort, {
    error: "is the guard's port too",
    path: ["listen", "peerPort"],
  })
  .refine(({ listen }) => ![listen.guardPort, listen.peerPort].includes(listen.metricsPort ?? 0), {
    error: "is the guard's or the peers' port too",
    path: ["listen", "metricsPort"],
  });

/** As it is used: all paths absolute, the token read. */
export type AgentConfig = Omit<z.infer<typeof AgentFile>, "peerToken" | "peerTokenFile"> & {
  readonly peerToken: string;
};

/**
 * Reads and checks a configuration file. Relative paths in it are relative to its own folder.
 * @throws CleaveError CONFIG_INVALID, naming the file and the field.
 */
export async function loadAgentConfig(path: string): Promise<AgentConfig> {
  const folder = dirname(resolve(path));
  const { peerToken, peerTokenFile, ...file } = parseAgentConfig(await read(path, path), path);
  const at = (relative: string) => resolve(folder, relative);
  const optional = <K extends string>(name: K, value: string | undefined) =>
    (value === undefined ? {} : { [name]: at(value) }) as { [P in K]?: string };
  const { nats, postgres, git, objects } = file;
  return {
    ...file,
    stateDirectory: at(file.stateDirectory),
    ownershipFile: at(file.ownershipFile),
    peerToken: peerToken ?? (await tokenFrom(at(peerTokenFile ?? ""), path)),
    nats: withAbsolutePaths(nats, at),
    postgres: {
      ...postgres,
      dataDirectory: at(postgres.dataDirectory),
      ...optional("passwordFile", postgres.passwordFile),
      ...optional("binDirectory", postgres.binDirectory),
      ...optional("logFile", postgres.logFile),
    },
    git: { ...git, root: at(git.root) },
    objects: { ...objects, root: at(objects.root) },
    peers: Object.fromEntries(
      Object.entries(file.peers).map(([podId, peer]) => [
        podId,
        {
          ...peer,
          postgres: { ...peer.postgres, ...optional("passwordFile", peer.postgres.passwordFile) },
        },
      ]),
    ),
  };
}

/** The text alone, with nothing read from other files. @throws CleaveError CONFIG_INVALID */
export function parseAgentConfig(text: string, path: string): z.infer<typeof AgentFile> {
  let value: unknown;
  try {
    value = parse(text);
  } catch (error) {
    throw invalid(path, `not YAML: ${messageOf(error)}`);
  }
  const parsed = AgentFile.safeParse(value);
  if (parsed.success) return parsed.data;
  const faults = parsed.error.issues.map(
    (issue) => `${issue.path.join(".") || "the file"}: ${issue.message}`,
  );
  throw invalid(path, faults.join("; "));
}

async function tokenFrom(file: string, path: string): Promise<string> {
  const token = Token.safeParse((await read(file, path, "peerTokenFile: ")).trim());
  if (token.success) return token.data;
  throw invalid(path, `peerTokenFile: ${token.error.issues[0]?.message}`);
}

async function read(file: string, path: string, field = ""): Promise<string> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    throw invalid(path, `${field}${messageOf(error)}`);
  }
}

function invalid(path: string, what: string): CleaveError {
  return new CleaveError("CONFIG_INVALID", `${path}: ${what}`);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
