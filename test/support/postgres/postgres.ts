/**
 * Real PostgreSQL clusters for tests and the demo: initialised once per machine, copied for each cluster, and
 * ended and removed even when a test fails.
 */
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { appendFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { appendFile, chmod, mkdir, readdir, readFile, readlink, rename } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { type Binaries, program } from "../../../agent/stores/postgres/server/binaries.ts";
import {
  giveTo,
  resolveRunAs,
  type SystemUser,
  spawnIdentity,
} from "../../../agent/stores/postgres/server/run-as.ts";
import {
  runningServer,
  type StopMode,
  startServer,
  stopServer,
} from "../../../agent/stores/postgres/server/server.ts";
import { freePort } from "../../../examples/quickstart/cluster/ports.ts";
import { stopProcess } from "../stop-process.ts";
import { binariesForTests } from "./versions.ts";

export const USER = "cleave";
/** With whatever a careless writer of connection strings and password files forgets to escape. */
export const PASSWORD = "se:cret of 'the' \\tests\"";
export const DATABASE = "pod";

const HBA = `local all all scram-sha-256
host all all 127.0.0.1/32 scram-sha-256
host replication all 127.0.0.1/32 scram-sha-256
`;

/** Changes whenever what `initialise` makes does. */
const RECIPE = [USER, PASSWORD, DATABASE, HBA, 1];

/** Small, and otherwise as a real Pod runs: fsync and full_page_writes stay on. */
const SETTINGS: Readonly<Record<string, string>> = {
  listen_addresses: "127.0.0.1",
  unix_socket_directories: "",
  shared_buffers: "32MB",
  max_connections: "100",
  max_wal_senders: "10",
  max_replication_slots: "10",
  wal_level: "replica",
  max_wal_size: "256MB",
  logging_collector: "off",
  // In the data directory, so that a server that a test kills leaves nothing in the machine's shared memory.
  dynamic_shared_memory_type: "mmap",
};

async function run(
  runAs: SystemUser | null,
  file: string,
  args: readonly string[],
  input = "",
): Promise<string> {
  const child = spawn(file, args, {
    ...spawnIdentity(runAs),
    cwd: "/",
    stdio: "pipe",
  });
  // A program that ends without reading says why by its exit code.
  child.stdin.on("error", () => undefined);
  child.stdin.end(input);
  let output = "";
  child.stdout.on("data", (chunk) => {
    output += String(chunk);
  });
  child.stderr.on("data", (chunk) => {
    output += String(chunk);
  });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", resolve);
  });
  if (code !== 0) throw new Error(`${file} ${args.join(" ")} ended with ${code}: ${output}`);
  return output;
}

/** Folders and servers of this process, for the moment it ends. */
const leftovers = { folders: new Set<string>(), dataDirectories: new Set<string>() };
let cleaning = false;

function cleanAtExit(): void {
  if (cleaning) return;
  cleaning = true;
  process.on("exit", () => {
    for (const directory of leftovers.dataDirectories) killAllSync(directory);
    for (const folder of leftovers.folders) rmSync(folder, { recursive: true, force: true });
  });
}

/** The `exit` event allows nothing asynchronous. Only processes whose working directory is ours. */
function killAllSync(dataDirectory: string): void {
  spawnSync("/bin/sh", [
    "-c",
    'for p in /proc/[0-9]*; do [ "$(readlink "$p/cwd")" = "$1" ] && kill -9 "${p#/proc/}"; done; true',
    "sh",
    dataDirectory,
  ]);
}

/** A folder under the system's temporary one that PostgreSQL's user can enter, removed at the end of the process. */
export async function temporaryFolder(name: string): Promise<string> {
  cleanAtExit();
  const folder = mkdtempSync(join(tmpdir(), `cleave-${name}-`));
  leftovers.folders.add(folder);
  await chmod(folder, 0o755);
  return folder;
}

export async function removeFolder(folder: string): Promise<void> {
  rmSync(folder, { recursive: true, force: true });
  leftovers.folders.delete(folder);
}

interface Environment {
  readonly binaries: Binaries;
  readonly runAs: SystemUser | null;
  readonly template: string;
}

let environment: Promise<Environment> | null = null;

/** Where an initialised data directory is kept from one run to the next. */
const CACHE = join(import.meta.dirname, "../../../node_modules/.cache/cleave");

/** Programs, user and an initialised data directory; made once. */
export function postgresEnvironment(): Promise<Environment> {
  environment ??= (async () => {
    const binaries = await binariesForTests();
    const runAs = await resolveRunAs(undefined);
    const made = JSON.stringify([
      await run(null, program(binaries, "postgres"), ["--version"]),
      runAs,
      RECIPE,
    ]);
    const template = join(CACHE, `postgres-${createHash("sha256").update(made).digest("hex").slice(0, 16)}`);
    if (!existsSync(template)) await makeTemplate(binaries, runAs, template);
    return { binaries, runAs, template };
  })();
  return environment;
}

/** Built where PostgreSQL's user may go, and put in place whole: several processes may do this at once. */
async function makeTemplate(binaries: Binaries, runAs: SystemUser | null, template: string): Promise<void> {
  const folder = await temporaryFolder("template");
  const aside = `${template}.${process.pid}`;
  try {
    await initialise(binaries, runAs, folder, join(folder, "data"));
    await mkdir(CACHE, { recursive: true });
    await run(null, "cp", ["-a", "--reflink=auto", join(folder, "data"), aside]);
    await rename(aside, template).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOTEMPTY" && error.code !== "EEXIST") throw error;
    });
  } finally {
    rmSync(aside, { recursive: true, force: true });
    await removeFolder(folder);
  }
}

async function initialise(
  binaries: Binaries,
  runAs: SystemUser | null,
  folder: string,
  directory: string,
  further: readonly string[] = [],
): Promise<void> {
  const passwordFile = join(folder, "password");
  writeFileSync(passwordFile, `${PASSWORD}\n`, { mode: 0o600 });
  mkdirSync(directory, { mode: 0o700 });
  await Promise.all([giveTo(runAs, passwordFile), giveTo(runAs, directory)]);
  await run(runAs, program(binaries, "initdb"), [
    ...["-D", directory, "-N", "-U", USER, "--pwfile", passwordFile, "-A", "scram-sha-256"],
    ...["-E", "UTF8", "--locale=C", ...further],
  ]);
  // Single-user mode spares a start, a connection and a stop.
  await run(
    runAs,
    program(binaries, "postgres"),
    ["--single", "-F", "-D", directory, "postgres"],
    `CREATE DATABASE ${DATABASE}\n`,
  );
  writeFileSync(join(directory, "pg_hba.conf"), HBA);
  // In the data directory, which goes with the test: what a server that is killed has in /dev/shm stays there.
  appendFileSync(join(directory, "postgresql.conf"), "dynamic_shared_memory_type = mmap\n");
}

export interface ClusterOptions {
  /** Becomes `cluster_name`. */
  readonly podId: string;
  readonly settings?: Readonly<Record<string, string>>;
  /** Its own initdb, and so its own system identifier; half a second more. */
  readonly fresh?: boolean;
  /** A port to take instead of a free one. */
  readonly port?: number;
  /** Further arguments for an initdb of its own. */
  readonly initdb?: readonly string[];
}

/** A running PostgreSQL of its own. */
export class Cluster {
  readonly podId: string;
  readonly folder: string;
  readonly dataDirectory: string;
  readonly port: number;
  readonly logFile: string;
  readonly #environment: Environment;
  #settings: Readonly<Record<string, string>>;

  private constructor(environment: Environment, options: ClusterOptions, folder: string, port: number) {
    this.#environment = environment;
    this.#settings = { ...SETTINGS, ...options.settings };
    this.podId = options.podId;
    this.folder = folder;
    this.dataDirectory = join(folder, "data");
    this.logFile = join(folder, "postgres.log");
    this.port = port;
  }

  static async start(options: ClusterOptions): Promise<Cluster> {
    const environment = await postgresEnvironment();
    const folder = await temporaryFolder(options.podId);
    const cluster = new Cluster(environment, options, folder, options.port ?? (await freePort()));
    if (options.fresh || options.initdb)
      await initialise(
        environment.binaries,
        environment.runAs,
        folder,
        cluster.dataDirectory,
        options.initdb,
      );
    else await run(null, "cp", ["-a", "--reflink=auto", environment.template, cluster.dataDirectory]);
    leftovers.dataDirectories.add(cluster.dataDirectory);
    await cluster.resume();
    return cluster;
  }

  get connection() {
    return { host: "127.0.0.1", port: this.port, user: USER, password: PASSWORD, database: DATABASE };
  }

  get environment(): Environment {
    return this.#environment;
  }

  /** An open connection; the caller ends it. Losing it later is no unhandled error. */
  async connect(database: string = DATABASE): Promise<pg.Client> {
    const client = new pg.Client({ ...this.connection, database });
    client.on("error", () => undefined);
    await client.connect();
    return client;
  }

  /** One query on a connection of its own. */
  async query<Row extends pg.QueryResultRow>(text: string, values: readonly unknown[] = []): Promise<Row[]> {
    const client = await this.connect();
    try {
      return (await client.query<Row>(text, [...values])).rows;
    } finally {
      await client.end();
    }
  }

  /** Starts it again after `stop` or `kill`; `settings` are added to those it had. */
  async resume(settings: Readonly<Record<string, string>> = {}): Promise<void> {
    this.#settings = { ...this.#settings, ...settings };
    await startServer({
      binaries: this.#environment.binaries,
      dataDirectory: this.dataDirectory,
      settings: { ...this.#settings, cluster_name: this.podId, port: String(this.port) },
      logFile: this.logFile,
      runAs: this.#environment.runAs,
      signal: AbortSignal.timeout(60_000),
    });
  }

  async stop(mode: StopMode = "fast"): Promise<void> {
    await stopServer(this.dataDirectory, mode);
  }

  /** A real crash: the postmaster and every child at once. */
  async kill(): Promise<void> {
    await signalServer(this.dataDirectory, "SIGKILL");
  }

  /** SIGSTOP to all of its processes; `thaw` is SIGCONT. */
  async freeze(): Promise<void> {
    await signalServer(this.dataDirectory, "SIGSTOP");
  }

  async thaw(): Promise<void> {
    await signalServer(this.dataDirectory, "SIGCONT");
  }

  /** Further lines for postgresql.conf; effective after a restart or reload. */
  async configure(lines: string): Promise<void> {
    await appendFile(join(this.dataDirectory, "postgresql.conf"), `\n${lines}\n`);
  }

  /** Ends it without ceremony and removes everything. */
  async remove(): Promise<void> {
    await removeServer(this.dataDirectory);
    await removeFolder(this.folder);
  }
}

/** Ids of the processes whose working directory is the data directory: the postmaster and all of its children. */
export async function processesOf(dataDirectory: string): Promise<number[]> {
  const ids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const directories = await Promise.all(ids.map((id) => readlink(`/proc/${id}/cwd`).catch(() => "")));
  return ids.filter((_, at) => directories[at] === dataDirectory).map(Number);
}

/** A signal to the postmaster first and then to each of its children; SIGKILL waits until all are gone. */
export async function signalServer(dataDirectory: string, signal: NodeJS.Signals): Promise<void> {
  const postmaster = (await runningServer(dataDirectory))?.pid;
  const ids = await processesOf(dataDirectory);
  for (const pid of [...(postmaster === undefined ? [] : [postmaster]), ...ids])
    try {
      if (signal === "SIGSTOP") await stopProcess(pid);
      else process.kill(pid, signal);
    } catch {
      // Already gone.
    }
  while (signal === "SIGKILL" && (await processesOf(dataDirectory)).length > 0)
    await new Promise((resolve) => setTimeout(resolve, 5));
}

/** An immediate shutdown releases the shared memory, which a killed postmaster cannot. */
const SHUTDOWN_MS = 3_000;

/** Ends whatever runs on a data directory that a test made, however it was started. */
export async function removeServer(dataDirectory: string): Promise<void> {
  const postmaster = (await runningServer(dataDirectory))?.pid;
  if (postmaster !== undefined) {
    await signalServer(dataDirectory, "SIGCONT");
    try {
      process.kill(postmaster, "SIGQUIT");
    } catch {
      // Already gone.
    }
    const end = Date.now() + SHUTDOWN_MS;
    while ((await processesOf(dataDirectory)).length > 0 && Date.now() < end)
      await new Promise((resolve) => setTimeout(resolve, 10));
  }
  await signalServer(dataDirectory, "SIGKILL");
  leftovers.dataDirectories.delete(dataDirectory);
  rmSync(dataDirectory, { recursive: true, force: true });
}

/** Where a store of a new Pod may put its data: empty, and ended and removed with the process. */
export async function emptyPod(podId: string): Promise<{
  readonly folder: string;
  readonly dataDirectory: string;
  readonly stateDirectory: string;
  readonly port: number;
  remove(): Promise<void>;
}> {
  const { runAs } = await postgresEnvironment();
  const folder = await temporaryFolder(podId);
  const dataDirectory = join(folder, "data");
  const stateDirectory = join(folder, "state");
  await mkdir(dataDirectory, { mode: 0o700 });
  await mkdir(stateDirectory);
  await giveTo(runAs, dataDirectory);
  leftovers.dataDirectories.add(dataDirectory);
  const port = await freePort();
  const remove = async () => {
    await removeServer(dataDirectory);
    await removeFolder(folder);
  };
  return { folder, dataDirectory, stateDirectory, port, remove };
}

/** The last lines of a server's log, for a failing test's message. */
export async function tailOf(logFile: string, lines = 20): Promise<string> {
  return (await readFile(logFile, "utf8").catch(() => "")).split("\n").slice(-lines).join("\n");
}
