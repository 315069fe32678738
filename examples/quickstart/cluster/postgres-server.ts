/** A serving Pod's PostgreSQL: initialised and started as an operator would have it, ready to be replicated from. */
import { spawn } from "node:child_process";
import { appendFileSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { locateBinaries, program } from "../../../agent/stores/postgres/server/binaries.ts";
import {
  giveTo,
  resolveRunAs,
  type SystemUser,
  spawnIdentity,
} from "../../../agent/stores/postgres/server/run-as.ts";
import { startServer } from "../../../agent/stores/postgres/server/server.ts";

export interface PostgresAddress {
  readonly host: string;
  readonly port: number;
  readonly database: string;
  readonly user: string;
  readonly password: string;
}

/** Passwords over TCP only, one line for the database and one for replication. */
const HBA = `host all all 127.0.0.1/32 scram-sha-256
host replication all 127.0.0.1/32 scram-sha-256
`;

/** Small and honest: fsync stays on. `cluster_name` is the Pod's identity, on the command line. */
const SETTINGS = {
  listen_addresses: "127.0.0.1",
  unix_socket_directories: "",
  shared_buffers: "64MB",
  max_connections: "100",
  max_wal_senders: "20",
  max_replication_slots: "20",
  max_wal_size: "1GB",
};

/** Makes a folder that PostgreSQL's system user owns; itself when we are not root. */
export async function folderForPostgres(path: string): Promise<SystemUser | null> {
  const runAs = await resolveRunAs(undefined);
  mkdirSync(path, { recursive: true, mode: 0o700 });
  await giveTo(runAs, path);
  return runAs;
}

/** Initialises `dataDirectory` (new) and starts a server on it; resolves when it accepts connections. */
export async function startPostgres(options: {
  readonly podId: string;
  readonly dataDirectory: string;
  readonly logFile: string;
  readonly address: PostgresAddress;
}): Promise<void> {
  const { address, dataDirectory, logFile, podId } = options;
  const binaries = await locateBinaries();
  const runAs = await folderForPostgres(dataDirectory);
  const passwordFile = join(dataDirectory, "..", "password");
  writeFileSync(passwordFile, `${address.password}\n`, { mode: 0o600 });
  await giveTo(runAs, passwordFile);
  await run(runAs, program(binaries, "initdb"), [
    ...["-D", dataDirectory, "-N", "-U", address.user, "--pwfile", passwordFile],
    ...["-A", "scram-sha-256", "-E", "UTF8", "--locale=C"],
  ]);
  // Single-user mode spares a start, a connection and a stop.
  await run(
    runAs,
    program(binaries, "postgres"),
    ["--single", "-F", "-D", dataDirectory, "postgres"],
    `CREATE DATABASE ${address.database}\n`,
  );
  writeFileSync(join(dataDirectory, "pg_hba.conf"), HBA);
  // In the data directory, which goes with the run: what a server that is killed has in /dev/shm stays there.
  appendFileSync(join(dataDirectory, "postgresql.conf"), "dynamic_shared_memory_type = mmap\n");
  await startServer({
    binaries,
    dataDirectory,
    settings: {
      ...SETTINGS,
      wal_level: "logical",
      cluster_name: podId,
      port: String(address.port),
    },
    logFile,
    runAs,
    signal: AbortSignal.timeout(60_000),
  });
}

async function run(
  runAs: SystemUser | null,
  command: string,
  args: readonly string[],
  input = "",
): Promise<void> {
  const child = spawn(command, [...args], { ...spawnIdentity(runAs), cwd: "/", stdio: "pipe" });
  let output = "";
  const collect = (chunk: Buffer) => {
    output += chunk.toString();
  };
  child.stdout.on("data", collect);
  child.stderr.on("data", collect);
  child.stdin.end(input);
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", resolve);
  });
  if (code !== 0) throw new Error(`${command} failed:\n${output.trim()}`);
}
