/** How a process of this project begins and ends: a daemon by its configuration and signals, a command by its answer. */
import { parseArgs } from "node:util";
import { CommanderError } from "commander";
import { toCleaveError } from "../errors.ts";
import type { Logger } from "../ports/logger.ts";
import { createLogger, type LogLevel } from "./logger.ts";

/** A daemon that has started. */
export interface Running {
  /** Last record of the log that was folded: written on every line of its own log. */
  sequence(): number;
  /** Rejects when it can never work as it is configured; absent where it goes on trying. */
  readonly started?: Promise<void>;
  stop(): Promise<void>;
}

export interface Daemon<Config extends { readonly logLevel: LogLevel }> {
  readonly usage: string;
  /** A wrong command line is answered by `usage` on stderr and exit code 2; otherwise as every other error. */
  readonly explainsWrongUsage: boolean;
  /** @throws CleaveError CONFIG_INVALID. */
  readonly load: (file: string) => Promise<Config>;
  /** Who is speaking, on every line of the log. */
  readonly fields: (config: Config) => object;
  readonly start: (config: Config, logger: Logger) => Promise<Running>;
  /** Said when a signal ends it. */
  readonly stopping: string;
}

/** Runs it until SIGTERM or SIGINT, and exits: 0 stopped by a signal, 1 error, 2 wrong usage. */
export async function runDaemon<Config extends { readonly logLevel: LogLevel }>(
  daemon: Daemon<Config>,
): Promise<void> {
  try {
    await beginDaemon(daemon);
  } catch (error) {
    tellError(error);
    process.exit(1);
  }
}

async function beginDaemon<Config extends { readonly logLevel: LogLevel }>(
  daemon: Daemon<Config>,
): Promise<void> {
  const file = configurationFile(daemon);
  if (file === null) return;
  const config = await daemon.load(file);
  let known: Running | null = null;
  const where = () => (known === null ? {} : { sequence: known.sequence() });
  const logger = createLogger(daemon.fields(config), config.logLevel, where);
  const running = await daemon.start(config, logger);
  known = running;
  let stopping = false;
  const stop = (signal: string) => {
    if (stopping) return;
    stopping = true;
    logger.info({ signal }, daemon.stopping);
    running.stop().then(
      () => process.exit(0),
      (error: unknown) => {
        logger.error({ err: error }, "stopping failed");
        process.exit(1);
      },
    );
  };
  process.on("SIGTERM", stop);
  process.on("SIGINT", stop);
  await running.started;
}

/** What `--config` names; null when whoever asked was told the usage instead. */
function configurationFile({
  usage,
  explainsWrongUsage,
}: Pick<Daemon<never>, "usage" | "explainsWrongUsage">): string | null {
  const options = { config: { type: "string" }, help: { type: "boolean", short: "h" } } as const;
  try {
    const { values } = parseArgs({ options });
    if (!values.help && values.config !== undefined) return values.config;
    (values.help || !explainsWrongUsage ? console.log : console.error)(usage);
    process.exitCode = values.help ? 0 : 2;
  } catch (error) {
    if (!explainsWrongUsage) throw error;
    console.error(`${(error as Error).message}\n\n${usage}`);
    process.exitCode = 2;
  }
  return null;
}

/**
 * Runs a command that answers and ends. Sets `process.exitCode`: what `run` returns; 2 when the command line is wrong,
 * which commander has said by then; 1 for every other error.
 */
export async function runCommand(run: () => Promise<number>): Promise<void> {
  try {
    process.exitCode = await run();
  } catch (error) {
    if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2;
    else {
      tellError(error);
      process.exitCode = 1;
    }
  }
}

/** Ends the process although something still keeps it, once everything that was printed is let out. */
export function exitWhenPrinted(): void {
  process.stdout.write("", () => process.stderr.write("", () => process.exit()));
}

function tellError(error: unknown): void {
  const { code, message, nextStep } = toCleaveError(error);
  console.error(`error ${code}: ${message}\nnext: ${nextStep}`);
}
