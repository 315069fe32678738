/** What a target refuses of a change stream, and how that is said. Pure. */
import { CleaveError } from "../../../../protocol/errors.ts";
import type { Change, Run } from "./runs.ts";
import { type Misplaced, ownColumn } from "./statements.ts";

/** unique_violation, exclusion_violation */
export const isTaken = (error: unknown) =>
  error instanceof CleaveError && ["23505", "23P01"].includes((error.cause as { code?: string })?.code ?? "");

/** The target does not take the value, or the row. */
export const isRefused = (error: unknown) =>
  error instanceof CleaveError && error.code === "CHANGE_NOT_APPLICABLE";

/** A row that came to these organizations, or left them. */
export function misplaced(run: Run, { at, came, owner }: Misplaced): CleaveError {
  const { table } = run.relation;
  const change = run.changes[Number(at) - 1] as Change;
  const row = table.key.map((name, index) => `${name} ${change.key[index]}`).join(", ");
  const column = ownColumn(table);
  const next =
    owner ?? change.values[run.relation.message.columns.findIndex(({ name }) => name === column)] ?? null;
  const what = came ? `came to ${next}` : `left for ${next ?? "nobody known"}`;
  return new CleaveError("MEMBERSHIP_CHANGED", `the row of ${table.name} with ${row} ${what}`);
}

/** What the server says of a run, for people. */
export function inWords(run: Run, error: unknown): unknown {
  const { code, detail, message } = error as { code?: string; detail?: string; message: string };
  // Constraints (23), values that the target refuses (22), names and types (42): trying again would not help.
  if (code === undefined || !/^(22|23|42)/.test(code)) return error;
  return new CleaveError(
    "CHANGE_NOT_APPLICABLE",
    `${run.kind} in ${run.relation.table.name}: ${message}${detail === undefined ? "" : ` (${detail})`}`,
    { cause: error },
  );
}
