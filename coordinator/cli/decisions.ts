/** `start`, `approve`, `abort`, `revoke`: what an operator decides about a migration. */
import type { Command } from "commander";
import { type Context, examples } from "./context.ts";

export function registerDecisionCommands(program: Command, context: Context): void {
  const decide = async (id: string, command: string, text: string, body?: object): Promise<void> => {
    context.print(await context.client().command(id, command, body), text);
  };

  program
    .command("start")
    .argument("<migration>", "a planned migration")
    .description("run all checks and, if none fails, begin copying")
    .addHelpText("after", examples("start split-2026-11"))
    .action((id: string) => decide(id, "start", `${id} has started; follow it with: cleave watch ${id}`));

  program
    .command("approve")
    .argument("<migration>", "a migration that follows or is ready")
    .description("approve one attempt of the cutover")
    .addHelpText("after", examples("approve split-2026-11"))
    .action((id: string) =>
      decide(
        id,
        "approve",
        `${id} is cut over as soon as all targets are level; follow it with: cleave watch ${id}`,
      ),
    );

  program
    .command("abort")
    .argument("<migration>", "a migration before its transfer")
    .requiredOption("--reason <text>", "goes into the log")
    .description("abort: the source serves as before, what was made is removed")
    .addHelpText("after", examples('abort split-2026-11 --reason "disk of pod-101 too slow"'))
    .action((id: string, { reason }: { reason: string }) =>
      decide(id, "abort", `${id} is aborted; the source serves`, { reason }),
    );

  program
    .command("revoke")
    .argument("<migration>", "a migration after its transfer")
    .argument("<pod>", "a target that has not opened")
    .requiredOption("--reason <text>", "goes into the log")
    .description("give the share of a target that cannot open back to the source")
    .addHelpText("after", examples('revoke split-2026-11 pod-101 --reason "its machine is gone"'))
    .action((id: string, pod: string, { reason }: { reason: string }) =>
      decide(id, "revoke", `the share of ${pod} is the source's again`, { pod, reason }),
    );
}
