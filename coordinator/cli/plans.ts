/** `plan`, `check`, `split` and `move`: from a file to a migration that runs. */
import { readFile } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { type Command, InvalidArgumentError, Option } from "commander";
import type { Assignments } from "../../protocol/assignments.ts";
import { CleaveError } from "../../protocol/errors.ts";
import type { Plan } from "../../protocol/plan.ts";
import { assignmentsOfPlan, parsePlan, withFiles } from "../plans/plan-file.ts";
import { assist, type BalanceFlags } from "./assistant.ts";
import { checked, START } from "./checked.ts";
import pc from "./colors.ts";
import { type Context, examples } from "./context.ts";
import { planView, shares } from "./plan-view.ts";
import { settle, type WaitFlags, waitable } from "./wait.ts";
import { watch } from "./watch.ts";

const PLAN_EXAMPLE = `
Example of a plan (YAML or JSON):

  migration: split-2026-11
  source: pod-0
  assignments:
    - pod: pod-100
      organizations: [12, 17, gitlab-org]
    - pod: pod-101
      file: organizations-for-101.txt     # one organization a line, relative to the plan; # for comments
  settings:
    settlingMs: 5000                      # how long all targets have to be level
    cutover:
      approval: manual                    # or auto
      deadlineMs: 30000                   # read-only at most this long
      drainGraceMs: 1000                  # writers in flight may finish for this long`;

const MOVE_EXAMPLE = `
Example of a plan (YAML or JSON):

  migration: move-gitlab-org
  kind: move
  source: pod-0
  assignments:
    - pod: pod-7                          # one target; other organizations live there already
      organizations: [gitlab-org]
  settings:
    cutover:
      approval: manual                    # or auto`;

/** Files of a plan are read here, where they are; the coordinator gets their content. */
async function readPlan(file: string): Promise<{ plan: Plan; assignments: Assignments }> {
  const read = async (name: string) => {
    try {
      return await readFile(name, "utf8");
    } catch (error) {
      throw new CleaveError("PLAN_INVALID", (error as Error).message, { cause: error });
    }
  };
  try {
    const plan = await withFiles(parsePlan(await read(file)), (name) => read(resolve(dirname(file), name)));
    return { plan, assignments: assignmentsOfPlan(plan) };
  } catch (error) {
    if (!(error instanceof CleaveError) || error.message.includes(file)) throw error;
    throw new CleaveError(error.code, `${file}: ${error.message}`, { cause: error });
  }
}

function podCount(text: string): number {
  if (!/^\d{1,3}$/.test(text) || Number(text) < 2) throw new InvalidArgumentError("give a number from 2.");
  return Number(text);
}

function positive(text: string): number {
  if (!/^\d{1,15}$/.test(text) || Number(text) === 0) throw new InvalidArgumentError("give a number from 1.");
  return Number(text);
}

export function registerPlanCommands(program: Command, context: Context): void {
  program
    .command("plan")
    .argument("[file]", "the plan, YAML or JSON")
    .option("--dry-run", "also run all checks on every Pod")
    .option("--balance", "propose a plan instead, from what cleave measure found")
    .option("--from <pod>", "with --balance: the source, whose sizes were measured")
    .option("--into <number>", "with --balance: Pods in the end, the source among them", podCount)
    .option("--sizes <file>", "with --balance: what cleave measure wrote")
    .option(
      "--targets <pods>",
      "with --balance: their names, with commas (default: Pods without a migration)",
    )
    .addOption(
      new Option("--kind <kind>", "with --balance: what is written")
        .choices(["split", "move"])
        .default("split"),
    )
    .option("--name <migration>", "with --balance: the migration's name")
    .option(
      "--bytes-per-second <number>",
      "with --balance: how fast copies go (default: as measured)",
      positive,
    )
    .option("--output <file>", "with --balance: write the plan here (moves: one for each target)")
    .description("accept a plan and say what it would do: organizations are claimed, nothing else is touched")
    .addHelpText(
      "after",
      `${PLAN_EXAMPLE}\n${examples(
        "plan split.yaml",
        "plan split.yaml --dry-run",
        "plan --from pod-0 --into 3 --balance --sizes sizes.json --output split.yaml",
      )}`,
    )
    .action(
      async (file: string | undefined, options: BalanceFlags & { dryRun?: boolean; balance?: boolean }) => {
        if (options.balance) {
          if (file !== undefined)
            throw new CleaveError(
              "USAGE_INVALID",
              `--balance writes a plan (--output ${file}) and reads none`,
            );
          return assist(context, options);
        }
        if (file === undefined) throw new CleaveError("USAGE_INVALID", "missing required argument 'file'");
        const { plan, assignments } = await readPlan(file);
        const accepted = await context.client().plan(plan);
        if (options.dryRun) {
          process.exitCode = await checked(context, accepted.migrationId, START);
          return;
        }
        const id = accepted.migrationId;
        const next = pc.dim(`next: cleave check ${id}, or cleave start ${id}`);
        context.print(
          { ...accepted, targets: Object.fromEntries(shares(assignments)) },
          `${planView(plan, assignments)}\n${next}`,
        );
      },
    );

  program
    .command("check")
    .argument("<migration>", "a planned migration")
    .description("run all checks of a planned migration on every Pod; changes nothing")
    .addHelpText("after", examples("check split-2026-11", "check split-2026-11 --json"))
    .action(async (id: string) => {
      process.exitCode = await checked(context, id, START);
    });

  for (const kind of ["split", "move"] as const) registerRun(program, context, kind);
}

const ABOUT = {
  split: "accept a plan and start it: new Pods take organizations over from a large one",
  move: "accept a plan and start it: organizations go from one Pod to another that exists already",
} as const;

function registerRun(program: Command, context: Context, kind: "split" | "move"): void {
  waitable(program.command(kind), "ready")
    .argument("<file>", "the plan, YAML or JSON")
    .option("--dry-run", "run all checks, show what they find, then stop")
    .option("--approve", "approve the cutover as soon as that is possible")
    .option("--watch", "follow it until it is done, or until an operator has to decide")
    .description(ABOUT[kind])
    .addHelpText(
      "after",
      `${kind === "split" ? PLAN_EXAMPLE : MOVE_EXAMPLE}\n${examples(
        `${kind} ${kind}.yaml --dry-run`,
        `${kind} ${kind}.yaml --watch             # ends where the cutover waits for approval`,
        `${kind} ${kind}.yaml --approve --watch   # through to the end`,
      )}`,
    )
    .action(
      async (file: string, options: { dryRun?: boolean; approve?: boolean; watch?: boolean } & WaitFlags) => {
        const { plan } = await readPlan(file);
        if (plan.kind !== kind)
          throw new CleaveError(
            "PLAN_INVALID",
            `${file} is the plan of a ${plan.kind}: cleave ${plan.kind} ${file}`,
          );
        const client = context.client();
        const { migrationId } = await client.plan(plan);
        if (options.dryRun) {
          process.exitCode = await checked(context, migrationId, START);
          return;
        }
        const started = await client.command(migrationId, "start");
        if (options.approve || options.watch) {
          process.exitCode = await watch(client, migrationId, {
            json: context.json,
            approve: options.approve ?? false,
            until: options.watch ? "operator" : "approved",
          });
          return;
        }
        const text = `${migrationId} has started; follow it with: cleave watch ${migrationId}`;
        await settle(context, started, text, options, { state: "ready" });
      },
    );
}
