/** `cleave root`: what a Pod's agent knows of the roots of its repositories and objects, and an operator's word about one. */
import { Argument, Command, CommanderError, InvalidArgumentError } from "commander";
import { exitWhenPrinted, runCommand } from "../../../protocol/adapters/run-process.ts";
import { systemClock } from "../../../protocol/adapters/system-clock.ts";
import { CleaveError, type ErrorCode, toCleaveError } from "../../../protocol/errors.ts";
import { type AgentConfig, loadAgentConfig } from "../../config.ts";
import type { IdentifiedRoot } from "../../stores/common/root/identity.ts";
import {
  acceptRoot,
  REASON_CHARACTERS,
  type Remembered,
  readRemembered,
} from "../../stores/common/root/remembered.ts";
import { createBackends, stateOf } from "../../stores/create-backends.ts";

const STORES = ["git", "objects"] as const;
export type FileStore = (typeof STORES)[number];

const FAILED = 3;

export interface RootState {
  readonly store: FileStore;
  readonly path: string;
  readonly knownId: string | null;
  readonly foundId: string | null;
  /**
   * `known`: what is there is what was there. `unmarked`: no migration has marked it yet. `forgotten`: what was known of it
   * is damaged or cannot be read.
   */
  readonly state: "known" | "unmarked" | "changed" | "forgotten" | "unreadable";
  /** How it differs, or why it cannot be read; empty else. */
  readonly detail: string;
}

const rootOf = (config: AgentConfig, store: FileStore): IdentifiedRoot =>
  createBackends(config, systemClock)[store];
const stateDirectoryOf = (config: AgentConfig, store: FileStore) => stateOf(config.stateDirectory, store);

/** Changes nothing. */
export async function describeRoot(config: AgentConfig, store: FileStore): Promise<RootState> {
  const root = rootOf(config, store);
  const of = { store, path: root.place };
  let known: Remembered | null;
  try {
    known = await readRemembered(stateDirectoryOf(config, store));
  } catch (thrown) {
    const found = await root.identify().catch(() => null);
    const detail = toCleaveError(thrown).message;
    return { ...of, knownId: null, foundId: found?.id ?? null, state: "forgotten", detail };
  }
  const knownId = known?.id ?? null;
  try {
    const found = await root.identify();
    const difference = known === null ? null : root.differenceOf(known, found);
    const state = known === null ? "unmarked" : difference === null ? "known" : "changed";
    return { ...of, knownId, foundId: found.id, state, detail: difference ?? "" };
  } catch (thrown) {
    return { ...of, knownId, foundId: null, state: "unreadable", detail: toCleaveError(thrown).message };
  }
}

/** An unmarked root stays as it is. @throws CleaveError as `acceptRoot`. */
export async function accept(
  config: AgentConfig,
  store: FileStore,
  word: { readonly reason: string; readonly losses: boolean },
): Promise<RootState> {
  await acceptRoot(rootOf(config, store), stateDirectoryOf(config, store), { ...word, at: Date.now() });
  return describeRoot(config, store);
}

const NEXT: Partial<Record<RootState["state"], ErrorCode>> = {
  changed: "ROOT_CHANGED",
  forgotten: "ROOT_FORGOTTEN",
  unreadable: "ROOT_UNREADABLE",
};

function print(states: readonly RootState[], json: boolean): number {
  if (json) console.log(JSON.stringify(states, null, 2));
  else
    for (const { store, path, knownId, foundId, state, detail } of states) {
      console.log(`${store.padEnd(8)} ${path}: ${state}${detail === "" ? "" : `: ${detail}`}`);
      console.log(`${" ".repeat(9)}known by ${knownId ?? "no mark"}, has ${foundId ?? "no mark"}`);
      const code = NEXT[state];
      if (code !== undefined) console.log(`${" ".repeat(9)}next: ${new CleaveError(code, detail).nextStep}`);
    }
  return states.some(({ state }) => NEXT[state] !== undefined) ? FAILED : 0;
}

const program = new Command("cleave root")
  .description("What this Pod's agent knows of the roots of repositories and objects, and what is there.")
  .option("--config <file>", "the agent's configuration")
  .option("--json", "print JSON", false)
  .addHelpText(
    "after",
    `
Exit codes:
  0 every root is the one that it was, or no migration has marked it yet   1 error
  2 wrong usage   ${FAILED} a root is another one, cannot be read, or nobody knows which it was`,
  )
  .exitOverride();

const configOf = async () => {
  const { config } = program.opts<{ config?: string }>();
  if (config === undefined) program.error("error: required option '--config <file>' not specified");
  return loadAgentConfig(config as string);
};

let exitCode = 0;
program.action(async () => {
  const config = await configOf();
  const states = await Promise.all(STORES.map((store) => describeRoot(config, store)));
  exitCode = print(states, program.opts<{ json: boolean }>().json);
});

program
  .command("accept")
  .description("The root that is there now is meant: the agent goes on with it from its next look on.")
  .addArgument(new Argument("<store>", "whose root").choices(STORES))
  .requiredOption("--reason <text>", "why, for whoever looks later", (text) => {
    if (text.trim() !== "" && text.length <= REASON_CHARACTERS) return text;
    throw new InvalidArgumentError(`Give 1 to ${REASON_CHARACTERS} characters.`);
  })
  .option("--with-losses", "what is gone from it was deleted on purpose, and is deleted in copies too", false)
  .addHelpText(
    "after",
    `
Be sure that all data is there: copies elsewhere follow what this root has.

Example:
  cleave root accept objects --config /etc/cleave/agent.yaml --reason "moved to a larger disk"`,
  )
  .action(async (store: FileStore, { reason, withLosses }: { reason: string; withLosses: boolean }) => {
    const config = await configOf();
    const state = await accept(config, store, { reason, losses: withLosses });
    if (state.state === "unmarked")
      console.error("Nothing was written: no migration has marked this root yet, so any may be there.");
    exitCode = print([state], program.opts<{ json: boolean }>().json);
  });

if (import.meta.main) {
  await runCommand(async () => {
    try {
      await program.parseAsync();
    } catch (thrown) {
      if (thrown instanceof CommanderError || !program.opts<{ json: boolean }>().json) throw thrown;
      const { code, message, nextStep } = toCleaveError(thrown);
      console.log(JSON.stringify({ error: code, message, nextStep }));
      exitCode = 1;
    }
    return exitCode;
  });
  exitWhenPrinted();
}
