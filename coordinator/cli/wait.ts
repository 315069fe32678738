/** `--wait[=STATE]` and `cleave wait`: until a migration is where it was to go, with an exit code that says how it ended. */
import { type Command, InvalidArgumentError, Option } from "commander";
import { CleaveError } from "../../protocol/errors.ts";
import type { ClusterStatus, MigrationStatus } from "../api/ports.ts";
import type { Accepted, ApiClient } from "./client.ts";
import { errorColors as pc } from "./colors.ts";
import { type Context, examples } from "./context.ts";
import { follow } from "./follow.ts";
import { duration, plain } from "./format.ts";

/** In the order in which a migration passes them; whoever is further has reached what is before. */
const WAY = [
  "planned",
  "preflight",
  "seeding",
  "following",
  "ready",
  "fencing",
  "matching",
  "transferring",
  "activating",
  "retaining",
  "cleaning",
  "completed",
] as const;
const ENDS = ["refused", "aborted"] as const;
export const STATES: readonly string[] = [...WAY, ...ENDS];

export interface WaitFlags {
  /** "": the state that the command leads to by itself. */
  readonly wait?: string;
  /** In milliseconds. */
  readonly timeout?: number;
}

export interface Wanted {
  readonly state: string;
  readonly timeoutMs: number | null;
  /** A failed attempt of the cutover (more attempts than before, and an operator is asked again) ends the waiting. */
  readonly attempts: number | null;
}

/** Adds `--wait` and `--timeout` to a command that sets something in motion. */
export function waitable(command: Command, ends: string): Command {
  const wait = new Option("--wait [state]", `until it is there (--wait=STATE; without one: ${ends})`);
  return command
    .addOption(wait.argParser(stateName))
    .option("--timeout <duration>", "wait at most so long: 30s, 10m, 2h; exit code 5 after that", durationMs);
}

/** @throws InvalidArgumentError, which commander shows as wrong usage. */
export function stateName(text: string): string {
  if (text === "" || STATES.includes(text)) return text;
  throw new InvalidArgumentError(`the states are ${STATES.join(", ")}.`);
}

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };

/** @throws InvalidArgumentError. */
export function durationMs(text: string): number {
  const [, amount, unit] = /^(\d{1,9})(ms|s|m|h)$/.exec(text) ?? [];
  if (amount === undefined || unit === undefined)
    throw new InvalidArgumentError("give a duration as 500ms, 30s, 10m or 2h.");
  return Number(amount) * (UNIT_MS[unit] ?? 0);
}

/** Commander would take the word behind a bare `--wait` for its state; `--wait=` has none. */
export function withBareWait(argv: readonly string[]): string[] {
  const end = argv.includes("--") ? argv.indexOf("--") : argv.length;
  return argv.map((argument, index) => (argument === "--wait" && index < end ? "--wait=" : argument));
}

/** @returns undefined while it is on its way. @throws CleaveError WAIT_ENDED when it cannot get there any more. */
export function arrived(migration: MigrationStatus, wanted: Wanted): true | undefined {
  const { lifecycle, migrationId } = migration;
  const end = (why: string) => new CleaveError("WAIT_ENDED", `${migrationId} ${why}`);
  const because = migration.reason ? `: ${plain(migration.reason)}` : "";
  const opened = migration.pods.some(({ share }) => share === "opened");
  if (wanted.attempts !== null && lifecycle === "retaining" && !opened)
    throw end(`gave every share back to ${migration.sourcePodId}${because}`);
  if (lifecycle === wanted.state) return true;
  if ((ENDS as readonly string[]).includes(lifecycle)) throw end(`is ${lifecycle}${because}`);
  const [at, to] = [WAY.indexOf(lifecycle as (typeof WAY)[number]), WAY.indexOf(wanted.state as never)];
  if (to >= 0 && at > to) return true;
  if (wanted.state === "aborted" && migration.transfer !== null)
    throw end("has transferred its organizations");
  if (wanted.state === "refused" && at > WAY.indexOf("preflight")) throw end("was not refused");
  if (wanted.attempts !== null && lifecycle === "ready" && migration.attempts > wanted.attempts)
    throw end(`was not cut over${because}`);
  if (wanted.state === "completed" && migration.removalCheck?.end && !migration.removalCheck.open)
    if (lifecycle === "retaining")
      throw end("could not be finalized: cleave status says what speaks against it");
  return undefined;
}

/** Follows the status until then. @throws CleaveError WAIT_ENDED or WAIT_TIMED_OUT. */
export async function waitFor(
  client: ApiClient,
  migrationId: string,
  wanted: Wanted,
  say: (line: string) => void,
): Promise<MigrationStatus> {
  const startedAt = performance.now();
  let where = "nothing is known yet";
  const following = follow<ClusterStatus, MigrationStatus>(client, {
    path: () => "/v1/status/stream",
    onBroken: (why) => say(`the coordinator does not answer; still trying: ${plain(why)}`),
    onEvent: (status) => {
      const migration = status.migrations.find((one) => one.migrationId === migrationId);
      if (!migration) throw new CleaveError("MIGRATION_UNKNOWN", `there is no migration ${migrationId}`);
      const { lifecycle, waitingFor } = migration;
      where = `${lifecycle}${waitingFor.length > 0 ? `: waiting for ${waitingFor.map(plain).join("; ")}` : ""}`;
      say(`${migrationId} ${where.replace(/the settling time: .*/, "the settling time")}`);
      return arrived(migration, wanted) && migration;
    },
  });
  if (wanted.timeoutMs === null) return following;
  // What is still being followed then ends with the process.
  following.catch(() => undefined);
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      const waited = duration(performance.now() - startedAt);
      reject(
        new CleaveError(
          "WAIT_TIMED_OUT",
          `${migrationId} is not ${wanted.state} after ${waited}; it is ${where}`,
        ),
      );
    }, wanted.timeoutMs ?? 0);
  });
  return Promise.race([following, late]).finally(() => clearTimeout(timer));
}

/** Each line once, on standard error, dimmed; nothing where a program reads. */
export function sayOnce(context: Context): (line: string) => void {
  let said = "";
  return (line) => {
    if (!context.json && line !== said) console.error(pc.dim(line));
    said = line;
  };
}

/** After a command was accepted: prints `text`, or waits as asked and prints how it ended. */
export async function settle(
  context: Context,
  accepted: Accepted,
  text: string,
  flags: WaitFlags,
  wanted: { readonly state: string; readonly attempts?: number },
): Promise<void> {
  if (flags.wait === undefined) return context.print(accepted, text);
  const migration = await waitFor(
    context.client(),
    accepted.migrationId,
    {
      state: flags.wait || wanted.state,
      timeoutMs: flags.timeout ?? null,
      attempts: wanted.attempts ?? null,
    },
    sayOnce(context),
  );
  context.print(migration, `${migration.migrationId} is ${migration.lifecycle}`);
}

export function registerWaitCommand(program: Command, context: Context): void {
  program
    .command("wait")
    .argument("<migration>")
    .requiredOption("--for <state>", "the state to wait for; being further counts as being there", stateName)
    .option("--timeout <duration>", "at most so long: 30s, 10m, 2h; exit code 5 after that", durationMs)
    .description("wait until a migration has reached a state, for scripts")
    .addHelpText(
      "after",
      examples("wait split-2026-11 --for ready --timeout 6h", "wait split-2026-11 --for completed --json"),
    )
    .action(async (id: string, options: { for: string; timeout?: number }) => {
      const wanted = { state: options.for, timeoutMs: options.timeout ?? null, attempts: null };
      const migration = await waitFor(context.client(), id, wanted, sayOnce(context));
      context.print(migration, `${id} is ${migration.lifecycle}`);
    });
}
