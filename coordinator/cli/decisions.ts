/** `start`, `approve`, `pause`, `abort`, `revoke`, `finalize`: what an operator decides about a migration. */
import type { Command } from "commander";
import { checked, REMOVAL } from "./checked.ts";
import type { CommandBody, CommandName } from "./client.ts";
import { type Context, examples } from "./context.ts";
import { settle, type WaitFlags, waitable } from "./wait.ts";
import { watch } from "./watch.ts";

interface ReasonFlags extends WaitFlags {
  readonly reason: string;
}

export function registerDecisionCommands(program: Command, context: Context): void {
  /** Sends it, and waits for `state` where that is asked for. */
  const decide = async (
    id: string,
    command: CommandName,
    text: string,
    flags: WaitFlags,
    state: string,
    body?: CommandBody<CommandName>,
  ): Promise<void> =>
    settle(context, await context.client().command(id, command, body), text, flags, { state });

  waitable(program.command("start"), "ready")
    .argument("<migration>", "a planned migration")
    .description("run all checks and, if none fails, begin copying")
    .addHelpText("after", examples("start split-2026-11", "start split-2026-11 --wait --timeout 12h"))
    .action((id: string, flags: WaitFlags) =>
      decide(id, "start", `${id} has started; follow it with: cleave watch ${id}`, flags, "ready"),
    );

  waitable(program.command("approve"), "retaining")
    .argument("<migration>", "a migration that follows or is ready")
    .description("approve one attempt of the cutover; with --wait, a failed attempt ends with exit code 3")
    .addHelpText("after", examples("approve split-2026-11", "approve split-2026-11 --wait --timeout 5m"))
    .action(async (id: string, flags: WaitFlags) => {
      const client = context.client();
      const { attempts } = await client.migration(id);
      const text = `${id} is cut over as soon as all targets are level; follow it with: cleave watch ${id}`;
      const accepted = await client.command(id, "approve");
      await settle(context, accepted, text, flags, { state: "retaining", attempts });
    });

  waitable(program.command("abort"), "aborted")
    .argument("<migration>", "a migration before its transfer")
    .requiredOption("--reason <text>", "goes into the log")
    .description("abort: the source serves as before, what was made is removed")
    .addHelpText("after", examples('abort split-2026-11 --reason "disk of pod-101 too slow"'))
    .action((id: string, { reason, ...flags }: ReasonFlags) =>
      decide(id, "abort", `${id} is aborted; the source serves`, flags, "aborted", { reason }),
    );

  program
    .command("pause")
    .argument("<migration>", "a migration without a fence: seeding, following, ready, retaining or cleaning")
    .requiredOption("--reason <text>", "goes into the log")
    .description("hold it: no cutover, nothing is removed; copies go on and stay level")
    .addHelpText("after", examples('pause split-2026-11 --reason "backup of pod-0 is running"'))
    .action((id: string, { reason }: { reason: string }) =>
      decide(id, "pause", `${id} is paused; go on with: cleave resume ${id}`, {}, "", { reason }),
    );

  waitable(program.command("resume"), "ready")
    .argument("<migration>", "a migration that is paused")
    .description("go on with it")
    .addHelpText("after", examples("resume split-2026-11", "resume split-2026-11 --wait=completed"))
    .action((id: string, flags: WaitFlags) =>
      decide(id, "resume", `${id} goes on; follow it with: cleave watch ${id}`, flags, "ready"),
    );

  waitable(program.command("finalize"), "completed")
    .argument("<migration>", "a migration that retains what it left behind")
    .option("--dry-run", "only say what would be removed: rows, repositories, objects, bytes")
    .option("--despite-reverse-replication", "also where what was left behind is not level with the new Pods")
    .option("--watch", "follow it until nothing dormant is left")
    .description(
      "end the retention: no way back from here; what is dormant is checked and removed, in batches",
    )
    .addHelpText("after", examples("finalize split-2026-11 --dry-run", "finalize split-2026-11 --watch"))
    .action(
      async (
        id: string,
        options: WaitFlags & { dryRun?: boolean; watch?: boolean; despiteReverseReplication?: boolean },
      ) => {
        const body = { despiteReverseReplication: options.despiteReverseReplication ?? false };
        if (options.dryRun) {
          process.exitCode = await checked(context, id, REMOVAL);
          return;
        }
        if (!options.watch) {
          const text = `${id} is finalized when all checks pass; follow it with: cleave watch ${id}`;
          return decide(id, "finalize", text, options, "completed", body);
        }
        const client = context.client();
        await client.command(id, "finalize", body);
        const { json } = context;
        process.exitCode = await watch(client, id, { json, approve: false, until: "end" });
      },
    );

  waitable(program.command("revoke"), "retaining")
    .argument("<migration>", "a migration after its transfer")
    .argument("<pod>", "a target that has not opened")
    .requiredOption("--reason <text>", "goes into the log")
    .description("give the share of a target that cannot open back to the source")
    .addHelpText("after", examples('revoke split-2026-11 pod-101 --reason "its machine is gone"'))
    .action((id: string, pod: string, { reason, ...flags }: ReasonFlags) =>
      decide(id, "revoke", `the share of ${pod} is the source's again`, flags, "retaining", { pod, reason }),
    );
}
