/** A dry run: asks for checks, waits until every Pod has made them, and says what they found. */

import { CleaveError } from "../../protocol/errors.ts";
import type { ClusterStatus, MigrationStatus } from "../api/ports.ts";
import type { CommandBody, CommandName } from "./client.ts";
import pc from "./colors.ts";
import type { Context } from "./context.ts";
import { EXIT } from "./exit.ts";
import { follow } from "./follow.ts";
import { plain } from "./format.ts";
import { findingsView } from "./view.ts";
import { sayOnce } from "./wait.ts";

export interface Checks {
  readonly command: CommandName;
  readonly body?: CommandBody<CommandName>;
  readonly running: (migration: MigrationStatus) => boolean;
  readonly passed: string;
  readonly failed: string;
}

/** Before a migration begins. */
export const START: Checks = {
  command: "check",
  running: ({ lifecycle }) => lifecycle === "preflight",
  passed: "all checks passed; nothing was changed",
  failed: "it would be refused; nothing was changed",
};

/** Before what is dormant is removed. */
export const REMOVAL: Checks = {
  command: "finalize",
  body: { dryRun: true },
  running: ({ removalCheck }) => removalCheck?.open ?? false,
  passed: "this is what would be removed; nothing was changed",
  failed: "it could not be removed; nothing was changed",
};

/** Returns the exit code: 0 passed, 3 an error was found. */
export async function checked(context: Context, migrationId: string, checks: Checks): Promise<number> {
  const client = context.client();
  await client.command(migrationId, checks.command, checks.body);
  const say = sayOnce(context);
  const found = await follow<ClusterStatus, MigrationStatus>(client, {
    path: () => "/v1/status/stream",
    onBroken: (why) => say(`the coordinator does not answer; still trying: ${plain(why)}`),
    onEvent: (status) => {
      const migration = status.migrations.find((one) => one.migrationId === migrationId);
      if (!migration) throw new CleaveError("MIGRATION_UNKNOWN", `there is no migration ${migrationId}`);
      if (!checks.running(migration)) return migration;
      if (migration.waitingFor.length > 0) say(`waiting for ${migration.waitingFor.map(plain).join("; ")}`);
      return undefined;
    },
  });
  const failed = found.findings.some((finding) => finding.severity === "error");
  const verdict = failed ? pc.red(checks.failed) : pc.green(checks.passed);
  context.print(
    { migrationId, ok: !failed, findings: found.findings },
    [findingsView(found.findings), verdict].filter((text) => text !== "").join("\n"),
  );
  return failed ? EXIT.refused : EXIT.ok;
}
