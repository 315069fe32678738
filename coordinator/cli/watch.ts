/** Follows one migration until it ends or waits for a person: a live screen on a terminal, plain lines elsewhere. */
import logUpdate from "log-update";
import { CleaveError } from "../../protocol/errors.ts";
import type { ClusterStatus, MigrationStatus } from "../ports.ts";
import type { ApiClient } from "./client.ts";
import { EXIT } from "./exit.ts";
import { migrationView } from "./view.ts";

export interface WatchOptions {
  readonly json: boolean;
  /** End when an operator is awaited; otherwise wait for that operator. */
  readonly untilApproval: boolean;
}

/** Returns the exit code: 0 retaining, 3 refused or aborted. */
export async function watch(client: ApiClient, migrationId: string, options: WatchOptions): Promise<number> {
  const show = options.json ? jsonLines() : process.stdout.isTTY ? screen() : plainLines();
  for (;;) {
    const ended = await watchOnce(client, migrationId, options, show);
    if (ended !== null) return ended;
    // The stream broke off: the coordinator is being restarted, or another one answers next.
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}

type Show = (status: MigrationStatus, at: number) => void;

async function watchOnce(
  client: ApiClient,
  migrationId: string,
  options: WatchOptions,
  show: Show,
): Promise<number | null> {
  const abort = new AbortController();
  try {
    for await (const status of client.stream<ClusterStatus>("/v1/status/stream", abort.signal)) {
      const migration = status.migrations.find((one) => one.migrationId === migrationId);
      if (!migration) throw new CleaveError("MIGRATION_UNKNOWN", `there is no migration ${migrationId}`);
      show(migration, status.at);
      if (migration.lifecycle === "retaining") return EXIT.ok;
      if (migration.lifecycle === "refused" || migration.lifecycle === "aborted") return EXIT.refused;
      const approval = migration.waitingFor.some((reason) => reason.startsWith("an operator"));
      if (options.untilApproval && approval && migration.lifecycle !== "planned") return EXIT.ok;
    }
  } catch (error) {
    if (error instanceof CleaveError && error.code !== "COORDINATOR_UNREACHABLE") throw error;
    if (!process.stdout.isTTY)
      console.error(`the coordinator does not answer: ${(error as Error).message}; still trying`);
  } finally {
    abort.abort();
  }
  return null;
}

function screen(): Show {
  return (status, at) => logUpdate(migrationView(status, at));
}

/** A line for each change of the lifecycle or of what it waits for. */
function plainLines(): Show {
  let last = "";
  return (status) => {
    const line = `${status.migrationId} ${status.lifecycle}${status.waitingFor.length > 0 ? `: waiting for ${status.waitingFor.join("; ")}` : ""}`;
    if (line !== last) console.log(line);
    last = line;
  };
}

function jsonLines(): Show {
  return (status, at) => console.log(JSON.stringify({ at, ...status }));
}
