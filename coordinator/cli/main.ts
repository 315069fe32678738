/** `cleave`: the operator's command, over the coordinator's HTTP API. */
import { Command, CommanderError } from "commander";
import { checkNats } from "../../protocol/adapters/nats-check.ts";
import { readLog } from "../../protocol/adapters/nats-log-reader.ts";
import { exitWhenPrinted } from "../../protocol/adapters/run-process.ts";
import { CleaveError, toCleaveError } from "../../protocol/errors.ts";
import { errorColors as pc } from "./colors.ts";
import { registerCompletionCommand } from "./completion.ts";
import { contextOf, DEFAULT_URL, examples, httpUrl } from "./context.ts";
import { registerDecisionCommands } from "./decisions.ts";
import { registerDiagnoseCommand } from "./diagnose.ts";
import { registerDoctorCommand } from "./doctor.ts";
import { EXIT, EXIT_MEANINGS, exitCodeOf } from "./exit.ts";
import { plain } from "./format.ts";
import { registerHistoryCommand } from "./history.ts";
import { registerPlanCommands } from "./plans.ts";
import { registerReadCommands } from "./reads.ts";
import { registerRollbackCommands } from "./rollback.ts";
import { toolsHelp } from "./tools.ts";
import { registerWaitCommand, withBareWait } from "./wait.ts";

const AFTER_HELP = `
${toolsHelp()}
${examples("split split.yaml --dry-run", "split split.yaml --approve --watch", "status")}

Exit codes:
${Object.entries(EXIT_MEANINGS)
  .map(([name, meaning]) => `  ${EXIT[name as keyof typeof EXIT]} ${meaning}`)
  .join("\n")}
Environment:
  CLEAVE_URL (${DEFAULT_URL}), CLEAVE_TOKEN, CLEAVE_CA, NO_COLOR`;

/** All commands, before any is run. */
export function createProgram(): Command {
  const program = new Command("cleave")
    .description("Split a large Pod into many, online, without losing a write.")
    .option("--url <url>", `the coordinator's address (or CLEAVE_URL)`, httpUrl)
    .option("--ca <file>", "trust the coordinator by these certificates, PEM (or CLEAVE_CA)")
    .option("--json", "print JSON", false)
    .configureHelp({ showGlobalOptions: true })
    .addHelpText("after", AFTER_HELP)
    // What is wrong is said below, once, with its code and what to do.
    .configureOutput({ outputError: () => undefined })
    .exitOverride();
  program.hook("preAction", () => {
    // Checked only where it is used: `--help` has to work with any environment.
    if (program.getOptionValue("url") !== undefined) return;
    try {
      program.setOptionValue("url", httpUrl(process.env["CLEAVE_URL"] || DEFAULT_URL));
    } catch (error) {
      program.error(`error: CLEAVE_URL is wrong: ${(error as Error).message}`);
    }
  });
  const context = contextOf(program);
  registerPlanCommands(program, context);
  registerDecisionCommands(program, context);
  registerRollbackCommands(program, context);
  registerReadCommands(program, context);
  registerWaitCommand(program, context);
  registerDoctorCommand(program, context, checkNats);
  registerDiagnoseCommand(program, context, readLog);
  registerCompletionCommand(program, context);
  registerHistoryCommand(program, context);
  return program;
}

/** Sets `process.exitCode`; never throws. */
export async function runCli(argv: readonly string[]): Promise<void> {
  const program = createProgram();
  try {
    await program.parseAsync(withBareWait(argv), { from: "user" });
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return;
    const known =
      error instanceof CommanderError
        ? new CleaveError("USAGE_INVALID", error.message.replace(/^error: /, ""))
        : toCleaveError(error);
    // Where the command line is wrong, options may not have been read.
    if (program.opts<{ json: boolean }>().json || argv.includes("--json")) {
      console.log(JSON.stringify({ error: known.code, message: known.message, nextStep: known.nextStep }));
    } else {
      const message = known.message.split("\n").map(plain).join("\n  ");
      console.error(`${pc.red("error")} ${known.code}: ${message}\n${pc.dim("next:")} ${known.nextStep}`);
    }
    process.exitCode = exitCodeOf(known.code);
  }
}

if (import.meta.main) {
  // `cleave routes | head`: whoever reads has had enough.
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    process.exit(error.code === "EPIPE" ? EXIT.ok : EXIT.error);
  });
  await runCli(process.argv.slice(2));
  // A stream that is still followed (--timeout) would keep the process.
  exitWhenPrinted();
}
