/** `cleave measure --agent-config FILE`: what every organization of this Pod weighs, for `cleave plan --balance`. */
import { writeFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { Command, InvalidArgumentError } from "commander";
import { runCommand } from "../../../protocol/adapters/run-process.ts";
import { systemClock } from "../../../protocol/adapters/system-clock.ts";
import { CleaveError } from "../../../protocol/errors.ts";
import { Sizes } from "../../../protocol/sizes.ts";
import { formatAmount } from "../../../protocol/wording.ts";
import { type AgentConfig, loadAgentConfig } from "../../config.ts";
import { createBackends } from "../../stores/create-backends.ts";
import { loadOwnership } from "../../stores/create-stores.ts";
import { postgresOwnerLookup } from "../../stores/postgres/inventory/owner-lookup.ts";
import { connect, discard } from "../../stores/postgres/server/connection.ts";
import { type DatabaseSizes, measureDatabase, sampleCopy } from "./database.ts";
import { measureObjects, measureRepositories } from "./files.ts";

interface Flags {
  readonly agentConfig: string;
  readonly output: string;
  readonly watch: number;
  readonly json: boolean;
}

/** Reads only. @param watchMs for how long writes are watched. @throws CleaveError. */
export async function measurePod(config: AgentConfig, watchMs: number): Promise<Sizes> {
  const ownership = await loadOwnership(config.ownershipFile);
  const db = await connect(config.postgres, { applicationName: "cleave-measure" });
  // The rules' query is an operator's.
  const asked = await connect(config.postgres, { applicationName: "cleave-owners", asConfigured: true });
  try {
    const rows = await measureDatabase(db, ownership, () => delay(watchMs));
    const owners = postgresOwnerLookup(asked, ownership);
    const backends = createBackends(config, systemClock);
    const repositories = await measureRepositories(backends.git, owners);
    const objects = await measureObjects(backends.objects.list(), owners);
    const ids = new Set([
      ...rows.organizations.keys(),
      ...repositories.organizations.keys(),
      ...objects.organizations.keys(),
    ]);
    return Sizes.parse({
      version: 1,
      podId: config.podId,
      at: Date.now(),
      watchedMs: rows.watchedMs,
      total: {
        databaseBytes: rows.databaseBytes,
        repositoryBytes: repositories.totalBytes,
        objectBytes: objects.totalBytes,
      },
      walBytesPerSecond: rows.walBytesPerSecond,
      copy: await copied(config, rows.largest),
      organizations: [...ids].sort().map((id) => {
        const own = rows.organizations.get(id);
        const writes = own?.writes ?? 0;
        return {
          id,
          rows: own?.rows ?? 0,
          rowBytes: own?.rowBytes ?? 0,
          repositories: repositories.organizations.get(id)?.items ?? 0,
          repositoryBytes: repositories.organizations.get(id)?.bytes ?? 0,
          objects: objects.organizations.get(id)?.items ?? 0,
          objectBytes: objects.organizations.get(id)?.bytes ?? 0,
          writesPerSecond: rows.watchedMs === 0 ? 0 : (writes * 1_000) / rows.watchedMs,
        };
      }),
      references: rows.references,
      notes: [...rows.notes, ...repositories.notes, ...objects.notes],
    });
  } finally {
    discard(db);
    discard(asked);
  }
}

/** Half a copy leaves a connection in the middle of it. */
async function copied(config: AgentConfig, table: DatabaseSizes["largest"]): Promise<Sizes["copy"]> {
  const db = await connect(config.postgres, { applicationName: "cleave-measure" });
  try {
    return await sampleCopy(db, table);
  } finally {
    discard(db);
  }
}

function seconds(text: string): number {
  const [, amount] = /^(\d{1,5})s?$/.exec(text) ?? [];
  if (amount === undefined) throw new InvalidArgumentError("give seconds, as 60s.");
  return Number(amount) * 1_000;
}

const program = new Command("cleave measure")
  .description(
    "Measures every organization of this machine's Pod: rows, bytes, repositories, objects, writes.",
  )
  .requiredOption("--agent-config <file>", "the agent's configuration: where the stores and the rules are")
  .option("--output <file>", "where the measures are written", "sizes.json")
  .option("--watch <seconds>", "watch writes for so long", seconds, 30_000)
  .option("--json", "print the measures instead", false)
  .addHelpText(
    "after",
    `
Reads only. Tables of more than 500,000 rows are estimated from a sample. Sizes are those of one moment: measure at a
busy hour. The file has names of organizations and is handed to \`cleave plan --balance\`, on any machine.

Example:
  cleave measure --agent-config /etc/cleave/agent.yaml --output sizes.json --watch 60s

Exit codes:
  0 measured   1 error   2 wrong usage`,
  )
  .exitOverride();

async function run({ agentConfig, output, watch, json }: Flags): Promise<void> {
  const sizes = await measurePod(await loadAgentConfig(agentConfig), watch);
  if (json) {
    console.log(JSON.stringify(sizes, null, 1));
    return;
  }
  try {
    writeFileSync(output, `${JSON.stringify(sizes)}\n`, { mode: 0o600 });
  } catch (error) {
    throw new CleaveError("FILE_PERMISSION", `${output}: ${(error as Error).message}`);
  }
  const { databaseBytes, repositoryBytes, objectBytes } = sizes.total;
  const bytes = [databaseBytes, repositoryBytes, objectBytes].map((one) => formatAmount(one, "bytes"));
  console.log(
    `${sizes.organizations.length} organizations; database ${bytes[0]}, repositories ${bytes[1]}, objects ${bytes[2]}`,
  );
  for (const note of sizes.notes) console.log(`note: ${note}`);
  console.log(
    `written to ${output}; next: cleave plan --from ${sizes.podId} --into N --balance --sizes ${output}`,
  );
}

if (import.meta.main)
  await runCommand(async () => {
    await run(program.parse().opts<Flags>());
    return 0;
  });
