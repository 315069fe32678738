/** The demo's flags. */
import { existsSync, statSync } from "node:fs";
import { resolve } from "node:path";
import { Argument, Command, InvalidArgumentError, Option } from "commander";

export interface DemoOptions {
  readonly story: (typeof STORIES)[number];
  /** New Pods. */
  readonly pods: number;
  readonly organizations: number;
  readonly rows: number;
  readonly repositories: number;
  readonly objects: number;
  /** Writes per second of all clients together. */
  readonly rate: number;
  readonly seed: number;
  /** A folder with existing repositories to import, or null. */
  readonly repositoriesFrom: string | null;
  readonly report: string | null;
  readonly keep: boolean;
  /** How long traffic runs before the split starts and after it ended. */
  readonly trafficMs: number;
  /** Whether clients keep one transaction open at all times, which delays the copy as well as the fence. */
  readonly longTransactions: boolean;
  /** Of the writes; the others are SQL. */
  readonly objectShare: number;
  readonly readsPerWrite: number;
  /** How long the replicas have to stay within their bounds before the cutover. */
  readonly settlingMs: number;
}

const STORIES = ["split", "move", "rollback", "lifecycle"] as const;
const DEFAULTS = { organizations: 12, rows: 300_000, repositories: 80, objects: 2_000, rate: 150 };
const QUICK = { organizations: 6, rows: 10_000, repositories: 8, objects: 100, rate: 60 };

/** @returns the options, or the folder of a kept run to stop */
export function parseOptions(argv: readonly string[]): DemoOptions | { readonly stop: string } {
  const command = new Command("npm run demo --")
    .description(
      "Splits a Pod under traffic into several, on real servers of this machine, and proves that nothing was lost.",
    )
    .addArgument(
      new Argument(
        "[story]",
        "split; move: the busiest organization goes to a Pod that serves others; rollback: a split, and one organization back with everything written meanwhile; lifecycle: a split to its very end, and one organization back",
      )
        .choices(STORIES)
        .default("split"),
    )
    .option("--pods <n>", "new Pods", positive, 2)
    .option("--organizations <n>", `organizations (default: ${DEFAULTS.organizations})`, positive)
    .option("--rows <n>", `rows of all tables together (default: ${DEFAULTS.rows})`, positive)
    .option(
      "--repositories <n|folder>",
      `repositories (default: ${DEFAULTS.repositories}), or a folder to import`,
    )
    .option("--repositories-from <folder>", "import the repositories of a folder")
    .option("--objects <n>", `object files (default: ${DEFAULTS.objects})`, positive)
    .option("--rate <n>", `writes per second (default: ${DEFAULTS.rate})`, positive)
    .option("--seed <n>", "repeats data and traffic", positive, 1)
    .option("--quick", "small data, about half a minute")
    .option("--report <file>", "write the report as JSON")
    .option("--keep", "leave everything running and say how to use it")
    .addOption(new Option("--stop <folder>", "end a run that was kept"));
  command.parse([...argv], { from: "user" });
  const flags = command.opts<Record<string, unknown>>();
  if (typeof flags["stop"] === "string") return { stop: resolve(flags["stop"]) };
  const sizes = flags["quick"] ? QUICK : DEFAULTS;
  const number = (name: keyof typeof DEFAULTS) => (flags[name] as number | undefined) ?? sizes[name];
  const repositories = flags["repositories"] as string | undefined;
  const isFolder = repositories !== undefined && !/^\d+$/.test(repositories);
  const from = (flags["repositoriesFrom"] as string | undefined) ?? (isFolder ? repositories : undefined);
  if (from !== undefined && !(existsSync(from) && statSync(from).isDirectory()))
    command.error(`error: ${from} is not a folder`);
  const organizations = number("organizations");
  const pods = flags["pods"] as number;
  if (organizations < pods + 1)
    command.error(`error: ${pods} new Pods need at least ${pods + 1} organizations, so that one can stay`);
  return {
    story: STORIES.find((story) => story === command.args[0]) ?? "split",
    pods,
    organizations,
    rows: number("rows"),
    repositories: repositories === undefined || isFolder ? sizes.repositories : Number(repositories),
    objects: number("objects"),
    rate: number("rate"),
    seed: flags["seed"] as number,
    repositoriesFrom: from === undefined ? null : resolve(from),
    report: typeof flags["report"] === "string" ? resolve(flags["report"]) : null,
    keep: flags["keep"] === true,
    trafficMs: flags["quick"] ? 2_000 : 5_000,
    longTransactions: true,
    objectShare: 0.12,
    readsPerWrite: 1 / 3,
    settlingMs: 3_000,
  };
}

function positive(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1)
    throw new InvalidArgumentError("a whole number from 1 is needed");
  return value;
}
