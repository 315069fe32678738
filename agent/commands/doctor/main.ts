/** `cleave doctor --agent-config FILE`: what is wrong with a Pod's machine, and what to do about it. Changes nothing. */
import { readFile } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Command } from "commander";
import { parse } from "yaml";
import { silentLogger } from "../../../protocol/adapters/logger.ts";
import { checkNats } from "../../../protocol/adapters/nats-check.ts";
import { exitWhenPrinted, runCommand } from "../../../protocol/adapters/run-process.ts";
import { systemClock } from "../../../protocol/adapters/system-clock.ts";
import { ERRORS, type ErrorCode, toCleaveError } from "../../../protocol/errors.ts";
import type { Finding } from "../../../protocol/evidence.ts";
import { type MigrationId, PodId } from "../../../protocol/ids.ts";
import { Settings } from "../../../protocol/plan.ts";
import type { Duty } from "../../../protocol/ports/store.ts";
import { type AgentConfig, loadAgentConfig } from "../../config.ts";
import { createBackends } from "../../stores/create-backends.ts";
import { createStores } from "../../stores/create-stores.ts";
import { connect, discard } from "../../stores/postgres/server/connection.ts";
import { contentOf } from "../../stores/postgres/server/data-directory.ts";
import { checkAgents, checkDisks, checkSecrets, checkWriters, found, versions } from "./machine.ts";
import { checkRoles } from "./roles.ts";

interface Flags {
  readonly agentConfig: string;
  readonly source?: string;
  readonly quick: boolean;
  readonly json: boolean;
}

const FAILED = 3;
/** Whoever reads every repository of a large Pod takes long: an operator may end it, and this ends it anyway. */
const AT_MOST_MS = 6 * 3_600_000;

/** @throws CleaveError CONFIG_INVALID: nothing can be checked by a configuration that cannot be read. */
export async function examine(
  file: string,
  options: { source?: string; quick: boolean },
): Promise<Finding[]> {
  const config = await loadAgentConfig(file);
  const { peerTokenFile } = parse(await readFile(file, "utf8")) as { peerTokenFile?: string };
  const tokenFile = peerTokenFile === undefined ? null : resolve(dirname(resolve(file)), peerTokenFile);
  const backends = createBackends(config, systemClock);
  const parts = await Promise.all([
    [found("info", "CONFIG_INVALID", `${file} is in order`)],
    checkSecrets(file, tokenFile, config),
    versions(backends),
    checkDisks(config, backends),
    checkWriters(config, backends),
    checkNats(config.nats),
    checkAgents(config),
    checkRoles(config.postgres),
    options.quick ? checkServer(config) : checkStores(config, options.source),
  ]);
  return parts.flat();
}

/** A Pod that has data has a server that answers. */
async function checkServer({ postgres }: AgentConfig): Promise<Finding[]> {
  if (((await contentOf(postgres.dataDirectory).catch(() => ["?"])) ?? []).length === 0) return [];
  try {
    discard(await connect(postgres, { applicationName: "cleave-doctor" }));
    return [];
  } catch (error) {
    const known = toCleaveError(error);
    return [found("error", known.code, known.message, "postgres")];
  }
}

/**
 * The very checks that a migration begins with: as of a source where there is a server, as of a new Pod where the data
 * directory is empty.
 */
async function checkStores(config: AgentConfig, source: string | undefined): Promise<Finding[]> {
  const peers = Object.keys(config.peers) as PodId[];
  const empty = ((await contentOf(config.postgres.dataDirectory).catch(() => ["?"])) ?? []).length === 0;
  const from = source === undefined ? peers[0] : PodId.parse(source);
  if (empty && from === undefined)
    return [
      found("warning", "CONFIG_INVALID", "this Pod is empty, and `peers` names no Pod to copy it from"),
    ];
  const { podId } = config;
  const role = empty ? "target" : "source";
  const duty: Duty = {
    migrationId: "doctor" as MigrationId,
    kind: "split",
    of: null,
    forced: false,
    reverseReplication: [],
    rollbacks: [],
    role,
    goal: "prepare",
    podId,
    sourcePodId: empty ? (from as PodId) : podId,
    targetPodIds: empty ? [podId] : peers,
    defaultPodId: empty ? (from as PodId) : podId,
    assignments: new Map(),
    shares: {},
    epoch: null,
    settings: Settings.parse({}),
    removal: null,
  };
  const { stores, close } = await createStores(config, systemClock, silentLogger);
  try {
    const checked = await Promise.all(
      stores.map(async (store) => {
        try {
          const findings = await store.preflight(duty, "start", AbortSignal.timeout(AT_MOST_MS));
          const passed = found(
            "info",
            "INTERNAL",
            `${store.name} could be a ${role}: all checks passed`,
            store.name,
          );
          return findings.some(({ severity }) => severity !== "info") ? findings : [...findings, passed];
        } catch (error) {
          const known = toCleaveError(error);
          return [found("error", known.code, `${store.name}: ${known.message}`, store.name)];
        }
      }),
    );
    return checked.flat();
  } finally {
    // A store's helpers may still wait for a server that hangs; the process ends without them.
    await Promise.race([Promise.all([...stores.map((store) => store.close()), close()]), delay(2_000)]);
  }
}

const program = new Command("cleave doctor")
  .description("Checks this machine's Pod and says what to do; changes nothing.")
  .requiredOption("--agent-config <file>", "the agent's configuration")
  .option("--source <pod>", "of an empty Pod: where it will be copied from (default: the first of its peers)")
  .option("--quick", "leave out the checks that read every table, repository and object", false)
  .option("--json", "print JSON", false)
  .addHelpText(
    "after",
    `
PostgreSQL: version, settings, roles, cluster_name, rules for every table. Git: version, hooks, every repository. Objects:
permissions, owners. Disk space, peers, NATS, clocks, permissions of files with secrets. Stores are checked as a migration
checks them: as a source where there is a server, as a new Pod where there is none.

Example:
  cleave doctor --agent-config /etc/cleave/agent.yaml

Exit codes:
  0 no error   1 nothing could be checked   2 wrong usage   ${FAILED} an error was found`,
  )
  .exitOverride();

function print(findings: readonly Finding[], json: boolean): void {
  const ok = !findings.some(({ severity }) => severity === "error");
  if (json) {
    console.log(JSON.stringify({ ok, findings }, null, 2));
    return;
  }
  for (const { severity, code, message } of findings) {
    // Names of tables and files come from elsewhere: nothing in them is for the terminal to obey.
    const text = message.replace(/[\u0000-\u001f\u007f-\u009f]+/g, " ");
    if (severity === "info") console.log(`ok      ${text}`);
    else {
      const step = Object.hasOwn(ERRORS, code) ? ERRORS[code as ErrorCode][1] : "see docs/errors.md";
      console.log(`${severity.padEnd(7)} ${code}: ${text}\n        next: ${step}`);
    }
  }
  console.log(ok ? "no error was found" : "something has to be put right");
}

if (import.meta.main) {
  await runCommand(async () => {
    const { agentConfig, source, quick, json } = program.parse().opts<Flags>();
    const findings = await examine(agentConfig, { quick, ...(source === undefined ? {} : { source }) });
    print(findings, json);
    return findings.some(({ severity }) => severity === "error") ? FAILED : 0;
  });
  // A store's helpers may still wait for a server that hangs.
  exitWhenPrinted();
}
