/** Where the servers' programs are: on the PATH or where systems put them. */
import { execFileSync } from "node:child_process";
import { accessSync, constants, existsSync, globSync, statSync } from "node:fs";
import { createServer } from "node:net";
import { delimiter, join } from "node:path";

const POSTGRES_FOLDERS = [
  "/usr/lib/postgresql/*/bin",
  "/usr/pgsql-*/bin",
  "/opt/homebrew/opt/postgresql@*/bin",
  "/usr/local/opt/postgresql@*/bin",
];

/** Path of a program, or an error that names it. */
export function program(name: string): string {
  const folders = [...(process.env["PATH"] ?? "").split(delimiter), "/usr/sbin", "/usr/local/bin"];
  const found = folders.map((folder) => join(folder, name)).find(isExecutable);
  if (found === undefined) throw new Error(`${name} was not found; install it or add it to PATH`);
  return found;
}

/** Folder of the newest PostgreSQL installation (server programs included). */
export function postgresFolder(): string {
  const candidates = [
    ...(process.env["PATH"] ?? "").split(delimiter),
    ...POSTGRES_FOLDERS.flatMap((pattern) => globSync(pattern)),
  ].filter((folder) => isExecutable(join(folder, "postgres")) && isExecutable(join(folder, "initdb")));
  const newest = candidates.map((folder) => ({ folder, major: majorOf(folder) }));
  newest.sort((a, b) => b.major - a.major);
  const best = newest[0];
  if (best === undefined) throw new Error("PostgreSQL was not found (server programs: postgres, initdb)");
  return best.folder;
}

function majorOf(folder: string): number {
  const version = execFileSync(join(folder, "postgres"), ["--version"], { encoding: "utf8" });
  return Number(/(\d+)/.exec(version)?.[1] ?? 0);
}

/** PostgreSQL refuses to run as root: the account to use instead, or null when we are not root. */
export function postgresUser(): { uid: number; gid: number; name: string } | null {
  if (process.getuid?.() !== 0) return null;
  const id = (flag: string) => Number(execFileSync("id", [flag, "postgres"], { encoding: "utf8" }));
  return { uid: id("-u"), gid: id("-g"), name: "postgres" };
}

/** `count` ports of 127.0.0.1 that were free a moment ago, all different. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from(
      { length: count },
      () =>
        new Promise<ReturnType<typeof createServer>>((resolve, reject) => {
          const server = createServer();
          server.on("error", reject);
          server.listen(0, "127.0.0.1", () => resolve(server));
        }),
    ),
  );
  const ports = servers.map((server) => (server.address() as { port: number }).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return existsSync(file) && statSync(file).isFile();
  } catch {
    return false;
  }
}
