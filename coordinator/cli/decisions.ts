/** `start`, `approve`, `pause`, `abort`, `revoke`, `finalize`: what an operator decides about a migration. */
import type { Command } from "commander";
import { checked, REMOVAL } from "./checked.ts";
import { type Context, examples } from "./context.ts";
import { watch } from "./watch.ts";

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
    .command("pause")
    .argument("<migration>", "a migration without a fence: seeding, following, ready, retaining or cleaning")
    .requiredOption("--reason <text>", "goes into the log")
    .description("hold it: no cutover, nothing is removed; copies go on and stay level")
    .addHelpText("after", examples('pause split-2026-11 --reason "backup of pod-0 is running"'))
    .action((id: string, { reason }: { reason: string }) =>
      decide(id, "pause", `${id} is paused; go on with: cleave resume ${id}`, { reason }),
    );

  program
    .command("resume")
    .argument("<migration>", "a migration that is paused")
    .description("go on with it")
    .addHelpText("after", examples("resume split-2026-11"))
    .action((id: string) => decide(id, "resume", `${id} goes on; follow it with: cleave watch ${id}`));

  program
    .command("finalize")
    .argument("<migration>", "a migration that retains what it left behind")
    .option("--dry-run", "only say what would be removed: rows, repositories, objects, bytes")
    .option("--watch", "follow it until nothing dormant is left")
    .description(
      "end the retention: no way back from here; what is dormant is checked and removed, in batches",
    )
    .addHelpText("after", examples("finalize split-2026-11 --dry-run", "finalize split-2026-11 --watch"))
    .action(async (id: string, options: { dryRun?: boolean; watch?: boolean }) => {
      if (options.dryRun) {
        process.exitCode = await checked(context, id, REMOVAL);
        return;
      }
      if (!options.watch) {
        const text = `${id} is finalized when all checks pass; follow it with: cleave watch ${id}`;
        return decide(id, "finalize", text, {});
      }
      const client = context.client();
      await client.command(id, "finalize", {});
      const { json } = context;
      process.exitCode = await watch(client, id, { json, approve: false, until: "end" });
    });

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
