/** `rollback`, `give-up`: the way back, taken or given up. */
import type { Command } from "commander";
import { type Context, examples } from "./context.ts";
import { settle, type WaitFlags, waitable } from "./wait.ts";
import { watch } from "./watch.ts";

interface RollbackOptions extends WaitFlags {
  readonly organizations?: readonly string[];
  readonly pod?: string;
  readonly name?: string;
  readonly approval: "auto" | "manual";
  readonly acceptLoss?: string;
  readonly watch?: boolean;
}

export function registerRollbackCommands(program: Command, context: Context): void {
  waitable(program.command("rollback"), "retaining, where the source serves them again")
    .argument("<migration>", "a migration that retains what it left behind")
    .option("--organizations <ids...>", "only these; default: all that the Pod took over and still has")
    .option("--pod <pod>", "the Pod that they leave; needed where several took some over")
    .option("--name <id>", "of the rollback, which is a migration of its own")
    .option("--approval <mode>", "manual: approve the cutover yourself once everything is level", "auto")
    .option(
      "--accept-loss <reason>",
      "the Pod is lost for ever and switched off: take over what has flowed back, lose the rest; goes into the log",
    )
    .option("--watch", "follow it until the source serves them again")
    .description("bring organizations back to the source, with everything that the new Pod changed since")
    .addHelpText(
      "after",
      examples(
        "rollback split-2026-11 --organizations gitlab-org --watch",
        "rollback split-2026-11 --pod pod-101",
        "rollback split-2026-11 --pod pod-101 --wait --timeout 10m",
        'rollback split-2026-11 --pod pod-101 --accept-loss "its disks are gone, ticket 4711"',
      ),
    )
    .action(async (id: string, options: RollbackOptions) => {
      const client = context.client();
      const accepted = await client.command(id, "rollback", {
        organizations: options.organizations ? [...options.organizations] : null,
        pod: options.pod ?? null,
        name: options.name ?? null,
        approval: options.approval,
        acceptLoss: options.acceptLoss ?? null,
      });
      const { migrationId } = accepted;
      if (!options.watch) {
        const text = `${migrationId} brings them back; follow it with: cleave watch ${migrationId}`;
        const state = options.approval === "manual" ? "ready" : "retaining";
        return settle(context, accepted, text, options, { state, attempts: 0 });
      }
      process.exitCode = await watch(client, migrationId, {
        json: context.json,
        approve: false,
        until: options.approval === "manual" ? "operator" : "end",
      });
    });

  program
    .command("give-up")
    .argument("<migration>", "a migration after its transfer")
    .argument("<pod>", "a Pod that took organizations over")
    .requiredOption("--reason <text>", "goes into the log")
    .description(
      "give reverse replication from a Pod up: its disk keeps no WAL for it, and there is no rollback",
    )
    .addHelpText("after", examples('give-up split-2026-11 pod-101 --reason "its disk is filling"'))
    .action(async (id: string, pod: string, { reason }: { reason: string }) => {
      const text = `nothing flows back from ${pod} any more`;
      context.print(await context.client().command(id, "give-up", { pod, reason }), text);
    });
}
