/** Follows one migration until it ends or waits for a person: a live screen on a terminal, plain lines elsewhere. */
import logUpdate from "log-update";
import { CleaveError } from "../../protocol/errors.ts";
import type { ClusterStatus, MigrationStatus } from "../api/ports.ts";
import { type ApiClient, EVENTS_PAGE } from "./client.ts";
import pc from "./colors.ts";
import { EXIT } from "./exit.ts";
import { follow } from "./follow.ts";
import { duration, plain } from "./format.ts";
import { findingsView, migrationView } from "./view.ts";
import { windowOf } from "./window.ts";

export interface WatchOptions {
  readonly json: boolean;
  /** `end`: whatever it takes. `operator`: also end where an operator has to decide. `approved`: end after approving. */
  readonly until: "end" | "operator" | "approved";
  /** Approve the first attempt as soon as that is possible. */
  readonly approve: boolean;
}

/** Returns the exit code: 0 done (or waiting for the first approval), 3 refused, aborted, or the cutover failed. */
export async function watch(client: ApiClient, migrationId: string, options: WatchOptions): Promise<number> {
  const show = options.json ? jsonLines() : process.stdout.isTTY ? screen() : plainLines();
  let approved = false;
  const code = await follow<ClusterStatus, number>(client, {
    path: () => "/v1/status/stream",
    onBroken: (why) => show.broken(why),
    onEvent: async (status) => {
      const migration = status.migrations.find((one) => one.migrationId === migrationId);
      if (!migration) throw new CleaveError("MIGRATION_UNKNOWN", `there is no migration ${migrationId}`);
      show.status(migration, status.at);
      const ended = endOf(migration);
      if (ended !== undefined) return ended;
      if (options.approve && !approved && migration.possibleCommands.includes("approve")) {
        // Another attempt is another decision: what made the first one fail is to be looked at.
        if (migration.attempts === 0) await client.command(migrationId, "approve");
        approved = true;
      }
      if (approved && options.until === "approved") return EXIT.ok;
      if (options.until === "operator" && awaitsOperator(migration)) {
        if (migration.attempts > 0) return EXIT.refused;
        // What was on its way when the approval was given still asks for it.
        if (!approved) return EXIT.ok;
      }
      return undefined;
    },
  }).finally(() => show.done());
  if (!options.json) await epilogue(client, migrationId);
  return code;
}

function endOf(migration: MigrationStatus): number | undefined {
  if (migration.lifecycle === "completed") return EXIT.ok;
  if (migration.lifecycle === "retaining" && !migration.removalCheck?.open) {
    if (migration.removalCheck?.end) return EXIT.refused;
    const served = migration.pods.some((pod) => pod.share === "opened");
    return served ? EXIT.ok : EXIT.refused;
  }
  if (migration.lifecycle === "refused" || migration.lifecycle === "aborted") return EXIT.refused;
  return undefined;
}

/** As coordinator/domain/status.ts words it; nothing else begins like this. */
export function awaitsOperator(migration: MigrationStatus): boolean {
  return (
    migration.lifecycle === "ready" && migration.waitingFor.some((reason) => reason.startsWith("an operator"))
  );
}

/** What is worth saying once it is over. */
async function epilogue(client: ApiClient, migrationId: string): Promise<void> {
  const migration = await client.migration(migrationId);
  if (migration.lifecycle === "refused" || migration.lifecycle === "aborted") {
    const why = [findingsView(migration.findings), plain(migration.reason ?? "")].filter(
      (text) => text !== "",
    );
    console.log(
      `${pc.red(migration.lifecycle)}: ${migration.sourcePodId} serves as before\n${why.join("\n")}`.trim(),
    );
  }
  if (migration.removalCheck?.end) {
    if (migration.lifecycle === "completed") console.log(pc.green("nothing dormant is left"));
    else console.log(`${pc.red("not finalized")}: nothing was removed\n${findingsView(migration.findings)}`);
    return;
  }
  if (migration.transfer === null) return;
  const records = [];
  for (let after = 0; ; ) {
    const page = await client.events(after);
    records.push(...page.records);
    after = page.records.at(-1)?.sequence ?? after;
    if (page.records.length < EVENTS_PAGE) break;
  }
  const window = windowOf(records, migrationId);
  if (window === null) return;
  console.log(
    `read-only for ${duration(window.openedAt - window.raisedAt)} by the log: ${duration(window.transferredAt - window.raisedAt)} until the transfer, ${duration(window.openedAt - window.transferredAt)} until the last Pod opened`,
  );
}

interface Show {
  status(migration: MigrationStatus, at: number): void;
  broken(why: string): void;
  done(): void;
}

function screen(): Show {
  let last = "";
  return {
    status: (migration, at) => {
      last = migrationView(migration, at);
      logUpdate(last);
    },
    broken: (why) =>
      logUpdate(`${last}\n\n${pc.red("the coordinator does not answer; still trying")} ${plain(why)}`),
    done: () => logUpdate.done(),
  };
}

/** A line for each change of the lifecycle or of what it waits for. */
function plainLines(): Show {
  let last = "";
  return {
    status: (migration) => {
      const waiting = migration.waitingFor.map(plain).join("; ");
      const line = `${migration.migrationId} ${migration.lifecycle}${waiting === "" ? "" : `: waiting for ${waiting}`}`;
      // A settling time that counts down is no news.
      const news = line.replace(/the settling time: .*/, "the settling time");
      if (news !== last) console.log(line);
      last = news;
    },
    broken: complain(),
    done: () => undefined,
  };
}

function jsonLines(): Show {
  return {
    status: (migration, at) => console.log(JSON.stringify({ at, ...migration })),
    broken: complain(),
    done: () => undefined,
  };
}

function complain(): (why: string) => void {
  let last = "";
  return (why) => {
    if (why !== last) console.error(`the coordinator does not answer; still trying: ${plain(why)}`);
    last = why;
  };
}
