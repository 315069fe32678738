/** The checks that operators add: SQL in this Pod's database, or a program. They change nothing, and unknown is no. */
import type { CheckStage, Finding } from "../../protocol/evidence.ts";
import type { Duty } from "../../protocol/ports/store.ts";
import { callOut } from "./call.ts";
import type { CheckConfig } from "./config.ts";

/** Rows of a read-only query; throws what the server says, or the signal's reason. */
export type Query = (
  sql: string,
  timeLimitMs: number,
  signal: AbortSignal,
) => Promise<Record<string, unknown>[]>;

export async function runChecks(
  checks: readonly CheckConfig[],
  duty: Duty,
  stage: CheckStage,
  query: Query,
  signal: AbortSignal,
): Promise<Finding[]> {
  const applicable = checks.filter(
    ({ stages, role, sql }) =>
      stages.includes(stage) &&
      (role === undefined || role === duty.role) &&
      // A new Pod has no database before it is a copy of the source's.
      !(sql !== undefined && duty.kind === "split" && duty.role === "target" && stage === "start"),
  );
  const findings = await Promise.all(
    applicable.map(async (check): Promise<Finding[]> => {
      const against = await objection(check, duty, stage, query, signal);
      if (against === null) return [];
      const message = `${check.name}: ${against}`.slice(0, 2_000);
      return [{ store: null, severity: check.severity, code: "CHECK_FAILED", message }];
    }),
  );
  return findings.flat();
}

/** What speaks against going on; null: nothing. A check that breaks has not passed (rule 11). */
async function objection(
  check: CheckConfig,
  duty: Duty,
  stage: CheckStage,
  query: Query,
  signal: AbortSignal,
): Promise<string | null> {
  try {
    if (check.sql !== undefined) return judge(await query(check.sql, check.timeLimitMs, signal));
    const { migrationId, kind, role, podId } = duty;
    const payload = { check: check.name, stage, migration: migrationId, kind, role, pod: podId };
    await callOut(check, payload, signal);
    return null;
  } catch (error) {
    signal.throwIfAborted();
    return error instanceof Error ? error.message : String(error);
  }
}

/** No rows, or one boolean column that is true throughout. */
export function judge(rows: readonly Record<string, unknown>[]): string | null {
  const [first] = rows;
  if (first === undefined) return null;
  const verdicts = rows.map((row) => Object.values(row));
  if (verdicts.every((row) => row.length === 1 && typeof row[0] === "boolean"))
    return verdicts.every(([passed]) => passed === true) ? null : "it says no";
  const more = rows.length === 1 ? "" : ` and ${rows.length - 1} more rows`;
  return `it returned ${JSON.stringify(first)}${more}`;
}
