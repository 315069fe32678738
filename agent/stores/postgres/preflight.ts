/** Checks that change nothing: before a migration begins, and again right before the fence. */
import type { Finding } from "../../../protocol/evidence.ts";
import type { Duty } from "../../../protocol/ports/store.ts";
import type { PostgresStoreOptions } from "./context.ts";
import { checkSourceFence, checkSourceStart } from "./preflight-source.ts";
import { checkTargetFence, checkTargetStart } from "./preflight-target.ts";

export async function preflight(
  options: PostgresStoreOptions,
  duty: Duty,
  stage: "start" | "fence",
  signal: AbortSignal,
): Promise<Finding[]> {
  signal.throwIfAborted();
  const check =
    duty.role === "source"
      ? stage === "start"
        ? checkSourceStart
        : checkSourceFence
      : stage === "start"
        ? checkTargetStart
        : checkTargetFence;
  const findings = await check(options, duty);
  signal.throwIfAborted();
  return findings;
}
