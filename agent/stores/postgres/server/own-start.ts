/** How the agent starts the server of a Pod that Cleave made, and how it tells its own starts from others'. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { PostgresStoreOptions } from "../context.ts";
import { commandLineSettings, knowsSource, WITHOUT_WORKERS } from "../split/standby-files.ts";
import type { Binaries } from "./binaries.ts";
import type { SystemUser } from "./run-as.ts";
import { startServer } from "./server.ts";

/** On the command line of the agent's starts alone; PostgreSQL keeps the command line of its last start in a file. */
const MARK = { "cleave.started_by": "agent" } as const;

export function logFileOf({ config, stateDirectory }: PostgresStoreOptions): string {
  return config.logFile ?? join(stateDirectory, "postgres", "postgres.log");
}

/** Starts it unless it runs. @throws CleaveError in the server's own words. */
export async function startOwnServer(
  options: PostgresStoreOptions,
  binaries: Binaries,
  runAs: SystemUser | null,
  signal: AbortSignal,
): Promise<void> {
  const { config, podId } = options;
  await startServer({
    binaries,
    dataDirectory: config.dataDirectory,
    settings: {
      ...commandLineSettings(config, podId),
      // Also against the operator's options.
      ...((await knowsSource(config)) ? WITHOUT_WORKERS : {}),
      ...MARK,
    },
    logFile: logFileOf(options),
    runAs,
    signal,
  });
}

/** The last start of the server was the agent's, or repeated it (`pg_ctl restart` does). */
export async function startedByAgent(dataDirectory: string): Promise<boolean> {
  const line = await readFile(join(dataDirectory, "postmaster.opts"), "utf8").catch(() => "");
  return Object.entries(MARK).every(([name, value]) => line.includes(`"${name}=${value}"`));
}
