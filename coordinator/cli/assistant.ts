/** `plan --balance`: from what `cleave measure` found to plan files, with what they would cost. */
import { readFile, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { stringify } from "yaml";
import { CleaveError } from "../../protocol/errors.ts";
import { type MigrationId, PodId } from "../../protocol/ids.ts";
import { Plan, type PlanInput } from "../../protocol/plan.ts";
import { Sizes } from "../../protocol/sizes.ts";
import { type PodShare, type Proposal, propose, type Wishes } from "../plans/proposal.ts";
import { proposalView } from "./assistant-view.ts";
import type { ApiClient } from "./client.ts";
import type { Context } from "./context.ts";
import { allRecords } from "./records.ts";
import { windowOf } from "./window.ts";

export interface BalanceFlags {
  readonly from?: string;
  readonly into?: number;
  readonly sizes?: string;
  readonly targets?: string;
  readonly kind: "split" | "move";
  readonly name?: string;
  readonly bytesPerSecond?: number;
  readonly output?: string;
}

/** More organizations than this go into a file of their own beside the plan. */
const IN_PLAN = 200;

/** Writes the plan files where `--output` says; without it only shows what would be proposed. */
export async function assist(context: Context, flags: BalanceFlags): Promise<void> {
  const { into, from } = flags;
  if (into === undefined || flags.sizes === undefined)
    throw new CleaveError(
      "USAGE_INVALID",
      `--balance needs --into N and --sizes FILE; the file is written beside ${from ?? "the source"} by: cleave measure --agent-config FILE --output sizes.json`,
    );
  const sizes = await readSizes(flags.sizes);
  if (from !== undefined && from !== sizes.podId)
    throw new CleaveError("PLAN_INVALID", `${flags.sizes} was measured on ${sizes.podId}, not on ${from}`);
  const client = context.client();
  const targets = flags.targets === undefined ? await otherPods(client, sizes.podId) : podIds(flags.targets);
  const wishes: Wishes = {
    into,
    targets: targets.slice(0, into - 1),
    bytesPerSecond: flags.bytesPerSecond ?? null,
    windowsMs: await windows(client),
  };
  const proposal = propose(sizes, wishes);
  const name = flags.name ?? `${flags.kind}-${sizes.podId}`;
  const written =
    flags.output === undefined ? [] : await writePlans(flags.output, flags.kind, name, proposal);
  context.print({ ...proposal, plans: written }, proposalView(proposal, flags.kind, written));
}

async function readSizes(file: string): Promise<Sizes> {
  let value: unknown;
  try {
    value = JSON.parse(await readFile(file, "utf8"));
  } catch (error) {
    throw new CleaveError("PLAN_INVALID", `${file}: ${(error as Error).message}`, { cause: error });
  }
  const parsed = Sizes.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new CleaveError("PLAN_INVALID", `${file}: ${issue?.path.join(".")}: ${issue?.message}`);
}

function podIds(list: string): PodId[] {
  return list.split(",").map((id) => {
    const parsed = PodId.safeParse(id.trim());
    if (!parsed.success)
      throw new CleaveError("PLAN_INVALID", `--targets: ${parsed.error.issues[0]?.message}`);
    return parsed.data;
  });
}

/** Pods that no migration has to do with: of the others nobody can say from here whether they are free. */
async function otherPods(client: ApiClient, source: PodId): Promise<PodId[]> {
  const { pods, migrations } = await client.status();
  const busy = new Set<string>([source, ...migrations.flatMap((one) => one.pods.map(({ podId }) => podId))]);
  return pods.map(({ podId }) => podId).filter((podId) => !busy.has(podId));
}

/** Of cutovers that are over. Without a coordinator, or without its log's beginning, none are known. */
async function windows(client: ApiClient): Promise<Wishes["windowsMs"]> {
  const found = { split: [] as number[], move: [] as number[] };
  const records = await allRecords(client).catch(() => []);
  const kinds = new Map<MigrationId, "split" | "move">();
  for (const { events } of records)
    for (const event of events) {
      if (event.type === "MigrationPlanned") kinds.set(event.migrationId, "split");
      if (event.type === "MovePlanned") kinds.set(event.migrationId, "move");
    }
  for (const [id, kind] of kinds) {
    const window = windowOf(records, id);
    if (window !== null) found[kind].push(window.openedAt - window.raisedAt);
  }
  return found;
}

/** A split is one plan; of moves each target has one, since a move has one target. Returns the files' names. */
async function writePlans(
  output: string,
  kind: "split" | "move",
  name: string,
  { source, targets }: Proposal,
): Promise<string[]> {
  if (kind === "split") return [await writePlan(output, kind, name, source.podId, targets)];
  const written: string[] = [];
  for (const target of targets) {
    const file = targets.length === 1 ? output : output.replace(/(\.\w+)?$/, `-${target.podId}$1`);
    written.push(await writePlan(file, kind, `${name}-${target.podId}`, source.podId, [target]));
  }
  return written;
}

async function writePlan(
  file: string,
  kind: "split" | "move",
  migration: string,
  source: PodId,
  targets: readonly PodShare[],
): Promise<string> {
  const assignments: PlanInput["assignments"] = [];
  for (const { podId, organizations } of targets) {
    if (organizations.length <= IN_PLAN) {
      assignments.push({ pod: podId, organizations: [...organizations] });
      continue;
    }
    const list = `${basename(file).replace(/\.\w+$/, "")}-${podId}.txt`;
    await write(join(dirname(file), list), `${organizations.join("\n")}\n`);
    assignments.push({ pod: podId, file: list });
  }
  const plan: PlanInput = { migration, kind, source, assignments };
  const parsed = Plan.safeParse(plan);
  if (!parsed.success)
    throw new CleaveError("PLAN_INVALID", `--name ${migration}: ${parsed.error.issues[0]?.message}`);
  await write(
    file,
    `# Proposed by: cleave plan --balance. Settings have their defaults: cleave plan --help\n${stringify(plan)}`,
  );
  return file;
}

async function write(file: string, text: string): Promise<void> {
  try {
    await writeFile(file, text, { flag: "wx" });
  } catch (error) {
    throw new CleaveError("FILE_PERMISSION", (error as Error).message, { cause: error });
  }
}
